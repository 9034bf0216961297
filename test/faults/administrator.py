"""An administrator who changes things while everybody works: one action at a time."""

import time

import psycopg2

from client import Client
from session import Lost

# Those that don't change who has to get what come first; see Load.
ACTIONS = ("maintain", "retries", "seek", "seek_offset", "redrive", "purge", "tags", "mode", "zone", "group", "retention")


class Administrator(Client):
    def __init__(self, load, name, actions):
        super().__init__(load, name)
        self.actions = actions
        self.expected = self.expected | {"42710", "22023"}
        self.zones_made = 0

    def finished(self):
        return self.load.quiet or self.load.stopping

    def step(self):
        getattr(self, self.dice.choice(self.actions))()
        time.sleep(0.5 * self.dice.random())

    def do(self, kind, statement, args=(), **fields):
        """Runs a statement, in a transaction that is sometimes rolled back, and notes it;
        fields may be a function of the rows.  The rows, or None if it was refused."""
        undone = self.chance(0.1) and not statement.startswith("CALL")
        complete = fields.pop("complete", lambda rows: {})
        begin = time.monotonic()
        rows = []
        try:
            if not statement.startswith("CALL"):
                self.session.execute("BEGIN")
            rows = self.session.execute(statement, args)
            if statement.startswith("CALL"):
                result = "committed"
            elif undone:
                self.session.rollback()
                result = "rolled back"
            else:
                result = self.session.commit()
        except Lost:
            self.journal.write(kind, begin, topic=self.topic, **{**fields, **complete(rows)}, result="unknown")
            raise
        except psycopg2.Error as error:
            self.complain(error)
            self.session.rollback()
            self.journal.write(kind, begin, topic=self.topic, **{**fields, **complete(rows)}, result="refused")
            return None
        self.journal.write(kind, begin, topic=self.topic, **{**fields, **complete(rows)}, result=result)
        return rows

    def group(self):
        """The group that comes and goes."""
        name = "passing"
        if self.load.has_group(name):
            self.do("group", "SELECT iotmq.drop_group(%s, %s)", (self.topic, name), group=name, action="drop")
        else:
            self.load.create_group(self.do, name, {"mode": self.dice.choice(("concurrent", "orderly")),
                                                   "start": self.dice.choice(("earliest", "latest"))})

    def some_group(self):
        return self.dice.choice([name for name, given in self.load.groups.items() if not given.get("pull")])

    def maintain(self):
        if self.load.keeps is None:
            self.do("maintenance", "CALL iotmq.run_maintenance()")
        else:
            self.do("retention", "CALL iotmq.run_maintenance()", at="now", keeps=self.load.keeps)

    def retention(self):
        """A run in which all but the last segments are over."""
        self.do("retention", "CALL iotmq.run_maintenance(now() + %s::interval)", (self.load.retention,), at=self.load.retention)

    def retries(self):
        group, most = self.some_group(), self.dice.randint(2, 6)
        self.do("group", "SELECT iotmq.alter_group(%s, %s, max_retries => %s)", (self.topic, group, most),
                group=group, action="alter", settings={"max_retries": most})

    def tags(self):
        group, tags = self.some_group(), self.dice.choice((None, ["alarm"], ["alarm", "temperature"]))
        above = self.dice.choice((-1, 20, 50))
        self.do("group", "SELECT iotmq.alter_group(%s, %s, tags => %s, filter => %s)",
                (self.topic, group, "*" if tags is None else " || ".join(tags), f"$.v > {above}"),
                group=group, action="alter", settings={"tags": tags, "above": above})

    def mode(self):
        group, mode = self.some_group(), self.dice.choice(("concurrent", "orderly"))
        self.do("group", "SELECT iotmq.alter_group(%s, %s, mode => %s)", (self.topic, group, mode),
                group=group, action="alter", settings={"mode": mode})

    def seek(self):
        zone = self.dice.choice((None, *self.load.zones))
        back = self.dice.choice(("infinity", "-infinity")) if self.chance(0.1) else None
        to = "now()" if back is None else f"'{back}'::timestamptz"
        seconds = self.dice.random() ** 2 * self.load.seconds
        self.moved("seek", f"SELECT zone, new_offset FROM iotmq.seek(%s, %s, {to} - make_interval(secs => %s), zone => %s)",
                   (seconds, zone), None if zone is None else [zone])

    def seek_offset(self):
        zone = self.dice.choice(self.load.zones)
        self.moved("seek_offset", "SELECT zone, new_offset FROM iotmq.seek_offset(%s, %s, %s, (SELECT next_offset - %s "
                   "FROM iotmq.consumer_lag WHERE topic = %s AND consumer_group = %s AND zone = %s))",
                   (zone, self.dice.randint(-50, 500)), [zone])

    def moved(self, how, statement, args, zones):
        group = self.some_group()
        if how == "seek_offset":
            args = (self.topic, group, *args, self.topic, group, args[0])
        else:
            args = (self.topic, group, *args)
        unknown = None if zones is None else {zone: None for zone in zones}
        self.do("move", statement, args, group=group, how=how, to=None,
                complete=lambda rows: {"zones": {zone: offset for zone, offset in rows} or unknown})

    def redrive(self):
        group = self.some_group()
        self.do("redrive", "SELECT iotmq.redrive(%s, %s, max_messages => %s)",
                (self.topic, group, self.dice.choice((None, 1, 5))), group=group)

    def purge(self):
        group = self.some_group()
        self.do("purge", "SELECT iotmq.purge_dead_letters(%s, %s, ARRAY(SELECT id FROM iotmq.dead_letter "
                "WHERE topic = %s AND consumer_group = %s ORDER BY id LIMIT 3))",
                (self.topic, group, self.topic, group), group=group)

    def zone(self):
        """A zone that nobody publishes to comes and goes."""
        if self.zones_made % 2:
            rows = self.do("zone", "SELECT iotmq.drop_zone(%s, 'passing', force => true)", (self.topic,),
                           zone="passing", action="drop")
        else:
            rows = self.do("zone", "SELECT iotmq.add_zone(%s, 'passing')", (self.topic,), zone="passing", action="add")
        if rows is not None:
            self.zones_made = self.session.execute("SELECT count(*) FROM iotmq.topic_stats WHERE topic = %s AND zone = 'passing'",
                                                   (self.topic,))[0][0]
