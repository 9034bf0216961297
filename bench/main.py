"""Measures the figures asked for (ONLY, else all) and prints their table."""

import importlib
import os
import sys
import time
import traceback

import bench

# The order of the table. A later figure is a file in bench/figures and a word here.
FIGURES = ["publish", "publish_batch", "consume", "fan_out", "latency", "idle", "backlog", "orderly", "retries", "segments",
           "retention", "views", "catalogs", "router", "mqtt"]


def machine():
    """one line that says where this was measured"""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    connection = bench.connect("postgres")
    version = connection.get_parameter_status("server_version")
    connection.close()
    return (f"{models[0] if models else os.uname().machine}, {os.cpu_count()} cores, {gigabytes:.0f} GB, "
            f"PostgreSQL {version}, {time.strftime('%Y-%m-%d')}")


def table(rows):
    lines = [("figure", "iotmq", "bare", "ratio", "target", "met?")]
    for row in rows:
        met = {True: "yes", False: "NO", None: "-"}[row.met]
        lines.append((row.name, row.iotmq, row.bare, row.ratio, row.target, met))
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def main():
    names = os.environ.get("ONLY", "").replace(",", " ").split() or FIGURES
    unknown = set(names) - set(FIGURES)
    if unknown:
        sys.exit(f"no figure {', '.join(sorted(unknown))}; there are: {', '.join(FIGURES)}")
    rows = []
    failed = []
    for name in names:
        started = time.monotonic()
        try:
            with bench.database(name) as it:
                rows += importlib.import_module("figures." + name).measure(it)
        except Exception:               # the other figures' minutes were not for nothing
            traceback.print_exc()
            failed.append(name)
        bench.say(f"{name}: {time.monotonic() - started:.0f} s")
    print(machine() + (f", scale {bench.SCALE:g}" if bench.SCALE != 1 else "") + "\n")
    print(table(rows))
    if failed:
        sys.exit("not measured: " + ", ".join(failed))


if __name__ == "__main__":
    main()
