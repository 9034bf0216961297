"""Reads a database that stands still: what it holds, and whether its views say so.

Works as a superuser on the catalogs of iotmq, and is the one place of the checker that
knows them.  read() gives the "state" event of a topic, compare() the figures of the
views that counting does not confirm.  Nothing else may use the topic meanwhile.
"""

from collections import defaultdict

# The open messages of each lease that no seek or drop has voided.
OPEN = """
SELECT l.lease_id, c.cursor_id, m.msg_offset, l.deadline
FROM iotmq_internal.lease AS l
JOIN iotmq_internal.cursor AS c ON c.cursor_id = l.lease_id >> 43
JOIN iotmq_internal.cursor_state AS p ON p.cursor_id = c.cursor_id AND p.oldest_lease <= l.lease_id
CROSS JOIN LATERAL iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS m
WHERE l.settled IS NULL OR get_bit(l.settled, m.nth) = 0
"""

CURSORS = """
SELECT c.cursor_id, g.consumer_group, z.zone, p.next_offset, l.expired_unread
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t ON t.topic_id = z.topic_id
JOIN iotmq.consumer_lag AS l USING (topic, consumer_group, zone)
WHERE t.topic = %s
ORDER BY g.consumer_group, z.zone
"""


def read(execute, topic, pull_groups=()):
    """The "state" of a topic; execute(statement, args) gives rows."""
    zones = {}
    for zone, earliest, table in execute(
            "SELECT z.zone, z.earliest_offset, z.table_name::text FROM iotmq_internal.zone AS z "
            "JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = %s ORDER BY z.zone", (topic,)):
        log = execute(f"SELECT msg_offset, payload ->> 'id', device_id FROM {table} ORDER BY msg_offset")
        gaps = execute("SELECT last_before, first_offset FROM iotmq.zone_epoch WHERE topic = %s AND zone = %s "
                       "ORDER BY first_offset", (topic, zone))
        zones[zone] = {"earliest": earliest, "log": [list(row) for row in log], "gaps": [list(row) for row in gaps]}
    leases, waiting, dead = defaultdict(list), defaultdict(list), defaultdict(list)
    for lease, cursor, offset, _ in execute(OPEN):
        leases[cursor].append([lease, offset])
    for cursor, offset in execute("SELECT cursor_id, msg_offset FROM iotmq_internal.redelivery"):
        waiting[cursor].append(offset)
    for cursor, offset in execute("SELECT cursor_id, msg_offset FROM iotmq_internal.dead_message WHERE NOT redriven"):
        dead[cursor].append(offset)
    cursors = [{"group": group, "zone": zone, "next": next_offset, "pull": group in pull_groups,
                "leases": leases[cursor], "waiting": waiting[cursor], "dead": dead[cursor],
                "expired": expired}
               for cursor, group, zone, next_offset, expired in execute(CURSORS, (topic,))]
    return {"topic": topic, "zones": zones, "cursors": cursors}


def look(execute):
    """The "leases" of a moment, in one statement and so in one snapshot."""
    rows = execute(f"""
        WITH open AS MATERIALIZED ({OPEN}), waiting AS MATERIALIZED (
            SELECT cursor_id, msg_offset FROM iotmq_internal.redelivery)
        SELECT lease_id, extract(epoch FROM deadline - clock_timestamp())::float8, array_agg(msg_offset)
        FROM open GROUP BY lease_id, deadline
        UNION ALL
        SELECT NULL, cursor_id, array_agg(msg_offset) FROM waiting GROUP BY cursor_id""")
    return {"leases": [{"lease": lease, "left": left, "offsets": offsets} for lease, left, offsets in rows if lease],
            "waiting": [[int(cursor), offset] for lease, cursor, offsets in rows if lease is None for offset in offsets]}


