-- What was backed up and restored. Made with the first record, in the schema of lockkeeper_gate.
CREATE TABLE IF NOT EXISTS lockkeeper_backup (
    id         text PRIMARY KEY,              -- UUIDv7
    kind       text NOT NULL,                 -- backup, restore
    taken_at   timestamptz NOT NULL,          -- before the dump began
    place      text NOT NULL,                 -- host:file, or the command that took it
    size       bigint NOT NULL,               -- bytes
    sha256     text NOT NULL,
    version    text,                          -- schema version then
    identity   text NOT NULL,                 -- the server that it was taken of
    tool       text NOT NULL,
    verified   text NOT NULL,                 -- readable, restored
    made_by    text NOT NULL
);
