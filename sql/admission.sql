--
-- Admission of transactions, as far as one session can show it: what is
-- refused and what never is, conditions on the command, accounting,
-- messages, observing, priorities, statistics.
--
-- The bulkhead follows the session user, so SET SESSION AUTHORIZATION makes
-- this superuser's session one of the application and back.
--
-- PL/pgSQL's CONTEXT lines differ between versions
\set SHOW_CONTEXT never
\set admin :USER
SET client_min_messages = warning;
CREATE ROLE regress_adm_app LOGIN;
CREATE ROLE regress_adm_group;
CREATE TABLE regress_adm_t (id int, v text);
INSERT INTO regress_adm_t VALUES (1, 'one'), (2, 'two');
GRANT ALL ON regress_adm_t TO regress_adm_app;
GRANT pg_monitor TO regress_adm_app;
GRANT CREATE ON SCHEMA public TO regress_adm_app;
CREATE PROCEDURE regress_adm_p() LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; COMMIT; PERFORM 1; END $$;
RESET client_min_messages;

-- What all bulkheads count, in one line each.
\set counts 'SELECT name, running, waiting, admitted_total AS admitted, refused_statements_total AS refused, timed_out_total AS timed_out, preempted_total AS preempted FROM resilience.bulkheads ORDER BY name;'

--
-- At a limit of 0: who is refused, and what never is
--
SELECT resilience.create_bulkhead('closed', role_name => 'regress_adm_app', max_running => 0);

-- a superuser is not, member or not
SELECT 'superuser passes';
:counts

SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
\echo :SQLSTATE

-- transaction control, settings, EXPLAIN, PREPARE and DEALLOCATE pass
BEGIN;
SAVEPOINT s;
RELEASE s;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SET TRANSACTION READ ONLY;
SET CONSTRAINTS ALL DEFERRED;
ROLLBACK AND CHAIN;
ABORT;
SHOW work_mem;
SET work_mem = '1MB';
SET LOCAL work_mem = '2MB';
RESET work_mem;
EXPLAIN (COSTS OFF) SELECT * FROM regress_adm_t;
EXPLAIN (COSTS OFF) INSERT INTO regress_adm_t VALUES (3);
PREPARE p AS SELECT * FROM regress_adm_t;
PREPARE q AS DELETE FROM regress_adm_t;
EXPLAIN (COSTS OFF) EXECUTE p;
\set VERBOSITY terse
EXECUTE p;
EXECUTE q;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE p;
DEALLOCATE q;
DEALLOCATE ALL;
RESET ALL;
DISCARD PLANS;
CLOSE ALL;

-- what does work does not
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) UPDATE regress_adm_t SET v = 'x';
INSERT INTO regress_adm_t VALUES (4);
UPDATE regress_adm_t SET v = 'x';
DELETE FROM regress_adm_t;
MERGE INTO regress_adm_t USING (SELECT 1 AS i) s ON id = i WHEN MATCHED THEN DELETE;
WITH gone AS (DELETE FROM regress_adm_t RETURNING id) SELECT * FROM gone;
VALUES (1);
TABLE regress_adm_t;
SELECT * FROM regress_adm_t FOR UPDATE;
COPY regress_adm_t TO stdout;
COPY (SELECT 1) TO stdout;
-- (not FROM stdin: what psql does with the data of a COPY that is refused
-- depends on its minor release)
COPY regress_adm_t FROM '/nonexistent';
CALL regress_adm_p();
DO $$ BEGIN END $$;
CREATE TABLE regress_adm_new (i int);
CREATE TEMP TABLE regress_adm_new AS SELECT 1;
SELECT 1 AS i INTO TEMP regress_adm_new;
ALTER TABLE regress_adm_t ADD COLUMN w int;
CREATE INDEX ON regress_adm_t (id);
DROP TABLE regress_adm_t;
TRUNCATE regress_adm_t;
ANALYZE regress_adm_t;
VACUUM regress_adm_t;
LOCK TABLE regress_adm_t;
LISTEN regress_adm;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM regress_adm_t;
ROLLBACK;
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM regress_adm_t;
FETCH c;
\set VERBOSITY default
-- a transaction block whose first statement was refused is like any that failed
BEGIN;
SELECT 1;
SELECT 2;
COMMIT;
-- SET ROLE does not help, nor does the group
SET ROLE regress_adm_app;
SELECT 1;
RESET ROLE;
RESET SESSION AUTHORIZATION;
-- nothing of all this ran, and every refusal was counted
SELECT * FROM regress_adm_t ORDER BY id;
:counts

