"""The programs of examples/: how each driver's are built and called.

They run from a copy, in which a lease lasts for LEASE seconds, so that what a dead consumer
had comes again soon.
"""

import os
import re
import shutil
import subprocess

LEASE = 6
EXAMPLES = os.path.join(os.path.dirname(__file__), "../../examples")
# a constant of each consumer: LEASE = 60, const lease = 60, #define LEASE 60
SECONDS = re.compile(r"^(.*\b(?:LEASE|lease)\b *=? *)60\b", re.MULTILINE)
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
URL = "jdbc:postgresql://{PGHOST}:{PGPORT}/{PGDATABASE}?user={PGUSER}"

# driver: its folder, what builds it (in the copy, as long as it is not there yet), the publisher, the consumer
DRIVERS = {
    "psql": ("psql", (), ["./publish.sh"], ["./consume.sh"]),
    "psycopg2": ("psycopg2", (), ["/usr/bin/python3", "publish.py"], ["/usr/bin/python3", "consume.py"]),
    "psycopg3": ("psycopg3", (), ["/usr/bin/python3", "publish.py"], ["/usr/bin/python3", "consume.py"]),
    "psycopg3_async": ("psycopg3", (), ["/usr/bin/python3", "publish.py"], ["/usr/bin/python3", "consume_async.py"]),
    "node": ("node-postgres", (["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],),
             ["node", "publish.js"], ["node", "consume.js"]),
    "jdbc": ("jdbc", (["javac", "Publish.java", "Consume.java"],),
             ["java", "-Xshare:auto", "-cp", "/usr/share/java/postgresql.jar:.", "Publish", URL],
             ["java", "-Xshare:auto", "-cp", "/usr/share/java/postgresql.jar:.", "Consume", URL]),
    "go": ("go", (["go", "build", "-o", "publisher", "./publish"], ["go", "build", "-o", "consumer", "./consume"]),
           ["./publisher"], ["./consumer"]),
    "ruby": ("ruby", (), ["ruby", "publish.rb"], ["ruby", "consume.rb"]),
    "perl": ("perl", (), ["perl", "publish.pl"], ["perl", "consume.pl"]),
    "libpq": ("libpq", (["sh", "-c", 'cc -I "$(pg_config --includedir)" publish.c -o publish -lpq'],
                        ["sh", "-c", 'cc -I "$(pg_config --includedir)" consume.c -o consume -lpq']),
              ["./publish"], ["./consume"]),
}


class Missing(Exception):
    """What a driver needs can't be had here."""


class Driver:
    """The programs of a driver in a folder of their own, for a database."""

    def __init__(self, name, folder, database):
        source, self.build, self.publisher, self.consumer = DRIVERS[name]
        self.keeps_connection = name != "psql"
        self.folder = os.path.join(folder, name)
        shutil.copytree(os.path.join(EXAMPLES, source), self.folder)
        self.environment = {**os.environ, **GO, "GOCACHE": os.path.join(folder, "go-cache"), "PGSSLMODE": "disable",
                            "npm_config_cache": os.path.join(folder, "npm-cache"), "PGDATABASE": database}
        self.log = os.path.join(self.folder, "log")

    def prepare(self):
        """Builds what has to be, with shorter leases."""
        changed = 0
        for place, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(place, name)
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                text, n = SECONDS.subn(rf"\g<1>{LEASE}", text)
                changed += n
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
        if not changed:
            raise AssertionError(f"{self.folder} names nowhere how long a lease is")
        for command in self.build:
            if command[0] == "npm" and not shutil.which("npm"):
                raise Missing("there is no npm")
            with open(self.log, "a", encoding="utf-8") as log:
                done = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, timeout=600)
            if done.returncode and command[0] == "npm":
                raise Missing("npm can't fetch what package.json names")
            done.check_returncode()

    def start(self, command, **options):
        filled = [word.format(**self.environment) if word == URL else word for word in command]
        with open(self.log, "a", encoding="utf-8") as log:
            return subprocess.Popen(filled, cwd=self.folder, env=self.environment, stdout=log, stderr=log, text=True, **options)

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-3000:]
