-- Health checks: functions, view, errors, run_health_check()
\set SHOW_CONTEXT never
SET timezone = 'UTC';
CREATE ROLE regress_health;
CREATE ROLE regress_health_other;
CREATE TABLE public.regress_health_queue (id int);

-- a check's background run is not what is tested here
CREATE FUNCTION pg_temp.run(check_name text, OUT status text, OUT message text, OUT value float8) LANGUAGE sql AS
	'SELECT status, message, value FROM resilience.run_health_check(check_name)';

-- defaults
SELECT resilience.create_health_check('plain', query => 'SELECT true', enabled => false);
SELECT name, kind, status, critical, message, value, last_run, last_change, consecutive_failures, duration, age, query,
	target, warning_threshold, critical_threshold, check_interval, timeout, failure_threshold, success_threshold, enabled,
	owner = CURRENT_USER::regrole AS mine, next_run, running, consecutive_successes, runs_total, failures_total, timeouts_total
	FROM resilience.health_checks \gx

-- all arguments
SELECT resilience.create_health_check('all', kind => 'Disk_Free', target => 'pg_default', warning_threshold => 0.3,
	critical_threshold => 0.2, check_interval => '1 min', timeout => '2.5 s', failure_threshold => 5, success_threshold => 2,
	critical => true, enabled => false);
SELECT kind, target, warning_threshold, critical_threshold, check_interval, timeout, failure_threshold, success_threshold,
	critical, enabled FROM resilience.health_checks WHERE name = 'all';
SELECT resilience.alter_health_check('all', warning_threshold => 0.25, timeout => '3 s', critical => false);
SELECT kind, target, warning_threshold, critical_threshold, check_interval, timeout, failure_threshold, success_threshold,
	critical, enabled FROM resilience.health_checks WHERE name = 'all';

-- thresholds of the kinds
SELECT resilience.create_health_check('d ' || kind, kind, enabled => false, target => target)
	FROM (VALUES ('connections', NULL), ('replication_lag', NULL), ('replication_slots', NULL), ('xid_age', NULL),
	('long_transactions', NULL), ('lock_waits', NULL), ('archiver', NULL), ('disk_free', NULL), ('load', NULL)) v(kind, target) \g /dev/null
SELECT kind, warning_threshold, critical_threshold FROM resilience.health_checks WHERE name LIKE 'd %' ORDER BY kind COLLATE "C";
SELECT resilience.drop_health_check(name) FROM resilience.health_checks WHERE name LIKE 'd %' \g /dev/null

-- transactional
BEGIN;
SELECT resilience.create_health_check('gone', query => 'SELECT 1', critical_threshold => 5);
SELECT name, status, critical_threshold FROM resilience.health_checks WHERE name = 'gone';
SELECT * FROM pg_temp.run('gone');
ROLLBACK;
SELECT name FROM resilience.health_checks WHERE name = 'gone';

-- what queries may return
SELECT resilience.create_health_check('q' || n, query => query, enabled => false) FROM (VALUES
	(1, 'SELECT false'), (2, 'SELECT NULL::boolean'), (3, 'SELECT true WHERE false'), (4, 'VALUES (true), (true)'),
	(5, 'SELECT false, ''too bad''::varchar'), (6, 'SELECT true, NULL::text'), (7, 'SELECT 1/(id - id) > 0 FROM generate_series(1, 3) id'),
	(8, 'SELECT EXISTS (SELECT FROM public.regress_health_queue);')) v(n, query) \g /dev/null
