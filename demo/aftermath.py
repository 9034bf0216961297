"""The count after a disaster: what was lost and what came twice, and whether it had to.

A message may be lost if it was in a's tail and nobody sent it again. A group may get a message
twice if a had it and b did not know that the group had settled it. Nothing else.
"""

import time

import report
from common import GROUPS, TOPIC

PATIENCE = 60.0  # seconds for a to have what b has

# How much is still to come to b, or to be settled there.
MISSING = f"""
    SELECT greatest(0, %s - (SELECT count(*) FROM iotmq_topic.{TOPIC}) - (SELECT count(*) FROM demo.lost_message))
        + (SELECT sum(iotmq.count_lag(topic, consumer_group))::bigint FROM iotmq.group_settings WHERE topic = '{TOPIC}')
"""

# What is the same at both in the end.
MESSAGES = f"""
    SELECT zone, count(*), md5(string_agg(m::text, ',' ORDER BY msg_offset))
    FROM iotmq_topic.{TOPIC} AS m
    GROUP BY zone
    ORDER BY zone
"""
POSITIONS = f"""
    SELECT consumer_group, zone, next_offset
    FROM iotmq.consumer_lag
    WHERE topic = '{TOPIC}'
    ORDER BY consumer_group, zone
"""

TAIL = "SELECT count(*), (SELECT count(*) FROM demo.lost_message) FROM demo.tail"

# What each group should have got, what it got, and why some of it is not so.
CHECK = """
    WITH expected AS (
        SELECT generate_series(first_id, last_id) AS id FROM demo.published WHERE NOT %(urgent)s
        UNION ALL
        SELECT unnest(urgent_ids) FROM demo.published WHERE %(urgent)s
    ), delivered AS (
        SELECT id, count(*) AS times, count(*) FILTER (WHERE at >= (SELECT noted_at FROM demo.promotion)) AS at_b
        FROM (SELECT unnest(ids), at FROM demo.delivered WHERE consumer_group = %(group)s) AS receipts (id, at)
        GROUP BY id
    ), lost AS MATERIALIZED (
        SELECT id FROM demo.lost_message
    ), judged AS (
        SELECT e.id IS NULL AS unknown, coalesce(d.times, 0) AS times, d.at_b, l.id IS NOT NULL AS in_tail, s.id IS NOT NULL AS settled
        FROM expected AS e
        FULL JOIN delivered AS d USING (id)
        LEFT JOIN lost AS l USING (id)
        LEFT JOIN demo.settled AS s ON s.consumer_group = %(group)s AND s.id = coalesce(e.id, d.id)
    )
    SELECT count(*) FILTER (WHERE NOT unknown) AS expected,
           sum(times)::bigint AS delivered,
           count(*) FILTER (WHERE times = 0) AS lost,
           count(*) FILTER (WHERE times = 0 AND in_tail) AS lost_in_tail,
           count(*) FILTER (WHERE times > 1) AS twice,
           count(*) FILTER (WHERE times = 2 AND at_b = 1 AND NOT settled) AS not_known_as_settled,
           count(*) FILTER (WHERE settled AND at_b > 0) AS settled_and_again,
           count(*) FILTER (WHERE unknown) AS unknown
    FROM judged
"""


def check_groups(cur):
    """A line for each group; returns what is wrong."""
    rows, wrong = [], []
    for group in GROUPS:
        cur.execute(CHECK, {"group": group, "urgent": group == "threshold"})
        expected, delivered, lost, in_tail, twice, not_known, again, unknown = cur.fetchone()
        rows.append((group, expected, delivered, lost, in_tail, twice, not_known, unknown))
        wrong += [f"{group}: {n:,} {what}" for n, what in (
            (lost - in_tail, "lost that were not in a's tail"), (twice - not_known, "twice without a reason"),
            (again, "again at b that were settled at a"), (unknown, "unknown")) if n]
    report.table(["group", "published", "delivered", "lost", "in a's tail", "twice", "done at a, not known at b", "unknown"], rows)
    return wrong


class Aftermath:
    def __init__(self, disaster, counts):
        self.disaster = disaster
        self.counts = counts

    def missing(self, _):
        """How much has not arrived yet."""
        return self.disaster.b.query(MISSING, [self.counts.published])[0][0]

    def gather(self):
        """What a had done is put to what b has done. Returns what is wrong."""
        a, b = self.disaster.a, self.disaster.b
        a.copy("demo.delivered", b, "demo.delivered")
        a.copy("demo.device_window", b, "demo.window_of_a")
        b.query("CALL demo.add_windows()")
        return self.differences()

    def differences(self):
        """What a, now a mirror, has not as b has it."""
        end = time.monotonic() + PATIENCE
        while True:
            differs = [what for what, query in (("messages", MESSAGES), ("positions of groups", POSITIONS))
                       if self.disaster.a.query(query) != self.disaster.b.query(query)]
            if not differs or time.monotonic() > end:
                return [f"{what} at a are not those at b" for what in differs]
            time.sleep(0.2)

    def check(self, cur):
        """The table and what a has dropped; returns what is wrong."""
        wrong = check_groups(cur)
        cur.execute(TAIL)
        tail, lost = cur.fetchone()
        dropped = sum(int(line.split(" has dropped ")[1].split()[0]) for line in self.disaster.tail if " has dropped " in line)
        print(f"\ntail       {tail:,} messages were at a only; {tail - lost:,} of them the broker sent again, {lost:,} are lost. What a dropped:")
        for line in self.disaster.tail:
            print(f"           {line}")
        if dropped != tail:
            wrong.append(f"a says that it has dropped {dropped:,} messages, not {tail:,}")
        return wrong
