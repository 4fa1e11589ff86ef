-- Lockkeeper's own tables in a PostgreSQL target, made in the current schema.
-- Run as one transaction; existing tables are left alone.

-- The target's own record of its gate: exactly one row.
CREATE TABLE IF NOT EXISTS lockkeeper_gate (
    one              boolean PRIMARY KEY DEFAULT true CHECK (one),
    identity         text NOT NULL,               -- the server that this row was written on
    generation       bigint NOT NULL DEFAULT 0,   -- leader epoch, first half
    revision         bigint NOT NULL DEFAULT 0,   -- leader epoch, second half
    leader_id        text,                        -- random id of the leader process that holds the epoch
    gate_epoch       bigint NOT NULL DEFAULT 0,   -- the newest fence
    opened           bigint NOT NULL DEFAULT 0,   -- the newest fence that was opened; below gate_epoch: closed
    version          text,                        -- schema version at the last opening
    executor_session text,                        -- backend pid of the session that may pass the barrier
    executor_started text,                        -- its backend_start, microseconds since 1970
    executor_who     text,                        -- who runs it, for people
    rollout          text,                        -- what closed the gate, or why it was released by hand
    changed_at       timestamptz NOT NULL DEFAULT now()
);

-- What is applied, one row per schema version.
CREATE TABLE IF NOT EXISTS lockkeeper_ledger (
    version     text PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    layout      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_ms bigint NOT NULL,
    applied_by  text NOT NULL,
    generation  bigint NOT NULL,
    revision    bigint NOT NULL,                  -- both 0 outside of a fleet
    warnings    bigint NOT NULL DEFAULT 0         -- how many the server gave
);

-- The statements of a non-transactional migration that is under way. Cleared when its ledger row is written.
CREATE TABLE IF NOT EXISTS lockkeeper_journal (
    version     text NOT NULL,
    direction   text NOT NULL,
    position    integer NOT NULL,                 -- of the statement in its script, from 1
    hash        text NOT NULL,                    -- SHA-256 of the statement's text
    state       text NOT NULL,                    -- started, done, in doubt
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (version, direction, position)
);

-- An application that starts while no coordinator can be reached reads the gate row itself.
GRANT SELECT ON lockkeeper_gate TO PUBLIC;
