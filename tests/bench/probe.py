"""Checks that a gateway does the whole work, before it is timed."""

from . import work
from .process import Failed

REFUSED = (401, 403)


def check(gateway):
    """Fails with what a gateway does not do."""
    key = gateway.setup.keys[0]
    before = gateway.settle(0)
    asked = [
        passes_on(gateway, key), knows_keys(gateway, key), tells_request_ids(gateway, key)]
    records = gateway.settle(before + sum(asked)) - before
    demand(gateway, records == sum(asked), f"{records} records of {sum(asked)} requests")
    missing = set(work.AUDIT_FIELDS) - set(gateway.sample())
    demand(gateway, not missing, f"records without {sorted(missing)}")
    with gateway.tight() as (tight, key):
        counts_requests(tight, key)


def passes_on(gateway, key):
    """Whole bodies, both ways. Returns how many requests that took."""
    for path, size in ((work.SMALL, work.SMALL_SIZE), (work.LARGE, work.LARGE_SIZE)):
        answer = gateway.ask(path, key)
        demand(gateway, answer.status == 200, f"{path}: {answer.status}")
        demand(gateway, len(answer.body) == size, f"{path}: {len(answer.body)} bytes")
    answer = gateway.ask(work.UPLOAD, key, "POST", b"x" * work.UPLOAD_SIZE)
    demand(gateway, answer.status == 200, f"upload: {answer.status}")
    return 3


def knows_keys(gateway, key):
    """Strangers are refused, and the upstream is told who calls instead of being shown the key."""
    # Another letter, not only another case: to a map of nginx that makes no difference.
    stranger = work.Key(key.secret[:-1] + ("b" if key.secret[-1] in "aA" else "a"), "")
    for unknown in (None, stranger):
        answer = gateway.ask(work.SMALL, unknown)
        demand(gateway, answer.status in REFUSED, f"an unknown key is answered {answer.status}")
    seen = gateway.ask(work.SEEN, key, X_Source_Path="somebody").json()
    for name, wanted in (("path", work.SEEN), ("key", ""), ("source_path", key.source_path)):
        demand(gateway, seen[name] == wanted, f"{name} at the upstream is {seen[name]!r}")
    # Which address a client on loopback has is told in different ways.
    demand(gateway, seen["forwarded_for"], "the upstream is not told the client's address")
    return 3


def tells_request_ids(gateway, key):
    """The client's, or one of its own; the same to upstream and client."""
    answers = [gateway.ask(work.SEEN, key, X_Request_Id="probe-1"), gateway.ask(work.SEEN, key)]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    demand(gateway, ids[0] == "probe-1", f"request id probe-1 came back as {ids[0]}")
    for answer, told in zip(answers, ids):
        seen = answer.json()["request_id"]
        demand(gateway, seen and seen == told, f"request id {seen} upstream, {told} in the answer")
    return 2


def counts_requests(gateway, key):
    """A key is refused once it is over its limit, and no sooner."""
    statuses = [gateway.ask(work.SMALL, key).status for _ in range(2 * work.TIGHT_LIMIT)]
    passed = statuses.count(200)
    demand(gateway, 0 < passed <= work.TIGHT_LIMIT and statuses[-1] == 429,
           f"a limit of {work.TIGHT_LIMIT} gives {statuses}")


def demand(gateway, holds, fault):
    if not holds:
        raise Failed(f"{gateway.name} does not do its work: {fault}")
