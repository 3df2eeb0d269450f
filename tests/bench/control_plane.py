"""A real control plane on real Postgres and Redis; keys and route are made through its API."""

import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from . import work
from .calls import Client
from .process import Failed, Process, free_port
from .servers import Postgres, Redis

CALLERS = 3
"""Calls under way while keys are made: one is committed, and the next are on their way."""

BATCH = 1000
"""Keys of one call: as many as it takes."""

REPORT_EVERY = 100_000
"""Keys made until a word is said about it."""


class ControlPlane:
    """All that nodes need. It runs away from the gateway's CPU."""

    def __init__(self, machine, folder, upstream, stack):
        self.machine = machine
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
        for route_id, prefix, limits in (("orders", work.PREFIX, []),
                                         ("each", work.PREFIX_EACH, [work.LIMIT_EACH])):
            self.create("/admin/routes", {
                "route_id": route_id, "path_prefix": prefix, "strip_prefix": True,
                "targets": [{"url": upstream.url}], "timeout": 30, "limits": limits})

    @contextlib.contextmanager
    def on_all_cpus(self):
        """Where what it does is measured, not what a gateway does beside it."""
        with contextlib.ExitStack() as stack:
            for process in (self.process, self.postgres.process):
                stack.callback(process.run_on, self.machine.server_cpus)
                process.run_on(range(self.machine.cpus))
            yield

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
        began = time.monotonic()
        for first in range(self.keys, count, REPORT_EVERY):
            self.create_keys(min(REPORT_EVERY, count - first), work.LIMIT)
            took = time.monotonic() - began
            print(f"{self.keys:,} keys, {took:.0f} s", file=sys.stderr, flush=True)

    def create_keys(self, count, limit):
        """Keys, and their secrets from the answers that show them."""
        parts = [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
        with ThreadPoolExecutor(CALLERS) as pool:
            made = [key for keys in pool.map(lambda part: self.import_keys(part, limit), parts)
                    for key in keys]
        self.keys += len(made)
        return made

    def import_keys(self, numbers, limit):
        sources = [work.source_path(number) for number in numbers]
        keys = [{"source_path": source_path, "rate_limit": limit} for source_path in sources]
        with self.client() as client:
            made = created(client, "/admin/keys:import", {"keys": keys})["keys"]
        return [work.Key(key["key_value"], source_path)
                for key, source_path in zip(made, sources, strict=True)]


def created(client, path, body):
    answer = client.call("POST", path, body)
    if answer.status not in (200, 201):
        raise Failed(f"POST {path}: {answer.status} {answer.body.decode(errors='replace')}")
    return answer.json()
