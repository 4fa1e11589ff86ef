-- For every version: whatever a migration does to orders, their numbers stay.
SELECT count(*) = count(number) FROM orders;
