-- Requests added up, so that nobody has to count events: the sums of all that are alike in everything but
-- their numbers, over a minute, an hour and a day (UTC). Rows of the same kind add up, wherever there are two.
-- `at_us` is where the time begins; `latency` a histogram (`domain/histogram.rs`). Where `key_id` is NULL, the
-- row sums up all keys: who asks for no key need not read those of each.

CREATE TABLE rollup_hours (
    at_us BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    status_code SMALLINT NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C",
    source_path TEXT NOT NULL,
    route_id TEXT NOT NULL,
    target_url TEXT NOT NULL,
    error TEXT NOT NULL,
    latency BYTEA NOT NULL
);
CREATE INDEX rollup_hours_of_all ON rollup_hours (environment, at_us) WHERE key_id IS NULL;
CREATE INDEX rollup_hours_of_key ON rollup_hours (environment, key_id, at_us);
CREATE INDEX rollup_hours_time ON rollup_hours (environment, at_us);

CREATE TABLE rollup_days (
    at_us BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    status_code SMALLINT NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C",
    source_path TEXT NOT NULL,
    route_id TEXT NOT NULL,
    target_url TEXT NOT NULL,
    error TEXT NOT NULL,
    latency BYTEA NOT NULL
);
CREATE INDEX rollup_days_of_all ON rollup_days (environment, at_us) WHERE key_id IS NULL;
CREATE INDEX rollup_days_of_key ON rollup_days (environment, key_id, at_us);
CREATE INDEX rollup_days_time ON rollup_days (environment, at_us);

-- What the keys of `rollup_hours` and `rollup_days` come to, whatever else they have: which keys are the busiest is
-- read from here. `step` is 'hour' or 'day'.
CREATE TABLE rollup_keys (
    at_us BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    step TEXT NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL
);
CREATE INDEX rollup_keys_time ON rollup_keys (environment, step, at_us);
