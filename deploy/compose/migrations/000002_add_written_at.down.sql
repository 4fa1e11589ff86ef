ALTER TABLE notes DROP COLUMN written_at;
