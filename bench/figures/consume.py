"""consume(100) + ack, one client, 1 M messages preloaded, against range SELECTs of 100 rows by offset.

Both are pgbench loops that transfer every row. iotmq makes two round trips and two
transactions a batch, the reader of the bare table one, which writes nothing.
"""

from lib import bench

TURNS = 4


def measure():
    messages = bench.scaled(1_000_000, 1000 * TURNS)
    part = messages // TURNS
    with bench.database("consume") as it:
        it.new_topic("bench")
        it.run("CALL load_topic('bench', %s)", messages)
        it.new_bare()
        it.run("CALL load_bare(%s)", messages)
        # hint bits and statistics, so that no run does it for the others
        it.run("VACUUM ANALYZE")
        it.run("CHECKPOINT")

        def iotmq(run, turn):
            group = f"group{run}"
            if turn == 0:
                it.new_group("bench", group)
            before = it.lag("bench")
            rate = bench.pgbench(it, bench.CONSUME.format(topic="bench", group=group),
                                 transactions=part // 100)[0]
            # messages, not batches: one may be shorter at a segment's end
            delivered = before - it.lag("bench")
            return rate * delivered / (part // 100)

        def bare(run, turn):
            return 100 * bench.pgbench(it, bench.READ_BARE, transactions=part // 100, msg_offset=turn * part)[0]

        values = bench.alternate("consume", turns=TURNS, iotmq=iotmq, bare=bare)
    ratio = bench.median_ratio(values["iotmq"], values["bare"])
    return [bench.at_least("consume(100) + ack", bench.median(values["iotmq"]), bench.median(values["bare"]), ratio, 0.35)]
