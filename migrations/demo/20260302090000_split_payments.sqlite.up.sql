-- Payments get a table of their own. From here on, an order that is written the old way would have no payment.
CREATE TABLE payments (
    id           INTEGER PRIMARY KEY,
    order_number INTEGER NOT NULL,
    amount_cents INTEGER NOT NULL,
    currency     TEXT NOT NULL
);
INSERT INTO payments (order_number, amount_cents, currency)
SELECT number, amount_cents, coalesce(currency, 'EUR') FROM orders;
CREATE INDEX payments_order_number ON payments (order_number);
