-- The logins of external migrators. Made with the first one; empty between fences.
CREATE TABLE IF NOT EXISTS lockkeeper_guest (
    role       text PRIMARY KEY,                  -- lockkeeper_<gate epoch>_<random>
    gate_epoch bigint NOT NULL,                   -- the fence that it may pass
    generation bigint NOT NULL,                   -- with revision and leader_id: who let it in
    revision   bigint NOT NULL,
    leader_id  text,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
