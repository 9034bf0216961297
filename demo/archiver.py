"""Group "archive": the log as compressed NDJSON files, one per zone and segment.

Pull reading without leases: fetch from the group's position, append to the files, then commit
the position. Each batch is a gzip member of its own, so a file is appended to without being read.
Files are flushed to disk before the position is committed, and each file's valid length is
committed with it. Whatever a crash leaves beyond that length is cut off at the next append, so
files and position always agree: nothing is missing and nothing is there twice.
"""

import gzip
import os
import sys
import time
from datetime import timezone

from common import ARCHIVE, TOPIC, connect, setting
from consumer import receipt

POLL = 0.1  # seconds

POSITIONS = """
    SELECT zone, next_offset, stable_offset
    FROM iotmq.consumer_lag
    WHERE topic = %s AND consumer_group = %s AND next_offset < stable_offset
"""

FETCH = """
    SELECT msg_offset, published_at, extract(epoch FROM published_at)::float8,
           json_build_object('zone', zone, 'offset', msg_offset, 'device', device_id, 'tag', tag,
                             'published_at', published_at, 'payload', payload, 'properties', properties,
                             'body', encode(body, 'base64'))::text
    FROM iotmq.fetch(%s, %s, %s, %s)
"""

# A zone's segments are the partitions of its table.
SEGMENTS = """
    SELECT bound[1]::timestamptz, bound[2]::timestamptz
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid
    CROSS JOIN regexp_match(pg_get_expr(relpartbound, pg_class.oid), $$FROM \\('(.+)'\\) TO \\('(.+)'\\)$$) AS bound
    WHERE inhparent = iotmq.zone_table(%s, %s)
"""

RECORD = """
    INSERT INTO demo.archive_file AS f (path, messages, bytes)
    VALUES (%s, %s, %s)
    ON CONFLICT (path) DO UPDATE SET messages = f.messages + excluded.messages, bytes = excluded.bytes
"""


def sync_folder(path):
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def append(path, valid, lines):
    """Cut the file to its valid length, append the lines as one gzip member, return the new length."""
    is_new = not os.path.exists(path)
    if is_new:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        file.truncate(valid)
        file.write(gzip.compress("".join(line + "\n" for line in lines).encode()))
        file.flush()
        os.fsync(file.fileno())
        length = file.tell()
    if is_new:
        sync_folder(os.path.dirname(path))
        sync_folder(os.path.dirname(os.path.dirname(path)))
    return length


class Archiver:
    def __init__(self, name):
        self.size = setting("BATCH")
        self.conn = connect(name)
        self.segments = {}  # zone: [(from, to)]
        with self.conn, self.conn.cursor() as cur:
            # One archiver at a time: a crashed one's last COMMIT may be under way still.
            cur.execute("SELECT pg_advisory_lock('demo.archive_file'::regclass::bigint)")
            cur.execute("SELECT path, bytes FROM demo.archive_file")
            self.valid = dict(cur.fetchall())

    def round(self):
        """Archive one batch of each zone that has something; false if none has."""
        with self.conn, self.conn.cursor() as cur:
            cur.execute(POSITIONS, [TOPIC, "archive"])
            zones = cur.fetchall()
        for zone, position, stable in zones:
            with self.conn, self.conn.cursor() as cur:
                lengths = self.batch(cur, zone, position, stable)
            self.valid.update(lengths)
        return bool(zones)

    def batch(self, cur, zone, position, stable):
        cur.execute(FETCH, [TOPIC, zone, position, self.size])
        received = time.time()
        rows = cur.fetchall()
        files = {}
        for _, published_at, _, line in rows:
            files.setdefault(self.path(cur, zone, published_at), []).append(line)
        lengths = {}
        for path, lines in files.items():
            lengths[path] = append(os.path.join(ARCHIVE, path), self.valid.get(path, 0), lines)
            cur.execute(RECORD, [path, len(lines), lengths[path]])
        if rows:
            position = rows[-1][0] + 1
            receipt(cur, "archive", received, [published for _, _, published, _ in rows])
        else:
            position = stable  # it was known before the fetch: there are only holes below it
        cur.execute("SELECT iotmq.commit_offset(%s, %s, %s, %s)", [TOPIC, "archive", zone, position])
        return lengths

    def path(self, cur, zone, published_at):
        """The file of the segment that holds this moment."""
        for _ in range(2):  # with what is known, then with what is new
            for start, end in self.segments.get(zone, []):
                if start <= published_at < end:
                    return f"{zone}/{start.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}.ndjson.gz"
            cur.execute(SEGMENTS, [TOPIC, zone])
            self.segments[zone] = cur.fetchall()
        sys.exit(f"archiver: zone {zone} has no segment for {published_at}")


def work(name, stopping):
    archiver = Archiver(name)
    while not stopping:
        if not archiver.round():
            time.sleep(POLL)
