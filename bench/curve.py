"""What the curves share: clients in processes of their own, and a page with a plot as the result.

A curve is a module in bench/curves with measure(systems, folder), which gets the systems that it
names in SYSTEMS, as far as they run here, and ends with write().
"""

import multiprocessing
import os
import statistics
import sys
import time

import bench

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.environ.get("RESULTS") or os.path.join(ROOT, "bench", "results")
sys.path.append(os.path.join(ROOT, "tools"))

import plot                             # noqa: E402  (tools/plot.py)
from plot import Line, Mark, Panel      # noqa: E402,F401  (for the curves)

processes = multiprocessing.get_context("fork")


def seconds(number):
    """of a run, at this run's scale"""
    return max(0.05, number * bench.SCALE)


def points(values):
    """of a curve; a trial has two"""
    return values[:2] if bench.QUICK else values


def by_turns(systems, rounds, run):
    """{name: the median of run(system)} of that many rounds, in changing order, or None where one gave None"""
    values = {system.NAME: [] for system in systems}
    for number in range(1 if bench.QUICK else rounds):
        for system in systems if number % 2 == 0 else reversed(systems):
            values[system.NAME].append(run(system))
    return {name: None if None in them else statistics.median(them) for name, them in values.items()}


def publish_rate(system, n, limit):
    """messages a second that one client publishes in batches of n"""
    publisher = system.publisher(n)
    for _ in range(6):                  # plans and the like
        publisher.publish()
    started = now = time.monotonic()
    sent = 0
    while now < started + limit:
        publisher.publish()
        sent += n
        now = time.monotonic()
    publisher.close()
    return sent / (now - started)


def together(*functions):
    """the functions' results, each run in a process of its own, all at the same time"""
    parts = []
    for function in functions:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=call, args=(function, theirs), daemon=True)
        process.start()
        theirs.close()
        parts.append((process, ours))
    try:
        return [receive(process, pipe) for process, pipe in parts]
    finally:
        for process, pipe in parts:
            process.kill()
            process.join()
            pipe.close()


def call(function, pipe):
    try:
        pipe.send((function(), None))
    except Exception as error:          # whoever waits has to know
        pipe.send((None, f"{type(error).__name__}: {error}"))
        raise


def receive(process, pipe):
    try:
        value, error = pipe.recv()
    except EOFError:
        error = f"a client has ended with {process.exitcode}"
    if error:
        raise RuntimeError(error)
    return value


def read_rate(system, groups, n, messages, limit):
    """deliveries a second of a reader for each group, that take n at once

    It ends when each has got so many messages, or the time is over and each has got some.
    """
    start = processes.Barrier(groups)

    def read(group):
        reader = system.reader(group)
        start.wait(60)
        started = last = time.monotonic()
        taken = 0
        while taken < messages and time.monotonic() < started + (limit if taken else 60):
            count = reader.take(n, min(limit, 0.1))
            if count:
                reader.settle()
                taken += count
                last = time.monotonic()
        return taken, started, last

    parts = together(*(lambda group=group: read(group) for group in range(groups)))
    taken = sum(part[0] for part in parts)
    return taken / (max(part[2] for part in parts) - min(part[1] for part in parts)) if taken else None


def number(value):
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(head, rows):
    """Markdown, all columns but the first to the right"""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(name, title, text, tables, panels, columns=2):
    """results/name.md and name.svg"""
    os.makedirs(RESULTS, exist_ok=True)
    where = bench.machine()
    plot.draw(os.path.join(RESULTS, name + ".svg"), title, panels, columns, where)
    with open(os.path.join(RESULTS, name + ".md"), "w", encoding="utf-8") as file:
        file.write(f"# {title}\n\n![{title}]({name}.svg)\n\n{text.strip()}\n\n" + "\n\n".join(tables) +
                   f"\n\n*{where}. Written by `make bench ONLY={name}`.*\n")
    bench.say(f"{name}: written to {RESULTS}/{name}.md")


def durabilities(systems):
    return "\n".join(["| system | what is safe when it is confirmed |", "| --- | --- |",
                      *(f"| {it.NAME} | {it.DURABILITY} |" for it in systems)])
