--
-- Circuit breakers as definitions: columns, rules, transactions, the table,
-- what happens to the servers that they name, privileges.
--
SET client_min_messages = warning;
CREATE EXTENSION postgres_fdw;
CREATE FOREIGN DATA WRAPPER regress_dummy;
CREATE SERVER regress_pg FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'h', port '1', dbname 'd');
CREATE SERVER regress_other FOREIGN DATA WRAPPER regress_dummy;

-- the columns of the view, the arguments of the functions
SELECT attname, format_type(atttypid, atttypmod)
FROM pg_attribute WHERE attrelid = 'resilience.breakers'::regclass AND attnum > 0 ORDER BY attnum;
SELECT regexp_split_to_table(pg_get_function_arguments('resilience.create_breaker'::regproc), ', ') AS create_breaker;
SELECT regexp_split_to_table(pg_get_function_arguments('resilience.alter_breaker'::regproc), ', ') AS alter_breaker;
-- what pg_dump saves, and that nothing gets past the rules
SELECT 'resilience.breaker_definitions'::regclass = ANY (extconfig) AS dumped, extcondition[array_position(extconfig, 'resilience.breaker_definitions'::regclass)] = '' AS all_of_it
FROM pg_extension WHERE extname = 'resilience';
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'resilience.breaker_definitions'::regclass ORDER BY 1;
-- the defaults of the function and of the table are the same
SELECT resilience.create_breaker('function');
SELECT resilience.create_breaker('nulls', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO resilience.breaker_definitions (name) VALUES ('table');
SELECT count(*), count(DISTINCT row(d.server, max_failures, failure_rate, slow_call_duration, slow_call_rate,
	minimum_calls, window_duration, reset_timeout, backoff_factor, max_reset_timeout, jitter, half_open_calls,
	success_threshold, call_timeout, probe, max_concurrent_calls, on_open, ignored_sqlstates,
	recorded_sqlstates, mode, forced)::text) AS kinds
FROM resilience.breaker_definitions d;
SELECT name, state FROM resilience.breakers ORDER BY name;
SELECT resilience.drop_breaker(name) FROM resilience.breakers;

--
-- What the prober is told: of postgres_fdw alone, and nothing of credentials
--
SELECT resilience.create_breaker('pg', 'regress_pg'), resilience.create_breaker('other', 'regress_other');
SELECT name, probe, probe_target FROM resilience.breakers ORDER BY name;
SELECT resilience.alter_breaker('pg', probe => false);
SELECT name, probe, probe_target FROM resilience.breakers WHERE name = 'pg';
SELECT resilience.alter_breaker('pg', probe => true);
ALTER SERVER regress_pg OPTIONS (SET host '10.0.0.1,x y''z\', SET port '1,2', ADD hostaddr '10.0.0.1',
	ADD sslmode 'verify-full', ADD application_name 'a', ADD fetch_size '7', DROP dbname);
SELECT probe_target FROM resilience.breakers WHERE name = 'pg';
ALTER SERVER regress_pg OPTIONS (DROP host, DROP port, DROP hostaddr, DROP sslmode);
SELECT probe_target FROM resilience.breakers WHERE name = 'pg';
-- not before COMMIT, and not after a ROLLBACK
BEGIN;
ALTER SERVER regress_pg OPTIONS (ADD host 'rolled.back');
SELECT probe_target FROM resilience.breakers WHERE name = 'pg';
ROLLBACK;
SELECT probe_target FROM resilience.breakers WHERE name = 'pg';
-- more than there is room for
DO $$BEGIN EXECUTE format('ALTER SERVER regress_pg OPTIONS (ADD host %L)', repeat('x', 600)); END$$;
SELECT state, probe_target FROM resilience.breakers WHERE name = 'pg';
ALTER SERVER regress_pg OPTIONS (SET host 'h');
-- a service file may say anything
ALTER SERVER regress_pg OPTIONS (ADD service 's');
SELECT state, probe_target FROM resilience.breakers WHERE name = 'pg';
ALTER SERVER regress_pg OPTIONS (DROP service);
SELECT probe_target FROM resilience.breakers WHERE name = 'pg';
-- a wrapper of another name with postgres_fdw's functions is postgres_fdw
CREATE FOREIGN DATA WRAPPER regress_wrapper HANDLER postgres_fdw_handler VALIDATOR postgres_fdw_validator;
CREATE SERVER regress_wrapped FOREIGN DATA WRAPPER regress_wrapper OPTIONS (host 'w');
SELECT resilience.create_breaker('wrapped', 'regress_wrapped');
SELECT probe_target FROM resilience.breakers WHERE name = 'wrapped';
SELECT resilience.drop_breaker('wrapped');
DROP FOREIGN DATA WRAPPER regress_wrapper CASCADE;

--
-- One breaker for a server; another server
--
SELECT resilience.create_breaker('second', 'regress_pg');
\echo :SQLSTATE
SELECT resilience.alter_breaker('other', server => 'regress_pg');
\echo :SQLSTATE
SELECT resilience.alter_breaker('pg', server => 'regress_pg');
SELECT resilience.create_breaker('generic');
SELECT resilience.alter_breaker('generic', server => 'regress_other');
\echo :SQLSTATE
SELECT resilience.drop_breaker('other');
SELECT resilience.alter_breaker('generic', server => 'regress_other');
SELECT name, server, state FROM resilience.breakers ORDER BY name;
SELECT resilience.drop_breaker('generic');

--
-- Servers that are renamed
--
\set guards 'SELECT name, server, state FROM resilience.breakers ORDER BY name;'
SELECT resilience.create_breaker('other', 'regress_other');
ALTER SERVER regress_pg RENAME TO regress_pg2;
:guards
-- the definition follows at once, also for later statements
BEGIN;
ALTER SERVER regress_pg2 RENAME TO regress_pg3;
SELECT server FROM resilience.breaker_definitions WHERE name = 'pg';
SELECT resilience.alter_breaker('pg', max_failures => 7);
SELECT resilience.force_breaker('pg', 'open');
SELECT resilience.create_breaker('again', 'regress_pg3');
ROLLBACK;
:guards
BEGIN;
SAVEPOINT s;
ALTER SERVER regress_pg2 RENAME TO regress_pg3;
SELECT resilience.alter_breaker('pg', max_failures => 7);
ROLLBACK TO s;
SELECT resilience.alter_breaker('pg', max_failures => 8);
COMMIT;
SELECT name, server, max_failures FROM resilience.breakers WHERE name = 'pg';
BEGIN;
ALTER SERVER regress_pg2 RENAME TO regress_pg3;
SAVEPOINT s;
SELECT resilience.alter_breaker('pg', max_failures => 9);
ALTER SERVER regress_pg3 RENAME TO regress_pg4;
ROLLBACK TO s;
COMMIT;
SELECT name, server, max_failures FROM resilience.breakers WHERE name = 'pg';
-- two change their names with each other
BEGIN;
ALTER SERVER regress_pg3 RENAME TO regress_tmp;
ALTER SERVER regress_other RENAME TO regress_pg3;
ALTER SERVER regress_tmp RENAME TO regress_other;
COMMIT;
:guards
-- a new server gets the old name, and a breaker of its own
BEGIN;
ALTER SERVER regress_other RENAME TO regress_pg;
CREATE SERVER regress_other FOREIGN DATA WRAPPER regress_dummy;
SELECT resilience.create_breaker('third', 'regress_other');
COMMIT;
:guards
SELECT resilience.drop_breaker('third');
DROP SERVER regress_other;
ALTER SERVER regress_pg3 RENAME TO regress_other;
-- new, renamed and guarded in one transaction
BEGIN;
CREATE SERVER regress_new FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'n');
SELECT resilience.create_breaker('new', 'regress_new');
ALTER SERVER regress_new RENAME TO regress_newer;
ALTER SERVER regress_newer OPTIONS (SET host 'newer');
COMMIT;
SELECT server, state, probe_target FROM resilience.breakers WHERE name = 'new';
SELECT resilience.drop_breaker('new');
DROP SERVER regress_newer;
-- a name of the greatest length
DO $$BEGIN EXECUTE format('ALTER SERVER regress_pg RENAME TO %I', 'regress_' || repeat('x', 55)); END$$;
SELECT length(server::text) FROM resilience.breakers WHERE name = 'pg';
DO $$BEGIN EXECUTE format('ALTER SERVER %I RENAME TO regress_pg', 'regress_' || repeat('x', 55)); END$$;
:guards
-- a state that the breaker has is kept
SELECT resilience.force_breaker('pg', 'open');
ALTER SERVER regress_pg RENAME TO regress_pg2;
ALTER SERVER regress_pg2 OWNER TO CURRENT_USER;
SELECT server, state, forced FROM resilience.breakers WHERE name = 'pg';
ALTER SERVER regress_pg2 RENAME TO regress_pg;
SELECT resilience.force_breaker('pg', 'auto');
-- two phases cannot do it; for a server that nobody guards they can
BEGIN;
ALTER SERVER regress_pg RENAME TO regress_pg2;
PREPARE TRANSACTION 'regress_br';
\echo :SQLSTATE
CREATE SERVER regress_free FOREIGN DATA WRAPPER regress_dummy;
BEGIN;
ALTER SERVER regress_free RENAME TO regress_free2;
PREPARE TRANSACTION 'regress_br';
COMMIT PREPARED 'regress_br';
:guards