SELECT resilience.create_health_check('n' || n, query => query, warning_threshold => warning, critical_threshold => critical, enabled => false)
	FROM (VALUES
	(1, 'SELECT 4', 5, 10), (2, 'SELECT 5::int8', 5, 10), (3, 'SELECT 10.0', 5, 10), (4, 'SELECT 4::float4', NULL, 5),
	(5, 'SELECT 7::float8', 5, NULL), (6, 'SELECT 4::int2', 10, 5), (7, 'SELECT 10', 10, 5), (8, 'SELECT 11', 10, 5),
	(9, 'SELECT NULL::int', 5, 10), (10, 'SELECT ''NaN''::numeric', 5, 10), (11, 'SELECT count(*) FROM public.regress_health_queue', 1, 2),
	(12, 'SELECT 1e400::numeric', 1, 2)) v(n, query, warning, critical) \g /dev/null
SELECT name, (pg_temp.run(name)).* FROM resilience.health_checks WHERE name ~ '^[qn][0-9]' ORDER BY length(name), name COLLATE "C";
SELECT status, message, value, duration > '0' AND duration < '1 min' AS took FROM resilience.run_health_check('n2');
-- what the background knows does not change by it
SELECT count(*) FROM resilience.health_checks WHERE runs_total > 0 OR last_run IS NOT NULL OR status <> 'unknown';

-- long messages end at a character
SELECT resilience.create_health_check('long', query => $$SELECT false, E'a\nb' || repeat('ü', 100)$$, enabled => false);
SELECT status, octet_length(message), left(message, 4), right(message, 4) FROM pg_temp.run('long');

-- the timeout; and nothing of it is left
SELECT resilience.create_health_check('slow', query => 'SELECT pg_sleep(1000) IS NULL', timeout => '10 ms', enabled => false);
SELECT * FROM pg_temp.run('slow');
SELECT count(*) FROM generate_series(1, 1000);
SET statement_timeout = '20 ms';
SELECT resilience.alter_health_check('slow', timeout => '9 s');
SELECT * FROM pg_temp.run('slow');
\echo :SQLSTATE
RESET statement_timeout;

-- read-only, and without a trace; uncommitted work of the caller is seen
CREATE FUNCTION public.regress_health_write() RETURNS boolean LANGUAGE sql VOLATILE AS
	'INSERT INTO public.regress_health_queue VALUES (1); SELECT true';
SELECT resilience.create_health_check('writes', query => 'SELECT public.regress_health_write()', enabled => false);
BEGIN;
INSERT INTO public.regress_health_queue VALUES (2);
SELECT * FROM pg_temp.run('writes');
SELECT * FROM pg_temp.run('n11');
INSERT INTO public.regress_health_queue VALUES (3);
ROLLBACK;
SELECT resilience.create_health_check('nested', query => $$SELECT status = 'healthy' FROM resilience.run_health_check('q1')$$, enabled => false);
SELECT * FROM pg_temp.run('nested');
SELECT * FROM pg_temp.run('q1');
BEGIN READ ONLY;
SELECT * FROM pg_temp.run('n1');
COMMIT;

-- kinds that need nothing else
SELECT resilience.create_health_check(kind, kind, enabled => false) FROM unnest(ARRAY['connections', 'replication_lag',
	'replication_slots', 'xid_age', 'lock_waits', 'disk_free', 'load']) kind \g /dev/null
SELECT resilience.alter_health_check('load', warning_threshold => 1e6, critical_threshold => 1e7);
SELECT resilience.alter_health_check('disk_free', warning_threshold => 0, critical_threshold => 0);
SELECT name, (pg_temp.run(name)).status, regexp_replace(regexp_replace((pg_temp.run(name)).message, '[0-9.]+( GB| MB| %)?', 'N', 'g'),
	'(cores?; |: |database ).*', '\1...') AS message
	FROM resilience.health_checks WHERE name = kind AND kind <> 'load' ORDER BY name COLLATE "C";
SELECT status, message ~ '^[0-9.]+ runnable on [0-9]+ core', value >= 0 FROM pg_temp.run('load');
SELECT resilience.create_health_check('archiving', 'archiver', enabled => false);
SELECT * FROM pg_temp.run('archiving');

