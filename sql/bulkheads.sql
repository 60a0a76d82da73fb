--
-- Bulkheads as objects: create, alter, drop, the view; transactions; the
-- table behind them.
--
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE ROLE regress_bh_app;
CREATE ROLE regress_bh_batch;

-- the columns of the view
SELECT attname, format_type(atttypid, atttypmod)
FROM pg_attribute WHERE attrelid = 'resilience.bulkheads'::regclass AND attnum > 0 ORDER BY attnum;

-- Nothing given: a compartment for the whole database that limits nothing.
SELECT resilience.create_bulkhead('plain');
SELECT database_name = current_database() AS here FROM resilience.bulkheads;
-- this session is in it, with one transaction so far and one now
\x
SELECT role_name, application_name, client_address, command, max_connections, max_running,
	max_waiting, max_wait, priority, mode, expires_at, connections, running, waiting,
	admitted_total, refused_connections_total, refused_statements_total, timed_out_total,
	preempted_total, wait_seconds_total
FROM resilience.bulkheads;

-- Everything given, in a spelling of its own.
SELECT resilience.create_bulkhead('full', role_name => 'regress_bh_app',
	database_name => '*', application_name => 'pg\_%', client_address => '10.1.0.0/16',
	command => 'insert', max_running => 4, max_waiting => 16, max_wait => '2500 ms',
	priority => 'LOW', mode => 'Observe', expires_at => '2999-12-31 23:59:59+00');
SELECT * FROM resilience.bulkheads WHERE name = 'full';
\x

-- NULL for a limit is its default, as if it were left out.
SELECT resilience.create_bulkhead('nulls', max_connections => NULL, max_running => NULL,
	max_waiting => NULL, max_wait => NULL, mode => NULL);
SELECT name, max_connections, max_running, max_waiting, max_wait, mode
FROM resilience.bulkheads ORDER BY name;

-- the arguments are in the order of the interface
SELECT resilience.create_bulkhead('ordered', 'regress_bh_app', current_database(), 'app',
	'::1/128', NULL, NULL, NULL, 5, 6, 7, '8 s', 'high', 'off', 'infinity');
SELECT name, role_name, database_name = current_database() AS here, application_name,
	client_address, command, max_connections, max_running, max_waiting, max_wait, priority,
	mode, expires_at
FROM resilience.bulkheads WHERE name = 'ordered';

-- names that need quotes, and one of the greatest length
SELECT resilience.create_bulkhead('It''s a "name", ünï');
SELECT resilience.create_bulkhead(repeat('x', 63));
SELECT name, running FROM resilience.bulkheads WHERE name NOT SIMILAR TO '[a-z]{1,10}' ORDER BY name;
SELECT resilience.drop_bulkhead('It''s a "name", ünï');
SELECT resilience.drop_bulkhead(repeat('x', 63));

--
-- ALTER: NULL leaves as it is
--
SELECT resilience.alter_bulkhead('full');
SELECT role_name, database_name, application_name, client_address, command, max_running,
	max_waiting, max_wait, priority, mode, expires_at
FROM resilience.bulkheads WHERE name = 'full';
SELECT resilience.alter_bulkhead('full', max_running => 9);
SELECT resilience.alter_bulkhead('full', max_wait => '3 s', priority => 'critical');
SELECT role_name, database_name, application_name, client_address, command, max_running,
	max_waiting, max_wait, priority, mode, expires_at
FROM resilience.bulkheads WHERE name = 'full';
SELECT resilience.alter_bulkhead('full', role_name => 'regress_bh_batch',
	database_name => current_database(), application_name => 'other', client_address => '127.0.0.1',
	command => 'DDL', max_running => 1, max_waiting => 2, max_wait => '3 s',
	priority => 'normal', mode => 'off', expires_at => '2888-01-01 00:00+00');
SELECT role_name, database_name = current_database() AS here, application_name, client_address,
	command, max_running, max_waiting, max_wait, priority, mode, expires_at
FROM resilience.bulkheads WHERE name = 'full';
-- max_connections, where no command is in the way
SELECT resilience.alter_bulkhead('plain', max_connections => 0, role_name => 'regress_bh_app');
SELECT name, max_connections, max_running FROM resilience.bulkheads WHERE name = 'plain';

--
-- Errors: a name in use, one that is not
--
SELECT resilience.create_bulkhead('plain');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('nobody', max_running => 1);
\echo :SQLSTATE
SELECT resilience.drop_bulkhead('nobody');
\echo :SQLSTATE
SET client_min_messages = notice;
SELECT resilience.drop_bulkhead('nobody', if_exists => true);
SELECT resilience.drop_bulkhead('nobody', NULL);
SELECT resilience.drop_bulkhead('nulls', if_exists => true);
SET client_min_messages = warning;
-- names are case-sensitive
SELECT resilience.drop_bulkhead('PLAIN');
SELECT name FROM resilience.bulkheads ORDER BY name;