-- Who holds what others may wait for must go on: a transaction id, or a lock
-- above ROW EXCLUSIVE.  (Admission would have come before; these transactions
-- begin while the mode is off.)
BEGIN;
SET LOCAL resilience.mode = off;
INSERT INTO regress_adm_t VALUES (3, 'three');
SET LOCAL resilience.mode = enforce;
SET LOCAL SESSION AUTHORIZATION regress_adm_app;
SELECT 'has a transaction id' FROM resilience.bulkheads WHERE running = 1;
ROLLBACK;
BEGIN;
SET LOCAL resilience.mode = off;
LOCK TABLE regress_adm_t IN SHARE MODE;
SET LOCAL resilience.mode = enforce;
SET LOCAL SESSION AUTHORIZATION regress_adm_app;
SELECT 'has a strong lock' FROM resilience.bulkheads WHERE running = 1;
ROLLBACK;
-- a weak lock, or an advisory one, is no reason
BEGIN;
SET LOCAL resilience.mode = off;
LOCK TABLE regress_adm_t IN ROW EXCLUSIVE MODE;
SELECT FROM pg_advisory_xact_lock(7);
SET LOCAL resilience.mode = enforce;
SET LOCAL SESSION AUTHORIZATION regress_adm_app;
SELECT 'has a weak lock';
ROLLBACK;
:counts

-- alter opens it
SELECT resilience.alter_bulkhead('closed', max_running => 1);
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'open';
RESET SESSION AUTHORIZATION;
SELECT resilience.drop_bulkhead('closed');

--
-- Conditions on who: members of a role, application_name, database
--
SELECT resilience.create_bulkhead('members', role_name => 'regress_adm_group', max_running => 0);
SELECT resilience.create_bulkhead('named', application_name => 'regress\_batch%', role_name => 'regress_adm_app', max_running => 0);
SELECT resilience.create_bulkhead('elsewhere', database_name => 'template1', role_name => 'regress_adm_app', max_running => 0);
SELECT resilience.create_bulkhead('remote', client_address => '192.0.2.0/24', role_name => 'regress_adm_app', max_running => 0);
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_bulkheads();
SET application_name = 'regress_batch 7';
SELECT 1;
-- the pattern is one: _ was escaped
SET application_name = 'regressXbatch 7';
SELECT resilience.my_bulkheads();
RESET application_name;
RESET SESSION AUTHORIZATION;
GRANT regress_adm_group TO regress_adm_app;
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
RESET SESSION AUTHORIZATION;
REVOKE regress_adm_group FROM regress_adm_app;
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'no member any more';
RESET SESSION AUTHORIZATION;
-- a superuser is a member of every role, but not in this sense
SELECT resilience.my_bulkheads();
SELECT resilience.drop_bulkhead(name) FROM resilience.bulkheads ORDER BY name;

--
-- Conditions on the command: with all of them closed, the error names the
-- one that a statement falls under.
--
SELECT resilience.create_bulkhead(lower(command) || 's', role_name => 'regress_adm_app', command => command,
	max_running => 0)
FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE', 'COPY', 'CALL', 'DDL', 'MAINTENANCE']) command;
SET SESSION AUTHORIZATION regress_adm_app;
\set VERBOSITY terse
SELECT 1;
TABLE regress_adm_t;
SELECT * FROM regress_adm_t FOR UPDATE;
WITH gone AS (DELETE FROM regress_adm_t RETURNING id) SELECT * FROM gone;
EXPLAIN ANALYZE SELECT 1;
DECLARE c CURSOR WITH HOLD FOR SELECT 1;
PREPARE s AS SELECT 1;
EXECUTE s;
INSERT INTO regress_adm_t VALUES (1);
EXPLAIN ANALYZE INSERT INTO regress_adm_t VALUES (1);
WITH new AS (SELECT 5) INSERT INTO regress_adm_t SELECT * FROM new;
PREPARE i AS INSERT INTO regress_adm_t VALUES (1);
EXECUTE i;
UPDATE regress_adm_t SET v = 'x';
DELETE FROM regress_adm_t;
MERGE INTO regress_adm_t USING (SELECT 1 AS i) s ON id = i WHEN MATCHED THEN DELETE;
COPY regress_adm_t TO stdout;
COPY (DELETE FROM regress_adm_t RETURNING id) TO stdout;
CALL regress_adm_p();
DO $$ BEGIN END $$;
CREATE TABLE regress_adm_new (i int);
CREATE TABLE regress_adm_new AS SELECT 1;
CREATE MATERIALIZED VIEW regress_adm_m AS SELECT 1;
CREATE INDEX CONCURRENTLY ON regress_adm_t (id);
ALTER TABLE regress_adm_t ADD COLUMN w int;
DROP TABLE regress_adm_t;
TRUNCATE regress_adm_t;
GRANT SELECT ON regress_adm_t TO PUBLIC;
COMMENT ON TABLE regress_adm_t IS 'x';
CREATE FUNCTION regress_adm_f() RETURNS int LANGUAGE sql AS 'SELECT 1';
VACUUM regress_adm_t;
ANALYZE regress_adm_t;
CLUSTER regress_adm_t;
REINDEX TABLE regress_adm_t;
REFRESH MATERIALIZED VIEW regress_adm_m;
CHECKPOINT;
\set VERBOSITY default
DEALLOCATE ALL;
RESET SESSION AUTHORIZATION;
:counts

-- A later statement of an admitted transaction is charged, and not refused.
SELECT resilience.drop_bulkhead('selects');
SELECT resilience.create_bulkhead('all', role_name => 'regress_adm_app', max_running => 1);
SELECT resilience.reset_statistics();
SET SESSION AUTHORIZATION regress_adm_app;
BEGIN;
SELECT resilience.my_bulkheads() @> '{all, inserts, updates}' AS passes;
INSERT INTO regress_adm_t VALUES (3, 'three');
INSERT INTO regress_adm_t VALUES (4, 'four');
UPDATE regress_adm_t SET v = 'drei' WHERE id = 3;
COPY (SELECT count(*) FROM regress_adm_t) TO stdout;
CREATE TEMP TABLE regress_adm_new (i int);
-- what runs inside a statement is not a statement
DO $$ BEGIN DELETE FROM regress_adm_t WHERE id = 4; END $$;
SELECT name, running, admitted_total, refused_statements_total
FROM resilience.bulkheads WHERE running > 0 OR admitted_total > 0 OR refused_statements_total > 0 ORDER BY name;
ROLLBACK;
-- as the first statement it is
INSERT INTO regress_adm_t VALUES (3, 'three');
RESET SESSION AUTHORIZATION;
SELECT name, running, admitted_total, refused_statements_total
FROM resilience.bulkheads WHERE running > 0 OR admitted_total > 0 OR refused_statements_total > 0 ORDER BY name;
SELECT resilience.drop_bulkhead(name) FROM resilience.bulkheads ORDER BY name;

