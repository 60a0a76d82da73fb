--
-- retry(), retry_query(), retry_transaction(), retry_delay(), their views
--
\set SHOW_CONTEXT always
SET client_min_messages = warning;
SELECT resilience.reset_statistics();

-- Fails with the SQLSTATE until the sequence, which no rollback sets back,
-- has counted that many calls.
CREATE SEQUENCE calls;
CREATE TABLE work (note text);
CREATE FUNCTION flaky(good int, sqlstate text, detail text DEFAULT 'on purpose') RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
	n int := nextval('calls');
BEGIN
	INSERT INTO work VALUES ('attempt ' || n);
	IF n < good THEN
		RAISE EXCEPTION USING MESSAGE = 'failure ' || n, ERRCODE = sqlstate,
			DETAIL = detail;
	END IF;
	RETURN n;
END $$;
CREATE FUNCTION start_again() RETURNS void LANGUAGE sql AS $$
	SELECT setval('calls', 1, false); DELETE FROM work $$;
-- the views, without what depends on time
CREATE VIEW ended AS SELECT sqlstate, result, attempts_total, calls_total
	FROM resilience.retry_stats ORDER BY sqlstate COLLATE "C", result;

--
-- How a call can end
--
SELECT start_again();
SELECT resilience.retry('SELECT flaky(1, ''40001'')');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(3, ''40001'')', base_delay => '1 ms');
-- what failed attempts have written is gone
SELECT * FROM work;
SELECT start_again();
SELECT resilience.retry('SELECT flaky(9, ''55P03'')', base_delay => '1 ms');
\echo :SQLSTATE
SELECT * FROM work;
SELECT last_value FROM calls;
-- no retries at all
SELECT start_again();
SELECT resilience.retry('SELECT flaky(9, ''40P01'')', max_retries => 0);
SELECT last_value FROM calls;
SELECT start_again();
SELECT resilience.retry('SELECT flaky(9, ''23505'')');
\echo :SQLSTATE
SELECT last_value FROM calls;
-- a retryable error first, then another one
SELECT start_again();
SELECT resilience.retry('SELECT 1/(2 - flaky(2, ''40001''))', base_delay => '1 ms');
SELECT * FROM ended;

-- The rows of the last statement count
SELECT resilience.retry('CREATE TABLE made (id int); INSERT INTO made SELECT generate_series(1, 5)');
SELECT resilience.retry('INSERT INTO made VALUES (6); UPDATE made SET id = -id WHERE id < 3;');
SELECT resilience.retry('SELECT * FROM made -- a comment');
SELECT resilience.retry('INSERT INTO made VALUES (7); SET LOCAL work_mem = ''1MB''');
SELECT resilience.retry('DROP TABLE made');

-- The whole text is an attempt: all or nothing
SELECT start_again();
SELECT resilience.retry('INSERT INTO work VALUES (''before''); SELECT flaky(3, ''40001''); INSERT INTO work VALUES (''after'')',
	base_delay => '1 ms');
SELECT * FROM work ORDER BY note;

-- Settings of a failed attempt are gone, those of the one that counts stay
SET work_mem = '4MB';
SELECT start_again();
SELECT resilience.retry('SET work_mem = ''5MB''; SELECT flaky(9, ''23505'')');
SHOW work_mem;
SELECT resilience.retry('SET work_mem = ''6MB''');
SHOW work_mem;
RESET work_mem;

-- An error can be caught, the transaction goes on
SELECT start_again();
DO $$
BEGIN
	PERFORM resilience.retry('SELECT flaky(9, ''40001'')', 2, '1 ms');
EXCEPTION WHEN serialization_failure THEN
	INSERT INTO work VALUES ('caught');
END $$;
SELECT * FROM work;

-- Retries in retries
SELECT start_again();
SELECT resilience.retry('SELECT resilience.retry(''SELECT flaky(6, ''''40001'''')'', 2, ''0'', budget => NULL)', 2, '0', budget => NULL);
SELECT last_value FROM calls;

