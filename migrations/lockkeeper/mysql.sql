-- Lockkeeper's own tables in a MariaDB or MySQL database, made in the current database.
-- Each statement may run any number of times and at once from many places; existing tables are left alone.
-- Times are UTC. The collation is binary, because two versions that differ in case are two versions.

-- The target's own record of its gate: exactly one row.
CREATE TABLE IF NOT EXISTS lockkeeper_gate (
    one              TINYINT UNSIGNED NOT NULL PRIMARY KEY,      -- always 1
    identity         VARCHAR(255) NOT NULL,                      -- the server that this row was written on
    generation       BIGINT UNSIGNED NOT NULL DEFAULT 0,         -- leader epoch, first half
    revision         BIGINT UNSIGNED NOT NULL DEFAULT 0,         -- leader epoch, second half
    leader_id        VARCHAR(36) NULL,                           -- random id of the leader that holds the epoch
    gate_epoch       BIGINT UNSIGNED NOT NULL DEFAULT 0,         -- the newest fence
    opened           BIGINT UNSIGNED NOT NULL DEFAULT 0,         -- the newest opened fence; below gate_epoch: closed
    version          VARCHAR(255) NULL,                          -- schema version at the last opening
    executor_session BIGINT UNSIGNED NULL,                       -- connection id that may pass the barrier
    executor_started VARCHAR(64) NULL,                           -- names the lock that it holds while it lives
    executor_who     VARCHAR(255) NULL,                          -- who runs it, for people
    superseded       TINYINT UNSIGNED NOT NULL DEFAULT 0,        -- 1: a newer leader is ending the executor
    rollout          VARCHAR(255) NULL,                          -- what closed the gate, or why a person released it
    changed_at       DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What is applied, one row per schema version.
CREATE TABLE IF NOT EXISTS lockkeeper_ledger (
    version     VARCHAR(255) NOT NULL PRIMARY KEY,
    name        VARCHAR(255) NOT NULL,
    checksum    VARCHAR(128) NOT NULL,
    layout      VARCHAR(64) NOT NULL,
    applied_at  DATETIME(6) NOT NULL,
    duration_ms BIGINT UNSIGNED NOT NULL,
    applied_by  VARCHAR(255) NOT NULL,
    generation  BIGINT UNSIGNED NOT NULL,
    revision    BIGINT UNSIGNED NOT NULL,
    warnings    INT UNSIGNED NOT NULL,                           -- what the server said beside its answers
    doubtful    INT UNSIGNED NULL,                               -- the statement that nobody can judge, from 1
    place       BIGINT UNSIGNED NOT NULL AUTO_INCREMENT UNIQUE,  -- the order in which they were applied
    how         VARCHAR(16) NOT NULL DEFAULT 'ran'               -- ran, baseline, adopted
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The statements of a migration with implicit commits that is under way. Cleared when its ledger row is written.
CREATE TABLE IF NOT EXISTS lockkeeper_journal (
    version     VARCHAR(255) NOT NULL,
    direction   VARCHAR(8) NOT NULL,
    position    INT UNSIGNED NOT NULL,                           -- of the statement in its script, from 1
    hash        CHAR(64) NOT NULL,                               -- SHA-256 of the statement's text
    state       VARCHAR(8) NOT NULL,                             -- started, done
    started_at  DATETIME(6) NOT NULL,
    finished_at DATETIME(6) NULL,
    PRIMARY KEY (version, direction, position)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The format of these tables, and where the history is: exactly one row.
CREATE TABLE IF NOT EXISTS lockkeeper_meta (
    one        TINYINT UNSIGNED NOT NULL PRIMARY KEY,            -- always 1
    format     BIGINT UNSIGNED NOT NULL,                         -- a release refuses a format that it does not know
    made_by    VARCHAR(64) NOT NULL,                             -- the release that brought them to it
    ledger     VARCHAR(32) NOT NULL,                             -- own, or the tool whose table has the history
    changed_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Files that were changed after they were applied, and accepted.
CREATE TABLE IF NOT EXISTS lockkeeper_edits (
    place       BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    version     VARCHAR(255) NOT NULL,
    was         VARCHAR(255) NOT NULL,                           -- the checksum of what ran
    now         VARCHAR(255) NOT NULL,                           -- the checksum of the file since
    accepted_by VARCHAR(255) NOT NULL,
    accepted_at DATETIME(6) NOT NULL,
    reason      VARCHAR(1000) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
