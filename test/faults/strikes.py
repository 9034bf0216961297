"""The faults.  Each is a class: what its server needs, and what it does to it, once or more
often, while the load works.  What a crash may have forgotten goes into the journal.

A commit that need not wait for the disk (a claim; with synchronous_commit off, any) is
safe when a later one that does wait has returned: anchor() is that later one, and its
begin is "since" in the journal.
"""

import glob
import os
import shutil
import signal
import subprocess
import time

import psycopg2

import managed
from server import Server
from session import Lost, Session


class Unavailable(Exception):
    """This machine can't do that fault."""


class Strike:
    """A fault on one server."""

    settings = ""
    prepares = True
    jumps = False                       # whether the clock does
    times = 2

    def __init__(self, run):
        self.run = run                  # the Round
        self.dice = run.dice

    def make_server(self):
        server = Server(os.path.join(self.run.folder, "a"), self.settings)
        server.start()
        return server

    def dsn(self):
        return self.run.server.dsn("load")

    def anchor(self):
        """A time from before which nothing will be forgotten."""
        while True:
            since = time.monotonic()
            session = Session(self.run.server.dsn("load"), "anchor", "-c synchronous_commit=on")
            try:
                session.execute("SELECT pg_logical_emit_message(true, 'anchor', '')")
                return since
            except (Lost, psycopg2.Error):
                time.sleep(0.05)
            finally:
                session.close()

    def crash(self, how, forgets="async"):
        """Does "how", which takes the server down and up again."""
        since = self.anchor()
        time.sleep(0.5 * self.dice.random())
        begin = time.monotonic()
        how()
        self.run.journal.write("crash", begin, forgets=forgets, since=since)

    def strike(self):
        raise NotImplementedError

    def finish(self):
        """When the load has ended."""

    def clean_up(self):
        pass


class Backend(Strike):
    """kill -9 of a client's backend at a random point: all the others end, too."""

    def strike(self):
        def kill():
            pids = []
            while not pids:
                pids = self.run.server.backends(self.dice.choice(("publisher%", "all%", "orderly%", "some%", "administrator")))
                time.sleep(0.01)
            try:
                os.kill(self.dice.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                return                  # it has ended by itself
            time.sleep(0.2)
            self.anchor()               # it is up again
        self.crash(kill)


class Postmaster(Strike):
    """kill -9 of the postmaster."""

    def strike(self):
        def kill():
            self.run.server.kill()
            self.run.server.start()
        self.crash(kill)


class Immediate(Strike):
    """pg_ctl stop -m immediate, with transactions prepared before it."""

    def strike(self):
        def stop():
            self.run.server.stop("immediate")
            self.run.server.start()
        self.crash(stop)


class Tail(Postmaster):
    """synchronous_commit = off: a crash forgets any of the last commits."""

    settings = "synchronous_commit = off\nwal_writer_delay = 2s\nwal_writer_flush_after = 0\n"

    def crash(self, how, forgets="tail"):
        super().crash(how, forgets)


class Promotion(Strike):
    """The primary is killed, and a standby that had all of it takes over."""

    times = 1
    synchronous = True

    def make_server(self):
        server = super().make_server()
        self.standby = server.standby(os.path.join(self.run.folder, "b"))
        if self.synchronous:
            server.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
            server.ask("SELECT pg_reload_conf()")
        return server

    def dsn(self):
        return (f"host={self.run.server.socket},{self.standby.socket} port=5432,5432 user=postgres dbname=load "
                "target_session_attrs=read-write")

    def strike(self):
        def promote():
            self.run.server.kill()
            self.standby.promote()
            self.run.retired.append(self.run.server)
            self.run.server = self.standby
        self.crash(promote, "async" if self.synchronous else "tail")


class Failover(Promotion):
    """The same with a standby that lags: it has a beginning of what was committed."""

    synchronous = False

    def anchor(self):
        since = time.monotonic()
        lsn = self.run.server.ask("SELECT pg_current_wal_insert_lsn()")
        while lsn and self.standby is not self.run.server:
            rows = self.standby.ask("SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)", (lsn[0][0],))
            if rows and rows[0][0]:
                break
            time.sleep(0.02)
        return since


class Stopped(Strike):
    """A backend stands still beyond the deadline of its lease, wherever it is, and goes on."""

    times = 5

    def strike(self):
        pids = self.run.server.backends(self.dice.choice(("publisher%", "all%", "orderly%", "some%")))
        if not pids:
            return
        pid = self.dice.choice(pids)
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.3 + 1.2 * self.dice.random())
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


