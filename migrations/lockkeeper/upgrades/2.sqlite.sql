-- From format 1 to 2: a ledger row says how it came to be. The new tables come with ../sqlite.sql.
ALTER TABLE lockkeeper_ledger ADD COLUMN how text NOT NULL DEFAULT 'ran';
