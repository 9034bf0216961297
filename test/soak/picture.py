#!/usr/bin/python3
"""Draws the samples of a soak.

    picture.py SAMPLES.csv PICTURE.svg
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import verdict
from plot import Line, Mark, Panel, draw

PANELS = (
    ("The load", "messages/s", {"published_per_s": "published", "consumed_per_s": "consumed by three groups"}),
    ("One consumer at full speed", "messages/s", {"undisturbed_per_s": "but for waiting for a processor", "steady_per_s": "consumed"}),
    ("Commit to receipt", "ms", {"latency_p50_ms": "p50", "latency_p99_ms": "p99"}),
    ("Lag of the group with most", "messages", {"lag_messages": "not settled"}),
    ("Size of the log", "bytes", {"log_bytes": "messages", "log_index_bytes": "their indexes"}),
    ("Size of catalogs", "bytes", {"internal_bytes": "internal tables", "internal_index_bytes": "their indexes",
                                   "catalog_bytes": "PostgreSQL's"}),
    ("Dead rows", "rows", {"internal_dead": "internal tables", "cursor_state_dead": "cursor_state", "lease_dead": "lease",
                           "redelivery_dead": "redelivery", "catalog_dead": "PostgreSQL's catalogs"}),
    ("Memory of a backend", "bytes", {"publisher_memory": "publisher", "consumer_memory": "consumer",
                                      "administrator_memory": "administrator", "steady_memory": "consumer at full speed"}),
)


def picture(samples, path):
    marks = []
    for phase, text in (("held", "a snapshot is held"), ("after", "no more")):
        # a phase begins where the sample before it ends
        ends = [before["time_s"] for before, sample in zip(samples, samples[1:]) if sample["phase"] == phase != before["phase"]]
        marks += [Mark(end, text) for end in ends]
    draw(path, "A soak", [
        Panel(title, [Line(label, [(sample["time_s"], sample[column]) for sample in samples]) for column, label in lines.items()],
              unit=unit, marks=marks) for title, unit, lines in PANELS])


if __name__ == "__main__":
    picture(verdict.read(sys.argv[1]), sys.argv[2])