# What each cursor should be shown with, by counting.
EXPECTED_LAG = f"""
WITH open AS MATERIALIZED ({OPEN})
SELECT t.topic, g.consumer_group, z.zone, g.mode, p.next_offset, g.group_id, g.max_lag,
    (SELECT count(*) FROM open AS o WHERE o.cursor_id = c.cursor_id) AS inflight,
    (SELECT count(*) FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = c.cursor_id) AS retry,
    (SELECT count(DISTINCT r.device_id) FROM iotmq_internal.redelivery AS r
     WHERE r.cursor_id = c.cursor_id AND g.mode = 'orderly') AS blocked,
    (SELECT count(*) FROM iotmq_internal.dead_message AS d WHERE d.cursor_id = c.cursor_id AND NOT d.redriven) AS dead,
    z.table_name::text, z.offset_sequence::text, g.tags, g.filter::text
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t ON t.topic_id = z.topic_id
"""


def rows_of(execute, statement, keys):
    """{key: {column: value}} of a view; statement names the columns."""
    columns = [name.strip() for name in statement.split("SELECT", 1)[1].split("FROM", 1)[0].split(",")]
    found = {}
    for row in execute(statement):
        named = dict(zip(columns, row))
        found[tuple(named[key] for key in keys)] = named
    return found


class Comparison:
    def __init__(self):
        self.wrong = []

    def equal(self, what, shown, counted):
        if shown != counted:
            self.wrong.append(f"{what} is {shown}, counted: {counted}")

    def within(self, what, shown, least, most):
        if shown is None or not least <= shown <= most:
            self.wrong.append(f"{what} is {shown}, counted: {least} to {most}")


def gap(execute, topic, zone, first, last):
    """How many offsets of first..last (exclusive) lie in the jump to a new epoch."""
    if not execute("SELECT to_regclass('iotmq.zone_epoch') IS NOT NULL")[0][0]:
        return 0
    return execute("""SELECT coalesce(sum(greatest(0, least(first_offset, %s) - greatest(last_before + 1, %s))), 0)::bigint
        FROM iotmq.zone_epoch WHERE topic = %s AND zone = %s""", (last, first, topic, zone))[0][0]


def compare(execute):
    """The figures of the views that are not those of a recount."""
    comparison = Comparison()
    expected = compare_lag(execute, comparison)
    compare_groups(execute, comparison, expected)
    compare_leases(execute, comparison)
    compare_dead_letters(execute, comparison)
    compare_topics(execute, comparison)
    compare_metrics(execute, comparison)
    return comparison.wrong


def compare_lag(execute, comparison):
    shown = rows_of(execute, """SELECT topic, consumer_group, zone, mode, earliest_offset, next_offset, stable_offset,
        end_offset, lag_messages, ready_messages, inflight_messages, retry_messages, blocked_devices, dead_letters,
        expired_unread FROM iotmq.consumer_lag""", ("topic", "consumer_group", "zone"))
    exact = defaultdict(int)
    for (topic, group, zone, mode, next_offset, _, _, inflight, retry, blocked, dead, table, sequence, tags,
         filter) in execute(EXPECTED_LAG):
        what = f"consumer_lag {topic}/{group} {zone}: "
        row = shown.pop((topic, group, zone), None)
        if row is None:
            comparison.wrong.append(what + "no row")
            continue
        end = execute(f"SELECT last_value + is_called::int FROM {sequence}")[0][0]
        lowest, held, wanted = execute(f"""
            SELECT min(msg_offset), count(*) FILTER (WHERE msg_offset >= %s), count(*) FILTER (WHERE msg_offset >= %s
                AND (%s::text[] IS NULL OR tag = ANY (%s)) AND (%s IS NULL OR payload @@ %s::jsonpath))
            FROM {table}""", (next_offset, next_offset, tags, tags, filter, filter))[0]
        comparison.equal(what + "mode", row["mode"], mode)
        # retention leaves behind who was busy: he goes on at the earliest offset
        goes_on = max(next_offset, row["earliest_offset"])
        comparison.within(what + "next_offset", row["next_offset"], next_offset, goes_on)
        comparison.equal(what + "end_offset", row["end_offset"], end)
        comparison.equal(what + "stable_offset", row["stable_offset"], end)
        comparison.within(what + "earliest_offset", row["earliest_offset"], 1, end if lowest is None else lowest)
        ready = end - goes_on
        ready -= gap(execute, topic, zone, goes_on, end)
        comparison.equal(what + "ready_messages", row["ready_messages"], ready)
        comparison.within(what + "ready_messages", row["ready_messages"], held, ready)
        comparison.equal(what + "inflight_messages", row["inflight_messages"], inflight)
        comparison.equal(what + "retry_messages", row["retry_messages"], retry)
        comparison.equal(what + "lag_messages", row["lag_messages"], ready + inflight + retry)
        comparison.equal(what + "blocked_devices", row["blocked_devices"], blocked)
        comparison.equal(what + "dead_letters", row["dead_letters"], dead)
        comparison.within(what + "expired_unread", row["expired_unread"], 0, end)
        exact[topic, group] += wanted + inflight + retry
    for key in shown:
        comparison.wrong.append(f"consumer_lag {key}: no such cursor")
    return exact


