"""What all clients of the load have in common: one thread, one connection, dice of its own."""

import random
import re
import threading
import time

import psycopg2

from session import Lost, Stopped

# What the server may answer to anybody: a deadlock, a lock or time that ran out, a cancel,
# its limits, a standby, and what an administrator took away meanwhile.
EXPECTED = {"40P01", "40001", "55P03", "57014", "53000", "53100", "53200", "53300", "53400", "25006",
            "42704", "55006"}


class Client(threading.Thread):
    """Goes on with step() until the load ends.  Whatever step() raises but Lost and what it
    may expect from the server goes into the journal as a fault."""

    expected = EXPECTED

    def __init__(self, load, name):
        super().__init__(name=name, daemon=True)
        self.load, self.journal, self.topic = load, load.journal, load.topic
        self.dice = random.Random(f"{load.seed}/{name}")
        self.session = load.session(name)
        self.resting = False

    def finished(self):
        """Whether there is nothing more to do."""
        return self.load.stopping

    def run(self):
        try:
            while not self.finished():
                self.load.gate(self)
                try:
                    self.step()
                except Lost:
                    pass
                except psycopg2.Error as error:
                    self.complain(error)
                    self.session.rollback()
        except Stopped as error:
            self.journal.write("error", sqlstate="client", message=str(error), statement="")
        except Exception as error:      # a fault of the load itself must not look like success
            self.journal.write("error", sqlstate="client", message=repr(error), statement=self.name)
            raise
        finally:
            self.resting = True
            self.load.give_back(self.session)

    def complain(self, error):
        if error.pgcode not in self.expected:
            statement = error.cursor.query.decode(errors="replace")[:300] if error.cursor and error.cursor.query else ""
            message = str(error).strip()
            self.journal.write("error", sqlstate=error.pgcode, message=message + self.file_named_in(message),
                               statement=statement)

    def file_named_in(self, message):
        """What table or index an error about a file is of: later nobody can tell."""
        file = re.search(r'"base/\d+/(\d+)', message)
        if file is None:
            return ""
        try:
            self.session.rollback()
            (name, size), = self.session.execute(
                "SELECT r, pg_relation_size(r) FROM pg_filenode_relation(0, %s) AS r", (file[1],))
        except (Lost, psycopg2.Error) as failure:
            return f" [relation not found: {failure}]"
        return f" [relation {name}, now of {size} bytes]"

    def chance(self, share):
        return self.dice.random() < share

    def pause(self, longest):
        """Mostly short, now and then that many seconds."""
        time.sleep(longest * self.dice.random() ** 4)
