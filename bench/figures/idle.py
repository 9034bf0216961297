"""consume on a group with nothing to read, in a topic of 100 zones with 12 segments each."""

import bench

CONSUME = "SELECT * FROM iotmq.consume('bench', 'reader', 100);"


def measure(it):
    zones = [f"zone{n:03}" for n in range(100)]
    # A transaction a zone: all at once would need more locks than a server has room for by default.
    it.new_topic("bench", zones=zones[:1], retention="24 hours", segment_interval="2 hours")
    for zone in zones[1:]:
        it.run("SELECT iotmq.add_zone('bench', %s)", zone)
    it.new_group("bench", "reader")
    # Every zone has been in use: something published and settled.
    for zone in zones:
        it.run("CALL load_topic('bench', 1000, %s)", zone)
    while it.lag("bench"):
        it.run("SELECT iotmq.ack(lease_id) FROM iotmq.consume('bench', 'reader', 10000) LIMIT 1")
    segments = it.value("SELECT sum(segments) FROM iotmq.topic_stats WHERE topic = 'bench'")
    bench.say(f"idle: {segments} segments")
    it.run("CHECKPOINT")

    times = bench.alternate("idle, ms", iotmq=lambda: 1000 / it.pgbench(CONSUME, transactions=bench.scaled(10_000)))
    return [bench.at_most("consume, idle, 100 zones x 12 segments", times["iotmq"], 1, "ms")]
