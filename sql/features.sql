--
-- Features: definitions, feature_enabled(), run_feature(), the view.
-- What a health check, a breaker and the load do to them is in test/t/097.
--
\set VERBOSITY default
SET search_path = public;

CREATE VIEW shown AS
SELECT name, enabled, state, reason, dimmer, health_check, breaker,
	minimum_priority, fallback_sql, expires_at, description
FROM resilience.features ORDER BY name;
CREATE VIEW counted AS
SELECT name, evaluations_total AS evaluations, degraded_total AS degraded,
	fallback_total AS fallbacks, primary_failures_total AS primary_failures,
	fallback_failures_total AS fallback_failures
FROM resilience.features ORDER BY name;

-- what is not defined is enabled
SELECT resilience.feature_enabled('recommendations'), resilience.feature_enabled(''),
	resilience.feature_enabled(repeat('x', 1000)), resilience.feature_enabled(NULL);

-- definitions
SELECT resilience.create_feature('recommendations', description => 'others also bought');
SELECT resilience.create_feature('off', enabled => false);
SELECT * FROM shown;
SELECT resilience.feature_enabled('recommendations'), resilience.feature_enabled('off');
SELECT resilience.create_feature('recommendations');
SELECT resilience.create_feature(NULL);
SELECT resilience.create_feature('');
SELECT resilience.create_feature(repeat('x', 64));
SELECT resilience.create_feature('x', minimum_priority => 'urgent');
SELECT resilience.create_feature('x', health_check => 'nosuch');
SELECT resilience.create_feature('x', breaker => 'nosuch');
SELECT resilience.create_feature('x', failure_threshold => 0);
SELECT resilience.create_feature('x', success_threshold => -1);
SELECT resilience.create_feature('x', failure_threshold => 10001);
SELECT resilience.create_feature('x', min_degraded_duration => '-1 s');
SELECT resilience.create_feature('x', min_degraded_duration => '25 h');
SELECT resilience.create_feature('x', dimmer_target => '0');
SELECT resilience.create_feature('x', dimmer_target => '1 h 1 s');
SELECT resilience.create_feature('x', description => repeat('x', 1025));
SELECT resilience.create_feature('x', fallback_sql => 'SELEC 1');
SELECT resilience.create_feature('x', fallback_sql => 'SELECT 1; SELECT 2');
SELECT resilience.create_feature('x', fallback_sql => ' -- nothing');
SELECT resilience.create_feature('x', fallback_sql => 'DELETE FROM pg_class');
SELECT resilience.create_feature('x', fallback_sql => 'SELECT 1 AS a INTO t');
SELECT resilience.create_feature('x', fallback_sql => 'SELECT * FROM shown');
SELECT resilience.create_feature('x', fallback_sql => 'SELECT nosuch FROM public.shown');
SELECT resilience.create_feature('x', expires_at => '-infinity');
\set VERBOSITY terse
SELECT resilience.create_feature('x', expires_at => now() - interval '1 s');
\set VERBOSITY default
SELECT name FROM shown;

-- alter: NULL leaves, '' takes away
SELECT resilience.alter_feature('nosuch', enabled => false);
SELECT resilience.alter_feature('recommendations', minimum_priority => 'HIGH',
	fallback_sql => 'VALUES (1), (2)');
SELECT * FROM shown WHERE name = 'recommendations';
SELECT resilience.alter_feature('recommendations', enabled => false);
SELECT resilience.alter_feature('recommendations', minimum_priority => '',
	fallback_sql => '', description => '', expires_at => '2999-01-01 00:00 UTC');
SET timezone = 'UTC';
SELECT * FROM shown WHERE name = 'recommendations';
SELECT resilience.alter_feature('recommendations', enabled => true, expires_at => 'infinity');
SELECT resilience.alter_feature('recommendations', success_threshold => 0);
SELECT * FROM shown WHERE name = 'recommendations';

-- the rules hold for direct DML, too, but for those about other objects
INSERT INTO resilience.feature_definitions (name, fallback_sql) VALUES ('y', 'nonsense');
INSERT INTO resilience.feature_definitions (name, failure_threshold) VALUES ('y', 0);
BEGIN;
INSERT INTO resilience.feature_definitions (name, health_check, breaker, expires_at, minimum_priority)
	VALUES ('y', 'nosuch', 'nosuch', '2001-01-01', '');
SELECT name, health_check, breaker, minimum_priority, state FROM shown WHERE name = 'y';
COMMIT;
SELECT name, state, reason FROM shown WHERE name = 'y';
SELECT resilience.feature_enabled('y');
SELECT resilience.set_feature('y', true);
SELECT resilience.feature_enabled('y');
DELETE FROM resilience.feature_definitions WHERE name = 'y';
SELECT resilience.feature_enabled('y');

