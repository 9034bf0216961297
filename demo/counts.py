"""What was published and what arrived, by what the programs leave: ledgers, receipts, files.

These are read while the demo runs, for the lines of progress; in the end they are loaded into the
database, for the final count.
"""

import glob
import gzip
import json
import os

from psycopg2.extras import execute_values

from common import ARCHIVE, GROUPS, LEDGERS, RECEIPTS, TOPIC


class Lines:
    """The lines of JSON that were added to a file since the last look."""

    def __init__(self, path):
        self.path = path
        self.read = 0

    def new(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, "rb") as file:
            file.seek(self.read)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self.read += len(text)
        return [json.loads(line) for line in text.splitlines()]


class Counts:
    def __init__(self):
        self.published = self.urgent = self.skipped = self.connections = 0
        self.gateways = 0
        self.delivered = {"threshold": 0, "archive": 0}
        self.refused = self.again = self.alerts = 0  # of the web server
        self.files = self.bytes = 0
        self._ledgers, self._receipts, self._files = {}, Lines(RECEIPTS), set()
        self._published, self._delivered = [], []  # rows of the tables

    def look(self):
        for path in glob.glob(os.path.join(LEDGERS, "*")):
            for entry in self._ledgers.setdefault(path, Lines(path)).new():
                self._take_ledger(entry)
        self.gateways = len(self._ledgers)
        for entry in self._receipts.new():
            self._take_receipt(entry)
        for path in glob.glob(os.path.join(glob.escape(ARCHIVE), TOPIC, "*", "*.ndjson.gz")):
            if path not in self._files:
                self._files.add(path)
                self._take_file(path)

    def missing(self, delivered):
        """How many messages are still to be delivered, of {group: delivered}."""
        wanted = {"analytics": self.published, "archive": self.published, "threshold": self.urgent}
        return sum(max(wanted[group] - delivered[group], 0) for group in GROUPS)

    def _take_ledger(self, entry):
        if "skipped" in entry:
            self.skipped += entry["skipped"]
            self.connections += entry["connections"]
            return
        self.published += entry["last"] - entry["first"] + 1
        self.urgent += len(entry["urgent"])
        self._published.append((entry["first"], entry["last"], entry["urgent"], entry["at"]))

    def _take_receipt(self, entry):
        self.refused += "refused" in entry
        self.again += "again" in entry
        if "key" in entry:
            self.alerts += entry["alert"] is not None
            self._deliver("threshold", [entry["id"]], [entry["sent"]], entry["at"])

    def _take_file(self, path):
        self.files += 1
        status = os.stat(path)
        self.bytes += status.st_size
        with gzip.open(path, "rt", encoding="utf-8") as file:
            payloads = [json.loads(line)["payload"] for line in file]
        self._deliver("archive", [p["id"] for p in payloads], [p["sent"] for p in payloads], status.st_mtime)

    def _deliver(self, group, ids, sent, at):
        self.delivered[group] += len(ids)
        latency = [round(1000 * (at - moment), 2) for moment in sent]
        self._delivered.append((group, len(ids), ids, latency, at))

    def load(self, cur):
        execute_values(
            cur, "INSERT INTO demo.published VALUES %s", self._published,
            template="(%s, %s, %s::bigint[], to_timestamp(%s))", page_size=1000)
        execute_values(
            cur, "INSERT INTO demo.delivered VALUES %s", self._delivered,
            template="(%s, %s, %s::bigint[], %s::real[], to_timestamp(%s))", page_size=1000)
