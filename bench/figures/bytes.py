"""What a message takes on disk, by part, against the bare table with the same columns and indexes.

Loaded in batches of 1,000, each message of a random one of 1,000 devices, as in a topic that is
one segment old: nothing is vacuumed or packed.
"""

import bench

# 135 bytes
PAYLOAD = (
    '{"temperature": 21.48, "humidity": 47.2, "pressure": 1013.25, "battery": 3.71,'
    ' "rssi": -67, "status": "ok", "firmware": "4.2.1", "n":1}'
)
MESSAGES = 300_000
DEVICES = 1000

# As pg_relation_size counts: of the table, and of each of its indexes.
PARTS = """
SELECT 'heap', pg_relation_size(%(table)s::regclass)
UNION ALL
SELECT CASE WHEN indisunique THEN 'index of offsets' ELSE 'index of devices' END, pg_relation_size(indexrelid)
FROM pg_index
WHERE indrelid = %(table)s::regclass
"""


def measure(it):
    messages = bench.scaled(MESSAGES, 1000)
    it.run("UPDATE batch SET payloads = (SELECT array_agg(%s::jsonb) FROM unnest(payloads))", PAYLOAD)
    it.new_topic("bench")
    it.run("CALL load_topic('bench', %s, devices => %s)", messages, DEVICES)
    segment = it.value("SELECT table_name::text FROM iotmq_internal.segment ORDER BY from_time LIMIT 1")
    it.run("CALL new_bare()")
    it.run(f"INSERT INTO bare (device_id, payload) SELECT device_id, payload FROM {segment} ORDER BY msg_offset")

    def parts(table):
        with it.connection.cursor() as cursor:
            cursor.execute(PARTS, {"table": table})
            sizes = {name: size / messages for name, size in cursor.fetchall()}
        return {**sizes, "in all": sum(sizes.values())}

    ours, theirs = parts(segment), parts("bare")
    payload = it.value(f"SELECT avg(pg_column_size(payload)) FROM {segment}")
    bench.say(f"bytes: the payload is {payload:.0f} bytes as jsonb")
    return [bench.Row(f"bytes on disk, {len(PAYLOAD)} bytes of JSON, {name}", f"{size:.0f}", f"{theirs[name]:.0f}", f"{size / theirs[name]:.2f}",
                      "at most 280" if name == "in all" else "-", size <= 280 if name == "in all" else None)
            for name, size in ours.items()]
