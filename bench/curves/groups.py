"""Rate over the number of groups that read the same messages at the same time."""

import bench
import curve

SYSTEMS = ["iotmq", "bare", "skip_locked", "pgq", "pgmq", "pgque", "redis", "rabbitmq", "nats"]
GROUPS = curve.points([1, 4, 16, 64])
BATCH = 100
DELIVERIES = 64_000
ROUNDS = 2
SECONDS = 0.5

TEXT = """
So many groups, with one client each, read the same messages in batches of 100 and acknowledge
each batch, all at the same time: what is shown is the sum. Filling the queue is not counted,
though SKIP LOCKED, PGMQ and RabbitMQ store a copy for each group then. 64,000 deliveries or half
a second, by turns, twice; the means. Clients and servers share the machine's cores.
"""


def measure(systems):
    rates = {}

    def consume(system, groups):
        system.fresh(groups)
        loaded = system.load(BATCH, bench.scaled(DELIVERIES // groups, 1000), curve.seconds(4 * SECONDS))
        return curve.read_rate(system, groups, BATCH, loaded, curve.seconds(SECONDS))

    for groups in GROUPS:
        rates[groups] = curve.by_turns(systems, ROUNDS, lambda system: consume(system, groups))
        bench.say(f"groups {groups}: " + ", ".join(f"{name} {curve.number(rate)}" for name, rate in rates[groups].items()))
    curve.write("groups", "Rate over the number of groups", TEXT,
                [curve.table(["deliveries/s, groups", *map(str, GROUPS)],
                             [[it.NAME, *(curve.number(rates[n][it.NAME]) for n in GROUPS)] for it in systems])],
                [curve.Panel("all groups together", [curve.Line(it.NAME, [(n, rates[n][it.NAME]) for n in GROUPS])
                                                     for it in systems],
                             unit="deliveries/s", x="number", x_label="groups", log="xy")])
