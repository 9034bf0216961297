"""Rate over batch size: one client publishes, then one client reads and acknowledges."""

import bench
import curve

SYSTEMS = ["iotmq", "bare", "skip_locked", "pgq", "pgmq", "pgque", "redis", "rabbitmq", "nats"]
SIZES = curve.points([1, 10, 100, 1000])
ROUNDS = 3
SECONDS = 0.4

TEXT = """
One client publishes in batches of so many messages and waits until all of a batch are confirmed;
then one client reads in batches of so many, and acknowledges each before it takes the next, from
a queue that was filled before. 0.4 seconds each, by turns, three times; the medians.

The batch is one call (iotmq, PGMQ), one statement (bare table, SKIP LOCKED, PgQ), one
pipeline (Redis, RabbitMQ, NATS). PgQ's readers take what came between two ticks, and there was
a tick after each batch. RabbitMQ sends up to two batches ahead. Clients are Python on what is
put together beforehand; of what they read they look only at what an acknowledgement needs. Where
a system is faster than some 100,000 a second, part of it is the client.
"""


def measure(systems):
    published, read = {}, {}

    def publish(system, n):
        system.fresh(1)
        return curve.publish_rate(system, n, curve.seconds(SECONDS))

    def consume(system, n):
        system.fresh(1)
        loaded = system.load(n, bench.scaled(min(100_000, 20_000 * n), 1000), curve.seconds(SECONDS))
        return curve.read_rate(system, 1, n, loaded, curve.seconds(SECONDS))

    for n in SIZES:
        published[n] = curve.by_turns(systems, ROUNDS, lambda system: publish(system, n))
        read[n] = curve.by_turns(systems, ROUNDS, lambda system: consume(system, n))
        for what, rates in (("published", published), ("read", read)):
            bench.say(f"batch_size {n}, {what}: " + ", ".join(f"{name} {curve.number(rate)}" for name, rate in rates[n].items()))

    def lines(rates):
        return [curve.Line(it.NAME, [(n, rates[n][it.NAME]) for n in SIZES]) for it in systems]

    def table(title, rates):
        return curve.table([f"{title}, messages/s", *(f"{n:,}" for n in SIZES)],
                           [[it.NAME, *(curve.number(rates[n][it.NAME]) for n in SIZES)] for it in systems])

    panel = {"unit": "messages/s", "x": "number", "x_label": "messages a batch", "log": "xy"}
    curve.write("batch_size", "Rate over batch size, one client", TEXT,
                [table("publish", published), table("read and acknowledge", read), curve.durabilities(systems)],
                [curve.Panel("publish", lines(published), **panel),
                 curve.Panel("read and acknowledge", lines(read), **panel)])
