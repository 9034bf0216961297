"""A PostgreSQL of a round's own, which faults happen to."""

import ctypes
import os
import signal
import subprocess
import time

import psycopg2

SETTINGS = """
listen_addresses = ''
fsync = off
max_prepared_transactions = 20
max_connections = 60
log_min_messages = warning
"""     # fsync: no fault here takes the operating system down


PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Servers become children of this process, which can end them for good: pid 1 of a container
    may leave zombies, and a zombie's postmaster.pid keeps the next postmaster from starting."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Server:
    """One cluster in a folder: initdb, start, and all ways to end."""

    def __init__(self, folder, settings="", environment=(), prefix=(), socket=None):
        self.socket = socket or folder
        self.folder, self.data, self.log = folder, os.path.join(folder, "data"), os.path.join(folder, "log")
        self.environment = {**os.environ, **dict(environment)}
        self.prefix = list(prefix)
        os.makedirs(folder, exist_ok=True)
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        self.configure(SETTINGS + settings)

    def configure(self, lines):
        path = os.path.join(self.data, "postgresql.conf")
        self.shell(f"cat >>'{path}'", f"unix_socket_directories = '{self.socket}'\n{lines}\n")

    def shell(self, command, text=""):
        subprocess.run([*self.prefix, "sh", "-c", command], input=text, text=True, check=True)

    def run(self, *command, check=True):
        """A program of PostgreSQL's; what it says is shown only if it fails."""
        done = subprocess.run([*self.prefix, *command], env=self.environment, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
        return done.returncode == 0

    def start(self):
        # no pipe: the server would keep it open
        done = subprocess.run([*self.prefix, "pg_ctl", "-D", self.data, "-l", self.log, "-s", "-w", "-t", "120", "start"],
                              env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        if done.returncode:
            self.shell(f"tail -n 5 '{self.log}' >&2")
            raise RuntimeError("the server does not start")

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-s", "-w", "-t", "60", "-m", mode, "stop", check=False)

    def pid(self):
        with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as file:
            return int(file.readline())

    def kill(self, stopped=()):
        """The postmaster is gone at once, and its children a moment later; so are those of them
        that were stopped, and do nothing more."""
        pid = self.pid()
        children = [child for child in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(child) == pid]
        for target in (pid, *stopped):
            os.kill(target, signal.SIGKILL)
        until = time.monotonic() + 60
        while any(is_there(child) for child in (pid, *children)):
            if time.monotonic() > until:
                raise RuntimeError("the children of a killed postmaster don't end")
            time.sleep(0.02)

    def dsn(self, database):
        return f"host={self.socket} port=5432 user=postgres dbname={database}"

    def standby(self, folder):
        """A standby of this server, which is up."""
        other = Server.__new__(Server)
        other.folder, other.data, other.log = folder, os.path.join(folder, "data"), os.path.join(folder, "log")
        other.environment, other.prefix, other.socket = self.environment, self.prefix, folder
        os.makedirs(folder)
        self.run("pg_basebackup", "-D", other.data, "-R", "-c", "fast", "-X", "stream", "-N", "-d", self.dsn("postgres"))
        other.configure("hot_standby_feedback = on")
        other.start()
        return other

    def promote(self):
        self.run("pg_ctl", "-D", self.data, "-s", "-w", "-t", "120", "promote")

    def backends(self, like):
        """The process ids of clients of that name, "%" in it standing for anything."""
        return [row[0] for row in self.ask("SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s", (like,))]

    def ask(self, statement, args=None, database="postgres"):
        """A question of the administrator's, who doesn't mind if the server is gone."""
        try:
            connection = psycopg2.connect(self.dsn(database), connect_timeout=5, application_name="faults")
        except psycopg2.OperationalError:
            return []
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, args)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error:
            return []
        finally:
            connection.close()

    def crashes(self):
        """Lines of the log that no fault of ours explains."""
        log = subprocess.run([*self.prefix, "cat", self.log], stdout=subprocess.PIPE, check=True).stdout
        return [line.strip() for line in log.decode(errors="replace").split("\n")
                if "TRAP:" in line or "was terminated by signal 11" in line]


def parent(pid):
    """The process id of a process' parent; None: there is no such process, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])


def is_there(pid):
    """Whether the process is alive; a zombie of ours is none any more then."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return parent(pid) is not None