-- set_feature: from COMMIT on
BEGIN;
SELECT resilience.set_feature('recommendations', false, 'index rebuild');
SELECT resilience.feature_enabled('recommendations');
COMMIT;
SELECT resilience.feature_enabled('recommendations');
SELECT name, enabled, state, reason FROM shown WHERE name = 'recommendations';
BEGIN;
SELECT resilience.set_feature('recommendations', true);
ROLLBACK;
SELECT resilience.feature_enabled('recommendations');
BEGIN;
SAVEPOINT a;
SELECT resilience.set_feature('recommendations', true);
ROLLBACK TO a;
SELECT resilience.set_feature('off', true, 'try');
COMMIT;
SELECT name, enabled, state, reason FROM shown;
SELECT resilience.set_feature('recommendations', true);
SELECT resilience.set_feature('off', false);
SELECT name, enabled, state, reason FROM shown;
SELECT resilience.set_feature('nosuch', true);
SELECT resilience.set_feature('off', NULL);
SELECT resilience.set_feature(NULL, true);
SELECT resilience.set_feature('off', false, repeat('x', 128));

-- counts are exact when the transaction has ended, however it does
SELECT resilience.reset_statistics();
SELECT * FROM counted;
SELECT count(*) FILTER (WHERE resilience.feature_enabled(CASE WHEN i % 3 = 0 THEN 'off' ELSE 'recommendations' END))
FROM generate_series(1, 3000) i;
DO $$
BEGIN
	PERFORM resilience.feature_enabled('off');
	PERFORM 1 / (resilience.feature_enabled('off'))::int;
EXCEPTION WHEN division_by_zero THEN
	PERFORM resilience.feature_enabled('recommendations');
END $$;
BEGIN;
SELECT resilience.feature_enabled('off');
ROLLBACK;
SELECT * FROM counted;

-- in parallel workers, too
BEGIN;
CREATE TABLE many AS SELECT CASE WHEN i % 2 = 0 THEN 'off' ELSE 'recommendations' END AS f
	FROM generate_series(1, 10000) i;
ALTER TABLE many SET (parallel_workers = 2);
COMMIT;
ANALYZE many;
SET parallel_leader_participation = off;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT count(*) FROM many WHERE resilience.feature_enabled(f);
SELECT resilience.reset_statistics();
SELECT count(*) FROM many WHERE resilience.feature_enabled(f);
SELECT * FROM counted;
RESET parallel_leader_participation;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
-- a constant name is asked once for a statement
EXPLAIN (COSTS OFF) SELECT * FROM many WHERE resilience.feature_enabled('off');
SELECT resilience.reset_statistics();
SELECT count(*) FROM many WHERE resilience.feature_enabled('off');
SELECT evaluations FROM counted WHERE name = 'off';
DROP TABLE many;

