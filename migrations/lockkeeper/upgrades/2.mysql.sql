-- From format 1 to 2: a ledger row says how it came to be. The new tables come with ../mysql.sql.
ALTER TABLE lockkeeper_ledger ADD COLUMN how VARCHAR(16) NOT NULL DEFAULT 'ran';
