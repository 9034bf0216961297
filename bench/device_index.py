"""An experiment, not a figure: what other access paths to a device's messages would cost.

    tools/cluster with "$(mktemp -d)" 'shared_buffers = 32MB' 'max_wal_size = 8GB' -- \\
        /usr/bin/python3 bench/device_index.py

Plain tables with a segment's columns, each with its primary key and one candidate, take the same
messages of random devices in batches of 1,000, by turns. Times are the backend's CPU time,
which other work on the machine changes less than the clock's. The result is Markdown on stdout.
"""

import os
import statistics
import time

import psycopg2

MESSAGES = int(os.environ.get("MESSAGES") or 500_000)
DEVICES = int(os.environ.get("DEVICES") or 1_000_000)
TURN = 50_000              # messages
LOOKS = 200                 # for one device each

# name, the index while the segment is open, and the one that is built when it is sealed
CANDIDATES = [
    ("none", None, None),
    ("btree (device_id, msg_offset)", "USING btree (device_id, msg_offset)", None),
    ("hash (device_id)", "USING hash (device_id)", None),
    ("BRIN bloom (device_id), 32 pages", "USING brin (device_id text_bloom_ops) WITH (pages_per_range = 32, autosummarize = off)", None),
    ("BRIN bloom (device_id), 128 pages", "USING brin (device_id text_bloom_ops) WITH (pages_per_range = 128, autosummarize = off)", None),
    ("none, btree when sealed", None, "USING btree (device_id, msg_offset)"),
    ("none, hash when sealed", None, "USING hash (device_id)"),
]

PAYLOAD = (
    '{"temperature": 21.48, "humidity": 47.2, "pressure": 1013.25, "battery": 3.71,'
    ' "rssi": -67, "status": "ok", "firmware": "4.2.1", "sequence": 1827364}'
)

FILL = """
DO $$
DECLARE
    ids text[];
BEGIN
    PERFORM setseed(%(seed)s);
    FOR n IN 1 .. %(batches)s LOOP
        ids := ARRAY(SELECT 'device-' || floor(random() * %(devices)s) FROM generate_series(1, 1000));
        %(insert)s
        COMMIT;
    END LOOP;
END $$
"""

# As messages_of_device has to: the newest first.
LOOK = "SELECT msg_offset, payload FROM t%d WHERE device_id = 'device-' || %%s ORDER BY msg_offset DESC LIMIT 64"


class Session:
    def __init__(self):
        self.connection = psycopg2.connect(dbname="postgres")
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.pid = self.value("SELECT pg_backend_pid()")

    def run(self, statement, *values):
        self.cursor.execute(statement, values or None)

    def value(self, query, *values):
        self.run(query, *values)
        return self.cursor.fetchone()[0]

    def cpu(self):
        """seconds of CPU time that the backend has used"""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost(self, statement, *values):
        """(CPU seconds, bytes of WAL) of a statement"""
        cpu, wal = self.cpu(), self.value("SELECT pg_current_wal_insert_lsn() - '0/0'")
        self.run(statement, *values)
        return self.cpu() - cpu, self.value("SELECT pg_current_wal_insert_lsn() - '0/0'") - wal


def fill(session, table, turn):
    insert = "" if table is None else f"INSERT INTO t{table} (device_id, payload) SELECT unnest(ids), '{PAYLOAD}'::jsonb;"
    return session.cost(FILL % {"seed": turn / 1000, "batches": TURN // 1000, "devices": DEVICES, "insert": insert})


def looks(session, table, devices):
    """milliseconds of a look, by the clock: pages have to be read, too"""
    times = []
    for device in devices:
        started = time.monotonic()
        session.run(LOOK % table, device)
        session.cursor.fetchall()
        times.append(1000 * (time.monotonic() - started))
    return statistics.median(times)


def main():
    session = Session()
    n = len(CANDIDATES)
    for i, (_, index, _) in enumerate(CANDIDATES):
        session.run(f"""CREATE TABLE t{i} (zone text NOT NULL DEFAULT 'default',
            msg_offset bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, published_at timestamptz NOT NULL DEFAULT now(),
            device_id text NOT NULL, tag text, payload jsonb, body bytea, properties jsonb)""")
        if index:
            session.run(f"CREATE INDEX t{i}_device ON t{i} {index}")
    cpu, wal = [0.0] * n, [0] * n
    for turn in range(MESSAGES // TURN):
        nothing, _ = fill(session, None, turn)      # making up the devices' names
        for k in range(n):
            i = (k + turn) % n
            seconds, written = fill(session, i, turn)
            cpu[i] += seconds - nothing
            wal[i] += int(written)
            # as autovacuum would, for what is full
            if CANDIDATES[i][1] and "brin" in CANDIDATES[i][1]:
                seconds, written = session.cost(f"SELECT brin_summarize_new_values('t{i}_device')")
                cpu[i] += seconds
                wal[i] += int(written)
    print(f"{MESSAGES:,} messages of {DEVICES:,} devices\n")
    print("| index | us a message | WAL bytes a message | index MB | built in us a message | device with messages | silent device |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for i, (name, index, later) in enumerate(CANDIDATES):
        built = ""
        if later:
            seconds, written = session.cost(f"CREATE INDEX t{i}_device ON t{i} {later}")
            built = f"{1e6 * seconds / MESSAGES:.2f}, {int(written) / MESSAGES:.0f} bytes of WAL"
        session.run(f"VACUUM ANALYZE t{i}")
        count = LOOKS if index or later else 3
        if index and "brin" in index:
            count = 10
        size = session.value(f"SELECT coalesce(pg_relation_size(to_regclass('t{i}_device')), 0)")
        times = [looks(session, i, range(first, first + 7 * count, 7)) for first in (1000, DEVICES + 1000)]
        print(f"| {name} | {1e6 * cpu[i] / MESSAGES:.2f} | {wal[i] / MESSAGES:.0f} | {int(size) / 2**20:.0f} | {built} "
              f"| {times[0]:.2f} ms | {times[1]:.2f} ms |", flush=True)


if __name__ == "__main__":
    main()
