"""One consumer takes batches of 100 and nacks one message of each, against one that acks all.

A batch is settled in one transaction.
Each nacked message comes again after a second, in a lease with others. The columns are messages
settled a second.
"""

from lib import bench

# The columns are those of the last message: one that came for the first time fails.
NACK_ONE = """
\\set lease_id 0
SELECT * FROM iotmq.consume('bench', 'nacks', 100)
\\aset
\\if :lease_id > 0
\\if :attempt = 1
BEGIN;
SELECT iotmq.nack(:lease_id, ARRAY[:msg_offset]::bigint[], '1 s');
SELECT iotmq.ack(:lease_id);
COMMIT;
\\else
SELECT iotmq.ack(:lease_id);
\\endif
\\endif
"""


def settled(it, group, script, messages, seconds):
    """messages a second that a consumer settles, from the beginning of the log on"""
    it.run("SELECT iotmq.seek('bench', %s, '-infinity')", group)
    bench.pgbench(it, [script], seconds=seconds)
    left = it.value("SELECT lag_messages FROM iotmq.group_lag WHERE consumer_group = %s", group)
    return (messages - int(left)) / seconds


def measure():
    messages = bench.scaled(2_000_000, 1000)
    seconds = bench.scaled(6)
    with bench.database("retries") as it:
        it.new_topic("bench")
        for group in ("nacks", "acks"):
            it.new_group("bench", group)
        it.run("CALL load_topic('bench', %s)", messages)
        acks = bench.CONSUME.format(topic="bench", group="acks")
        values = bench.alternate(
            "retries",
            nacks=lambda *_: settled(it, "nacks", NACK_ONE, messages, seconds),
            acks=lambda *_: settled(it, "acks", acks, messages, seconds))
    return [bench.at_least("1 % nacked once (bare = none)", bench.median(values["nacks"]),
                           bench.median(values["acks"]),
                           bench.median_ratio(values["nacks"], values["acks"]), 0.8)]
