"""HAProxy: keys in a map, a stick table that counts requests per key, a log line to a file."""

from .. import work
from ..process import free_port
from .gateway import FileGateway

RECORD = {
    "timestamp": "%tr", "request_id": "%[var(txn.id)]", "key_id": "%[var(txn.client)]",
    "source_path": "%[var(txn.client)]", "method": "%HM", "path": "%[var(txn.path),json(utf8s)]",
    "target_url": "%si:%sp", "status_code": "%ST", "response_time_ms": "%Ta",
    "request_size": "%U", "response_size": "%B", "user_agent": "%[var(txn.agent),json(utf8s)]",
    "ip_address": "%ci", "environment": "default", "node_id": "node-1", "route_id": "orders",
    "upstream_time_ms": "%Tr", "ttfb_ms": "%Tr", "attempts": "%rc", "error": "%ts",
    "rate_limited": "%[var(txn.limited)]", "secret_version": "1",
}

CONFIG = """
global
    log stdout len 4096 format raw local0 info
    nbthread {workers}
    maxconn 11000
    no strict-limits
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    log global
    option dontlognull
    timeout connect 5s
    timeout client 1h
    timeout server 30s
    timeout http-keep-alive 1h
    timeout http-request 10s
backend limits
    stick-table type string len 16 size 20k expire 2m store http_req_rate(60s)
frontend proxy
    bind 127.0.0.1:{port} backlog 4096
    bind 127.0.0.1:{h2c_port} backlog 4096 proto h2
    bind 127.0.0.1:{tls_port} backlog 4096 ssl crt {certificate} alpn http/1.1
    log-format '{record}'
    http-request set-var(txn.path) path
    http-request set-var(txn.agent) req.hdr(user-agent)
    http-request set-var(txn.client) req.hdr(x-api-key),map_str({keys})
    http-request set-header X-Request-Id %[uuid()] unless {{ req.hdr(x-request-id) -m found }} \
{{ req.hdr(x-request-id) -m reg ^[A-Za-z0-9-]{{1,64}}$ }}
    http-request set-var(txn.id) req.hdr(x-request-id)
    http-request return status 404 unless {{ path_beg {prefix}/ }}
    http-request return status 401 unless {{ var(txn.client) -m found }}
    http-request track-sc0 var(txn.client) table limits
    http-request set-var(txn.limited) bool(true) if {{ sc_http_req_rate(0) gt {limit} }}
    http-request return status 429 if {{ var(txn.limited) -m bool }}
    http-request set-path %[path,bytes({strip})]
    http-request del-header X-API-Key
    http-request set-header X-Source-Path %[var(txn.client)]
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-after-response set-header X-Request-Id %[var(txn.id)]
    default_backend service
backend service
    http-reuse always
    server upstream 127.0.0.1:{upstream_port} maxconn 1000 pool-max-conn 1000
"""


class HAProxy(FileGateway):
    program = "haproxy"
    note = "it writes each record by a call of its own; sizes in its records count heads too"

    def start(self):
        setup = self.setup
        self.tls_port = free_port()
        keys = self.folder / "keys"
        keys.write_text("".join(f"{key.secret} {key.source_path}\n" for key in setup.keys))
        record = ",".join(f'"{field}":"{value}"' for field, value in RECORD.items())
        config = self.folder / "haproxy.cfg"
        config.write_text(CONFIG.format(
            keys=keys, port=self.port, h2c_port=self.h2c_port, tls_port=self.tls_port,
            upstream_port=setup.upstream.port, workers=setup.workers, limit=setup.limit,
            certificate=setup.certificate.both, record="{" + record + "}", prefix=work.PREFIX,
            strip=len(work.PREFIX)))
        with self.audit.open("wb") as audit:
            return self.launch("-db", "-f", config, stdout=audit)

    def forget(self):
        """Not before it ends: it writes where it was, whatever became of the file."""
