/*-------------------------------------------------------------------------
 *
 * functions.c
 *		SQL functions that create, alter and drop bulkheads.
 *
 * They write the table resilience.bulkhead_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "policy/definitions.h"
#include "policy/match.h"
#include "policy/publish.h"
#include "policy/settings.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define MAX_WAIT_LIMIT_MS		(3600 * 1000)
#define MAX_CPU_BURST_MS		(3600 * 1000)

PG_FUNCTION_INFO_V1(create_bulkhead);
PG_FUNCTION_INFO_V1(alter_bulkhead);
PG_FUNCTION_INFO_V1(drop_bulkhead);
PG_FUNCTION_INFO_V1(bulkhead_definitions_check);

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_NUM_DEFINITION_COLUMNS] = {
	{"name", TEXTOID, NULL},
	{"role_name", REGROLEOID, NULL},
	{"database_name", TEXTOID, NULL},
	{"application_name", TEXTOID, NULL},
	{"client_address", CIDROID, NULL},
	{"tag", TEXTOID, NULL},
	{"query_id", INT8OID, NULL},
	{"command", TEXTOID, NULL},
	{"max_connections", INT4OID, "-1"},
	{"max_running", INT4OID, "-1"},
	{"max_waiting", INT4OID, "0"},
	{"max_wait", INTERVALOID, "1 s"},
	{"priority", TEXTOID, NULL},
	{"mode", TEXTOID, "enforce"},
	{"expires_at", TIMESTAMPTZOID, NULL},
	{"max_connection_rate", FLOAT8OID, "-1"},
	{"cpu_share", FLOAT8OID, "-1"},
	{"cpu_burst", INTERVALOID, "10 s"},
	{"max_statement_cost", FLOAT8OID, "-1"},
	{"max_rate", FLOAT8OID, "-1"},
	{"only_under_load", BOOLOID, "false"},
	{"auto_revert_refusal_rate", FLOAT8OID, "-1"},
};

static const rsl_definition_table definitions = {
	.table = "resilience.bulkhead_definitions",
	.relname = RSL_DEFINITIONS_NAME,
	.kind = "bulkhead",
	.view = "bulkheads",
	.ncolumns = RSL_NUM_DEFINITION_COLUMNS,
	.columns = columns,
	.check = check_definition,
};

/*
 * Rules for one definition.
 */

static void
check_limit(const char *column, int32 value)
{
	if (value < -1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a bulkhead must not be negative", column),
				 errdetail("%s=%d", column, value),
				 errhint("Use -1 for no limit, 0 to admit none.")));
	if (value > (int32) RSL_LANE_MASK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a bulkhead is too large", column),
				 errdetail("%s=%d maximum=%d", column, value,
						   (int32) RSL_LANE_MASK),
				 errhint("Use -1 for no limit.")));
}

/*
 * A rate or a share: -1 (none), or a number within bounds.  NaN is in none.
 */
static void
check_number(HeapTuple tuple, TupleDesc desc, int column, double minimum,
			 double maximum)
{
	const char *name = NameStr(TupleDescAttr(desc, column - 1)->attname);
	double		value = rsl_float_column(tuple, desc, column, -1);

	if (value == -1 || (value >= minimum && value <= maximum))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s of a bulkhead is out of range", name),
			 errdetail("%s=%g minimum=%g maximum=%g", name, value, minimum,
					   maximum),
			 errhint("Use -1 for no limit.")));
}

static void
check_budgets(HeapTuple tuple, TupleDesc desc)
{
	double		burst_ms = rsl_interval_column_ms(tuple, desc,
												  RSL_COL_CPU_BURST, 10000);

	check_number(tuple, desc, RSL_COL_MAX_CONNECTION_RATE, 0, 1e6);
	check_number(tuple, desc, RSL_COL_CPU_SHARE, 0.001, 1);
	check_number(tuple, desc, RSL_COL_MAX_STATEMENT_COST, 0, 1e300);
	check_number(tuple, desc, RSL_COL_MAX_RATE, 0, 1e6);
	check_number(tuple, desc, RSL_COL_AUTO_REVERT_REFUSAL_RATE, 0.001, 1);
	if (burst_ms < 1 || burst_ms > MAX_CPU_BURST_MS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cpu_burst of a bulkhead is out of range"),
				 errdetail("cpu_burst_ms=%.0f minimum=1 maximum=%d", burst_ms,
						   MAX_CPU_BURST_MS),
				 errhint("It is CPU time that may be used at once: choose an interval from 1 ms to 1 hour.")));
}

