"""An orderly group with 10,000 devices: 4 consumers take batches of 50, against a concurrent group.

Both read the same messages for the same time; the columns are messages settled a second.
"""

from lib import bench

DEVICES = 10_000
CONSUMERS = 4

LOAD = """
CREATE PROCEDURE load_devices(messages bigint) LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
BEGIN
    SELECT * INTO batch FROM public.batch;
    FOR n IN 1 .. messages / 1000 LOOP
        SELECT array_agg('device-' || 1 + floor(random() * %(devices)s)) INTO batch.device_ids
        FROM generate_series(1, 1000);
        PERFORM iotmq.publish_batch('bench', batch.device_ids, batch.payloads);
        COMMIT;
    END LOOP;
END $$;
""" % {"devices": DEVICES}


def settled(it, group, messages, seconds):
    """messages a second that the group's consumers settle, from the beginning of the log on"""
    it.run("SELECT iotmq.seek('bench', %s, '-infinity')", group)
    script = bench.CONSUME.format(topic="bench", group=group).replace("100)", "50)")
    bench.pgbench(it, [script], clients=CONSUMERS, seconds=seconds)
    left = it.value("SELECT lag_messages FROM iotmq.group_lag WHERE consumer_group = %s", group)
    return (messages - int(left)) / seconds


def measure():
    messages = bench.scaled(1_500_000, 1000)
    seconds = bench.scaled(6)
    with bench.database("orderly") as it:
        it.run(LOAD)
        it.new_topic("bench")
        it.new_group("bench", "concurrent")
        it.run("SELECT iotmq.create_group('bench', 'orderly', mode => 'orderly')")
        it.run("CALL load_devices(%s)", messages)
        values = bench.alternate(
            "orderly",
            orderly=lambda *_: settled(it, "orderly", messages, seconds),
            concurrent=lambda *_: settled(it, "concurrent", messages, seconds))
    return [bench.at_least("orderly, 10,000 devices (bare = concurrent)", bench.median(values["orderly"]),
                           bench.median(values["concurrent"]),
                           bench.median_ratio(values["orderly"], values["concurrent"]), 0.5)]
