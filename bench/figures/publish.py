"""publish, 8 clients, prepared, against the same INSERT into a bare table.

Once without waiting for the disk, which shows what a call costs, and once with the default.
"""

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
    def rate(script, commit, seconds):
        it.run("CHECKPOINT")
        return it.pgbench(script, clients=8, seconds=bench.scaled(seconds), payload=bench.PAYLOAD,
                          settings=f"-c synchronous_commit={commit}")

    def iotmq(commit, seconds=12 / TURNS):
        it.new_topic("bench")
        return rate(PUBLISH, commit, seconds)

    def bare(commit, seconds=12 / TURNS):
        it.run("CALL new_bare()")
        return rate(INSERT, commit, seconds)

    def row(name, target, commit):
        # files of the WAL that are made for the first time would be one side's
        iotmq(commit, 2)
        bare(commit, 2)
        return bench.compare(name, target, turns=TURNS, iotmq=lambda: iotmq(commit), bare=lambda: bare(commit))

    return [row("publish, 8 clients, synchronous_commit off", 0.85, "off"),
            row("publish, 8 clients, synchronous_commit on", 0.95, "on")]
