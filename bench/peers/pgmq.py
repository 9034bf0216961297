"""PGMQ: a queue for each group, which has a copy of each message; where the extension is installed."""

from peers import postgres


class System(postgres.System):
    NAME = "PGMQ"
    EXTENSION = "pgmq"
    groups = 0

    def fresh(self, groups):
        for group in range(self.groups):
            self.run("SELECT pgmq.drop_queue(%s)", f"group{group}")
        for group in range(groups):
            self.run("SELECT pgmq.create(%s)", f"group{group}")
        self.groups = groups

    # the device is part of the message
    def publish_one(self):
        return [f"SELECT pgmq.send('group{group}', jsonb_build_object('device', $1::text, 'payload', $2::jsonb))"
                for group in range(self.groups)]

    def publish_many(self):
        return [f"SELECT count(*) FROM pgmq.send_batch('group{group}', ARRAY("
                "SELECT jsonb_build_object('device', device_id, 'payload', payload) "
                "FROM unnest($1::text[], $2::jsonb[]) AS message(device_id, payload)))" for group in range(self.groups)]

    def reader(self, group):
        return Reader(self.connect(), f"group{group}")


class Reader(postgres.Reader):
    def __init__(self, connection, group):
        super().__init__(connection)
        self.cursor.execute(f"PREPARE take AS SELECT * FROM pgmq.read('{group}', 60, $1::int)")
        self.cursor.execute(f"PREPARE settle AS SELECT count(*) FROM pgmq.delete('{group}', $1::bigint[])")

    def take_once(self, n):
        self.cursor.execute(f"EXECUTE take({n})")
        if self.cursor.rowcount:
            self.ids = [row[0] for row in self.cursor.fetchall()]
        return self.cursor.rowcount

    def settle(self):
        self.cursor.execute("EXECUTE settle('{%s}')" % ",".join(map(str, self.ids)))
