-- At this version orders still have their amounts, so nothing is lost.
DROP TABLE payments;
