-- What takes a revision of the config back, which revisions from before this have not, and what made it.
ALTER TABLE config_log ADD COLUMN undo BYTEA;
ALTER TABLE config_log ADD COLUMN action TEXT NOT NULL DEFAULT '';
