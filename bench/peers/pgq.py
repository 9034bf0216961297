"""PgQ: a batch is what came between two ticks, and is finished as a whole.

What is loaded for readers has a tick after each batch. A reader that finds nothing ticks itself;
the ticker of pgqd does it once a second.
"""

import time

from peers import postgres


class System(postgres.System):
    NAME = "PgQ"
    EXTENSION = "pgq"
    SCHEMA = "pgq"

    def fresh(self, groups):
        # dropped with its consumers, if it is there
        self.run(f"SELECT {self.SCHEMA}.drop_queue(queue_name, true) FROM {self.SCHEMA}.queue")
        self.run(f"SELECT {self.SCHEMA}.create_queue('bench')")
        for name, value in (("ticker_max_count", "1"), ("ticker_max_lag", "1 ms"), ("ticker_idle_period", "60")):
            self.run(f"SELECT {self.SCHEMA}.set_queue_config('bench', %s, %s)", name, value)
        for group in range(groups):
            self.run(f"SELECT {self.SCHEMA}.register_consumer('bench', %s)", f"group{group}")

    def publish_one(self):
        return [f"SELECT {self.SCHEMA}.insert_event('bench', $1::text, $2::jsonb::text)"]

    def publish_many(self):
        return [f"SELECT {self.SCHEMA}.insert_event('bench', device_id, payload::text) "
                "FROM unnest($1::text[], $2::jsonb[]) AS message(device_id, payload)"]

    def load(self, n, messages, seconds):
        """batches of n"""
        publisher = self.publisher(n)
        end = time.monotonic() + seconds
        loaded = 0
        while loaded < messages and time.monotonic() < end:
            publisher.publish()
            self.run(f"SELECT {self.SCHEMA}.ticker('bench')")
            loaded += n
        publisher.close()
        self.tidy()
        return loaded

    def reader(self, group):
        return Reader(self.connect(), self.SCHEMA, f"group{group}")


class Reader(postgres.Reader):
    def __init__(self, connection, schema, group):
        super().__init__(connection)
        self.tick = f"SELECT {schema}.ticker('bench')"
        self.cursor.execute(f"PREPARE next AS SELECT {schema}.next_batch('bench', '{group}')")
        self.cursor.execute(f"PREPARE take AS SELECT * FROM {schema}.get_batch_events($1::bigint)")
        self.cursor.execute(f"PREPARE settle AS SELECT {schema}.finish_batch($1::bigint)")

    def take_once(self, n):
        """a tick's messages, however many; empty batches are finished on the way"""
        while True:
            self.cursor.execute("EXECUTE next")
            self.batch_id = self.cursor.fetchone()[0]
            if self.batch_id is None:
                self.cursor.execute(self.tick)
                return 0
            self.cursor.execute(f"EXECUTE take({self.batch_id})")
            if self.cursor.rowcount:
                return self.cursor.rowcount
            self.settle()

    def settle(self):
        self.cursor.execute(f"EXECUTE settle({self.batch_id})")
