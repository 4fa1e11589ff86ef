ALTER TABLE orders ADD COLUMN amount_cents BIGINT NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN currency VARCHAR(3);
UPDATE orders SET
    amount_cents = coalesce((SELECT max(p.amount_cents) FROM payments p WHERE p.order_number = orders.number), 0),
    currency = (SELECT max(p.currency) FROM payments p WHERE p.order_number = orders.number);