--
-- Transactions.  What is in force is what my_bulkheads() says: a session
-- looks at it when a transaction begins.
--
\set in_force 'SELECT ARRAY(SELECT unnest(resilience.my_bulkheads()) ORDER BY 1) AS in_force;'
SELECT resilience.drop_bulkhead('full');
SELECT resilience.drop_bulkhead('plain');
SELECT resilience.drop_bulkhead('ordered');
:in_force

-- not before COMMIT; the view shows what is not in force without numbers
BEGIN;
SELECT resilience.create_bulkhead('a', max_running => 5);
SELECT name, max_running, running, admitted_total FROM resilience.bulkheads;
:in_force
COMMIT;
SELECT name, max_running, running, admitted_total >= 0 AS counts FROM resilience.bulkheads;
:in_force

-- rollback
BEGIN;
SELECT resilience.create_bulkhead('b');
SELECT resilience.alter_bulkhead('a', max_running => 50);
SELECT resilience.drop_bulkhead('a');
ROLLBACK;
SELECT name, max_running FROM resilience.bulkheads;
:in_force

-- a transaction that fails
BEGIN;
SELECT resilience.create_bulkhead('b');
SELECT 1/0;
COMMIT;
:in_force

-- a savepoint that is rolled back, between two changes that stay
BEGIN;
SELECT resilience.create_bulkhead('b');
SAVEPOINT s;
SELECT resilience.drop_bulkhead('b');
SELECT resilience.create_bulkhead('c');
SELECT resilience.alter_bulkhead('a', max_running => 50);
ROLLBACK TO s;
SELECT resilience.create_bulkhead('d');
COMMIT;
SELECT name, max_running FROM resilience.bulkheads ORDER BY name;
:in_force

-- only a savepoint that is rolled back
BEGIN;
SAVEPOINT s;
SELECT resilience.create_bulkhead('e');
ROLLBACK TO s;
COMMIT;
:in_force

-- an exception block is a savepoint
DO $$
BEGIN
	PERFORM resilience.create_bulkhead('e');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	PERFORM resilience.create_bulkhead('f');
END $$;
:in_force

-- several changes in one transaction: the last word counts
BEGIN;
SELECT resilience.drop_bulkhead('a');
SELECT resilience.create_bulkhead('a', max_running => 1);
SELECT resilience.alter_bulkhead('a', max_running => 2);
SELECT resilience.alter_bulkhead('a', max_running => 3);
SELECT resilience.drop_bulkhead('b');
SELECT resilience.create_bulkhead('g');
SELECT resilience.drop_bulkhead('g');
COMMIT;
SELECT name, max_running FROM resilience.bulkheads ORDER BY name;
:in_force

-- whatever the transaction itself sees of others
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM resilience.bulkheads;
SELECT resilience.create_bulkhead('g');
SELECT resilience.drop_bulkhead('d');
COMMIT;
:in_force
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM resilience.bulkheads;
SELECT resilience.drop_bulkhead('g');
SELECT resilience.create_bulkhead('d');
COMMIT;
:in_force

-- changes of one transaction and one statement: all or nothing
SELECT resilience.create_bulkhead(n) FROM unnest(ARRAY['h', 'i', 'a']) n;
:in_force

-- a procedure that commits between two changes
DO $$
BEGIN
	PERFORM resilience.create_bulkhead('h');
	COMMIT;
	PERFORM resilience.create_bulkhead('i');
	ROLLBACK;
END $$;
:in_force

