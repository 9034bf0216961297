"""What the demo prints: a line of progress, the lag table, and in the end the check."""

import glob
import gzip
import json
import os

from psycopg2.extras import execute_values

from common import TOPIC

GROUPS = ("analytics", "threshold", "archive")

COUNTS = """
    SELECT (SELECT coalesce(sum(last_id - first_id + 1), 0) FROM demo.published)::bigint,
           g.consumer_group, g.lag_messages, coalesce(d.messages, 0)::bigint
    FROM iotmq.group_lag AS g
    LEFT JOIN (SELECT consumer_group, sum(messages) AS messages FROM demo.delivered GROUP BY 1) AS d
        USING (consumer_group)
    WHERE g.topic = %s
"""

LAG = """
    SELECT consumer_group, zone, next_offset, stable_offset, end_offset, lag_messages, inflight_messages,
           (extract(epoch FROM lag_time) * 1000)::int
    FROM iotmq.consumer_lag
    WHERE topic = %s
    ORDER BY array_position(%s, consumer_group), zone
"""

# What each group should have got, and what it got.
CHECK = """
    WITH expected AS (
        SELECT generate_series(first_id, last_id) AS id FROM demo.published WHERE NOT %(urgent)s
        UNION ALL
        SELECT unnest(urgent_ids) FROM demo.published WHERE %(urgent)s
    ), delivered AS (
        SELECT id, count(*) AS times
        FROM (
            SELECT unnest(ids) FROM demo.delivered WHERE consumer_group = %(group)s
            UNION ALL
            SELECT id FROM archived WHERE %(group)s = 'archive'
        ) AS receipts (id)
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

PUBLISHED = """
    SELECT coalesce(sum(last_id - first_id + 1), 0)::bigint,
           coalesce(extract(epoch FROM max(at) - min(at)), 0)::float8,
           count(*),
           (SELECT coalesce(sum(rolled_back), 0)::bigint FROM demo.publisher),
           (SELECT coalesce(sum(skipped), 0)::bigint FROM demo.publisher)
    FROM demo.published
"""

RESULTS = """
    SELECT (SELECT coalesce(sum(readings), 0)::bigint FROM demo.device_window),
           (SELECT count(*) FROM demo.device_window),
           (SELECT count(*) FROM demo.device),
           (SELECT count(*) FROM demo.anomaly),
           (SELECT count(*) FROM demo.alert),
           (SELECT coalesce(sum(messages), 0)::bigint FROM demo.archive_file)
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

    def __init__(self, cur):
        self.cur = cur
        self.published = 0
        self.at = 0.0
        self.header()

    def header(self):
        groups = "".join(f"{group:>13}{'lag':>8}" for group in GROUPS)
        print(f"\n{'time':>7}{'published':>12}{'per s':>9}{groups}")

    def line(self, elapsed):
        """Print a line. Returns {group: delivered} and {group: lag}."""
        self.cur.execute(COUNTS, [TOPIC])
        rows = self.cur.fetchall()
        published = rows[0][0]
        lag = {group: lag for _, group, lag, _ in rows}
        delivered = {group: count for _, group, _, count in rows}
        rate = (published - self.published) / max(elapsed - self.at, 0.001)
        groups = "".join(f"{delivered[group]:>13,}{lag[group]:>8,}" for group in GROUPS)
        print(f"{elapsed:>5.0f} s{published:>12,}{rate:>9,.0f}{groups}")
        self.published, self.at = published, elapsed
        return delivered, lag


def lag_table(cur):
    cur.execute(LAG, [TOPIC, list(GROUPS)])
    print("\niotmq.consumer_lag")
    header = ["group", "zone", "next_offset", "stable_offset", "end_offset", "lag", "in flight", "age ms"]
    table(header, cur.fetchall())


def archived_ids(folder):
    """The ids in the archive's files, and how many files and bytes these are."""
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "*", "*.ndjson.gz")))
    ids = []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            ids += [json.loads(line)["payload"]["id"] for line in file]
    return ids, len(paths), sum(map(os.path.getsize, paths))


def check(cur, archive, kept):
    """Compare what was committed with what arrived, print it, and return what is wrong."""
    ids, files, size = archived_ids(archive)
    cur.execute("CREATE TEMPORARY TABLE archived (id bigint)")
    execute_values(cur, "INSERT INTO archived VALUES %s", [(i,) for i in ids], page_size=10000)

    cur.execute(PUBLISHED)
    published, seconds, transactions, rolled_back, skipped = cur.fetchone()
    print(
        f"\npublished {published:,} messages in {transactions:,} transactions and {seconds:.1f} s: "
        f"{published / max(seconds, 0.001):,.0f} messages/s"
    )
    print(f"  {rolled_back:,} were rolled back on purpose, then sent again")
    if skipped:
        print(f"  {skipped:,} rows left out: not a timestamp and a number")

    wrong, rows = [], []
    for group in GROUPS:
        cur.execute(CHECK, {"group": group, "urgent": group == "threshold"})
        counts = cur.fetchone()
        cur.execute(SPEED, {"group": group})
        rate, percentiles = cur.fetchone()
        rows.append((group, *counts, rate or 0, *(percentiles or (None, None))))
        wrong += [f"{group}: {n:,} {what}" for what, n in zip(("lost", "twice", "unknown"), counts[2:]) if n]
    print()
    header = ["group", "expected", "delivered", "lost", "twice", "unknown", "messages/s", "p50 ms", "p99 ms"]
    table(header, rows)
    print("  (p50 and p99: from published_at to receipt)")

    cur.execute(RESULTS)
    readings, windows, devices, anomalies, alerts, recorded = cur.fetchone()
    print(f"\nanalytics  {readings:,} readings of {devices:,} devices in {windows:,} windows, {anomalies:,} anomalies")
    print(f"threshold  {alerts:,} alerts")
    print(f"archive    {files:,} files, {size:,} bytes in {archive}" + ("" if kept else " (removed; KEEP=<folder> keeps it)"))

    if published == 0:
        wrong.append("nothing was published")
    if readings != published:
        wrong.append(f"the windows hold {readings:,} readings, not {published:,}")
    if recorded != len(ids):
        wrong.append(f"the archive holds {len(ids):,} messages, not {recorded:,} as recorded")
    return wrong
