"""Measures the figures asked for (ONLY, else all) and prints their table."""

import importlib
import os
import subprocess
import sys
import time
import traceback

from lib import bench

# A later figure is a file in bench/figures and a word here.
FIGURES = ["publish", "publish_batch", "consume", "fan_out", "latency", "idle", "backlog", "orderly", "retries", "segments",
           "retention", "views"]


def machine():
    """one line that says where this was measured"""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    connection = bench.connect("postgres")
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        version = cursor.fetchone()[0]
    connection.close()
    return (f"{models[0] if models else os.uname().machine}, {os.cpu_count()} cores, {gigabytes:.0f} GB, "
            f"PostgreSQL {version}, {time.strftime('%Y-%m-%d')}")


def table(results):
    rows = [("figure", "iotmq", "bare", "ratio", "target", "met?")]
    for result in results:
        met = {True: "yes", False: "NO", None: "-"}[result.met]
        rows.append((result.name, result.iotmq, result.bare, result.ratio, result.target, met))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |" for row in rows)


def main():
    names = os.environ.get("ONLY", "").replace(",", " ").split() or FIGURES
    unknown = set(names) - set(FIGURES)
    if unknown:
        sys.exit(f"no figure {', '.join(sorted(unknown))}; there are: {', '.join(FIGURES)}")
    results = []
    failed = []
    for name in names:
        started = time.monotonic()
        try:
            results += importlib.import_module("figures." + name).measure()
        except Exception:               # the other figures' minutes were not for nothing
            traceback.print_exc()
            failed.append(name)
        bench.say(f"{name}: {time.monotonic() - started:.0f} s")
    print(machine() + (f", scale {bench.SCALE:g}" if bench.SCALE != 1 else "") + "\n")
    print(table(results))
    if failed:
        sys.exit("not measured: " + ", ".join(failed))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
