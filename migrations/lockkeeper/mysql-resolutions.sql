-- What people said about statements that were in doubt. Made with the first one. Times are UTC.
CREATE TABLE IF NOT EXISTS lockkeeper_resolution (
    version     VARCHAR(255) NOT NULL,
    direction   VARCHAR(8) NOT NULL,
    position    INT UNSIGNED NOT NULL,                           -- of the statement in its script, from 1
    resolved_as VARCHAR(8) NOT NULL,                             -- done, not-done
    resolved_by VARCHAR(255) NOT NULL,
    reason      TEXT NULL,
    resolved_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
