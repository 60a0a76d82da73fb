-- Runaway rules: functions, views, errors
\set VERBOSITY default
SET timezone = 'UTC';
CREATE ROLE regress_runaway;
CREATE ROLE regress_other;

-- defaults
SELECT resilience.create_runaway_rule('plain', max_duration => '5 s');
SELECT * FROM resilience.runaway_rules \gx

-- all arguments
SELECT resilience.create_runaway_rule('all', role_name => 'regress_runaway', database_name => current_database(),
	application_name => 'x-%', client_address => '10.0.0.0/8', tag => 'route=/report', query_id => -17, command => 'select',
	max_duration => '1 min', max_cpu => '10 s', max_temp_bytes => 1000000000, max_rows_estimate => 1e6,
	action => 'QUARANTINE', quarantine_duration => '1 hour', quarantine_max_running => 2, mode => 'Observe',
	expires_at => '2100-01-01 00:00:00+00');
SELECT role_name, application_name, client_address, tag, query_id, command, max_duration, max_cpu, max_temp_bytes,
	max_rows_estimate, action, quarantine_duration, quarantine_max_running, mode, expires_at
	FROM resilience.runaway_rules WHERE name = 'all' \gx
SELECT resilience.alter_runaway_rule('all', max_cpu => '0', max_temp_bytes => -1, action => 'cancel');
SELECT max_duration, max_cpu, max_temp_bytes, max_rows_estimate, action, mode FROM resilience.runaway_rules WHERE name = 'all';

-- transactional
BEGIN;
SELECT resilience.create_runaway_rule('gone', max_cpu => '1 s');
SELECT name, hits_total FROM resilience.runaway_rules ORDER BY name;
ROLLBACK;
SELECT name, hits_total FROM resilience.runaway_rules ORDER BY name;

-- errors
SELECT resilience.create_runaway_rule('plain', max_duration => '5 s');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule(NULL, max_duration => '5 s');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('', max_duration => '5 s');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '0', max_temp_bytes => -1);
\echo :SQLSTATE
SELECT resilience.alter_runaway_rule('plain', max_duration => '0');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '-1 s');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '0.1 ms');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_cpu => '31 days');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_temp_bytes => -2);
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_rows_estimate => 'NaN');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', action => 'kill');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', mode => 'maybe');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', quarantine_duration => '0');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', quarantine_max_running => -1);
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', role_name => 'regress_nobody');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', database_name => 'regress_nowhere');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', command => 'JUMP');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', query_id => 0);
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', tag => '=v');
\echo :SQLSTATE
SELECT resilience.create_runaway_rule('x', max_duration => '5 s', expires_at => '2000-01-01');
\echo :SQLSTATE
SELECT resilience.alter_runaway_rule('nobody', max_duration => '5 s');
\echo :SQLSTATE
SELECT resilience.drop_runaway_rule('nobody');
\echo :SQLSTATE
SELECT resilience.drop_runaway_rule('nobody', if_exists => true);
DROP ROLE regress_runaway;
\echo :SQLSTATE
INSERT INTO resilience.runaway_rule_definitions (name) VALUES ('dml');
\echo :SQLSTATE
BEGIN;
SELECT resilience.create_runaway_rule('many' || n, max_duration => '1 s') FROM generate_series(1, 31) n \g /dev/null
COMMIT;
\echo :SQLSTATE
SELECT count(*) FROM resilience.runaway_rules;

-- quarantine
SELECT * FROM resilience.quarantine;
SELECT resilience.release_quarantine(17);
SELECT resilience.release_quarantine(NULL);

-- privileges
GRANT EXECUTE ON FUNCTION resilience.create_runaway_rule, resilience.drop_runaway_rule TO regress_other;
SET ROLE regress_other;
SELECT resilience.create_runaway_rule('granted', max_duration => '1 s');
SELECT resilience.create_runaway_rule('everywhere', max_duration => '1 s', database_name => '*');
\echo :SQLSTATE
SELECT resilience.alter_runaway_rule('granted', max_duration => '2 s');
\echo :SQLSTATE
SELECT resilience.release_quarantine(17);
\echo :SQLSTATE
SELECT * FROM resilience.quarantine;
\echo :SQLSTATE
SELECT count(*) FROM resilience.runaway_rule_definitions;
\echo :SQLSTATE
RESET ROLE;
SET ROLE pg_monitor;
SELECT name FROM resilience.runaway_rules ORDER BY name;
SELECT count(*) FROM resilience.quarantine;
RESET ROLE;

-- an estimate that is refused: not for superusers
SELECT resilience.create_runaway_rule('rows', role_name => 'regress_other', max_rows_estimate => 100, action => 'cancel');
SELECT count(*) FROM (SELECT generate_series(1, 1000) OFFSET 0) x;

SELECT resilience.drop_runaway_rule(name) FROM resilience.runaway_rules ORDER BY name \g /dev/null
SELECT count(*) FROM resilience.runaway_rules;
REVOKE ALL ON FUNCTION resilience.create_runaway_rule, resilience.drop_runaway_rule FROM regress_other;
DROP ROLE regress_runaway, regress_other;
