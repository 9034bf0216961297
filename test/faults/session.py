"""A client's connection that may break at any time, and what is known then."""

import os
import socket
import time

import psycopg2

# The server ended the session, or can't be reached.
GONE = ("57P01", "57P02", "57P03", "08000", "08003", "08006")


class Lost(Exception):
    """The connection is lost; whether the last statement happened is unknown."""


class Stopped(Exception):
    """There is no connection to be had any more."""


class Session:
    """One connection, with explicit transactions.  After Lost it connects anew by itself."""

    def __init__(self, dsn, name, settings="", patience=60):
        self.dsn, self.name, self.settings, self.patience = dsn, name, settings, patience
        self.connection = None

    def connect(self):
        give_up_at = time.monotonic() + self.patience
        while self.connection is None:
            try:
                self.connection = psycopg2.connect(
                    self.dsn, application_name=self.name, connect_timeout=5,
                    options=f"-c statement_timeout=30s {self.settings}")
                self.connection.autocommit = True
            except psycopg2.OperationalError:
                if time.monotonic() > give_up_at:
                    raise Stopped(f"{self.name}: no connection for {self.patience} s") from None
                time.sleep(0.1)

    def execute(self, statement, args=None):
        """The rows of a statement; psycopg2's error if the server refused it; Lost."""
        self.connect()
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement, args)
                self.status = cursor.statusmessage
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error as error:
            self.raise_if_lost(error)
            raise

    def copy(self, statement, file):
        self.connect()
        try:
            with self.connection.cursor() as cursor:
                cursor.copy_expert(statement, file)
        except psycopg2.Error as error:
            self.raise_if_lost(error)
            raise
        except SystemError as error:    # psycopg2's COPY, when the server goes away in it
            self.close()
            raise Lost(str(error)) from None

    def raise_if_lost(self, error):
        if self.connection.closed or error.pgcode in GONE or error.pgcode is None:
            self.close()
            raise Lost(str(error)) from None

    def commit(self, statement="COMMIT"):
        """What is known of the transaction then: "committed", "rolled back" or "unknown"."""
        try:
            self.execute(statement)
        except Lost:
            return "unknown"
        except psycopg2.Error:
            self.rollback()
            return "rolled back"
        return "rolled back" if self.status == "ROLLBACK" else "committed"

    def rollback(self):
        try:
            self.execute("ROLLBACK")
        except (Lost, psycopg2.Error):
            self.close()

    def cut(self):
        """The client is gone as if it had been killed: the server isn't told."""
        self.sever()
        self.close()

    def sever(self):
        """The connection is gone under whoever uses it, in this thread or another."""
        connection = self.connection
        if connection is None or connection.closed:
            return
        try:
            copy = socket.socket(fileno=os.dup(connection.fileno()))
            copy.shutdown(socket.SHUT_RDWR)
            copy.close()
        except (OSError, psycopg2.Error):
            pass                        # the server, or the thread that has it, was faster

    def close(self):
        if self.connection is not None:
            try:
                self.connection.close()
            except psycopg2.Error:
                pass                    # it is lost already
            self.connection = None
