SELECT count(*) = 0 FROM orders o WHERE NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_number = o.number);