--
-- Servers that are dropped
--
DROP SERVER regress_pg;
\echo :SQLSTATE
DROP SERVER regress_free2, regress_other;
\echo :SQLSTATE
DROP FOREIGN DATA WRAPPER regress_dummy CASCADE;
\echo :SQLSTATE
DROP EXTENSION postgres_fdw CASCADE;
\echo :SQLSTATE
-- under another name, too
BEGIN;
ALTER SERVER regress_pg RENAME TO regress_pg2;
DROP SERVER regress_pg2;
\echo :SQLSTATE
ROLLBACK;
-- not while a savepoint brings the breaker back
BEGIN;
SAVEPOINT s;
SELECT resilience.drop_breaker('pg');
ROLLBACK TO s;
DROP SERVER regress_pg;
\echo :SQLSTATE
ROLLBACK;
-- nor when it is of this transaction
BEGIN;
SELECT resilience.create_breaker('free', 'regress_free2');
DROP SERVER regress_free2;
\echo :SQLSTATE
ROLLBACK;
DROP SERVER regress_free2;
-- both, and a new one of that name
BEGIN;
SELECT resilience.force_breaker('pg', 'open');
SELECT resilience.drop_breaker('pg');
DROP SERVER regress_pg;
CREATE SERVER regress_pg FOREIGN DATA WRAPPER regress_dummy;
SELECT resilience.create_breaker('pg', 'regress_pg');
COMMIT;
SELECT name, server, state, forced, probe_target FROM resilience.breakers ORDER BY name;
-- a breaker of another server, then the first one goes
BEGIN;
CREATE SERVER regress_next FOREIGN DATA WRAPPER regress_dummy;
SELECT resilience.alter_breaker('pg', server => 'regress_next');
DROP SERVER regress_pg;
COMMIT;
:guards