--
-- Which errors
--
SELECT resilience.reset_statistics();
CREATE TABLE tried (sqlstate text, attempts bigint);
DO $$
DECLARE
	code text;
BEGIN
	FOREACH code IN ARRAY '{40001,40P01,40003,40002,55P03,08000,08001,08003,08004,08006,08007,08P01,08R01,08R02,53000,53100,53200,53300,53R01,53R02,53R03,53R04,53R05,55R01,57014,57P01,57P02,57P03,57P04,22012,P0001,P0004,XX000}'::text[]
	LOOP
		PERFORM setval('calls', 1, false);
		BEGIN
			PERFORM resilience.retry(format('SELECT flaky(9, %L)', code), 1, '0', budget => NULL);
		EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
			ASSERT sqlstate = code;
		END;
		INSERT INTO tried SELECT code, last_value FROM calls;
	END LOOP;
END $$;
SELECT attempts, string_agg(sqlstate, ' ') FROM tried GROUP BY attempts ORDER BY attempts;
-- the DO block has written, so that conflicts were not retried: do them now
SELECT start_again();
SELECT resilience.retry('SELECT flaky(9, ''40001'')', 1, '0', budget => NULL);
SELECT last_value FROM calls;
DO $$
BEGIN
	PERFORM setval('calls', 1, false);
	PERFORM resilience.retry('SELECT flaky(9, ''40P01'')', 1, '0', budget => NULL);
EXCEPTION WHEN deadlock_detected THEN NULL;
END $$;
SELECT last_value FROM calls;

-- Lists of one's own, which replace the default
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''23505'')', base_delay => '0', retryable_sqlstates => '{23505}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''23503'')', base_delay => '0', retryable_sqlstates => '{40,23}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''40001'')', base_delay => '0', retryable_sqlstates => '{23505}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''40001'')', base_delay => '0', retryable_sqlstates => '{}');
-- a cancel, an open breaker and an empty budget never are retried
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''57014'')', base_delay => '0', retryable_sqlstates => '{57014,57}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''08R01'')', base_delay => '0', retryable_sqlstates => '{08R01,08}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''53R05'')', base_delay => '0', retryable_sqlstates => '{53R05,53}');
-- a class does not include the errors after which the outcome is unknown
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''08007'')', base_delay => '0', retryable_sqlstates => '{08}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''40003'')', base_delay => '0', retryable_sqlstates => '{40}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''08R02'')', base_delay => '0', retryable_sqlstates => '{08}');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''08007'')', base_delay => '0', retryable_sqlstates => '{08007}');

--
-- A circuit breaker that is open
--
SELECT resilience.reset_statistics();
SELECT resilience.create_breaker('regress_retry');
SELECT resilience.force_breaker('regress_retry', 'open');
SELECT resilience.retry('SELECT resilience.call_with_breaker(''regress_retry'', ''SELECT 1'')');
\echo :SQLSTATE
SELECT * FROM ended;
SELECT resilience.drop_breaker('regress_retry');

--
-- Time: a delay that would not fit is not begun
--
SELECT resilience.reset_statistics();
SELECT start_again();
SELECT resilience.retry('SELECT flaky(9, ''40001'')', base_delay => '1 h', max_delay => '1 h', jitter => 'none', total_timeout => '1 h');
\echo :SQLSTATE
SELECT last_value FROM calls;
SELECT start_again();
SET statement_timeout = '1 min';
SELECT resilience.retry('SELECT flaky(9, ''40001'')', base_delay => '1 h', max_delay => '1 h', jitter => 'none');
RESET statement_timeout;
SELECT start_again();
SET resilience.deadline = '1 min';
SELECT resilience.retry('SELECT flaky(9, ''40001'')', base_delay => '1 h', max_delay => '1 h', jitter => 'none');
RESET resilience.deadline;
-- the server says for how long to leave it alone
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''53R01'', ''limit=1 retry_after_ms=100'')', base_delay => '0');
SELECT sqlstate, delay_seconds_total >= 0.1 AS waited FROM resilience.retry_stats WHERE result = 'success_retried';
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''53R01'', ''limit=1 retry_after_ms=100'')', base_delay => '0', total_timeout => '99 ms');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''53R01'', ''retry_after_ms=60001'')', base_delay => '0');
-- that is no such number
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''53R01'', ''not_retry_after_ms=60001'')', base_delay => '0');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(2, ''53R01'', ''retry_after_ms=-5'')', base_delay => '0');
SELECT * FROM ended;

