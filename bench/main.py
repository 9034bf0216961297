"""Measures the figures asked for (ONLY, else all) and prints their table."""

import contextlib
import importlib
import os
import sys
import tempfile
import time
import traceback

import bench
import peers

# The order of the table. A later figure is a file in bench/figures and a word here.
FIGURES = ["publish", "publish_batch", "consume", "fan_out", "latency", "idle", "backlog", "orderly", "retries", "segments",
           "retention", "bytes", "views", "catalogs", "router", "mqtt"]

# Each a page of results with a plot, of iotmq and its peers: a file in bench/curves.
CURVES = ["batch_size", "groups", "devices", "delays", "snapshot", "unread"]


def table(rows):
    lines = [("figure", "iotmq", "bare", "ratio", "target", "met?")]
    for row in rows:
        met = {True: "yes", False: "NO", None: "-"}[row.met]
        lines.append((row.name, row.iotmq, row.bare, row.ratio, row.target, met))
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def measure_figures(names, failed):
    rows = []
    for name in names:
        with noted(name, failed), bench.database(name) as it:
            rows += importlib.import_module("figures." + name).measure(it)
    return rows


def draw_curves(names, failed):
    curves = {name: importlib.import_module("curves." + name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)         # brokers don't run as root
        with peers.running(folder, {system for curve in curves.values() for system in curve.SYSTEMS}) as systems:
            for name, curve in curves.items():
                with noted(name, failed):
                    curve.measure([system for key, system in systems.items() if key in curve.SYSTEMS])


@contextlib.contextmanager
def noted(name, failed):
    """says how long it took; the others' minutes were not for nothing if it fails"""
    started = time.monotonic()
    try:
        yield
    except Exception:
        traceback.print_exc()
        failed.append(name)
    bench.say(f"{name}: {time.monotonic() - started:.0f} s")


def main():
    names = os.environ.get("ONLY", "").replace(",", " ").split() or FIGURES + CURVES
    unknown = set(names) - set(FIGURES + CURVES)
    if unknown:
        sys.exit(f"no figure {', '.join(sorted(unknown))}; there are: {', '.join(FIGURES + CURVES)}")
    failed = []
    rows = measure_figures([name for name in names if name in FIGURES], failed)
    if rows:
        print(bench.machine() + "\n")
        print(table(rows), flush=True)
    curves = [name for name in names if name in CURVES]
    if curves:
        draw_curves(curves, failed)
    if failed:
        sys.exit("not measured: " + ", ".join(failed))


if __name__ == "__main__":
    main()
