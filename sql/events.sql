--
-- The view of events: columns, details as JSON, who may see what
--
SET client_min_messages = warning;
\set VERBOSITY terse

SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = 'resilience.events'::regclass AND a.attnum > 0 ORDER BY a.attnum;

-- this test's own events: whatever else happens in the server
SELECT coalesce(max(id), 0) AS begin_id FROM resilience.events \gset
CREATE TEMPORARY VIEW mine AS
SELECT * FROM resilience.events WHERE database_name = current_database();

--
-- Definitions
--
SELECT resilience.create_bulkhead('events_b', role_name => :'USER', max_running => 3, max_waiting => 4);
SELECT resilience.alter_bulkhead('events_b', max_running => 5);
-- nothing changes
SELECT resilience.alter_bulkhead('events_b', max_running => 5);
SELECT resilience.create_runaway_rule('events_r', max_duration => '1 h');
SELECT resilience.alter_runaway_rule('events_r', action => 'cancel', mode => 'observe');
SELECT resilience.create_health_check('events_h', query => 'SELECT true', enabled => false);
SELECT resilience.create_feature('events_f');
SELECT resilience.create_degradation('events_d', 'loaded', 'low', '{"jit": "off"}');
SELECT resilience.drop_degradation('events_d');
SELECT resilience.drop_feature('events_f');
SELECT resilience.drop_health_check('events_h');
SELECT resilience.drop_runaway_rule('events_r');
SELECT resilience.drop_bulkhead('events_b');
-- what is rolled back leaves no trace
BEGIN;
SELECT resilience.create_bulkhead('events_b');
ROLLBACK;
BEGIN;
SELECT resilience.create_bulkhead('events_c');
SAVEPOINT s;
SELECT resilience.create_bulkhead('events_b');
ROLLBACK TO s;
COMMIT;
SELECT resilience.drop_bulkhead('events_c');

SELECT kind, object, from_state, to_state, pid = pg_backend_pid() AS by_me,
	detail ->> 'role' = :'USER' AS role, detail - 'role' AS detail
FROM mine WHERE id > :begin_id AND to_state IN ('created', 'changed', 'dropped') ORDER BY id;

--
-- A breaker: causes and numbers
--
SELECT max(id) AS begin_id FROM resilience.events \gset
SELECT resilience.create_breaker('events_x', max_failures => 3, reset_timeout => '10 ms', jitter => 0, success_threshold => 2);
SELECT count(resilience.breaker_record('events_x', false)) FROM generate_series(1, 3);
SELECT pg_sleep(0.02);
SELECT resilience.call_with_breaker('events_x', 'SELECT 1'), resilience.call_with_breaker('events_x', 'SELECT 1');
SELECT count(resilience.breaker_record('events_x', false)) FROM generate_series(1, 3);
SELECT pg_sleep(0.03);
SELECT resilience.call_with_breaker('events_x', 'SELECT 1/0');
SELECT resilience.reset_breaker('events_x');
SELECT resilience.force_breaker('events_x', 'open');
SELECT resilience.force_breaker('events_x', 'closed');
SELECT resilience.force_breaker('events_x', 'auto');
SELECT resilience.alter_breaker('events_x', mode => 'observe', recorded_sqlstates => '{22}');
DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			PERFORM resilience.call_with_breaker('events_x', 'SELECT 1/0');
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT resilience.drop_breaker('events_x');
SELECT object, from_state, to_state,
	detail - 'retry_after_ms' - 'open_ms' - 'role' AS detail,
	(detail ->> 'retry_after_ms')::int BETWEEN 0 AND 40 AS retry_after_ms,
	(detail ->> 'open_ms')::int >= 0 AS open_ms
FROM mine WHERE id > :begin_id AND kind = 'breaker' ORDER BY id;
-- types
SELECT DISTINCT e.key, jsonb_typeof(e.value) FROM mine, jsonb_each(detail) e
WHERE id > :begin_id AND kind = 'breaker' ORDER BY 1;
SELECT resilience.reset_breaker('no such breaker');

--
-- What is too long is left out, or cut, and marked
--
SELECT max(id) AS begin_id FROM resilience.events \gset
SELECT resilience.create_bulkhead(repeat('long name ', 6) || 'a''"', max_running => 123456, max_waiting => 123456, max_connections => 123456);
SELECT resilience.drop_bulkhead(repeat('long name ', 6) || 'a''"');
SELECT object, to_state, detail - 'role' AS detail FROM mine WHERE id > :begin_id ORDER BY id;

--
-- Ids go up without a gap while there is room, times with them
--
SELECT count(*) > 10 AS many, count(*) = max(id) - min(id) + 1 AS no_gap,
	count(*) <= current_setting('resilience.event_buffer')::bigint AS within_buffer
FROM resilience.events;
SELECT bool_and(at BETWEEN now() - interval '1 hour' AND clock_timestamp()) AS times FROM mine WHERE id > :begin_id;

--
-- Who may see it
--
CREATE ROLE regress_events_plain;
CREATE ROLE regress_events_monitor IN ROLE pg_monitor;
CREATE ROLE regress_events_reader;
GRANT SELECT ON resilience.events TO regress_events_reader;
GRANT EXECUTE ON FUNCTION resilience.recent_events() TO regress_events_reader;
SET ROLE regress_events_plain;
SELECT count(*) FROM resilience.events;
SELECT count(*) FROM resilience.recent_events();
RESET ROLE;
SET ROLE regress_events_monitor;
SELECT count(*) > 10 AS some, count(*) FILTER (WHERE detail IS NULL) AS hidden FROM resilience.events;
RESET ROLE;
SET ROLE regress_events_reader;
SELECT count(*) > 10 AS some, count(*) FILTER (WHERE detail IS NULL) AS hidden FROM resilience.events
WHERE database_name = current_database();
RESET ROLE;
REVOKE ALL ON resilience.events FROM regress_events_reader;
REVOKE ALL ON FUNCTION resilience.recent_events() FROM regress_events_reader;
DROP ROLE regress_events_plain, regress_events_monitor, regress_events_reader;
