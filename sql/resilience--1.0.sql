/* resilience/sql/resilience--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION resilience" to load this file. \quit

--
-- Bulkheads
--

-- What CREATE and ALTER write and pg_dump saves.  The trigger holds every way
-- of writing it to the same rules; what is committed here is in force.
CREATE TABLE resilience.bulkhead_definitions (
	name text PRIMARY KEY,
	role_name regrole,
	database_name text,
	application_name text,
	client_address cidr,
	command text,
	max_connections int NOT NULL DEFAULT -1,
	max_running int NOT NULL DEFAULT -1,
	max_waiting int NOT NULL DEFAULT 0,
	max_wait interval NOT NULL DEFAULT '1 s',
	priority text,
	mode text NOT NULL DEFAULT 'enforce',
	expires_at timestamptz
);
REVOKE ALL ON resilience.bulkhead_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.bulkhead_definitions IS
	'definitions of the bulkheads of this database; use create_bulkhead(), alter_bulkhead(), drop_bulkhead()';

SELECT pg_catalog.pg_extension_config_dump('resilience.bulkhead_definitions', '');

CREATE FUNCTION resilience.bulkhead_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.bulkhead_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.bulkhead_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE FUNCTION resilience.bulkhead_definitions_changed() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.bulkhead_definitions_changed() FROM PUBLIC;
COMMENT ON FUNCTION resilience.bulkhead_definitions_changed() IS
	'internal: the definitions take effect when the transaction commits';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.bulkhead_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON resilience.bulkhead_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
-- logical replication and restores write as "replica", too
ALTER TABLE resilience.bulkhead_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.bulkhead_definitions ENABLE ALWAYS TRIGGER publish_rows;

CREATE FUNCTION resilience.create_bulkhead(
	name text,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	command text DEFAULT NULL,
	max_connections int DEFAULT -1,
	max_running int DEFAULT -1,
	max_waiting int DEFAULT 0,
	max_wait interval DEFAULT '1 s',
	priority text DEFAULT NULL,
	mode text DEFAULT 'enforce',
	expires_at timestamptz DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_bulkhead FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_bulkhead IS
	'make a compartment for the sessions or statements that match all its conditions; -1 = no limit, 0 = admit none';

CREATE FUNCTION resilience.alter_bulkhead(
	name text,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	command text DEFAULT NULL,
	max_connections int DEFAULT NULL,
	max_running int DEFAULT NULL,
	max_waiting int DEFAULT NULL,
	max_wait interval DEFAULT NULL,
	priority text DEFAULT NULL,
	mode text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_bulkhead FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_bulkhead IS
	'change a bulkhead; NULL leaves an argument as it is';

CREATE FUNCTION resilience.drop_bulkhead(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_bulkhead FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_bulkhead IS
	'remove a bulkhead; work that it admitted goes on';

CREATE FUNCTION resilience.bulkhead_statistics(
	OUT name text,
	OUT connections int,
	OUT running int,
	OUT waiting int,
	OUT admitted_total bigint,
	OUT refused_connections_total bigint,
	OUT refused_statements_total bigint,
	OUT timed_out_total bigint,
	OUT preempted_total bigint,
	OUT wait_seconds_total float8
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 20;
REVOKE ALL ON FUNCTION resilience.bulkhead_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.bulkhead_statistics() IS
	'internal: live numbers behind the view bulkheads';

CREATE VIEW resilience.bulkheads AS
SELECT d.name,
	coalesce(d.database_name::name, current_database()) AS database_name,
	pg_catalog.pg_get_userbyid(d.role_name::oid) AS role_name,
	d.application_name,
	d.client_address,
	d.command,
	d.max_connections,
	d.max_running,
	d.max_waiting,
	d.max_wait,
	d.priority,
	d.mode,
	d.expires_at,
	s.connections,
	s.running,
	s.waiting,
	s.admitted_total,
	s.refused_connections_total,
	s.refused_statements_total,
	s.timed_out_total,
	s.preempted_total,
	s.wait_seconds_total
FROM resilience.bulkhead_definitions d
	LEFT JOIN resilience.bulkhead_statistics() s USING (name);
COMMENT ON VIEW resilience.bulkheads IS
	'bulkheads of this database: conditions, limits, live numbers and totals (NULL for what is not committed)';

CREATE FUNCTION resilience.my_bulkheads() RETURNS text[]
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION resilience.my_bulkheads() IS
	'names of the bulkheads that this session has to pass';

--
-- Load shedding
--

CREATE FUNCTION resilience.load_shedder_statistics(
	OUT mode text,
	OUT max_running int,
	OUT current_limit int,
	OUT running int,
	OUT waiting int,
	OUT min_admitted_priority text,
	OUT admitted_total bigint,
	OUT unmatched_total bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1;
REVOKE ALL ON FUNCTION resilience.load_shedder_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.load_shedder_statistics() IS
	'internal: numbers behind the view load_shedder';

CREATE VIEW resilience.load_shedder AS
SELECT * FROM resilience.load_shedder_statistics();
COMMENT ON VIEW resilience.load_shedder IS
	'the server-wide limit: one row';

CREATE FUNCTION resilience.priority_statistics(
	OUT priority text,
	OUT running int,
	OUT waiting int,
	OUT admitted_total bigint,
	OUT shed_total bigint,
	OUT timed_out_total bigint,
	OUT preempted_total bigint,
	OUT wait_seconds_total float8,
	OUT wait_p50_ms float8,
	OUT wait_p99_ms float8
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 4;
REVOKE ALL ON FUNCTION resilience.priority_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.priority_statistics() IS
	'internal: numbers behind the view load_by_priority';

CREATE VIEW resilience.load_by_priority AS
SELECT * FROM resilience.priority_statistics();
COMMENT ON VIEW resilience.load_by_priority IS
	'the server-wide limit by priority: live numbers and totals';

CREATE FUNCTION resilience.session_activity(
	OUT pid int,
	OUT priority text,
	OUT state text,
	OUT bulkheads text[],
	OUT wait_start timestamptz,
	OUT run_start timestamptz,
	OUT query_id bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 100;
REVOKE ALL ON FUNCTION resilience.session_activity() FROM PUBLIC;
COMMENT ON FUNCTION resilience.session_activity() IS
	'internal: numbers behind the view activity';

-- What pg_stat_activity hides from the current user is hidden here as well.
CREATE VIEW resilience.activity AS
SELECT a.pid,
	s.datname,
	s.usename,
	s.application_name,
	a.priority,
	CASE WHEN s.backend_start IS NOT NULL THEN a.state END AS state,
	CASE WHEN s.backend_start IS NOT NULL THEN a.bulkheads END AS bulkheads,
	CASE WHEN s.backend_start IS NOT NULL THEN a.wait_start END AS wait_start,
	CASE WHEN s.backend_start IS NOT NULL THEN a.run_start END AS run_start,
	CASE WHEN s.backend_start IS NOT NULL THEN a.query_id END AS query_id
FROM resilience.session_activity() a
	JOIN pg_catalog.pg_stat_activity s USING (pid);
COMMENT ON VIEW resilience.activity IS
	'one row for each session: who runs, who waits, and for which bulkheads';

CREATE FUNCTION resilience.my_priority() RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION resilience.my_priority() IS
	'priority of this session''s transactions: low, normal, high or critical';

CREATE FUNCTION resilience.reset_statistics() RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.reset_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.reset_statistics() IS
	'restart all totals at zero';

--
-- Privileges: the functions of everyone, the views of pg_monitor
--

GRANT USAGE ON SCHEMA resilience TO PUBLIC;
GRANT SELECT ON resilience.bulkheads, resilience.load_shedder,
	resilience.load_by_priority, resilience.activity TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.bulkhead_statistics(),
	resilience.load_shedder_statistics(), resilience.priority_statistics(),
	resilience.session_activity() TO pg_monitor;
