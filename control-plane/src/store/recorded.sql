-- How answers ended, in how many pieces they came, and what routes ask to be recorded besides: an object of JSON.
ALTER TABLE events ADD COLUMN response_chunks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN response_end TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN recorded TEXT;