--
-- A server that is not there, because nobody looked when it was dropped: its
-- breaker is not in force, and can be repaired.
--
ALTER TABLE resilience.breaker_definitions DISABLE TRIGGER check_row;
UPDATE resilience.breaker_definitions SET server = 'regress_gone' WHERE name = 'pg';
ALTER TABLE resilience.breaker_definitions ENABLE ALWAYS TRIGGER check_row;
:guards
SELECT resilience.alter_breaker('pg', max_failures => 3);
SELECT resilience.force_breaker('pg', 'open');
SELECT resilience.reset_breaker('pg');
\echo :SQLSTATE
SELECT resilience.alter_breaker('pg', server => 'regress_gone');
SELECT resilience.alter_breaker('pg', server => 'regress_nowhere');
\echo :SQLSTATE
SELECT resilience.alter_breaker('pg', server => 'regress_next');
SELECT name, server, state, forced, max_failures FROM resilience.breakers ORDER BY name;
-- one that is not committed cannot be reset either
BEGIN;
SELECT resilience.create_breaker('late');
SELECT resilience.reset_breaker('late');
\echo :SQLSTATE
ROLLBACK;
SELECT resilience.drop_breaker(name) FROM resilience.breakers;

--
-- Transactions: nothing before COMMIT, nothing after ROLLBACK
--
SELECT resilience.create_breaker('a');
BEGIN;
SELECT resilience.create_breaker('b');
SELECT resilience.force_breaker('a', 'open');
SELECT resilience.alter_breaker('a', max_failures => 50);
SELECT name, state, forced, max_failures, failure_total FROM resilience.breakers ORDER BY name;
ROLLBACK;
SELECT name, state, forced, max_failures FROM resilience.breakers ORDER BY name;
BEGIN;
SELECT resilience.create_breaker('b');
SAVEPOINT s;
SELECT resilience.drop_breaker('b');
SELECT resilience.create_breaker('c');
SELECT resilience.force_breaker('a', 'open');
ROLLBACK TO s;
SELECT resilience.create_breaker('d');
COMMIT;
SELECT name, state, forced FROM resilience.breakers ORDER BY name;
DO $$
BEGIN
	PERFORM resilience.force_breaker('a', 'open');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	PERFORM resilience.force_breaker('b', 'open');
