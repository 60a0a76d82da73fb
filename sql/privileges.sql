--
-- Who may do what: functions and views, names and operators of others, and
-- the two settings of the priority.
--
\set admin :USER
SET client_min_messages = warning;
CREATE ROLE regress_priv_plain LOGIN;
CREATE ROLE regress_priv_monitor LOGIN;
GRANT pg_monitor TO regress_priv_monitor;
CREATE ROLE regress_priv_grantee LOGIN;
CREATE ROLE regress_priv_app LOGIN;
RESET client_min_messages;

--
-- Functions, views, the table
--
SELECT p.proname AS function,
	has_function_privilege('regress_priv_plain', p.oid, 'EXECUTE') AS everyone,
	has_function_privilege('regress_priv_monitor', p.oid, 'EXECUTE') AS monitor,
	p.prosecdef AS security_definer
FROM pg_proc p WHERE p.pronamespace = 'resilience'::regnamespace ORDER BY 1;
SELECT c.relname, c.relkind,
	has_table_privilege('regress_priv_plain', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS everyone,
	has_table_privilege('regress_priv_monitor', c.oid, 'SELECT') AS monitor_reads,
	has_table_privilege('regress_priv_monitor', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS monitor_writes
FROM pg_class c
WHERE c.relnamespace = 'resilience'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1;
SELECT has_schema_privilege('regress_priv_plain', 'resilience', 'CREATE') AS everyone_creates;

SET SESSION AUTHORIZATION regress_priv_plain;
\set VERBOSITY terse
SELECT resilience.my_priority();
SELECT resilience.my_bulkheads();
SELECT resilience.create_bulkhead('mine');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('mine');
SELECT resilience.drop_bulkhead('mine', true);
SELECT resilience.reset_statistics();
SELECT count(*) FROM resilience.bulkheads;
\echo :SQLSTATE
SELECT count(*) FROM resilience.load_shedder;
SELECT count(*) FROM resilience.load_by_priority;
SELECT count(*) FROM resilience.activity;
SELECT resilience.session_activity();
SELECT count(*) FROM resilience.bulkhead_definitions;
\set VERBOSITY default
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION regress_priv_monitor;
SELECT count(*) FROM resilience.bulkheads;
SELECT count(*) FROM resilience.load_shedder;
SELECT priority FROM resilience.load_by_priority;
SELECT priority, state, bulkheads, wait_start, run_start IS NOT NULL AS runs
FROM resilience.activity WHERE pid = pg_backend_pid();
\set VERBOSITY terse
SELECT resilience.reset_statistics();
INSERT INTO resilience.bulkhead_definitions (name) VALUES ('mine');
\set VERBOSITY default
RESET SESSION AUTHORIZATION;

--
-- Whoever is granted EXECUTE needs nothing else, and gets nothing else.
--
GRANT EXECUTE ON FUNCTION resilience.create_bulkhead, resilience.alter_bulkhead,
	resilience.drop_bulkhead TO regress_priv_grantee;
SELECT resilience.create_bulkhead('everywhere', role_name => 'regress_priv_app', database_name => '*');
SELECT resilience.create_bulkhead('elsewhere', role_name => 'regress_priv_app', database_name => 'template1');
SELECT resilience.create_bulkhead('here', role_name => 'regress_priv_app', database_name => current_database());

SET SESSION AUTHORIZATION regress_priv_grantee;
SELECT resilience.create_bulkhead('theirs', role_name => 'regress_priv_app', max_running => 5);
SELECT resilience.create_bulkhead('theirs, too', role_name => 'regress_priv_app',
	database_name => current_database(), max_running => 6);
SELECT resilience.alter_bulkhead('theirs', max_running => 7);
-- one that a superuser made for this database
SELECT resilience.alter_bulkhead('here', max_running => 8);
SELECT resilience.drop_bulkhead('theirs, too');
-- other databases are not theirs
SELECT resilience.create_bulkhead('all', database_name => '*');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('all', database_name => 'template1');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('theirs', database_name => '*');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('everywhere', max_running => 8);
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('everywhere', database_name => current_database());
\echo :SQLSTATE
SELECT resilience.drop_bulkhead('everywhere');
\echo :SQLSTATE
SELECT resilience.drop_bulkhead('elsewhere');
\echo :SQLSTATE
-- the table is not
\set VERBOSITY terse
INSERT INTO resilience.bulkhead_definitions (name) VALUES ('mine');
\echo :SQLSTATE
DELETE FROM resilience.bulkhead_definitions;
SELECT count(*) FROM resilience.bulkheads;
\set VERBOSITY default
RESET SESSION AUTHORIZATION;
SELECT name, role_name, database_name = current_database() AS here, max_running
FROM resilience.bulkheads ORDER BY name;
-- after SET ROLE it is the role that counts, as everywhere
SET ROLE regress_priv_plain;
\set VERBOSITY terse
SELECT resilience.drop_bulkhead('theirs');
\set VERBOSITY default
RESET ROLE;

--
-- Traps: a schema before pg_catalog with operators, functions, types and
-- tables of the names that the extension uses.  None of them is touched.
--
CREATE SCHEMA regress_trap AUTHORIZATION regress_priv_grantee;
SET SESSION AUTHORIZATION regress_priv_grantee;
CREATE TABLE regress_trap.bulkhead_definitions (LIKE pg_catalog.pg_class);
CREATE TABLE regress_trap.bulkheads (name text);
CREATE FUNCTION regress_trap.sprung(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE FUNCTION regress_trap.sprung(name, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE FUNCTION regress_trap.sprung(int, int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE FUNCTION regress_trap.sprung(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE OPERATOR regress_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_trap.sprung);
CREATE OPERATOR regress_trap.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_trap.sprung);
CREATE OPERATOR regress_trap.= (LEFTARG = name, RIGHTARG = text, FUNCTION = regress_trap.sprung);
CREATE OPERATOR regress_trap.= (LEFTARG = int, RIGHTARG = int, FUNCTION = regress_trap.sprung);
CREATE OPERATOR regress_trap.<> (LEFTARG = int, RIGHTARG = int, FUNCTION = regress_trap.sprung);
CREATE OPERATOR regress_trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = regress_trap.sprung);
CREATE OPERATOR regress_trap.~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_trap.sprung);
CREATE FUNCTION regress_trap.current_database() RETURNS name LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE FUNCTION regress_trap.pg_get_userbyid(oid) RETURNS name LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE FUNCTION regress_trap.textlike(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'sprung by %', current_user;
END $$;
CREATE DOMAIN regress_trap.interval AS text CHECK (false);
CREATE DOMAIN regress_trap.text AS pg_catalog.text CHECK (false);
CREATE TEMP TABLE bulkhead_definitions (name text);
SET search_path = regress_trap, pg_temp, resilience, pg_catalog;
-- the trap works
SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text;
\set VERBOSITY terse
SELECT current_database();
\set VERBOSITY default

SELECT resilience.create_bulkhead('trap', role_name => 'regress_priv_app', application_name => 'trap%',
	max_running => 1, max_wait => pg_catalog.make_interval(secs => 3), priority => 'low');
SELECT resilience.create_bulkhead('trap');
SELECT resilience.alter_bulkhead('trap', max_running => 2, mode => 'observe');
SELECT resilience.alter_bulkhead('trap', application_name => 'trap_', max_running => 0);
SELECT resilience.my_bulkheads();
SELECT resilience.my_priority();
RESET SESSION AUTHORIZATION;
-- a superuser who is careless with search_path is not caught either
SELECT name, role_name, database_name OPERATOR(pg_catalog.=) pg_catalog.current_database() AS here,
	application_name, max_running, max_wait, priority, mode
FROM resilience.bulkheads WHERE name OPERATOR(pg_catalog.=) 'trap';
SELECT pg_catalog.count(*) > 0 FROM resilience.activity;
SELECT pg_catalog.count(*) FROM resilience.load_by_priority;
SELECT resilience.reset_statistics();
SELECT resilience.drop_bulkhead('trap');
RESET search_path;
SELECT name FROM resilience.bulkheads ORDER BY name;
SELECT count(*) FROM regress_trap.bulkhead_definitions;
SELECT count(*) FROM pg_temp.bulkhead_definitions;
SET client_min_messages = warning;
DROP SCHEMA regress_trap CASCADE;
DROP TABLE pg_temp.bulkhead_definitions;
RESET client_min_messages;
SELECT resilience.drop_bulkhead(name) FROM resilience.bulkheads ORDER BY name;

--
-- Priority: a plain user can lower it, never raise it.
--
SET SESSION AUTHORIZATION regress_priv_plain;
SELECT resilience.my_priority();
\set VERBOSITY sqlstate
SET resilience.priority = 'high';
SET resilience.priority = 'low';
SET LOCAL resilience.priority = 'critical';
SET resilience.priority TO DEFAULT;
RESET resilience.priority;
SELECT set_config('resilience.priority', 'critical', false);
UPDATE pg_settings SET setting = 'critical' WHERE name = 'resilience.priority';
ALTER ROLE regress_priv_plain SET resilience.priority = 'critical';
ALTER ROLE CURRENT_USER SET resilience.priority = 'critical';
ALTER ROLE regress_priv_plain SET resilience.priority FROM CURRENT;
DO $$ BEGIN
	EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET resilience.priority = ''critical''', current_database());
END $$;
DO $$ BEGIN
	EXECUTE format('ALTER DATABASE %I SET resilience.priority = ''critical''', current_database());
END $$;
ALTER SYSTEM SET resilience.priority = 'critical';
CREATE FUNCTION pg_temp.raise() RETURNS text LANGUAGE sql SET resilience.priority = 'critical'
AS 'SELECT resilience.my_priority()';
DO $$ BEGIN
	SET LOCAL resilience.priority = 'critical';
END $$;
BEGIN;
SAVEPOINT s;
SET LOCAL resilience.priority = 'critical';
ROLLBACK;
-- nor switch the limits off
SET resilience.mode = 'off';
SET resilience.max_wait = '1h';
ALTER ROLE regress_priv_plain SET resilience.mode = 'off';
\set VERBOSITY default
SHOW resilience.priority;
SHOW resilience.mode;
SELECT resilience.my_priority();

-- lower: for the session, a transaction, a function, from now on
SET resilience.requested_priority = 'low';
SELECT resilience.my_priority();
BEGIN;
SET LOCAL resilience.requested_priority = 'high';
SELECT resilience.my_priority();
ROLLBACK;
SELECT resilience.my_priority();
SELECT set_config('resilience.requested_priority', 'critical', false);
SELECT resilience.my_priority();
CREATE FUNCTION pg_temp.lower() RETURNS text LANGUAGE sql SET resilience.requested_priority = 'low'
AS 'SELECT resilience.my_priority()';
SELECT pg_temp.lower(), resilience.my_priority();
ALTER ROLE regress_priv_plain SET resilience.requested_priority = 'low';
RESET SESSION AUTHORIZATION;
\c - regress_priv_plain
SELECT resilience.my_priority();
SET resilience.requested_priority = 'critical';
SELECT resilience.my_priority();
ALTER ROLE regress_priv_plain RESET resilience.requested_priority;
\c - :admin

-- What the administrator has set for the role stays: the user cannot reset
-- it, and what it asks for counts only if it is lower.
ALTER ROLE regress_priv_plain SET resilience.priority = 'low';
\c - regress_priv_plain
SELECT resilience.my_priority();
SET resilience.requested_priority = 'critical';
SELECT resilience.my_priority();
RESET ALL;
SELECT resilience.my_priority();
DISCARD ALL;
SELECT resilience.my_priority();
ALTER ROLE regress_priv_plain RESET ALL;
\set VERBOSITY sqlstate
ALTER ROLE regress_priv_plain RESET resilience.priority;
\set VERBOSITY default
\c -
SELECT resilience.my_priority();
\c - :admin
ALTER ROLE regress_priv_plain SET resilience.priority = 'high';
\c - regress_priv_plain
SELECT resilience.my_priority();
SET resilience.requested_priority = 'normal';
SELECT resilience.my_priority();
\c - :admin
ALTER ROLE regress_priv_plain RESET resilience.priority;

-- a function of the administrator that raises it for its work
CREATE FUNCTION regress_priv_raise() RETURNS text LANGUAGE sql SECURITY DEFINER
SET resilience.priority = 'critical' AS 'SELECT resilience.my_priority()';
SET SESSION AUTHORIZATION regress_priv_plain;
SELECT resilience.my_priority(), regress_priv_raise(), resilience.my_priority();
RESET SESSION AUTHORIZATION;
DROP FUNCTION regress_priv_raise();

-- whoever is granted SET may raise it: in the session and for the role
GRANT SET ON PARAMETER resilience.priority TO regress_priv_plain;
SET SESSION AUTHORIZATION regress_priv_plain;
SET resilience.priority = 'critical';
SELECT resilience.my_priority();
ALTER ROLE regress_priv_plain SET resilience.priority = 'high';
RESET SESSION AUTHORIZATION;
\c - regress_priv_plain
SELECT resilience.my_priority();
\c - :admin
-- and no longer when it is revoked
REVOKE SET ON PARAMETER resilience.priority FROM regress_priv_plain;
SET SESSION AUTHORIZATION regress_priv_plain;
\set VERBOSITY sqlstate
SET resilience.priority = 'critical';
\set VERBOSITY default
RESET SESSION AUTHORIZATION;

DROP OWNED BY regress_priv_grantee;
DROP ROLE regress_priv_plain;
DROP ROLE regress_priv_monitor;
DROP ROLE regress_priv_grantee;
DROP ROLE regress_priv_app;
