"""The rate of draining 400,000 messages must not depend on what lies behind, or in how many segments.

Two comparisons, each with itself: 10^7 against 10^5 messages behind the group's start, and
40 segments against 2.
"""

from lib import bench

def drain(it, topic, messages, first):
    """messages a second of a group that has got to the offset first"""
    it.new_group(topic, "reader")
    it.run("SELECT iotmq.commit_offset(%s, 'reader', 'default', %s)", topic, first)
    # What is drained is in memory on either side, the 3 GB behind it don't fit.
    zone_table = it.value("SELECT iotmq.zone_table(%s, 'default')", topic)
    it.run(f"SELECT count(payload) FROM {zone_table} WHERE msg_offset >= %s", first)
    script = bench.CONSUME.format(topic=topic, group="reader")
    rate = 100 * bench.pgbench(it, script, transactions=messages // 100)[0]
    delivered = messages - it.lag(topic)
    it.run("SELECT iotmq.drop_group(%s, 'reader')", topic)
    return rate * delivered / messages


def within(name, values, more, less):
    """1.00 is the same rate, and up to 15 % less is met"""
    return bench.at_least(name, bench.median(values[more]), bench.median(values[less]),
                          bench.median_ratio(values[more], values[less]), 0.85)


def measure():
    messages = bench.scaled(400_000, 40_000)
    first = {}
    with bench.database("backlog") as it:
        def behind(topic, count):
            it.new_topic(topic)
            it.run("CALL load_topic(%s, %s)", topic, bench.scaled(count, 1000))
            first[topic] = it.value("SELECT end_offset FROM iotmq.topic_stats WHERE topic = %s", topic)
            it.run("CALL load_topic(%s, %s)", topic, messages)

        def spread(topic, segments):
            it.new_topic(topic, segment_interval=f"{40 / segments} hours")
            first[topic] = 1
            it.run("CALL load_past(%s, %s, %s)", topic, messages, segments)

        it.run(bench.LOAD_PAST)
        behind("behind5", 10**5)
        behind("behind7", 10**7)
        spread("segments2", 2)
        spread("segments40", 40)
        # hint bits and statistics, so that no run does it for the others
        it.run("VACUUM ANALYZE")
        it.run("CHECKPOINT")

        def compare(more, less):
            return bench.alternate("backlog", **{topic: lambda *_, topic=topic: drain(it, topic, messages, first[topic])
                                                 for topic in (more, less)})

        length = compare("behind7", "behind5")
        pieces = compare("segments40", "segments2")
    return [within("drain, 10^7 behind (bare = 10^5)", length, "behind7", "behind5"),
            within("drain, 40 segments (bare = 2)", pieces, "segments40", "segments2")]
