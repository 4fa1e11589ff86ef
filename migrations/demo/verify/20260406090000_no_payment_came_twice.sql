SELECT (SELECT count(*) FROM payments) = (SELECT count(DISTINCT order_number) FROM payments);