END $$;
SELECT name, state, forced FROM resilience.breakers ORDER BY name;
-- the last word counts
BEGIN;
SELECT resilience.drop_breaker('b');
SELECT resilience.create_breaker('b', max_failures => 1);
SELECT resilience.alter_breaker('b', max_failures => 2);
SELECT resilience.force_breaker('b', 'closed');
SELECT resilience.create_breaker('e');
SELECT resilience.drop_breaker('e');
COMMIT;
SELECT name, state, forced, max_failures FROM resilience.breakers ORDER BY name;
-- all or nothing
SELECT resilience.create_breaker(n) FROM unnest(ARRAY['f', 'g', 'a']) n;
\echo :SQLSTATE
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM resilience.breakers;
SELECT resilience.drop_breaker('d');
SELECT resilience.create_breaker('d', max_failures => 9);
COMMIT;
SELECT name, max_failures FROM resilience.breakers ORDER BY name;
BEGIN READ ONLY;
SELECT resilience.force_breaker('a', 'open');
\echo :SQLSTATE
ROLLBACK;
-- a reset is no change of a definition: at once, for good, in any transaction
SELECT resilience.alter_breaker('d', max_failures => 1, reset_timeout => '1 h', max_reset_timeout => '1 h');
\set VERBOSITY sqlstate
SELECT resilience.call_with_breaker('d', $$DO 'BEGIN RAISE ''no answer''; END'$$);
SELECT resilience.call_with_breaker('d', 'SELECT 1');
\set VERBOSITY default
SELECT state, trip_reason, failure_total FROM resilience.breakers WHERE name = 'd';
BEGIN READ ONLY;
SELECT resilience.reset_breaker('d');
SELECT state FROM resilience.breakers WHERE name = 'd';
ROLLBACK;
SELECT state, failure_total FROM resilience.breakers WHERE name = 'd';
SELECT resilience.call_with_breaker('d', 'SELECT 1');
-- what is forced it does not touch
SELECT resilience.force_breaker('d', 'open');
SELECT resilience.reset_breaker('d');
SELECT state, forced FROM resilience.breakers WHERE name = 'd';

--
-- The table: the same rules, and what is written there is in force
--
UPDATE resilience.breaker_definitions SET forced = 'open' WHERE name = 'a';
SELECT state, forced FROM resilience.breakers WHERE name = 'a';
UPDATE resilience.breaker_definitions SET name = 'renamed' WHERE name = 'a';
SELECT name, state FROM resilience.breakers ORDER BY name;
\set VERBOSITY terse
INSERT INTO resilience.breaker_definitions (name) VALUES ('');
INSERT INTO resilience.breaker_definitions (name) VALUES (NULL);
INSERT INTO resilience.breaker_definitions (name) VALUES (repeat('x', 64));
INSERT INTO resilience.breaker_definitions (name, server) VALUES ('x', 'regress_nowhere');
INSERT INTO resilience.breaker_definitions (name, max_failures) VALUES ('x', 0);
INSERT INTO resilience.breaker_definitions (name, mode) VALUES ('x', 'on');
INSERT INTO resilience.breaker_definitions (name, on_open) VALUES ('x', 'empty');
INSERT INTO resilience.breaker_definitions (name, forced) VALUES ('x', 'half_open');
INSERT INTO resilience.breaker_definitions (name, ignored_sqlstates) VALUES ('x', '{bad}');
UPDATE resilience.breaker_definitions SET forced = '' WHERE name = 'b';
UPDATE resilience.breaker_definitions SET reset_timeout = '1 h' WHERE name = 'b';
SET session_replication_role = replica;
INSERT INTO resilience.breaker_definitions (name, jitter) VALUES ('x', 2);
INSERT INTO resilience.breaker_definitions (name, forced) VALUES ('replicated', 'open');
RESET session_replication_role;
\set VERBOSITY default
COPY resilience.breaker_definitions (name, server, forced) FROM stdin;
copied	regress_next	open
\.
SELECT name, server, state FROM resilience.breakers WHERE name IN ('copied', 'replicated') ORDER BY name;
COPY resilience.breaker_definitions (name, server) FROM stdin;
half done	\N
bad	regress_nowhere
\.
INSERT INTO resilience.breaker_definitions (name, server) VALUES ('twice', 'regress_next');
\echo :SQLSTATE
BEGIN;
TRUNCATE resilience.breaker_definitions;
ROLLBACK;
SELECT count(state) FROM resilience.breakers;
DELETE FROM resilience.breaker_definitions WHERE name <> 'b';
SELECT name, state FROM resilience.breakers ORDER BY name;

