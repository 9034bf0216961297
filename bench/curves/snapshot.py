"""Rate, time to read and size over time, while a snapshot is held: a report, a backup, a forgotten session."""

import time

import bench
import curve

SYSTEMS = ["iotmq", "skip_locked", "pgq", "pgmq", "pgque"]
RATE = 4000
PUBLISHED = 40              # a batch
TAKEN = 10
AHEAD = 2                   # seconds of messages that are there at first: nobody waits for one
BEFORE, HELD, AFTER = 6, 18, 6

TEXT = """
4,000 messages a second are published, in batches of 40; one client takes 10 at a time and
acknowledges them, 400 times a second. What is timed is to take a batch that is there, and to
acknowledge it. After 6 seconds another session takes a snapshot and keeps
it for 18 seconds: what is updated and deleted meanwhile can't be cleaned up. Sizes are those of
the whole database, with everything that was published: iotmq keeps it for its retention, and so
does PgQ until its tables rotate. Three minutes of it: `make bench ONLY=snapshot SCALE=10`.
"""


def run(system):
    """[(second, messages read in the second before)], [(second, ms to take and acknowledge a batch)], [(second, bytes)]"""
    before, held, after = (curve.seconds(number) for number in (BEFORE, HELD, AFTER))
    total = before + held + after
    step = min(1.0, total / 10)
    system.fresh(1)
    start = curve.processes.Barrier(3)

    def publish():
        publisher = system.publisher(PUBLISHED)
        for _ in range(AHEAD * RATE // PUBLISHED):
            publisher.publish()
        start.wait(60)
        due = time.monotonic()
        end = due + total
        while time.monotonic() < end:
            publisher.publish()
            due += PUBLISHED / RATE
            time.sleep(max(0, due - time.monotonic()))

    def read():
        reader = system.reader(0)
        start.wait(60)
        began = due = time.monotonic()
        counts = []
        while (now := time.monotonic()) < began + total:
            count = reader.take(TAKEN, step)
            if count:
                reader.settle()
                counts.append((now - began, count, 1000 * (time.monotonic() - now)))
            due = max(due + TAKEN / RATE, now - 1)      # what was missed is made up for, but not for ever
            time.sleep(max(0, due - time.monotonic()))
        return counts

    def watch():
        watcher, holder = system.connect(), None
        cursor = watcher.cursor()
        start.wait(60)
        began = time.monotonic()
        sizes = []
        while (now := time.monotonic() - began) < total:
            if before <= now < before + held and not holder:
                holder = system.connect()
                holder.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
            if now >= before + held and holder:
                holder.close()
                holder = None
            cursor.execute("SELECT pg_database_size(current_database())")
            sizes.append((now, cursor.fetchone()[0]))
            time.sleep(step)
        return sizes

    _, counts, sizes = curve.together(publish, read, watch)
    rates = [0] * round(total / step)
    for when, count, _ in counts:
        rates[min(len(rates) - 1, int(when / step))] += count / step
    return ([(number * step + step / 2, rate) for number, rate in enumerate(rates)],
            [(when, took) for when, _, took in counts], sizes)


def mean(rates, start, end):
    inside = [rate for when, rate in rates if start <= when < end]
    return sum(inside) / len(inside) if inside else None


def p99(times, start, end):
    inside = sorted(took for when, took in times if start <= when < end)
    return inside[len(inside) * 99 // 100] if inside else None


def measure(systems):
    rates, sizes, rows, slowest = [], [], [], []
    before, held, after = (curve.seconds(number) for number in (BEFORE, HELD, AFTER))
    for system in systems:
        rate, times, size = run(system)
        rates.append(curve.Line(system.NAME, rate))
        sizes.append(curve.Line(system.NAME, size))
        spans = ((0, before), (before, before + held / 3), (before + held * 2 / 3, before + held),
                 (before + held, before + held + after))
        rows.append([system.NAME, *(curve.number(mean(rate, *span)) for span in spans),
                     curve.number((size[-1][1] - size[0][1]) / 2**20)])
        slowest.append([system.NAME, *(curve.number(p99(times, *span)) for span in spans)])
        bench.say("snapshot: " + ", ".join(rows[-1]) + "; p99 " + ", ".join(slowest[-1][1:]))
    marks = [curve.Mark(before, "held"), curve.Mark(before + held, "released")]
    spans = ["before", "first third held", "last third held", "after"]
    curve.write("snapshot", "While a snapshot is held", TEXT,
                [curve.table(["messages read/s", *spans, "MB grown in all"], rows),
                 curve.table(["p99 of a batch, ms", *spans], slowest)],
                [curve.Panel("read", rates, unit="messages/s", marks=marks),
                 curve.Panel("size of the database", sizes, unit="bytes", marks=marks)])
