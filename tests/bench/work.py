"""The work that every gateway is given, in one place: paths, sizes, keys, limits."""

import random
import string
from dataclasses import dataclass

PREFIX = "/api"
"""What the gateway strips from the path before it forwards."""

PREFIX_EACH = "/each"
"""The same route again, with a limit that no tokens can be leased from ahead."""

LIMIT_EACH = {"name": "each", "amount": 1, "period": "second", "burst": 86_400}
"""Less than a token in the time of a lease, and more at once than the load takes."""

SMALL, LARGE, UPLOAD, SEEN = "/orders/17", "/export", "/upload", "/seen"
"""Paths at the upstream: 1 KiB, 100 KiB, takes an upload, and tells what it was sent."""

SMALL_SIZE, LARGE_SIZE, UPLOAD_SIZE = 1024, 100 * 1024, 16 * 1024
CONNECTIONS = 64
KEYS = 10_000
KEYS_TO_COUNT = 500
"""Under callgrind a gateway answers some hundred requests a second: of more keys most would be new
to it while it is counted, which they are not in use."""

LIMIT = 600_000_000
"""Requests a minute for each key: counted for every request, never reached."""

TIGHT_LIMIT = 3
"""What a key is given to see that it is counted."""

AUDIT_FIELDS = (
    "timestamp", "request_id", "key_id", "source_path", "method", "path", "target_url",
    "status_code", "response_time_ms", "request_size", "response_size", "user_agent", "ip_address",
    "environment", "node_id", "route_id", "upstream_time_ms", "ttfb_ms", "attempts", "error",
    "rate_limited", "secret_version")
"""The record that is written for each request."""


@dataclass(frozen=True)
class Key:
    """A key as a client sends it, and whom it was issued to."""

    secret: str
    source_path: str


def source_path(number):
    return f"app_{number}"


def made_up_keys(count):
    """Keys in the form of FastGate's, for gateways that only compare them."""
    draw = random.Random(1)
    letters = string.ascii_letters + string.digits
    return [Key("fg_" + "".join(draw.choices(letters, k=38)), source_path(n)) for n in range(count)]
