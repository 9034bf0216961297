"""Rate of publishing over the number of devices: what the index of devices costs."""

import itertools
import random

import bench
import curve
from peers import bare, iotmq, postgres

SYSTEMS = ["iotmq", "bare"]
DEVICES = curve.points([10**3, 10**4, 10**5, 10**6])
BATCH = 1000
BATCHES = 50                # different ones, of random devices
ROUNDS = 3
SECONDS = 0.7

TEXT = """
One client publishes batches of 1,000 messages, each of a random one of so many devices, into a
topic with `device_index`, one without, and a bare table with both indexes, with
`synchronous_commit` off: the disk's share is not what is looked for. 0.7 seconds each on top
of 100,000 messages, by turns, three times; the medians. The index of devices is filled in random
order: with more devices than fit into its pages at the end, each message touches a page of its
own. [What other access paths would cost](device_index.md) is another page.
"""


class WithoutIndex(iotmq.System):
    NAME = "iotmq, no device_index"

    def fresh(self, groups):
        self.run("SELECT iotmq.drop_topic('bench', force => true)")
        self.run("SELECT iotmq.create_topic('bench', device_index => false)")


class Publisher(postgres.Publisher):
    """one batch after the other"""

    def __init__(self, connection, statements, batches):
        super().__init__(connection, statements, batches[0])
        self.cursor.execute("SET synchronous_commit = off")
        self.texts = itertools.cycle([f"EXECUTE publish0({values})" for values in batches])

    def publish(self):
        self.cursor.execute(next(self.texts))


def batches(devices):
    payloads = postgres.array([bench.PAYLOAD] * BATCH)
    chance = random.Random(devices)
    return [postgres.array(f"device-{chance.randrange(devices)}" for _ in range(BATCH)) + ", " + payloads
            for _ in range(BATCHES)]


def measure(systems):
    databases = [it for it in systems if isinstance(it, (iotmq.System, bare.System))]
    ours = next((it for it in databases if it.NAME == "iotmq"), None)
    if ours:
        without = WithoutIndex()
        without.database, without.connection = ours.database, ours.connection
        databases.insert(1, without)
    rates = {}
    for devices in DEVICES:
        values = batches(devices)

        def run(system):
            system.fresh(0)
            publisher = Publisher(system.connect(), system.publish_many(), values)
            for _ in range(bench.scaled(100)):
                publisher.publish()
            publisher.close()
            system.publisher = lambda n: Publisher(system.connect(), system.publish_many(), values)
            return curve.publish_rate(system, BATCH, curve.seconds(SECONDS))

        rates[devices] = curve.by_turns(databases, ROUNDS, run)
        bench.say(f"devices {devices}: " + ", ".join(f"{name} {curve.number(rate)}" for name, rate in rates[devices].items()))
    for system in databases:
        del system.publisher            # the class has one
    curve.write("devices", "Rate of publishing over the number of devices", TEXT,
                [curve.table(["messages/s, devices", *(f"{n:,}" for n in DEVICES)],
                             [[it.NAME, *(curve.number(rates[n][it.NAME]) for n in DEVICES)] for it in databases])],
                [curve.Panel("publish in batches of 1,000", [curve.Line(it.NAME, [(n, rates[n][it.NAME]) for n in DEVICES])
                                                             for it in databases],
                             unit="messages/s", x="number", x_label="devices", log="x")])
