"""Counts the processor instructions of calls, and of plain SQL with the same rows.

Unlike times they hardly depend on the machine or on what else it does. Callgrind counts them:
the server runs under it while pgbench calls. The counts depend on the builds of PostgreSQL and
iotmq, so what is compared with earlier ones is the quotient of the two sides, from one run.

The backend's counts are written down and begin anew when it enters pg_backend_pid(): that call
is a marker, before and after the transactions that count. Those before are to warm up.
"""

import glob
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import bench

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "bench", "results", "instructions.md")
DIRECTORY = os.environ.get("PGHOST", "")        # the cluster's
COUNTS = os.path.join(DIRECTORY, "callgrind")

WARN = 1.05
FAIL = 1.20
WARM_UP = 6                 # transactions: the sixth has its plan for good

MARKER = "SELECT pg_backend_pid();\n"

PUBLISH = """
\\set device random(1000001, 1001000)
SELECT iotmq.publish('bench', :device, :payload);
"""

INSERT = """
\\set device random(1000001, 1001000)
INSERT INTO bare (device_id, payload) VALUES (:device, :payload);
"""

# Each transaction sends both arrays as parameters, as a client does; they are fetched once.
ARRAYS = """
\\if :fetched = 0
SELECT device_ids, payloads FROM batch
\\gset
\\set fetched 1
\\endif
"""

PUBLISH_BATCH = ARRAYS + "SELECT iotmq.publish_batch('bench', :device_ids, :payloads);"

INSERT_BATCH = ARRAYS + """INSERT INTO bare (device_id, payload)
SELECT * FROM unnest(:device_ids::text[], :payloads::jsonb[]);"""

# \aset transfers all rows and keeps the last one's columns. Most of what it takes to send a
# payload is to make text of it, on both sides: so there is a figure without.
CONSUME = "SELECT * FROM iotmq.consume('bench', '%s', %%d)\n\\aset\n"
CONSUME_SHORT = "SELECT lease_id, msg_offset, device_id FROM iotmq.consume('bench', '%s', %%d)\n\\aset\n"
ACK = "SELECT iotmq.ack(:lease_id);\n"

READ = """SELECT zone, msg_offset, device_id, tag, payload, body, properties, published_at
FROM bare WHERE msg_offset > :msg_offset ORDER BY msg_offset LIMIT %d
\\aset
"""
READ_SHORT = READ.replace("zone, msg_offset, device_id, tag, payload, body, properties, published_at",
                          "msg_offset, device_id")

DELETE = """
\\set done :n + 1
DELETE FROM batch_done WHERE id = :done;
"""


def count(it, *scripts, **variables):
    """instructions of a transaction of each script, which are pairs of a text and a number of transactions

    All run in one session, one after the other.
    """
    for name in glob.glob(COUNTS + "/*"):
        os.unlink(name)
    program = ""
    first = 0
    # the first counts the markers themselves
    for script, transactions in (("", 1), *scripts):
        last = first + WARM_UP + transactions
        program += f"\\if :n = {first + WARM_UP} or :n = {last}\n{MARKER}\\endif\n"
        program += f"\\if :n >= {first} and :n < {last}\n{script}\n\\endif\n"
        first = last
    it.pgbench(program + "\\set n :n + 1\n", transactions=last + 1, options=["--random-seed=1"], n=0, **variables)
    # what ends at the second marker of a script, at the fourth of all, and so on
    parts = dict(filter(None, map(part_at_marker, glob.glob(COUNTS + "/*"))))
    between = [parts[number] for number in range(2, len(parts) + 1, 2)]
    return [(total - between[0]) / transactions for total, (_, transactions) in zip(between[1:], scripts, strict=True)]


def part_at_marker(name):
    """(its number, its instructions) if that part of the counts ends at a marker"""
    with open(name) as file:
        text = file.read()
    if "Trigger: --dump-before=pg_backend_pid" not in text:
        return None
    return int(re.search(r"^part: (\d+)$", text, re.M)[1]), int(re.search(r"^totals: (\d+)", text, re.M)[1])


@dataclass
class Figure:
    """Instructions of both sides, a call or a message."""

    name: str
    iotmq: float
    bare: float
    against: str

    @property
    def ratio(self):
        return self.iotmq / self.bare