--
-- Accounting: one slot for a transaction, whatever happens in it, and none
-- when it is over.
--
SELECT resilience.create_bulkhead('one', role_name => 'regress_adm_app', max_running => 1);
CREATE FUNCTION regress_adm_fails() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1/0; END $$;
SET SESSION AUTHORIZATION regress_adm_app;
-- a statement of its own
SELECT running, admitted_total FROM resilience.bulkheads;
SELECT running, admitted_total FROM resilience.bulkheads;
-- BEGIN alone takes nothing; the first statement does; others share it
BEGIN;
SELECT running, admitted_total FROM resilience.bulkheads;
SELECT running, admitted_total FROM resilience.bulkheads;
-- an error rolled back to a savepoint leaves what the transaction has
SAVEPOINT s;
SELECT 1/0;
ROLLBACK TO s;
SELECT running, admitted_total FROM resilience.bulkheads;
SAVEPOINT s2;
SELECT regress_adm_fails();
ROLLBACK TO s;
SELECT running, admitted_total FROM resilience.bulkheads;
COMMIT;
RESET SESSION AUTHORIZATION;
:counts
SET SESSION AUTHORIZATION regress_adm_app;
-- the first statement inside a savepoint that is rolled back: the transaction goes on
BEGIN;
SAVEPOINT s;
SELECT 1;
ROLLBACK TO s;
SELECT running, admitted_total FROM resilience.bulkheads;
ROLLBACK;
-- an error caught in a DO block, and one that is not
DO $$
BEGIN
	PERFORM regress_adm_fails();
EXCEPTION WHEN division_by_zero THEN
	PERFORM 1;
