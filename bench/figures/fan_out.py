"""Three groups read 300,000 messages in batches of 100 at the same time, one consumer each.

Against the bare table read by three range readers (rate of reading; WAL from the first publish
to the last delivery), and against a hand-written SKIP LOCKED queue with a copy per group (rate).
"""

import time

import bench

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


def measure(it):
    messages = bench.scaled(300_000, 1000)
    deliveries = GROUPS * messages
    wal = {"iotmq": [], "bare": []}

    def read_together(*scripts, **variables):
        """deliveries a second of all readers, until the last is done"""
        started = time.monotonic()
        it.pgbench(*scripts, transactions=messages // 100, **variables)
        return deliveries / (time.monotonic() - started)

    def iotmq():
        it.new_topic("bench")
        for n in range(GROUPS):
            it.new_group("bench", f"group{n}")
        it.run("CHECKPOINT")
        before = it.wal()
        it.run("CALL load_topic('bench', %s)", messages)
        rate = read_together(*(bench.consume("bench", f"group{n}") for n in range(GROUPS)))
        wal["iotmq"].append((it.wal() - before) / deliveries)
        return rate * (deliveries - it.lag("bench")) / deliveries

    def bare():
        it.run("CALL new_bare()")
        it.run("CHECKPOINT")
        before = it.wal()
        it.run("CALL load_bare(%s)", messages)
        rate = read_together(*[bench.read_bare(100)] * GROUPS, msg_offset=0)
        wal["bare"].append((it.wal() - before) / deliveries)
        return rate

    def queue():
        for n in range(GROUPS):
            it.run(QUEUE.format(n=n, messages=messages))
            it.run(f"VACUUM ANALYZE queue{n}")
        it.run("CHECKPOINT")
        rate = read_together(*(TAKE.format(n=n) for n in range(GROUPS)), done=0, id=0)
        left = 0
        for n in range(GROUPS):
            left += it.value(f"SELECT count(*) FROM queue{n}")
            it.run(f"DROP TABLE queue{n}")
        return rate * (deliveries - left) / deliveries

    rates = bench.alternate("fan_out", iotmq=iotmq, bare=bare, queue=queue)
    ratio = bench.median_ratio(wal["iotmq"], wal["bare"])
    return [bench.at_least("3 groups x 300,000", rates["iotmq"], rates["bare"], 0.4),
            bench.at_least("3 groups x 300,000, bare = SKIP LOCKED queue", rates["iotmq"], rates["queue"], 4.0),
            bench.Row("WAL bytes per delivered message", bench.short(bench.median(wal["iotmq"])),
                      bench.short(bench.median(wal["bare"])), f"{ratio:.2f}", "at most 1.30", ratio <= 1.3)]
