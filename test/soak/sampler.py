"""Samples of a soak, a line of a CSV file each.

column                   is
time_s                   seconds of load until the end of the sample
lap, phase               "before", "held" or "after": the snapshot
published_per_s          messages that the load published and committed
consumed_per_s           messages that its three groups were given
steady_per_s             messages a second of the consumer at full speed
undisturbed_per_s        the same without the time that its backend waited for a processor
steady_cpu_us            processor time of its backend a message
latency_p50_ms, _p99_ms  from sending COMMIT to receipt
lag_messages             of the group of the load that has most
expired_unread           what retention has taken from the groups of the load, which were too slow, in this lap
views_ms                 how long it takes to read group_lag
log_bytes                all messages, with what is stored outside of their rows
log_index_bytes          their indexes
internal_bytes, ..._index_bytes, ..._dead    the internal tables; dead rows as PostgreSQL estimates them
catalog_bytes, catalog_dead                  PostgreSQL's catalogs, in which segments come and go
NAME_bytes, NAME_dead    an internal table, with its indexes
KIND_memory              private memory of the largest backend of that kind, as the operating system has it
NAME_contexts            memory contexts of a backend
backends_lost            connections that have ended though nobody ended them
"""

import csv
import time

from session import Session

SIZES = """
SELECT n.nspname, c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid), coalesce(pg_stat_get_dead_tuples(c.oid), 0)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('iotmq_segment', 'iotmq_internal', 'pg_catalog')
"""
KINDS = ("publisher", "consumer", "puller", "administrator", "steady", "probe")
NAMES = {"some": "consumer", "all": "consumer", "orderly": "consumer", "pull": "puller"}


def kind_of(name):
    """The kind of a backend, by the name of its client; None: not one that lasts."""
    word = name.rstrip("0123456789").split(" ")[0]
    if name.endswith(" again"):
        return None
    return NAMES.get(word, word if word in KINDS else None)


class Sampler:
    def __init__(self, dsn, probe, path):
        self.path, self.probe = path, probe
        self.session = Session(dsn, "sampler")
        self.file = open(path, "w", encoding="utf-8", newline="")
        self.writer = None
        self.backends, self.lost = {}, 0

    def start(self, load):
        """A lap begins."""
        self.load, self.end, self.counted = load, load.started_at, (0, 0)
        self.probe.take()

    def lasted(self):
        """Seconds of this lap that were sampled."""
        return self.end - self.load.started_at

    def sample(self, begin, phase):
        now = time.monotonic()
        journal = self.load.journal
        counted = (journal.published, journal.consumed)
        published, consumed = ((after - before) / (now - self.end) for after, before in zip(counted, self.counted))
        self.end, self.counted = now, counted
        figures = {"time_s": begin + self.lasted(), "lap": self.load.number, "phase": phase,
                   "published_per_s": published, "consumed_per_s": consumed, **self.probe.take(),
                   **self.lag(), **self.sizes(), **self.memory()}
        if self.writer is None:
            self.writer = csv.DictWriter(self.file, list(figures), restval="")
            self.writer.writeheader()
        self.writer.writerow({name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()})
        self.file.flush()

    def lag(self):
        begin = time.monotonic()
        rows = self.session.execute("SELECT lag_messages, expired_unread FROM iotmq.group_lag WHERE topic = %s AND consumer_group <> 'pull'",
                                    (self.load.topic,))
        return {"lag_messages": max((lag for lag, _ in rows), default=None), "expired_unread": sum(expired for _, expired in rows),
                "views_ms": 1000 * (time.monotonic() - begin)}

    def sizes(self):
        figures = {f"{room}_{what}": 0 for room in ("log", "internal", "catalog") for what in ("bytes", "index_bytes", "dead")}
        tables = {}
        rooms = {"iotmq_segment": "log", "iotmq_internal": "internal", "pg_catalog": "catalog"}
        for schema, name, size, indexes, dead in self.session.execute(SIZES):
            room = rooms[schema]
            # a table that is dropped meanwhile has no size
            figures[f"{room}_bytes"] += size or 0
            figures[f"{room}_index_bytes"] += indexes or 0
            figures[f"{room}_dead"] += dead
            if room == "internal":
                tables.update({f"{name}_bytes": (size or 0) + (indexes or 0), f"{name}_dead": dead})
        return {**figures, **dict(sorted(tables.items()))}

    def memory(self):
        memory = dict.fromkeys(KINDS)
        for name, pid in self.session.execute("SELECT application_name, pid FROM pg_stat_activity WHERE datname = current_database()"):
            kind, bytes = kind_of(name), private_bytes(pid)
            if kind is None or bytes is None:
                continue
            self.lost += self.backends.setdefault(name, pid) != pid
            self.backends[name] = pid
            memory[kind] = max(memory[kind] or 0, bytes)
        return {**{f"{kind}_memory": bytes for kind, bytes in memory.items()}, "backends_lost": self.lost}

    def close(self):
        self.session.close()
        self.file.close()


def private_bytes(pid):
    """What a process has for itself; None: it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None
