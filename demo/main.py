"""The conductor: makes topic and groups, starts the pipeline's programs, reports, checks.

Started by demo/run. Exit status 0 if every group got every message once.
"""

import os
import signal
import subprocess
import sys
import time

import psycopg2

import report
from common import CLIENT, DATA, GROUPS, HERE, KEEP, PLOT, POISON, RETENTION, SEGMENT, SETTINGS, TOPIC, connect, is_lost, run, setting
from counts import Counts
from disaster import Disaster
from faults import Faults
from program import SOURCE
from programs import Programs
from recorder import Recorder

TICK = 2.0  # seconds between two lines of progress
PATIENCE = 30.0  # seconds without a delivery after which the rest counts as lost
CONSUMERS = ["analytics-1", "analytics-2", "webhook", "archive"]


class Link:
    """A connection that is made again when it was lost."""

    def __init__(self):
        self.conn = connect("report")

    def query(self, query, parameters=None):
        """The rows; None while the database is away."""
        try:
            if self.conn is None or self.conn.closed:
                self.conn = connect("report")
            with self.conn.cursor() as cur:
                cur.execute(query, parameters)
                return cur.fetchall()
        except psycopg2.Error as error:
            if not is_lost(error):
                raise
            self.conn = None
            return None


def prepare(cur, zones):
    cur.execute("CREATE EXTENSION iotmq")
    for name in ("schema.sql", "analytics.sql"):
        with open(os.path.join(HERE, name), encoding="utf-8") as file:
            cur.execute(file.read())
    cur.execute(
        "SELECT iotmq.create_topic(%s, zones => %s, retention => %s, segment_interval => %s,"
        " dedup_window => least(%s::interval, '1 hour')), iotmq.create_topic(%s)",
        [TOPIC, zones, RETENTION, SEGMENT, RETENTION, POISON],
    )
    for group in GROUPS:
        cur.execute(
            "SELECT iotmq.create_group(%s, %s, tags => %s, invisible_for => '5 s', backoff => '{300 ms}', max_retries => 100)",
            [TOPIC, group, "alarm || battery" if group == "threshold" else "*"],
        )


def start(programs):
    """Each part when what it needs is there; the fleet last."""
    for name in ("broker", "web-server", "bridge"):
        programs.start_and_wait(name)
    for name in CONSUMERS:
        programs.start(name)
    for number in range(1, setting("PUBLISHERS") + 1):
        programs.start(f"publisher-{number}")


def goes_on(programs, faults):
    """Whether messages come, or something is to happen to them."""
    return programs.alive("publisher") > 0 or not faults.over()


def watch(programs, faults, progress, recorder):
    """Report and record until the fleet is through and every group has all, or does not get on any more."""
    begin = last_change = time.monotonic()
    before, publishing, lines = None, True, 0
    while True:
        delivered, missing = progress.line(time.monotonic() - begin)
        if not publishing and missing == 0:
            return
        if publishing or delivered != before:
            before, last_change = delivered, time.monotonic()
        elif time.monotonic() - last_change > PATIENCE:
            report.lag_table()
            print(f"\nno delivery for {PATIENCE:.0f} s: giving up")
            return
        lines += 1
        if lines % 5 == 0:
            report.lag_table()
            progress.header()
        next_line = time.monotonic() + TICK
        while time.monotonic() < next_line and (goes_on(programs, faults) or not publishing):
            time.sleep(0.1)
            recorder.sample()
            if publishing:
                faults.step(time.monotonic() - begin)
            programs.look()
        publishing = goes_on(programs, faults)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in SETTINGS:
        setting(name)
    regions = setting("REGIONS")
    if regions > 1 and (DATA or setting("FAULTS")):
        sys.exit("demo: REGIONS=2 comes with a simulated fleet and a fault of its own: no DATA, no FAULTS")
    subprocess.run(["make", "-s", "-j", str(os.cpu_count()), "-C", CLIENT], check=True)
    zones, counts, link = SOURCE.zones(), Counts(), Link()
    with Programs() as programs:
        faults = Disaster(programs, counts, zones) if regions > 1 else Faults(programs, counts)
        with link.conn.cursor() as cur:
            prepare(cur, zones)
        faults.prepare()
        start(programs)
        parts = f"{setting('PUBLISHERS')} gateways ({SOURCE.__name__}.py), {len(zones)} zones, {len(GROUPS)} groups{faults.where}"
        print(parts)
        faults.recorder = recorder = Recorder(link.query)
        faults.progress = progress = report.Progress(link.query, counts, faults.missing)
        watch(programs, faults, progress, recorder)
        for name in ("bridge", *CONSUMERS):
            programs.end(name)
        wrong = faults.gather()
    conn = connect("report")
    with conn.cursor() as cur:
        counts.look()
        counts.load(cur)
        wrong += report.check(cur, counts, KEEP, faults.check)
        version = conn.get_parameter_status("server_version").split()[0]
        recorder.draw(PLOT, f"iotmq demo: {parts}", f"PostgreSQL {version}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    print(f"plot       {os.path.abspath(PLOT)}: rates, lag and latency over time")
    print()
    if wrong:
        sys.exit("FAILED: " + "; ".join(wrong))
    print(f"ok: {faults.ok}")


if __name__ == "__main__":
    run("demo", main)
