-- What each replica says of its nodes, every few seconds: the others count and list them as well.
-- Times are by the clock of the database, which all replicas share.

CREATE TABLE nodes (
    environment TEXT NOT NULL,
    node_id TEXT NOT NULL,
    replica TEXT NOT NULL,
    -- An encoded fastgate.admin.v1.Node.
    node BYTEA NOT NULL,
    said_us BIGINT NOT NULL,
    PRIMARY KEY (environment, node_id, replica)
);
