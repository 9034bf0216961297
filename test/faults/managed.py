"""PostgreSQL servers that Patroni manages, with an etcd: a leader and its standbys.

All of it listens on a loopback address drawn for it, wants passwords, and lives in one
folder, which the command line of each of its processes names: stop() ends what does.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from server import Server, is_there

PATIENCE = 300      # seconds for whatever a loaded machine may be slow with
TTL = 8             # seconds, after which a leader that says nothing is none any more
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PROGRAMS = ("etcd", "etcdctl", "patroni")

SETTINGS = {"fsync": "off", "hot_standby_feedback": "on", "log_min_messages": "warning", "max_connections": 60,
            "max_prepared_transactions": 20}


def missing():
    """The first program that is not there, or None."""
    return next((name for name in PROGRAMS if not shutil.which(name)), None)


class Node(Server):
    """One server with its Patroni, which makes, starts and stops it."""

    def __init__(self, cluster, number):
        self.name, self.folder = f"n{number}", os.path.join(cluster.folder, f"n{number}")
        self.socket, self.data, self.log = self.folder, os.path.join(self.folder, "data"), os.path.join(self.folder, "log")
        self.prefix, self.cluster = [], cluster
        self.port, self.api = cluster.free_port(), cluster.free_port()
        os.makedirs(self.folder)
        with open(os.path.join(self.folder, "patroni.yml"), "w", encoding="ascii", opener=private) as file:
            json.dump(self.configuration(), file, indent=1)

    def configuration(self):
        """JSON is YAML."""
        cluster, address = self.cluster, self.cluster.address
        password = cluster.password
        return {
            "scope": "iotmq", "name": self.name,
            "etcd3": {"host": cluster.etcd, "username": "root", "password": password},
            "restapi": {"listen": f"{address}:{self.api}", "connect_address": f"{address}:{self.api}",
                        "authentication": {"username": "patroni", "password": password}},
            "bootstrap": {
                "dcs": {"ttl": TTL, "loop_wait": 1, "retry_timeout": 3, **cluster.settings,
                        "postgresql": {"use_pg_rewind": True, "parameters": SETTINGS}},
                "initdb": [{"encoding": "UTF8"}, "no-locale", "no-sync"]},
            "postgresql": {
                "listen": f"{address}:{self.port}", "connect_address": f"{address}:{self.port}",
                "bin_dir": os.path.dirname(shutil.which("pg_ctl")), "data_dir": self.data,
                "pgpass": os.path.join(self.folder, "pgpass"), "use_unix_socket": True,
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "parameters": {"unix_socket_directories": self.folder},
                "pg_hba": ["local all all trust", "host all all 127.0.0.0/8 scram-sha-256",
                           "host replication all 127.0.0.0/8 scram-sha-256"],
                "authentication": {"superuser": {"username": "postgres", "password": password},
                                   "replication": {"username": "replicator", "password": password}}}}

    def start(self):
        """Starts Patroni, which does the rest in its own time."""
        with open(self.log, "a", encoding="ascii") as log:
            self.patroni = subprocess.Popen(["patroni", os.path.join(self.folder, "patroni.yml")],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, stopped=()):
        """Patroni and the postmaster are gone at once, the backends a moment later."""
        self.patroni.kill()
        self.patroni.wait()
        super().kill(stopped)

    def dsn(self, database):
        return f"host={self.folder} port={self.port} user=postgres dbname={database}"

    def state(self):
        """What Patroni says of its server: {"role": ..., "sync_standby": true}; {}: it says nothing."""
        try:
            with DIRECT.open(f"http://{self.cluster.address}:{self.api}/patroni", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as answer:    # so it is, for a server that is not up
            return json.load(answer)
        except (OSError, ValueError):
            return {}


class Cluster:
    """The nodes.  What a round asks its server, the leader answers."""

    def __init__(self, folder, nodes, settings):
        self.folder, self.settings = folder, settings
        self.address = "127." + ".".join(str(1 + secrets.randbelow(250)) for _ in range(3))
        self.password = secrets.token_hex(16)
        self.ports = set()
        self.etcd = f"{self.address}:{self.free_port()}"
        os.makedirs(folder)
        self.nodes, self.ended = [], threading.Event()
        threading.Thread(target=self.reap, daemon=True).start()
        try:
            self.start_etcd()
            self.nodes = [Node(self, number) for number in range(1, nodes + 1)]
            self.nodes[0].start()
            self.wait_for(lambda: self.leader() is self.nodes[0], "a leader")
            for node in self.nodes[1:]:
                node.start()
            self.wait_for(lambda: len(self.streaming()) == nodes - 1, "standbys")
        except BaseException:
            self.show_logs()
            self.stop()
            raise

    def reap(self):
        """Patroni waits for a postmaster that it stops to be gone, which is a child of ours (see
        adopt_orphans) and stays a zombie until we look."""
        postmasters = set()
        while not self.ended.wait(0.1):
            for node in self.nodes:
                try:
                    postmasters.add(node.pid())
                except (OSError, ValueError):
                    pass                # there is none, or it is about to write its file
            postmasters = {pid for pid in postmasters if is_there(pid)}

    def free_port(self):
        """One that was not given before: the kernel may give it again while nobody listens."""
        while True:
            with socket.socket() as probe:
                probe.bind((self.address, 0))
                port = probe.getsockname()[1]
            if port not in self.ports:
                self.ports.add(port)
                return port

    def start_etcd(self):
        clients, peers = f"http://{self.etcd}", f"http://{self.address}:{self.free_port()}"
        with open(os.path.join(self.folder, "etcd.log"), "w", encoding="ascii") as log:
            subprocess.Popen(
                ["etcd", "--data-dir", os.path.join(self.folder, "etcd"), "--name", "one",
                 "--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers,
                 "--initial-advertise-peer-urls", peers, "--initial-cluster", f"one={peers}", "--unsafe-no-fsync",
                 "--bcrypt-cost", "4"],  # else a loaded machine takes longer to log in than Patroni waits
                env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_for(lambda: self.etcdctl("endpoint", "health", check=False), "etcd")
        self.etcdctl("user", "add", "root", "--interactive=false", text=self.password)
        self.etcdctl("user", "grant-role", "root", "root")
        self.etcdctl("auth", "enable")

    def etcdctl(self, *words, text=None, check=True):
        done = subprocess.run(["etcdctl", "--endpoints", self.etcd, *words], input=text, text=True,
                              env={**os.environ, "ETCDCTL_API": "3"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and done.returncode:
            raise RuntimeError(f"etcdctl {' '.join(words)}: {done.stdout}")
        return done.returncode == 0

    def wait_for(self, condition, what):
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise RuntimeError(f"{what}: not there in {PATIENCE} s")
            time.sleep(0.05)

    def dsn(self, database):
        """As clients are told to connect: all nodes, and the one of them that takes writes."""
        return (f"host={','.join(self.address for _ in self.nodes)} port={','.join(str(node.port) for node in self.nodes)} "
                f"user=postgres password={self.password} dbname={database} target_session_attrs=read-write")

    def leader(self):
        """The node that takes writes, by its own word; None: there is none at present."""
        for node in self.nodes:
            if node.ask("SELECT 1 WHERE NOT pg_is_in_recovery()"):
                return node
        return None

    def timeline(self):
        """One more with each promotion."""
        return int(self.ask("SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)")[0][0], 16)

    def standbys(self):
        leader = self.leader()
        return [node for node in self.nodes if leader and node is not leader]

    def streaming(self):
        """The names of the standbys that the leader sends to."""
        return [name for name, in self.ask("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")]

    def ask(self, statement, args=None, database="postgres"):
        leader = self.leader()
        return leader.ask(statement, args, database) if leader else []

    def backends(self, like):
        leader = self.leader()
        return leader.backends(like) if leader else []

    def crashes(self):
        return [line for node in self.nodes for line in node.crashes()]

    def stop(self, mode="immediate"):
        """Ends all that was started, whatever state it is in."""
        self.ended.set()
        until = time.monotonic() + PATIENCE
        while pids := processes(self.folder):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass                # it has ended by itself
            while any(is_there(pid) for pid in pids):
                if time.monotonic() > until:
                    raise RuntimeError(f"these processes don't end: {pids}")
                time.sleep(0.02)

    def show_logs(self):
        for path in [os.path.join(self.folder, "etcd.log"), *(node.log for node in self.nodes)]:
            if os.path.exists(path):
                print(f"--- the end of {path}")
                with open(path, encoding="utf-8", errors="replace") as file:
                    print("".join(file.readlines()[-30:]), end="")


def private(path, flags):
    return os.open(path, flags, 0o600)


def processes(folder):
    """The process ids of those whose command line names something in that folder.  Backends
    don't, and end with their postmaster."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if f"{folder}/".encode() in file.read() and pid != os.getpid() and is_there(pid):
                    found.append(pid)
        except OSError:
            pass                        # it is gone
    return found
