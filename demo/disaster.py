"""Two regions: a is mirrored to b, falls, and comes back as the mirror of b.

    cut    the regions don't see each other any more: what is published now is a's tail
    fall   all of region a is killed: server, bridge, consumers and web server; b's zones are
           promoted, and the programs go on there
    back   a's server starts again; its zones follow b, and drop the tail, which is shown
    end    of the fleet

The broker is outside of both, and stands for one that has survived. What it gave to a's bridge,
and was told that a has, it does not give again.
"""

import json
import os
import time

from aftermath import Aftermath
from common import HERE, POISON, SETTINGS, TOPIC, URGENT, setting
from region import Region

CUT, BACK = 0.35, 0.7  # parts of the fleet's time
PATIENCE = 20.0  # seconds
PROGRAMS = ["bridge", "analytics-1", "analytics-2", "webhook", "archive"]

# The role that a region is pulled as, and where the other region is.
PULLED = """
    CREATE ROLE puller LOGIN;
    SELECT iotmq.grant_mirror(t, 'puller') FROM unnest(%s::text[]) AS t;
"""
PULLS = """
    CREATE EXTENSION dblink;
    CREATE SERVER region_{name} FOREIGN DATA WRAPPER dblink_fdw
        OPTIONS (host '{PGHOST}', port '{PGPORT}', dbname 'postgres', connect_timeout '5');
    CREATE USER MAPPING FOR CURRENT_USER SERVER region_{name} OPTIONS (user 'puller');
"""

STOP_PULLING = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'demo mirror-b'"

# Whether b follows: it has something of each zone, and not all that analytics has done, or will.
FOLLOWS = f"""
    SELECT (SELECT bool_and(pulled_messages > 0) FROM iotmq.mirror WHERE topic = '{TOPIC}')
        AND (SELECT lag_messages > 0 FROM iotmq.group_lag WHERE topic = '{TOPIC}' AND consumer_group = 'analytics')
"""
# Whether a has messages that b has not, and analytics has settled all that b has.
HAS_MORE = f"""
    WITH pulled AS (
        SELECT zone, ends_at::bigint FROM jsonb_each_text(%s) AS p (zone, ends_at)
    ), settled AS MATERIALIZED (
        SELECT unnest(ids) AS id FROM demo.delivered
    )
    SELECT EXISTS (SELECT FROM iotmq_topic.{TOPIC} JOIN pulled USING (zone) WHERE msg_offset >= ends_at)
        AND NOT EXISTS (
            SELECT (payload->>'id')::bigint FROM iotmq_topic.{TOPIC} JOIN pulled USING (zone) WHERE msg_offset < ends_at
            EXCEPT
            SELECT id FROM settled)
"""
PULLED_ENDS = "SELECT jsonb_object_agg(zone, next_offset) FROM iotmq.mirror WHERE topic = %s"
TAIL = f"""
    SELECT m.zone, m.msg_offset, (m.payload->>'id')::bigint
    FROM iotmq_topic.{TOPIC} AS m
    JOIN jsonb_each_text(%s) AS pulled (zone, ends_at) USING (zone)
    WHERE m.msg_offset >= ends_at::bigint
"""


