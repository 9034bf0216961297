"""What the figures share: a database, pgbench as the client, alternating runs, rows of the table.

A figure is a module in bench/figures with a function measure(it), which gets a Database of its
own and returns its rows. Rates are per second. Progress goes to stderr, only the table to stdout.
"""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import psycopg2

SCALE = float(os.environ.get("SCALE") or 1)
QUICK = SCALE <= 0.01       # to see that all works: no figure says anything
RUNS = 1 if QUICK else 3

# 150 bytes, a device's usual report.
PAYLOAD = (
    '{"temperature": 21.48, "humidity": 47.2, "pressure": 1013.25, "battery": 3.71,'
    ' "rssi": -67, "status": "ok", "firmware": "4.2.1", "sequence": 1827364}'
)
DEVICES = 1000
SETUP = os.path.join(os.path.dirname(__file__), "setup.sql")

median = statistics.median


def scaled(number, step=1):
    """number of messages, seconds or calls at this run's scale, a multiple of step and not 0"""
    return max(1, round(number * SCALE / step)) * step


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def say(text):
    print(text, file=sys.stderr, flush=True)


def consume(topic, group, batch=100):
    """pgbench's script of a consumer: take a batch, acknowledge it

    \\aset transfers every row and keeps the last one's columns.
    """
    return f"""
\\set lease_id 0
SELECT * FROM iotmq.consume('{topic}', '{group}', {batch})
\\aset
\\if :lease_id > 0
SELECT iotmq.ack(:lease_id);
\\endif
"""


def consume_and_ack(topic, group, batch):
    """the same in one statement, which acknowledges the last batch and takes the next; the variable lease_id is 0 at first"""
    return f"""
\\if :lease_id = 0
SELECT * FROM iotmq.consume('{topic}', '{group}', {batch})
\\aset
\\else
SELECT * FROM iotmq.consume('{topic}', '{group}', {batch}, ack_lease => :lease_id)
\\aset
\\endif
"""


def read_bare(batch):
    """without a queue: the reader keeps its own place"""
    return f"""
SELECT zone, msg_offset, device_id, tag, payload, body, properties, published_at
FROM bare WHERE msg_offset > :msg_offset ORDER BY msg_offset LIMIT {batch}
\\aset
"""


def alternate(name, turns=1, **sides):
    """Runs the sides by turns, in changing order, and returns {side: [its value of each run]}.

    A run's value is the mean of its turns. What disturbs the machine for a while so disturbs
    both sides.
    """
    if QUICK:
        turns = 1
    values = {side: [] for side in sides}
    for run in range(RUNS):
        parts = {side: [] for side in sides}
        for turn in range(turns):
            for side in list(sides) if (run + turn) % 2 == 0 else reversed(sides):
                parts[side].append(sides[side]())
        for side in sides:
            values[side].append(statistics.harmonic_mean(parts[side]))
        say(f"{name} {run + 1}/{RUNS}: " + ", ".join(f"{side} {short(values[side][run])}" for side in sides))
    return values


def median_ratio(values, others):
    """the median of the runs' ratios, not the ratio of the medians: neighbours in time are compared"""
    return median(value / other for value, other in zip(values, others))


@dataclass
class Row:
    """A row of the table. The columns are texts, met is True, False, or None for information only."""

    name: str
    iotmq: str
    bare: str
    ratio: str
    target: str
    met: bool | None


def at_least(name, values, others, target):
    """rates of all runs against others', which are to be at least so many times as high"""
    ratio = median_ratio(values, others)
    return Row(name, f"{median(values):,.0f}/s", f"{median(others):,.0f}/s", f"{ratio:.2f}",
               f"at least {target:.2f}", ratio >= target)


def at_most(name, values, target, unit):
    """values of all runs, without a bare counterpart; target is None for information only"""
    value = median(values)
    return Row(name, f"{short(value)} {unit}", "-", "-", f"at most {target:g} {unit}" if target else "-",
               value <= target if target else None)


def compare(name, target, turns=1, **sides):
    """the row of two sides' rates, of which the first is to be at least target times the second"""
    return at_least(name, *alternate(name, turns, **sides).values(), target)


def machine():
    """one line that says where this was measured, and what else went on there"""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    connection = connect("postgres")
    version = connection.get_parameter_status("server_version").split()[0]
    connection.close()
    return (f"{models[0] if models else os.uname().machine}, {os.cpu_count()} cores, {gigabytes:.0f} GB, "
            f"PostgreSQL {version}, {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[2]:.1f}"
            + (f", scale {SCALE:g}" if SCALE != 1 else ""))


