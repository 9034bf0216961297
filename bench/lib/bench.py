"""What the figures share: a database each, pgbench as the client, alternating runs, result rows.

A figure is a module in bench/figures with a function measure() that returns its result rows.
Rates are per second. Progress goes to stderr, only the table goes to stdout.
"""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import psycopg2

SCALE = float(os.environ.get("SCALE") or 1)
RUNS = 3

# 150 bytes, a device's usual report.
PAYLOAD = (
    '{"temperature": 21.48, "humidity": 47.2, "pressure": 1013.25, "battery": 3.71,'
    ' "rssi": -67, "status": "ok", "firmware": "4.2.1", "sequence": 1827364}'
)
DEVICES = 1000

# A plain table with a topic's columns, and the same defaults and indexes as one segment.
BARE = """
CREATE SEQUENCE bare_offset;
CREATE TABLE bare (
    zone text NOT NULL DEFAULT 'default',
    msg_offset bigint NOT NULL DEFAULT nextval('bare_offset'),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    device_id text NOT NULL,
    tag text,
    payload jsonb,
    body bytea,
    properties jsonb
);
CREATE UNIQUE INDEX ON bare (msg_offset);
CREATE INDEX ON bare (device_id, msg_offset);
"""

# One batch of 1,000 messages, kept as arrays as a client would send them.
BATCH = f"""
CREATE TABLE batch AS
    SELECT array_agg('device-' || n) AS device_ids,
           array_agg('{PAYLOAD}'::jsonb) AS payloads
    FROM generate_series(1, {DEVICES}) AS n;
"""

# Loading is not measured (but for its WAL): batches of 1,000, one transaction each.
LOAD = """
CREATE PROCEDURE load_topic(topic text, messages bigint, zone text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
BEGIN
    SELECT * INTO batch FROM public.batch;
    FOR n IN 1 .. messages / 1000 LOOP
        PERFORM iotmq.publish_batch(topic, batch.device_ids, batch.payloads, zone => zone);
        COMMIT;
    END LOOP;
END $$;

CREATE PROCEDURE load_bare(messages bigint) LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
BEGIN
    SELECT * INTO batch FROM public.batch;
    FOR n IN 1 .. messages / 1000 LOOP
        INSERT INTO bare (device_id, payload)
            SELECT * FROM unnest(batch.device_ids, batch.payloads);
        COMMIT;
    END LOOP;
END $$;
"""

# A zone's past: so many segments of the last 40 hours, all of them full and sealed. Publishing
# stamps the server's clock; only a superuser can place rows into other times.
LOAD_PAST = """
CREATE PROCEDURE load_past(topic text, messages bigint, segments int) LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
    width interval := interval '40 hours' / segments;
    start timestamptz := now() - interval '40 hours';
    zone_table regclass := iotmq.zone_table(topic, 'default');
    zone_id int := (SELECT z.zone_id FROM iotmq.zone AS z WHERE z.table_name = zone_table);
    batches bigint := messages / 1000;
    sealed int := 0;
BEGIN
    SELECT * INTO batch FROM public.batch;
    PERFORM iotmq.segment_make_until(zone_id, start, now());
    COMMIT;
    FOR n IN 0 .. batches - 1 LOOP
        EXECUTE format('INSERT INTO %s (device_id, payload, published_at) SELECT *, $3 FROM unnest($1, $2)', zone_table)
            USING batch.device_ids, batch.payloads, start + n * segments / batches * width;
        COMMIT;
    END LOOP;
    FOR step IN 1 .. 3 LOOP             -- each needs a transaction of its own
        sealed := sealed + iotmq.segment_seal(zone_id);
        COMMIT;
    END LOOP;
    ASSERT sealed >= segments, format('%s segments sealed', sealed);
END $$;
"""

# One consumer's loop: take 100, acknowledge them. \aset transfers every row and keeps the last one's columns.
CONSUME = """
\\set lease_id 0
SELECT * FROM iotmq.consume('{topic}', '{group}', 100)
\\aset
\\if :lease_id > 0
SELECT iotmq.ack(:lease_id);
\\endif
"""

# The same without a queue: the reader keeps its own place.
READ_BARE = """
SELECT zone, msg_offset, device_id, tag, payload, body, properties, published_at
FROM bare WHERE msg_offset > :msg_offset ORDER BY msg_offset LIMIT 100
\\aset
"""


@dataclass
class Result:
    """A row of the table. The columns are texts, met is True, False, or None for information only."""

    name: str
    iotmq: str
    bare: str
    ratio: str
    target: str
    met: bool | None


def at_least(name, iotmq, bare, ratio, target, unit="/s"):
    return Result(name, f"{iotmq:,.0f}{unit}", f"{bare:,.0f}{unit}", f"{ratio:.2f}",
                  f"at least {target:.2f}", ratio >= target)