/* A condition on a tag: "key" or "key=value", as they are after decoding. */
static void
check_tag(const char *tag)
{
	const char *equals = strchr(tag, '=');
	size_t		key = equals ? (size_t) (equals - tag) : strlen(tag);
	size_t		value = equals ? strlen(equals + 1) : 0;

	if (key == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tag of a bulkhead must have a key"),
				 errdetail("tag=%s", tag),
				 errhint("Write key=value for one value, or key for a compartment for each value.")));
	if (key >= RSL_TAG_LEN || value >= RSL_TAG_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tag of a bulkhead is too long"),
				 errdetail("key_bytes=%zu value_bytes=%zu maximum=%d", key, value,
						   RSL_TAG_LEN - 1),
				 errhint("Key and value have at most %d bytes each.",
						 RSL_TAG_LEN - 1)));
}

/*
 * Connections are judged at authentication, when no statement is known.
 */
static void
check_connection_limits(HeapTuple tuple, TupleDesc desc)
{
	static const int conditions[] = {RSL_COL_TAG, RSL_COL_QUERY_ID,
	RSL_COL_COMMAND};
	const char *limit = NULL;

	if (rsl_int_column(tuple, desc, RSL_COL_MAX_CONNECTIONS, -1) != -1)
		limit = "max_connections";
	else if (rsl_float_column(tuple, desc, RSL_COL_MAX_CONNECTION_RATE, -1) != -1)
		limit = "max_connection_rate";
	if (limit == NULL)
		return;

	for (int i = 0; i < lengthof(conditions); i++)
	{
		const char *name = NameStr(TupleDescAttr(desc, conditions[i] - 1)->attname);

		if (heap_attisnull(tuple, conditions[i], desc))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s cannot be combined with a condition on the %s",
						limit, name),
				 errdetail("A connection is judged at authentication, when no statement is known."),
				 errhint("Make two bulkheads: one with %s, one with %s and max_running.",
						 limit, name)));
	}
}

/* Does a LIKE pattern end with an escape that escapes nothing? */
static bool
ends_with_escape(const char *pattern)
{
	int			backslashes = 0;

	for (const char *c = pattern + strlen(pattern);
		 c > pattern && c[-1] == '\\'; c--)
		backslashes++;
	return backslashes % 2 == 1;
}

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *name = rsl_text_column(tuple, desc, RSL_COL_NAME);
	char	   *word;
	Datum		value;
	bool		isnull;

	rsl_check_name(definitions.kind, name);

	word = rsl_text_column(tuple, desc, RSL_COL_APPLICATION_NAME);

	if (word && word[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a bulkhead must not be empty"),
				 errhint("It is a LIKE pattern; leave it out (NULL) to match every application.")));
	if (word && strlen(word) >= RSL_PATTERN_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a bulkhead is too long"),
				 errdetail("bytes=%zu maximum=%d", strlen(word),
						   RSL_PATTERN_LEN - 1)));
	if (word && ends_with_escape(word))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a bulkhead must not end with an escape character"),
				 errdetail("application_name=%s", word),
				 errhint("It is a LIKE pattern; write \\\\ for a backslash.")));

	check_limit("max_connections",
				rsl_int_column(tuple, desc, RSL_COL_MAX_CONNECTIONS, -1));
	check_limit("max_running", rsl_int_column(tuple, desc, RSL_COL_MAX_RUNNING, -1));
	check_limit("max_waiting", rsl_int_column(tuple, desc, RSL_COL_MAX_WAITING, -1));

	value = heap_getattr(tuple, RSL_COL_MAX_WAIT, desc, &isnull);
	if (!isnull)
	{
		double		ms = rsl_interval_ms(DatumGetIntervalP(value));

		if (ms < 0 || ms > MAX_WAIT_LIMIT_MS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_wait of a bulkhead is out of range"),
					 errdetail("max_wait_ms=%.0f minimum=0 maximum=%d", ms,
							   MAX_WAIT_LIMIT_MS),
					 errhint("Every wait has an end: choose an interval from 0 to 1 hour.")));
	}

	word = rsl_text_column(tuple, desc, RSL_COL_COMMAND);

	if (word && rsl_parse_command(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown command \"%s\" in the conditions of a bulkhead", word),
				 errhint("Available commands are SELECT, INSERT, UPDATE, DELETE, MERGE, COPY, CALL, DDL, MAINTENANCE.")));

	word = rsl_text_column(tuple, desc, RSL_COL_TAG);
	if (word)
		check_tag(word);
	value = heap_getattr(tuple, RSL_COL_QUERY_ID, desc, &isnull);
	if (!isnull && DatumGetInt64(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query_id of a bulkhead must not be 0"),
				 errdetail("Statements without a query identifier have 0."),
				 errhint("Take it from resilience.activity, pg_stat_activity or pg_stat_statements; leave it out (NULL) to match every query.")));
	check_connection_limits(tuple, desc);
	check_budgets(tuple, desc);

	word = rsl_text_column(tuple, desc, RSL_COL_PRIORITY);

	if (word && rsl_parse_priority(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown priority \"%s\" of a bulkhead", word),
				 errhint("Available priorities are low, normal, high, critical.")));
	word = rsl_text_column(tuple, desc, RSL_COL_MODE);

	if (word && rsl_parse_mode(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode \"%s\" of a bulkhead", word),
				 errhint("Available modes are enforce, observe, off.")));
}

