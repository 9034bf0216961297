"""consume on groups with nothing to read: what a call takes, and what calls take that wait.

The second are shares of a core, of the server processes alone, as Linux counts their time.
"""

import concurrent.futures
import contextlib
import time

import bench

CONSUME = "SELECT * FROM iotmq.consume('bench', 'reader', 100);"
WAIT = "SELECT * FROM iotmq.consume(%s, 'reader', 100, wait => '5 min')"
AT_FIRST = 3        # seconds, in which those that wait look often


def make_topic(it, topic, zones):
    """A topic with 12 segments a zone, every zone of which has been in use."""
    # A transaction a zone: all at once would need more locks than a server has room for by default.
    it.new_topic(topic, zones=zones[:1], retention="24 hours", segment_interval="2 hours")
    for zone in zones[1:]:
        it.run("SELECT iotmq.add_zone(%s, %s)", topic, zone)
    it.new_group(topic, "reader")
    for zone in zones:
        it.run("CALL load_topic(%s, 1000, %s)", topic, zone)
    while it.lag(topic):
        it.run("SELECT iotmq.ack(lease_id) FROM iotmq.consume(%s, 'reader', 10000, '100 ms') LIMIT 1", topic)
    # when the leases would have expired, somebody looks for them once: maintenance, mostly
    time.sleep(0.2)
    it.run("CALL iotmq.run_maintenance()")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def wait_for_nothing(connection, topic):
    with contextlib.suppress(bench.psycopg2.errors.QueryCanceled):
        connection.cursor().execute(WAIT, (topic,))


def share_of_a_core(it, topic, consumers):
    """what so many consumers take that wait together, in per cent"""
    connections = [bench.connect(it.name) for _ in range(consumers)]
    pids = [connection.get_backend_pid() for connection in connections]
    with concurrent.futures.ThreadPoolExecutor(consumers) as pool:
        ends = [pool.submit(wait_for_nothing, connection, topic) for connection in connections]
        time.sleep(AT_FIRST)
        before, begin = sum(map(cpu_seconds, pids)), time.monotonic()
        time.sleep(bench.scaled(15))
        share = 100 * (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - begin)
        for connection in connections:
            connection.cancel()
        for end in ends:
            end.result()
    for connection in connections:
        connection.close()
    return share


def measure(it):
    make_topic(it, "one", ["zone"])
    make_topic(it, "bench", [f"zone{n:03}" for n in range(100)])
    it.vacuum()         # else autovacuum does, and its transactions wake those who wait

    times = bench.alternate("idle, ms", iotmq=lambda: 1000 / it.pgbench(CONSUME, transactions=bench.scaled(10_000)))
    waits = bench.alternate("waiting, % of a core",
                            one=lambda: share_of_a_core(it, "one", 1),
                            zones=lambda: share_of_a_core(it, "bench", 1),
                            many=lambda: share_of_a_core(it, "one", 50))
    return [bench.at_most("consume, idle, 100 zones x 12 segments", times["iotmq"], 1, "ms"),
            bench.at_most("a consumer that waits", waits["one"], 0.4, "% of a core"),
            bench.at_most("a consumer that waits, 100 zones x 12 segments", waits["zones"], 1, "% of a core"),
            bench.at_most("50 consumers that wait for a zone", waits["many"], 8, "% of a core")]
