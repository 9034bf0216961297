"""publish, 8 clients, prepared, synchronous_commit = off, against the same INSERT into a bare table."""

import bench

TURNS = 4

PUBLISH = """
\\set device random(1000001, 1001000)
SELECT iotmq.publish('bench', :device, :payload);
"""

INSERT = """
\\set device random(1000001, 1001000)
INSERT INTO bare (device_id, payload) VALUES (:device, :payload);
"""


def measure(it):
    def rate(script):
        it.run("CHECKPOINT")
        return it.pgbench(script, clients=8, seconds=bench.scaled(12 / TURNS), payload=bench.PAYLOAD,
                          settings="-c synchronous_commit=off")

    def iotmq():
        it.new_topic("bench")
        return rate(PUBLISH)

    def bare():
        it.run("CALL new_bare()")
        return rate(INSERT)

    return [bench.compare("publish, 8 clients", 0.85, turns=TURNS, iotmq=iotmq, bare=bare)]
