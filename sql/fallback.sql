--
-- What stands in for a foreign table while its circuit breaker is open
--
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE far (id int, v text) SERVER files OPTIONS (program 'echo 1,far', format 'csv');
CREATE TABLE near (extra int, v text, id int);
INSERT INTO near VALUES (0, 'near', 1), (0, 'nearer', 2);
CREATE VIEW near_view AS SELECT id, v || '!' AS v FROM near WHERE id > 1;
CREATE MATERIALIZED VIEW near_copy AS SELECT id, v FROM near;
CREATE VIEW far_view AS SELECT * FROM far;
CREATE FUNCTION by_plpgsql() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM far); END';
CREATE FUNCTION inlined() RETURNS SETOF far STABLE LANGUAGE sql AS 'SELECT * FROM far';
SELECT resilience.create_breaker('b', 'files', on_open => 'fallback');
SELECT resilience.set_fallback('far', 'near');
SELECT * FROM resilience.fallbacks;
SET plan_cache_mode = force_generic_plan;
PREPARE q AS SELECT * FROM far ORDER BY id;
EXECUTE q;
-- closed: the foreign table
SELECT * FROM far;
-- open: the fallback
SELECT resilience.force_breaker('b', 'open');
SELECT * FROM far ORDER BY id;
EXPLAIN (COSTS OFF) SELECT * FROM far WHERE id = 1;
SELECT far, far.v FROM far WHERE id = 2;
SELECT count(*) FROM far a JOIN far b USING (id);
SELECT (SELECT max(v) FROM far), EXISTS (SELECT FROM far WHERE id = 2);
WITH x AS MATERIALIZED (SELECT * FROM far) SELECT count(*) FROM x;
SELECT n.id, x.v FROM near n, LATERAL (SELECT * FROM far WHERE far.id = n.id) x ORDER BY 1;
SELECT * FROM far_view ORDER BY id;
SELECT by_plpgsql();
SELECT f.v FROM (SELECT 1 AS id) s LEFT JOIN far f USING (id);
COPY (SELECT * FROM far ORDER BY id) TO STDOUT;
CREATE TABLE made AS SELECT * FROM far;
SELECT count(*) FROM made;
INSERT INTO made SELECT * FROM far;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT v FROM far ORDER BY id;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
COMMIT;
-- the invalidation comes from a background worker
DO $$
DECLARE
	line text;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) EXECUTE q' LOOP
			IF line LIKE '%breaker b is open%' THEN
				RETURN;
			END IF;
		END LOOP;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
EXECUTE q;
-- what is never redirected
\set VERBOSITY terse
SELECT * FROM far FOR UPDATE;
SELECT ctid FROM far;
SELECT tableoid::regclass FROM far;
-- columns in another order cannot be exchanged within a plan
SELECT * FROM inlined();
\set VERBOSITY default
SELECT resilience.set_fallback('far', 'near_copy');
SELECT * FROM inlined() ORDER BY id;
-- a view
SELECT resilience.set_fallback('far', 'near_view');
SELECT * FROM far;
-- partitions
CREATE TABLE p (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10);
CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) SERVER files OPTIONS (program 'echo 10,far', format 'csv');
CREATE TABLE p2_near (LIKE p);
INSERT INTO p2_near VALUES (11, 'instead');
INSERT INTO p1 VALUES (1, 'here');
\set VERBOSITY terse
SELECT * FROM p;
\set VERBOSITY default
SELECT resilience.set_fallback('p2', 'p2_near');
SELECT * FROM p ORDER BY id;
EXPLAIN (COSTS OFF) SELECT * FROM p;
-- dropped columns
ALTER FOREIGN TABLE far ADD COLUMN w int;
\set VERBOSITY terse
SELECT * FROM far;
\set VERBOSITY default
ALTER FOREIGN TABLE far DROP COLUMN w;
SELECT * FROM far;
-- privileges of both relations, row security of the fallback
CREATE ROLE regress_fallback_user;
GRANT SELECT ON far_view TO regress_fallback_user;
SELECT resilience.set_fallback('far', 'near');
SET ROLE regress_fallback_user;
SELECT count(*) FROM far_view;
RESET ROLE;
GRANT SELECT ON far TO regress_fallback_user;
SET ROLE regress_fallback_user;
SELECT * FROM far;
RESET ROLE;
REVOKE SELECT ON far FROM regress_fallback_user;
GRANT SELECT ON near TO regress_fallback_user;
SET ROLE regress_fallback_user;
-- called a view from PostgreSQL 16 on
\set VERBOSITY sqlstate
SELECT * FROM far;
\set VERBOSITY default
RESET ROLE;
GRANT SELECT ON far TO regress_fallback_user;
ALTER TABLE near ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_two ON near USING (id = 2);
SET ROLE regress_fallback_user;
SELECT * FROM far;
RESET ROLE;
SELECT count(*) FROM far;
SELECT fallback_total > 10 AS counted FROM resilience.breakers;
-- closed again
SELECT resilience.force_breaker('b', 'auto');
SELECT * FROM far;
-- who may
SET ROLE regress_fallback_user;
SELECT resilience.set_fallback('far', 'near');
RESET ROLE;
GRANT EXECUTE ON FUNCTION resilience.set_fallback TO regress_fallback_user;
SET ROLE regress_fallback_user;
SELECT resilience.set_fallback('far', 'near');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION resilience.set_fallback FROM regress_fallback_user;
-- bad input
CREATE TABLE other (id bigint, w text COLLATE "C");
CREATE TEMP TABLE fleeting (id int, v text);
CREATE SEQUENCE counter;
CREATE VIEW roundabout AS SELECT * FROM (SELECT * FROM far_view) x;
SELECT resilience.set_fallback('near', 'far');
SELECT resilience.set_fallback('far', 'far');
SELECT resilience.set_fallback('far', 'p2');
SELECT resilience.set_fallback('far', 'p');
SELECT resilience.set_fallback('far', 'far_view');
SELECT resilience.set_fallback('far', 'roundabout');
SELECT resilience.set_fallback('far', 'other');
SELECT resilience.set_fallback('far', 'fleeting');
SELECT resilience.set_fallback('far', 'counter');
SELECT resilience.set_fallback('far', 'no_such_table');
INSERT INTO resilience.fallback_definitions VALUES ('far', 'other') ON CONFLICT (foreign_table) DO UPDATE SET fallback = excluded.fallback;
SELECT resilience.drop_fallback('near');
SELECT resilience.drop_fallback('near', true);
SELECT foreign_table, fallback FROM resilience.fallbacks ORDER BY 1;
-- what is dropped is forgotten
DROP TABLE p;
SELECT foreign_table, fallback FROM resilience.fallback_definitions;
BEGIN;
DROP TABLE near CASCADE;
ROLLBACK;
SELECT foreign_table, fallback FROM resilience.fallback_definitions;
SELECT resilience.drop_fallback('far');
SELECT * FROM resilience.fallbacks;
SELECT resilience.drop_breaker('b');
DROP TABLE near, made, other, p2_near CASCADE;
DROP SEQUENCE counter;
DROP EXTENSION file_fdw CASCADE;
DROP ROLE regress_fallback_user;
