-- How far the events of each boot of each node are stored. Batches of a boot come in order, so one that
-- begins before that has come before.
CREATE TABLE event_boots (
    node_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    -- Events of the boot before the next batch, lost ones included.
    next_seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (node_id, boot_id)
);
INSERT INTO event_boots (node_id, boot_id, next_seq, at_us)
SELECT node_id, boot_id, max(first_seq + events), max(at_us) FROM event_batches
GROUP BY node_id, boot_id;
DROP TABLE event_batches;

-- Events that nodes recorded and lost.
CREATE TABLE event_gaps (
    node_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    events BIGINT NOT NULL,
    reason TEXT NOT NULL,
    environment TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (node_id, boot_id, first_seq)
);
CREATE INDEX event_gaps_newest ON event_gaps (environment, at_us);
