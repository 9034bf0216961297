"""publish, 8 clients, prepared, synchronous_commit = off, against the same INSERT into a bare table."""

from lib import bench

TURNS = 4

PUBLISH = """
\\set device random(1000001, 1001000)
SELECT iotmq.publish('bench', :device, :payload);
"""

INSERT = """
\\set device random(1000001, 1001000)
INSERT INTO bare (device_id, payload) VALUES (:device, :payload);
"""


def rate(it, script):
    it.run("CHECKPOINT")
    return bench.pgbench(it, script, clients=8, seconds=bench.scaled(12 / TURNS), payload=bench.PAYLOAD,
                         settings="-c synchronous_commit=off")[0]


def measure():
    with bench.database("publish") as it:
        def iotmq(*_):
            it.new_topic("bench")
            return rate(it, PUBLISH)

        def bare(*_):
            it.new_bare()
            return rate(it, INSERT)

        values = bench.alternate("publish", turns=TURNS, iotmq=iotmq, bare=bare)
    ratio = bench.median_ratio(values["iotmq"], values["bare"])
    return [bench.at_least("publish, 8 clients", bench.median(values["iotmq"]), bench.median(values["bare"]), ratio, 0.85)]
