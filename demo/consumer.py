"""The loop of a consumer whose effects are in the same database, exactly once.

    consume (no transaction block); BEGIN; effects; ack; COMMIT

If this program dies anywhere in between, nothing of the second transaction has happened and the
lease expires: another consumer gets the same messages. If it was only slow, and another consumer
has taken the lease over, ack raises 55000 and the effects are rolled back. In a transaction block
a consume that delivers nothing would keep to itself how far it came, and the group would look as
if it were behind.
"""

import time

import psycopg2.errors
import psycopg2.extras

from common import TOPIC, connect, setting

CONSUME = """
    SELECT lease_id, zone, msg_offset, device_id, tag, payload, published_at,
           extract(epoch FROM published_at)::float8 AS published
    FROM iotmq.consume(%s, %s, max_messages => %s, wait => '1 s', consumer => %s)
"""


def work(group, name, effects, stopping):
    """Consume for the group and call effects(cursor, messages) for each batch, until asked to stop."""
    size = setting("BATCH")
    conn = connect(name)
    conn.autocommit = True
    while not stopping:
        with conn.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cur:
            cur.execute(CONSUME, [TOPIC, group, size, name])
            received = time.time()
            messages = cur.fetchall()
        if not messages:
            continue
        try:
            with conn, conn.cursor() as cur:  # begins and commits, or rolls back when an exception passes
                effects(cur, messages)
                receipt(cur, group, received, [m.published for m in messages], [m.payload["id"] for m in messages])
                cur.execute("SELECT iotmq.ack(%s)", [messages[0].lease_id])
        except psycopg2.errors.ObjectNotInPrerequisiteState:  # 55000: the batch is another consumer's now
            pass


def receipt(cur, group, received, published, ids=None):
    """Record a batch for the final check."""
    cur.execute(
        "INSERT INTO demo.delivered (consumer_group, messages, ids, latency_ms) VALUES (%s, %s, %s, %s::real[])",
        [group, len(published), ids, [round((received - at) * 1000, 2) for at in published]],
    )
