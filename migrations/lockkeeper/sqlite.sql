-- Lockkeeper's own tables in an SQLite file.
-- Run in one transaction; existing tables are left alone. No STRICT: an application that is linked to an SQLite
-- older than 3.37 could then not read its own database any more. Times are UTC texts as SQLite writes them.

-- The target's own record of its gate: exactly one row.
CREATE TABLE IF NOT EXISTS lockkeeper_gate (
    one              integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    identity         text NOT NULL,               -- the file that this row was written in
    generation       integer NOT NULL DEFAULT 0,  -- leader epoch, first half
    revision         integer NOT NULL DEFAULT 0,  -- leader epoch, second half
    leader_id        text,                        -- random id of the leader process that holds the epoch
    gate_epoch       integer NOT NULL DEFAULT 0,  -- the newest fence
    opened           integer NOT NULL DEFAULT 0,  -- the newest fence that was opened; below gate_epoch: closed
    version          text,                        -- schema version at the last opening
    executor_session text,                        -- random id of the connection that may change this file
    executor_started text,                        -- its process id
    executor_who     text,                        -- who runs it, for people
    rollout          text,                        -- what closed the gate, or why it was released by hand
    changed_at       text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- What is applied, one row per schema version.
CREATE TABLE IF NOT EXISTS lockkeeper_ledger (
    version     text PRIMARY KEY NOT NULL,
    name        text NOT NULL,
    checksum    text NOT NULL,
    layout      text NOT NULL,
    applied_at  text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    duration_ms integer NOT NULL,
    applied_by  text NOT NULL,
    generation  integer NOT NULL,
    revision    integer NOT NULL,
    how         text NOT NULL DEFAULT 'ran'       -- ran, baseline, adopted
);

-- The statements of a non-transactional migration that is under way. Cleared when its ledger row is written.
CREATE TABLE IF NOT EXISTS lockkeeper_journal (
    version     text NOT NULL,
    direction   text NOT NULL,
    position    integer NOT NULL,                 -- of the statement in its script, from 1
    hash        text NOT NULL,                    -- SHA-256 of the statement's text
    state       text NOT NULL,                    -- started, done
    started_at  text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    finished_at text,
    PRIMARY KEY (version, direction, position)
);

-- The format of these tables, and where the history is: exactly one row.
CREATE TABLE IF NOT EXISTS lockkeeper_meta (
    one        integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    format     integer NOT NULL,                  -- a release refuses tables of a format that it does not know
    made_by    text NOT NULL,                     -- the release that brought them to it
    ledger     text NOT NULL,                     -- own: lockkeeper_ledger; else the tool whose table has the history
    changed_at text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Files that were changed after they were applied, and accepted.
CREATE TABLE IF NOT EXISTS lockkeeper_edits (
    place       integer PRIMARY KEY,
    version     text NOT NULL,
    was         text NOT NULL,                    -- the checksum of what ran
    now         text NOT NULL,                    -- the checksum of the file since
    accepted_by text NOT NULL,
    accepted_at text NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    reason      text NOT NULL
);
