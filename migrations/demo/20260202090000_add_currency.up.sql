-- Additive: a release that does not know the column goes on inserting without it.
ALTER TABLE orders ADD COLUMN currency VARCHAR(3);
