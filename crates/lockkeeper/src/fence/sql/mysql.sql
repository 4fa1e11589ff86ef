-- 1. What stands. The gate is closed while opened is below gate_epoch; a row of PROCESSLIST beside it means that the
--    executor lives: stop here, or end it with KILL and its number.
SELECT g.gate_epoch, g.opened, g.version, g.rollout, g.changed_at, g.executor_session, g.executor_who,
       p.COMMAND AS executor_state, p.INFO AS executor_query
  FROM lockkeeper_gate g
  LEFT JOIN information_schema.PROCESSLIST p ON p.ID = g.executor_session;

-- 2. Release: every coordinator is stopped, and no executor lives. Write your reason where it says REASON.
--    No row is changed when the gate is open, or while the executor lives.
UPDATE lockkeeper_gate
   SET opened = gate_epoch,
       version = COALESCE((SELECT l.version FROM lockkeeper_ledger l ORDER BY l.applied_at DESC, l.place DESC LIMIT 1), version),
       superseded = 0,
       rollout = LEFT(CONCAT('released by hand: ', 'REASON', ' (', CURRENT_USER(), ')'), 255),
       changed_at = UTC_TIMESTAMP(6)
 WHERE one = 1 AND opened < gate_epoch
   AND NOT EXISTS (SELECT 1 FROM information_schema.PROCESSLIST p WHERE p.ID = executor_session);
UPDATE lockkeeper_gate SET executor_session = NULL, executor_started = NULL, executor_who = NULL
 WHERE one = 1 AND opened = gate_epoch
   AND NOT EXISTS (SELECT 1 FROM information_schema.PROCESSLIST p WHERE p.ID = executor_session);

-- 3. What is left of the barrier refuses nobody once the gate is open; the next rollout drops it. To drop it now, run
--    what this prints.
SELECT CONCAT('DROP TRIGGER `', TRIGGER_NAME, '`;') AS statements
  FROM information_schema.TRIGGERS
 WHERE TRIGGER_SCHEMA = DATABASE() AND LEFT(TRIGGER_NAME, 12) = 'lockkeeper_g';
