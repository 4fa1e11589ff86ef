-- The number is indexed and deliberately not unique: if a write were applied twice, the demo must be able to see it.
CREATE TABLE orders (
    id           INTEGER PRIMARY KEY,
    number       INTEGER NOT NULL,
    customer     TEXT NOT NULL,
    amount_cents INTEGER NOT NULL
);
CREATE INDEX orders_number ON orders (number);
