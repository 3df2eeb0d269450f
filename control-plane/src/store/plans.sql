CREATE TABLE plans (
    environment TEXT NOT NULL,
    plan_id TEXT NOT NULL,
    entity BYTEA NOT NULL,
    etag TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    PRIMARY KEY (environment, plan_id)
);

-- Keys without a plan stand in no index of plans.
ALTER TABLE api_keys ADD COLUMN plan_id TEXT;
CREATE INDEX api_keys_plan ON api_keys (environment, plan_id) WHERE plan_id IS NOT NULL;
