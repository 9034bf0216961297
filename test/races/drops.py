"""Every function that names a topic, zone or group, and the drop of it at every step.

A function is stopped where it first needs a certain catalog: another session holds that
table, drops, and commits. Then the function goes on with what it knew before. It must find
that the thing is gone (42704), or have been first; no row is all NULLs, and nothing is left of
what was dropped, whoever was first. Prints what is wrong.
"""

import sys
import threading
import time

import psycopg2

TABLES = ["topic", "zone", "consumer_group", "cursor", "cursor_state"]
DROPS = ["SELECT iotmq.drop_topic('m', force => true)", "SELECT iotmq.drop_zone('m', 'a', force => true)",
         "SELECT iotmq.drop_group('m', 'g', force => true)"]
CALLS = [
    "SELECT iotmq.create_group('m', 'new', start_from => '-infinity')",
    "SELECT iotmq.add_zone('m', 'new')",
    "SELECT iotmq.alter_topic('m', retention => '5 hours')",
    "SELECT iotmq.alter_group('m', 'g', mode => 'orderly')",
    "SELECT iotmq.alter_group('m', 'g', tags => 'x')",
    "SELECT iotmq.grant_publish('m', 'grantee')",
    "SELECT iotmq.grant_publish('m', 'grantee', '{a}')",
    "SELECT iotmq.revoke_publish('m', 'grantee')",
    "SELECT iotmq.grant_consume('m', 'g', 'grantee')",
    "SELECT iotmq.revoke_consume('m', 'g', 'grantee')",
    "SELECT iotmq.grant_read('m', 'grantee')",
    "SELECT iotmq.revoke_read('m', 'grantee')",
    "SELECT s.* FROM iotmq.seek('m', 'g', '-infinity') AS s",
    "SELECT s.* FROM iotmq.seek('m', 'g', '-infinity', dry_run => true) AS s",
    "SELECT s.* FROM iotmq.seek('m', 'g', '-infinity', 'a') AS s",
    "SELECT s.* FROM iotmq.seek_offset('m', 'g', 'a', 1) AS s",
    "SELECT s.* FROM iotmq.seek_offset('m', 'g', 'a', 1, dry_run => true) AS s",
    "SELECT iotmq.commit_offset('m', 'g', 'a', 2)",
    "SELECT iotmq.committed_offset('m', 'g', 'a')",
    "SELECT iotmq.retry_now('m', 'h', '{1}', 'a')",
    "SELECT iotmq.give_up('m', 'h', '{1}', 'a')",
    "SELECT iotmq.redrive('m', 'g')",
    "SELECT iotmq.purge_dead_letters('m', 'g')",
    "SELECT iotmq.count_lag('m', 'g')",
    "SELECT iotmq.publish('m', 'd', '1', 'a')",
    "SELECT msg_offset FROM iotmq.consume('m', 'g', zone => 'a')",
    "SELECT msg_offset FROM iotmq.fetch('m', 'a', 1)",
    "SELECT msg_offset FROM iotmq.messages_of_device('m', 'd')",
    "SELECT msg_offset FROM iotmq.message_by_key('m', 'd', 'k')",
    "SELECT msg_offset FROM iotmq.message_by_key('m', 'd', 'k', 'a')",
    "SELECT consumer_group FROM iotmq.message_status('m', 'a', 1)",
    "SELECT wanted FROM iotmq.preview_group('m', 'g')",
    "SELECT iotmq.grant_read('m', 'grantee', '{a}')",
    "SELECT iotmq.revoke_read('m', 'grantee', '{a}')",
    "SELECT iotmq.publish_batch('m', '{d,d}', '{1,2}', zones => '{b,a}')",
    "SELECT iotmq.topic_table('m')::oid::regclass, iotmq.zone_table('m', 'a')::oid::regclass",
    "SELECT iotmq.drop_topic('m', force => true)",
    "SELECT iotmq.drop_zone('m', 'a', force => true)",
    "SELECT iotmq.drop_group('m', 'g', force => true)",
]
SETUP = [
    "SELECT iotmq.drop_topic(topic, force => true) FROM iotmq_internal.topic",
    "DELETE FROM iotmq_internal.past_zone",
    "SELECT iotmq.create_topic('m', '{a,b}', segment_interval => '36 h')",
    "SELECT iotmq.create_group('m', 'g', start_from => '-infinity', max_retries => 0)",
    "SELECT iotmq.create_group('m', 'h', start_from => '-infinity')",
    "SELECT iotmq.publish('m', 'd', '1', 'a') FROM generate_series(1, 3)",
    "SELECT iotmq.nack(lease_id) FROM iotmq.consume('m', 'g', 1, zone => 'a')",
    "SELECT iotmq.nack(lease_id) FROM iotmq.consume('m', 'h', 1, zone => 'a')",
    "SELECT iotmq.grant_consume('m', 'h', 'grantee')",
]
ORPHANS = """
SELECT 'zone' FROM iotmq_internal.zone WHERE topic_id NOT IN (SELECT topic_id FROM iotmq_internal.topic)
UNION ALL SELECT 'segment' FROM iotmq_internal.segment WHERE zone_id NOT IN (SELECT zone_id FROM iotmq_internal.zone)
UNION ALL SELECT 'gap' FROM iotmq_internal.zone_gap WHERE zone_id NOT IN (SELECT zone_id FROM iotmq_internal.zone)
UNION ALL SELECT 'group' FROM iotmq_internal.consumer_group WHERE topic_id NOT IN (SELECT topic_id FROM iotmq_internal.topic)
UNION ALL SELECT 'cursor' FROM iotmq_internal.cursor
	WHERE zone_id NOT IN (SELECT zone_id FROM iotmq_internal.zone)
		OR group_id NOT IN (SELECT group_id FROM iotmq_internal.consumer_group)
UNION ALL SELECT 'no cursor' FROM iotmq_internal.zone AS z JOIN iotmq_internal.consumer_group AS g USING (topic_id)
	WHERE (zone_id, group_id) NOT IN (SELECT zone_id, group_id FROM iotmq_internal.cursor)
UNION ALL SELECT 'cursor_state' FROM iotmq_internal.cursor_state WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)
UNION ALL SELECT 'no cursor_state' FROM iotmq_internal.cursor WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor_state)
UNION ALL SELECT 'lease' FROM iotmq_internal.lease WHERE iotmq.lease_cursor(lease_id) NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)
UNION ALL SELECT 'redelivery' FROM iotmq_internal.redelivery WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)
UNION ALL SELECT 'dead letter' FROM iotmq_internal.dead_message WHERE cursor_id NOT IN (SELECT cursor_id FROM iotmq_internal.cursor)
UNION ALL SELECT 'grant' FROM iotmq_internal.consume_grant WHERE group_id NOT IN (SELECT group_id FROM iotmq_internal.consumer_group)
UNION ALL SELECT 'table ' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
	WHERE n.nspname IN ('iotmq_topic', 'iotmq_segment') AND c.relkind IN ('r', 'p') AND c.oid NOT IN (
		SELECT table_name FROM iotmq_internal.topic UNION ALL SELECT table_name FROM iotmq_internal.zone
		UNION ALL SELECT table_name FROM iotmq_internal.segment)
UNION ALL SELECT 'right' FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
	WHERE n.nspname = 'iotmq' AND a.grantee <> n.nspowner
		AND NOT EXISTS (SELECT FROM iotmq.privileges AS p WHERE p.role = a.grantee)
UNION ALL SELECT 'no right' FROM iotmq.privileges AS p
	WHERE p.role <> 0::oid AND NOT has_schema_privilege(p.role, 'iotmq', 'USAGE')
"""
GONE, BUSY, DEADLOCK = "42704", "55P03", "40P01"