def compare_groups(execute, comparison, exact):
    """group_lag against consumer_lag, count_lag against reading, alerts against both."""
    added = ("earliest_offset", "next_offset", "stable_offset", "end_offset", "lag_messages", "ready_messages",
             "inflight_messages", "retry_messages", "blocked_devices", "dead_letters", "expired_unread")
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in added)
    counted = {(topic, group): figures for topic, group, *figures in execute(
        f"SELECT topic, consumer_group, {sums} FROM iotmq.consumer_lag GROUP BY topic, consumer_group")}
    for topic, group, *figures in execute(f"SELECT topic, consumer_group, {', '.join(added)} FROM iotmq.group_lag"):
        comparison.equal(f"group_lag {topic}/{group} {added}", figures, counted.get((topic, group), [0] * len(added)))
        comparison.equal(f"count_lag {topic}/{group}",
                         execute("SELECT iotmq.count_lag(%s, %s)", (topic, group))[0][0], exact[topic, group])
    shown = set(execute("SELECT topic, consumer_group FROM iotmq.alerts WHERE alert = 'lag'"))
    wanted = set(execute("""SELECT l.topic, l.consumer_group FROM iotmq.group_lag AS l JOIN iotmq_internal.topic AS t USING (topic)
        JOIN iotmq_internal.consumer_group AS g USING (topic_id, consumer_group) WHERE l.lag_messages > g.max_lag"""))
    comparison.equal("alerts of lag", sorted(shown), sorted(wanted))
    comparison.equal("held_back", execute("SELECT count(*) FROM iotmq.held_back")[0][0], 0)


def compare_leases(execute, comparison):
    shown = dict(execute("SELECT lease_id, messages FROM iotmq.in_flight"))
    counted = dict(execute(f"SELECT lease_id, count(*) FROM ({OPEN}) AS o GROUP BY lease_id"))
    comparison.equal("in_flight: messages by lease", shown, counted)
    twice = execute(f"""SELECT cursor_id, msg_offset, count(*) FROM (SELECT cursor_id, msg_offset FROM ({OPEN}) AS o
        UNION ALL SELECT cursor_id, msg_offset FROM iotmq_internal.redelivery) AS held
        GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2 LIMIT 5""")
    comparison.equal("messages that are out or wait twice (cursor, offset, times)", twice, [])
    ahead = execute(f"""SELECT held.cursor_id, held.msg_offset FROM (SELECT cursor_id, msg_offset FROM ({OPEN}) AS o
        UNION ALL SELECT cursor_id, msg_offset FROM iotmq_internal.redelivery WHERE NOT redriven) AS held
        JOIN iotmq_internal.cursor_state AS p USING (cursor_id) WHERE held.msg_offset >= p.next_offset
            AND NOT EXISTS (SELECT FROM iotmq_internal.dead_message AS d WHERE d.cursor_id = held.cursor_id
                AND d.msg_offset = held.msg_offset AND d.redriven)
        ORDER BY 1, 2 LIMIT 5""")
    comparison.equal("messages that are out or wait, and lie ahead of the position", ahead, [])


