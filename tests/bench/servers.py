"""Private Postgres and Redis servers, away from the gateway's CPU."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from .process import Failed, Process, as_user, free_port


class Postgres:
    """As Debian sets it up, on a free port, in a folder of its own."""

    def __init__(self, machine, folder):
        folder = folder / "postgres"
        folder.mkdir()
        self.port = free_port()
        self.bin = newest_postgres()
        user = "postgres" if os.geteuid() == 0 else None  # It refuses to run as root.
        if user:
            shutil.chown(folder, user)
        subprocess.run(
            ["setpriv", *as_user(user), self.bin / "initdb", "-D", folder / "data", "--no-sync",
             "--auth=trust", "--username=postgres"], check=True, capture_output=True, cwd=folder)
        self.process = Process(
            "postgres",
            [self.bin / "postgres", "-D", folder / "data", "-p", self.port, "-k", folder,
             "-c", "listen_addresses=127.0.0.1"],
            machine.server_cpus, folder, stop_signal=signal.SIGINT, user=user)
        self.process.wait_for("answers", lambda: self.sql("SELECT 1") == "1")

    @property
    def url(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def sql(self, statement):
        """What a statement gives, or None while the server does not answer."""
        done = subprocess.run(
            [self.bin / "psql", "-qAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres",
             "-c", statement], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def stop(self):
        self.process.stop()


class Redis:
    """In memory only."""

    def __init__(self, machine, folder):
        self.port = free_port()
        self.process = Process(
            "redis", [machine.program("redis-server"), "--bind", "127.0.0.1", "--port", self.port,
                      "--save", "", "--dir", folder], machine.server_cpus, folder)
        self.process.wait_for_port(self.port)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def stop(self):
        self.process.stop()


def newest_postgres():
    """The folder of its programs: the newest Debian has installed, else the one in the path."""
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: int(path.parts[-3]), default=None)
    found = newest or shutil.which("initdb")
    if not found:
        raise Failed("PostgreSQL is not installed: see tests/bench/run")
    return Path(found).parent
