"""What the demo prints: a line of progress, the lag table, and in the end the check."""

import subprocess

from common import ARCHIVE, GROUPS, POISON, TOPIC
from programs import IOTMQ

LAG = "SELECT consumer_group, lag_messages FROM iotmq.group_lag WHERE topic = %s"
AGGREGATED = "SELECT coalesce(sum(messages), 0)::bigint FROM demo.delivered WHERE consumer_group = 'analytics'"

# What each group should have got, and what it got.
CHECK = """
    WITH expected AS (
        SELECT generate_series(first_id, last_id) AS id FROM demo.published WHERE NOT %(urgent)s
        UNION ALL
        SELECT unnest(urgent_ids) FROM demo.published WHERE %(urgent)s
    ), delivered AS (
        SELECT id, count(*) AS times
        FROM (SELECT unnest(ids) FROM demo.delivered WHERE consumer_group = %(group)s) AS receipts (id)
        GROUP BY id
    )
    SELECT count(e.id) AS expected,
           coalesce(sum(d.times), 0)::bigint AS delivered,
           count(*) FILTER (WHERE d.id IS NULL) AS lost,
           count(*) FILTER (WHERE d.times > 1) AS twice,
           count(*) FILTER (WHERE e.id IS NULL) AS unknown
    FROM expected AS e
    FULL JOIN delivered AS d USING (id)
"""

SPEED = """
    SELECT sum(messages) / extract(epoch FROM max(at) - (SELECT min(at) FROM demo.published)) AS rate,
           (SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY ms)
            FROM demo.delivered AS d CROSS JOIN unnest(d.latency_ms) AS ms
            WHERE d.consumer_group = %(group)s)
    FROM demo.delivered
    WHERE consumer_group = %(group)s
"""

RESULTS = f"""
    SELECT (SELECT extract(epoch FROM max(at) - min(at))::float8 FROM demo.published),
           (SELECT coalesce(sum(readings), 0)::bigint FROM demo.device_window),
           (SELECT count(*) FROM demo.device_window),
           (SELECT count(*) FROM demo.device),
           (SELECT count(*) FROM demo.anomaly),
           (SELECT count(*) FROM iotmq_topic.{POISON})
"""


def text(value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,.0f}"


def table(header, rows):
    """Print rows under a header: text to the left, numbers to the right."""
    cells = [[text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells)]
    left = [isinstance(value, str) for value in rows[0]] if rows else [True] * len(header)
    for line in [header, *cells]:
        aligned = (cell.ljust(w) if is_left else cell.rjust(w) for cell, w, is_left in zip(line, widths, left))
        print("  " + "  ".join(aligned).rstrip())


class Progress:
    """One line at each call: how much was published and delivered since the start, and each group's lag."""

    def __init__(self, query, counts, missing):
        self.query = query
        self.counts = counts
        self.missing = missing  # how many messages are to be delivered, of {group: delivered}
        self.aggregated = 0
        self.elsewhere = 0  # part of that: in a database that is not asked any more
        self.published = 0
        self.at = 0.0
        self.header()

    def header(self):
        groups = "".join(f"{group:>13}{'lag':>8}" for group in GROUPS)
        print(f"\n{'time':>7}{'published':>12}{'per s':>9}{groups}")

    def line(self, elapsed):
        """Print a line. Returns {group: delivered}, and how many messages are still to be delivered."""
        counts = self.counts
        counts.look()
        rows, sums = self.query(LAG, [TOPIC]), self.query(AGGREGATED)
        if sums:
            self.aggregated = self.elsewhere + sums[0][0]
        lag = dict(rows or [])  # none while the database is away
        delivered = {"analytics": self.aggregated, **counts.delivered}
        rate = (counts.published - self.published) / max(elapsed - self.at, 0.001)
        groups = "".join(f"{delivered[group]:>13,}{text(lag.get(group)):>8}" for group in GROUPS)
        print(f"{elapsed:>5.0f} s{counts.published:>12,}{rate:>9,.0f}{groups}")
        self.published, self.at = counts.published, elapsed
        return delivered, self.missing(delivered)


def lag_table():
    """What an operator would look at."""
    print(f"\niotmq lag {TOPIC} --zones", flush=True)
    answer = subprocess.run([IOTMQ, "lag", TOPIC, "--zones"], capture_output=True, text=True)
    print(answer.stdout + answer.stderr, end="")


def check_groups(cur):
    """Print what each group should have got, and what it got; return what is wrong."""
    wrong, rows = [], []
    for group in GROUPS:
        cur.execute(CHECK, {"group": group, "urgent": group == "threshold"})
        found = cur.fetchone()
        cur.execute(SPEED, {"group": group})
        rate, percentiles = cur.fetchone()
        rows.append((group, *found, rate or 0, *(percentiles or (None, None))))
        wrong += [f"{group}: {n:,} {what}" for what, n in zip(("lost", "twice", "unknown"), found[2:]) if n]
    header = ["group", "published", "delivered", "lost", "twice", "unknown", "messages/s", "p50 ms", "p99 ms"]
    table(header, rows)
    print("  (p50 and p99: from the device to the window, the web server, the file)")
    return wrong


def check(cur, counts, kept, check_groups):
    """Compare what the devices have published with what arrived, print it, and return what is wrong."""
    cur.execute(RESULTS)
    seconds, readings, windows, devices, anomalies, poison = cur.fetchone()
    print(
        f"\npublished {counts.published:,} messages in {seconds or 0:.1f} s: {counts.published / max(seconds or 0, 0.001):,.0f} "
        f"messages/s, acknowledged to {counts.gateways:,} gateways, which connected {counts.connections:,} times"
    )
    if counts.skipped:
        print(f"  {counts.skipped:,} rows left out: not a timestamp and a number")

    print()
    wrong = check_groups(cur)

    print(f"\nanalytics  {readings:,} readings of {devices:,} devices in {windows:,} windows, {anomalies:,} anomalies")
    print(f"threshold  {counts.alerts:,} alerts; the web server refused {counts.refused:,} requests on purpose, and "
          f"{counts.again:,} came again after their answer was lost")
    kept = "" if kept else " (removed; KEEP=<folder> keeps it)"
    print(f"archive    {counts.files:,} files, {counts.bytes:,} bytes in {ARCHIVE}{kept}")

    if counts.published == 0:
        wrong.append("nothing was published")
    cur.execute(AGGREGATED)
    aggregated = cur.fetchone()[0]
    if readings != aggregated:
        wrong.append(f"the windows hold {readings:,} readings, not {aggregated:,}")
    if poison:
        wrong.append(f"{poison:,} messages are in the topic of poison")
    return wrong