def compare_dead_letters(execute, comparison):
    shown = sorted(execute("""SELECT topic, consumer_group, dead_letters, oldest_dead_at, newest_dead_at, dead_last_hour
        FROM iotmq.dead_letter_depth"""))
    counted = sorted(execute("""SELECT t.topic, g.consumer_group, count(d.id), min(d.dead_at), max(d.dead_at),
            count(d.id) FILTER (WHERE d.dead_at > statement_timestamp() - interval '1 hour')
        FROM iotmq_internal.consumer_group AS g JOIN iotmq_internal.topic AS t USING (topic_id)
        LEFT JOIN iotmq.dead_letter AS d ON d.topic = t.topic AND d.consumer_group = g.consumer_group
        GROUP BY t.topic, g.consumer_group"""))
    comparison.equal("dead_letter_depth", shown, counted)
    # from next_redriven on they may be without a place, to come from the log
    orphans = execute("""SELECT d.id FROM iotmq_internal.dead_message AS d JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
        WHERE d.redriven AND d.msg_offset < p.next_redriven AND NOT EXISTS (
            SELECT FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = d.cursor_id AND r.msg_offset = d.msg_offset)
        AND NOT EXISTS (SELECT FROM (%s) AS o WHERE o.cursor_id = d.cursor_id AND o.msg_offset = d.msg_offset)""" % OPEN)
    comparison.equal("redriven dead letters that nothing delivers", orphans, [])


def compare_topics(execute, comparison):
    for topic, zone, segments, earliest, end, estimate, oldest, newest in execute(
            """SELECT topic, zone, segments, earliest_offset, end_offset, messages_estimate, oldest_published_at,
            newest_published_at FROM iotmq.topic_stats"""):
        what = f"topic_stats {topic} {zone}: "
        table = execute("SELECT iotmq.zone_table(%s, %s)::oid::regclass::text", (topic, zone))[0][0]
        count, lowest, first, last = execute(
            f"SELECT count(*), min(msg_offset), min(published_at), max(published_at) FROM {table}")[0]
        comparison.equal(what + "segments", segments, execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", (table,))[0][0])
        comparison.within(what + "earliest_offset", earliest, 1, end if lowest is None else lowest)
        comparison.within(what + "messages_estimate", estimate, count, max(count, end - earliest))
        for name, value, counted in (("oldest", oldest, first), ("newest", newest, last)):
            off = None if value is None and counted is None else \
                float("inf") if value is None or counted is None else abs((value - counted).total_seconds())
            if off is not None and off > 5:
                comparison.wrong.append(f"{what}{name}_published_at is {value}, counted: {counted}")


def compare_metrics(execute, comparison):
    wrong = execute("""
        SELECT m.name, m.labels, m.value, l.counted
        FROM (SELECT topic, consumer_group, zone, v.name, v.counted FROM iotmq.consumer_lag, LATERAL (VALUES
                ('iotmq_consumer_lag_messages', lag_messages), ('iotmq_consumer_ready_messages', ready_messages),
                ('iotmq_consumer_inflight_messages', inflight_messages), ('iotmq_consumer_retry_messages', retry_messages),
                ('iotmq_consumer_blocked_devices', blocked_devices), ('iotmq_consumer_dlq_messages', dead_letters)
            ) AS v (name, counted)) AS l
        LEFT JOIN iotmq.metrics AS m ON m.name = l.name AND m.labels ->> 'topic' = l.topic
            AND m.labels ->> 'zone' = l.zone AND m.labels ->> 'consumer_group' = l.consumer_group
        WHERE m.value IS DISTINCT FROM l.counted""")
    comparison.equal("metrics that are not those of consumer_lag", wrong, [])
