"""What else goes on in a database: somebody who rebuilds, and somebody who looks for long."""

import psycopg2

from client import Client

REBUILDS = ("REINDEX TABLE CONCURRENTLY iotmq_internal.{table}", "VACUUM FULL iotmq_internal.{table}",
            "VACUUM iotmq_internal.{table}", "ANALYZE iotmq_internal.{table}")
TABLES = ("lease", "redelivery", "cursor_state", "dead_message", "segment", "zone", "cursor", "consumer_group")


class Rebuilder(Client):
    """Rebuilds the catalogs under everybody's hands."""

    def finished(self):
        return self.load.quiet or self.load.stopping

    def step(self):
        self.pause(1)
        statement = self.dice.choice(REBUILDS).format(table=self.dice.choice(TABLES))
        self.session.execute("SET lock_timeout = '500ms'")
        self.session.execute(statement)


class Reader(Client):
    """Holds a snapshot for some seconds, and looks at the views by it."""

    def finished(self):
        return self.load.quiet or self.load.stopping

    def step(self):
        self.session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self.session.execute("SELECT * FROM iotmq.consumer_lag")
        self.pause(3)
        try:
            self.session.execute("SELECT count(*) FROM iotmq.fetch(%s, %s, 1, 1000)", (self.topic, self.dice.choice(self.load.zones)))
        except psycopg2.Error as error:
            self.complain(error)
        self.session.rollback()
