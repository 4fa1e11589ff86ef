-- What people said about statements that were in doubt. Made with the first one.
CREATE TABLE IF NOT EXISTS lockkeeper_resolution (
    version     text NOT NULL,
    direction   text NOT NULL,
    position    integer NOT NULL,                 -- of the statement in its script, from 1
    resolved_as text NOT NULL,                    -- done, not-done
    resolved_by text NOT NULL,
    reason      text,
    resolved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
