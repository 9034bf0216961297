"""The distribution of the time from publishing to receipt, at 200 messages a second."""

import random
import time

import bench
import curve

SYSTEMS = ["iotmq", "skip_locked", "pgq", "pgmq", "pgque", "redis", "rabbitmq", "nats"]
RATE = 200
SECONDS = 6.0
SHARES = [0.5, 0.9, 0.99, 0.999]

TEXT = """
One client publishes 200 messages a second, one at a time, at random times (a Poisson process);
another waits for them, in the way that its system has for it, and acknowledges them. From just
before a message is sent to be published until the reader has it: the confirmed commit, the way,
and the waking are in it. Six seconds a system.

iotmq, Redis, RabbitMQ and NATS wake their readers; those of SKIP LOCKED, PGMQ and PgQ ask again
every 2 ms, and PgQ's tick themselves each time (pgqd ticks once a second: a second more).
"""


def delays(system, limit):
    """seconds of each message, in the order of publishing"""
    system.fresh(1)
    ready = curve.processes.Barrier(2)
    ended = curve.processes.Event()

    def publish():
        publisher = system.publisher(1)
        ready.wait(60)
        sent = []
        due = time.monotonic()
        end = due + limit
        while due < end and time.monotonic() < end:     # a slow machine publishes fewer
            due += random.expovariate(RATE)
            time.sleep(max(0, due - time.monotonic()))
            sent.append(time.monotonic())
            publisher.publish()
        ended.set()
        return sent

    def read():
        reader = system.reader(0)
        reader.take(100, 0.05)          # it has asked once before
        ready.wait(60)
        received = []
        while True:
            last = ended.is_set()       # read before the call, or the last message could be missed
            count = reader.take(100, 0.5)
            if count:
                received += [time.monotonic()] * count
                reader.settle()
            elif last:
                return received

    sent, received = curve.together(publish, read)
    if len(sent) != len(received):
        raise RuntimeError(f"{system.NAME}: {len(sent)} messages published, {len(received)} received")
    return [receipt - start for start, receipt in zip(sent, received)]


def at(them, share):
    return 1000 * them[min(len(them) - 1, int(share * len(them)))]


def measure(systems):
    lines, rows = [], []
    for system in systems:
        them = sorted(delays(system, curve.seconds(SECONDS)))
        rows.append([system.NAME, f"{len(them):,}", *(curve.number(at(them, share)) for share in SHARES),
                     curve.number(1000 * them[-1])])
        bench.say("delays: " + ", ".join(rows[-1]))
        lines.append(curve.Line(system.NAME, [(at(them, n / 200), n / 2) for n in range(200)]))
    curve.write("delays", "From publishing to receipt, 200 messages a second", TEXT,
                [curve.table(["ms", "messages", *(f"p{100 * share:g}" for share in SHARES), "longest"], rows)],
                [curve.Panel("messages that have been received", lines, unit="%", x="number", x_label="ms after publishing",
                             log="x")])
