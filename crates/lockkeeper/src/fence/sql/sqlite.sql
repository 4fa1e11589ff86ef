-- 1. What stands. The fence of an SQLite file is an open transaction of the executor's process (executor_started is
--    its process id): while that lives, writers get "database is locked". End the process, and the gate is open.
SELECT gate_epoch, opened, version, rollout, changed_at, executor_session, executor_started, executor_who
  FROM lockkeeper_gate;

-- 2. Release. Only a copy that was made out of a fence can say that it is closed (opened below gate_epoch). Write your
--    reason where it says REASON. This waits for nobody: "database is locked" means that the executor lives.
UPDATE lockkeeper_gate
   SET opened = gate_epoch,
       version = coalesce((SELECT l.version FROM lockkeeper_ledger l ORDER BY l.applied_at DESC LIMIT 1), version),
       executor_session = NULL, executor_started = NULL, executor_who = NULL,
       rollout = substr('released by hand: ' || 'REASON', 1, 255),
       changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
 WHERE opened < gate_epoch;
