--
-- Bad input: each rule with its SQLSTATE, DETAIL and HINT; nothing half done.
--
SET timezone = 'UTC';
\set SHOW_CONTEXT never
CREATE ROLE regress_bad_app;
SELECT resilience.create_bulkhead('good', role_name => 'regress_bad_app', max_connections => 10,
	max_running => 5);
CREATE TEMP TABLE before AS SELECT * FROM resilience.bulkhead_definitions;

-- names
SELECT resilience.create_bulkhead(NULL);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('');
\echo :SQLSTATE
SELECT resilience.create_bulkhead(repeat('x', 64));
\echo :SQLSTATE
-- bytes count, not characters
SELECT resilience.create_bulkhead(repeat('ü', 32));
\echo :SQLSTATE
SELECT resilience.alter_bulkhead(NULL);
\echo :SQLSTATE
SELECT resilience.drop_bulkhead(NULL);
\echo :SQLSTATE

-- role and database
SELECT resilience.create_bulkhead('bad', role_name => 'regress_nobody');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', role_name => '');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', role_name => 'public');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', database_name => 'regress_nowhere');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', database_name => '');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('good', role_name => 'regress_nobody');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('good', database_name => 'regress_nowhere');
\echo :SQLSTATE

-- application_name is a LIKE pattern
SELECT resilience.create_bulkhead('pattern', application_name => '');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('pattern', application_name => repeat('%', 128));
\echo :SQLSTATE
SELECT resilience.create_bulkhead('pattern', application_name => 'app\');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('pattern', application_name => '\');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('pattern', application_name => '\\\');
\echo :SQLSTATE
-- an escaped backslash is one
SELECT resilience.create_bulkhead('backslash', application_name => 'app\\', max_running => 1);
SELECT resilience.drop_bulkhead('backslash');
SELECT resilience.create_bulkhead('longest', application_name => repeat('%', 127), max_running => 1);
SELECT resilience.drop_bulkhead('longest');

-- client_address
SELECT resilience.create_bulkhead('bad', client_address => 'localhost');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', client_address => '10.1.2.3/8');
\echo :SQLSTATE

-- limits
SELECT resilience.create_bulkhead('bad', max_connections => -2);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_running => -2);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_running => -2147483648);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_waiting => -2);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_connections => 262144);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_running => 2147483647);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_waiting => 262144);
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('good', max_running => -2);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('largest', role_name => 'regress_bad_app', max_connections => 262143,
	max_running => 262143, max_waiting => 262143, max_wait => '1 h');
SELECT resilience.drop_bulkhead('largest');

-- times
SELECT resilience.create_bulkhead('bad', max_wait => '-1 ms');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_wait => '1 h 1 ms');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_wait => '1 month');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_wait => '100000000 years');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', expires_at => '2020-02-02 02:02:02+00');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', expires_at => '-infinity');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('good', expires_at => '2020-02-02 02:02:02+00');
\echo :SQLSTATE

-- words
SELECT resilience.create_bulkhead('bad', command => 'TRUNCATE');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', command => '');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', priority => 'urgent');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', mode => 'on');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('good', priority => '');
\echo :SQLSTATE

-- contradictions
SELECT resilience.create_bulkhead('bad', max_connections => 5, command => 'SELECT');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_connections => 0, command => 'SELECT');
\echo :SQLSTATE
SELECT resilience.alter_bulkhead('good', command => 'SELECT');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_connections => 5, tag => 'tenant');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_connection_rate => 5, query_id => 7);
\echo :SQLSTATE
-- conditions on the statement
SELECT resilience.create_bulkhead('bad', tag => '');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', tag => '=acme');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', tag => repeat('k', 64));
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', tag => 'tenant=' || repeat('v', 64));
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', query_id => 0);
\echo :SQLSTATE
-- budgets and rates
SELECT resilience.create_bulkhead('bad', max_connection_rate => -2);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', cpu_share => 1.5);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', cpu_share => 'NaN');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', cpu_share => 0.5, cpu_burst => '0');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', cpu_share => 0.5, cpu_burst => '2 hours');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_statement_cost => 'Infinity');
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', max_rate => 1e7);
\echo :SQLSTATE
SELECT resilience.create_bulkhead('bad', auto_revert_refusal_rate => 0);
\echo :SQLSTATE

