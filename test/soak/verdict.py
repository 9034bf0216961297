#!/usr/bin/python3
"""Judges the samples of a soak.

    verdict.py SAMPLES.csv

Each line of the verdict begins with "ok", "FAILED" or, where there are too few samples to
judge by, "--".

What grows without bound is told from what fills up by two medians: of the second quarter
of the samples and of the last one.  Dead rows come and go with autovacuum: of them the largest
numbers of both halves are compared.  While the snapshot is held dead rows can't go, so sizes
are judged by what came after it.  Rates during the hold are compared with those before, so
that what else the machine does matters little: without the time that the backend waited for
a processor, and by what was published.
"""

import csv
import statistics
import sys

LEAST = 20              # samples, or growth and rates are not judged
SLOWER = 0.2            # what a rate may lose during the hold
LARGER = {"bytes": 0.1, "memory": 0.1, "contexts": 0.1, "dead": 0.5}        # what may be gained in half of the time,
SLACK = {"bytes": 1 << 19, "memory": 1 << 20, "contexts": 1 << 18, "dead": 20000}   # and so much more
MEGABYTE = 1 << 20
TOTALS = ("log", "log_index", "internal", "internal_index", "catalog", "catalog_index")


def read(path):
    """Samples as {column: number, text or None}."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: value_of(text) for name, text in row.items()} for row in csv.DictReader(file)]


def value_of(text):
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def median(samples, column):
    values = [sample[column] for sample in samples if sample[column] is not None]
    return statistics.median(values) if values else None


def line(good, name, text):
    return f"{'ok' if good else 'FAILED' if good is not None else '--'} {name}: {text}"


def lines(samples, checked, crashes):
    """The verdict.  checked: what the checker said of each lap and its violations (None: it
    failed); crashes: lines of the server's log."""
    violations = sum(found or 0 for _, found in checked)
    failed = sum(found is None for _, found in checked)
    verdict = [line(not violations and not failed and bool(checked), "nothing lost, repeated or out of order",
                    f"{len(checked)} laps, {violations} violations, {failed} not checked: "
                    + "; ".join(said for said, _ in checked)),
               line(not crashes, "no crash", crashes[0] if crashes else "none in the server's log")]
    lost = max((sample["backends_lost"] for sample in samples), default=0)
    verdict.append(line(bool(samples) and not lost, "connections lasted", f"{len(samples)} samples, {lost:.0f} connections lost"))
    verdict += [held(samples, "undisturbed_per_s", "messages a second at full speed, but for waiting for a processor,"),
                held(consumed(samples), "consumed_each", "times that each published message is consumed")]
    after = [sample for sample in samples if sample["phase"] == "after"]
    tables = []
    for column in samples[0] if samples else ():
        name, _, kind = column.rpartition("_")
        if kind in ("memory", "contexts"):
            verdict.append(growth(samples, column, name, kind))
        elif kind in ("bytes", "dead") and name in TOTALS:
            verdict.append(growth(after, column, name, kind))
        elif kind in ("bytes", "dead"):
            tables.append(growth(after, column, name, kind))
    # of the many tables those that grow, if any
    verdict += [text for text in tables if text.startswith("FAILED")] or (
        [line(True if len(after) >= LEAST else None, "each internal table", f"{len(tables)} figures, {len(after)} samples")] if tables else [])
    if samples:
        verdict.append(figures(samples))
    return verdict


def consumed(samples):
    """How often what is published is consumed: how much that is depends on the machine."""
    return [{"phase": sample["phase"], "consumed_each": sample["consumed_per_s"] / sample["published_per_s"]}
            for sample in samples if sample["published_per_s"]]


def held(samples, column, what):
    """Consuming goes on as fast while a snapshot is held."""
    before, during = ([sample for sample in samples if sample["phase"] == phase] for phase in ("before", "held"))
    good = None
    text = "too few samples: "
    if len(before) >= LEAST and len(during) >= LEAST:
        good = median(during, column) >= (1 - SLOWER) * median(before, column)
        text = ""
    rates = [f"{median(part, column) or 0:.5g}" for part in (before, during)]
    return line(good, f"{what} with a snapshot held", f"{text}{rates[0]} before, {rates[1]} during "
                f"({len(before)} and {len(during)} samples)")


def growth(samples, column, name, kind):
    """The second quarter against the last one; of dead rows the first half against the second."""
    quarter = len(samples) // 4
    if kind == "dead":
        first, last = (max((sample[column] for sample in part), default=None) for part in (samples[:2 * quarter], samples[2 * quarter:]))
    else:
        first, last = (median(part, column) for part in (samples[quarter:2 * quarter], samples[3 * quarter:]))
    what = f"{name} {'dead rows' if kind == 'dead' else kind}"
    if len(samples) < LEAST or first is None or last is None:
        return line(None, what, f"too few samples: {len(samples)}")
    unit, scale = ("", 1) if kind == "dead" else (" MB", MEGABYTE)
    return line(last <= first * (1 + LARGER[kind]) + SLACK[kind], what,
                f"{first / scale:.2f} and then {last / scale:.2f}{unit}, largest "
                f"{max(sample[column] or 0 for sample in samples) / scale:.2f}{unit}")


def figures(samples):
    return "figures, as medians: " + ", ".join(
        f"{column} {median(samples, column) or 0:.4g}"
        for column in ("published_per_s", "consumed_per_s", "steady_per_s", "undisturbed_per_s", "steady_cpu_us", "latency_p50_ms",
                       "latency_p99_ms", "lag_messages", "views_ms", "log_bytes"))


if __name__ == "__main__":
    judged = lines(read(sys.argv[1]), [("by the samples alone", 0)], [])
    print("\n".join(judged))
    sys.exit(any(text.startswith("FAILED") for text in judged))
