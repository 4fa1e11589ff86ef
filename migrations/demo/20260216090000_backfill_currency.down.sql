-- The column goes with the migration below; which rows were filled is not worth remembering.
UPDATE orders SET currency = NULL;