class Session:
    def __init__(self):
        self.connection = psycopg2.connect("")
        self.connection.autocommit = True
        self.pid = self.connection.get_backend_pid()
        self.run("SET client_min_messages = error")

    def run(self, statement):
        """The rows, and the SQLSTATE with the message."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement)
                return (cursor.fetchall() if cursor.description else []), ""
        except psycopg2.Error as error:
            return [], f"{error.pgcode} {str(error).splitlines()[0]}"


class Races:
    def __init__(self):
        self.caller, self.dropper, self.watcher = Session(), Session(), Session()
        self.faults = self.stopped = self.cases = 0

    def fault(self, what):
        self.faults += 1
        print(what, flush=True)

    def prepare(self):
        for statement in SETUP:
            _, error = self.dropper.run(statement)
            if error:
                self.fault(f"setup: {statement}: {error}")
        self.caller.run("SELECT iotmq.count_lag('m', 'g')")

    def await_caller(self, thread):
        """Comes back when the caller has ended, or waits for the dropper."""
        while thread.is_alive():
            rows, _ = self.watcher.run(f"SELECT {self.dropper.pid} = ANY (pg_blocking_pids({self.caller.pid}))")
            if rows[0][0]:
                self.stopped += 1
                return
            time.sleep(0.002)

    def race(self, call, drop, table):
        """table None: the drop is open when the call begins."""
        self.cases += 1
        self.prepare()
        self.dropper.run("BEGIN")
        if table is None:
            _, error = self.dropper.run(drop)
        else:
            self.dropper.run(f"LOCK TABLE iotmq_internal.{table} IN ACCESS EXCLUSIVE MODE")
        answer = []
        thread = threading.Thread(target=lambda: answer.append(self.caller.run(call)))
        thread.start()
        self.await_caller(thread)
        if table is not None:
            self.dropper.run("SET LOCAL lock_timeout = '100ms'")
            _, error = self.dropper.run(drop)
        self.dropper.run("ROLLBACK" if error else "COMMIT")
        thread.join(60)
        where = f"{call} / {drop} / {table}"
        if thread.is_alive():
            self.fault(f"{where}: hangs")
            sys.exit(1)
        rows, called = answer[0]
        if called and called[:5] != GONE:
            self.fault(f"{where}: {called}")
        if called and error:
            self.fault(f"{where}: both failed: {called}; {error}")
        if error and error[:5] not in (GONE, BUSY, DEADLOCK):
            self.fault(f"{where}: the drop: {error}")
        if any(row and all(value is None for value in row) for row in rows):
            self.fault(f"{where}: a row of NULLs")
        if error[:5] == BUSY:			# the call was first
            _, error = self.dropper.run(drop)
            if error and error[:5] != GONE:
                self.fault(f"{where}: the drop after the call: {error}")
        self.look(where)
        self.dropper.run("SELECT iotmq.drop_topic('m', force => true)")
        self.look(where + ", and the topic dropped")

    def look(self, where):
        orphans, error = self.watcher.run(ORPHANS)
        if orphans or error:
            self.fault(f"{where}: left: {[row[0] for row in orphans]} {error}")


def main():
    races = Races()
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    for call in CALLS:
        for drop in DROPS:
            for table in [None] + TABLES:
                if only in f"{call} / {drop} / {table}":
                    races.race(call, drop, table)
    print(f"{races.cases} races, {races.stopped} stopped, {races.faults} faults")
    sys.exit(races.faults > 0)


main()
