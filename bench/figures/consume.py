"""consume(100) + ack, one client, 1 M messages preloaded, against range SELECTs of 100 rows by offset.

Both are pgbench loops that transfer every row. iotmq makes two round trips and two
transactions a batch, the reader of the bare table one, which writes nothing.
"""

import itertools

import bench

TURNS = 4


def measure(it):
    messages = bench.scaled(1_000_000, 1000 * TURNS)
    part = messages // TURNS
    it.new_topic("bench")
    it.run("CALL load_topic('bench', %s)", messages)
    it.run("CALL new_bare()")
    it.run("CALL load_bare(%s)", messages)
    it.vacuum()

    # Each run begins at the log's beginning, each turn goes on from the one before.
    ours, theirs = itertools.count(), itertools.count()

    def iotmq():
        run, turn = divmod(next(ours), TURNS)
        if turn == 0:
            it.new_group("bench", f"group{run}")
        return it.drain("bench", f"group{run}", part)

    def bare():
        turn = next(theirs) % TURNS
        return 100 * it.pgbench(bench.READ_BARE, transactions=part // 100, msg_offset=turn * part)

    return [bench.compare("consume(100) + ack", 0.35, turns=TURNS, iotmq=iotmq, bare=bare)]