-- errors: names
SELECT resilience.create_health_check('plain', query => 'SELECT true');
\echo :SQLSTATE
SELECT resilience.create_health_check(NULL, query => 'SELECT true');
\echo :SQLSTATE
SELECT resilience.create_health_check('', query => 'SELECT true');
\echo :SQLSTATE
SELECT resilience.create_health_check(repeat('x', 64), query => 'SELECT true');
\echo :SQLSTATE
SELECT resilience.alter_health_check('nobody', critical => true);
\echo :SQLSTATE
SELECT resilience.drop_health_check('nobody');
\echo :SQLSTATE
SELECT resilience.drop_health_check('nobody', if_exists => true);
SELECT * FROM resilience.run_health_check('nobody');
\echo :SQLSTATE
SELECT * FROM resilience.run_health_check(NULL);
\echo :SQLSTATE

-- errors: kind, query, target
SELECT resilience.create_health_check('bad', 'weather');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => '');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', query => 'SELECT true');
\echo :SQLSTATE
SELECT resilience.alter_health_check('plain', kind => 'load');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true', target => 'x');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', target => 'x');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'foreign_server');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'foreign_server', target => 'regress_nowhere');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'replication_lag', target => '');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'replication_lag', target => repeat('x', 64));
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'disk_free', target => 'regress_nowhere');
\echo :SQLSTATE
SELECT resilience.create_health_check('no slot', 'replication_slots', target => 'regress_nowhere', enabled => false);
SELECT * FROM pg_temp.run('no slot');
SELECT resilience.create_health_check('no standby', 'replication_lag', target => 'regress_nowhere', enabled => false);
SELECT * FROM pg_temp.run('no standby');
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
CREATE FOREIGN DATA WRAPPER regress_health_fdw;
CREATE SERVER regress_health_server FOREIGN DATA WRAPPER regress_health_fdw;
SELECT resilience.create_health_check('bad', 'foreign_server', target => 'regress_health_server');
\echo :SQLSTATE
DROP FOREIGN DATA WRAPPER regress_health_fdw CASCADE;
CREATE SERVER regress_health_server FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere', port '1');
SELECT resilience.create_health_check('server', 'foreign_server', target => 'regress_health_server', enabled => false);
SELECT * FROM pg_temp.run('server');
DROP SERVER regress_health_server;
SELECT * FROM pg_temp.run('server');

-- errors: queries
SELECT resilience.create_health_check('bad', query => 'SELEKT true');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true; SELECT false');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => ' ; -- nothing');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'UPDATE public.regress_health_queue SET id = 1 RETURNING true');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'WITH x AS (DELETE FROM public.regress_health_queue RETURNING id) SELECT count(*) FROM x', critical_threshold => 1);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true INTO public.regress_health_new');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true FROM public.regress_health_queue FOR UPDATE');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true FROM (SELECT FROM public.regress_health_queue FOR SHARE) x');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT EXISTS (SELECT FROM public.regress_health_queue FOR SHARE)');
\echo :SQLSTATE
CREATE TEMP TABLE regress_health_temp (id int);
CREATE FUNCTION pg_temp.regress_health_temp() RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT resilience.create_health_check('bad', query => 'SELECT EXISTS (TABLE pg_temp.regress_health_temp)');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT pg_temp.regress_health_temp()');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'EXPLAIN SELECT true');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true FROM regress_health_queue');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT $1::boolean');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT now()');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT ''t''');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true, ''a'', ''b''');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT true, 5');
\echo :SQLSTATE
SELECT resilience.alter_health_check('plain', query => 'SELECT nonsense');
\echo :SQLSTATE

