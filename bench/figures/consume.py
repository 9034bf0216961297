"""consume(100) + ack, one client, 1 M messages preloaded, against range SELECTs of 100 rows by offset.

Both are pgbench loops that transfer every row. iotmq makes two round trips and two
transactions a batch, the reader of the bare table one, which writes nothing.
"""

from lib import bench


def measure():
    messages = bench.scaled(1_000_000, 1000)
    with bench.database("consume") as it:
        it.new_topic("bench")
        it.run("CALL load_topic('bench', %s)", messages)
        it.new_bare()
        it.run("CALL load_bare(%s)", messages)
        # hint bits and statistics, so that no run does it for the others
        it.run("VACUUM ANALYZE")
        it.run("CHECKPOINT")
        groups = iter(range(bench.RUNS))

        def iotmq():
            group = f"group{next(groups)}"
            it.new_group("bench", group)
            rate = 100 * bench.pgbench(it, bench.CONSUME.format(topic="bench", group=group),
                                       transactions=messages // 100)[0]
            # a batch may be shorter at the end of a segment; then the rate counts what was delivered
            delivered = messages - it.lag("bench")
            it.run("SELECT iotmq.drop_group('bench', %s)", group)
            return rate * delivered / messages

        def bare():
            return 100 * bench.pgbench(it, bench.READ_BARE, transactions=messages // 100, msg_offset=0)[0]

        values = bench.alternate("consume", iotmq=iotmq, bare=bare)
    ratio = bench.median_ratio(values["iotmq"], values["bare"])
    return [bench.at_least("consume(100) + ack", bench.median(values["iotmq"]), bench.median(values["bare"]), ratio, 0.35)]
