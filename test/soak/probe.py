"""What is measured beside the load, by connections that last: how fast one consumer is who
always has messages, and how long a message takes from its commit to its receipt.

The topic "steady" has messages that are consumed again and again from the beginning, so
that its cursor changes at each call, for the whole soak.  The topic "probe" gets a message
now and then, which a waiting consumer receives.
"""

import threading
import time

from client import Client
from session import Session

MESSAGES = 20000
BATCH = 10          # small, since what is to be seen is the cost of a call
STATEMENT = """
DO $$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => %s);
	lease bigint;
	n int;
	messages int := 0;
BEGIN
	WHILE clock_timestamp() < until OR lease IS NOT NULL LOOP
		SELECT max(lease_id), count(*) INTO lease, n FROM iotmq.consume('steady', 'steady', %s, ack_lease => lease);
		COMMIT;
		messages := messages + n;
		IF lease IS NULL THEN
			PERFORM iotmq.seek_offset('steady', 'steady', 'default', 1);
			COMMIT;
		ELSIF clock_timestamp() >= until THEN
			PERFORM iotmq.ack(lease);
			COMMIT;
			lease := NULL;
		END IF;
	END LOOP;
	PERFORM set_config('soak.messages', messages::text, false);
END
$$
"""                 # in the server: the speed of a client that shares its process with others is not to be seen
SHARE = 0.2         # of the time at full speed; else the load has the machine
PAUSE = 0.05        # seconds between two messages
PAYLOAD = '{"celsius": 21.5}'

MEMORY = "SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts"


class Probe:
    def __init__(self, dsn, interval):
        self.interval = interval
        self.lock = threading.Lock()
        self.clear()
        own = Session(dsn, "probe")
        own.execute("SELECT iotmq.create_topic('steady', retention => '30 days')")
        own.execute("SELECT iotmq.create_group('steady', 'steady', start_from => '-infinity')")
        own.execute("SELECT count(iotmq.publish_batch('steady', array_fill('d'::text, '{1000}'), array_fill(%s::jsonb, '{1000}'))) "
                    "FROM generate_series(1, %s)", (PAYLOAD, MESSAGES // 1000))
        own.execute("SELECT iotmq.create_topic('probe', retention => '30 s', segment_interval => '5 s')")
        own.execute("SELECT iotmq.create_group('probe', 'probe')")
        own.close()

    def clear(self):
        self.latencies, self.messages, self.busy, self.cpu, self.waited, self.contexts = [], 0, 0.0, 0.0, 0.0, {}

    def take(self):
        """The figures since the last time, as columns."""
        with self.lock:
            times = sorted(self.latencies)
            figures = {
                "steady_per_s": self.messages / self.busy if self.busy else None,
                "undisturbed_per_s": self.messages / (self.busy - self.waited) if self.busy else None,
                "steady_cpu_us": 1e6 * self.cpu / self.messages if self.messages else None,
                "latency_p50_ms": times[len(times) // 2] * 1000 if times else None,
                "latency_p99_ms": times[len(times) * 99 // 100] * 1000 if times else None,
                "steady_contexts": self.contexts.get("steady"),
                "probe_publisher_contexts": self.contexts.get("probe publisher"),
            }
            self.clear()
        return figures

    def clients(self, load):
        """Those of a lap."""
        commits = {}
        return [Steady(load, "steady", self), ProbePublisher(load, "probe publisher", self, commits),
                ProbeConsumer(load, "probe consumer", self, commits)]


class ProbeClient(Client):
    """Ends before all is consumed."""

    def __init__(self, load, name, probe):
        super().__init__(load, name)
        self.probe = probe
        self.seen = 0.0                 # when its memory was

    def finished(self):
        return self.load.quiet or self.load.stopping

    def look_at_memory(self):
        if time.monotonic() > self.seen + self.probe.interval:
            self.seen = time.monotonic()
            contexts = self.session.execute(MEMORY)[0][0]
            with self.probe.lock:
                self.probe.contexts[self.name] = contexts


class Steady(ProbeClient):
    """Consumes at full speed for a share of the time."""

    def step(self):
        self.look_at_memory()
        begin, (cpu, waited) = time.monotonic(), self.scheduled()
        self.session.execute(STATEMENT, (SHARE * self.probe.interval, BATCH))
        messages = self.session.execute("SELECT current_setting('soak.messages')::int")[0][0]
        with self.probe.lock:
            self.probe.messages += messages
            self.probe.busy += time.monotonic() - begin
            now = self.scheduled()
            self.probe.cpu += now[0] - cpu
            self.probe.waited += now[1] - waited
        time.sleep((1 - SHARE) * self.probe.interval)

    def scheduled(self):
        """Seconds that its backend had a processor, and that it waited for one."""
        self.session.connect()
        with open(f"/proc/{self.session.connection.info.backend_pid}/schedstat", encoding="ascii") as file:
            return [int(nanoseconds) / 1e9 for nanoseconds in file.read().split()[:2]]


class ProbePublisher(ProbeClient):
    def __init__(self, load, name, probe, commits):
        super().__init__(load, name, probe)
        self.commits = commits

    def step(self):
        self.look_at_memory()
        self.session.execute("BEGIN")
        offset = self.session.execute("SELECT iotmq.publish('probe', 'd', %s)", (PAYLOAD,))[0][0]
        self.commits[offset] = time.monotonic()
        self.session.execute("COMMIT")
        time.sleep(2 * PAUSE * self.dice.random())


class ProbeConsumer(ProbeClient):
    def __init__(self, load, name, probe, commits):
        super().__init__(load, name, probe)
        self.commits = commits

    def step(self):
        rows = self.session.execute("SELECT lease_id, msg_offset FROM iotmq.consume('probe', 'probe', 100, wait => '1 s')")
        now = time.monotonic()
        if not rows:
            return
        with self.probe.lock:
            # those of the lap before have lost their time
            self.probe.latencies += [now - self.commits.pop(offset) for _, offset in rows if offset in self.commits]
        self.session.execute("SELECT iotmq.ack(%s)", (rows[0][0],))
