"""A topic of 1,000 zones and 10 groups: what its catalogs cost those who use it, and others."""

import time

import bench

ZONES = bench.scaled(1000)
GROUPS = 10
CONSUME = "SELECT * FROM iotmq.consume('bench', 'group1', 100)"


def seconds(call, *arguments):
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def measure(it):
    zones = [f"zone{n:04}" for n in range(ZONES)]
    it.new_topic("other")
    it.new_group("other", "reader")

    def make_zones():
        # A transaction a zone: all at once would need more locks than a server has room for by default.
        it.new_topic("bench", zones=zones[:1])
        for zone in zones[1:]:
            it.run("SELECT iotmq.add_zone('bench', %s)", zone)

    making = seconds(make_zones)
    bench.say(f"catalogs: {ZONES} zones in {making:.1f} s")
    groups = [seconds(it.new_group, "bench", f"group{n}") for n in range(1, GROUPS + 1)]
    it.vacuum()
    rest = seconds(it.run, "CALL iotmq.run_maintenance()")
    runs = [seconds(it.run, "CALL iotmq.run_maintenance()") for _ in range(bench.RUNS)]

    session = bench.connect(it.name)
    with session.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")      # no disk in what is measured

        def call(statement):
            started = time.perf_counter()
            cursor.execute(statement)
            return (time.perf_counter() - started) * 1000

        def median(statement, change=None, calls=31):
            times = []
            for n in range(calls):
                if change:
                    it.run(change, n)
                times.append(call(statement))
            return bench.median(times)

        change = "SELECT iotmq.alter_group('other', 'reader', max_lag => %s)"
        publish = "SELECT iotmq.publish('bench', 'device', '1', 'zone0000')"
        one_zone = "SELECT * FROM iotmq.consume('bench', 'group1', 100, zone => 'zone0001')"
        call(publish), call(one_zone)
        cursor.execute("SELECT iotmq.ack(lease_id) FROM iotmq.consume('bench', 'group1', 100) LIMIT 1")
        first = call(CONSUME)
        after = {"publish": [], "consume of one zone": [], "consume of all": []}
        idle = []
        for _ in range(bench.RUNS):
            idle.append(median(CONSUME))
            after["consume of one zone"].append(median(one_zone, change))
            after["consume of all"].append(median(CONSUME, change))
        for _ in range(bench.RUNS):
            after["publish"].append(median(publish, change))
        cursor.execute("SELECT sum(total_bytes) / 1e6 FROM pg_backend_memory_contexts")
        memory = float(cursor.fetchone()[0])
    session.close()
    bench.say(f"catalogs: first consume of a session {first:.1f} ms")
    size = f"{ZONES:,} zones x {GROUPS} groups"
    return [
        bench.at_most(f"{ZONES:,} zones are made", [making], 20, "s"),
        bench.at_most("maintenance makes the rest of their segments", [rest], None, "s"),
        bench.at_most(f"create_group, {size}", groups, 1, "s"),
        bench.at_most(f"idle maintenance, {size}", runs, 2, "s"),
        bench.at_most(f"consume, idle, {size}", idle, 0.5, "ms"),
        *(bench.at_most(f"{name}, after a change of another topic", times, 1, "ms") for name, times in after.items()),
        bench.at_most(f"memory of a session, {size}", [memory], 10, "MB"),
    ]