--
-- What the transaction has done before, a retry cannot redo
--
SELECT start_again();
BEGIN;
INSERT INTO work VALUES ('before');
SAVEPOINT s;
SELECT resilience.retry('SELECT flaky(2, ''40001'')', base_delay => '0');
\echo :SQLSTATE
ROLLBACK TO s;
SELECT last_value FROM calls;
SELECT resilience.retry('SELECT flaky(4, ''40P01'')', base_delay => '0');
ROLLBACK TO s;
SELECT last_value FROM calls;
-- other errors have nothing to do with it
SELECT resilience.retry('SELECT flaky(5, ''55P03'')', base_delay => '0');
COMMIT;
SELECT * FROM work;
-- a strong lock
SELECT start_again();
BEGIN;
LOCK TABLE work IN SHARE MODE;
SELECT resilience.retry('SELECT flaky(2, ''40001'')', base_delay => '0');
ROLLBACK;
SELECT last_value FROM calls;
-- weak ones do no harm, nor do those of the attempt itself
SELECT start_again();
BEGIN;
LOCK TABLE work IN ROW EXCLUSIVE MODE;
SELECT resilience.retry('LOCK TABLE work; SELECT flaky(3, ''40P01'')', base_delay => '0');
COMMIT;
-- the snapshot stays
SELECT start_again();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT resilience.retry('SELECT flaky(2, ''40001'')', base_delay => '0');
ROLLBACK;
SELECT last_value FROM calls;
SELECT start_again();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT resilience.retry('SELECT flaky(2, ''40P01'')', base_delay => '0');
COMMIT;

--
-- retry_query()
--
SELECT start_again();
SELECT * FROM resilience.retry_query('SELECT flaky(3, ''40001''); SELECT i, i::text, NULL::date FROM generate_series(1, 3) i')
	AS (id int, name text, day date);
-- rows of an attempt that failed after it had produced some
SELECT start_again();
SELECT * FROM resilience.retry_query('SELECT i, CASE WHEN i = 3 THEN flaky(3, ''40001'') END FROM generate_series(1, 3) i', base_delay => '1 ms')
	AS (id int, attempt int);
SELECT * FROM resilience.retry_query('INSERT INTO work VALUES (''new'') RETURNING note, 1.5::numeric(4,2)') AS (note text, n numeric);
SELECT * FROM resilience.retry_query('SHOW resilience.mode') AS (mode text);
SELECT * FROM resilience.retry_query('SELECT 1 WHERE false') AS (id int);
SELECT count(*), sum(i) FROM resilience.retry_query('SELECT i, repeat(''x'', 100) FROM generate_series(1, 100000) i') AS (i int, x text);
SELECT * FROM generate_series(1, 2) n, LATERAL resilience.retry_query(format('SELECT %s * 10', n)) AS r (id int);
SELECT work.note, q.n FROM work JOIN resilience.retry_query('SELECT 1, ''new''::text') AS q (n int, note text) USING (note);
-- columns that do not match
SELECT * FROM resilience.retry_query('SELECT 1, 2') AS (id int, name text);
\echo :SQLSTATE
SELECT * FROM resilience.retry_query('SELECT 1, 2') AS (id int);
\echo :SQLSTATE
SELECT * FROM resilience.retry_query('SELECT 1') AS (a int, b int);
SELECT * FROM resilience.retry_query('SELECT 1.5::numeric') AS (n numeric(4,2));
SELECT * FROM resilience.retry_query('SELECT ''a''::varchar(3)') AS (v varchar(3));
-- no rows, no list
SELECT * FROM resilience.retry_query('INSERT INTO work VALUES (''new'')') AS (id int);
\echo :SQLSTATE
SELECT * FROM resilience.retry_query('SELECT 1; CREATE TABLE made (id int)') AS (id int);
SELECT * FROM resilience.retry_query('SELECT 1');
\echo :SQLSTATE
SELECT resilience.retry_query('SELECT 1');
\echo :SQLSTATE

