"""An orderly group with 10,000 devices: 4 consumers take batches of 50, against a concurrent group.

Both read the same messages for the same time; the columns are messages settled a second.
"""

import bench

DEVICES = 10_000
CONSUMERS = 4


def measure(it):
    it.new_topic("bench")
    for mode in ("orderly", "concurrent"):
        it.new_group("bench", mode, mode=mode)
    it.run("CALL load_topic('bench', %s, devices => %s)", bench.scaled(1_500_000, 1000), DEVICES)

    def settled(group):
        return it.settled("bench", group, bench.consume("bench", group, 50), bench.scaled(6), clients=CONSUMERS)

    return [bench.compare("orderly, 10,000 devices (bare = concurrent)", 0.5,
                          orderly=lambda: settled("orderly"), concurrent=lambda: settled("concurrent"))]
