-- Payments get a table of their own. From here on, an order that is written the old way would have no payment.
CREATE TABLE payments (
    id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    order_number BIGINT NOT NULL,
    amount_cents BIGINT NOT NULL,
    currency     VARCHAR(3) NOT NULL
) ENGINE = InnoDB;
INSERT INTO payments (order_number, amount_cents, currency)
SELECT number, amount_cents, coalesce(currency, 'EUR') FROM orders;
CREATE INDEX payments_order_number ON payments (order_number);