--
-- retry_transaction()
--
SELECT start_again();
CALL resilience.retry_transaction('SELECT flaky(3, ''40001'')', base_delay => '1 ms');
SELECT * FROM work;
SELECT start_again();
CALL resilience.retry_transaction('SELECT flaky(9, ''40P01'')', 2, base_delay => '1 ms');
\echo :SQLSTATE
SELECT last_value FROM calls;
SELECT start_again();
CALL resilience.retry_transaction('SELECT flaky(9, ''23505'')');
SELECT last_value FROM calls;
-- each attempt is a transaction: its id is another one
SELECT start_again();
CREATE SEQUENCE first_xid;
CALL resilience.retry_transaction($body$DO $x$
	DECLARE
		xid bigint := pg_current_xact_id()::text::bigint;
	BEGIN
		IF nextval('calls') = 1 THEN
			PERFORM setval('first_xid', xid);
			RAISE serialization_failure;
		END IF;
		INSERT INTO work SELECT xid > last_value FROM first_xid;
	END $x$$body$, base_delay => '1 ms');
SELECT * FROM work;

-- what fails at COMMIT
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CALL resilience.retry_transaction('INSERT INTO deferred VALUES (1), (2)');
CALL resilience.retry_transaction('INSERT INTO deferred VALUES (2)');
\echo :SQLSTATE
CREATE FUNCTION flaky_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM flaky(3, TG_ARGV[0]);
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER flaky AFTER INSERT ON deferred
	INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION flaky_at_commit('40001');
SELECT start_again();
CALL resilience.retry_transaction('INSERT INTO deferred VALUES (3)', base_delay => '1 ms');
SELECT * FROM deferred;
SELECT * FROM work;
-- a connection that breaks at COMMIT is one to a server that may have committed
DROP TRIGGER flaky ON deferred;
CREATE CONSTRAINT TRIGGER flaky AFTER INSERT ON deferred
	INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION flaky_at_commit('08006');
SELECT start_again();
CALL resilience.retry_transaction('INSERT INTO deferred VALUES (4)', base_delay => '1 ms', retryable_sqlstates => '{08,40}');
SELECT last_value FROM calls;
SELECT * FROM deferred;

-- the isolation level, in every attempt, and nobody else's
SELECT start_again();
DELETE FROM work;
CALL resilience.retry_transaction($$INSERT INTO work VALUES (current_setting('transaction_isolation')); SELECT flaky(3, '40001'); INSERT INTO work VALUES (current_setting('transaction_isolation'))$$,
	base_delay => '1 ms', isolation => 'serializable');
SELECT * FROM work;
SHOW transaction_isolation;
SELECT start_again();
SET default_transaction_isolation = 'repeatable read';
CALL resilience.retry_transaction($$SELECT flaky(3, '40001'); INSERT INTO work VALUES (current_setting('transaction_isolation'))$$, base_delay => '1 ms');
SELECT * FROM work;
RESET default_transaction_isolation;
SET default_transaction_read_only = on;
CALL resilience.retry_transaction('INSERT INTO work VALUES (''read only'')');
\echo :SQLSTATE
RESET default_transaction_read_only;

-- not where a transaction cannot end
BEGIN;
CALL resilience.retry_transaction('SELECT 1');
\echo :SQLSTATE
ROLLBACK;
SELECT resilience.retry('CALL resilience.retry_transaction(''SELECT 1'')');
DO $$
BEGIN
	CALL resilience.retry_transaction('SELECT 1');