class Clients(Strike):
    """Clients are gone in the middle of a call, as if killed."""

    times = 12

    def strike(self):
        self.dice.choice(self.run.load.clients).session.sever()


class Hung(Strike):
    """A publisher stays open for seconds, in all zones, and then commits, or is gone."""

    times = 2

    def strike(self):
        load, number = self.run.load, len(self.run.hung)
        xact = f"hung-{number}"
        self.run.hung.append(xact)
        messages = [{"id": f"{xact}.{zone}", "zone": zone, "device": f"{zone}-hung", "tag": None, "v": 99, "offset": None,
                     "undone": False} for zone in load.zones]
        session = Session(self.run.dsn, "hung")
        begin = time.monotonic()
        result = "rolled back"
        try:
            session.execute("BEGIN")
            for message in messages:
                message["offset"] = session.execute(
                    "SELECT iotmq.publish(%s, %s, jsonb_build_object('id', %s, 'v', 99), zone => %s)",
                    (load.topic, message["device"], message["id"], message["zone"]))[0][0]
            time.sleep(1 + 2 * self.dice.random())
        except (Lost, psycopg2.Error):
            session.close()
            messages = []
        load.journal.write("publish", begin, xact=xact, topic=load.topic, messages=messages)
        if messages and self.dice.random() < 0.7:
            begin = time.monotonic()
            result = session.commit()
        else:
            session.cut()
        load.journal.write("outcome", begin, xact=xact, result=result)
        session.close()


class Connections(Strike):
    """All connections are taken for a while, after those that there are were cut."""

    def strike(self):
        taken = []
        try:
            while True:
                taken.append(psycopg2.connect(self.run.server.dsn("load"), connect_timeout=5))
        except psycopg2.OperationalError:
            pass
        for client in self.run.load.clients:
            if self.dice.random() < 0.5:
                client.session.sever()
        time.sleep(0.3 + self.dice.random())
        for connection in taken:
            connection.close()


class Locks(Strike):
    """The lock table is full for a while."""

    settings = "max_locks_per_transaction = 10\n"

    def strike(self):
        session = Session(self.run.server.dsn("load"), "locks")
        try:
            session.execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) AS n")
        except (Lost, psycopg2.Error):
            pass                        # those that it got before are its session's
        time.sleep(0.3 + self.dice.random())
        session.close()


