"""A database of its own for what is tried out, and patience."""

import time

import psycopg2

PATIENCE = 180      # seconds for what happens within moments on a machine that isn't busy


class Place:
    def __init__(self, database):
        self.database = database
        self.session = self.connect("postgres")
        self.ask(f"CREATE DATABASE {database}")
        self.session.close()
        self.session = self.connect(database)
        self.programs = []          # those that must not end while something is waited for

    @staticmethod
    def connect(database):
        connection = psycopg2.connect(dbname=database)
        connection.autocommit = True
        return connection

    def ask(self, statement, *arguments, connection=None):
        with (connection or self.session).cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def wait_for(self, what, condition):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = condition()
            if found:
                return found
            for program in self.programs:
                if program.poll() is not None:
                    raise AssertionError(f"waiting for {what}: a program ended with {program.returncode}")
            time.sleep(0.05)
        raise AssertionError(f"{what}: never happened")

    def stop(self):
        """Kills what still runs."""
        for program in self.programs:
            program.kill()
            program.wait()
        self.programs = []

    @staticmethod
    def same(what, got, expected):
        if got != expected:
            raise AssertionError(f"{what}: {got}, not {expected}")
