"""What must hold once the fuzzing has stopped, whatever was done: the catalogs agree with each
other and with PostgreSQL's, the views with a recount, every group can read its topic from
the beginning to the end, and everything can be dropped."""

import recount

# Each finds rows that nothing belongs to.
ORPHANS = {
    "zone": "SELECT zone_id FROM iotmq_internal.zone WHERE topic_id NOT IN (SELECT topic_id FROM iotmq_internal.topic)",
    "segment": "SELECT zone_id FROM iotmq_internal.segment WHERE zone_id NOT IN (SELECT zone_id FROM iotmq_internal.zone)",
    "consumer_group": "SELECT group_id FROM iotmq_internal.consumer_group WHERE topic_id NOT IN (SELECT topic_id FROM iotmq_internal.topic)",
    "cursor": """SELECT cursor_id FROM iotmq_internal.cursor WHERE group_id NOT IN (SELECT group_id FROM iotmq_internal.consumer_group)
        OR zone_id NOT IN (SELECT zone_id FROM iotmq_internal.zone)""",
    "position": "SELECT cursor_id FROM iotmq_internal.cursor_state WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)",
    "cursor without position": "SELECT cursor_id FROM iotmq_internal.cursor WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor_state)",
    "group without cursor": """SELECT g.group_id, z.zone_id FROM iotmq_internal.consumer_group AS g JOIN iotmq_internal.zone AS z USING (topic_id)
        WHERE NOT EXISTS (SELECT FROM iotmq_internal.cursor AS c WHERE c.group_id = g.group_id AND c.zone_id = z.zone_id)""",
    "redelivery": "SELECT cursor_id FROM iotmq_internal.redelivery WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)",
    "dead_message": "SELECT cursor_id FROM iotmq_internal.dead_message WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)",
    "mirror_state": "SELECT zone_id FROM iotmq_internal.mirror_state WHERE zone_id NOT IN (SELECT zone_id FROM iotmq_internal.zone WHERE state = 'mirror')",
    "consume_grant": "SELECT group_id FROM iotmq_internal.consume_grant WHERE group_id NOT IN (SELECT group_id FROM iotmq_internal.consumer_group)",
    "segment without its table": """SELECT s.table_name FROM iotmq_internal.segment AS s JOIN iotmq_internal.zone AS z USING (zone_id)
        WHERE NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = s.table_name AND i.inhparent = z.table_name)""",
    "table without its segment": """SELECT i.inhrelid::regclass FROM iotmq_internal.zone AS z JOIN pg_inherits AS i ON i.inhparent = z.table_name
        WHERE NOT EXISTS (SELECT FROM iotmq_internal.segment AS s WHERE s.table_name = i.inhrelid)""",
}


def orphans(execute):
    wrong = []
    for what, query in ORPHANS.items():
        rows = execute(query)
        if rows:
            wrong.append(f"{what}: {rows[:5]}")
    return wrong


def look(execute, topics):
    """What is wrong, as texts."""
    # what was fenced, or handed over to nobody, is read where it is
    execute("""SELECT iotmq.open_zone(t.topic, z.zone, force => true) FROM iotmq_internal.zone AS z
        JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = ANY (%s) AND z.state = 'fenced'""", (topics,))
    wrong = orphans(execute)
    wrong += recount.compare(execute)
    for topic, group, filter in execute("""SELECT t.topic, g.consumer_group, g.filter::text FROM iotmq_internal.consumer_group AS g
            JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = ANY (%s) ORDER BY 1, 2""", (topics,)):
        wrong += read_anew(execute, topic, group)
    for (topic,) in execute("SELECT topic FROM iotmq_internal.topic WHERE topic = ANY (%s) ORDER BY topic", (topics,)):
        execute("SELECT iotmq.drop_topic(%s, true)", (topic,))
    return wrong + [f"after all was dropped, {text}" for text in orphans(execute)]


def read_anew(execute, topic, group):
    """A group that goes back to the beginning, paused or not, gets all that its tags and filter leave, and nothing else."""
    execute("SELECT iotmq.seek(%s, %s, '-infinity')", (topic, group))
    execute("SELECT iotmq.resume_group(%s, %s)", (topic, group))
    wanted = set()
    for zone, table, tags, filter in execute("""SELECT z.zone, z.table_name::text, g.tags, g.filter::text
            FROM iotmq_internal.topic AS t JOIN iotmq_internal.zone AS z USING (topic_id) JOIN iotmq_internal.consumer_group AS g USING (topic_id)
            WHERE t.topic = %s AND g.consumer_group = %s""", (topic, group)):
        wanted |= {(zone, offset) for (offset,) in execute(
            f"""SELECT msg_offset FROM {table} WHERE (%s::text[] IS NULL OR tag = ANY (%s))
                AND (%s IS NULL OR payload @@ %s::jsonpath)""", (tags, tags, filter, filter))}
    got, empty = [], 0
    while empty < 2 and len(got) <= len(wanted):
        rows = execute("SELECT zone, msg_offset, lease_id FROM iotmq.consume(%s, %s, 1000, invisible_for => '1 hour')", (topic, group))
        empty = 0 if rows else empty + 1
        got += [row[:2] for row in rows]
        if rows:
            execute("SELECT iotmq.ack(%s)", (rows[0][2],))
    wrong = []
    if set(got) != wanted or len(got) != len(wanted):
        wrong.append(f"{topic}/{group} reads anew {len(got)} messages of {len(wanted)}: not {sorted(wanted - set(got))[:5]}, "
                     f"unasked {sorted(set(got) - wanted)[:5]}")
    lag = execute("SELECT lag_messages FROM iotmq.group_lag WHERE topic = %s AND consumer_group = %s", (topic, group))
    if lag != [(0,)]:
        wrong.append(f"{topic}/{group} has a lag of {lag} after it read all")
    return wrong
