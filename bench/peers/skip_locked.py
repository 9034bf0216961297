"""A queue as people write it: a table for each group, FOR UPDATE SKIP LOCKED, a visibility time, DELETE when done.

One index, the primary key, is its best case.
"""

from peers import postgres

TABLE = """
DROP TABLE IF EXISTS queue{n};
CREATE TABLE queue{n} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    visible_at timestamptz NOT NULL DEFAULT '-infinity',
    attempt int NOT NULL DEFAULT 0,
    device_id text NOT NULL,
    payload jsonb
)
"""

TAKE = """
WITH due AS (
    SELECT id FROM queue{n} WHERE visible_at <= now() ORDER BY id LIMIT {limit} FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE queue{n} AS queue SET visible_at = now() + '60 s', attempt = attempt + 1
    FROM due WHERE queue.id = due.id
    RETURNING queue.*
)
SELECT * FROM taken ORDER BY id
"""


class System(postgres.System):
    NAME = "SKIP LOCKED"
    groups = 0

    def fresh(self, groups):
        for n in range(max(groups, self.groups)):
            self.run(TABLE.format(n=n) if n < groups else f"DROP TABLE queue{n}")
        self.groups = groups

    def publish_one(self):
        return [f"INSERT INTO queue{n} (device_id, payload) VALUES ($1::text, $2::jsonb)" for n in range(self.groups)]

    def publish_many(self):
        return [f"INSERT INTO queue{n} (device_id, payload) SELECT * FROM unnest($1::text[], $2::jsonb[])"
                for n in range(self.groups)]

    def reader(self, group):
        return Reader(self.connect(), group)


class Reader(postgres.Reader):
    def __init__(self, connection, group):
        super().__init__(connection)
        self.group = group
        self.cursor.execute(f"PREPARE settle AS DELETE FROM queue{group} WHERE id = ANY ($1::bigint[])")

    def take_once(self, n):
        self.prepare(n, TAKE.format(n=self.group, limit=n))
        self.cursor.execute("EXECUTE take")
        if self.cursor.rowcount:
            self.ids = [row[0] for row in self.cursor.fetchall()]
        return self.cursor.rowcount

    def settle(self):
        self.cursor.execute("EXECUTE settle('{%s}')" % ",".join(map(str, self.ids)))
