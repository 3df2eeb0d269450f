-- How changes of the config reach nodes: an encoded fastgate.admin.v1.RolloutPolicy; none: all at once.
ALTER TABLE environments ADD COLUMN rollout BYTEA;

-- The rollout under way in each environment, or the last one. Whoever moves it on names the target, the
-- ring and the state it leaves.
CREATE TABLE rollouts (
    environment TEXT PRIMARY KEY,
    -- The config revision it began from, and its digest.
    base BIGINT NOT NULL,
    base_digest BYTEA NOT NULL,
    -- The one it leads to.
    target BIGINT NOT NULL,
    ring BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    policy BYTEA NOT NULL,
    started_us BIGINT NOT NULL,
    moved_us BIGINT NOT NULL
);
