-- The CA that nodes' certificates are signed by: replicas must have the same. Its key is in no database.
CREATE TABLE node_ca (
    -- Always 1: there is one row.
    only_row BIGINT PRIMARY KEY,
    fingerprint BYTEA NOT NULL
);

CREATE TABLE join_tokens (
    token_id TEXT PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    environment TEXT NOT NULL,
    -- NULL: any node.
    node_id TEXT,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    -- When a node joined with it, and that node and its key: for a while it may ask again.
    used_us BIGINT,
    used_node TEXT,
    used_key BYTEA
);

-- Every certificate a node may still show, and for a while those that ended.
CREATE TABLE node_certificates (
    serial BYTEA PRIMARY KEY,
    environment TEXT NOT NULL,
    node_id TEXT NOT NULL,
    issued_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    revoked_us BIGINT
);
CREATE INDEX node_certificates_node ON node_certificates (environment, node_id);
CREATE INDEX node_certificates_revoked ON node_certificates (expires_us) WHERE revoked_us IS NOT NULL;
