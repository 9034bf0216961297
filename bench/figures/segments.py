"""A topic with 200 segments is published to and read as fast as one with 12."""

from functools import partial

import bench

SEGMENTS = {"many": 200, "few": 12}


def measure(it):
    messages = bench.scaled(200_000, 1000)
    for topic, segments in SEGMENTS.items():
        it.new_topic(topic, segment_interval=f"{40 * 3600 // segments} seconds")
        it.run("CALL load_past(%s, %s, %s)", topic, messages, segments)
    it.vacuum()

    def publish(topic):
        return it.pgbench(f"SELECT iotmq.publish('{topic}', 'device', :payload);", payload=bench.PAYLOAD, clients=4,
                          seconds=bench.scaled(4), settings="-c synchronous_commit=off")

    def consume(topic):
        it.new_group(topic, "reader")
        rate = it.drain(topic, "reader", messages)
        it.run("SELECT iotmq.drop_group(%s, 'reader')", topic)
        return rate

    return [bench.compare(f"{side.__name__}, 200 segments (bare = 12)", 0.9,
                          **{topic: partial(side, topic) for topic in SEGMENTS})
            for side in (publish, consume)]
