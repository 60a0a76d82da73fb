--
-- Bulkheads by tag and query_id: definitions, views, who may see what
--
SET client_min_messages = warning;
\set VERBOSITY default

SELECT resilience.create_bulkhead('acme', tag => 'tenant=acme', max_running => 0);
SELECT resilience.create_bulkhead('each', tag => 'route', max_running => 1);
SELECT name, tag, query_id, max_running, no_compartment_total FROM resilience.bulkheads ORDER BY name;

-- a superuser is counted, never refused
SELECT 1 AS one /*tenant='acme',route='%2Fhome'*/;
BEGIN;
SELECT 1 AS one /*route='%2Fhome'*/;
SELECT bulkhead, value, running, waiting FROM resilience.compartments;
SELECT bulkheads, compartments FROM resilience.activity WHERE pid = pg_backend_pid();
COMMIT;
SELECT resilience.my_bulkheads();
SELECT bulkhead, value, running, admitted_total, refused_statements_total, timed_out_total,
	preempted_total, wait_seconds_total, last_used <= now() AS used
FROM resilience.compartments;
SELECT name, running, admitted_total FROM resilience.bulkheads ORDER BY name;

-- values are for those who may see what others do
CREATE ROLE regress_tags_monitor;
CREATE ROLE regress_tags_reader;
GRANT pg_monitor TO regress_tags_monitor;
GRANT SELECT ON resilience.compartments TO regress_tags_reader;
GRANT EXECUTE ON FUNCTION resilience.compartment_statistics TO regress_tags_reader;
SET ROLE regress_tags_monitor;
SELECT bulkhead, value FROM resilience.compartments;
SET ROLE regress_tags_reader;
SELECT bulkhead, value FROM resilience.compartments;
RESET ROLE;
REVOKE SELECT ON resilience.compartments FROM regress_tags_reader;
SET ROLE regress_tags_reader;
SELECT bulkhead, value FROM resilience.compartments;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION resilience.compartment_statistics FROM regress_tags_reader;
DROP ROLE regress_tags_monitor, regress_tags_reader;

-- a plain role meets the limit
CREATE ROLE regress_tags_app;
SET SESSION AUTHORIZATION regress_tags_app;
SELECT 1 AS one /*tenant='acme'*/;
SELECT 1 AS one /*tenant='other'*/;
SELECT 1 AS one /*tenant='acme*/;
SELECT '/*tenant=''acme''*/' AS text;
PREPARE p AS SELECT 1 AS one /*tenant='acme'*/;
EXECUTE p;
DEALLOCATE p;
RESET SESSION AUTHORIZATION;

-- a condition that changes
SELECT resilience.alter_bulkhead('acme', tag => 'tenant=other');
SET SESSION AUTHORIZATION regress_tags_app;
SELECT 1 AS one /*tenant='acme'*/;
SELECT 1 AS one /*tenant='other'*/;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_tags_app;

-- query identifiers that are switched off
SET compute_query_id = off;
SELECT resilience.create_bulkhead('query', query_id => 42);
SELECT resilience.alter_bulkhead('query', query_id => 43);
SELECT resilience.alter_bulkhead('query', max_running => 5);
RESET compute_query_id;
SELECT resilience.alter_bulkhead('query', query_id => 44);
SELECT name, query_id FROM resilience.bulkheads WHERE query_id IS NOT NULL;

SELECT resilience.drop_bulkhead(name) FROM resilience.bulkheads;
SELECT count(*) FROM resilience.compartments;
