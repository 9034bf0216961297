"""consume and ack, one client, 1 M messages preloaded, against range SELECTs of as many rows by offset.

All are pgbench loops that transfer every row. iotmq makes two round trips and two transactions
a batch, or one with ack_lease; the reader of the bare table one, which writes nothing.
"""

import itertools

import bench

TURNS = 4


def measure(it):
    messages = bench.scaled(1_000_000, 1000 * TURNS)
    it.new_topic("bench")
    it.run("CALL load_topic('bench', %s)", messages)
    it.run("CALL new_bare()")
    it.run("CALL load_bare(%s)", messages)
    it.vacuum()

    return [row(it, messages // TURNS, "consume(100) + ack", 100, 0.65, bench.consume),
            row(it, messages // TURNS, "consume(100, ack_lease)", 100, 0.65, bench.consume_and_ack),
            row(it, messages // TURNS // 5, "consume(10) + ack", 10, 0.45, bench.consume),
            row(it, messages // TURNS // 5, "consume(10, ack_lease)", 10, 0.45, bench.consume_and_ack)]


def row(it, part, name, batch, target, script):
    """Each run begins at the log's beginning, each turn goes on from the one before."""
    ours, theirs = itertools.count(), itertools.count()

    def iotmq():
        turn = next(ours) % TURNS
        if turn == 0:
            it.new_group("bench", "group")
        rate = it.drain("bench", "group", part, script, batch)
        if turn == TURNS - 1 or bench.QUICK:
            it.run("SELECT iotmq.drop_group('bench', 'group')")
        return rate

    def bare():
        turn = next(theirs) % TURNS
        return batch * it.pgbench(bench.read_bare(batch), transactions=part // batch, msg_offset=turn * part)

    return bench.compare(name, target, turns=TURNS, iotmq=iotmq, bare=bare)