def measure():
    it = bench.Database("postgres")
    it.new_topic("bench")
    for group in ("whole", "short", "unacked"):
        it.new_group("bench", group)
    it.new_group("bench", "idle", start_from="infinity")
    it.run("CALL new_bare()")
    it.run("CREATE TABLE batch_done (id bigint PRIMARY KEY)")
    it.run("INSERT INTO batch_done SELECT generate_series(1, 1000)")
    it.vacuum()
    it.connection.close()
    restart_under_callgrind()

    inserted = count(it, (PUBLISH, 200), (INSERT, 200), (PUBLISH_BATCH, 2), (INSERT_BATCH, 2),
                     payload=bench.PAYLOAD, fetched=0, device_ids="{}", payloads="{}")
    psql("VACUUM ANALYZE")
    read = count(it, *((script % size, 2000 // size) for size in (100, 10) for script in
                       (CONSUME % "whole" + ACK, READ, CONSUME_SHORT % "short" + ACK, READ_SHORT)),
                 msg_offset=0)
    psql("SELECT iotmq.seek('bench', 'idle', 'infinity')")
    single = count(it, (CONSUME_SHORT % "unacked" % 100, 20), (DELETE, 100), (CONSUME % "idle" % 100, 100),
                   (READ.replace(":msg_offset", "1000000000") % 100, 100))
    names = [("publish", "INSERT", 1), ("publish_batch(1000), a message", "INSERT ... SELECT FROM unnest", 1000)]
    for size in (100, 10):
        names += [(f"consume({size}) + ack, a message", f"SELECT of {size} rows", size),
                  (f"consume({size}) + ack, payload not sent, a message", f"SELECT of {size} rows", size)]
    names += [("ack of 100", "DELETE of a row", 1), ("consume of nothing", "SELECT of no row", 1)]
    counts = [*inserted, *read, read[2] - single[0], *single[1:]]
    return [Figure(name, counts[2 * i] / messages, counts[2 * i + 1] / messages, against)
            for i, (name, against, messages) in enumerate(names)]


def psql(statement):
    subprocess.run(["psql", "-qc", statement, "postgres"], check=True, stdout=subprocess.DEVNULL)


def restart_under_callgrind():
    """Puts a script in the place of the server's program, and starts it."""
    cluster = os.path.join(ROOT, "tools", "cluster")
    subprocess.run([cluster, "stop", DIRECTORY], check=True)
    subprocess.run([cluster, "run", DIRECTORY, "sh", "-c", """set -e
        bin=$(dirname "$PG_CONFIG")
        mkdir "$HOME/callgrind"
        mv "$bin/postgres" "$bin/postgres.bin"
        cat >"$bin/postgres" <<-END
			#!/bin/sh
			case \\$1 in -V | --version) exec "$bin/postgres.bin" "\\$@" ;; esac
			exec valgrind -q --tool=callgrind --trace-children=yes --dump-before=pg_backend_pid \
				--callgrind-out-file="$HOME/callgrind/%p" "$bin/postgres.bin" "\\$@"
		END
        chmod +x "$bin/postgres" """], check=True)
    subprocess.run([cluster, "start", DIRECTORY], check=True, env=dict(os.environ, PGCTLTIMEOUT="300"))


def versions():
    """what the counts depend on"""
    def first_line(*command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    return ", ".join((first_line("pg_config", "--version"), first_line("gcc", "--version"), first_line("valgrind", "--version"),
                      os.uname().machine))


def page(figures):
    rows = ["| figure | iotmq | bare | ratio | bare is |", "| --- | ---: | ---: | ---: | --- |"]
    rows += [f"| {it.name} | {it.iotmq:,.0f} | {it.bare:,.0f} | {it.ratio:.3f} | {it.against} |" for it in figures]
    return f"""# Instructions

Written by `make bench-instructions`: processor instructions of the backend a call, or a message where
it says so, counted by callgrind: see [Instructions](../README.md#instructions).

{versions()}

""" + "\n".join(rows) + "\n"


def ratios(text):
    """{figure: ratio} of a page"""
    return {name: float(ratio) for name, ratio in re.findall(r"^\| ([^|]+) \| [\d,]+ \| [\d,]+ \| ([\d.]+) \|", text, re.M)}


def compare(figures):
    """Prints what became dearer than on the page; says whether that is too much of it."""
    with open(RESULTS) as file:
        before = ratios(file.read())
    if set(before) != {figure.name for figure in figures}:
        sys.exit(f"other figures than in {RESULTS}: write it anew, without --check")
    too_much = False
    for figure in figures:
        change = figure.ratio / before[figure.name]
        if change >= WARN:
            print(f"{'FAILED' if change >= FAIL else 'warning'}: {figure.name}: {figure.ratio:.3f} times the instructions "
                  f"of {figure.against}, was {before[figure.name]:.3f}: {100 * (change - 1):+.0f} %")
        too_much = too_much or change >= FAIL
    return too_much


def main():
    figures = measure()
    text = page(figures)
    print(text)
    if sys.argv[1:] == ["--check"]:
        sys.exit(compare(figures))
    with open(RESULTS, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