-- run_feature: primary, fallback of the argument, fallback of the definition
SELECT resilience.reset_statistics();
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1, ''primary''') AS (a int, b text);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1, ''primary''::text', 'SELECT 2, ''argument''::text') AS (a int, b text);
SELECT * FROM resilience.run_feature('nosuch', 'SELECT 1, ''primary''::text', 'SELECT 2, ''argument''::text') AS (a int, b text);
SELECT * FROM resilience.run_feature('off', 'SELECT 1, ''primary''::text', 'SELECT 2, ''argument''::text') AS (a int, b text);
SELECT resilience.alter_feature('off', fallback_sql => 'VALUES (3, ''definition''::text), (4, ''definition'')');
SELECT * FROM resilience.run_feature('off', 'SELECT 1, ''primary''::text') AS (a int, b text);
SELECT * FROM resilience.run_feature('off', 'SELECT 1, ''primary''::text', 'SELECT 2, ''argument''::text') AS (a int, b text);
SELECT * FROM counted;

-- neither
SELECT resilience.alter_feature('off', fallback_sql => '');
\set VERBOSITY sqlstate
SELECT * FROM resilience.run_feature('off', 'SELECT 1') AS (a int);
\set VERBOSITY default
DO $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM * FROM resilience.run_feature('off', 'SELECT 1') AS (a int);
EXCEPTION WHEN SQLSTATE '55R01' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE NOTICE '% / % / %', SQLERRM, regexp_replace(detail, 'since="[^"]+"', 'since=...'), hint;
END $$;

-- errors of the primary: only where wanted
CREATE TABLE log (what text);
CREATE FUNCTION fail_after_insert(what text, code text DEFAULT '22012') RETURNS SETOF int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.log VALUES (what);
	RETURN NEXT 1;
	RAISE EXCEPTION USING ERRCODE = code, MESSAGE = what || ' fails';
END $$;
SELECT resilience.reset_statistics();
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''a'')', 'SELECT 2') AS (a int);
SELECT resilience.alter_feature('recommendations', fallback_on_error => true);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''b'')', 'SELECT 2') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''c'')') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM nosuch', 'SELECT 3') AS (a int);
SELECT * FROM log;
-- both
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''d'')',
	'SELECT * FROM fail_after_insert(''e'', ''P0001'')') AS (a int);
SELECT * FROM resilience.run_feature('off', 'SELECT 1', 'SELECT * FROM fail_after_insert(''f'')') AS (a int);
SELECT * FROM log;
SELECT * FROM counted;

-- several statements, and what a primary changed stays
SELECT * FROM resilience.run_feature('recommendations', 'INSERT INTO log VALUES (''g''); SELECT count(*) FROM log', 'SELECT 2') AS (a bigint);
SELECT * FROM resilience.run_feature('recommendations', 'INSERT INTO log VALUES (''h'') RETURNING what', 'SELECT 2') AS (a text);
SELECT * FROM log;

-- what no fallback answers
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1, 2', 'SELECT 3') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1::bigint', 'SELECT 3') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''i'', ''57014'')', 'SELECT 3') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''j'', ''XX001'')', 'SELECT 3') AS (a int);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''k'', ''40001'')', 'SELECT 3') AS (a int);
ROLLBACK;
BEGIN;
INSERT INTO log VALUES ('work');
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''l'', ''40P01'')', 'SELECT 3') AS (a int);
ROLLBACK;
SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''m'', ''40P01'')', 'SELECT 3') AS (a int);

-- nested: the inner fallback fails, the outer one answers
SELECT * FROM resilience.run_feature('recommendations',
	$$ SELECT * FROM resilience.run_feature('recommendations', 'SELECT * FROM fail_after_insert(''n'')', 'SELECT 1/0') AS (a int) $$,
	'SELECT 5') AS (a int);
SELECT count(*) FROM log WHERE what = 'n';

-- bad calls
SELECT resilience.run_feature('recommendations', 'SELECT 1');
SELECT * FROM resilience.run_feature(NULL, 'SELECT 1') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', NULL) AS (a int);
SELECT * FROM resilience.run_feature('recommendations', ' ; ') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1', '') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELEC 1') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1', 'SELECT FROM FROM') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'COMMIT', 'SELECT 1') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'SELECT 1', 'COPY log TO STDOUT') AS (a int);
SELECT * FROM resilience.run_feature('recommendations', 'DELETE FROM log WHERE false', 'SELECT 1') AS (a int);

-- coupled objects cannot be dropped
SELECT resilience.create_health_check('index', query => 'SELECT true', enabled => false);
SELECT resilience.create_breaker('shop');
SELECT resilience.create_feature('coupled', health_check => 'index', breaker => 'shop');
SELECT resilience.drop_health_check('index');
SELECT resilience.drop_breaker('shop');
SELECT resilience.alter_feature('coupled', breaker => '');
SELECT resilience.drop_breaker('shop');
SELECT name, health_check, breaker FROM shown WHERE name = 'coupled';

-- circles
SELECT resilience.create_health_check('asks', query => 'SELECT resilience.feature_enabled(''self'')', enabled => false);
SELECT resilience.create_feature('self', health_check => 'asks');
SELECT resilience.create_feature('self');
SELECT resilience.alter_feature('self', health_check => 'asks');
SELECT resilience.create_health_check('asks coupled', enabled => false,
	query => 'SELECT CASE WHEN true THEN resilience.feature_enabled(name => ''coupled''::text) END');
SELECT resilience.alter_feature('self', health_check => 'asks coupled');
SELECT resilience.alter_health_check('index', query => 'SELECT resilience.feature_enabled(''self'') AND true');
SELECT resilience.alter_health_check('index', query => 'SELECT resilience.feature_enabled(''recommendations'')');
SELECT resilience.create_feature('chain', health_check => 'asks');
SELECT name, health_check FROM shown WHERE health_check IS NOT NULL;

-- drop
SELECT resilience.drop_feature('nosuch');
SELECT resilience.drop_feature('nosuch', if_exists => true);
SELECT resilience.drop_feature(name) FROM resilience.features;
SELECT resilience.feature_enabled('off');
SELECT count(*) FROM resilience.features;
SELECT resilience.drop_health_check(n) FROM unnest('{index,asks,asks coupled}'::text[]) n;

-- no more than there is room for
SELECT resilience.create_feature('f' || i) FROM generate_series(1, current_setting('resilience.max_features')::int + 1) i;
SELECT count(*) FROM resilience.features;
SELECT resilience.feature_enabled('f1');

DROP FUNCTION fail_after_insert;
DROP TABLE log;
DROP VIEW counted, shown;
