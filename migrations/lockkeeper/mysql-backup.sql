-- What was backed up and restored. Made with the first record. Times are UTC.
CREATE TABLE IF NOT EXISTS lockkeeper_backup (
    id         VARCHAR(36) NOT NULL PRIMARY KEY,   -- UUIDv7
    kind       VARCHAR(16) NOT NULL,               -- backup, restore
    taken_at   DATETIME(6) NOT NULL,               -- before the dump began
    place      VARCHAR(1024) NOT NULL,             -- host:file, or the command that took it
    size       BIGINT UNSIGNED NOT NULL,           -- bytes
    sha256     CHAR(64) NOT NULL,
    version    VARCHAR(255) NULL,                  -- schema version then
    identity   VARCHAR(255) NOT NULL,              -- the server that it was taken of
    tool       VARCHAR(255) NOT NULL,
    verified   VARCHAR(16) NOT NULL,               -- readable, restored
    made_by    VARCHAR(255) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
