-- 1. What stands. The gate is closed while opened is below gate_epoch; a row of pg_stat_activity beside it means that
--    the executor lives: stop here, or end it with pg_terminate_backend(executor_session::int).
SELECT g.gate_epoch, g.opened, g.version, g.rollout, g.changed_at, g.executor_session, g.executor_who,
       a.state AS executor_state, a.query AS executor_query
  FROM lockkeeper_gate g
  LEFT JOIN pg_stat_activity a ON a.pid::text = g.executor_session
   AND (extract(epoch FROM a.backend_start) * 1000000)::bigint::text = g.executor_started;

-- 2. Release: every coordinator is stopped, and no executor lives. Write your reason where it says REASON.
--    No row is changed when the gate is open, or while the executor lives.
UPDATE lockkeeper_gate g
   SET opened = gate_epoch,
       version = coalesce((SELECT l.version FROM lockkeeper_ledger l ORDER BY l.applied_at DESC LIMIT 1), g.version),
       executor_session = NULL, executor_started = NULL, executor_who = NULL,
       rollout = left('released by hand: ' || 'REASON' || ' (' || session_user || ')', 255), changed_at = now()
 WHERE opened < gate_epoch
   AND NOT EXISTS (
       SELECT FROM pg_stat_activity a WHERE a.pid::text = g.executor_session
          AND (extract(epoch FROM a.backend_start) * 1000000)::bigint::text = g.executor_started);

-- 3. What is left of the barrier refuses nobody once the gate is open. This drops it; the next rollout would, too.
SET lock_timeout = '2s';
DO $$
DECLARE
    object record;
BEGIN
    IF EXISTS (SELECT FROM lockkeeper_gate WHERE opened < gate_epoch) THEN
        RAISE EXCEPTION 'the gate is still closed';
    END IF;
    FOR object IN
        SELECT t.tgname, t.tgrelid::regclass AS "table" FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE NOT t.tgisinternal AND p.proname ~ '^lockkeeper_g[0-9]+_[0-9a-f]{8}$'
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', object.tgname, object."table");
    END LOOP;
    FOR object IN
        SELECT p.oid::regprocedure AS "function" FROM pg_proc p WHERE p.proname ~ '^lockkeeper_g[0-9]+_[0-9a-f]{8}$'
    LOOP
        EXECUTE format('DROP FUNCTION %s', object."function");
    END LOOP;
END
$$;
