#!/usr/bin/python3
"""The verdict on samples made by hand: each kind of failure is found, under its own name."""

import unittest

import verdict

CALM = {"backends_lost": 0, "published_per_s": 100, "consumed_per_s": 300, "steady_per_s": 20000, "undisturbed_per_s": 30000, "steady_cpu_us": 5,
        "latency_p50_ms": 2, "latency_p99_ms": 9, "lag_messages": 100, "views_ms": 5, "log_bytes": 8e6, "log_dead": 0,
        "internal_bytes": 4e6, "internal_dead": 3000, "lease_bytes": 1e6, "lease_dead": 1000, "publisher_memory": 5e6,
        "steady_contexts": 2e6}
GOOD = [("90 messages", 0), ("80 messages", 0)]


def samples(count=40, **columns):
    """So many of each phase.  A column may be a function of the number of the sample and its phase."""
    made = []
    for phase in ("before", "held", "after"):
        for _ in range(count):
            values = {name: value(len(made), phase) if callable(value) else value for name, value in {**CALM, **columns}.items()}
            made.append({"phase": phase, **values})
    return made


def failed(given, checked=GOOD, crashes=()):
    return [text.removeprefix("FAILED ").split(":")[0] for text in verdict.lines(given, checked, crashes)
            if text.startswith("FAILED")]


def unjudged(given):
    return [text for text in verdict.lines(given, GOOD, ()) if text.startswith("--")]


class Verdict(unittest.TestCase):
    def test_calm(self):
        self.assertEqual(failed(samples()), [])
        self.assertEqual(unjudged(samples()), [])

    def test_violation(self):
        self.assertEqual(failed(samples(), [("90 messages", 0), ("80 messages", 1)]), ["nothing lost, repeated or out of order"])

    def test_not_checked(self):
        self.assertEqual(failed(samples(), [("Traceback", None)]), ["nothing lost, repeated or out of order"])
        self.assertEqual(failed(samples(), []), ["nothing lost, repeated or out of order"])

    def test_crash(self):
        self.assertEqual(failed(samples(), crashes=["TRAP: failed Assert"]), ["no crash"])

    def test_lost_connection(self):
        self.assertEqual(failed(samples(backends_lost=lambda n, phase: n // 100)), ["connections lasted"])

    def test_slower_with_a_snapshot(self):
        for column, what in (("undisturbed_per_s", "messages a second at full speed, but for waiting for a processor, with a snapshot held"),
                             ("consumed_per_s", "times that each published message is consumed with a snapshot held")):
            self.assertEqual(failed(samples(**{column: lambda n, phase: 79 if phase == "held" else 100})), [what])
            self.assertEqual(failed(samples(**{column: lambda n, phase: 81 if phase == "held" else 100})), [])

    def test_memory_grows(self):
        self.assertEqual(failed(samples(publisher_memory=lambda n, phase: 5e6 + 1e5 * n)), ["publisher memory"])
        self.assertEqual(failed(samples(steady_contexts=lambda n, phase: 2e6 + 1e5 * n)), ["steady contexts"])

    def test_memory_fills_up(self):
        self.assertEqual(failed(samples(publisher_memory=lambda n, phase: 5e6 + 1e5 * min(n, 30))), [])

    def test_tables_grow(self):
        self.assertEqual(failed(samples(lease_bytes=lambda n, phase: 1e6 + 1e5 * n)), ["lease bytes"])
        self.assertEqual(failed(samples(internal_dead=lambda n, phase: 3000 + 3000 * max(0, n - 80))), ["internal dead rows"])
        self.assertEqual(failed(samples(internal_dead=lambda n, phase: 3000 + 5000 * (n % 20))), [])
        self.assertEqual(failed(samples(log_bytes=lambda n, phase: 8e6 + 2e5 * n)), ["log bytes"])

    def test_tables_grow_while_a_snapshot_is_held(self):
        self.assertEqual(failed(samples(lease_bytes=lambda n, phase: 1e6 + 1e6 * min(n, 80))), [])

    def test_too_short(self):
        short = samples(5, publisher_memory=lambda n, phase: 5e6 + 1e6 * n, lease_bytes=lambda n, phase: 1e6 + 1e6 * n,
                        undisturbed_per_s=lambda n, phase: 1 if phase == "held" else 100)
        self.assertEqual(failed(short), [])
        self.assertEqual(len(unjudged(short)), 9)


if __name__ == "__main__":
    unittest.main()
