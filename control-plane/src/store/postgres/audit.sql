-- Events in partitions by time, made ahead and dropped by the control plane. What lies outside of them all
-- waits in `events_other`: a partition made later takes its rows out of there. What indexes begin with is compared
-- byte by byte, which is several times faster than by the rules of a language.
SET LOCAL statement_timeout = 0;

ALTER TABLE events RENAME TO events_before;
DROP INDEX events_of_key;

-- Only told apart by it: sessions take a thousand at once.
CREATE SEQUENCE event_ids CACHE 1000;

CREATE TABLE events (
    at_us BIGINT NOT NULL,
    id BIGINT NOT NULL DEFAULT nextval('event_ids'),
    request_size BIGINT NOT NULL,
    response_size BIGINT NOT NULL,
    response_time_ms DOUBLE PRECISION NOT NULL,
    upstream_time_ms DOUBLE PRECISION NOT NULL,
    ttfb_ms DOUBLE PRECISION NOT NULL,
    secret_version BIGINT NOT NULL,
    status_code SMALLINT NOT NULL,
    attempts SMALLINT NOT NULL,
    rate_limited BOOLEAN NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    node_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    source_path TEXT NOT NULL,
    route_id TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    target_url TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    error TEXT NOT NULL
) PARTITION BY RANGE (at_us);

CREATE TABLE events_other PARTITION OF events DEFAULT;
CREATE INDEX events_newest ON events (environment, at_us, id);
CREATE INDEX events_of_key ON events (environment, key_id, at_us, id);
CREATE INDEX events_time ON events USING brin (at_us);

DO $$
DECLARE
    day_us CONSTANT BIGINT := 86400000000;
    first_us BIGINT;
BEGIN
    FOR first_us IN SELECT DISTINCT at_us / day_us * day_us FROM events_before LOOP
        EXECUTE format(
            'CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%s) TO (%s)',
            to_char(to_timestamp(first_us / 1000000) AT TIME ZONE 'UTC', 'YYYYMMDD'),
            first_us,
            first_us + day_us
        );
    END LOOP;
END $$;

INSERT INTO events (
    at_us, request_size, response_size, response_time_ms, upstream_time_ms, ttfb_ms,
    secret_version, status_code, attempts, rate_limited, environment, node_id, request_id, key_id,
    source_path, route_id, method, path, target_url, user_agent, ip_address, error
)
SELECT
    at_us, request_size, response_size, response_time_ms, upstream_time_ms, ttfb_ms,
    secret_version, status_code, least(attempts, 32767), rate_limited, environment, node_id, request_id,
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
    environment TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C",
    source_path TEXT NOT NULL,
    route_id TEXT NOT NULL,
    target_url TEXT NOT NULL,
    error TEXT NOT NULL,
    latency BYTEA NOT NULL
) PARTITION BY RANGE (at_us);
CREATE TABLE rollup_minutes_other PARTITION OF rollup_minutes DEFAULT;
CREATE INDEX rollup_minutes_of_all ON rollup_minutes (environment, at_us) WHERE key_id IS NULL;
CREATE INDEX rollup_minutes_of_key ON rollup_minutes (environment, key_id, at_us);
CREATE INDEX rollup_minutes_time ON rollup_minutes (environment, at_us);

-- Such sums as batches of events bring them, those of a batch in a row (`sql/parts.rs`). They are taken out of here
-- once their minute is over: the other tables hold nothing of what stands here.
CREATE TABLE rollup_parts (
    part BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    environment TEXT COLLATE "C" NOT NULL,
    sums BYTEA NOT NULL
);
-- They live for seconds: to compress them would be in vain.
ALTER TABLE rollup_parts ALTER COLUMN sums SET STORAGE EXTERNAL;
