"""The service behind the gateways: an nginx that answers from memory and tells what it was sent."""

import json

from . import work
from .process import Process, free_port

CONFIG = """
daemon off; worker_processes 1; pid {folder}/upstream.pid; error_log stderr warn;
events {{ worker_connections 19000; }}
http {{
    access_log off; server_tokens off; tcp_nodelay on; sendfile on; etag off;
    client_body_temp_path {folder}/upstream-body; proxy_temp_path {folder}/upstream-proxy;
    fastcgi_temp_path {folder}/upstream-fastcgi; uwsgi_temp_path {folder}/upstream-uwsgi;
    scgi_temp_path {folder}/upstream-scgi;
    client_body_buffer_size 32k; open_file_cache max=10;
    keepalive_timeout 1h; keepalive_requests 1000000000;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
{locations}
    }}
}}
"""

# With and without the prefix: the floor and direct calls do not strip it.
LOCATIONS = """
        location = {prefix}{small} {{ return 200 '{body}'; }}
        location = {prefix}{large} {{ alias {folder}/large.json; }}
        location = {prefix}{upload} {{ return 200 '{{"taken":true}}'; }}
        location {prefix}{seen} {{ return 200 '{{"path":"$request_uri","key":"$http_x_api_key",\
"request_id":"$http_x_request_id","source_path":"$http_x_source_path",\
"forwarded_for":"$http_x_forwarded_for"}}'; }}
"""


def body_of(size):
    """A JSON text of this size."""
    frame = len(json.dumps({"order": 17, "text": ""}))
    return json.dumps({"order": 17, "text": "x" * (size - frame)})


class Upstream:
    """One worker, on the CPU of the load."""

    def __init__(self, machine, folder):
        self.port = free_port()
        (folder / "large.json").write_text(body_of(work.LARGE_SIZE))
        locations = "".join(
            LOCATIONS.format(prefix=prefix, folder=folder, body=body_of(work.SMALL_SIZE),
                             small=work.SMALL, large=work.LARGE, upload=work.UPLOAD, seen=work.SEEN)
            for prefix in ("", work.PREFIX))
        config = folder / "upstream.conf"
        config.write_text(CONFIG.format(folder=folder, port=self.port, locations=locations))
        self.process = Process(
            "upstream", [machine.program("nginx"), "-c", config, "-p", folder], machine.load_cpus,
            folder)
        self.process.wait_for_port(self.port)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.process.stop()
