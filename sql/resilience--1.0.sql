/* resilience/sql/resilience--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION resilience" to load this file. \quit

-- The owner of a schema can put functions of his own beside ours, for
-- superusers to call.
DO LANGUAGE plpgsql $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace n
			JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
		WHERE n.nspname OPERATOR(pg_catalog.=) 'resilience' AND NOT r.rolsuper)
		OR pg_catalog.has_schema_privilege('public', 'resilience', 'CREATE')
		OR EXISTS (SELECT FROM pg_catalog.pg_proc p
			WHERE p.pronamespace OPERATOR(pg_catalog.=) 'resilience'::pg_catalog.regnamespace::pg_catalog.oid)
		OR EXISTS (SELECT FROM pg_catalog.pg_operator o
			WHERE o.oprnamespace OPERATOR(pg_catalog.=) 'resilience'::pg_catalog.regnamespace::pg_catalog.oid)
	THEN
		RAISE invalid_schema_definition USING
			MESSAGE = 'schema "resilience" is not the extension''s own',
			DETAIL = 'It has functions or operators, or somebody who is no superuser may create them there.',
			HINT = 'Drop or rename the schema; CREATE EXTENSION makes a new one.';
	END IF;
END $$;

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
	tag text,
	query_id bigint,
	command text,
	max_connections int NOT NULL DEFAULT -1,
	max_running int NOT NULL DEFAULT -1,
	max_waiting int NOT NULL DEFAULT 0,
	max_wait interval NOT NULL DEFAULT '1 s',
	priority text,
	mode text NOT NULL DEFAULT 'enforce',
	expires_at timestamptz,
	max_connection_rate float8 NOT NULL DEFAULT -1,
	cpu_share float8 NOT NULL DEFAULT -1,
	cpu_burst interval NOT NULL DEFAULT '10 s',
	max_statement_cost float8 NOT NULL DEFAULT -1,
	max_rate float8 NOT NULL DEFAULT -1,
	only_under_load boolean NOT NULL DEFAULT false,
	auto_revert_refusal_rate float8 NOT NULL DEFAULT -1
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
	AFTER INSERT OR UPDATE OR DELETE ON resilience.bulkhead_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.bulkhead_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
-- logical replication and restores write as "replica", too; the former row by
-- row, without what is for each statement
ALTER TABLE resilience.bulkhead_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.bulkhead_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.bulkhead_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_bulkhead(
	name text,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	tag text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	command text DEFAULT NULL,
	max_connections int DEFAULT -1,
	max_running int DEFAULT -1,
	max_waiting int DEFAULT 0,
	max_wait interval DEFAULT '1 s',
	priority text DEFAULT NULL,
	mode text DEFAULT 'enforce',
	expires_at timestamptz DEFAULT NULL,
	max_connection_rate float8 DEFAULT -1,
	cpu_share float8 DEFAULT -1,
	cpu_burst interval DEFAULT '10 s',
	max_statement_cost float8 DEFAULT -1,
	max_rate float8 DEFAULT -1,
	only_under_load boolean DEFAULT false,
	auto_revert_refusal_rate float8 DEFAULT -1
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
	tag text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	command text DEFAULT NULL,
	max_connections int DEFAULT NULL,
	max_running int DEFAULT NULL,
	max_waiting int DEFAULT NULL,
	max_wait interval DEFAULT NULL,
	priority text DEFAULT NULL,
	mode text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	max_connection_rate float8 DEFAULT NULL,
	cpu_share float8 DEFAULT NULL,
	cpu_burst interval DEFAULT NULL,
	max_statement_cost float8 DEFAULT NULL,
	max_rate float8 DEFAULT NULL,
	only_under_load boolean DEFAULT NULL,
	auto_revert_refusal_rate float8 DEFAULT NULL
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

CREATE FUNCTION resilience.preview_bulkhead(
	name text,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	tag text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	command text DEFAULT NULL,
	max_connections int DEFAULT -1,
	max_running int DEFAULT -1,
	max_waiting int DEFAULT 0,
	max_wait interval DEFAULT '1 s',
	priority text DEFAULT NULL,
	mode text DEFAULT 'enforce',
	expires_at timestamptz DEFAULT NULL,
	max_connection_rate float8 DEFAULT -1,
	cpu_share float8 DEFAULT -1,
	cpu_burst interval DEFAULT '10 s',
	max_statement_cost float8 DEFAULT -1,
	max_rate float8 DEFAULT -1,
	only_under_load boolean DEFAULT false,
	auto_revert_refusal_rate float8 DEFAULT -1,
	over interval DEFAULT '1 hour',
	OUT arrivals bigint,
	OUT admitted bigint,
	OUT queued bigint,
	OUT refused bigint,
	OUT refused_rate float8,
	OUT enforced_refused_rate float8,
	OUT enforced_mean_wait interval,
	OUT mean_concurrency float8,
	OUT max_concurrency int,
	OUT connection_arrivals bigint,
	OUT refused_connections bigint,
	OUT mean_sessions float8,
	OUT max_sessions int,
	OUT sessions_now int,
	OUT unattributed_arrivals bigint,
	OUT samples int,
	OUT covered_from timestamptz,
	OUT covered_to timestamptz,
	OUT not_judged text[]
) RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.preview_bulkhead FROM PUBLIC;
COMMENT ON FUNCTION resilience.preview_bulkhead IS
	'what create_bulkhead() with the same arguments would have admitted, queued and refused lately; changes nothing';

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
	OUT wait_seconds_total float8,
	OUT client_gone_total bigint,
	OUT dropped_total bigint,
	OUT retried_total bigint,
	OUT preempted_running_total bigint,
	OUT reverted_at timestamptz,
	OUT cpu_seconds_total float8,
	OUT cpu_debt_seconds float8,
	OUT refused_budget_total bigint,
	OUT no_compartment_total bigint
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
	d.tag,
	d.query_id,
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
	s.wait_seconds_total,
	d.max_connection_rate,
	d.cpu_share,
	d.cpu_burst,
	d.max_statement_cost,
	d.max_rate,
	d.only_under_load,
	d.auto_revert_refusal_rate,
	s.client_gone_total,
	s.dropped_total,
	s.retried_total,
	s.preempted_running_total,
	s.reverted_at,
	s.cpu_seconds_total,
	s.cpu_debt_seconds,
	s.refused_budget_total,
	s.no_compartment_total
FROM resilience.bulkhead_definitions d
	LEFT JOIN resilience.bulkhead_statistics() s USING (name);
COMMENT ON VIEW resilience.bulkheads IS
	'bulkheads of this database: conditions, limits, live numbers and totals (NULL for what is not committed)';

CREATE FUNCTION resilience.query_cost_statistics(
	OUT query_id bigint,
	OUT mean_cost float8,
	OUT mean_cpu_ms float8
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 100;
REVOKE ALL ON FUNCTION resilience.query_cost_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.query_cost_statistics() IS
	'internal: numbers behind the view query_costs';

CREATE VIEW resilience.query_costs AS
SELECT * FROM resilience.query_cost_statistics();
COMMENT ON VIEW resilience.query_costs IS
	'what CPU budgets have learnt about queries: planned cost and CPU time, moving averages';

GRANT SELECT ON resilience.query_costs TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.query_cost_statistics() TO pg_monitor;

CREATE FUNCTION resilience.compartment_statistics(
	OUT bulkhead text,
	OUT value text,
	OUT running int,
	OUT waiting int,
	OUT admitted_total bigint,
	OUT refused_statements_total bigint,
	OUT timed_out_total bigint,
	OUT preempted_total bigint,
	OUT wait_seconds_total float8,
	OUT last_used timestamptz
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 100;
REVOKE ALL ON FUNCTION resilience.compartment_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.compartment_statistics() IS
	'internal: live numbers behind the view compartments';

CREATE VIEW resilience.compartments AS
SELECT * FROM resilience.compartment_statistics();
COMMENT ON VIEW resilience.compartments IS
	'compartments of this database''s bulkheads, one for each value of a tag: live numbers and totals';

CREATE FUNCTION resilience.my_bulkheads() RETURNS text[]
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION resilience.my_bulkheads() IS
	'names of the bulkheads that this session has to pass';

--
-- Circuit breakers
--

-- The server goes by its name, so that a dump can be restored; a rename is
-- followed when it commits.
CREATE TABLE resilience.breaker_definitions (
	name text PRIMARY KEY,
	server text UNIQUE,
	max_failures int NOT NULL DEFAULT 5,
	failure_rate float8 NOT NULL DEFAULT 0.5,
	slow_call_duration interval NOT NULL DEFAULT '5 s',
	slow_call_rate float8 NOT NULL DEFAULT 0.8,
	minimum_calls int NOT NULL DEFAULT 20,
	window_duration interval NOT NULL DEFAULT '10 s',
	reset_timeout interval NOT NULL DEFAULT '5 s',
	backoff_factor float8 NOT NULL DEFAULT 2,
	max_reset_timeout interval NOT NULL DEFAULT '5 min',
	jitter float8 NOT NULL DEFAULT 0.2,
	half_open_calls int NOT NULL DEFAULT 3,
	success_threshold int NOT NULL DEFAULT 3,
	call_timeout interval,
	probe boolean NOT NULL DEFAULT true,
	max_concurrent_calls int NOT NULL DEFAULT -1,
	on_open text NOT NULL DEFAULT 'error',
	ignored_sqlstates text[],
	recorded_sqlstates text[],
	mode text NOT NULL DEFAULT 'enforce',
	forced text NOT NULL DEFAULT 'auto'
);
REVOKE ALL ON resilience.breaker_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.breaker_definitions IS
	'definitions of the circuit breakers of this database; use create_breaker(), alter_breaker(), force_breaker(), drop_breaker()';

SELECT pg_catalog.pg_extension_config_dump('resilience.breaker_definitions', '');

CREATE FUNCTION resilience.breaker_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.breaker_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.breaker_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.breaker_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.breaker_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE ON resilience.breaker_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.breaker_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
ALTER TABLE resilience.breaker_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.breaker_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.breaker_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_breaker(
	name text,
	server name DEFAULT NULL,
	max_failures int DEFAULT 5,
	failure_rate float8 DEFAULT 0.5,
	slow_call_duration interval DEFAULT '5 s',
	slow_call_rate float8 DEFAULT 0.8,
	minimum_calls int DEFAULT 20,
	window_duration interval DEFAULT '10 s',
	reset_timeout interval DEFAULT '5 s',
	backoff_factor float8 DEFAULT 2,
	max_reset_timeout interval DEFAULT '5 min',
	jitter float8 DEFAULT 0.2,
	half_open_calls int DEFAULT 3,
	success_threshold int DEFAULT 3,
	call_timeout interval DEFAULT NULL,
	probe boolean DEFAULT true,
	max_concurrent_calls int DEFAULT -1,
	on_open text DEFAULT 'error',
	ignored_sqlstates text[] DEFAULT NULL,
	recorded_sqlstates text[] DEFAULT NULL,
	mode text DEFAULT 'enforce'
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_breaker FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_breaker IS
	'guard a foreign server, or (without server) any dependency, by a circuit breaker';

CREATE FUNCTION resilience.alter_breaker(
	name text,
	server name DEFAULT NULL,
	max_failures int DEFAULT NULL,
	failure_rate float8 DEFAULT NULL,
	slow_call_duration interval DEFAULT NULL,
	slow_call_rate float8 DEFAULT NULL,
	minimum_calls int DEFAULT NULL,
	window_duration interval DEFAULT NULL,
	reset_timeout interval DEFAULT NULL,
	backoff_factor float8 DEFAULT NULL,
	max_reset_timeout interval DEFAULT NULL,
	jitter float8 DEFAULT NULL,
	half_open_calls int DEFAULT NULL,
	success_threshold int DEFAULT NULL,
	call_timeout interval DEFAULT NULL,
	probe boolean DEFAULT NULL,
	max_concurrent_calls int DEFAULT NULL,
	on_open text DEFAULT NULL,
	ignored_sqlstates text[] DEFAULT NULL,
	recorded_sqlstates text[] DEFAULT NULL,
	mode text DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_breaker FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_breaker IS
	'change a circuit breaker; NULL leaves an argument as it is';

CREATE FUNCTION resilience.drop_breaker(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_breaker FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_breaker IS
	'remove a circuit breaker; calls under way go on';

CREATE FUNCTION resilience.force_breaker(
	name text,
	state text
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.force_breaker FROM PUBLIC;
COMMENT ON FUNCTION resilience.force_breaker IS
	'hold a circuit breaker open or closed, or leave it to itself again (auto)';

CREATE FUNCTION resilience.reset_breaker(
	name text
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.reset_breaker FROM PUBLIC;
COMMENT ON FUNCTION resilience.reset_breaker IS
	'close a circuit breaker and forget what it has seen; acts at once and cannot be rolled back';

CREATE FUNCTION resilience.breaker_statistics(
	OUT name text,
	OUT state text,
	OUT forced text,
	OUT consecutive_failures bigint,
	OUT window_calls bigint,
	OUT window_failures bigint,
	OUT window_slow_calls bigint,
	OUT failure_rate float8,
	OUT calls_in_flight int,
	OUT opened_at timestamptz,
	OUT retry_at timestamptz,
	OUT open_count bigint,
	OUT last_failure_at timestamptz,
	OUT last_sqlstate text,
	OUT last_error text,
	OUT success_total bigint,
	OUT failure_total bigint,
	OUT slow_total bigint,
	OUT ignored_total bigint,
	OUT rejected_total bigint,
	OUT fallback_total bigint,
	OUT time_open interval,
	OUT trip_reason text,
	OUT timed_out_total bigint,
	OUT superseded_total bigint,
	OUT rejected_full_total bigint,
	OUT probe_total bigint,
	OUT probe_failure_total bigint,
	OUT last_probe_at timestamptz,
	OUT last_probe_result text,
	OUT probe_target text
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 20;
REVOKE ALL ON FUNCTION resilience.breaker_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.breaker_statistics() IS
	'internal: live numbers behind the view breakers';

CREATE VIEW resilience.breakers AS
SELECT d.name,
	d.server::name AS server,
	s.state,
	s.forced,
	s.consecutive_failures,
	s.window_calls,
	s.window_failures,
	s.window_slow_calls,
	s.failure_rate,
	s.calls_in_flight,
	s.opened_at,
	s.retry_at,
	s.open_count,
	s.last_failure_at,
	s.last_sqlstate,
	s.last_error,
	s.success_total,
	s.failure_total,
	s.slow_total,
	s.ignored_total,
	s.rejected_total,
	s.fallback_total,
	s.time_open,
	s.trip_reason,
	s.timed_out_total,
	s.superseded_total,
	s.rejected_full_total,
	s.probe_total,
	s.probe_failure_total,
	s.last_probe_at,
	s.last_probe_result,
	s.probe_target,
	d.max_failures,
	d.failure_rate AS failure_rate_threshold,
	d.slow_call_duration,
	d.slow_call_rate,
	d.minimum_calls,
	d.window_duration,
	d.reset_timeout,
	d.backoff_factor,
	d.max_reset_timeout,
	d.jitter,
	d.half_open_calls,
	d.success_threshold,
	d.call_timeout,
	d.probe,
	d.max_concurrent_calls,
	d.on_open,
	d.ignored_sqlstates,
	d.recorded_sqlstates,
	d.mode
FROM resilience.breaker_definitions d
	LEFT JOIN resilience.breaker_statistics() s USING (name);
COMMENT ON VIEW resilience.breakers IS
	'circuit breakers of this database: state, live numbers, totals and settings (NULL for what is not committed)';

CREATE FUNCTION resilience.call_with_breaker(
	name text,
	sql text
) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.call_with_breaker FROM PUBLIC;
COMMENT ON FUNCTION resilience.call_with_breaker IS
	'run a statement through a circuit breaker; returns the number of rows processed';

CREATE FUNCTION resilience.breaker_acquire(
	name text
) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.breaker_acquire FROM PUBLIC;
COMMENT ON FUNCTION resilience.breaker_acquire IS
	'may a call go ahead? if so, breaker_record() has to follow in this session';

CREATE FUNCTION resilience.breaker_record(
	name text,
	success boolean,
	duration interval DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.breaker_record FROM PUBLIC;
COMMENT ON FUNCTION resilience.breaker_record IS
	'what came of a call that breaker_acquire() let go ahead';

CREATE TABLE resilience.fallback_definitions (
	foreign_table regclass PRIMARY KEY,
	fallback regclass NOT NULL
);
REVOKE ALL ON resilience.fallback_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.fallback_definitions IS
	'what stands in for foreign tables; use set_fallback(), drop_fallback()';

SELECT pg_catalog.pg_extension_config_dump('resilience.fallback_definitions', '');

CREATE FUNCTION resilience.fallback_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.fallback_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.fallback_definitions_check() IS
	'internal: the rules that a fallback must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE OR DELETE ON resilience.fallback_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.fallback_definitions_check();
ALTER TABLE resilience.fallback_definitions ENABLE ALWAYS TRIGGER check_row;

CREATE FUNCTION resilience.set_fallback(
	foreign_table regclass,
	fallback regclass
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.set_fallback FROM PUBLIC;
COMMENT ON FUNCTION resilience.set_fallback IS
	'the table, view or materialized view that answers while the foreign table''s circuit breaker is open (on_open = fallback)';

CREATE FUNCTION resilience.drop_fallback(
	foreign_table regclass,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_fallback FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_fallback IS
	'nothing stands in for the foreign table any more';

CREATE VIEW resilience.fallbacks AS
SELECT f.foreign_table,
	f.fallback,
	s.srvname AS server,
	b.name AS breaker,
	b.on_open
FROM resilience.fallback_definitions f
	JOIN pg_catalog.pg_foreign_table t ON t.ftrelid OPERATOR(pg_catalog.=) f.foreign_table
	JOIN pg_catalog.pg_foreign_server s ON s.oid OPERATOR(pg_catalog.=) t.ftserver
	LEFT JOIN resilience.breaker_definitions b ON b.server OPERATOR(pg_catalog.=) s.srvname;
COMMENT ON VIEW resilience.fallbacks IS
	'what stands in for foreign tables while the circuit breaker of their server is open';

--
-- Retries
--

CREATE FUNCTION resilience.retry(
	sql text,
	max_retries int DEFAULT 3,
	base_delay interval DEFAULT '50 ms',
	max_delay interval DEFAULT '2 s',
	backoff_factor float8 DEFAULT 2,
	jitter text DEFAULT 'full',
	retryable_sqlstates text[] DEFAULT NULL,
	total_timeout interval DEFAULT NULL,
	budget text DEFAULT 'default'
) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.retry FROM PUBLIC;
COMMENT ON FUNCTION resilience.retry IS
	'run statements, each attempt in a subtransaction, and retry errors that may pass; returns the rows that the last statement processed';

CREATE FUNCTION resilience.retry_query(
	sql text,
	max_retries int DEFAULT 3,
	base_delay interval DEFAULT '50 ms',
	max_delay interval DEFAULT '2 s',
	backoff_factor float8 DEFAULT 2,
	jitter text DEFAULT 'full',
	retryable_sqlstates text[] DEFAULT NULL,
	total_timeout interval DEFAULT NULL,
	budget text DEFAULT 'default'
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.retry_query FROM PUBLIC;
COMMENT ON FUNCTION resilience.retry_query IS
	'as retry(), and returns the rows of the last statement; needs a column definition list';

CREATE PROCEDURE resilience.retry_transaction(
	sql text,
	max_retries int DEFAULT 3,
	base_delay interval DEFAULT '50 ms',
	max_delay interval DEFAULT '2 s',
	backoff_factor float8 DEFAULT 2,
	jitter text DEFAULT 'full',
	retryable_sqlstates text[] DEFAULT NULL,
	total_timeout interval DEFAULT NULL,
	budget text DEFAULT 'default',
	isolation text DEFAULT NULL
)
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON PROCEDURE resilience.retry_transaction FROM PUBLIC;
COMMENT ON PROCEDURE resilience.retry_transaction IS
	'run statements, each attempt in a transaction of its own, and retry serialization failures, deadlocks and other errors that may pass';

CREATE FUNCTION resilience.retry_delay(
	attempt int,
	base_delay interval DEFAULT '50 ms',
	max_delay interval DEFAULT '2 s',
	backoff_factor float8 DEFAULT 2,
	jitter text DEFAULT 'full',
	previous_delay interval DEFAULT NULL
) RETURNS interval
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION resilience.retry_delay IS
	'how long to wait before a retry (1 = the first); previous_delay is for decorrelated jitter';

CREATE FUNCTION resilience.retry_statistics(
	OUT sqlstate text,
	OUT result text,
	OUT attempts_total bigint,
	OUT calls_total bigint,
	OUT delay_seconds_total float8
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 20;
REVOKE ALL ON FUNCTION resilience.retry_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.retry_statistics() IS
	'internal: numbers behind the view retry_stats';

CREATE VIEW resilience.retry_stats AS
SELECT * FROM resilience.retry_statistics();
COMMENT ON VIEW resilience.retry_stats IS
	'how retries ended, by the last SQLSTATE and the result: totals of all databases';

CREATE FUNCTION resilience.retry_budget_statistics(
	OUT name text,
	OUT tokens float8,
	OUT first_attempts_total bigint,
	OUT retries_allowed_total bigint,
	OUT retries_denied_total bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 16;
REVOKE ALL ON FUNCTION resilience.retry_budget_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.retry_budget_statistics() IS
	'internal: numbers behind the view retry_budgets';

CREATE VIEW resilience.retry_budgets AS
SELECT * FROM resilience.retry_budget_statistics();
COMMENT ON VIEW resilience.retry_budgets IS
	'budgets for retries, shared by all sessions: a retry takes one token';

GRANT SELECT ON resilience.retry_stats, resilience.retry_budgets TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.retry_statistics(),
	resilience.retry_budget_statistics() TO pg_monitor;

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
	OUT unmatched_total bigint,
	OUT loaded boolean,
	OUT refused_connections_total bigint,
	OUT delayed_connections_total bigint,
	OUT limit_reason text,
	OUT blocked_share float8,
	OUT cpu_idle float8,
	OUT cpu_pressure float8
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
	OUT wait_p99_ms float8,
	OUT client_gone_total bigint,
	OUT dropped_total bigint,
	OUT retried_total bigint,
	OUT preempted_running_total bigint
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
	OUT query_id bigint,
	OUT compartments text[]
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
	CASE WHEN s.backend_start IS NOT NULL THEN a.query_id END AS query_id,
	CASE WHEN s.backend_start IS NOT NULL THEN a.compartments END AS compartments
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

CREATE FUNCTION resilience.cancel_statement(pid int, statement bigint DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.cancel_statement FROM PUBLIC;
COMMENT ON FUNCTION resilience.cancel_statement IS
	'internal, for tests: have one statement of a session cancelled, by its number; the one that runs now if NULL';

CREATE FUNCTION resilience.cancel_statistics(
	OUT requested bigint,
	OUT delivered bigint,
	OUT missed bigint,
	OUT pending bigint
) RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.cancel_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.cancel_statistics() IS
	'internal: requests to cancel a running statement, since the start of the server';

--
-- Runaway rules
--

CREATE TABLE resilience.runaway_rule_definitions (
	name text PRIMARY KEY,
	role_name regrole,
	database_name text,
	application_name text,
	client_address cidr,
	tag text,
	query_id bigint,
	command text,
	max_duration interval NOT NULL DEFAULT '0',
	max_cpu interval NOT NULL DEFAULT '0',
	max_temp_bytes bigint NOT NULL DEFAULT -1,
	max_rows_estimate float8 NOT NULL DEFAULT -1,
	action text NOT NULL DEFAULT 'observe',
	quarantine_duration interval NOT NULL DEFAULT '10 min',
	quarantine_max_running int NOT NULL DEFAULT 0,
	mode text NOT NULL DEFAULT 'enforce',
	expires_at timestamptz
);
REVOKE ALL ON resilience.runaway_rule_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.runaway_rule_definitions IS
	'definitions of the runaway rules of this database; use create_runaway_rule(), alter_runaway_rule(), drop_runaway_rule()';

SELECT pg_catalog.pg_extension_config_dump('resilience.runaway_rule_definitions', '');

CREATE FUNCTION resilience.runaway_rule_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.runaway_rule_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.runaway_rule_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.runaway_rule_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.runaway_rule_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE ON resilience.runaway_rule_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.runaway_rule_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
ALTER TABLE resilience.runaway_rule_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.runaway_rule_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.runaway_rule_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_runaway_rule(
	name text,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	tag text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	command text DEFAULT NULL,
	max_duration interval DEFAULT NULL,
	max_cpu interval DEFAULT NULL,
	max_temp_bytes bigint DEFAULT NULL,
	max_rows_estimate float8 DEFAULT NULL,
	action text DEFAULT 'observe',
	quarantine_duration interval DEFAULT '10 min',
	quarantine_max_running int DEFAULT 0,
	mode text DEFAULT 'enforce',
	expires_at timestamptz DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_runaway_rule FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_runaway_rule IS
	'what to do with statements that match all conditions and go beyond any of the limits: observe, lower_priority, cancel, quarantine';

CREATE FUNCTION resilience.alter_runaway_rule(
	name text,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	tag text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	command text DEFAULT NULL,
	max_duration interval DEFAULT NULL,
	max_cpu interval DEFAULT NULL,
	max_temp_bytes bigint DEFAULT NULL,
	max_rows_estimate float8 DEFAULT NULL,
	action text DEFAULT NULL,
	quarantine_duration interval DEFAULT NULL,
	quarantine_max_running int DEFAULT NULL,
	mode text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_runaway_rule FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_runaway_rule IS
	'change a runaway rule; NULL leaves an argument as it is; its quarantine ends';

CREATE FUNCTION resilience.drop_runaway_rule(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_runaway_rule FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_runaway_rule IS
	'remove a runaway rule; its quarantine ends';

CREATE FUNCTION resilience.runaway_rule_statistics(
	OUT name text,
	OUT hits_total bigint,
	OUT cancelled_total bigint,
	OUT refused_total bigint,
	OUT quarantined_total bigint,
	OUT evicted_total bigint,
	OUT last_hit_at timestamptz,
	OUT last_query_id bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 20;
REVOKE ALL ON FUNCTION resilience.runaway_rule_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.runaway_rule_statistics() IS
	'internal: live numbers behind the view runaway_rules';

CREATE VIEW resilience.runaway_rules AS
SELECT d.name,
	coalesce(d.database_name::name, current_database()) AS database_name,
	pg_catalog.pg_get_userbyid(d.role_name::oid) AS role_name,
	d.application_name,
	d.client_address,
	d.tag,
	d.query_id,
	d.command,
	d.max_duration,
	d.max_cpu,
	d.max_temp_bytes,
	d.max_rows_estimate,
	d.action,
	d.quarantine_duration,
	d.quarantine_max_running,
	d.mode,
	d.expires_at,
	s.hits_total,
	s.cancelled_total,
	s.refused_total,
	s.quarantined_total,
	s.evicted_total,
	s.last_hit_at,
	s.last_query_id
FROM resilience.runaway_rule_definitions d
	LEFT JOIN resilience.runaway_rule_statistics() s USING (name);
COMMENT ON VIEW resilience.runaway_rules IS
	'runaway rules of this database: conditions, limits, action, and totals (NULL for what is not committed)';

CREATE FUNCTION resilience.quarantine_statistics(
	OUT query_id bigint,
	OUT rule text,
	OUT action text,
	OUT max_running int,
	OUT since timestamptz,
	OUT until timestamptz,
	OUT refused_total bigint,
	OUT running int
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION resilience.quarantine_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.quarantine_statistics() IS
	'internal: numbers behind the view quarantine';

CREATE VIEW resilience.quarantine AS
SELECT * FROM resilience.quarantine_statistics();
COMMENT ON VIEW resilience.quarantine IS
	'queries that the runaway rules of this database have put into quarantine';

CREATE FUNCTION resilience.release_quarantine(query_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.release_quarantine FROM PUBLIC;
COMMENT ON FUNCTION resilience.release_quarantine IS
	'end the quarantine of a query now; false if it was in none';

GRANT SELECT ON resilience.runaway_rules, resilience.quarantine TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.runaway_rule_statistics(),
	resilience.quarantine_statistics() TO pg_monitor;

--
-- Privileges: the functions of everyone, the views of pg_monitor
--

GRANT USAGE ON SCHEMA resilience TO PUBLIC;
GRANT SELECT ON resilience.bulkheads, resilience.compartments, resilience.breakers,
	resilience.fallbacks,
	resilience.load_shedder, resilience.load_by_priority, resilience.activity
	TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.bulkhead_statistics(),
	resilience.compartment_statistics(),
	resilience.breaker_statistics(),
	resilience.load_shedder_statistics(), resilience.priority_statistics(),
	resilience.session_activity() TO pg_monitor;

--
-- Events
--

CREATE FUNCTION resilience.recent_events(
	OUT id bigint,
	OUT at timestamptz,
	OUT kind text,
	OUT object text,
	OUT from_state text,
	OUT to_state text,
	OUT pid int,
	OUT detail jsonb,
	OUT database oid
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1000;
REVOKE ALL ON FUNCTION resilience.recent_events() FROM PUBLIC;
COMMENT ON FUNCTION resilience.recent_events() IS
	'internal: the events behind the view events';

CREATE VIEW resilience.events AS
SELECT e.id, e.at, e.kind, e.object, e.from_state, e.to_state, e.pid, e.detail,
	d.datname AS database_name
FROM resilience.recent_events() e
	LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) e.database;
COMMENT ON VIEW resilience.events IS
	'what has changed, when and why: the newest events of the whole server';

GRANT SELECT ON resilience.events TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.recent_events() TO pg_monitor;

--
-- Health checks
--

CREATE TABLE resilience.health_check_definitions (
	name text PRIMARY KEY,
	kind text NOT NULL DEFAULT 'sql',
	query text,
	target text,
	warning_threshold float8,
	critical_threshold float8,
	check_interval interval NOT NULL DEFAULT '10 s',
	timeout interval NOT NULL DEFAULT '1 s',
	failure_threshold int NOT NULL DEFAULT 3,
	success_threshold int NOT NULL DEFAULT 1,
	critical boolean NOT NULL DEFAULT false,
	enabled boolean NOT NULL DEFAULT true,
	owner regrole NOT NULL DEFAULT (pg_catalog.quote_ident(CURRENT_USER))::pg_catalog.regrole
);
REVOKE ALL ON resilience.health_check_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.health_check_definitions IS
	'definitions of the health checks of this database; use create_health_check(), alter_health_check(), drop_health_check()';

SELECT pg_catalog.pg_extension_config_dump('resilience.health_check_definitions', '');

CREATE FUNCTION resilience.health_check_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.health_check_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.health_check_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.health_check_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.health_check_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE ON resilience.health_check_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.health_check_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
ALTER TABLE resilience.health_check_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.health_check_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.health_check_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_health_check(
	name text,
	kind text DEFAULT 'sql',
	query text DEFAULT NULL,
	target text DEFAULT NULL,
	warning_threshold float8 DEFAULT NULL,
	critical_threshold float8 DEFAULT NULL,
	check_interval interval DEFAULT '10 s',
	timeout interval DEFAULT '1 s',
	failure_threshold int DEFAULT 3,
	success_threshold int DEFAULT 1,
	critical boolean DEFAULT false,
	enabled boolean DEFAULT true
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_health_check FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_health_check IS
	'look regularly whether something is well, by a query or a built-in kind';

CREATE FUNCTION resilience.alter_health_check(
	name text,
	kind text DEFAULT NULL,
	query text DEFAULT NULL,
	target text DEFAULT NULL,
	warning_threshold float8 DEFAULT NULL,
	critical_threshold float8 DEFAULT NULL,
	check_interval interval DEFAULT NULL,
	timeout interval DEFAULT NULL,
	failure_threshold int DEFAULT NULL,
	success_threshold int DEFAULT NULL,
	critical boolean DEFAULT NULL,
	enabled boolean DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_health_check FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_health_check IS
	'change a health check; NULL leaves an argument as it is';

CREATE FUNCTION resilience.drop_health_check(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_health_check FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_health_check IS
	'remove a health check';

CREATE FUNCTION resilience.run_health_check(
	name text,
	OUT status text,
	OUT message text,
	OUT value float8,
	OUT duration interval
) RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.run_health_check FROM PUBLIC;
COMMENT ON FUNCTION resilience.run_health_check IS
	'run a health check now, as its owner, and return what it finds; the view health_checks does not change';

CREATE FUNCTION resilience.health_check_statistics(
	OUT name text,
	OUT status text,
	OUT message text,
	OUT value float8,
	OUT last_run timestamptz,
	OUT last_change timestamptz,
	OUT consecutive_failures bigint,
	OUT consecutive_successes bigint,
	OUT duration interval,
	OUT age interval,
	OUT warning_threshold float8,
	OUT critical_threshold float8,
	OUT next_run timestamptz,
	OUT running boolean,
	OUT runs_total bigint,
	OUT failures_total bigint,
	OUT timeouts_total bigint,
	OUT lateness interval,
	OUT max_lateness interval
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION resilience.health_check_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.health_check_statistics() IS
	'internal: numbers behind the view health_checks';

CREATE VIEW resilience.health_checks AS
SELECT
	d.name,
	d.kind,
	s.status,
	d.critical,
	s.message,
	s.value,
	s.last_run,
	s.last_change,
	s.consecutive_failures,
	s.duration,
	s.age,
	d.query,
	d.target,
	coalesce(s.warning_threshold, d.warning_threshold) AS warning_threshold,
	coalesce(s.critical_threshold, d.critical_threshold) AS critical_threshold,
	d.check_interval,
	d.timeout,
	d.failure_threshold,
	d.success_threshold,
	d.enabled,
	d.owner,
	s.next_run,
	s.running,
	s.consecutive_successes,
	s.runs_total,
	s.failures_total,
	s.timeouts_total,
	s.lateness,
	s.max_lateness
FROM resilience.health_check_definitions d
	LEFT JOIN resilience.health_check_statistics() s USING (name);
COMMENT ON VIEW resilience.health_checks IS
	'health checks of this database: what they found last, definitions, totals (NULL for what is not committed)';

GRANT SELECT ON resilience.health_checks TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.health_check_statistics() TO pg_monitor;

--
-- Features
--

CREATE TABLE resilience.feature_definitions (
	name text PRIMARY KEY,
	enabled boolean NOT NULL DEFAULT true,
	health_check text,
	breaker text,
	minimum_priority text,
	dimmable boolean NOT NULL DEFAULT false,
	fallback_sql text,
	expires_at timestamptz,
	description text,
	fallback_on_error boolean NOT NULL DEFAULT false,
	failure_threshold int NOT NULL DEFAULT 3,
	success_threshold int NOT NULL DEFAULT 5,
	min_degraded_duration interval NOT NULL DEFAULT '30 s',
	dimmer_target interval NOT NULL DEFAULT '100 ms',
	reason text,
	owner regrole NOT NULL DEFAULT (pg_catalog.quote_ident(CURRENT_USER))::pg_catalog.regrole
);
REVOKE ALL ON resilience.feature_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.feature_definitions IS
	'definitions of the features of this database; use create_feature(), alter_feature(), drop_feature()';

SELECT pg_catalog.pg_extension_config_dump('resilience.feature_definitions', '');

CREATE FUNCTION resilience.feature_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.feature_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.feature_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.feature_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.feature_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE ON resilience.feature_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.feature_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
ALTER TABLE resilience.feature_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.feature_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.feature_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_feature(
	name text,
	enabled boolean DEFAULT true,
	health_check text DEFAULT NULL,
	breaker text DEFAULT NULL,
	minimum_priority text DEFAULT NULL,
	dimmable boolean DEFAULT false,
	fallback_sql text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	description text DEFAULT NULL,
	fallback_on_error boolean DEFAULT false,
	failure_threshold int DEFAULT 3,
	success_threshold int DEFAULT 5,
	min_degraded_duration interval DEFAULT '30 s',
	dimmer_target interval DEFAULT '100 ms'
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_feature FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_feature IS
	'something the application can do without, switched off by command, by a check, a breaker or the load';

CREATE FUNCTION resilience.alter_feature(
	name text,
	enabled boolean DEFAULT NULL,
	health_check text DEFAULT NULL,
	breaker text DEFAULT NULL,
	minimum_priority text DEFAULT NULL,
	dimmable boolean DEFAULT NULL,
	fallback_sql text DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	description text DEFAULT NULL,
	fallback_on_error boolean DEFAULT NULL,
	failure_threshold int DEFAULT NULL,
	success_threshold int DEFAULT NULL,
	min_degraded_duration interval DEFAULT NULL,
	dimmer_target interval DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_feature FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_feature IS
	'change a feature; NULL leaves an argument as it is';

CREATE FUNCTION resilience.drop_feature(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_feature FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_feature IS
	'remove a feature; feature_enabled() says true from then on';

CREATE FUNCTION resilience.set_feature(
	name text,
	enabled boolean,
	reason text DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.set_feature FROM PUBLIC;
COMMENT ON FUNCTION resilience.set_feature IS
	'switch a feature on or off, and say why';

-- STABLE, so that a statement that asks of a constant name asks once and not
-- for each row; PARALLEL SAFE, since workers see the same shared memory.
CREATE FUNCTION resilience.feature_enabled(name text) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C STRICT STABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION resilience.feature_enabled(text) IS
	'is this feature served to this call? true when there is no such feature';

CREATE FUNCTION resilience.feature_enabled(name text, key text) RETURNS boolean
AS 'MODULE_PATHNAME', 'feature_enabled_for_key' LANGUAGE C STABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION resilience.feature_enabled(text, text) IS
	'the same; while the feature is dimmed a key always gets the same answer';

CREATE FUNCTION resilience.run_feature(
	name text,
	primary_sql text,
	fallback_sql text DEFAULT NULL
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.run_feature FROM PUBLIC;
COMMENT ON FUNCTION resilience.run_feature IS
	'rows of the primary SQL while a feature is enabled, else of its fallback';

CREATE FUNCTION resilience.feature_statistics(
	OUT name text,
	OUT state text,
	OUT reason text,
	OUT dimmer float8,
	OUT since timestamptz,
	OUT evaluations_total bigint,
	OUT degraded_total bigint,
	OUT fallback_total bigint,
	OUT primary_failures_total bigint,
	OUT fallback_failures_total bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 20;
REVOKE ALL ON FUNCTION resilience.feature_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.feature_statistics() IS
	'internal: live numbers behind the view features';

CREATE VIEW resilience.features AS
SELECT d.name,
	d.enabled,
	s.state,
	s.reason,
	s.dimmer,
	s.since,
	s.evaluations_total,
	s.degraded_total,
	s.fallback_total,
	d.health_check,
	d.breaker,
	d.minimum_priority,
	d.dimmable,
	d.fallback_sql,
	d.expires_at,
	d.description,
	d.fallback_on_error,
	d.failure_threshold,
	d.success_threshold,
	d.min_degraded_duration,
	d.dimmer_target,
	pg_catalog.pg_get_userbyid(d.owner::oid) AS owner,
	s.primary_failures_total,
	s.fallback_failures_total
FROM resilience.feature_definitions d
	LEFT JOIN resilience.feature_statistics() s USING (name);
COMMENT ON VIEW resilience.features IS
	'features of this database: state, why, definition, and totals (NULL for what is not committed)';

GRANT SELECT ON resilience.features TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.feature_statistics() TO pg_monitor;

--
-- Degradations
--

CREATE TABLE resilience.degradation_definitions (
	name text PRIMARY KEY,
	when_state text NOT NULL,
	minimum_priority_affected text NOT NULL,
	settings jsonb NOT NULL,
	enabled boolean NOT NULL DEFAULT true
);
REVOKE ALL ON resilience.degradation_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.degradation_definitions IS
	'definitions of the degradations of this database; use create_degradation(), alter_degradation(), drop_degradation()';

SELECT pg_catalog.pg_extension_config_dump('resilience.degradation_definitions', '');

CREATE FUNCTION resilience.degradation_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.degradation_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.degradation_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.degradation_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.degradation_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE ON resilience.degradation_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.degradation_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
ALTER TABLE resilience.degradation_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.degradation_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.degradation_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_degradation(
	name text,
	when_state text,
	minimum_priority_affected text,
	settings jsonb,
	enabled boolean DEFAULT true
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_degradation FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_degradation IS
	'settings for the transactions at or below a priority while the server is in a state (loaded, shedding, degraded, unhealthy)';

CREATE FUNCTION resilience.alter_degradation(
	name text,
	when_state text DEFAULT NULL,
	minimum_priority_affected text DEFAULT NULL,
	settings jsonb DEFAULT NULL,
	enabled boolean DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_degradation FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_degradation IS
	'change a degradation; NULL leaves an argument as it is';

CREATE FUNCTION resilience.drop_degradation(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_degradation FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_degradation IS
	'remove a degradation';

CREATE FUNCTION resilience.degradation_statistics(
	OUT name text,
	OUT active boolean,
	OUT since timestamptz,
	OUT transactions_total bigint,
	OUT skipped_total bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION resilience.degradation_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.degradation_statistics() IS
	'internal: live numbers behind the view degradations';

CREATE VIEW resilience.degradations AS
SELECT d.name,
	d.when_state,
	d.minimum_priority_affected,
	d.settings,
	d.enabled,
	s.active,
	s.since,
	s.transactions_total,
	s.skipped_total
FROM resilience.degradation_definitions d
	LEFT JOIN resilience.degradation_statistics() s USING (name);
COMMENT ON VIEW resilience.degradations IS
	'degradations of this database, whether they hold now, and totals (NULL for what is not committed)';

GRANT SELECT ON resilience.degradations TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.degradation_statistics() TO pg_monitor;

--
-- Chaos experiments
--

CREATE TABLE resilience.experiment_definitions (
	name text PRIMARY KEY,
	role_name regrole,
	database_name text,
	application_name text,
	client_address cidr,
	tag text,
	query_id bigint,
	command text,
	impact text NOT NULL,
	probability float8 NOT NULL DEFAULT 0.001,
	delay interval,
	variance interval,
	distribution text,
	sqlstate text,
	server text,
	relation regclass,
	max_injections int NOT NULL DEFAULT 10,
	max_concurrent int NOT NULL DEFAULT 10,
	max_duration interval NOT NULL DEFAULT '5 min',
	schedule_start timestamptz,
	schedule_end timestamptz,
	schedule_interval interval,
	stop_when_unhealthy boolean NOT NULL DEFAULT true,
	stop_condition text,
	owner regrole NOT NULL DEFAULT (pg_catalog.quote_ident(CURRENT_USER))::pg_catalog.regrole
);
REVOKE ALL ON resilience.experiment_definitions FROM PUBLIC;
COMMENT ON TABLE resilience.experiment_definitions IS
	'definitions of the chaos experiments of this database; use create_experiment(), alter_experiment(), drop_experiment()';

SELECT pg_catalog.pg_extension_config_dump('resilience.experiment_definitions', '');

CREATE FUNCTION resilience.experiment_definitions_check() RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION resilience.experiment_definitions_check() FROM PUBLIC;
COMMENT ON FUNCTION resilience.experiment_definitions_check() IS
	'internal: the rules that a definition must obey';

CREATE TRIGGER check_row
	BEFORE INSERT OR UPDATE ON resilience.experiment_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.experiment_definitions_check();
CREATE TRIGGER publish_rows
	AFTER INSERT OR UPDATE OR DELETE ON resilience.experiment_definitions
	FOR EACH ROW EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
CREATE TRIGGER publish_truncate
	AFTER TRUNCATE ON resilience.experiment_definitions
	FOR EACH STATEMENT EXECUTE FUNCTION resilience.bulkhead_definitions_changed();
ALTER TABLE resilience.experiment_definitions ENABLE ALWAYS TRIGGER check_row;
ALTER TABLE resilience.experiment_definitions ENABLE ALWAYS TRIGGER publish_rows;
ALTER TABLE resilience.experiment_definitions ENABLE ALWAYS TRIGGER publish_truncate;

CREATE FUNCTION resilience.create_experiment(
	name text,
	impact text,
	probability float8 DEFAULT 0.001,
	delay interval DEFAULT NULL,
	variance interval DEFAULT NULL,
	sqlstate text DEFAULT NULL,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	server text DEFAULT NULL,
	relation regclass DEFAULT NULL,
	command text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	max_injections int DEFAULT 10,
	max_duration interval DEFAULT '5 min',
	schedule_start timestamptz DEFAULT NULL,
	schedule_end timestamptz DEFAULT NULL,
	stop_when_unhealthy boolean DEFAULT true,
	distribution text DEFAULT NULL,
	stop_condition text DEFAULT NULL,
	schedule_interval interval DEFAULT NULL,
	max_concurrent int DEFAULT 10,
	client_address cidr DEFAULT NULL,
	tag text DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.create_experiment FROM PUBLIC;
COMMENT ON FUNCTION resilience.create_experiment IS
	'define a fault to be injected into what matches all conditions; start_experiment() starts it';

CREATE FUNCTION resilience.alter_experiment(
	name text,
	impact text DEFAULT NULL,
	probability float8 DEFAULT NULL,
	delay interval DEFAULT NULL,
	variance interval DEFAULT NULL,
	sqlstate text DEFAULT NULL,
	role_name name DEFAULT NULL,
	database_name name DEFAULT NULL,
	application_name text DEFAULT NULL,
	server text DEFAULT NULL,
	relation regclass DEFAULT NULL,
	command text DEFAULT NULL,
	query_id bigint DEFAULT NULL,
	max_injections int DEFAULT NULL,
	max_duration interval DEFAULT NULL,
	schedule_start timestamptz DEFAULT NULL,
	schedule_end timestamptz DEFAULT NULL,
	stop_when_unhealthy boolean DEFAULT NULL,
	distribution text DEFAULT NULL,
	stop_condition text DEFAULT NULL,
	schedule_interval interval DEFAULT NULL,
	max_concurrent int DEFAULT NULL,
	client_address cidr DEFAULT NULL,
	tag text DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.alter_experiment FROM PUBLIC;
COMMENT ON FUNCTION resilience.alter_experiment IS
	'change a chaos experiment; NULL leaves an argument as it is';

CREATE FUNCTION resilience.drop_experiment(
	name text,
	if_exists boolean DEFAULT false
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.drop_experiment FROM PUBLIC;
COMMENT ON FUNCTION resilience.drop_experiment IS
	'remove a chaos experiment; if it runs it ends';

CREATE FUNCTION resilience.start_experiment(
	name text,
	baseline interval DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.start_experiment FROM PUBLIC;
COMMENT ON FUNCTION resilience.start_experiment IS
	'start a chaos experiment, with a time of measuring without faults before if wanted';

CREATE FUNCTION resilience.stop_experiment(
	name text,
	reason text DEFAULT NULL
) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.stop_experiment FROM PUBLIC;
COMMENT ON FUNCTION resilience.stop_experiment IS
	'end a chaos experiment at once';

CREATE FUNCTION resilience.stop_all_experiments() RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION resilience.stop_all_experiments FROM PUBLIC;
COMMENT ON FUNCTION resilience.stop_all_experiments IS
	'end all chaos experiments of all databases at once; how many did run';

CREATE FUNCTION resilience.preview_experiment(
	name text,
	OUT sessions int,
	OUT spared_sessions int,
	OUT all_sessions int,
	OUT can_start boolean,
	OUT message text,
	OUT recent_rate float8
) RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.preview_experiment FROM PUBLIC;
COMMENT ON FUNCTION resilience.preview_experiment IS
	'how many sessions an experiment would concern, and whether it can start now';

CREATE FUNCTION resilience.experiment_statistics(
	OUT name text,
	OUT state text,
	OUT injections_total bigint,
	OUT overflowed_total bigint,
	OUT started_total bigint,
	OUT started_at timestamptz,
	OUT ended_at timestamptz,
	OUT stop_reason text,
	OUT phase text,
	OUT injections int,
	OUT ends_at timestamptz,
	OUT next_start timestamptz
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION resilience.experiment_statistics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.experiment_statistics() IS
	'internal: live numbers behind the view experiments';

CREATE VIEW resilience.experiments AS
SELECT d.name,
	d.impact,
	d.probability,
	d.delay,
	d.variance,
	d.distribution,
	d.sqlstate,
	pg_catalog.pg_get_userbyid(d.role_name::oid) AS role_name,
	coalesce(d.database_name::name, current_database()) AS database_name,
	d.application_name,
	d.server,
	d.relation,
	d.command,
	d.query_id,
	d.client_address,
	d.tag,
	d.max_injections,
	d.max_concurrent,
	d.max_duration,
	d.schedule_start,
	d.schedule_end,
	d.schedule_interval,
	d.stop_when_unhealthy,
	d.stop_condition,
	s.state,
	s.injections_total,
	s.overflowed_total,
	s.started_total,
	s.started_at,
	s.ended_at,
	s.stop_reason,
	s.phase,
	s.injections,
	s.ends_at,
	s.next_start
FROM resilience.experiment_definitions d
	LEFT JOIN resilience.experiment_statistics() s USING (name);
COMMENT ON VIEW resilience.experiments IS
	'chaos experiments of this database: faults, conditions, state, and totals (NULL for what is not committed)';

CREATE FUNCTION resilience.experiment_report(
	name text,
	OUT section text,
	OUT metric text,
	OUT before float8,
	OUT during float8,
	OUT after float8,
	OUT unit text,
	OUT remark text
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 25;
REVOKE ALL ON FUNCTION resilience.experiment_report FROM PUBLIC;
COMMENT ON FUNCTION resilience.experiment_report IS
	'what the last run of a chaos experiment did: its target and the rest, before, during and after; did the protection hold?';

CREATE FUNCTION resilience.experiment_summary(
	name text,
	OUT state text,
	OUT stop_reason text,
	OUT started_at timestamptz,
	OUT faults_at timestamptz,
	OUT faults_end_at timestamptz,
	OUT over_at timestamptz,
	OUT injections int,
	OUT overflowed bigint,
	OUT breakers_opened text[],
	OUT features_degraded text[],
	OUT bulkheads_saturated text[],
	OUT refused bigint,
	OUT fallbacks bigint,
	OUT time_to_recover interval,
	OUT recovery text,
	OUT held boolean,
	OUT verdict text
) RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION resilience.experiment_summary FROM PUBLIC;
COMMENT ON FUNCTION resilience.experiment_summary IS
	'the last run of a chaos experiment in one row, for programs';

GRANT SELECT ON resilience.experiments TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.experiment_statistics() TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.experiment_report TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.experiment_summary TO pg_monitor;

--
-- Health of the whole
--

CREATE FUNCTION resilience.health_components(
	OUT component text,
	OUT kind text,
	OUT status text,
	OUT critical boolean,
	OUT since timestamptz,
	OUT message text,
	OUT database oid
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE;
REVOKE ALL ON FUNCTION resilience.health_components() FROM PUBLIC;
COMMENT ON FUNCTION resilience.health_components() IS
	'internal: rows of the view "health"';

CREATE VIEW resilience.health AS
	SELECT h.component, h.kind, h.status, h.critical, h.since, h.message,
		d.datname AS database_name
	FROM resilience.health_components() h
		LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) h.database
	ORDER BY h.kind OPERATOR(pg_catalog.<>) 'server',
		pg_catalog.array_position('{unhealthy,unknown,degraded,healthy}', h.status),
		NOT h.critical, h.kind, h.component;
COMMENT ON VIEW resilience.health IS
	'how the server is, and each component of it; the server first, then what is worst';

GRANT SELECT ON resilience.health TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.health_components() TO pg_monitor;

CREATE FUNCTION resilience.load_sample_rows(
	OUT at timestamptz,
	OUT status text,
	OUT running int,
	OUT waiting int,
	OUT current_limit int,
	OUT admitted_per_second bigint,
	OUT refused_per_second bigint,
	OUT cpu_idle float8
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE ROWS 128;
REVOKE ALL ON FUNCTION resilience.load_sample_rows() FROM PUBLIC;
COMMENT ON FUNCTION resilience.load_sample_rows() IS
	'internal: rows of the view "load_samples"';

CREATE VIEW resilience.load_samples AS
	SELECT * FROM resilience.load_sample_rows();
COMMENT ON VIEW resilience.load_samples IS
	'what the server did in the last two minutes, second by second';

GRANT SELECT ON resilience.load_samples TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.load_sample_rows() TO pg_monitor;

CREATE FUNCTION resilience.health_status() RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION resilience.health_status() IS
	'healthy, degraded, unhealthy or unknown: the server as a whole; reads shared memory only';

--
-- Metrics
--

CREATE FUNCTION resilience.metric_rows(
	OUT name text,
	OUT type text,
	OUT help text,
	OUT labels jsonb,
	OUT value float8
) RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1000;
REVOKE ALL ON FUNCTION resilience.metric_rows() FROM PUBLIC;
COMMENT ON FUNCTION resilience.metric_rows() IS
	'internal: rows of the view metrics';

CREATE VIEW resilience.metrics AS
SELECT * FROM resilience.metric_rows();
COMMENT ON VIEW resilience.metrics IS
	'all numbers of the extension, of all databases, as a monitoring system reads them';

GRANT SELECT ON resilience.metrics TO pg_monitor;
GRANT EXECUTE ON FUNCTION resilience.metric_rows() TO pg_monitor;

CREATE FUNCTION resilience.prometheus_metrics() RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE;
REVOKE ALL ON FUNCTION resilience.prometheus_metrics() FROM PUBLIC;
COMMENT ON FUNCTION resilience.prometheus_metrics() IS
	'numbers of everything in Prometheus'' exposition format, as the health endpoint answers at /metrics';
GRANT EXECUTE ON FUNCTION resilience.prometheus_metrics() TO pg_monitor;