EXCEPTION WHEN undefined_table THEN NULL;
END $$;
\echo :SQLSTATE
CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CALL resilience.retry_transaction('SELECT 1');
END $$;
SELECT in_function();
\echo :SQLSTATE
-- in a procedure that may, and that has done nothing
SELECT start_again();
CREATE PROCEDURE in_procedure(before text) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO work VALUES (before);
	IF before <> 'pending' THEN
		COMMIT;
		SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
	END IF;
	CALL resilience.retry_transaction($x$SELECT flaky(3, '40001'); INSERT INTO work VALUES (current_setting('transaction_isolation'))$x$, base_delay => '1 ms');
	INSERT INTO work VALUES (current_setting('transaction_isolation'));
	COMMIT;
	FOR i IN 1 .. 2 LOOP
		CALL resilience.retry_transaction('INSERT INTO work VALUES (''in a loop'')');
		COMMIT;
	END LOOP;
END $$;
CALL in_procedure('done');
SELECT * FROM work;
SELECT start_again();
CALL in_procedure('pending');
\echo :SQLSTATE
SELECT * FROM work;

--
-- Budgets
--
-- full again, should this test have run a moment ago
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM resilience.retry_budgets WHERE name = 'regress_retry' AND tokens < 100)
	LOOP
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT resilience.retry('SELECT 1', budget => 'regress_retry');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(101, ''40001'')', 100, '0', budget => 'regress_retry');
SELECT last_value FROM calls;
SELECT start_again();
\set VERBOSITY terse
SELECT resilience.retry('SELECT flaky(101, ''40001'')', 100, '0', budget => 'regress_retry');
\echo :SQLSTATE
\set VERBOSITY default
SELECT name, tokens < 10 AS empty, first_attempts_total, retries_allowed_total >= 100 AS allowed, retries_denied_total
	FROM resilience.retry_budgets WHERE name = 'regress_retry';
-- first attempts are not limited, and other budgets are others
SELECT resilience.retry('SELECT 1', budget => 'regress_retry');
SELECT start_again();
SELECT resilience.retry('SELECT flaky(3, ''40001'')', base_delay => '0');
-- none
SELECT start_again();
SELECT resilience.retry('SELECT flaky(101, ''40001'')', 100, '0', budget => NULL);
-- in observe mode it only counts
SET resilience.mode = 'observe';
SELECT start_again();
SELECT resilience.retry('SELECT flaky(101, ''40001'')', 100, '0', budget => 'regress_retry');
RESET resilience.mode;
SELECT retries_denied_total > 80 AS counted FROM resilience.retry_budgets WHERE name = 'regress_retry';
SELECT result FROM ended WHERE result = 'budget' AND sqlstate = '40001';

--
-- retry_delay()
--
SELECT n, resilience.retry_delay(n, jitter => 'none') FROM generate_series(1, 8) n;
SELECT resilience.retry_delay(3, '10 ms', '1 s', 3, 'none');
SELECT resilience.retry_delay(2147483647, '1 ms', '1 day', 10, 'none');
SELECT resilience.retry_delay(100, '0', '1 day', 1e308, 'none');
SELECT resilience.retry_delay(NULL);
SELECT jitter, bool_and(d BETWEEN low AND '400 ms') AS within, count(DISTINCT d) > 150 AS spread,
	min(d - low) < '40 ms' AS low, max(d) > '360 ms' AS high
FROM (VALUES ('full', '0'::interval), ('equal', '200 ms'), ('decorrelated', '100 ms')) j (jitter, low),
	generate_series(1, 200) n,
	LATERAL (SELECT resilience.retry_delay(3 + 0 * n, '100 ms', '400 ms', 2, jitter, previous_delay => '150 ms') d) x
GROUP BY jitter ORDER BY jitter;
-- decorrelated: at most three times the one before
SELECT max(resilience.retry_delay(9, '100 ms', '1 h', jitter => 'decorrelated')) <= '300 ms' FROM generate_series(1, 100);