-- arguments of another type
SELECT resilience.create_bulkhead('bad', max_running => 'many');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT resilience.create_bulkhead('bad', max_runing => 1);
\set VERBOSITY default
\echo :SQLSTATE

-- The functions of the triggers are no others' tools.
SELECT resilience.bulkhead_definitions_check();
\echo :SQLSTATE
CREATE TEMP TABLE mine (name text);
CREATE TRIGGER after AFTER INSERT ON mine
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_check();
INSERT INTO mine VALUES ('x');
\echo :SQLSTATE

-- Nothing of all this has left a trace.
SELECT * FROM resilience.bulkhead_definitions EXCEPT SELECT * FROM before;
SELECT * FROM before EXCEPT SELECT * FROM resilience.bulkhead_definitions;
SELECT name, running FROM resilience.bulkheads;

--
-- To lock out everybody is allowed, with a warning; superusers get in to
-- undo it.
--
\set VERBOSITY default
SELECT resilience.create_bulkhead('nobody''s', max_running => 0);
SELECT resilience.drop_bulkhead('nobody''s');
SELECT resilience.create_bulkhead('all', database_name => '*', max_connections => 0);
SELECT resilience.drop_bulkhead('all');
-- a narrower one needs none, nor does one that refuses nobody
SELECT resilience.create_bulkhead('narrow', role_name => 'regress_bad_app', max_running => 0);
SELECT resilience.create_bulkhead('commands', command => 'COPY', max_running => 0);
SELECT resilience.create_bulkhead('apps', application_name => 'batch%', max_running => 0);
SELECT resilience.create_bulkhead('addresses', client_address => '10.0.0.0/8', max_connections => 0);
SELECT resilience.create_bulkhead('observed', max_running => 0, mode => 'observe');
SELECT resilience.create_bulkhead('off', max_connections => 0, mode => 'off');
SELECT resilience.create_bulkhead('one', max_connections => 1, max_running => 1);
-- changed to that effect
SELECT resilience.alter_bulkhead('one', max_running => 0);
SELECT resilience.alter_bulkhead('narrow', max_running => 0);
SELECT resilience.alter_bulkhead('observed', mode => 'enforce');
SELECT resilience.drop_bulkhead(name) FROM resilience.bulkheads WHERE name <> 'good' ORDER BY name;

--
-- Room for resilience.max_bulkheads and no more: refused at COMMIT, before
-- anything is in force.
--
SHOW resilience.max_bulkheads;
SELECT count(resilience.create_bulkhead('b' || i)) FROM generate_series(1, 128) i;
\echo :SQLSTATE
SELECT count(*) FROM resilience.bulkheads;
SELECT resilience.my_bulkheads();
SELECT count(resilience.create_bulkhead('b' || i, role_name => 'regress_bad_app'))
FROM generate_series(1, 127) i;
SELECT count(*), count(running) FROM resilience.bulkheads;
SELECT resilience.create_bulkhead('too many');
\echo :SQLSTATE
-- in a transaction block COMMIT fails, and all of it is undone
BEGIN;
SELECT resilience.alter_bulkhead('good', max_running => 77);
SELECT resilience.create_bulkhead('too many');
COMMIT;
\echo :SQLSTATE
SELECT max_running FROM resilience.bulkheads WHERE name = 'good';
-- one for another is possible
BEGIN;
SELECT resilience.drop_bulkhead('b1');
SELECT resilience.create_bulkhead('instead');
COMMIT;
SELECT count(*), count(running) FROM resilience.bulkheads;
-- so is changing them
SELECT resilience.alter_bulkhead('good', max_running => 6);
SELECT resilience.my_bulkheads();
-- all go and all come again, with room for draining ones in between
SELECT count(resilience.drop_bulkhead(name)) FROM resilience.bulkheads;
SELECT count(resilience.create_bulkhead('b' || i)) FROM generate_series(1, 128) i;
-- a session cannot pass more than 16 of them; the others do not hold for it
-- (which is counted each time that its list is made)
SELECT cardinality(resilience.my_bulkheads());
SELECT unmatched_total > 0 AS told FROM resilience.load_shedder;
SELECT count(resilience.drop_bulkhead(name)) FROM resilience.bulkheads;
SELECT resilience.my_bulkheads();

DROP ROLE regress_bad_app;
