"""publish through a router against the direct door: the same calls, the same node.

Router and node are two databases of one server, so both sides have the same two cores; both wait for
the disk.
"""

import copy

import bench

TURNS = 4

PUBLISH = """
\\set device random(1000001, 1001000)
SELECT iotmq.publish('bench', :device, :payload, 'default');
"""

# 100 messages, sent as parameters.
BATCH = """
\\if :fetched = 0
SELECT device_ids, payloads FROM hundred
\\gset
\\set fetched 1
\\endif
SELECT iotmq.publish_batch('bench', :device_ids, :payloads, 'default');
"""


def measure(it):
    door = copy.copy(it)
    door.name = it.name + "_door"
    admin = bench.connect("postgres")
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {door.name}")
    door.connection = bench.connect(door.name)
    try:
        for side in door, it:
            side.run("CREATE TABLE hundred AS SELECT array_agg('device-' || n) AS device_ids, array_agg(%s::jsonb) AS payloads "
                     "FROM generate_series(1, 100) AS n", bench.PAYLOAD)
        door.run("CREATE EXTENSION iotmq_router CASCADE")
        door.run("DO $$ BEGIN EXECUTE format('CREATE SERVER node FOREIGN DATA WRAPPER plproxy OPTIONS (p0 %L)', "
                 "format('host=%s dbname=%s', split_part(current_setting('unix_socket_directories'), ',', 1), '"
                 + it.name + "')); END $$")
        door.run("SELECT iotmq.add_node(0, 'node')")

        def rate(side, script, clients, seconds):
            it.new_topic("bench")
            door.run("SELECT iotmq.place_zone('bench', 'default', 0)")
            it.run("CHECKPOINT")
            return side.pgbench(script, clients=clients, seconds=bench.scaled(seconds), payload=bench.PAYLOAD,
                                fetched=0, device_ids="{}", payloads="{}")

        def row(name, target, script, clients):
            # files of the WAL that are made for the first time would be one side's
            for side in door, it:
                rate(side, script, clients, 2)
            return bench.compare(name, target, turns=TURNS, router=lambda: rate(door, script, clients, 12 / TURNS),
                                 direct=lambda: rate(it, script, clients, 12 / TURNS))

        return [row("publish through a router, 8 clients (bare = direct)", 0.35, PUBLISH, 8),
                row("publish_batch of 100 through a router (bare = direct)", 0.6, BATCH, 1)]
    finally:
        door.connection.close()
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {door.name} WITH (FORCE)")
        admin.close()
