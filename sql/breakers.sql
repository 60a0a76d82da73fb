--
-- Circuit breakers: definitions, commands, views
--
\set VERBOSITY default
CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'a''b\c', port '1');
CREATE FOREIGN TABLE words (word text) SERVER files OPTIONS (filename '/nonexistent/words');
-- definitions
SELECT resilience.create_breaker('b', 'files');
SELECT * FROM resilience.breaker_definitions;
SELECT name, server, state, forced, consecutive_failures, window_calls, failure_rate, calls_in_flight,
	opened_at, retry_at, open_count, last_sqlstate, probe_target, probe, mode
FROM resilience.breakers;
SELECT resilience.create_breaker('all', 'far', 3, 0.25, '2 s', 1, 7, '1 min', '100 ms', 1, '1 s', 0, 1, 2, '250 ms', true, 9,
	'EMPTY', '{57014,23}', '{08,58030}', 'Observe');
SELECT * FROM resilience.breaker_definitions WHERE name = 'all';
SELECT probe_target FROM resilience.breakers WHERE name = 'all';
SELECT resilience.alter_breaker('all', success_threshold => 5);
SELECT max_failures, success_threshold, on_open, mode FROM resilience.breakers WHERE name = 'all';
SELECT resilience.create_breaker('generic', max_failures => NULL, mode => NULL);
SELECT name, server, max_failures, mode, on_open, probe FROM resilience.breakers WHERE name = 'generic';
-- transactions
BEGIN;
SELECT resilience.alter_breaker('generic', max_failures => 9);
SELECT resilience.create_breaker('gone');
SELECT name, state FROM resilience.breakers ORDER BY name;
SAVEPOINT s;
SELECT resilience.drop_breaker('generic');
ROLLBACK TO s;
ROLLBACK;
SELECT name, state, max_failures FROM resilience.breakers ORDER BY name;
BEGIN;
SELECT resilience.create_breaker('prepared');
PREPARE TRANSACTION 'regress_breaker';
-- it trips
SELECT resilience.alter_breaker('b', max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h');
SELECT * FROM words;
SELECT * FROM words;
\set VERBOSITY terse
SELECT * FROM words;
\set VERBOSITY default
SELECT state, consecutive_failures, calls_in_flight, open_count, last_sqlstate, failure_total, rejected_total, trip_reason,
	opened_at IS NOT NULL AS opened, retry_at > opened_at AS retries, last_error
FROM resilience.breakers WHERE name = 'b';
\set VERBOSITY sqlstate
SELECT * FROM words;
\set VERBOSITY default
EXPLAIN (COSTS OFF) SELECT * FROM words;
ANALYZE words;
-- commands
SELECT resilience.reset_breaker('b');
SELECT state, consecutive_failures, open_count, rejected_total FROM resilience.breakers WHERE name = 'b';
SELECT resilience.force_breaker('b', 'OPEN');
SELECT state, forced, retry_at FROM resilience.breakers WHERE name = 'b';
SELECT * FROM words;
BEGIN;
SELECT resilience.force_breaker('b', 'auto');
SELECT state, forced FROM resilience.breakers WHERE name = 'b';
ROLLBACK;
SELECT state, forced FROM resilience.breakers WHERE name = 'b';
SELECT resilience.force_breaker('b', 'closed');
SELECT state, forced FROM resilience.breakers WHERE name = 'b';
SELECT resilience.force_breaker('b', 'auto');
SELECT resilience.reset_statistics();
SELECT failure_total, rejected_total, open_count > 0 AS opened FROM resilience.breakers WHERE name = 'b';
-- a table as any other
UPDATE resilience.breaker_definitions SET max_failures = 4 WHERE name = 'b';
SELECT max_failures FROM resilience.breakers WHERE name = 'b';
UPDATE resilience.breaker_definitions SET jitter = 2 WHERE name = 'b';
INSERT INTO resilience.breaker_definitions (name, server) VALUES ('second', 'files');
-- servers come and go
ALTER SERVER files RENAME TO papers;
SELECT name, server FROM resilience.breakers WHERE name = 'b';
BEGIN;
ALTER SERVER papers RENAME TO other;
ROLLBACK;
SELECT name, server FROM resilience.breakers WHERE name = 'b';
ALTER SERVER far OPTIONS (SET host 'elsewhere', ADD dbname 'db');
SELECT probe_target FROM resilience.breakers WHERE name = 'all';
ALTER SERVER far OPTIONS (ADD service 'x');
SELECT probe_target FROM resilience.breakers WHERE name = 'all';
DROP SERVER papers CASCADE;
DROP EXTENSION file_fdw CASCADE;
BEGIN;
SELECT resilience.drop_breaker('all');
DROP SERVER far;
COMMIT;
BEGIN;
CREATE SERVER fresh FOREIGN DATA WRAPPER file_fdw;
SELECT resilience.create_breaker('fresh', 'fresh');
DROP SERVER fresh;
ROLLBACK;
SELECT name, server FROM resilience.breakers ORDER BY name;
-- anything else
SELECT resilience.alter_breaker('generic', max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h');
SELECT resilience.call_with_breaker('generic', 'SELECT 1 UNION SELECT 2');
SELECT resilience.call_with_breaker('generic', 'SELECT 1/0');
SELECT resilience.call_with_breaker('generic', $$DO 'BEGIN RAISE ''no answer''; END'$$);
SELECT resilience.call_with_breaker('generic', $$DO 'BEGIN RAISE ''no answer''; END'$$);
\set VERBOSITY terse
SELECT resilience.call_with_breaker('generic', 'SELECT 1');
\set VERBOSITY default
SELECT resilience.breaker_acquire('generic');
SELECT state, success_total, failure_total, rejected_total, last_error FROM resilience.breakers WHERE name = 'generic';
SELECT resilience.reset_breaker('generic');
SELECT resilience.breaker_acquire('generic');
SELECT calls_in_flight FROM resilience.breakers WHERE name = 'generic';
SELECT resilience.breaker_record('generic', false, '1 s');
SELECT calls_in_flight, consecutive_failures FROM resilience.breakers WHERE name = 'generic';
SELECT resilience.call_with_breaker('generic', 'COMMIT');
SELECT resilience.call_with_breaker('generic', ' ; ');
SELECT resilience.call_with_breaker('nobody', 'SELECT 1');
SELECT resilience.breaker_record('generic', NULL);
SELECT resilience.breaker_record('generic', true, '-1 s');
SELECT resilience.breaker_acquire(NULL);
-- bad input
SELECT resilience.create_breaker(NULL);
SELECT resilience.create_breaker('');
SELECT resilience.create_breaker(repeat('x', 64));
SELECT resilience.create_breaker('b');
SELECT resilience.create_breaker('x', 'papers');
SELECT resilience.create_breaker('x', 'nowhere');
SELECT resilience.create_breaker('x', max_failures => 0);
SELECT resilience.create_breaker('x', minimum_calls => 0);
SELECT resilience.create_breaker('x', failure_rate => 1.1);
SELECT resilience.create_breaker('x', failure_rate => 0);
SELECT resilience.create_breaker('x', failure_rate => 'NaN');
SELECT resilience.create_breaker('x', slow_call_rate => -1);
SELECT resilience.create_breaker('x', slow_call_duration => '-1 s');
SELECT resilience.create_breaker('x', window_duration => '0');
SELECT resilience.create_breaker('x', reset_timeout => '2 days');
SELECT resilience.create_breaker('x', reset_timeout => '10 s', max_reset_timeout => '5 s');
SELECT resilience.create_breaker('x', backoff_factor => 0.5);
SELECT resilience.create_breaker('x', jitter => 1.5);
SELECT resilience.create_breaker('x', half_open_calls => 0);
SELECT resilience.create_breaker('x', success_threshold => -1);
SELECT resilience.create_breaker('x', call_timeout => '0');
SELECT resilience.create_breaker('x', max_concurrent_calls => -2);
SELECT resilience.create_breaker('x', on_open => 'guess');
SELECT resilience.create_breaker('x', on_open => 'fallback');
SELECT resilience.create_breaker('x', ignored_sqlstates => '{0800}');
SELECT resilience.create_breaker('x', ignored_sqlstates => '{NULL}');
SELECT resilience.create_breaker('x', recorded_sqlstates => '{00}');
SELECT resilience.create_breaker('x', mode => 'on');
SELECT resilience.alter_breaker('nobody', max_failures => 1);
SELECT resilience.drop_breaker('nobody');
SELECT resilience.drop_breaker('nobody', true);
SELECT resilience.force_breaker('nobody', 'open');
SELECT resilience.force_breaker('b', 'half_open');
SELECT resilience.force_breaker('b', NULL);
SELECT resilience.reset_breaker('nobody');
SELECT count(*) FROM resilience.breakers;
-- privileges
CREATE ROLE regress_breaker_user;
SET ROLE regress_breaker_user;
SELECT resilience.create_breaker('x');
SELECT resilience.call_with_breaker('b', 'SELECT 1');
SELECT * FROM resilience.breakers;
RESET ROLE;
GRANT EXECUTE ON FUNCTION resilience.create_breaker, resilience.drop_breaker, resilience.call_with_breaker TO regress_breaker_user;
SET ROLE regress_breaker_user;
SELECT resilience.create_breaker('x');
SELECT resilience.call_with_breaker('x', 'SELECT FROM resilience.breaker_definitions');
SELECT resilience.drop_breaker('x');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION resilience.create_breaker, resilience.drop_breaker, resilience.call_with_breaker FROM regress_breaker_user;
DROP ROLE regress_breaker_user;
SELECT resilience.drop_breaker(name) FROM resilience.breakers;
SELECT * FROM resilience.breakers;
DROP EXTENSION file_fdw CASCADE;
DROP EXTENSION postgres_fdw CASCADE;