--
-- Bad input
--
\set SHOW_CONTEXT never
SELECT resilience.retry(NULL);
\echo :SQLSTATE
SELECT resilience.retry('');
\echo :SQLSTATE
SELECT resilience.retry(' ; -- nothing');
\echo :SQLSTATE
SELECT resilience.retry('SELEC 1');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1; SELECT 1 2');
SELECT resilience.retry('SELECT 1', max_retries => -1);
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', max_retries => 101);
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', base_delay => '-1 ms');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', base_delay => '1 day 1 us', max_delay => '1 day 1 us');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', max_delay => '-1 month');
SELECT resilience.retry('SELECT 1', max_delay => '178000000 years');
SELECT resilience.retry('SELECT 1', max_delay => '49 ms');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', backoff_factor => 0.99);
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', backoff_factor => 'NaN');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', jitter => 'fuller');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', retryable_sqlstates => '{4000}');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', retryable_sqlstates => '{40001,40p01}');
SELECT resilience.retry('SELECT 1', retryable_sqlstates => '{40001,serialization_failure}');
SELECT resilience.retry('SELECT 1', retryable_sqlstates => '{NULL}');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', total_timeout => '-1 s');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', total_timeout => '0');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', budget => '');
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1', budget => repeat('x', 64));
\echo :SQLSTATE
SELECT resilience.retry('SELECT 1; COMMIT');
\echo :SQLSTATE
SELECT resilience.retry('SAVEPOINT s');
SELECT * FROM resilience.retry_query('BEGIN; SELECT 1') AS (id int);
CALL resilience.retry_transaction('PREPARE TRANSACTION ''x''');
\echo :SQLSTATE
CALL resilience.retry_transaction('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1');
\echo :SQLSTATE
CALL resilience.retry_transaction('SELECT 1', isolation => 'chaos');
\echo :SQLSTATE
SELECT resilience.retry('COPY work FROM STDIN');
\echo :SQLSTATE
SELECT resilience.retry('DO $x$ BEGIN COMMIT; END $x$');
\echo :SQLSTATE
SELECT resilience.retry('VACUUM work');
\echo :SQLSTATE
SELECT resilience.retry_delay(0);
\echo :SQLSTATE
SELECT resilience.retry_delay(1, jitter => '');
\echo :SQLSTATE
SELECT resilience.retry_delay(1, previous_delay => '-1 s');
\echo :SQLSTATE
-- NULL means the default
SELECT resilience.retry('SELECT 1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT resilience.retry_delay(2, NULL, NULL, NULL, 'none', NULL);

--
-- Privileges: everybody may ask for a delay; the rest is granted, and runs
-- as whoever calls it
--
CREATE ROLE regress_retry;
SET ROLE regress_retry;
SELECT resilience.retry('SELECT 1');
\echo :SQLSTATE
SELECT * FROM resilience.retry_query('SELECT 1') AS (id int);
CALL resilience.retry_transaction('SELECT 1');
SELECT resilience.retry_delay(1, jitter => 'none');
SELECT * FROM resilience.retry_stats;
SELECT * FROM resilience.retry_budgets;
RESET ROLE;
GRANT EXECUTE ON FUNCTION resilience.retry TO regress_retry;
GRANT EXECUTE ON PROCEDURE resilience.retry_transaction TO regress_retry;
GRANT pg_monitor TO regress_retry;
SET ROLE regress_retry;
SELECT resilience.retry('SELECT 1');
SELECT resilience.retry('SELECT * FROM work');
\echo :SQLSTATE
CALL resilience.retry_transaction('DROP TABLE work');
\echo :SQLSTATE
SELECT count(*) > 0 FROM resilience.retry_stats;
SELECT count(*) > 0 FROM resilience.retry_budgets;
RESET ROLE;

-- Totals restart at zero, budgets stay
SELECT resilience.reset_statistics();
SELECT * FROM resilience.retry_stats;
SELECT name, first_attempts_total, retries_allowed_total, retries_denied_total
	FROM resilience.retry_budgets WHERE name IN ('default', 'regress_retry') ORDER BY name;

DROP OWNED BY regress_retry;
DROP ROLE regress_retry;
DROP VIEW ended;
DROP TABLE work, tried, deferred;
DROP SEQUENCE calls, first_xid;
DROP PROCEDURE in_procedure;
DROP FUNCTION flaky, flaky_at_commit, start_again, in_function;
