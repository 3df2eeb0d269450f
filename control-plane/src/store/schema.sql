-- Times are microseconds since 1970. BYTEA is BLOB in SQLite; the rest means the same in both.

CREATE TABLE environments (
    environment TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    default_rate_limit BIGINT,
    entity BYTEA NOT NULL,
    etag TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);

-- The newest revision of each namespace. Its row is locked by every change: commit order is
-- revision order.
CREATE TABLE config_heads (
    environment TEXT NOT NULL,
    ns TEXT NOT NULL,
    epoch TEXT NOT NULL,
    revision BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (environment, ns)
);

-- One row a revision: the delta as nodes get it.
CREATE TABLE config_log (
    environment TEXT NOT NULL,
    ns TEXT NOT NULL,
    revision BIGINT NOT NULL,
    delta BYTEA NOT NULL,
    token_id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (environment, ns, revision)
);

-- `entity` holds the exact bytes nodes were sent last: the digest is kept up with them, whatever
-- a later version would encode. The other columns are what lists and checks look for.
CREATE TABLE api_keys (
    environment TEXT NOT NULL,
    key_id TEXT NOT NULL,
    source_path TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    description TEXT NOT NULL,
    entity BYTEA NOT NULL,
    etag TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    PRIMARY KEY (environment, key_id)
);
CREATE INDEX api_keys_newest ON api_keys (environment, created_us, key_id);

CREATE TABLE key_usage (
    environment TEXT NOT NULL,
    key_id TEXT NOT NULL,
    used BIGINT NOT NULL,
    last_used_us BIGINT NOT NULL,
    PRIMARY KEY (environment, key_id)
);

-- Routes of one `match_key` differ in their methods. That, and that no two have one name, is checked
-- at the end of a change, for on its way there one change may swap them.
CREATE TABLE routes (
    environment TEXT NOT NULL,
    route_id TEXT NOT NULL,
    name TEXT,
    match_key TEXT NOT NULL,
    upstream_id TEXT,
    entity BYTEA NOT NULL,
    etag TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    PRIMARY KEY (environment, route_id)
);
CREATE INDEX routes_name ON routes (environment, name);
CREATE INDEX routes_match ON routes (environment, match_key);
CREATE INDEX routes_upstream ON routes (environment, upstream_id);

CREATE TABLE upstreams (
    environment TEXT NOT NULL,
    upstream_id TEXT NOT NULL,
    entity BYTEA NOT NULL,
    etag TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    PRIMARY KEY (environment, upstream_id)
);

-- What calls with a request id were answered, so that they are again. Kept for a day.
CREATE TABLE requests (
    action TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    answer BYTEA NOT NULL,
    etags TEXT NOT NULL,
    keys_revision BIGINT,
    config_revision BIGINT,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (action, request_id)
);
CREATE INDEX requests_oldest ON requests (at_us);

CREATE TABLE admin_tokens (
    token_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL
);

CREATE TABLE admin_events (
    event_id TEXT PRIMARY KEY,
    at_us BIGINT NOT NULL,
    token_id TEXT NOT NULL,
    action TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL
);
CREATE INDEX admin_events_newest ON admin_events (at_us, event_id);

-- Which batches of events were stored: a batch that comes again is stored once.
CREATE TABLE event_batches (
    node_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    events BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (node_id, boot_id, first_seq)
);

CREATE TABLE events (
    event_id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    environment TEXT NOT NULL,
    node_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    source_path TEXT NOT NULL,
    secret_version BIGINT NOT NULL,
    route_id TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    target_url TEXT NOT NULL,
    status_code BIGINT NOT NULL,
    response_time_ms DOUBLE PRECISION NOT NULL,
    upstream_time_ms DOUBLE PRECISION NOT NULL,
    ttfb_ms DOUBLE PRECISION NOT NULL,
    request_size BIGINT NOT NULL,
    response_size BIGINT NOT NULL,
    user_agent TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    error TEXT NOT NULL,
    rate_limited BOOLEAN NOT NULL,
    PRIMARY KEY (environment, at_us, event_id)
);
CREATE INDEX events_of_key ON events (environment, key_id, at_us, event_id);