class Disaster:
    """What happens to the regions, step by step, while the fleet sends."""

    where = ", 2 regions"
    ok = "nothing is lost but what only the fallen region had, nothing twice but what it did last"

    def __init__(self, programs, counts, zones):
        self.programs = programs
        self.zones = [*((TOPIC, zone) for zone in zones), (POISON, "default")]
        self.a = Region("a", os.environ["PGHOST"], os.environ["PGPORT"])
        self.b = Region("b", os.environ["OTHER_PGHOST"], os.environ["OTHER_PGPORT"])
        self.recorder = self.progress = None
        self.aftermath = Aftermath(self, counts)
        self.missing, self.gather, self.check = self.aftermath.missing, self.aftermath.gather, self.aftermath.check
        self.steps = [self.cut, self.fall, self.come_back, self.end]
        self.cut_at = None  # by time.monotonic()
        self.back_at = 0.0  # seconds of the run: not before
        self.pulled = None  # zone: what b had pulled of it ends there
        self.tail = []  # a's own words about what it has dropped

    def prepare(self):
        """a is there, with topics and groups. b becomes its mirror."""
        a, b = self.a, self.b
        a.query(PULLED, [[TOPIC, POISON]])
        a.query(PULLS.format(name="b", **b.environment))
        b.query("CREATE EXTENSION iotmq")
        b.query("SELECT iotmq.set_node(1)")
        b.query(PULLS.format(name="a", **a.environment))
        for topic, zone in self.zones:
            b.query("SELECT iotmq.mirror_zone(%s, %s, 'region_a')", [topic, zone])
        b.query(PULLED, [[TOPIC, POISON]])
        for name in ("schema.sql", "analytics.sql", "regions.sql"):
            with open(os.path.join(HERE, name), encoding="utf-8") as file:
                b.query(file.read())
        for number in range(1, setting("PUBLISHERS") + 1):
            self.programs.environments[f"publisher-{number}"] = {"SECONDS_TO_RUN": str(SETTINGS["SECONDS_TO_RUN"][3])}
        for region in (a, b):
            self.programs.environments[f"mirror-{region.name}"] = region.environment
        self.programs.start("mirror-b")

    def over(self):
        return not self.steps

    def step(self, elapsed):
        """The next one, if it is time for it."""
        if self.steps and self.steps[0](elapsed):
            del self.steps[0]

    def say(self, what, mark=None):
        print(f"        {what}", flush=True)
        if mark:
            self.recorder.mark(mark)

    def cut(self, elapsed):
        """When b follows: else there would be little to see."""
        if elapsed < CUT * setting("SECONDS_TO_RUN") or not self.b.query(FOLLOWS)[0][0]:
            return False
        self.programs.kill_for_good("mirror-b")
        if not all(ended for ended, in self.b.query(STOP_PULLING)):
            raise SystemExit("demo: region b does not stop pulling")
        if not self.b.query(FOLLOWS)[0][0]:  # not any more, at this very moment
            self.programs.start("mirror-b")
            return False
        self.say("cut: the regions don't see each other any more", "cut")
        self.cut_at = time.monotonic()
        self.pulled = self.b.query(PULLED_ENDS, [TOPIC])[0][0]
        return True

    def fall(self, elapsed):
        """When there is something to lose, and something to do twice; or when that takes too long."""
        since = time.monotonic() - self.cut_at
        if since < setting("CUT") or (since < PATIENCE and not self.a.query(HAS_MORE, [json.dumps(self.pulled)])[0][0]):
            return False
        self.a.kill()
        for name in ("web-server", *PROGRAMS):
            self.programs.kill_for_good(name)
        self.progress.elsewhere = self.progress.aggregated
        self.say("killed: region a, server and programs", "a falls")
        self.promote()
        self.back_at = elapsed + (BACK - CUT) * setting("SECONDS_TO_RUN")
        return True

    def promote(self):
        """The zones are b's, and clients are led there."""
        begin = time.monotonic()
        self.b.query("SELECT iotmq.promote_zone(topic, zone, force => true) FROM iotmq.mirror")
        milliseconds = 1000 * (time.monotonic() - begin)
        self.b.query("CALL demo.note_settled(%s)", [list(URGENT)])
        os.environ.update(self.b.environment)
        self.programs.start_and_wait("web-server")
        for name in PROGRAMS:
            self.programs.start(name)
        self.say(f"region b: {len(self.zones)} zones promoted in {milliseconds:.0f} ms; programs started")

    def come_back(self, elapsed):
        if elapsed < self.back_at:
            return False
        self.a.start()
        self.say("region a is back, and becomes b's mirror", "a is back")
        self.b.insert("demo.tail", self.a.query(TAIL, [json.dumps(self.pulled)]))
        for topic in TOPIC, POISON:
            self.a.query("SELECT iotmq.demote_zone(%s, z, 'region_b') FROM iotmq.zones(%s) AS z ORDER BY z", [topic, topic])
            self.tail += self.a.notices
        for line in self.tail:
            self.say(line)
        self.programs.start("mirror-a")
        return True

    def end(self, elapsed):
        """The fleet, which sends until then: however slow all this was, it was under load."""
        if elapsed < setting("SECONDS_TO_RUN"):
            return False
        for number in range(1, setting("PUBLISHERS") + 1):
            self.programs.end(f"publisher-{number}")
        return True
