"""PgQue, the same as PgQ in SQL alone; where the environment has its install script, as PGQUE=.../pgque.sql."""

import os
import subprocess

from peers import pgq


class System(pgq.System):
    NAME = "PgQue"
    EXTENSION = ""
    SCHEMA = "pgque"

    def missing(self):
        return "" if os.environ.get("PGQUE") else "PGQUE is not set to its install script"

    def start(self, folder):
        super().start(folder)
        subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", self.database, "-f", os.environ["PGQUE"]],
                       check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, PGOPTIONS="-c client_min_messages=warning"))
