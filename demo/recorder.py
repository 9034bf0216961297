"""What the demo draws in the end: rates and lag over time.

Lag is looked at from time to time while the demo runs. All else is in the tables of the final
count, with its time.
"""

import time

from common import GROUPS, TOPIC
from plot import Line, Mark, Panel, draw

EVERY = 0.5  # seconds between two looks at the lag
POINTS = 120  # most of a line of rates

LAG = """
    SELECT extract(epoch FROM clock_timestamp())::float8, consumer_group, lag_messages, inflight_messages,
           (extract(epoch FROM lag_time) * 1000)::float8
    FROM iotmq.group_lag
    WHERE topic = %s
"""

# Messages of each of the n equal parts of the time from the first to the last look.
PUBLISHED = """
    SELECT width_bucket(extract(epoch FROM at)::float8, %(first)s, %(last)s, %(n)s), sum(last_id - first_id + 1)::bigint
    FROM demo.published
    GROUP BY 1
"""

DELIVERED = """
    SELECT width_bucket(extract(epoch FROM at)::float8, %(first)s, %(last)s, %(n)s), sum(messages)::bigint
    FROM demo.delivered
    WHERE consumer_group = %(group)s
    GROUP BY 1
"""

LATENCY = """
    SELECT width_bucket(extract(epoch FROM at)::float8, %(first)s, %(last)s, %(n)s),
           percentile_disc(0.99) WITHIN GROUP (ORDER BY ms)
    FROM demo.delivered AS d
    CROSS JOIN unnest(d.latency_ms) AS ms
    WHERE d.consumer_group = %(group)s
    GROUP BY 1
"""


class Recorder:
    def __init__(self, query):
        self.query = query
        self.samples = []  # (epoch, group, lag, in flight, ms)
        self.marks = []
        self.due = 0.0

    def sample(self):
        """Look at the lag, if it is time."""
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + EVERY
            self.samples += self.query(LAG, [TOPIC]) or []  # none while the database is away

    def mark(self, text):
        self.marks.append((time.time(), text))

    def draw(self, path, title, note):
        """Draw what was recorded to a file of that path."""
        first, last = self.samples[0][0], self.samples[-1][0]
        n = max(1, min(POINTS, round(last - first)))
        width = (last - first) / n or 1.0
        parts = {"first": first, "last": first + n * width, "n": n}

        def lag(column):
            return [Line(g, [(row[0] - first, row[column]) for row in self.samples if row[1] == g]) for g in GROUPS]

        def rate(counts):
            return [(width * (i + 0.5), counts.get(i + 1, 0) / width) for i in range(n)]

        def counts(query, group=None):
            return dict(self.query(query, {**parts, "group": group}))

        rates = [Line("published", rate(counts(PUBLISHED)))]
        latency = []
        for group in GROUPS:
            rates.append(Line(group, rate(counts(DELIVERED, group))))
            latency_of = counts(LATENCY, group)
            latency.append(Line(group, [(width * (i + 0.5), latency_of.get(i + 1)) for i in range(n)]))
        # Names would be written over each other.
        common = {"marks": [Mark(at - first, str(n)) for n, (at, _) in enumerate(self.marks, 1)], "span": (0, last - first)}
        if self.marks:
            note += "; killed: " + ", ".join(f"{n} {text}" for n, (_, text) in enumerate(self.marks, 1))
        draw(
            path,
            title,
            [
                Panel("Published and delivered", rates, unit="messages/s", **common),
                Panel("Lag: messages not settled", lag(2), unit="messages", **common),
                Panel("From the device to receipt, 99 of 100 messages", latency, unit="ms", **common),
                Panel("Delay: age of the oldest message not settled", lag(4), unit="ms", **common),
            ],
            note=note,
        )
