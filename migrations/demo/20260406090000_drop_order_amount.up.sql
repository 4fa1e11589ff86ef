ALTER TABLE orders DROP COLUMN amount_cents;
ALTER TABLE orders DROP COLUMN currency;