class Clock(Strike):
    """The server's clock jumps ahead, and a little back."""

    jumps = True
    times = 4

    def make_server(self):
        library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        if not library:
            raise Unavailable("there is no libfaketime")
        self.file, self.offset = os.path.join(self.run.folder, "clock"), 0
        self.set(0)
        server = Server(os.path.join(self.run.folder, "a"), self.settings, environment={
            "LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
        server.start()
        return server

    def set(self, offset):
        self.offset = offset
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(f"{offset:+}\n")
        os.rename(self.file + ".new", self.file)

    def strike(self):
        begin = time.monotonic()
        self.set(self.offset + self.dice.choice((1, 5, 60, 600, -1, -2)))
        time.sleep(0.2)
        self.run.journal.write("clock", begin)


class Disk(Strike):
    """The disk is full for a while, for data and WAL: a small file system of its own."""

    times = 2
    size = "400m"

    def make_server(self):
        folder = os.path.join(self.run.folder, "a")
        os.makedirs(folder)
        self.holder = subprocess.Popen(
            ["unshare", "--map-current-user", "--keep-caps", "--mount", "sh", "-c",
             f"mount -t tmpfs -o size={self.size} tmpfs '{folder}' && echo mounted && exec sleep 100000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.holder.stdout.readline() != "mounted\n":
            raise Unavailable("no file system of its own can be mounted")
        inside = ("nsenter", "--target", str(self.holder.pid), "--user", "--preserve-credentials", "--mount")
        # few segments are kept, so that WAL has to grow; the socket is where clients see it
        server = Server(folder, "max_wal_size = 32MB\nmin_wal_size = 32MB\nwal_recycle = off\n", prefix=inside, socket=self.run.folder)
        server.start()
        return server

    def strike(self):
        server = self.run.server
        filler = os.path.join(server.folder, "filler")

        def fill():
            server.shell(f"cat /dev/zero >'{filler}' 2>/dev/null || :")
            time.sleep(0.5 + self.dice.random())
            server.shell(f"rm '{filler}'")
            deadline = time.monotonic() + 20
            while not server.ask("SELECT 1"):
                if time.monotonic() > deadline:
                    server.stop("immediate")
                    server.start()      # recovery had no room, either
                    break
                time.sleep(0.1)
        self.crash(fill)

    def clean_up(self):
        self.run.server.stop("immediate")
        self.holder.kill()
        self.holder.wait()


class Pooler(Strike):
    """Everybody comes through pgbouncer in transaction mode, and servers are killed behind it."""

    prepares = True

    def make_server(self):
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not os.path.exists(program):
            raise Unavailable("there is no pgbouncer")
        server = super().make_server()
        path = os.path.join(self.run.folder, "pgbouncer.ini")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"""[databases]
load = host={server.socket} port=5432 user=postgres dbname=load
[pgbouncer]
listen_addr =
unix_socket_dir = {self.run.folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 12
max_client_conn = 200
ignore_startup_parameters = options,extra_float_digits
server_login_retry = 1
logfile = {self.run.folder}/pgbouncer.log
""")
        self.bouncer = subprocess.Popen([program, "-q", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return server

    def dsn(self):
        return f"host={self.run.folder} port=6432 user=postgres dbname=load"

    def strike(self):
        self.run.server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'load' ORDER BY random() LIMIT 3")

    def clean_up(self):
        self.bouncer.terminate()
        self.bouncer.wait()


class PatroniSync(Strike):
    """The leader and its Patroni are killed; Patroni promotes the synchronous standby, and the
    old leader comes back as a standby."""

    settings = {"synchronous_mode": True, "synchronous_mode_strict": True}
    forgets = "async"

    def make_server(self):
        program = managed.missing()
        if program:
            raise Unavailable(f"there is no {program}")
        nodes, self.times = self.dice.choice((2, 3)), self.dice.choice((1, 2))
        self.cluster = managed.Cluster(os.path.join(self.run.folder, "p"), nodes, self.settings)
        self.cluster.wait_for(self.complete, "a synchronous standby")
        self.timeline = self.cluster.timeline()
        return self.cluster

    def complete(self):
        """Whether all standbys are there, and Patroni has noted one that it may promote: commits
        wait for a standby before that."""
        return len(self.cluster.streaming()) == len(self.cluster.nodes) - 1 \
            and any(node.state().get("sync_standby") for node in self.cluster.standbys())

    def strike(self):
        load, cluster = self.run.load, self.cluster
        load.seconds += 1000            # publishers go on until it is over
        leader = cluster.leader()

        def kill():
            leader.kill(self.hold_back())
            self.timeline += 1
            cluster.wait_for(lambda: cluster.leader() not in (None, leader), "a new leader")
        self.crash(kill, self.forgets)
        time.sleep(1 + self.dice.random())
        load.pause()                    # the old leader has much to do
        leader.start()
        cluster.wait_for(self.complete, "the old leader as a standby")
        load.go_on()
        load.seconds = time.monotonic() - load.started_at + 2

    def hold_back(self):
        """The processes that are stopped before the leader is killed."""
        return []

    def finish(self):
        """A leader that lost its lock on a slow machine was one more failover, at any time."""
        if self.cluster.timeline() != self.timeline:
            self.run.journal.write("crash", self.run.load.started_at, forgets=self.forgets)


class PatroniAsync(PatroniSync):
    """The same with asynchronous standbys, which have not got the last of it."""

    settings = {"maximum_lag_on_failover": 2 ** 30}
    forgets = "tail"

    def complete(self):
        return len(self.cluster.streaming()) == len(self.cluster.nodes) - 1

    def anchor(self):
        since = time.monotonic()
        cluster = self.cluster
        lsn = cluster.ask("SELECT pg_current_wal_insert_lsn()")[0][0]

        def replayed():
            return all(node.ask("SELECT 1 WHERE pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,)) for node in cluster.standbys())
        cluster.wait_for(replayed, "standbys that have all of it")
        return since

    def hold_back(self):
        senders = [pid for pid, in self.cluster.ask("SELECT pid FROM pg_stat_replication")]
        for pid in senders:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5 * self.dice.random())
        return senders


# The first five are those of CI.
STRIKES = {"backend": Backend, "postmaster": Postmaster, "failover": Failover, "tail": Tail, "stopped": Stopped,
           "immediate": Immediate, "promotion": Promotion, "clients": Clients, "hung": Hung, "connections": Connections,
           "locks": Locks, "clock": Clock, "disk": Disk, "pooler": Pooler,
           "patroni-sync": PatroniSync, "patroni-async": PatroniAsync}
