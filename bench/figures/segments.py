"""A topic with 200 segments is published to and read as fast as one with 12."""

from lib import bench

PUBLISH = "SELECT iotmq.publish('{topic}', 'device', :payload);"


def measure():
    messages = bench.scaled(200_000, 1000)
    with bench.database("segments") as it:
        it.run(bench.LOAD_PAST)
        topics = {"many": 200, "few": 12}
        for topic, segments in topics.items():
            it.new_topic(topic, segment_interval=f"{40 * 3600 // segments} seconds")
            it.run("CALL load_past(%s, %s, %s)", topic, messages, segments)
        it.run("VACUUM ANALYZE")

        def publish(topic):
            return bench.pgbench(it, PUBLISH.format(topic=topic), clients=4, seconds=bench.scaled(4),
                                 settings="-c synchronous_commit=off", payload=bench.PAYLOAD)[0]

        def consume(topic):
            it.new_group(topic, "reader")
            rate = bench.pgbench(it, bench.CONSUME.format(topic=topic, group="reader"), transactions=messages // 100)[0]
            it.run("SELECT iotmq.drop_group(%s, 'reader')", topic)
            return 100 * rate

        published = bench.alternate("segments: publish", **{t: lambda *_, t=t: publish(t) for t in topics})
        consumed = bench.alternate("segments: consume", **{t: lambda *_, t=t: consume(t) for t in topics})
    return [bench.at_least(f"{name}, 200 segments (bare = 12)", bench.median(values["many"]), bench.median(values["few"]),
                           bench.median_ratio(values["many"], values["few"]), 0.9)
            for name, values in (("publish", published), ("consume", consumed))]