END $$;
DO $$ BEGIN PERFORM regress_adm_fails(); END $$;
-- a transaction block that fails
BEGIN;
SELECT 1/0;
SELECT 1;
ROLLBACK;
RESET SESSION AUTHORIZATION;
:counts
SET SESSION AUTHORIZATION regress_adm_app;
-- an error at commit
CREATE TEMP TABLE regress_adm_d (i int UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO regress_adm_d VALUES (1), (1);
-- a cursor left open, one that outlives its transaction
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM regress_adm_t ORDER BY id;
FETCH c;
COMMIT;
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT id FROM regress_adm_t ORDER BY id;
FETCH c;
COMMIT;
FETCH c;
CLOSE c;
-- a procedure that commits keeps the slot until it ends
CALL regress_adm_p();
-- statements in one message are one transaction
SELECT 1 \; SELECT 2 \; SELECT running, admitted_total FROM resilience.bulkheads;
-- AND CHAIN begins another
BEGIN;
SELECT running, admitted_total FROM resilience.bulkheads;
COMMIT AND CHAIN;
SELECT running, admitted_total FROM resilience.bulkheads;
ROLLBACK;
RESET SESSION AUTHORIZATION;
:counts
SELECT running, waiting FROM resilience.load_shedder;
SELECT resilience.drop_bulkhead('one');

--
-- The message of each verdict that one session can have.  (For those of the
-- server-wide queue and for preemption it takes two: test/isolation.)
--
-- full, no queue
SELECT resilience.create_bulkhead('messages', role_name => 'regress_adm_app', max_running => 0);
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
\echo :SQLSTATE
RESET SESSION AUTHORIZATION;
-- waited too long
SELECT resilience.alter_bulkhead('messages', max_waiting => 5, max_wait => '20 ms');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
\echo :SQLSTATE
-- a queue without limit is one, too
RESET SESSION AUTHORIZATION;
SELECT resilience.alter_bulkhead('messages', max_waiting => -1);
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
\echo :SQLSTATE
-- the client's own deadline, before the bulkhead's
RESET SESSION AUTHORIZATION;
SELECT resilience.alter_bulkhead('messages', max_wait => '1 h');
SET SESSION AUTHORIZATION regress_adm_app;
SET resilience.deadline = '20ms';
SELECT 1;
\echo :SQLSTATE
RESET resilience.deadline;
-- statement_timeout, as anywhere else
SET statement_timeout = '20ms';
SELECT 1;
\echo :SQLSTATE
RESET statement_timeout;
RESET SESSION AUTHORIZATION;
:counts
SELECT wait_seconds_total BETWEEN 0.04 AND 10 AS waited FROM resilience.bulkheads;
-- max_wait 0: nobody waits
SELECT resilience.alter_bulkhead('messages', max_wait => '0');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
\echo :SQLSTATE
RESET SESSION AUTHORIZATION;
SELECT resilience.drop_bulkhead('messages');

--
-- Observing: decides and counts, refuses nobody.  By object ...
--
SELECT resilience.create_bulkhead('watched', role_name => 'regress_adm_app', max_running => 0, mode => 'observe');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'not refused';
SELECT 'not refused';
RESET SESSION AUTHORIZATION;
:counts
-- ... an object that is off: nobody has to pass it ...
SELECT resilience.alter_bulkhead('watched', mode => 'off');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'not refused', resilience.my_bulkheads();
RESET SESSION AUTHORIZATION;
:counts
-- ... by session ...
SELECT resilience.alter_bulkhead('watched', mode => 'enforce');
SELECT resilience.reset_statistics();
SET resilience.mode = 'observe';
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'not refused';
RESET SESSION AUTHORIZATION;
RESET resilience.mode;
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'refused';
RESET SESSION AUTHORIZATION;
:counts
-- ... by role ...
ALTER ROLE regress_adm_app SET resilience.mode = 'observe';
\c - regress_adm_app
SELECT 'not refused';
\c - :admin
ALTER ROLE regress_adm_app RESET resilience.mode;
:counts
-- ... and in the whole server
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
ALTER SYSTEM SET resilience.mode = 'observe';
ALTER SYSTEM SET resilience.minimum_priority = 'critical';
SELECT pg_reload_conf();
SELECT wait_for($$SELECT min_admitted_priority = 'critical' FROM resilience.load_shedder$$);
\c - regress_adm_app
SELECT 'not refused';
SELECT mode, min_admitted_priority FROM resilience.load_shedder;
\c - :admin
SELECT name, refused_statements_total FROM resilience.bulkheads;
SELECT priority, shed_total FROM resilience.load_by_priority WHERE shed_total > 0;
-- the mode "off": neither refused nor counted
ALTER SYSTEM SET resilience.mode = 'off';
ALTER SYSTEM SET resilience.minimum_priority = 'high';
SELECT pg_reload_conf();
SELECT wait_for($$SELECT min_admitted_priority = 'high' FROM resilience.load_shedder$$);
\c - regress_adm_app
SHOW resilience.mode;
SELECT 'not refused';
SELECT running FROM resilience.bulkheads;
SELECT resilience.my_bulkheads();
\c - :admin
SELECT name, running, refused_statements_total FROM resilience.bulkheads;
ALTER SYSTEM RESET resilience.mode;
ALTER SYSTEM SET resilience.minimum_priority = 'critical';
SELECT pg_reload_conf();
SELECT wait_for($$SELECT min_admitted_priority = 'critical' FROM resilience.load_shedder$$);
\c - :admin
SELECT resilience.drop_bulkhead('watched');

--
-- The minimum priority, still in force: what is below is shed at once
--
SELECT resilience.reset_statistics();
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 1;
\echo :SQLSTATE
EXPLAIN (COSTS OFF) SELECT 1;
SET resilience.requested_priority = 'low';
SELECT 1;
RESET resilience.requested_priority;
RESET SESSION AUTHORIZATION;
-- who has the rank passes, and so does a superuser of any
SET resilience.priority = 'critical';
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'critical';
RESET SESSION AUTHORIZATION;
SET resilience.priority = 'low';
SELECT 'superuser';
RESET resilience.priority;
SELECT priority, shed_total FROM resilience.load_by_priority;
ALTER SYSTEM RESET resilience.minimum_priority;
SELECT pg_reload_conf();
SELECT wait_for($$SELECT min_admitted_priority = 'low' FROM resilience.load_shedder$$);
\c - :admin
SET SESSION AUTHORIZATION regress_adm_app;
SELECT 'normal again';
RESET SESSION AUTHORIZATION;

--
-- The priority of a session
--
SELECT resilience.create_bulkhead('batch', role_name => 'regress_adm_app', priority => 'low');
SET SESSION AUTHORIZATION regress_adm_app;
-- from the bulkhead
SELECT resilience.my_priority(), resilience.my_bulkheads();
SELECT priority FROM resilience.activity WHERE pid = pg_backend_pid();
RESET SESSION AUTHORIZATION;
SELECT resilience.my_priority(), resilience.my_bulkheads();
-- the lowest of several
SELECT resilience.create_bulkhead('urgent', role_name => 'regress_adm_app', priority => 'critical');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_priority(), resilience.my_bulkheads();
RESET SESSION AUTHORIZATION;
SELECT resilience.drop_bulkhead('batch');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_priority(), resilience.my_bulkheads();
-- lowered
SET resilience.requested_priority = 'high';
SELECT resilience.my_priority();
RESET resilience.requested_priority;
RESET SESSION AUTHORIZATION;
-- one that is only observed changes nothing
SELECT resilience.alter_bulkhead('urgent', mode => 'observe');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_priority(), resilience.my_bulkheads();
RESET SESSION AUTHORIZATION;
SELECT resilience.alter_bulkhead('urgent', mode => 'enforce');
-- an explicit setting comes before the bulkhead's
ALTER ROLE regress_adm_app SET resilience.priority = 'normal';
\c - regress_adm_app
SELECT resilience.my_priority(), resilience.my_bulkheads();
\c - :admin
ALTER ROLE regress_adm_app RESET resilience.priority;
SET resilience.priority = 'high';
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_priority(), resilience.my_bulkheads();
RESET SESSION AUTHORIZATION;
-- ... until it is reset, or rolled back
RESET resilience.priority;
BEGIN;
SET LOCAL resilience.priority = 'low';
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_priority(), resilience.my_bulkheads();
ROLLBACK;
SET SESSION AUTHORIZATION regress_adm_app;
SELECT resilience.my_priority(), resilience.my_bulkheads();
RESET SESSION AUTHORIZATION;
SELECT resilience.drop_bulkhead('urgent');
-- one for a command holds for the transactions that begin with it
SELECT resilience.create_bulkhead('copies', role_name => 'regress_adm_app', command => 'COPY', priority => 'low');
SET SESSION AUTHORIZATION regress_adm_app;
SELECT priority FROM resilience.activity WHERE pid = pg_backend_pid();
COPY (SELECT priority FROM resilience.activity WHERE pid = pg_backend_pid()) TO stdout;
RESET SESSION AUTHORIZATION;
SELECT resilience.drop_bulkhead('copies');

--
-- Statistics: exact, by priority and in sum, until they are reset
--
SELECT resilience.reset_statistics();
SELECT priority, running, waiting, admitted_total, shed_total, timed_out_total, preempted_total,
	wait_seconds_total, wait_p50_ms, wait_p99_ms
FROM resilience.load_by_priority;
SET resilience.requested_priority = 'low';
SELECT 1 \; SELECT 2;
SELECT 3;
BEGIN;
SELECT 4;
SELECT 5;
COMMIT;
RESET resilience.requested_priority;
SELECT priority, running, admitted_total FROM resilience.load_by_priority;
SELECT running, waiting, admitted_total FROM resilience.load_shedder;
-- counts of a session that is gone stay
\c - :admin
SELECT priority, running, admitted_total FROM resilience.load_by_priority;
SELECT resilience.reset_statistics();
SELECT priority, admitted_total FROM resilience.load_by_priority;

-- columns of the other views
\pset format unaligned
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'resilience'::regnamespace AND c.relkind = 'v' AND c.relname <> 'bulkheads'
	AND a.attnum > 0
ORDER BY c.relname, a.attnum;
\pset format aligned

DROP FUNCTION wait_for;
DROP FUNCTION regress_adm_fails;
DROP PROCEDURE regress_adm_p;
DROP TABLE regress_adm_t;
REVOKE CREATE ON SCHEMA public FROM regress_adm_app;
DROP ROLE regress_adm_app;
DROP ROLE regress_adm_group;