/*
 * Keep the role of a definition from being dropped until the definition is
 * published, and can be seen by whoever wants to drop it.
 */
static void
lock_role(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Oid			role;

	role = DatumGetObjectId(heap_getattr(tuple, RSL_COL_ROLE, desc, &isnull));
	if (isnull)
		return;
	LockSharedObject(AuthIdRelationId, role, 0, AccessShareLock);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role),
				 errhint("A bulkhead's role_name must be an existing role.")));
}

/*
 * bulkhead_definitions_check() returns trigger
 *
 * BEFORE each row: the rules.
 */
Datum
bulkhead_definitions_check(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo,
												   "bulkhead_definitions_check");
	TupleDesc	desc = RelationGetDescr(((TriggerData *) fcinfo->context)->tg_relation);

	check_definition(tuple, NULL, desc);
	lock_role(tuple, desc);
	return PointerGetDatum(tuple);
}

/*
 * The rest is about writing the table.
 */

/* Does a bulkhead concern other databases? */
static bool
concerns_other_databases(Datum name)
{
	Oid			types[1] = {TEXTOID};

	return rsl_execute_as_owner(RSL_DEFINITIONS_NAME,
								"SELECT FROM resilience.bulkhead_definitions "
								"WHERE name OPERATOR(pg_catalog.=) $1 "
								"AND database_name IS NOT NULL "
								"AND database_name OPERATOR(pg_catalog.<>) pg_catalog.current_database()::pg_catalog.text",
								1, types, &name, NULL, NULL) > 0;
}

/* A rule that admits nobody at all is allowed, but hardly what one means. */
static void
warn_of_lockout(Datum name)
{
	static const char *const limits[] = {"max_connections", "max_running"};
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {name};

	for (int i = 0; i < lengthof(limits); i++)
	{
		char	   *sql;

		sql = psprintf("SELECT FROM resilience.bulkhead_definitions "
					   "WHERE name OPERATOR(pg_catalog.=) $1 AND role_name IS NULL "
					   "AND application_name IS NULL AND client_address IS NULL "
					   "AND tag IS NULL AND query_id IS NULL "
					   "AND command IS NULL AND mode OPERATOR(pg_catalog.=) 'enforce' "
					   "AND %s OPERATOR(pg_catalog.=) 0", limits[i]);
		if (rsl_execute_as_owner(RSL_DEFINITIONS_NAME, sql, 1, types, values,
								 NULL, NULL) == 0)
			continue;
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("bulkhead \"%s\" locks out everybody but superusers",
						TextDatumGetCString(name)),
				 errdetail("%s=0 and no condition narrows it to some sessions.",
						   limits[i]),
				 errhint("Add a condition such as role_name, or drop it: SELECT resilience.drop_bulkhead(%s);",
						 quote_literal_cstr(TextDatumGetCString(name)))));
		break;
	}
}

static void
require_superuser_for_other_databases(void)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for a bulkhead that concerns other databases"),
				 errdetail("Only a superuser may set database_name to '*' or to another database."),
				 errhint("Leave database_name out to mean the current database.")));
}

/*
 * The arguments as column values: role and database are looked up, words
 * are brought to the spelling that the views show.
 */
