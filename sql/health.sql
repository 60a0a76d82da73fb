--
-- The view "health" and health_status()
--
-- What makes components degraded is in test/t/090_health.pl and the next two.
--
SELECT attname, format_type(atttypid, atttypmod) AS type
FROM pg_attribute WHERE attrelid = 'resilience.health'::regclass AND attnum > 0 ORDER BY attnum;

SELECT attname, format_type(atttypid, atttypmod) AS type
FROM pg_attribute WHERE attrelid = 'resilience.load_samples'::regclass AND attnum > 0 ORDER BY attnum;

-- wait until the launcher has seen a status
CREATE PROCEDURE wait_health(name text, wanted text) LANGUAGE plpgsql AS $$
DECLARE
	now text;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		SELECT status INTO now FROM resilience.health WHERE component = name;
		IF now = wanted THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'waited in vain for %: % is %', wanted, name, now;
END $$;

CALL wait_health('server', 'healthy');
SELECT component, kind, status, critical, since <= clock_timestamp() AS since, database_name
FROM resilience.health WHERE database_name IS NULL;
SELECT resilience.health_status();
SELECT provolatile, proparallel FROM pg_proc WHERE oid = 'resilience.health_status'::regproc;

-- a component of each kind
SELECT resilience.create_bulkhead('health bulkhead', application_name => 'nobody', max_running => 1);
SELECT resilience.create_breaker('health breaker');
SELECT resilience.create_health_check('health check', query => 'SELECT true', critical => true, check_interval => '1 h');
SELECT resilience.create_health_check('disabled check', query => 'SELECT true', enabled => false);
SELECT resilience.create_feature('health feature');
SELECT resilience.create_degradation('health degradation', 'loaded', 'low', '{"work_mem": "1MB"}');
SELECT resilience.create_runaway_rule('health rule', application_name => 'nobody', max_duration => '1 min');
CALL wait_health('health rule', 'healthy');
SELECT component, kind, CASE kind WHEN 'health_check' THEN 'any' ELSE status END AS status, critical,
	since <= clock_timestamp() AS since, database_name
FROM resilience.health WHERE component LIKE '%health%' OR component LIKE 'disabled%' ORDER BY kind;

-- an open breaker degrades the server, and comes right after it
SELECT resilience.force_breaker('health breaker', 'open');
CALL wait_health('server', 'degraded');
SELECT component, status, message FROM resilience.health
WHERE component = 'health breaker' OR component = 'launcher' AND status <> 'healthy';
SELECT component FROM (SELECT component FROM resilience.health WHERE kind <> 'health_check' LIMIT 2) first;
SELECT resilience.health_status();
BEGIN;
SELECT resilience.drop_breaker('health breaker');
SELECT status FROM resilience.health WHERE component = 'health breaker';
ROLLBACK;
SELECT resilience.drop_breaker('health breaker');
CALL wait_health('server', 'healthy');

SELECT resilience.drop_bulkhead('health bulkhead'), resilience.drop_health_check('health check'),
	resilience.drop_health_check('disabled check'), resilience.drop_feature('health feature'),
	resilience.drop_degradation('health degradation'), resilience.drop_runaway_rule('health rule');
SELECT count(*) FROM resilience.health WHERE database_name = current_database();

-- a sample each second
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		IF (SELECT count(*) FROM resilience.load_samples) >= 2 THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.1);
	END LOOP;
	RAISE 'there are no samples';
END $$;
SELECT count(*) BETWEEN 2 AND 128 AS some, min(status) <> '' AS status, min(running) >= 0 AS running,
	min(current_limit) >= -1 AS current_limit, count(*) FILTER (WHERE cpu_idle NOT BETWEEN 0 AND 1) AS idle
FROM resilience.load_samples WHERE at > (SELECT max(at) FROM resilience.load_samples) - interval '5 s';
SELECT bool_and(at - before BETWEEN '0.9 s' AND '60 s') AS in_order
FROM (SELECT at, lag(at) OVER () AS before FROM resilience.load_samples) s;
