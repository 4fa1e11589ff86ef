-- What was backed up and restored. Made with the first record. Times are UTC texts as SQLite writes them.
CREATE TABLE IF NOT EXISTS lockkeeper_backup (
    id         text PRIMARY KEY NOT NULL,     -- UUIDv7
    kind       text NOT NULL,                 -- backup, restore
    taken_at   text NOT NULL,                 -- before the copy began
    place      text NOT NULL,                 -- host:file, or the command that took it
    size       integer NOT NULL,              -- bytes
    sha256     text NOT NULL,
    version    text,                          -- schema version then
    identity   text NOT NULL,                 -- the file that it was taken of
    tool       text NOT NULL,
    verified   text NOT NULL,                 -- readable, restored
    made_by    text NOT NULL
);
