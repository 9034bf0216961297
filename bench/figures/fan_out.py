"""Three groups read 300,000 messages in batches of 100 at the same time, one consumer each.

Against a hand-written SKIP LOCKED queue with a copy per group (rate of reading), and against
the bare table read by three range readers (WAL from the first publish to the last delivery).
"""

import time

from lib import bench

GROUPS = 3

# What people write: a visibility time, UPDATE ... RETURNING to take, DELETE when done.
# A table per group and no index but the primary key are the queue's best case.
QUEUE = """
CREATE TABLE queue{n} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    visible_at timestamptz NOT NULL DEFAULT '-infinity',
    attempt int NOT NULL DEFAULT 0,
    device_id text NOT NULL,
    payload jsonb
);
INSERT INTO queue{n} (device_id, payload)
    SELECT message.* FROM batch, generate_series(1, {messages} / 1000), unnest(device_ids, payloads) AS message;
"""

# The ids of a batch follow the last batch's: with one worker a table, the DELETE may be a range.
TAKE = """
WITH due AS (
    SELECT id FROM queue{n} WHERE visible_at <= now() ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE queue{n} AS queue SET visible_at = now() + '60 s', attempt = attempt + 1
    FROM due WHERE queue.id = due.id
    RETURNING queue.*
)
SELECT * FROM taken ORDER BY id
\\aset
DELETE FROM queue{n} WHERE id > :done AND id <= :id;
\\set done :id
"""


def read_together(it, scripts, messages, **variables):
    """deliveries a second of all readers, until the last is done"""
    started = time.monotonic()
    bench.pgbench(it, scripts, transactions=messages // 100, **variables)
    return GROUPS * messages / (time.monotonic() - started)


def measure():
    messages = bench.scaled(300_000, 1000)
    deliveries = GROUPS * messages
    wal = {"iotmq": [], "bare": []}
    with bench.database("fan_out") as it:
        def iotmq(*_):
            it.new_topic("bench")
            for n in range(GROUPS):
                it.new_group("bench", f"group{n}")
            it.run("CHECKPOINT")
            before = it.wal()
            it.run("CALL load_topic('bench', %s)", messages)
            rate = read_together(it, [bench.CONSUME.format(topic="bench", group=f"group{n}") for n in range(GROUPS)], messages)
            wal["iotmq"].append((it.wal() - before) / deliveries)
            return rate * (deliveries - it.lag("bench")) / deliveries

        def bare(*_):
            it.new_bare()
            it.run("CHECKPOINT")
            before = it.wal()
            it.run("CALL load_bare(%s)", messages)
            rate = read_together(it, [bench.READ_BARE] * GROUPS, messages, msg_offset=0)
            wal["bare"].append((it.wal() - before) / deliveries)
            return rate

        def queue(*_):
            for n in range(GROUPS):
                it.run(QUEUE.format(n=n, messages=messages))
                it.run(f"VACUUM ANALYZE queue{n}")
            it.run("CHECKPOINT")
            rate = read_together(it, [TAKE.format(n=n) for n in range(GROUPS)], messages, done=0, id=0)
            left = it.value("SELECT " + " + ".join(f"(SELECT count(*) FROM queue{n})" for n in range(GROUPS)))
            for n in range(GROUPS):
                it.run(f"DROP TABLE queue{n}")
            return rate * (deliveries - left) / deliveries

        values = bench.alternate("fan_out", iotmq=iotmq, bare=bare, queue=queue)

    rates = {side: bench.median(values[side]) for side in values}
    bytes_each = {side: bench.median(wal[side]) for side in wal}
    wal_ratio = bench.median_ratio(wal["iotmq"], wal["bare"])
    return [
        bench.at_least("3 groups x 300,000, bare = SKIP LOCKED queue", rates["iotmq"], rates["queue"],
                       bench.median_ratio(values["iotmq"], values["queue"]), 3.0),
        bench.Result("WAL bytes per delivered message", f"{bytes_each['iotmq']:.0f}", f"{bytes_each['bare']:.0f}",
                     f"{wal_ratio:.2f}", "at most 1.30", wal_ratio <= 1.3),
    ]
