--
-- Every setting: default, context, range, unit; what is refused, and how.
--

SELECT name, boot_val, unit, context, vartype, min_val, max_val
FROM pg_settings WHERE name LIKE 'resilience.%' ORDER BY name;
SELECT name, enumvals
FROM pg_settings WHERE name LIKE 'resilience.%' AND vartype = 'enum' ORDER BY name;

-- nothing is set, so nothing is limited
SELECT name, setting, source
FROM pg_settings WHERE name LIKE 'resilience.%' AND source <> 'default';
SELECT mode, max_running, current_limit, min_admitted_priority
FROM resilience.load_shedder;

-- durations carry a unit
SHOW resilience.max_wait;
SET resilience.max_wait = '250ms';
SHOW resilience.max_wait;
SET resilience.max_wait = 1500;
SHOW resilience.max_wait;
SET resilience.max_wait = '2min';
SHOW resilience.max_wait;
SET resilience.max_wait = '1h';
SET resilience.max_wait = 0;
RESET resilience.max_wait;
SHOW resilience.max_wait;
SET resilience.deadline = '3s';
SHOW resilience.deadline;
RESET resilience.deadline;

-- every wait has an end (versions word the range differently)
\set VERBOSITY sqlstate
SET resilience.max_wait = '61min';
SET resilience.max_wait = -1;
SET resilience.max_wait = '1 fortnight';
SET resilience.deadline = -1;
\set VERBOSITY default
SHOW resilience.max_wait;

-- words
SET resilience.mode = 'OBSERVE';
SHOW resilience.mode;
SET resilience.mode = 'sometimes';
RESET resilience.mode;
SET resilience.priority = 'urgent';
SET resilience.requested_priority = '';
SET resilience.mode = on;

-- what concerns all sessions is in the configuration of the server
SET resilience.max_running = 8;
SET resilience.max_waiting = 8;
SET resilience.adaptive_limit = on;
SET resilience.min_running_limit = 1;
SET resilience.minimum_priority = 'high';
SET resilience.low_priority_cap = 1;
SET resilience.normal_priority_cap = 1;
SET resilience.preemption = 'off';
SET resilience.max_bulkheads = 10;

-- bad values do not get in there, and a limit of 0 would be the end of all work
ALTER SYSTEM SET resilience.max_running = 0;
\echo :SQLSTATE
ALTER SYSTEM SET resilience.max_running = -2;
ALTER SYSTEM SET resilience.max_running = 262144;
ALTER SYSTEM SET resilience.max_running = 'many';
ALTER SYSTEM SET resilience.max_connection_rate = 0;
ALTER SYSTEM SET resilience.max_connection_rate = -0.5;
ALTER SYSTEM SET resilience.max_connection_rate = 1000001;
ALTER SYSTEM SET resilience.max_waiting = -1;
ALTER SYSTEM SET resilience.adaptive_limit = 'maybe';
ALTER SYSTEM SET resilience.min_running_limit = 0;
ALTER SYSTEM SET resilience.min_running_limit = 262144;
ALTER SYSTEM SET resilience.low_priority_cap = -2;
ALTER SYSTEM SET resilience.normal_priority_cap = -2;
ALTER SYSTEM SET resilience.minimum_priority = 'medium';
ALTER SYSTEM SET resilience.preemption = 'always';
ALTER SYSTEM SET resilience.max_bulkheads = 0;
ALTER SYSTEM SET resilience.mode = 'on';

-- the prefix is ours: a typing error does not pass for a setting
SET resilience.max_runing = 8;
\set VERBOSITY sqlstate
ALTER ROLE CURRENT_USER SET resilience.max_runing = 8;
SELECT set_config('resilience.max_runing', '8', false);
SHOW resilience.max_runing;
\set VERBOSITY default

-- A reload makes the server-wide settings known to all sessions at once.  A
-- new session has the new values itself.
CREATE FUNCTION wait_for(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	met boolean;
BEGIN
	FOR i IN 1..6000 LOOP
		EXECUTE condition INTO met;
		IF met THEN
			RETURN 'done';
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN 'waited in vain for: ' || condition;
END $$;
ALTER SYSTEM SET resilience.max_running = 7;
ALTER SYSTEM SET resilience.minimum_priority = 'normal';
ALTER SYSTEM SET resilience.mode = 'observe';
SELECT pg_reload_conf();
SELECT wait_for($$SELECT current_limit = 7 AND min_admitted_priority = 'normal'
	FROM resilience.load_shedder$$);
\c -
SELECT mode, max_running, current_limit, min_admitted_priority
FROM resilience.load_shedder;

-- caps alone need no limit, and show none
ALTER SYSTEM RESET resilience.max_running;
ALTER SYSTEM RESET resilience.minimum_priority;
ALTER SYSTEM RESET resilience.mode;
ALTER SYSTEM SET resilience.low_priority_cap = 2;
SELECT pg_reload_conf();
SELECT wait_for($$SELECT min_admitted_priority = 'low' FROM resilience.load_shedder$$);
\c -
SELECT mode, max_running, current_limit, min_admitted_priority
FROM resilience.load_shedder;

ALTER SYSTEM RESET resilience.low_priority_cap;
SELECT pg_reload_conf();
SELECT wait_for($$SELECT current_limit = -1 FROM resilience.load_shedder$$);
\c -
SELECT mode, max_running, current_limit, min_admitted_priority
FROM resilience.load_shedder;
SELECT name, setting, source
FROM pg_settings WHERE name LIKE 'resilience.%' AND source <> 'default';

DROP FUNCTION wait_for;

-- where the health endpoint may listen
ALTER SYSTEM SET resilience.http_listen = 'localhost:8009';
ALTER SYSTEM SET resilience.http_listen = '127.0.0.1';
ALTER SYSTEM SET resilience.http_listen = '127.0.0.1:0';
ALTER SYSTEM SET resilience.http_listen = '::1:8009';
ALTER SYSTEM SET resilience.http_listen = 'run/health';
SET resilience.http_listen = '127.0.0.1:8009';
