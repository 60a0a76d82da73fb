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

#include "bulkhead/functions.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "policy/conditions.h"
#include "policy/definitions.h"
#include "policy/match.h"
#include "policy/publish.h"
#include "policy/query_ids.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/rel.h"
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

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *name = rsl_text_column(tuple, desc, RSL_COL_NAME);
	char	   *word;
	Datum		value;
	bool		isnull;

	rsl_check_name(definitions.kind, name);

	rsl_check_conditions(definitions.kind, tuple, desc);
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
	rsl_check_row_database(definitions.kind, tuple, desc);
	rsl_lock_condition_role(definitions.kind, tuple, desc);
	return PointerGetDatum(tuple);
}

/*
 * The rest is about writing the table.
 */

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

	rsl_collect_conditions(definitions.kind, values, nulls);
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
 * The definition that create_bulkhead() would make of the same arguments,
 * with the same errors but those about what there is already.
 */
void
rsl_bulkhead_from_arguments(FunctionCallInfo fcinfo,
							rsl_bulkhead_policy *policy)
{
	Datum		values[RSL_NUM_DEFINITION_COLUMNS];
	bool		nulls[RSL_NUM_DEFINITION_COLUMNS];
	TupleDesc	desc;
	HeapTuple	tuple;

	collect_arguments(fcinfo, values, nulls);
	tuple = rsl_definition_form(&definitions, values, nulls, &desc);
	memset(policy, 0, sizeof(*policy));
	policy->home_database = MyDatabaseId;
	(void) rsl_bulkhead_from_tuple(tuple, desc, policy);
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
	if (!nulls[RSL_COL_QUERY_ID - 1])
		rsl_warn_without_query_ids(definitions.kind,
								   TextDatumGetCString(values[0]));
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
	rsl_check_other_databases(&definitions, values[0]);
	rsl_definition_update(&definitions, values, nulls);
	warn_of_lockout(values[0]);
	if (!nulls[RSL_COL_QUERY_ID - 1])
		rsl_warn_without_query_ids(definitions.kind,
								   TextDatumGetCString(values[0]));
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
	rsl_check_other_databases(&definitions, name);
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
