"""Random statements over what the catalog says there is to call, and random transactions of them."""

from values import Values, quote

# What users may call: every function and procedure whose comment does not begin with "internal".
ROUTINES = """
SELECT p.proname, p.prokind, p.proretset, p.pronargs, p.pronargdefaults, p.proargnames,
    ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS u (t, n) ORDER BY n)
FROM pg_proc AS p
WHERE p.pronamespace = 'iotmq'::regnamespace AND p.prorettype <> 'trigger'::regtype
    AND obj_description(p.oid, 'pg_proc') NOT LIKE 'internal%'
ORDER BY p.proname, p.oid"""

VIEWS = """
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = 'iotmq'::regnamespace AND c.relkind = 'v' ORDER BY c.relname"""

# Called more often than others, since the rest stands on them.
OFTEN = {"publish": 6, "publish_batch": 3, "consume": 10, "ack": 5, "nack": 4, "reject": 3, "settle": 3, "extend": 2, "fetch": 2, "redrive": 2, "create_group": 2}
# Called seldom, since they take away what the others need.
SELDOM = {"drop_topic": 0.4, "drop_zone": 0.6, "drop_group": 0.5, "run_maintenance": 0.3}

MILD = ("ANALYZE {table}", "VACUUM {table}", "CREATE INDEX IF NOT EXISTS {name} ON {table} (tag)", "DROP INDEX IF EXISTS iotmq_topic.{name}",
        "COMMENT ON TABLE {table} IS 'fuzzed'", "LOCK TABLE {table} IN ACCESS SHARE MODE", "SELECT count(*) FROM {table}",
        "VACUUM iotmq_internal.lease, iotmq_internal.cursor_state, iotmq_internal.redelivery")
ROUGH = MILD + ("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS extra text", "ALTER TABLE {table} DROP COLUMN IF EXISTS extra",
                "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS extra text DEFAULT 'x'", "VACUUM FULL {table}", "REINDEX TABLE {table}",
                "REINDEX TABLE CONCURRENTLY iotmq_internal.lease", "REINDEX TABLE CONCURRENTLY iotmq_internal.redelivery",
                "CREATE INDEX IF NOT EXISTS {name} ON iotmq_internal.dead_message ((reason || device_id))", "CLUSTER iotmq_internal.cursor_state USING cursor_state_cursor_id",
                "ALTER TABLE {table} ADD CHECK (device_id <> 'd4')", "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", "TRUNCATE {table}")


class Statements:
    def __init__(self, dice, routines, views, topics, roles, ddl, superuser):
        self.dice, self.views, self.topics, self.ddl, self.superuser = dice, views, topics, ddl, superuser
        self.values = Values(dice, topics, roles)
        self.routines = routines
        self.weights = [OFTEN.get(r[0], 1) * SELDOM.get(r[0], 1) for r in routines]

    def chance(self, share):
        return self.dice.random() < share

    def statement(self):
        """One statement, and whether it needs to stand alone."""
        kind = self.dice.random()
        if kind < 0.84:
            return self.call()
        if kind < 0.90:
            return f"SELECT * FROM iotmq.{self.dice.choice(self.views)}", False
        if kind < 0.96 or self.ddl == "none":
            return self.insert(), False
        table = f"iotmq_topic.\"{self.dice.choice(self.topics)}\""
        text = self.dice.choice(MILD if self.ddl == "mild" else ROUGH).format(table=table, name=f"fuzz_{self.dice.randrange(3)}")
        return text, text.startswith(("VACUUM", "REINDEX TABLE CONCURRENTLY", "CLUSTER", "LOCK"))

    def call(self):
        name, kind, is_set, count, defaults, names, types = self.dice.choices(self.routines, self.weights)[0]
        arguments = []
        for n in range(count):
            required = n < count - defaults
            if required or self.chance(min(0.35, 1 / defaults)):
                value = self.values.argument(names[n], types[n])
                # batches want arrays of one length most of the time
                arguments.append(value if required else f"{names[n]} => {value}")
        if name == "publish_batch" and self.chance(0.7):
            arguments = [self.values.argument("topic", "text"), "'{d1,d2,d1}'::text[]", "array_fill('{\"v\": 60}'::jsonb, ARRAY[3])", "'z1'"]
        call = f"iotmq.{name}({', '.join(arguments)})"
        if kind == "p":
            return f"CALL {call}", True
        return (f"SELECT * FROM {call}" if is_set and self.chance(0.8) else f"SELECT {call}"), False

    def insert(self):
        """Into the table of a zone, as COPY does it: the offset is the server's, or not."""
        topic = quote(self.dice.choice(self.topics))
        columns, row = "device_id, payload, tag", "'d1', '{\"v\": 60}', 'alarm'"
        if not self.superuser and self.chance(0.1):     # who is exempt from the check, for a restore
            columns, row = columns + ", msg_offset", row + f", {self.dice.choice((1, 5, 1 << 40))}"
        if self.chance(0.1):
            row = row.replace("'d1'", self.dice.choice(("NULL", "''", "repeat('d', 256)")))
        return (f"DO $do$ BEGIN EXECUTE 'INSERT INTO ' || iotmq.zone_table({topic}, 'z1') || "
                f"$in$ ({columns}) VALUES ({row}), ({row})$in$; END $do$")

    def transaction(self):
        """The statements of a transaction, or of none."""
        dice = self.dice
        timeout = dice.choice(("5ms", "50ms", "1s", "1s", "2s"))
        setup = [f"SET statement_timeout = '{timeout}'", f"SET lock_timeout = '{dice.choice(('0', '0', '20ms'))}'"]
        if self.chance(0.45):
            statements = [self.statement()[0] for _ in range(dice.randint(1, 4))]
            return setup + statements
        body = []
        depth = 0
        for n in range(dice.randint(1, 6)):
            choice = dice.random()
            if choice < 0.12:
                depth += 1
                body.append(f"SAVEPOINT s{depth}")
            elif choice < 0.2 and depth:
                body.append(f"ROLLBACK TO s{depth}")
            elif choice < 0.25 and depth:
                body.append(f"RELEASE s{depth}")
                depth -= 1
            elif choice < 0.33:
                text, _ = self.statement()
                if text.startswith("SELECT"):
                    body += [f"DECLARE c{n} CURSOR FOR {text}", f"FETCH {dice.choice((0, 1, 3, 'ALL'))} FROM c{n}"]
                    body += [self.statement()[0]] + ([f"CLOSE c{n}"] if self.chance(0.5) else [f"FETCH 1 FROM c{n}"])
            else:
                text, alone = self.statement()
                if not alone or self.chance(0.1):
                    body.append(text)
        begin = dice.choice(("BEGIN",) * 8 + ("BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN READ ONLY"))
        end = dice.random()
        ends = ["COMMIT"] if end < 0.6 else ["ROLLBACK"] if end < 0.85 else ["PREPARE TRANSACTION 'fuzz {worker}'"]
        return setup + [begin] + body + ends