-- errors: thresholds
SELECT resilience.create_health_check('bad', query => 'SELECT true', warning_threshold => 1);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT 1');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT 1', warning_threshold => 'NaN');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', query => 'SELECT 1', critical_threshold => 'Infinity');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'connections', warning_threshold => 0.9, critical_threshold => 0.8);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'connections', warning_threshold => 0.99);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'connections', critical_threshold => 95);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'lock_waits', warning_threshold => -1);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'disk_free', warning_threshold => 0.1, critical_threshold => 0.2);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'disk_free', critical_threshold => 0.2);
\echo :SQLSTATE
SELECT resilience.alter_health_check('all', critical_threshold => 0.5);
\echo :SQLSTATE
SELECT resilience.alter_health_check('plain', critical_threshold => 1);
\echo :SQLSTATE

-- errors: times and counts
SELECT resilience.create_health_check('bad', 'load', check_interval => '999 ms');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', check_interval => '25 hours');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', timeout => '0');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', timeout => '-1 s');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', timeout => '10 s');
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', failure_threshold => 0);
\echo :SQLSTATE
SELECT resilience.create_health_check('bad', 'load', success_threshold => -1);
\echo :SQLSTATE
SELECT resilience.create_health_check('edges', 'load', check_interval => '1 day', timeout => '1 ms', failure_threshold => 1000,
	success_threshold => 1000, enabled => false);

-- direct DML is held to the rules, but for what a restore may find missing
INSERT INTO resilience.health_check_definitions (name, query) VALUES ('dml', 'SELEKT');
\echo :SQLSTATE
INSERT INTO resilience.health_check_definitions (name, kind) VALUES ('dml', 'weather');
\echo :SQLSTATE
INSERT INTO resilience.health_check_definitions (name, query) VALUES ('dml', 'DELETE FROM public.regress_health_queue');
\echo :SQLSTATE
INSERT INTO resilience.health_check_definitions (name, kind, timeout) VALUES ('dml', 'load', '1 h');
\echo :SQLSTATE
INSERT INTO resilience.health_check_definitions (name, kind) VALUES ('dml', NULL);
\echo :SQLSTATE
INSERT INTO resilience.health_check_definitions (name, kind, owner) VALUES ('dml', 'load', 4294967295);
\echo :SQLSTATE
INSERT INTO resilience.health_check_definitions (name, query, enabled) VALUES ('dml', 'SELECT ok FROM public.regress_health_later', false);
SELECT * FROM pg_temp.run('dml');
-- what is altered besides does not need it
SELECT resilience.alter_health_check('dml', check_interval => '20 s');
SELECT resilience.alter_health_check('dml', critical_threshold => 5);
\echo :SQLSTATE
CREATE TABLE public.regress_health_later AS SELECT true AS ok, 'fine'::name AS message, 17 AS more;
SELECT * FROM pg_temp.run('dml');
-- a column that has changed its type, and too many
ALTER TABLE public.regress_health_later ALTER ok TYPE text;
SELECT * FROM pg_temp.run('dml');
UPDATE resilience.health_check_definitions SET query = 'TABLE public.regress_health_later' WHERE name = 'dml';
SELECT * FROM pg_temp.run('dml');

