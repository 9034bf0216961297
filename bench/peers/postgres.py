"""What the systems in PostgreSQL share: a database each on the run's cluster, and texts of statements."""

import time

import psycopg2

import bench
from peers import Loading

DURABILITY = "fsync of the WAL"
PAUSE = 0.002           # a reader that has nothing to wait with asks again after so many seconds


def array(values):
    """a literal"""
    return "'{" + ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "}'"


def device_ids(count, devices=bench.DEVICES):
    return [f"device-{n % devices + 1}" for n in range(count)]


class System(Loading):
    """EXTENSION is made in the database if it is set; then SETUP runs."""

    NAME = ""
    waits = "on"
    DURABILITY = DURABILITY
    EXTENSION = ""
    SETUP = ""

    def missing(self):
        if not self.EXTENSION:
            return ""
        connection = bench.connect("postgres")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = %s", (self.EXTENSION,))
            found = cursor.fetchone()[0]
        connection.close()
        return "" if found else f"PostgreSQL has no extension {self.EXTENSION}"

    def start(self, folder):
        self.database = "peer_" + self.NAME.replace(" ", "_").lower()
        self.admin = bench.connect("postgres")
        self.run_by(self.admin, f"CREATE DATABASE {self.database}")
        self.connection = bench.connect(self.database)
        if self.EXTENSION:
            self.run(f"CREATE EXTENSION {self.EXTENSION} CASCADE")
        if self.SETUP:
            self.run(self.SETUP)

    def stop(self):
        if hasattr(self, "admin"):
            self.run_by(self.admin, f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
            self.admin.close()

    @staticmethod
    def run_by(connection, statements, *values):
        with connection.cursor() as cursor:
            cursor.execute(statements, values or None)

    def run(self, statements, *values):
        self.run_by(self.connection, statements, *values)

    def load(self, n, messages, seconds):
        self.waits = "off"              # for the disk, where nobody looks at the time
        loaded = super().load(n, messages, seconds)
        self.waits = "on"
        self.tidy()
        return loaded

    def tidy(self):
        """statistics and hint bits, as autovacuum brings them in time"""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT string_agg(oid::regclass::text, ', ') FROM pg_class "
                           "WHERE relkind = 'r' AND oid >= 16384 AND pg_relation_size(oid) > 0")
            cursor.execute("VACUUM ANALYZE " + cursor.fetchone()[0])

    def rewind(self):
        """group 0 begins anew, where it can"""

    def connect(self):
        connection = psycopg2.connect(dbname=self.database)
        connection.autocommit = True
        return connection

    # of each kind of system: one message, and a batch as arrays
    def publish_one(self):
        raise NotImplementedError

    def publish_many(self):
        raise NotImplementedError

    def publisher(self, n):
        """prepared once, then executed with literals"""
        connection = self.connect()
        connection.cursor().execute(f"SET synchronous_commit = {self.waits}")
        if n == 1:
            prepare, values = self.publish_one(), f"'device-1', '{bench.PAYLOAD}'"
        else:
            prepare, values = self.publish_many(), f"{array(device_ids(n))}, {array([bench.PAYLOAD] * n)}"
        return Publisher(connection, prepare, values)


class Publisher:
    def __init__(self, connection, statements, values):
        self.connection = connection
        self.cursor = connection.cursor()
        texts = []
        for number, statement in enumerate(statements):
            self.cursor.execute(f"PREPARE publish{number} AS {statement}")
            texts.append(f"EXECUTE publish{number}({values})")
        if len(texts) > 1:
            texts = ["BEGIN", *texts, "COMMIT"]
        self.text = "; ".join(texts)

    def publish(self):
        self.cursor.execute(self.text)

    def close(self):
        self.connection.close()


class Reader:
    """asks until there are rows; a subclass prepares take for a number of messages, executes it, and settles"""

    def __init__(self, connection):
        self.connection = connection
        self.cursor = connection.cursor()
        self.prepared = None

    def prepare(self, n, statement):
        """with n in its text: a plan for any number is made for too many"""
        if self.prepared != n:
            if self.prepared:
                self.cursor.execute("DEALLOCATE take")
            self.cursor.execute(f"PREPARE take AS {statement}")
            self.prepared = n

    def take_once(self, n):
        raise NotImplementedError

    def take(self, n, wait):
        end = time.monotonic() + wait
        while True:
            taken = self.take_once(n)
            if taken or time.monotonic() >= end:
                return taken
            time.sleep(PAUSE)

    def settle(self):
        """nothing, for who keeps a place of his own"""

    def close(self):
        self.connection.close()
