"""nginx: keys in a map, `limit_req` per key, `access_log` as buffered JSON."""

from .. import work
from ..process import free_port
from .gateway import FileGateway

RECORD = {
    "timestamp": "$time_iso8601", "request_id": "$id", "key_id": "$client",
    "source_path": "$client", "method": "$request_method", "path": "$uri",
    "target_url": "$upstream_addr", "status_code": "$status",
    "response_time_ms": "$request_time", "request_size": "$content_length",
    "response_size": "$body_bytes_sent", "user_agent": "$http_user_agent",
    "ip_address": "$remote_addr", "environment": "default", "node_id": "node-1",
    "route_id": "orders", "upstream_time_ms": "$upstream_response_time",
    "ttfb_ms": "$upstream_header_time", "attempts": "$upstream_status", "error": "",
    "rate_limited": "$limit_req_status", "secret_version": "1",
}

CONFIG = """
daemon off; master_process {master}; worker_processes {workers}; pid {folder}/pid;
error_log stderr crit; pcre_jit on;
events {{ worker_connections 19000; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nodelay on; server_tokens off; client_body_buffer_size 32k;
    keepalive_timeout 1h; keepalive_requests 1000000000;
    # The largest answer stays in memory: with less, nginx puts part of it into a file.
    proxy_buffers 16 8k;

    map_hash_max_size 65536; map_hash_bucket_size 256;
    map $http_x_api_key $client {{ default ""; include {folder}/keys; }}
    map $http_x_request_id $id {{
        "" $request_id;
        "~^[A-Za-z0-9-]{{1,64}}$" $http_x_request_id;
        default $request_id;
    }}
    limit_req_zone $client zone=keys:16m rate={limit}r/m;
    limit_req_status 429;
    log_format audit escape=json '{record}';
    access_log {audit} audit buffer=64k flush=1s;

    upstream service {{
        server 127.0.0.1:{upstream_port};
        keepalive 128; keepalive_requests 1000000000; keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        listen 127.0.0.1:{h2c_port} http2 reuseport backlog=4096;
        listen 127.0.0.1:{tls_port} ssl reuseport backlog=4096;
        ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
        location {prefix}/ {{
            if ($client = "") {{ return 401; }}
            limit_req zone=keys burst={burst} nodelay;
            proxy_pass http://service/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-API-Key "";
            proxy_set_header X-Request-Id $id;
            proxy_set_header X-Source-Path $client;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            add_header X-Request-Id $id always;
        }}
    }}
}}
"""


class Nginx(FileGateway):
    program = "nginx"
    note = "in its records attempts is a list of upstream statuses and error is empty"

    def start(self):
        setup = self.setup
        self.tls_port = free_port()
        keys = "".join(f'"{key.secret}" "{key.source_path}";\n' for key in setup.keys)
        (self.folder / "keys").write_text(keys)
        record = ",".join(f'"{field}":"{value}"' for field, value in RECORD.items())
        config = self.folder / "nginx.conf"
        config.write_text(CONFIG.format(
            # valgrind loses sight of processes that are forked.
            master="off" if setup.wrapper else "on",
            folder=self.folder, audit=self.audit, port=self.port, h2c_port=self.h2c_port,
            tls_port=self.tls_port, upstream_port=setup.upstream.port, workers=setup.workers,
            certificate=setup.certificate.chain, key=setup.certificate.key, limit=setup.limit,
            burst=setup.limit - 1, record="{" + record + "}", prefix=work.PREFIX))
        return self.launch("-c", config, "-p", self.folder)
