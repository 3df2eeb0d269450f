"""Pingora: the gateway in the folder pingora of this benchmark, built on `pingora-proxy`."""

import json
import signal

from .. import work
from ..process import free_port
from .gateway import FileGateway


class Pingora(FileGateway):
    program = "pingora"
    note = "a framework: tests/bench/pingora is written for this benchmark"

    def start(self):
        setup = self.setup
        self.h2c_port = self.port
        self.tls_port = free_port()
        keys = self.folder / "keys"
        keys.write_text("".join(f"{key.secret} {key.source_path}\n" for key in setup.keys))
        config = self.folder / "pingora.json"
        config.write_text(json.dumps({
            # Pingora's own.
            "version": 1, "threads": setup.workers, "work_stealing": False,
            "upstream_keepalive_pool_size": 128, "ca_file": str(setup.certificate.chain),
            # The gateway's.
            "listen": f"127.0.0.1:{self.port}", "listen_tls": f"127.0.0.1:{self.tls_port}",
            "certificate": str(setup.certificate.chain), "private_key": str(setup.certificate.key),
            "upstream": f"127.0.0.1:{setup.upstream.port}", "prefix": work.PREFIX,
            "keys": str(keys), "limit": setup.limit, "records": str(self.audit)}))
        # At SIGTERM it would wait minutes for its connections.
        return self.launch(config, stop_signal=signal.SIGINT)
