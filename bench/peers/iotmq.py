"""iotmq itself."""

from peers import postgres


class System(postgres.System):
    NAME = "iotmq"
    DURABILITY = "messages: fsync of the WAL; acks: within a fraction of a second, as by default (durable_acks)"
    EXTENSION = "iotmq"

    def start(self, folder):
        super().start(folder)
        self.run("SELECT iotmq.create_topic('bench')")

    def fresh(self, groups):
        self.run("SELECT iotmq.drop_topic('bench', force => true)")
        self.run("SELECT iotmq.create_topic('bench')")
        for group in range(groups):
            self.run("SELECT iotmq.create_group('bench', %s)", f"group{group}")

    def rewind(self):
        """group 0 begins anew, of all that is there"""
        self.run("SELECT iotmq.drop_group('bench', 'group0', force => true)")
        self.run("SELECT iotmq.create_group('bench', 'group0', start_from => '-infinity')")

    def publish_one(self):
        return ["SELECT iotmq.publish('bench', $1::text, $2::jsonb)"]

    def publish_many(self):
        return ["SELECT iotmq.publish_batch('bench', $1::text[], $2::jsonb[])"]

    def reader(self, group):
        return Reader(self.connect(), f"group{group}")


class Reader(postgres.Reader):
    def __init__(self, connection, group):
        super().__init__(connection)
        self.cursor.execute("PREPARE take AS SELECT * FROM iotmq.consume('bench', "
                            f"'{group}', $1::int, wait => $2::interval)")
        self.cursor.execute("PREPARE settle AS SELECT iotmq.ack($1::bigint)")

    def take(self, n, wait):
        self.cursor.execute(f"EXECUTE take({n}, '{wait} s')")
        if self.cursor.rowcount:
            self.lease_id = self.cursor.fetchone()[0]
        return self.cursor.rowcount

    def settle(self):
        self.cursor.execute(f"EXECUTE settle({self.lease_id})")
