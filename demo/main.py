"""The conductor: makes topic and groups, starts publishers and consumers, reports, checks.

Started by demo/run. Exit status 0 if every group got every message once.
"""

import os
import signal
import subprocess
import sys
import time

import report
from common import ARCHIVE, KEEP, PLOT, RETENTION, SEGMENT, SETTINGS, TOPIC, connect, run, setting
from program import SOURCE
from recorder import Recorder

HERE = os.path.dirname(os.path.abspath(__file__))
TICK = 2.0  # seconds between two lines of progress
PATIENCE = 30.0  # seconds without a delivery after which the rest counts as lost
CONSUMERS = ["analytics-1", "analytics-2", "threshold-1", "archiver-1"]


class Programs:
    """The running programs by name; all of them end with this one."""

    def __init__(self):
        self.running = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name):
        self.running[name] = subprocess.Popen([sys.executable, os.path.join(HERE, "program.py"), name])

    def kill(self, name):
        """As a crash would end it."""
        self.running[name].kill()
        self.running[name].wait()

    def alive(self, prefix):
        """How many programs whose name starts like this are running. Ends the demo if one has failed."""
        for name, process in self.running.items():
            if process.poll():
                sys.exit(f"demo: {name} failed with status {process.returncode}")
        return sum(name.startswith(prefix) and p.returncode is None for name, p in self.running.items())


def prepare(cur, zones):
    with open(os.path.join(HERE, "schema.sql"), encoding="utf-8") as file:
        cur.execute("CREATE EXTENSION iotmq;" + file.read())
    cur.execute(
        "SELECT iotmq.create_topic(%s, zones => %s, retention => %s, segment_interval => %s)",
        [TOPIC, zones, RETENTION, SEGMENT],
    )
    for group, tags in (("analytics", "*"), ("threshold", "alarm || battery"), ("archive", "*")):
        cur.execute(
            "SELECT iotmq.create_group(%s, %s, tags => %s, invisible_for => '5 s')", [TOPIC, group, tags]
        )


def faults(cur, programs):
    """Kill a consumer in each way of reading, and cut a publisher's connection."""
    print("        analytics-1 and archiver-1 are killed and started again, publisher 1 is cut off")
    for name in ("analytics-1", "archiver-1"):
        programs.kill(name)
        programs.start(name)
    cur.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'demo publisher 1'")


def watch(cur, programs, recorder):
    """Report and record until the publishers are through and every group has caught up, or does not get on any more."""
    progress = report.Progress(cur)
    start = last_change = time.monotonic()
    fault_at = setting("FAULTS") or None
    before, publishing, lines = None, True, 0
    while True:
        elapsed = time.monotonic() - start
        delivered, lag = progress.line(elapsed)
        recorder.sample()
        if not publishing and not any(lag.values()):
            return
        if publishing or delivered != before:
            before, last_change = delivered, time.monotonic()
        elif time.monotonic() - last_change > PATIENCE:
            report.lag_table(cur)
            print(f"\nno delivery for {PATIENCE:.0f} s: giving up")
            return
        lines += 1
        if lines % 5 == 0:
            report.lag_table(cur)
            progress.header()
        if fault_at and elapsed >= fault_at:
            recorder.mark("killed, cut off")
            faults(cur, programs)
            fault_at = None
        next_line = time.monotonic() + TICK
        while time.monotonic() < next_line and (programs.alive("publisher") or not publishing):
            time.sleep(0.1)
            recorder.sample()
        publishing = programs.alive("publisher")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in SETTINGS:
        setting(name)
    publishers, zones = setting("PUBLISHERS"), SOURCE.zones()
    conn = connect("report")
    conn.autocommit = True
    with conn.cursor() as cur, Programs() as programs:
        prepare(cur, zones)
        for name in CONSUMERS:
            programs.start(name)
        parts = f"{publishers} publishers ({SOURCE.__name__}.py), {len(zones)} zones, {len(report.GROUPS)} groups"
        print(parts)
        for number in range(1, publishers + 1):
            programs.start(f"publisher-{number}")
        recorder = Recorder(conn, report.GROUPS)
        watch(cur, programs, recorder)
    with conn.cursor() as cur:
        wrong = report.check(cur, ARCHIVE, KEEP)
    version = conn.get_parameter_status("server_version").split()[0]
    recorder.draw(PLOT, f"iotmq demo: {parts}", f"PostgreSQL {version}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    print(f"plot       {os.path.abspath(PLOT)}: rates, lag and latency over time")
    print()
    if wrong:
        sys.exit("FAILED: " + "; ".join(wrong))
    print("ok: every group got every message once")


if __name__ == "__main__":
    run("demo", main)
