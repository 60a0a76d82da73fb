-- Reports of chaos experiments: who may read them, their shape, and what is
-- said when there is nothing to say.  What they tell is in test/t/118.
\pset null '(null)'
SELECT resilience.create_experiment('x', 'latency', delay => '1 ms', application_name => 'nobody');
\set VERBOSITY default
SELECT * FROM resilience.experiment_report('nosuch');
SELECT * FROM resilience.experiment_summary('nosuch');
SELECT * FROM resilience.experiment_report(NULL);
SELECT * FROM resilience.experiment_report('');
SELECT * FROM resilience.experiment_report('x');
SELECT * FROM resilience.experiment_summary('x');
BEGIN;
SELECT resilience.create_experiment('uncommitted', 'latency', delay => '1 ms');
SELECT * FROM resilience.experiment_report('uncommitted');
ROLLBACK;

-- a run without a fault
ALTER SYSTEM SET resilience.chaos = on;
SELECT pg_reload_conf();
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		EXIT WHEN (SELECT can_start FROM resilience.preview_experiment('x'));
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
SELECT resilience.start_experiment('x', baseline => '1 h');
SELECT section, metric, before IS NULL AS no_before, during, after, unit, remark
FROM resilience.experiment_report('x');
SELECT resilience.stop_experiment('x', 'no time');
SELECT section, metric, during, after, unit, remark FROM resilience.experiment_report('x')
WHERE section = 'run';
SELECT resilience.start_experiment('x');
SELECT resilience.stop_experiment('x');
-- whether there was a time before is a matter of time
SELECT metric, during IS NULL AS no_during, unit, CASE WHEN metric <> 'measured' THEN remark END AS remark FROM resilience.experiment_report('x')
WHERE section = 'run' AND metric IN ('protection held', 'state', 'measured', 'injections');
\x
SELECT state, stop_reason, faults_at - started_at < '1 s' AS at_once, faults_end_at >= faults_at AS ends,
	over_at, injections, overflowed, breakers_opened, features_degraded, bulkheads_saturated,
	refused, fallbacks, time_to_recover IS NULL AS not_recovered, held, verdict
FROM resilience.experiment_summary('x');
\x

-- for whom
CREATE ROLE regress_report_anybody;
CREATE ROLE regress_report_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA resilience TO regress_report_anybody;
SET ROLE regress_report_anybody;
SELECT * FROM resilience.experiment_report('x');
SELECT * FROM resilience.experiment_summary('x');
SET ROLE regress_report_monitor;
SELECT count(*) > 10 AS readable FROM resilience.experiment_report('x');
SELECT state FROM resilience.experiment_summary('x');
RESET ROLE;
REVOKE USAGE ON SCHEMA resilience FROM regress_report_anybody;
DROP ROLE regress_report_anybody, regress_report_monitor;

-- with the experiment its report is gone
SELECT resilience.drop_experiment('x');
SELECT * FROM resilience.experiment_report('x');
ALTER SYSTEM RESET resilience.chaos;
SELECT pg_reload_conf();
