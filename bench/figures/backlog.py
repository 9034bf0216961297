"""The rate of draining 400,000 messages must not depend on what lies behind, or in how many segments.

Two comparisons, each with itself: 10^7 against 10^5 messages behind the group's start, and
40 segments against 2. 1.00 is the same rate, and up to 15 % less is met.
"""

from functools import partial

import bench


def measure(it):
    messages = bench.scaled(400_000, 40_000)
    first = {}

    def behind(topic, count):
        it.new_topic(topic)
        it.run("CALL load_topic(%s, %s)", topic, bench.scaled(count, 1000))
        first[topic] = it.value("SELECT end_offset FROM iotmq.topic_stats WHERE topic = %s", topic)
        it.run("CALL load_topic(%s, %s)", topic, messages)

    def spread(topic, segments):
        it.new_topic(topic, segment_interval=f"{40 / segments} hours")
        first[topic] = 1
        it.run("CALL load_past(%s, %s, %s)", topic, messages, segments)

    def drain(topic):
        """messages a second of a group that has got to the first offset"""
        it.new_group(topic, "reader")
        it.run("SELECT iotmq.commit_offset(%s, 'reader', 'default', %s)", topic, first[topic])
        # What is drained is in memory on either side, the 3 GB behind it don't fit.
        zone_table = it.value("SELECT iotmq.zone_table(%s, 'default')", topic)
        it.run(f"SELECT count(payload) FROM {zone_table} WHERE msg_offset >= %s", first[topic])
        rate = it.drain(topic, "reader", messages)
        it.run("SELECT iotmq.drop_group(%s, 'reader')", topic)
        return rate

    behind("behind5", 10**5)
    behind("behind7", 10**7)
    spread("segments2", 2)
    spread("segments40", 40)
    it.vacuum()

    return [bench.compare(name, 0.85, **{topic: partial(drain, topic) for topic in topics})
            for name, *topics in (("drain, 10^7 behind (bare = 10^5)", "behind7", "behind5"),
                                  ("drain, 40 segments (bare = 2)", "segments40", "segments2"))]
