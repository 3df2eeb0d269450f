"""A real control plane on real Postgres and Redis; keys and route are made through its API."""

import sys
from concurrent.futures import ThreadPoolExecutor

from . import work
from .calls import Client
from .process import Failed, Process, free_port
from .servers import Postgres, Redis

CALLERS = 8

REPORT_EVERY = 100_000
"""Keys made until a word is said about it."""


class ControlPlane:
    """All that nodes need. It runs away from the gateway's CPU."""

    def __init__(self, machine, folder, upstream, stack):
        self.postgres = Postgres(machine, folder)
        stack.callback(self.postgres.stop)
        self.redis = Redis(machine, folder)
        stack.callback(self.redis.stop)
        self.admin_port, self.node_port = free_port(), free_port()
        token = folder / "owner-token"
        self.process = Process(
            "control-plane",
            [machine.program("fastgate-control-plane"), "--database-url", self.postgres.url,
             "--admin-addr", f"127.0.0.1:{self.admin_port}",
             "--node-addr", f"127.0.0.1:{self.node_port}", "--bootstrap-token-file", token],
            machine.server_cpus, folder)
        stack.callback(self.process.stop)
        self.process.wait_for("token", lambda: token.exists() and token.read_text().strip())
        self.process.wait_for_port(self.admin_port)
        self.token = token.read_text().strip()
        self.keys = 0
        self.create("/admin/routes", {
            "route_id": "orders", "path_prefix": work.PREFIX, "strip_prefix": True,
            "targets": [{"url": upstream.url}], "timeout": 30})

    @property
    def node_url(self):
        return f"http://127.0.0.1:{self.node_port}"

    def client(self):
        return Client(self.admin_port, {"Authorization": f"Bearer {self.token}"})

    def newest_record(self):
        """The last request that was stored, field by field."""
        with self.client() as client:
            return client.get("/admin/logs?page_size=1").json()["logs"][0]

    def forget_records(self):
        """Gives the disk back."""
        self.postgres.sql("TRUNCATE events")

    def create(self, path, body):
        with self.client() as client:
            return created(client, path, body)

    def create_key(self, source_path, limit):
        made = self.create("/admin/keys", {"source_path": source_path, "rate_limit": limit})
        return work.Key(made["key_value"], source_path)

    def fill(self, count):
        """Makes keys until there are so many. Nobody will use them: their secrets are let go."""
        # Each is a transaction, and these need not outlive a crash of the machine.
        self.postgres.sql("ALTER SYSTEM SET synchronous_commit = off")
        self.postgres.sql("SELECT pg_reload_conf()")
        for first in range(self.keys, count, REPORT_EVERY):
            self.create_keys(min(REPORT_EVERY, count - first), work.LIMIT)
            print(f"{self.keys:,} keys", file=sys.stderr, flush=True)

    def create_keys(self, count, limit):
        """Keys, and their secrets from the answers that show them."""
        with ThreadPoolExecutor(CALLERS) as pool:
            parts = pool.map(
                lambda first: self.create_each(range(first, count, CALLERS), limit), range(CALLERS))
            made = [key for part in parts for key in part]
        self.keys += len(made)
        return made

    def create_each(self, numbers, limit):
        with self.client() as client:
            keys = []
            for number in numbers:
                body = {"source_path": work.source_path(number), "rate_limit": limit}
                made = created(client, "/admin/keys", body)
                keys.append(work.Key(made["key_value"], body["source_path"]))
            return keys


def created(client, path, body):
    answer = client.call("POST", path, body)
    if answer.status != 201:
        raise Failed(f"POST {path}: {answer.status} {answer.body.decode(errors='replace')}")
    return answer.json()