def connect(name):
    connection = psycopg2.connect(dbname=name)
    connection.autocommit = True
    return connection


@contextlib.contextmanager
def database(name):
    """a Database for one figure, so that none pays for what another left behind"""
    admin = connect("postgres")
    name = "bench_" + name
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    it = Database(name)
    try:
        yield it
    finally:
        it.connection.close()
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


class Database:
    """A database with iotmq and what setup.sql defines."""

    def __init__(self, name):
        self.name = name
        self.connection = connect(name)
        self.run("CREATE EXTENSION iotmq")
        with open(SETUP) as file:
            self.run(file.read())
        self.run("INSERT INTO batch SELECT array_agg('device-' || n), array_agg(%s::jsonb) "
                 "FROM generate_series(1, %s) AS n", PAYLOAD, DEVICES)

    def run(self, statements, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(statements, values or None)

    def value(self, query, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchone()[0]

    def new_topic(self, topic, **options):
        """an empty topic, dropped before if it is there"""
        if self.value("SELECT count(*) FROM iotmq.topic_stats WHERE topic = %s", topic):
            self.run("SELECT iotmq.drop_topic(%s, force => true)", topic)
        arguments = "".join(f", {name} => %s" for name in options)
        self.run(f"SELECT iotmq.create_topic(%s{arguments})", topic, *options.values())

    def new_group(self, topic, group, start_from="-infinity", mode="concurrent"):
        self.run("SELECT iotmq.create_group(%s, %s, start_from => %s, mode => %s)", topic, group, start_from, mode)

    def vacuum(self):
        """hint bits and statistics, so that no run does it for the others"""
        self.run("VACUUM ANALYZE")
        self.run("CHECKPOINT")

    def wal(self):
        """bytes of WAL written so far, by the whole cluster: nothing else runs in it"""
        return int(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def lag(self, topic, group=None):
        """what the group, or all groups of the topic together, have not settled"""
        return int(self.value("SELECT coalesce(sum(lag_messages), 0) FROM iotmq.group_lag "
                              "WHERE topic = %s AND consumer_group = coalesce(%s, consumer_group)", topic, group))

    def pgbench(self, *scripts, clients=1, seconds=None, transactions=None, settings="", options=(), **variables):
        """Runs each of the scripts in a pgbench of its own, all at the same time.

        Returns the sum of their transactions a second, without the time to connect.
        """
        command = ["pgbench", "-n", "-M", "prepared", "-f", "-", "-c", str(clients), "-j", str(min(clients, 2)), *options]
        command += ["-T", str(seconds)] if seconds else ["-t", str(transactions)]
        for name, value in variables.items():
            command += ["-D", f"{name}={value}"]
        environment = dict(os.environ, PGDATABASE=self.name, PGOPTIONS=settings)
        processes = []
        try:
            for script in scripts:
                with tempfile.TemporaryFile("w+") as file:
                    file.write(script)
                    file.seek(0)
                    processes.append(subprocess.Popen(command, env=environment, text=True, stdin=file,
                                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            return sum(map(transactions_per_second, processes))
        finally:
            for process in processes:
                process.kill()

    def drain(self, topic, group, messages, script=consume, batch=100):
        """messages a second that one consumer reads and acknowledges in batches, so many in all"""
        before = self.lag(topic, group)
        rate = self.pgbench(script(topic, group, batch), transactions=messages // batch, lease_id=0)
        self.run("SELECT count(iotmq.ack(lease_id)) FROM iotmq.in_flight")
        # messages, not batches: one may be shorter at a segment's end
        return rate * (before - self.lag(topic, group)) / (messages // batch)

    def settled(self, topic, group, script, seconds, clients=1):
        """messages a second that the group's consumers settle, from the beginning of the log on"""
        self.run("SELECT iotmq.seek(%s, %s, '-infinity')", topic, group)
        before = self.lag(topic, group)
        self.pgbench(script, seconds=seconds, clients=clients)
        return (before - self.lag(topic, group)) / seconds


def transactions_per_second(process):
    output, errors = process.communicate()
    rate = re.search(r"tps = ([\d.]+) \(without initial", output)
    if process.returncode or "aborted" in errors or rate is None:
        raise RuntimeError("pgbench failed:\n" + output + errors)
    return float(rate[1])
