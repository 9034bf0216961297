"""A region: a PostgreSQL server of its own, which can fall and come back."""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg2
from psycopg2.extras import execute_values

PATIENCE = 60.0  # seconds for its processes to be gone


class Region:
    def __init__(self, name, host, port):
        self.name = name
        self.environment = {"PGHOST": host, "PGPORT": port}
        self.notices = []  # of the last query
        self.data = self.query("SELECT current_setting('data_directory')")[0][0]

    @contextlib.contextmanager
    def connection(self):
        """Each query has its own: none is lost when the region falls."""
        conn = psycopg2.connect(
            host=self.environment["PGHOST"], port=self.environment["PGPORT"], application_name="demo conductor")
        conn.autocommit = True
        try:
            yield conn
        finally:
            conn.close()

    def query(self, query, parameters=None):
        """Its rows, if it has some."""
        with self.connection() as conn, conn.cursor() as cur:
            cur.execute(query, parameters)
            self.notices = [line.strip() for notice in conn.notices for line in notice.splitlines()]
            return cur.fetchall() if cur.description else []

    def insert(self, table, rows):
        with self.connection() as conn, conn.cursor() as cur:
            execute_values(cur, f"INSERT INTO {table} VALUES %s", rows, page_size=1000)

    def copy(self, what, other, table):
        """Into a table of another region, which has the columns of that query or table."""
        with tempfile.TemporaryFile() as file:
            for region, command in ((self, f"COPY {what} TO STDOUT"), (other, f"COPY {table} FROM STDIN")):
                file.seek(0)
                with region.connection() as conn, conn.cursor() as cur:
                    cur.copy_expert(command, file)

    def kill(self):
        """All of its processes at once, by SIGKILL: nothing is written, nobody is told."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            postmaster = int(file.readline())
        os.kill(postmaster, signal.SIGSTOP)  # else it would start others meanwhile
        processes = [*children(postmaster), postmaster]
        for pid in processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it has ended by itself
                pass
        end = time.monotonic() + PATIENCE
        while any(is_running(pid) for pid in processes):
            if time.monotonic() > end:
                raise SystemExit(f"demo: the server of region {self.name} does not end")
            time.sleep(0.01)

    def start(self):
        """The server starts and recovers, as after a crash. Root can't start it: its owner does."""
        command = [shutil.which("pg_ctl"), "-D", self.data, "-l", os.path.join(self.data, "server.log"), "-s", "-w", "start"]
        if os.getuid() == 0:
            command = ["runuser", "-u", pwd.getpwuid(os.stat(self.data).st_uid).pw_name, "--", *command]
        started = subprocess.run(command, cwd=self.data, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if started.returncode:
            raise SystemExit(f"demo: region {self.name} does not start: {started.stderr}")


def status(pid):
    """Its state and its parent, None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            return state, int(parent)
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(parent):
    pids = [int(os.path.basename(path)) for path in glob.glob("/proc/[0-9]*")]
    return [pid for pid in pids if (found := status(pid)) and found[1] == parent]


def is_running(pid):
    found = status(pid)
    return found is not None and found[0] not in "ZX"