-- privileges: a query runs as whoever has given it
CREATE TABLE public.regress_health_secret AS SELECT 42 AS answer;
SELECT resilience.create_health_check('secret', query => 'SELECT answer FROM public.regress_health_secret', critical_threshold => 100, enabled => false);
GRANT EXECUTE ON FUNCTION resilience.create_health_check, resilience.alter_health_check, resilience.run_health_check TO regress_health;
SET ROLE regress_health;
SELECT resilience.create_health_check('as me', query => 'SELECT answer FROM public.regress_health_secret', critical_threshold => 100, enabled => false);
SELECT * FROM resilience.run_health_check('as me') AS r(status, message, value, took) WHERE took IS NOT NULL \gset
SELECT :'status', :'message';
SELECT resilience.create_health_check('whoami', query => 'SELECT false, CURRENT_USER || '' '' || SESSION_USER || '' '' || current_setting(''search_path'')', enabled => false);
-- somebody else's check: run it, alter what is not its query
SELECT status, value FROM resilience.run_health_check('secret');
SELECT resilience.alter_health_check('secret', critical_threshold => 41);
SELECT status, value FROM resilience.run_health_check('secret');
SELECT resilience.alter_health_check('secret', query => 'SELECT answer + 1 FROM public.regress_health_secret');
SELECT status, message FROM resilience.run_health_check('secret');
SELECT resilience.create_health_check('path', 'disk_free', target => '/');
\echo :SQLSTATE
SELECT resilience.drop_health_check('secret');
\echo :SQLSTATE
SELECT name FROM resilience.health_checks;
\echo :SQLSTATE
RESET ROLE;
SELECT name, owner FROM resilience.health_checks WHERE owner = 'regress_health'::regrole ORDER BY name;
SELECT replace(message, session_user, 'SESSION') FROM pg_temp.run('whoami');
SHOW search_path;
SELECT CURRENT_USER = SESSION_USER AS myself;
-- a superuser gives it back its query, and so becomes its owner
SELECT resilience.alter_health_check('secret', query => 'SELECT answer FROM public.regress_health_secret');
SELECT * FROM pg_temp.run('secret');
GRANT INSERT, SELECT, UPDATE ON resilience.health_check_definitions TO regress_health_other;
SET ROLE regress_health_other;
INSERT INTO resilience.health_check_definitions (name, query, owner) VALUES ('stolen', 'SELECT true', 'regress_health');
\echo :SQLSTATE
UPDATE resilience.health_check_definitions SET query = 'SELECT true' WHERE name = 'whoami';
\echo :SQLSTATE
UPDATE resilience.health_check_definitions SET enabled = false WHERE name = 'whoami';
INSERT INTO resilience.health_check_definitions (name, query, enabled) VALUES ('mine', 'SELECT true', false);
RESET ROLE;
SET ROLE pg_monitor;
SELECT count(*) > 0 FROM resilience.health_checks;
SELECT * FROM resilience.run_health_check('plain');
\echo :SQLSTATE
RESET ROLE;

-- an owner cannot be dropped, also not one of this transaction
REVOKE ALL ON FUNCTION resilience.create_health_check, resilience.alter_health_check, resilience.run_health_check FROM regress_health;
REVOKE ALL ON resilience.health_check_definitions FROM regress_health_other;
DROP ROLE regress_health;
\echo :SQLSTATE
BEGIN;
SELECT resilience.drop_health_check(name) FROM resilience.health_checks WHERE owner IN ('regress_health'::regrole, 'regress_health_other'::regrole) \g /dev/null
INSERT INTO resilience.health_check_definitions (name, query, owner, enabled) VALUES ('mine', 'SELECT true', 'regress_health_other', false);
DROP ROLE regress_health_other;
\echo :SQLSTATE
ROLLBACK;
SELECT resilience.drop_health_check(name) FROM resilience.health_checks WHERE owner IN ('regress_health'::regrole, 'regress_health_other'::regrole) \g /dev/null
INSERT INTO resilience.feature_definitions (name, owner) VALUES ('owned', 'regress_health');
DROP ROLE regress_health;
\echo :SQLSTATE
SELECT resilience.drop_feature('owned');

-- too many
BEGIN;
SELECT resilience.create_health_check('many ' || n, 'load', enabled => false) FROM generate_series(1, 128) n \g /dev/null
COMMIT;
\echo :SQLSTATE
SELECT count(*) FROM resilience.health_checks WHERE name LIKE 'many%';

SELECT resilience.drop_health_check(name) FROM resilience.health_checks \g /dev/null
SELECT count(*) FROM resilience.health_checks;
DROP TABLE public.regress_health_queue, public.regress_health_later, public.regress_health_secret;
DROP FUNCTION public.regress_health_write;
DROP EXTENSION postgres_fdw;
DROP ROLE regress_health, regress_health_other;