static void
collect_arguments(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_DEFINITION_COLUMNS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = PG_GETARG_DATUM(i);
	}

	if (!nulls[RSL_COL_ROLE - 1])
	{
		char	   *role = NameStr(*DatumGetName(values[RSL_COL_ROLE - 1]));
		Oid			oid = get_role_oid(role, true);

		if (!OidIsValid(oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("role \"%s\" does not exist", role),
					 errhint("A bulkhead's role_name must be an existing role; the bulkhead applies to it and to its members.")));
		values[RSL_COL_ROLE - 1] = ObjectIdGetDatum(oid);
	}

	if (!nulls[RSL_COL_DATABASE - 1])
	{
		char	   *database = NameStr(*DatumGetName(values[RSL_COL_DATABASE - 1]));

		if (strcmp(database, "*") == 0)
			require_superuser_for_other_databases();
		else
		{
			Oid			oid = get_database_oid(database, true);

			if (!OidIsValid(oid))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_DATABASE),
						 errmsg("database \"%s\" does not exist", database),
						 errhint("Leave database_name out to mean the current database, or use '*' for every database.")));
			if (oid != MyDatabaseId)
				require_superuser_for_other_databases();
		}
		values[RSL_COL_DATABASE - 1] = CStringGetTextDatum(database);
	}

	if (!nulls[RSL_COL_COMMAND - 1])
	{
		int			command;

		command = rsl_parse_command(TextDatumGetCString(values[RSL_COL_COMMAND - 1]));
		if (command >= 0)
			values[RSL_COL_COMMAND - 1] =
				CStringGetTextDatum(rsl_command_name(command));
	}
	if (!nulls[RSL_COL_PRIORITY - 1])
	{
		int			priority;

		priority = rsl_parse_priority(TextDatumGetCString(values[RSL_COL_PRIORITY - 1]));
		if (priority >= 0)
			values[RSL_COL_PRIORITY - 1] =
				CStringGetTextDatum(rsl_priority_name(priority));
	}
	if (!nulls[RSL_COL_MODE - 1])
	{
		int			mode;

		mode = rsl_parse_mode(TextDatumGetCString(values[RSL_COL_MODE - 1]));
		if (mode >= 0)
			values[RSL_COL_MODE - 1] = CStringGetTextDatum(rsl_mode_name(mode));
	}
	if (!nulls[RSL_COL_EXPIRES_AT - 1] &&
		DatumGetTimestampTz(values[RSL_COL_EXPIRES_AT - 1]) <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at of a bulkhead lies in the past"),
				 errdetail("expires_at=%s",
						   timestamptz_to_str(DatumGetTimestampTz(values[RSL_COL_EXPIRES_AT - 1]))),
				 errhint("Choose a time to come, or leave it out for a bulkhead that stays.")));
}

/*
 * create_bulkhead(name text, role_name name, database_name name,
 *		application_name text, client_address cidr, tag text, query_id bigint,
 *		command text, max_connections int, max_running int, max_waiting int,
 *		max_wait interval, priority text, mode text, expires_at timestamptz,
 *		max_connection_rate float8, cpu_share float8, cpu_burst interval,
 *		max_statement_cost float8, max_rate float8, only_under_load boolean,
 *		auto_revert_refusal_rate float8) returns void
 *
 * Errors: 22023 for a bad argument, 42710 for a name in use, 42704 for an
 * unknown role, 3D000 for an unknown database, 42501, 53400 (at COMMIT) when
 * shared memory has no more room.
 */
Datum
create_bulkhead(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_DEFINITION_COLUMNS];
	bool		nulls[RSL_NUM_DEFINITION_COLUMNS];

	rsl_begin_change("create_bulkhead()");
	collect_arguments(fcinfo, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	warn_of_lockout(values[0]);
	PG_RETURN_VOID();
}

/*
 * alter_bulkhead(name text, ...the same arguments, NULL = leave)
 *		returns void
 *
 * Errors: 42704 when there is no such bulkhead; else as create_bulkhead().
 */
Datum
alter_bulkhead(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_DEFINITION_COLUMNS];
	bool		nulls[RSL_NUM_DEFINITION_COLUMNS];

	rsl_begin_change("alter_bulkhead()");
	collect_arguments(fcinfo, values, nulls);
	if (concerns_other_databases(values[0]))
		require_superuser_for_other_databases();
	rsl_definition_update(&definitions, values, nulls);
	warn_of_lockout(values[0]);
	PG_RETURN_VOID();
}

/*
 * drop_bulkhead(name text, if_exists boolean = false) returns void
 *
 * Errors: 42704 when there is no such bulkhead, unless if_exists (NOTICE).
 */
Datum
drop_bulkhead(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_bulkhead()");
	if (concerns_other_databases(name))
		require_superuser_for_other_databases();
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
