/*-------------------------------------------------------------------------
 *
 * feature_functions.c
 *		SQL functions that define features.
 *
 * create, alter and drop write resilience.feature_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "degradation/run_feature.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "policy/breaker_policy.h"
#include "policy/definitions.h"
#include "policy/dependencies.h"
#include "policy/execution.h"
#include "policy/feature_policy.h"
#include "policy/health_policy.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(create_feature);
PG_FUNCTION_INFO_V1(alter_feature);
PG_FUNCTION_INFO_V1(drop_feature);
PG_FUNCTION_INFO_V1(set_feature);
PG_FUNCTION_INFO_V1(feature_definitions_check);

#define DAY_MS			(24.0 * 3600 * 1000)
#define HOUR_MS			(3600.0 * 1000)
#define MAX_THRESHOLD	10000
#define MAX_DESCRIPTION	1024

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_FCOL_OWNER] = {
	{"name", TEXTOID, NULL},
	{"enabled", BOOLOID, "true"},
	{"health_check", TEXTOID, NULL},
	{"breaker", TEXTOID, NULL},
	{"minimum_priority", TEXTOID, NULL},
	{"dimmable", BOOLOID, "false"},
	{"fallback_sql", TEXTOID, NULL},
	{"expires_at", TIMESTAMPTZOID, NULL},
	{"description", TEXTOID, NULL},
	{"fallback_on_error", BOOLOID, "false"},
	{"failure_threshold", INT4OID, "3"},
	{"success_threshold", INT4OID, "5"},
	{"min_degraded_duration", INTERVALOID, "30 s"},
	{"dimmer_target", INTERVALOID, "100 ms"},
	{"reason", TEXTOID, NULL},
	{"owner", REGROLEOID, NULL},
};

static const rsl_definition_table definitions = {
	.table = "resilience.feature_definitions",
	.relname = RSL_FEATURES_NAME,
	.kind = "feature",
	.view = "features",
	.ncolumns = RSL_FCOL_OWNER,
	.columns = columns,
	.check = check_definition,
};

/*
 * The rules.
 */

static void
check_threshold(HeapTuple tuple, TupleDesc desc, int column, const char *hint)
{
	int32		value = rsl_int_column(tuple, desc, column, 1);
	const char *name = columns[column - 1].name;

	if (value < 1 || value > MAX_THRESHOLD)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a feature is out of range", name),
				 errdetail("%s=%d minimum=1 maximum=%d", name, value, MAX_THRESHOLD),
				 errhint("%s", hint)));
}

static void
check_interval(HeapTuple tuple, TupleDesc desc, int column, double min,
			   double max)
{
	double		ms = rsl_interval_column_ms(tuple, desc, column, min);
	const char *name = columns[column - 1].name;

	if (!(ms >= min && ms <= max))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a feature is out of range", name),
				 errdetail("%s_ms=%.3f minimum=%.0f maximum=%.0f", name, ms,
						   min, max),
				 errhint("Choose an interval between these bounds.")));
}

static void
check_length(const char *what, const char *value, size_t maximum)
{
	if (value && strlen(value) > maximum)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s of a feature is too long", what),
				 errdetail("bytes=%zu maximum=%zu", strlen(value), maximum),
				 errhint("Give it a shorter one.")));
}

/* It runs with its owner's rights whenever somebody wants the feature. */
static void
check_fallback_sql(const char *sql)
{
	List	   *parsed = rsl_parse_text(sql);
	Node	   *stmt;

	stmt = list_length(parsed) == 1 ? linitial_node(RawStmt, parsed)->stmt : NULL;
	if (stmt == NULL || !IsA(stmt, SelectStmt) ||
		((SelectStmt *) stmt)->intoClause != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("fallback_sql of a feature must be one SELECT or VALUES statement"),
				 errdetail("It has %d %s.", list_length(parsed),
						   list_length(parsed) == 1 ? "statement, of another kind" : "statements"),
				 errhint("Put more than that into a function, and SELECT from it.")));
}

