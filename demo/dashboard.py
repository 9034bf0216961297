"""Runs the demo under Prometheus and draws what Grafana's dashboard shows of it.

Started by demo/pictures. One SVG for each row of monitoring/dashboard.json, in the folder PICTURES,
and the demo's own plot. It fails if a panel has nothing to show.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from common import HERE, connect, run
from mqtt import free_port
from plot import Line, Panel, draw
from trouble import Trouble

MONITORING = os.path.join(HERE, "..", "monitoring")
PICTURES = os.environ["PICTURES"]
SCRAPES = 2  # seconds from one to the next
RATE_OVER = "12s"  # what Grafana would take for $__rate_interval
UNITS = {"ms": "ms", "bytes": "bytes", "ops": "messages/s", "short": "messages", "none": ""}

# Those that only tell of the server, by the names of Debian 12's version.
EXPORTER = ["--disable-default-metrics", "--disable-settings-metrics", "--no-collector.bgwriter", "--no-collector.database"]

CONFIGURATION = """
global: {{scrape_interval: {every}s, scrape_timeout: {every}s}}
scrape_configs:
  - job_name: iotmq
    static_configs:
      - targets: ['127.0.0.1:{port}']
        labels: {{instance: 'localhost:9187'}}
"""


def answers(url, process):
    """Wait until a server that was started answers there."""
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    process.kill()
    sys.exit(f"pictures: {process.args[0]} doesn't answer")


def start_exporter():
    with connect("pictures") as conn, conn.cursor() as cur:
        cur.execute("CREATE ROLE prometheus LOGIN; SELECT iotmq.grant_monitor('prometheus')")
    port = free_port()
    source = f"user=prometheus dbname={os.environ['PGDATABASE']} host={os.environ['PGHOST']} port={os.environ['PGPORT']}"
    process = subprocess.Popen(
        ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{port}",
         f"--extend.query-path={MONITORING}/queries.yaml", *EXPORTER],
        env={**os.environ, "DATA_SOURCE_NAME": source + " sslmode=disable"},
        stderr=subprocess.DEVNULL,
    )
    answers(f"http://127.0.0.1:{port}/", process)
    return process, port


def start_prometheus(folder, exporter_port):
    port = free_port()
    with open(os.path.join(folder, "prometheus.yml"), "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(every=SCRAPES, port=exporter_port))
    process = subprocess.Popen(
        ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )
    answers(f"http://127.0.0.1:{port}/-/ready", process)
    return process, f"http://127.0.0.1:{port}"


class Dashboard:
    """Grafana's part: what the panels ask for, and how it is drawn."""

    def __init__(self, prometheus, first, last):
        self.prometheus, self.first, self.last = prometheus, first, last
        with open(os.path.join(MONITORING, "dashboard.json"), encoding="utf-8") as file:
            self.panels = json.load(file)["panels"]

    def rows(self):
        """Each row's title, with its panels."""
        rows = []
        for panel in self.panels:
            if panel["type"] == "row":
                rows.append((panel["title"], []))
            else:
                rows[-1][1].append(panel)
        return rows

    def panel(self, panel):
        lines = [line for target in panel["targets"] for line in self.lines(target)]
        look = panel["fieldConfig"]["defaults"]
        stacked = look["custom"]["stacking"]["mode"] != "none"
        steps = look["custom"].get("lineInterpolation") == "stepAfter"
        span = (0, self.last - self.first)
        return Panel(panel["title"], lines, unit=UNITS[look["unit"]], span=span, stacked=stacked, steps=steps)

    def lines(self, target):
        expression = target["expr"].replace("$__rate_interval", RATE_OVER)
        expression = re.sub(r"\$(topic|consumer_group)\b", ".*", expression)
        parameters = urllib.parse.urlencode({"query": expression, "start": self.first, "end": self.last, "step": SCRAPES})
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query_range?{parameters}", timeout=60) as answer:
            series = json.load(answer)["data"]["result"]
        steps = range(int((self.last - self.first) / SCRAPES) + 1)
        for one in series:
            values = {round((at - self.first) / SCRAPES): float(value) for at, value in one["values"]}
            label = re.sub(r"\{\{(\w+)\}\}", lambda name: one["metric"].get(name[1], ""), target["legendFormat"])
            yield Line(label.strip(" /"), [(step * SCRAPES, values.get(step)) for step in steps])


def main():
    os.makedirs(PICTURES, exist_ok=True)
    demo = subprocess.Popen([sys.executable, os.path.join(HERE, "main.py")])
    with tempfile.TemporaryDirectory() as folder:
        running = [demo]
        try:
            conn = connect("pictures")
            with conn.cursor() as cur:
                # the demo makes the extension and, last, its groups
                while demo.poll() is None:
                    cur.execute("SELECT count(*) FROM pg_extension WHERE extname = 'iotmq'")
                    if cur.fetchone()[0]:
                        break
                    time.sleep(0.1)
            exporter, port = start_exporter()
            running.append(exporter)
            prometheus, url = start_prometheus(folder, port)
            running.append(prometheus)
            first = time.time()
            trouble = Trouble()
            status = demo.wait()
            trouble.end()
            if status:
                sys.exit("pictures: the demo failed")
            dashboard = Dashboard(url, first, time.time())
            version = conn.get_parameter_status("server_version").split()[0]
            note = f"PostgreSQL {version}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}; a figure each {SCRAPES} s"
            empty = []
            for title, panels in dashboard.rows():
                path = os.path.join(PICTURES, f"dashboard-{title.lower().replace(' ', '-')}.svg")
                drawn = [dashboard.panel(panel) for panel in panels]
                draw(path, title, drawn, note=note)
                print(f"pictures   {path}")
                empty += [panel.title for panel in drawn if not panel.lines]
            if empty:
                sys.exit("pictures: nothing to show in " + ", ".join(empty))
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    run("pictures", main)
