--
-- Chaos experiments: definitions, errors, view
--
\set VERBOSITY default
CREATE ROLE regress_chaos_app;
CREATE ROLE regress_chaos_boss SUPERUSER;
CREATE TABLE chaos_t (i int PRIMARY KEY);
CREATE EXTENSION postgres_fdw;
CREATE SERVER chaos_server FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere');

-- what is wrong is said, and nothing is kept
SELECT resilience.create_experiment('a', 'boom');
SELECT resilience.create_experiment('a', NULL);
SELECT resilience.create_experiment(NULL, 'error');
SELECT resilience.create_experiment('', 'error');
SELECT resilience.create_experiment('a', 'error', probability => 1.5);
SELECT resilience.create_experiment('a', 'error', probability => -0.1);
SELECT resilience.create_experiment('a', 'error', probability => 'NaN');
SELECT resilience.create_experiment('a', 'error', sqlstate => 'nope!');
SELECT resilience.create_experiment('a', 'error', sqlstate => '4000');
SELECT resilience.create_experiment('a', 'error', sqlstate => '00000');
SELECT resilience.create_experiment('a', 'error', sqlstate => '01000');
SELECT resilience.create_experiment('a', 'error', sqlstate => 'ZZ000');
SELECT resilience.create_experiment('a', 'latency');
SELECT resilience.create_experiment('a', 'latency', delay => '0');
SELECT resilience.create_experiment('a', 'latency', delay => '61 min');
SELECT resilience.create_experiment('a', 'lock_delay', delay => '-1 s');
SELECT resilience.create_experiment('a', 'latency', delay => '1 s', variance => '-1 s');
SELECT resilience.create_experiment('a', 'error', variance => '1 s');
SELECT resilience.create_experiment('a', 'latency', delay => '1 s', variance => '2 s', distribution => 'uniform');
SELECT resilience.create_experiment('a', 'latency', delay => '1 s', distribution => 'gauss');
SELECT resilience.create_experiment('a', 'latency', delay => '1 s', sqlstate => '40001');
SELECT resilience.create_experiment('a', 'error', max_duration => NULL);
SELECT resilience.create_experiment('a', 'error', max_duration => '0');
SELECT resilience.create_experiment('a', 'error', max_duration => '25 hours');
SELECT resilience.create_experiment('a', 'error', max_injections => 0);
SELECT resilience.create_experiment('a', 'error', max_injections => -1);
SELECT resilience.create_experiment('a', 'error', max_concurrent => 0);
SELECT resilience.create_experiment('a', 'error', role_name => 'regress_chaos_boss');
SELECT resilience.create_experiment('a', 'error', role_name => 'nobody');
SELECT resilience.create_experiment('a', 'error', database_name => 'nowhere');
SELECT resilience.create_experiment('a', 'error', command => 'VACUUM FULL');
SELECT resilience.create_experiment('a', 'error', query_id => 0);
SELECT resilience.create_experiment('a', 'error', server => 'chaos_server');
SELECT resilience.create_experiment('a', 'foreign_error', server => 'nix');
SELECT resilience.create_experiment('a', 'error', relation => 'pg_class');
SELECT resilience.create_experiment('a', 'error', relation => 'nix');
SELECT resilience.create_experiment('a', 'connection_refused', relation => 'chaos_t');
SELECT resilience.create_experiment('a', 'connection_refused', command => 'SELECT');
SELECT resilience.create_experiment('a', 'connection_refused', tag => 'a=b');
SELECT resilience.create_experiment('a', 'error', schedule_end => '2100-01-01');
SELECT resilience.create_experiment('a', 'error', schedule_interval => '1 day');
SELECT resilience.create_experiment('a', 'error', schedule_start => '2100-01-02 UTC', schedule_end => '2100-01-01 UTC');
SELECT resilience.create_experiment('a', 'error', schedule_start => '2000-01-01 UTC', schedule_end => '2000-01-02 UTC');
SELECT resilience.create_experiment('a', 'error', schedule_start => 'infinity');
SELECT resilience.create_experiment('a', 'error', schedule_start => '2100-01-01 UTC', schedule_interval => '1 min');
SELECT resilience.create_experiment('a', 'error', stop_condition => 'SELECT 1');
SELECT resilience.create_experiment('a', 'error', stop_condition => 'SELECT true; SELECT true');
SELECT resilience.create_experiment('a', 'error', stop_condition => 'DELETE FROM chaos_t');
SELECT resilience.create_experiment('a', 'error', stop_condition => 'SELECT true FROM public.nix');
SELECT count(*) FROM resilience.experiments;

-- every kind of it
SELECT resilience.create_experiment('latency', 'LATENCY', 0.5, '200 ms', '50 ms', role_name => 'regress_chaos_app', relation => 'chaos_t');
SELECT resilience.create_experiment('disk', 'error', sqlstate => '53100', command => 'insert');
SELECT resilience.create_experiment('refuse', 'connection_refused', application_name => 'batch-%');
SELECT resilience.create_experiment('foreign', 'foreign_error', server => 'chaos_server', max_duration => '10 min', max_injections => 100,
	stop_condition => 'SELECT count(*) > 3 FROM public.chaos_t', stop_when_unhealthy => false);
