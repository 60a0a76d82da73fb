-- Budgets of bulkheads: what is refused and what is said.  Amounts of CPU time
-- are in test/t/060_budgets.pl.
SET client_min_messages = warning;
CREATE ROLE regress_budget LOGIN;
RESET client_min_messages;

SELECT resilience.create_bulkhead('b', role_name => 'regress_budget', max_statement_cost => 1000,
	max_rate => 2);
SELECT cpu_share, cpu_burst, max_statement_cost, max_rate, only_under_load, cpu_seconds_total,
	cpu_debt_seconds, refused_budget_total
FROM resilience.bulkheads;
SET SESSION AUTHORIZATION regress_budget;
SELECT count(*) FROM generate_series(1, 3) g;
EXPLAIN (COSTS OFF) SELECT count(*) FROM generate_series(1, 1000) a, generate_series(1, 1000) b;
SELECT count(*) FROM generate_series(1, 1000) a, generate_series(1, 1000) b;
\echo :SQLSTATE
RESET SESSION AUTHORIZATION;
SELECT refused_statements_total, refused_budget_total FROM resilience.bulkheads;

-- none at all
SELECT resilience.alter_bulkhead('b', max_statement_cost => -1, max_rate => 0);
SET SESSION AUTHORIZATION regress_budget;
SELECT 1;
\echo :SQLSTATE
-- ... but not within a transaction that has begun to work
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT 'a transaction';
SET LOCAL SESSION AUTHORIZATION regress_budget;
SELECT 'goes on';
COMMIT;

-- observed only
SELECT resilience.alter_bulkhead('b', mode => 'observe');
SET SESSION AUTHORIZATION regress_budget;
SELECT 1;
RESET SESSION AUTHORIZATION;
SELECT refused_budget_total FROM resilience.bulkheads;

-- only under load: this server is not
DO $$ BEGIN
	FOR i IN 1..1000 LOOP
		EXIT WHEN NOT (SELECT loaded FROM resilience.load_shedder);
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT resilience.alter_bulkhead('b', mode => 'enforce', only_under_load => true);
SET SESSION AUTHORIZATION regress_budget;
SELECT 1;
SELECT * FROM resilience.query_costs;
RESET SESSION AUTHORIZATION;
SELECT count(*) >= 0 AS readable FROM resilience.query_costs;

SELECT resilience.drop_bulkhead('b');
SELECT resilience.reset_statistics();
DROP ROLE regress_budget;
