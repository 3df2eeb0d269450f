"""FastGate as users run it: a node that follows a control plane, which stores its records."""

import contextlib
import re

from .. import work
from ..calls import Client
from ..process import free_port
from .gateway import Gateway


class FastGate(Gateway):
    program = "fastgate-data-plane"
    note = ("its records go to the control plane and into Postgres, which share the load's CPU where "
            "there are only two; its answers carry RateLimit headers")
    redis = False

    def start(self):
        setup, plane = self.setup, self.setup.control_plane
        self.h2c_port = self.port
        self.tls_port, self.ops_port = free_port(), free_port()
        arguments = [
            "--node-id", self.name, "--listen", f"127.0.0.1:{self.port}",
            "--tls-listen", f"127.0.0.1:{self.tls_port}",
            "--tls-cert", setup.certificate.chain, "--tls-key", setup.certificate.key,
            "--ops-addr", f"127.0.0.1:{self.ops_port}", "--control-plane", plane.node_url,
            "--state-dir", self.folder / "state", "--workers", setup.workers,
            "--keep-alive-timeout", 3600]
        if self.redis:
            arguments += ["--redis-url", plane.redis.url]
        process = self.launch(*arguments)
        process.wait_for_port(self.ops_port)
        process.wait_for("ready", lambda: self.ops("/ready").status == 200)
        return process

    def ops(self, path):
        with Client(self.ops_port) as client:
            return client.get(path)

    def metric(self, name):
        text = self.ops("/metrics").body.decode()
        return int(float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1]))

    def records(self):
        return self.metric("fastgate_audit_events_stored_total")

    def sample(self):
        return self.setup.control_plane.newest_record()

    def settle(self, expected, seconds=60):
        # Those that were dropped never come.
        return super().settle(
            expected - self.metric("fastgate_audit_events_dropped_total"), seconds)

    def forget(self):
        self.setup.control_plane.forget_records()

    @contextlib.contextmanager
    def tight(self):
        key = self.setup.control_plane.create_key("tight", work.TIGHT_LIMIT)
        self.process.wait_for(
            "key known", lambda: self.ask(work.SEEN, key).status != 401)
        yield self, key


class FastGateRedis(FastGate):
    note = "its limits are leased from Redis: the first request of each key asks, later ones seldom do"
    redis = True


class FastGateAskingRedis(FastGateRedis):
    note = "a limit too low to lease from: each request is a call of Redis, as with other gateways"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}{work.PREFIX_EACH}"