/* The rules for a row, whoever writes it: nothing about other objects. */
static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *word;

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_FCOL_NAME));
	word = rsl_text_column(tuple, desc, RSL_FCOL_HEALTH_CHECK);
	if (word && word[0] != '\0')
		rsl_check_name("health check", word);
	word = rsl_text_column(tuple, desc, RSL_FCOL_BREAKER);
	if (word && word[0] != '\0')
		rsl_check_name("circuit breaker", word);

	word = rsl_text_column(tuple, desc, RSL_FCOL_MINIMUM_PRIORITY);
	if (word && word[0] != '\0' && rsl_parse_priority(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown minimum_priority \"%s\" of a feature", word),
				 errhint("Available priorities are low, normal, high, critical.")));

	word = rsl_text_column(tuple, desc, RSL_FCOL_FALLBACK_SQL);
	if (word && word[0] != '\0' &&
		!(old && rsl_text_column(old, desc, RSL_FCOL_FALLBACK_SQL) &&
		  strcmp(word, rsl_text_column(old, desc, RSL_FCOL_FALLBACK_SQL)) == 0))
		check_fallback_sql(word);

	check_length("description", rsl_text_column(tuple, desc, RSL_FCOL_DESCRIPTION),
				 MAX_DESCRIPTION);
	check_length("reason", rsl_text_column(tuple, desc, RSL_FCOL_REASON),
				 RSL_FEATURE_REASON_LEN - 1);
	check_threshold(tuple, desc, RSL_FCOL_FAILURE_THRESHOLD,
					"So many runs of the health check in a row must not be healthy before the feature is degraded.");
	check_threshold(tuple, desc, RSL_FCOL_SUCCESS_THRESHOLD,
					"So many good looks in a row bring the feature back.");
	check_interval(tuple, desc, RSL_FCOL_MIN_DEGRADED_DURATION, 0, DAY_MS);
	check_interval(tuple, desc, RSL_FCOL_DIMMER_TARGET, 1, HOUR_MS);
}

/*
 * feature_definitions_check() returns trigger
 *
 * BEFORE each row that is written, whoever writes it: the rules, and '' means
 * none, since alter_feature() takes NULL for "leave".
 */
Datum
feature_definitions_check(PG_FUNCTION_ARGS)
{
	static const int clearable[] = {
		RSL_FCOL_HEALTH_CHECK, RSL_FCOL_BREAKER, RSL_FCOL_MINIMUM_PRIORITY,
		RSL_FCOL_FALLBACK_SQL, RSL_FCOL_DESCRIPTION, RSL_FCOL_REASON
	};
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo, "feature_definitions_check");
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	check_definition(tuple,
					 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					 trigger->tg_trigtuple : NULL, desc);
	for (int i = 0; i < lengthof(clearable); i++)
	{
		char	   *word = rsl_text_column(tuple, desc, clearable[i]);
		int			column = clearable[i];
		Datum		value = (Datum) 0;
		bool		isnull = true;

		if (word && word[0] == '\0')
			tuple = heap_modify_tuple_by_cols(tuple, desc, 1, &column, &value,
											  &isnull);
	}
	rsl_check_owner(definitions.kind, tuple,
					TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					trigger->tg_trigtuple : NULL, desc, RSL_FCOL_OWNER,
					RSL_FCOL_FALLBACK_SQL);
	return PointerGetDatum(tuple);
}

/*
 * The functions.
 */

/* An argument that is given, and is not ''. */
static char *
given_text(const Datum *values, const bool *nulls, int column)
{
	char	   *given;

	if (nulls[column - 1])
		return NULL;
	given = TextDatumGetCString(values[column - 1]);
	return given[0] != '\0' ? given : NULL;
}

static void
check_exists(const char *relname, const char *table, const char *kind,
			 const char *view, const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};

	if (rsl_execute_as_owner(relname,
							 psprintf("SELECT FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
									  table),
							 1, types, values, NULL, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s \"%s\" does not exist", kind, name),
				 errdetail("A feature is coupled to a %s of its own database.", kind),
				 errhint("SELECT name FROM resilience.%s lists them.", view)));
}

/*
 * What only the functions ask: a restore may bring the features first, or
 * after their time.
 */
static void
check_arguments(const Datum *values, const bool *nulls)
{
	char	   *word;

	if ((word = given_text(values, nulls, RSL_FCOL_HEALTH_CHECK)) != NULL)
		check_exists(RSL_HEALTH_CHECKS_NAME, "resilience.health_check_definitions",
					 "health check", "health_checks", word);
	if ((word = given_text(values, nulls, RSL_FCOL_BREAKER)) != NULL)
		check_exists(RSL_BREAKERS_NAME, "resilience.breaker_definitions",
					 "circuit breaker", "breakers", word);
	if (!nulls[RSL_FCOL_EXPIRES_AT - 1] &&
		DatumGetTimestampTz(values[RSL_FCOL_EXPIRES_AT - 1]) <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at of a feature is in the past"),
				 errdetail("expires_at=\"%s\"",
						   timestamptz_to_str(DatumGetTimestampTz(values[RSL_FCOL_EXPIRES_AT - 1]))),
				 errhint("Use a time to come, or 'infinity' for a feature that does not expire.")));
}

/*
 * The same.  Before all others are kept from changing definitions: analysis may
 * have to wait for a lock on what the fallback reads.
 */
static void
check_fallback(const Datum *values, const bool *nulls)
{
	char	   *sql = given_text(values, nulls, RSL_FCOL_FALLBACK_SQL);

	if (sql == NULL)
		return;
	check_fallback_sql(sql);
	rsl_fallback_prepare(TextDatumGetCString(values[RSL_FCOL_NAME - 1]), sql);
}

