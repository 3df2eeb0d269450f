ALTER TABLE events RENAME TO events_before;
DROP INDEX events_of_key;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us BIGINT NOT NULL,
    request_size BIGINT NOT NULL,
    response_size BIGINT NOT NULL,
    response_time_ms DOUBLE PRECISION NOT NULL,
    upstream_time_ms DOUBLE PRECISION NOT NULL,
    ttfb_ms DOUBLE PRECISION NOT NULL,
    secret_version BIGINT NOT NULL,
    status_code SMALLINT NOT NULL,
    attempts SMALLINT NOT NULL,
    rate_limited BOOLEAN NOT NULL,
    environment TEXT NOT NULL,
    node_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    source_path TEXT NOT NULL,
    route_id TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    target_url TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX events_newest ON events (environment, at_us, id);
CREATE INDEX events_of_key ON events (environment, key_id, at_us, id);
CREATE INDEX events_time ON events (at_us);

INSERT INTO events (
    at_us, request_size, response_size, response_time_ms, upstream_time_ms, ttfb_ms,
    secret_version, status_code, attempts, rate_limited, environment, node_id, request_id, key_id,
    source_path, route_id, method, path, target_url, user_agent, ip_address, error
)
SELECT
    at_us, request_size, response_size, response_time_ms, upstream_time_ms, ttfb_ms,
    secret_version, status_code, min(attempts, 32767), rate_limited, environment, node_id, request_id,
    key_id, source_path, route_id, method, path, target_url, user_agent, ip_address, error
FROM events_before
ORDER BY at_us, event_id;

DROP TABLE events_before;

-- What requests of one minute that are alike add up to; `rollups.sql` tells of them.
CREATE TABLE rollup_minutes (
    at_us BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    status_code SMALLINT NOT NULL,
    environment TEXT NOT NULL,
    key_id TEXT,
    source_path TEXT NOT NULL,
    route_id TEXT NOT NULL,
    target_url TEXT NOT NULL,
    error TEXT NOT NULL,
    latency BLOB NOT NULL
);
CREATE INDEX rollup_minutes_of_all ON rollup_minutes (environment, at_us) WHERE key_id IS NULL;
CREATE INDEX rollup_minutes_of_key ON rollup_minutes (environment, key_id, at_us);
CREATE INDEX rollup_minutes_time ON rollup_minutes (environment, at_us);

-- Such sums as batches of events bring them, those of a batch in a row (`sql/parts.rs`). They are taken out of here
-- once their minute is over: the other tables hold nothing of what stands here.
CREATE TABLE rollup_parts (
    part INTEGER PRIMARY KEY AUTOINCREMENT,
    environment TEXT NOT NULL,
    sums BLOB NOT NULL
);
