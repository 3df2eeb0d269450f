"""Envoy: the `api_key_auth` filter, local rate limits per key, an access log of JSON to a file."""

import json

from .. import work
from ..process import free_port
from .gateway import FileGateway

RECORD = {
    "timestamp": "%START_TIME%", "request_id": "%REQ(X-REQUEST-ID)%",
    "key_id": "%REQ(X-SOURCE-PATH)%", "source_path": "%REQ(X-SOURCE-PATH)%",
    "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "target_url": "%UPSTREAM_HOST%", "status_code": "%RESPONSE_CODE%",
    "response_time_ms": "%DURATION%", "request_size": "%BYTES_RECEIVED%",
    "response_size": "%BYTES_SENT%", "user_agent": "%REQ(USER-AGENT)%",
    "ip_address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "environment": "default",
    "node_id": "node-1", "route_id": "%ROUTE_NAME%", "upstream_time_ms": "%RESPONSE_DURATION%",
    "ttfb_ms": "%RESPONSE_DURATION%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "error": "%RESPONSE_CODE_DETAILS%", "rate_limited": "%RESPONSE_FLAGS%", "secret_version": "1",
}

HTTP = "envoy.extensions.filters.http"


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/{kind}", **fields}


class Envoy(FileGateway):
    program = "envoy"
    note = "its records hold the path as it was forwarded"

    def start(self):
        self.tls_port = free_port()
        config = self.folder / "envoy.json"
        config.write_text(json.dumps(self.config()))
        return self.launch(
            "-c", config, "--concurrency", self.setup.workers, "--log-level", "error",
            "--disable-hot-restart", "--file-flush-interval-msec", 1000)

    def config(self):
        certificate = self.setup.certificate
        tls = typed(
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                               "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{
                    "certificate_chain": {"filename": str(certificate.chain)},
                    "private_key": {"filename": str(certificate.key)}}]})
        tls = {"transport_socket": {"name": "tls", "typed_config": tls}}
        return {"static_resources": {
            "listeners": [self.listener(self.port, "HTTP1"), self.listener(self.h2c_port, "HTTP2"),
                          self.listener(self.tls_port, "HTTP1", tls)],
            "clusters": [{
                "name": "service", "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address(self.setup.upstream.port)}}]}]}}]}}

    def listener(self, port, codec, more=None):
        connections = typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="proxy", codec_type=codec, generate_request_id=True,
            preserve_external_request_id=True, always_set_request_id_in_response=True,
            use_remote_address=True, http_filters=self.filters(), access_log=[{
                "name": "file", "typed_config": typed(
                    "envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(self.audit),
                    log_format={"json_format": RECORD})}],
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "name": "orders", "match": {"prefix": f"{work.PREFIX}/"},
                "route": {"cluster": "service", "prefix_rewrite": "/", "timeout": "30s"},
                "request_headers_to_add": [{
                    "header": {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"}}]}]}]})
        return {
            "address": address(port), "tcp_backlog_size": 4096,
            "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}],
                               **(more or {})}]}

    def filters(self):
        keys = typed(
            f"{HTTP}.api_key_auth.v3.ApiKeyAuth", key_sources=[{"header": "x-api-key"}],
            forwarding={"header": "x-source-path", "hide_credentials": True},
            credentials=[{"key": key.secret, "client": key.source_path}
                         for key in self.setup.keys])
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        limits = typed(
            f"{HTTP}.local_ratelimit.v3.LocalRateLimit", stat_prefix="limits",
            filter_enabled=always, filter_enforced=always, token_bucket=bucket(work.LIMIT),
            always_consume_default_token_bucket=False,
            rate_limits=[{"actions": [{"request_headers": {
                "header_name": "x-source-path", "descriptor_key": "client"}}]}],
            descriptors=[{"entries": [{"key": "client", "value": key.source_path}],
                          "token_bucket": bucket(self.setup.limit)} for key in self.setup.keys])
        router = typed(f"{HTTP}.router.v3.Router", suppress_envoy_headers=True)
        return [{"name": name, "typed_config": config} for name, config in (
            ("api_key_auth", keys), ("local_ratelimit", limits), ("router", router))]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bucket(tokens):
    return {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"}