/*
 * The arguments, and whose the feature is.  Whoever gives it a fallback_sql becomes its
 * owner: otherwise that would run as somebody else.
 */
static void
collect_arguments(FunctionCallInfo fcinfo, bool is_new, Datum *values,
				  bool *nulls)
{
	char	   *priority;

	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_FEATURE_ARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	if ((priority = given_text(values, nulls, RSL_FCOL_MINIMUM_PRIORITY)) != NULL)
		values[RSL_FCOL_MINIMUM_PRIORITY - 1] =
			CStringGetTextDatum(asc_tolower(priority, strlen(priority)));

	/* the reason was that of another command */
	nulls[RSL_FCOL_REASON - 1] = is_new || nulls[RSL_FCOL_ENABLED - 1];
	values[RSL_FCOL_REASON - 1] = CStringGetTextDatum("");
	values[RSL_FCOL_OWNER - 1] = ObjectIdGetDatum(GetUserId());
	nulls[RSL_FCOL_OWNER - 1] = !is_new && nulls[RSL_FCOL_FALLBACK_SQL - 1];
}

/*
 * create_feature(name text, ...) returns void
 *
 * Errors: 22023 for a bad argument or a circle, 42710 for a name in use, 42704
 * for an unknown health check or breaker, those of the analysis of
 * fallback_sql, 53400 (at COMMIT) when shared memory has no more room.
 */
Datum
create_feature(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_FCOL_OWNER];
	bool		nulls[RSL_FCOL_OWNER];

	rsl_require_shmem();
	collect_arguments(fcinfo, true, values, nulls);
	check_fallback(values, nulls);
	rsl_begin_change("create_feature()");
	check_arguments(values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	rsl_refuse_coupling_cycle();
	PG_RETURN_VOID();
}

/*
 * alter_feature(name text, ...the same arguments, NULL = leave)
 *		returns void
 *
 * '' takes a health check, a breaker, a minimum_priority, a fallback_sql or a
 * description away.  Errors: 42704 when there is no such feature; else as
 * create_feature().
 */
Datum
alter_feature(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_FCOL_OWNER];
	bool		nulls[RSL_FCOL_OWNER];

	rsl_require_shmem();
	collect_arguments(fcinfo, false, values, nulls);
	check_fallback(values, nulls);
	rsl_begin_change("alter_feature()");
	check_arguments(values, nulls);
	rsl_definition_update(&definitions, values, nulls);
	rsl_refuse_coupling_cycle();
	PG_RETURN_VOID();
}

/*
 * drop_feature(name text, if_exists boolean = false) returns void
 *
 * Errors: 42704 when there is no such feature, unless if_exists (NOTICE).
 */
Datum
drop_feature(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_feature()");
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

/* One that has expired stays off, whatever is said. */
static void
warn_if_expired(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};

	if (rsl_execute_as_owner(RSL_FEATURES_NAME,
							 "SELECT FROM resilience.feature_definitions "
							 "WHERE name OPERATOR(pg_catalog.=) $1 "
							 "AND expires_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()",
							 1, types, values, NULL, NULL) > 0)
		ereport(NOTICE,
				(errmsg("feature \"%s\" has expired, and stays off", name),
				 errhint("SELECT resilience.alter_feature(%s, expires_at => 'infinity');",
						 quote_literal_cstr(name))));
}

/*
 * set_feature(name text, enabled boolean, reason text = NULL) returns void
 *
 * Switches the feature off, or leaves it to its check, breaker and load again,
 * from COMMIT on.  The reason is shown by the view and noted in the event.
 * Errors: 22023 for a bad argument, 42704 when there is no such feature.
 */
Datum
set_feature(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, definitions.kind);
	char	   *reason = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Datum		values[RSL_FCOL_OWNER] = {0};
	bool		nulls[RSL_FCOL_OWNER];

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a feature can be enabled or not, but not null"),
				 errhint("SELECT resilience.set_feature(%s, false, 'the reason') switches it off.",
						 quote_literal_cstr(name))));
	rsl_begin_change("set_feature()");
	memset(nulls, true, sizeof(nulls));
	values[RSL_FCOL_NAME - 1] = CStringGetTextDatum(name);
	values[RSL_FCOL_ENABLED - 1] = PG_GETARG_DATUM(1);
	values[RSL_FCOL_REASON - 1] = CStringGetTextDatum(reason);
	nulls[RSL_FCOL_NAME - 1] = false;
	nulls[RSL_FCOL_ENABLED - 1] = false;
	nulls[RSL_FCOL_REASON - 1] = false;
	rsl_definition_update(&definitions, values, nulls);
	if (PG_GETARG_BOOL(1))
		warn_if_expired(name);
	PG_RETURN_VOID();
}
