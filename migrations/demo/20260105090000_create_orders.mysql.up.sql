-- The number is indexed and deliberately not unique: if a write were applied twice, the demo must be able to see it.
CREATE TABLE orders (
    id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    number       BIGINT NOT NULL,
    customer     VARCHAR(100) NOT NULL,
    amount_cents BIGINT NOT NULL
) ENGINE = InnoDB;
CREATE INDEX orders_number ON orders (number);