-- two phases cannot do it: the second may come from anywhere, at any time
BEGIN;
SELECT resilience.create_bulkhead('i');
PREPARE TRANSACTION 'regress_bh';
\echo :SQLSTATE
-- (it would be in everybody's way)
ROLLBACK PREPARED 'regress_bh';
:in_force

-- read only
BEGIN READ ONLY;
SELECT resilience.drop_bulkhead('h');
\echo :SQLSTATE
ROLLBACK;

--
-- The table behind the functions: what is written there is in force, too,
-- and obeys the same rules.
--
INSERT INTO resilience.bulkhead_definitions (name, max_running) VALUES ('dml', 3);
SELECT name, max_running, running FROM resilience.bulkheads WHERE name = 'dml';
SELECT 'dml' = ANY (resilience.my_bulkheads());
UPDATE resilience.bulkhead_definitions SET name = 'renamed' WHERE name = 'dml';
:in_force
INSERT INTO resilience.bulkhead_definitions (name, max_running) VALUES ('renamed', 3);
\echo :SQLSTATE
INSERT INTO resilience.bulkhead_definitions (name) VALUES ('');
INSERT INTO resilience.bulkhead_definitions (name) VALUES (NULL);
INSERT INTO resilience.bulkhead_definitions (name) VALUES (repeat('x', 64));
INSERT INTO resilience.bulkhead_definitions (name, max_running) VALUES ('bad', -2);
INSERT INTO resilience.bulkhead_definitions (name, max_waiting) VALUES ('bad', 262144);
INSERT INTO resilience.bulkhead_definitions (name, max_wait) VALUES ('bad', '-1 s');
INSERT INTO resilience.bulkhead_definitions (name, priority) VALUES ('bad', 'urgent');
INSERT INTO resilience.bulkhead_definitions (name, mode) VALUES ('bad', 'on');
INSERT INTO resilience.bulkhead_definitions (name, command) VALUES ('bad', 'TRUNCATE');
INSERT INTO resilience.bulkhead_definitions (name, command, max_connections) VALUES ('bad', 'SELECT', 1);
INSERT INTO resilience.bulkhead_definitions (name, application_name) VALUES ('bad', 'trailing\');
UPDATE resilience.bulkhead_definitions SET max_connections = -7 WHERE name = 'renamed';
UPDATE resilience.bulkhead_definitions SET name = '' WHERE name = 'renamed';
-- neither does a way around triggers help
SET session_replication_role = replica;
INSERT INTO resilience.bulkhead_definitions (name, max_running) VALUES ('bad', -2);
INSERT INTO resilience.bulkhead_definitions (name, max_running) VALUES ('replicated', 2);
RESET session_replication_role;
:in_force
-- a restore comes by COPY
COPY resilience.bulkhead_definitions (name, max_running) FROM stdin;
copied	12
\.
:in_force
COPY resilience.bulkhead_definitions (name, max_running) FROM stdin;
half done	12
bad	-12
\.
DELETE FROM resilience.bulkhead_definitions WHERE name IN ('copied', 'replicated');
:in_force
BEGIN;
TRUNCATE resilience.bulkhead_definitions;
ROLLBACK;
SELECT cardinality(resilience.my_bulkheads());
TRUNCATE resilience.bulkhead_definitions;
:in_force
SELECT count(*) FROM resilience.bulkheads;

--
-- Expiry: the bulkhead stays, its limits end.
--
SELECT resilience.create_bulkhead('ends', role_name => 'regress_bh_app', max_running => 0,
	expires_at => clock_timestamp() + interval '1 h');
SELECT resilience.create_bulkhead('ends, too', max_running => 100);
SET SESSION AUTHORIZATION regress_bh_app;
SELECT 'not yet';
RESET SESSION AUTHORIZATION;
SELECT resilience.alter_bulkhead(name, expires_at => now() + interval '1 s')
FROM resilience.bulkheads;
-- whoever ends it gives back the connections, too
DO $$
BEGIN
	FOR i IN 1..6000 LOOP
		EXIT WHEN (SELECT sum(connections) FROM resilience.bulkheads) = 0;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
:in_force
SET SESSION AUTHORIZATION regress_bh_app;
SELECT 'now it may';
RESET SESSION AUTHORIZATION;
SELECT name, connections, running FROM resilience.bulkheads ORDER BY name;
SELECT resilience.drop_bulkhead('ends, too');
-- a new time puts it into force again
SELECT resilience.alter_bulkhead('ends', expires_at => 'infinity');
SET SESSION AUTHORIZATION regress_bh_app;
SELECT 'not again';
RESET SESSION AUTHORIZATION;

--
-- A role that a bulkhead names: it can be renamed, and dropped only after
-- the bulkhead.
--
ALTER ROLE regress_bh_app RENAME TO regress_bh_app2;
SELECT name, role_name FROM resilience.bulkheads;
SET SESSION AUTHORIZATION regress_bh_app2;
SELECT 'not under another name either';
RESET SESSION AUTHORIZATION;
\set VERBOSITY terse
DROP ROLE regress_bh_app2;
\set VERBOSITY default
\echo :SQLSTATE
-- both in one transaction
BEGIN;
SELECT resilience.drop_bulkhead('ends');
DROP ROLE regress_bh_app2;
COMMIT;
SELECT rolname FROM pg_roles WHERE rolname LIKE 'regress\_bh\_%' ORDER BY 1;
DROP ROLE regress_bh_batch;
