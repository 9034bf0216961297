"""No queue at all: a table with a topic's columns and indexes, and readers that keep their own place.

What a message costs at least. It loses messages as soon as two publishers commit in another
order than they began.
"""

from peers import postgres

COLUMNS = "zone, msg_offset, device_id, tag, payload, body, properties, published_at"


class System(postgres.System):
    NAME = "bare table"
    DURABILITY = "messages: fsync of the WAL; nothing is acknowledged"

    def fresh(self, groups):
        self.run("""
            DROP TABLE IF EXISTS bare;
            DROP SEQUENCE IF EXISTS bare_offset;
            CREATE SEQUENCE bare_offset;
            CREATE TABLE bare (
                zone text NOT NULL DEFAULT 'default',
                msg_offset bigint NOT NULL DEFAULT nextval('bare_offset'),
                published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                device_id text NOT NULL,
                tag text,
                payload jsonb,
                body bytea,
                properties jsonb
            );
            CREATE UNIQUE INDEX ON bare (msg_offset);
            CREATE INDEX ON bare (device_id, msg_offset);
        """)

    def publish_one(self):
        return ["INSERT INTO bare (device_id, payload) VALUES ($1::text, $2::jsonb)"]

    def publish_many(self):
        return ["INSERT INTO bare (device_id, payload) SELECT * FROM unnest($1::text[], $2::jsonb[])"]

    def reader(self, group):
        return Reader(self.connect())


class Reader(postgres.Reader):
    def __init__(self, connection):
        super().__init__(connection)
        self.place = 0

    def take_once(self, n):
        self.prepare(n, f"SELECT {COLUMNS} FROM bare WHERE msg_offset > $1::bigint ORDER BY msg_offset LIMIT {n}")
        self.cursor.execute(f"EXECUTE take({self.place})")
        if self.cursor.rowcount:
            self.cursor.scroll(self.cursor.rowcount - 1)
            self.place = self.cursor.fetchone()[1]
        return self.cursor.rowcount