--
-- Bad input: SQLSTATE, DETAIL and HINT; the bounds themselves are allowed
--
CREATE TEMP TABLE before AS SELECT * FROM resilience.breaker_definitions;
SELECT resilience.create_breaker(NULL);
\echo :SQLSTATE
SELECT resilience.create_breaker(repeat('ü', 32));
\echo :SQLSTATE
SELECT resilience.create_breaker('b');
\echo :SQLSTATE
SELECT resilience.create_breaker('x', '');
\echo :SQLSTATE
SELECT resilience.create_breaker('x', 'regress_nowhere');
\echo :SQLSTATE
CREATE FUNCTION pg_temp.refused(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
	details text;
	hints text;
BEGIN
	EXECUTE format('SELECT resilience.create_breaker(''x'', %s)', arguments);
	PERFORM resilience.drop_breaker('x');
	RETURN 'allowed';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, details = PG_EXCEPTION_DETAIL, hints = PG_EXCEPTION_HINT;
	RETURN format('%s: %s / %s / %s', SQLSTATE, said, details, hints);
END $$;
\pset format unaligned
SELECT a AS arguments, pg_temp.refused(a) FROM unnest(ARRAY[
	'max_failures => 0', 'max_failures => 1', 'max_failures => 1000000', 'max_failures => 1000001',
	'minimum_calls => 0', 'minimum_calls => 1', 'minimum_calls => -2147483648',
	'failure_rate => 0', 'failure_rate => 1', 'failure_rate => 1.0000001', 'failure_rate => ''NaN''',
	'failure_rate => ''-Infinity''', 'failure_rate => 1e-300',
	'slow_call_rate => 0', 'slow_call_rate => 1', 'slow_call_rate => ''Infinity''', 'slow_call_rate => ''NaN''',
	'slow_call_duration => ''0''', 'slow_call_duration => ''1 ms''', 'slow_call_duration => ''1 h''',
	'slow_call_duration => ''1 h 1 us''', 'slow_call_duration => ''-1 s''', 'slow_call_duration => ''1 mon -30 days''',
	'window_duration => ''99 ms''', 'window_duration => ''100 ms''', 'window_duration => ''1 h''', 'window_duration => ''61 min''',
	'reset_timeout => ''9 ms''', 'reset_timeout => ''10 ms''', 'reset_timeout => ''1 h 1 ms'', max_reset_timeout => ''1 day''',
	'reset_timeout => ''1 h'', max_reset_timeout => ''1 h''', 'reset_timeout => ''1 h''',
	'max_reset_timeout => ''1 day''', 'max_reset_timeout => ''1 day 1 s''', 'max_reset_timeout => ''4999 ms''',
	'max_reset_timeout => ''100000000 years''', 'max_reset_timeout => ''-1 s''',
	'backoff_factor => 0.99', 'backoff_factor => 1', 'backoff_factor => 100', 'backoff_factor => 100.1', 'backoff_factor => ''NaN''',
	'jitter => -0.1', 'jitter => 0', 'jitter => 1', 'jitter => 1.1', 'jitter => ''NaN''',
	'half_open_calls => 0', 'half_open_calls => 1', 'half_open_calls => 10000', 'half_open_calls => 10001',
	'success_threshold => 0', 'success_threshold => 1', 'success_threshold => 10000', 'success_threshold => 10001',
	'call_timeout => ''0''', 'call_timeout => ''-1 s''', 'call_timeout => ''1 ms''', 'call_timeout => ''1 h''', 'call_timeout => ''1 h 1 ms''',
	'max_concurrent_calls => -2', 'max_concurrent_calls => -1', 'max_concurrent_calls => 0', 'max_concurrent_calls => 1000001',
	'on_open => ''''', 'on_open => ''guess''', 'on_open => ''fallback''', 'on_open => ''empty''', 'on_open => ''Error''',
	'on_open => ''EMPTY'', server => ''regress_next''',
	'ignored_sqlstates => ''{}''', 'ignored_sqlstates => ''{08,57P01,HV000,XX}''', 'ignored_sqlstates => ''{08006,NULL}''',
	'ignored_sqlstates => ''{0800}''', 'ignored_sqlstates => ''{080061}''', 'ignored_sqlstates => ''{""}''', 'ignored_sqlstates => ''{xx}''',
	'ignored_sqlstates => ''{00000}''', 'ignored_sqlstates => ''{01}''', 'ignored_sqlstates => ''{02000}''', 'ignored_sqlstates => ''{03}''',
	'recorded_sqlstates => ''{"08 "}''', 'recorded_sqlstates => ''{Ü8}''',
	'recorded_sqlstates => array_fill(''08''::text, ARRAY[16])', 'recorded_sqlstates => array_fill(''08''::text, ARRAY[17])',
	'mode => ''on''', 'mode => ''''', 'mode => ''OFF''']) a;
\pset format aligned
-- an alteration obeys the same rules, with what is there already
SELECT resilience.alter_breaker('b', reset_timeout => '10 min');
\echo :SQLSTATE
SELECT resilience.alter_breaker('b', max_reset_timeout => '1 s');
\echo :SQLSTATE
SELECT resilience.alter_breaker('b', reset_timeout => '10 min', max_reset_timeout => '10 min');
SELECT resilience.alter_breaker('b', reset_timeout => '5 s', max_reset_timeout => '5 min');
SELECT resilience.alter_breaker('b', on_open => 'fallback');
\echo :SQLSTATE
SELECT resilience.alter_breaker(NULL);
\echo :SQLSTATE
SELECT resilience.alter_breaker('nobody', max_failures => 0);
\echo :SQLSTATE
SELECT resilience.drop_breaker(NULL);
\echo :SQLSTATE
SELECT resilience.drop_breaker('nobody');
\echo :SQLSTATE
SELECT resilience.drop_breaker('B');
\echo :SQLSTATE
SET client_min_messages = notice;
SELECT resilience.drop_breaker('nobody', if_exists => true);
SET client_min_messages = warning;
SELECT resilience.drop_breaker('nobody', NULL);
\echo :SQLSTATE
SELECT resilience.force_breaker('nobody', 'open');
\echo :SQLSTATE
SELECT resilience.force_breaker('b', 'half_open');
\echo :SQLSTATE
SELECT resilience.force_breaker('b', NULL);
\echo :SQLSTATE
SELECT resilience.force_breaker(NULL, 'open');
\echo :SQLSTATE
SELECT resilience.reset_breaker('nobody');
\echo :SQLSTATE
SELECT resilience.reset_breaker(NULL);
\echo :SQLSTATE
SELECT resilience.breaker_definitions_check();
\echo :SQLSTATE
SELECT * FROM resilience.breaker_definitions EXCEPT SELECT * FROM before;
SELECT * FROM before EXCEPT SELECT * FROM resilience.breaker_definitions;
SELECT name, state FROM resilience.breakers;

--
-- Room for resilience.max_breakers and no more: refused at COMMIT
--
SHOW resilience.max_breakers;
SELECT count(resilience.create_breaker('n' || i)) FROM generate_series(1, 128) i;
\echo :SQLSTATE
SELECT count(*) FROM resilience.breakers;
SELECT count(resilience.create_breaker('n' || i)) FROM generate_series(1, 127) i;
SELECT count(*), count(state) FROM resilience.breakers;
BEGIN;
SELECT resilience.force_breaker('n1', 'open');
SELECT resilience.create_breaker('too many');
COMMIT;
\echo :SQLSTATE
SELECT forced FROM resilience.breakers WHERE name = 'n1';
BEGIN;
SELECT resilience.drop_breaker('n1');
SELECT resilience.create_breaker('instead');
COMMIT;
-- all of them anew, in one transaction
BEGIN;
SELECT count(resilience.drop_breaker(name)) FROM resilience.breakers;
SELECT count(resilience.create_breaker('m' || i)) FROM generate_series(1, 128) i;
COMMIT;
SELECT count(*), count(state) FROM resilience.breakers WHERE name LIKE 'm%';
SELECT count(resilience.drop_breaker(name)) FROM resilience.breakers;

--
-- Privileges: whoever is granted EXECUTE needs nothing else, and gets nothing
-- else.  The owner of a server may rename and alter it, not drop it.
--
CREATE ROLE regress_br_plain;
CREATE ROLE regress_br_monitor;
GRANT pg_monitor TO regress_br_monitor;
CREATE ROLE regress_br_grantee;
CREATE ROLE regress_br_owner;
GRANT EXECUTE ON FUNCTION resilience.create_breaker, resilience.alter_breaker, resilience.drop_breaker,
	resilience.force_breaker, resilience.reset_breaker TO regress_br_grantee;
GRANT USAGE ON FOREIGN DATA WRAPPER regress_dummy TO regress_br_owner;
SELECT resilience.create_breaker('guard', 'regress_next');
ALTER SERVER regress_next OWNER TO regress_br_owner;
\set VERBOSITY terse
SET SESSION AUTHORIZATION regress_br_plain;
SELECT resilience.create_breaker('x');
\echo :SQLSTATE
SELECT resilience.alter_breaker('guard');
SELECT resilience.drop_breaker('guard', true);
SELECT resilience.force_breaker('guard', 'open');
SELECT resilience.reset_breaker('guard');
SELECT count(*) FROM resilience.breakers;
SELECT count(*) FROM resilience.breaker_definitions;
SELECT resilience.breaker_statistics();
SET SESSION AUTHORIZATION regress_br_monitor;
SELECT name, server, state FROM resilience.breakers;
SELECT count(*) FROM resilience.breaker_definitions;
INSERT INTO resilience.breaker_definitions (name) VALUES ('mine');
SELECT resilience.force_breaker('guard', 'open');
SET SESSION AUTHORIZATION regress_br_grantee;
SELECT resilience.create_breaker('theirs');
SELECT resilience.alter_breaker('theirs', max_failures => 3);
SELECT resilience.force_breaker('theirs', 'open');
SELECT resilience.reset_breaker('theirs');
SELECT count(*) FROM resilience.breakers;
UPDATE resilience.breaker_definitions SET forced = 'auto';
SET SESSION AUTHORIZATION regress_br_owner;
ALTER SERVER regress_next RENAME TO regress_next2;
ALTER SERVER regress_next2 OPTIONS (ADD host 'h');
DROP SERVER regress_next2;
\echo :SQLSTATE
SELECT count(*) FROM resilience.breakers;
RESET SESSION AUTHORIZATION;
\set VERBOSITY default
SELECT name, server, state, forced FROM resilience.breakers ORDER BY name;
-- a trap: operators and a table of the same name, before pg_catalog
CREATE SCHEMA regress_br_trap AUTHORIZATION regress_br_owner;
SET SESSION AUTHORIZATION regress_br_owner;
CREATE TABLE regress_br_trap.breaker_definitions (name text, server text);
CREATE FUNCTION regress_br_trap.sprung(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE OPERATOR regress_br_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_br_trap.sprung);
CREATE OPERATOR regress_br_trap.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_br_trap.sprung);
SET search_path = regress_br_trap, pg_catalog;
ALTER SERVER regress_next2 RENAME TO regress_next;
RESET SESSION AUTHORIZATION;
SELECT resilience.alter_breaker('guard', server => 'regress_next', max_failures => 4);
SELECT resilience.force_breaker('guard', 'closed');
SELECT pg_catalog.count(*) FROM resilience.breakers;
RESET search_path;
SELECT name, server, state, max_failures FROM resilience.breakers WHERE name = 'guard';
SELECT resilience.drop_breaker(name) FROM resilience.breakers;
DROP SCHEMA regress_br_trap CASCADE;

-- Nothing is guarded any more: all can go.
SELECT * FROM resilience.breakers;
DROP EXTENSION postgres_fdw CASCADE;
DROP FOREIGN DATA WRAPPER regress_dummy CASCADE;
REVOKE EXECUTE ON FUNCTION resilience.create_breaker, resilience.alter_breaker, resilience.drop_breaker,
	resilience.force_breaker, resilience.reset_breaker FROM regress_br_grantee;
DROP ROLE regress_br_plain, regress_br_monitor, regress_br_grantee, regress_br_owner;