def at_most(name, value, target, unit):
    """A figure that is an absolute value, without a bare counterpart."""
    return Result(name, f"{value:.2f} {unit}", "-", "-", f"at most {target:g} {unit}", value <= target)


def scaled(number, step=1):
    """number of messages, seconds or calls at this run's scale, a multiple of step and not 0"""
    return max(1, round(number * SCALE / step)) * step


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def say(text):
    print(text, file=sys.stderr, flush=True)


def connect(name):
    connection = psycopg2.connect(dbname=name)
    connection.autocommit = True
    return connection


class Database:
    """A database with iotmq, the bare table's and the loaders' definitions."""

    def __init__(self, name):
        self.name = name
        self.connection = connect(name)

    def run(self, statements, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(statements, values or None)

    def value(self, query, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchone()[0]

    def wal(self):
        """bytes of WAL written so far, by the whole cluster: nothing else runs in it"""
        return int(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def new_bare(self):
        self.run("DROP TABLE IF EXISTS bare; DROP SEQUENCE IF EXISTS bare_offset")
        self.run(BARE)

    def new_topic(self, topic, **options):
        """an empty topic, dropped before if it is there"""
        if self.value("SELECT count(*) FROM iotmq.topic_stats WHERE topic = %s", topic):
            self.run("SELECT iotmq.drop_topic(%s, force => true)", topic)
        arguments = "".join(f", {name} => %s" for name in options)
        self.run(f"SELECT iotmq.create_topic(%s{arguments})", topic, *options.values())

    def new_group(self, topic, group, start_from="-infinity"):
        self.run("SELECT iotmq.create_group(%s, %s, start_from => %s)", topic, group, start_from)

    def lag(self, topic):
        """what all groups of the topic together have not settled"""
        return int(self.value("SELECT coalesce(sum(lag_messages), 0) FROM iotmq.group_lag WHERE topic = %s", topic))


@contextlib.contextmanager
def database(name):
    """a database of the figure's own, so that no figure pays for what another left behind"""
    admin = connect("postgres")
    name = "bench_" + name
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    it = Database(name)
    try:
        it.run("CREATE EXTENSION iotmq")
        it.run(BATCH)
        it.run(LOAD)
        yield it
    finally:
        it.connection.close()
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


def pgbench(it, scripts, clients=1, seconds=None, transactions=None, settings="", options=(), **variables):
    """Runs each of the scripts in a pgbench of its own, all at the same time.

    Returns their transactions a second without the time to connect, one of each script.
    """
    scripts = [scripts] if isinstance(scripts, str) else scripts
    environment = dict(os.environ, PGDATABASE=it.name, PGOPTIONS=settings)
    processes = []
    try:
        for script in scripts:
            with tempfile.NamedTemporaryFile("w", suffix=".sql", delete=False) as file:
                file.write(script)
            command = [os.environ.get("PGBENCH", "pgbench"), "-n", "-M", "prepared",
                       "-c", str(clients), "-j", str(min(clients, 2)), "-f", file.name]
            command += ["-T", str(seconds)] if seconds else ["-t", str(transactions)]
            command += options
            for name, value in variables.items():
                command += ["-D", f"{name}={value}"]
            process = subprocess.Popen(command, env=environment, text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process.script = file.name
            processes.append(process)
        return [transactions_per_second(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            os.unlink(process.script)


def transactions_per_second(process):
    output, errors = process.communicate()
    rate = re.search(r"tps = ([\d.]+) \(without initial", output)
    if process.returncode or "aborted" in errors or rate is None:
        raise RuntimeError("pgbench failed:\n" + output + errors)
    return float(rate[1])


def alternate(name, turns=1, **sides):
    """Runs the sides by turns, in changing order, and returns {side: [its value of each run]}.

    A side is called with the numbers of the run and of the turn in it; a run's value is the
    mean of its turns. What disturbs the machine for a while so disturbs both sides.
    """
    values = {side: [] for side in sides}
    for run in range(RUNS):
        parts = {side: [] for side in sides}
        for turn in range(turns):
            for side in list(sides) if (run + turn) % 2 == 0 else reversed(sides):
                parts[side].append(sides[side](run, turn))
        for side in sides:
            values[side].append(statistics.harmonic_mean(parts[side]))
        say(f"{name} {run + 1}/{RUNS}: " + ", ".join(f"{side} {short(values[side][run])}" for side in sides))
    return values


median = statistics.median


def median_ratio(values, others):
    """the median of the runs' ratios, not the ratio of the medians: neighbours in time are compared"""
    return median(value / other for value, other in zip(values, others))
