"""What a message costs to read over the number of those that wait."""

import bench
import curve

SYSTEMS = ["iotmq", "bare", "skip_locked"]
UNREAD = [bench.scaled(number, 1000) for number in curve.points([10**5, 10**6, 10**7])]
BATCH = 100
READ = bench.scaled(40_000, BATCH)
ROUNDS = 3
SECONDS = 2.0

TEXT = f"""
So many messages wait; one client reads and acknowledges the first {READ:,}, in batches of 100,
three times: iotmq and the bare table from the beginning again, each time with a new group;
SKIP LOCKED goes on, as what is acknowledged is gone. The medians. 10^8 would take some 35 GB and
half an hour for each system to be filled, and is left out.
"""


def measure(systems):
    costs = {system.NAME: [] for system in systems}
    for system in systems:
        system.fresh(1)
        loaded = 0
        for unread in UNREAD:
            loaded += system.load(1000, unread - loaded, float("inf"))
            system.run("CHECKPOINT")
            values = []
            for _ in range(ROUNDS):
                system.rewind()
                values.append(curve.read_rate(system, 1, BATCH, READ, curve.seconds(SECONDS)))
            costs[system.NAME].append((unread, 1e6 / sorted(values)[ROUNDS // 2]))
            bench.say(f"unread: {system.NAME}, {unread:,}: {costs[system.NAME][-1][1]:.2f} us a message")
        system.fresh(0)
    curve.write("unread", "Cost of reading over the number of unread messages", TEXT,
                [curve.table(["us a message, unread", *(f"{n:,}" for n in UNREAD)],
                             [[name, *(curve.number(cost) for _, cost in points)] for name, points in costs.items()])],
                [curve.Panel("read and acknowledge", [curve.Line(name, points) for name, points in costs.items()],
                             unit="us", x="number", x_label="unread messages", log="x")])
