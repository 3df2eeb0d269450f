-- Which key a secret opens: in one environment one alone, for nodes would not agree on which of two.
CREATE TABLE key_secrets (
    environment TEXT NOT NULL,
    hash BYTEA NOT NULL,
    key_id TEXT NOT NULL,
    PRIMARY KEY (environment, hash)
);

-- Keys of before: their secrets are in their entities, where SQL can't read them. The next start notes them,
-- and takes the keys out of here.
CREATE TABLE keys_unnoted (
    environment TEXT NOT NULL,
    key_id TEXT NOT NULL,
    PRIMARY KEY (environment, key_id)
);
INSERT INTO keys_unnoted SELECT environment, key_id FROM api_keys;