SELECT resilience.create_experiment('nightly', 'terminate', schedule_start => '2100-01-01 03:00 UTC', schedule_interval => '1 day', max_duration => '1 min');
SELECT resilience.create_experiment('disk', 'error');
SELECT name, impact, probability, delay, variance, distribution, sqlstate, role_name, application_name, server, relation, command
FROM resilience.experiments ORDER BY name;
SELECT name, max_injections, max_concurrent, max_duration, schedule_interval, stop_when_unhealthy, stop_condition, state,
	injections_total, overflowed_total, started_total, started_at, ended_at, stop_reason, phase, injections, ends_at, next_start AT TIME ZONE 'UTC' AS next_start
FROM resilience.experiments ORDER BY name;

-- changes
SELECT resilience.alter_experiment('disk', probability => 1, sqlstate => '53200');
SELECT resilience.alter_experiment('disk', delay => '2 hours');
SELECT resilience.alter_experiment('nix', probability => 1);
BEGIN;
SELECT resilience.alter_experiment('disk', probability => 0.25);
ROLLBACK;
SELECT probability, sqlstate FROM resilience.experiments WHERE name = 'disk';
UPDATE resilience.experiment_definitions SET probability = 7 WHERE name = 'disk';
DROP ROLE regress_chaos_app;

-- without the lever nothing starts
SELECT resilience.start_experiment('disk');
SELECT resilience.start_experiment('nix');
SELECT resilience.start_experiment('disk', baseline => '2 hours');
SELECT resilience.stop_experiment('disk');
SELECT resilience.stop_experiment('nix');
SELECT resilience.stop_all_experiments();
SELECT can_start, message FROM resilience.preview_experiment('latency');
SELECT can_start, message FROM resilience.preview_experiment('refuse');
SELECT can_start, message FROM resilience.preview_experiment('foreign');
SELECT resilience.preview_experiment('nix');
SELECT resilience.drop_experiment('nix');
SELECT resilience.drop_experiment('nix', if_exists => true);

-- what an experiment names is dropped: it is not in force any more
DROP TABLE chaos_t;
SELECT name, relation, state FROM resilience.experiments WHERE name IN ('latency', 'disk') ORDER BY name;
SELECT resilience.start_experiment('latency');
SELECT resilience.alter_experiment('latency', probability => 0.1);
CREATE TABLE chaos_u (i int);
SELECT resilience.alter_experiment('latency', relation => 'chaos_u');
BEGIN;
DROP TABLE chaos_u;
ROLLBACK;
SELECT name, relation, state FROM resilience.experiments WHERE name = 'latency';
BEGIN;
SELECT resilience.alter_experiment('disk', relation => 'chaos_u');
DROP TABLE chaos_u;
COMMIT;
SELECT name, relation, state FROM resilience.experiments WHERE name IN ('latency', 'disk') ORDER BY name;

-- a server that gets another name has it here, too; one that is dropped is gone
ALTER SERVER chaos_server RENAME TO chaos_server_2;
SELECT name, server, state FROM resilience.experiments WHERE name = 'foreign';
DROP SERVER chaos_server_2;
SELECT name, server, state FROM resilience.experiments WHERE name = 'foreign';
SELECT resilience.alter_experiment('foreign', probability => 0.1);
SELECT resilience.preview_experiment('foreign');

-- rows that are written by hand obey, too
INSERT INTO resilience.experiment_definitions (name, impact, delay) VALUES ('byhand', 'latency', '2 hours');
INSERT INTO resilience.experiment_definitions (name, impact, max_duration) VALUES ('byhand', 'error', NULL);
INSERT INTO resilience.experiment_definitions (name, impact, sqlstate) VALUES ('byhand', 'error', '02000');
INSERT INTO resilience.experiment_definitions (name, impact) VALUES ('byhand', 'error');
SELECT name, impact, max_duration, state FROM resilience.experiments WHERE name = 'byhand';
SELECT 'resilience.experiment_definitions'::regclass = ANY (extconfig) AS dumped FROM pg_extension WHERE extname = 'resilience';
SELECT resilience.alter_experiment('byhand', schedule_start => '2100-01-01 UTC', schedule_end => '2100-01-02 UTC');
SELECT resilience.alter_experiment('byhand', schedule_end => '2099-01-02 UTC');
SELECT resilience.alter_experiment('byhand', impact => 'connection_refused', command => 'SELECT');
SELECT resilience.alter_experiment('byhand', max_injections => 1000001);
SELECT resilience.alter_experiment('byhand', max_concurrent => 1001);
SELECT resilience.alter_experiment('byhand', NULL);
SELECT resilience.alter_experiment(NULL, 'error');
SELECT resilience.start_experiment(NULL);
SELECT resilience.stop_experiment(NULL);
SELECT resilience.preview_experiment(NULL);
SELECT resilience.drop_experiment(name) FROM resilience.experiments ORDER BY name;
DROP EXTENSION postgres_fdw CASCADE;
DROP ROLE regress_chaos_app;
DROP ROLE regress_chaos_boss;
