"""All views, with 50 topics x 10 zones x 10 groups and 10^7 messages, of which every group stands somewhere else."""

import time

import bench

VIEWS = ["consumer_lag", "group_lag", "topic_stats", "in_flight", "held_back", "dead_letter_depth", "dead_letter",
         "alerts", "metrics", "privileges"]
TOPICS = 50
ZONES = 10

# Of ten groups of a topic six have settled everything, two have a lease in every zone, one has a
# retry and a dead letter in every zone, one never began.
SETTLED = range(1, 7)
IN_FLIGHT = range(7, 9)
FAILING = 9
STOPPED = 10

EVERYWHERE = f"""
FROM generate_series(1, {TOPICS}) AS t
CROSS JOIN generate_series(1, {ZONES}) AS z
"""


def fill(it):
    zones = [f"zone{z}" for z in range(1, ZONES + 1)]
    per_zone = bench.scaled(10**7 // TOPICS // ZONES, 1000)
    for t in range(1, TOPICS + 1):
        it.new_topic(f"topic{t}", zones=zones)
        for zone in zones:
            it.run("CALL load_topic(%s, %s, %s)", f"topic{t}", per_zone, zone)
    for group in range(1, 11):
        start = "infinity" if group in SETTLED else "-infinity"
        it.run(f"SELECT count(iotmq.create_group('topic' || t, 'group{group}', start_from => '{start}', "
               f"max_lag => 100000, max_delay => '1 hour')) FROM generate_series(1, {TOPICS}) AS t")
    for group in (*IN_FLIGHT, FAILING):
        it.run(f"SELECT count(iotmq.commit_offset('topic' || t, 'group{group}', 'zone' || z, "
               f"{per_zone} - {group} * 97 - z)) {EVERYWHERE}")
    move(it)
    it.vacuum()


def move(it):
    """every cursor of the groups that are at work goes on by a batch"""
    it.run("SELECT count(iotmq.ack(lease_id)) FROM iotmq.in_flight")
    for group in (*IN_FLIGHT, FAILING):
        it.run(f"CREATE TABLE lease AS SELECT lease_id, min(msg_offset) AS first {EVERYWHERE} CROSS JOIN LATERAL "
               f"iotmq.consume('topic' || t, 'group{group}', 100, '1 hour', 'zone' || z) GROUP BY lease_id")
        if group == FAILING:
            it.run("SELECT count(iotmq.nack(lease_id, ARRAY[first], '1 hour')), "
                   "count(iotmq.reject(lease_id, ARRAY[first + 1])), count(iotmq.ack(lease_id)) FROM lease")
        it.run("DROP TABLE lease")


def look(connection, run):
    """ms to plan and run all views, each read whole by the server, without sending the rows"""
    times = {}
    with connection.cursor() as cursor:
        cursor.execute("SET cursor_tuple_fraction = 1")
        for view in VIEWS:
            started = time.monotonic()
            cursor.execute(f"BEGIN; DECLARE v CURSOR FOR SELECT * FROM iotmq.{view}; MOVE ALL v; COMMIT")
            times[view] = 1000 * (time.monotonic() - started)
    bench.say(f"views {run}: " + ", ".join(f"{view} {ms:.1f}" for view, ms in times.items()))
    return sum(times.values())


def measure(it):
    fill(it)
    first = []
    later = []
    for run in range(bench.RUNS):
        connection = bench.connect(it.name)
        first.append(look(connection, f"{run + 1}/{bench.RUNS}, new session"))
        move(it)
        later.append(look(connection, f"{run + 1}/{bench.RUNS}, all has moved"))
        connection.close()
    name = f"all {len(VIEWS)} views, {TOPICS} topics x {ZONES} zones x 10 groups"
    return [bench.at_most(name, later, 40, "ms"), bench.at_most(f"{name}, new session", first, None, "ms")]
