/*-------------------------------------------------------------------------
 *
 * functions.c
 *		SQL functions that create, alter, drop and command circuit breakers.
 *
 * They write the table resilience.breaker_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "catalog/objectaddress.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "nodes/value.h"
#include "policy/breaker_policy.h"
#include "policy/definitions.h"
#include "policy/dependencies.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(create_breaker);
PG_FUNCTION_INFO_V1(alter_breaker);
PG_FUNCTION_INFO_V1(drop_breaker);
PG_FUNCTION_INFO_V1(force_breaker);
PG_FUNCTION_INFO_V1(reset_breaker);
PG_FUNCTION_INFO_V1(breaker_definitions_check);

#define HOUR_MS		(3600 * 1000.0)
#define DAY_MS		(24 * HOUR_MS)

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_NUM_BREAKER_ARGUMENTS] = {
	{"name", TEXTOID, NULL},
	{"server", TEXTOID, NULL},
	{"max_failures", INT4OID, "5"},
	{"failure_rate", FLOAT8OID, "0.5"},
	{"slow_call_duration", INTERVALOID, "5 s"},
	{"slow_call_rate", FLOAT8OID, "0.8"},
	{"minimum_calls", INT4OID, "20"},
	{"window_duration", INTERVALOID, "10 s"},
	{"reset_timeout", INTERVALOID, "5 s"},
	{"backoff_factor", FLOAT8OID, "2"},
	{"max_reset_timeout", INTERVALOID, "5 min"},
	{"jitter", FLOAT8OID, "0.2"},
	{"half_open_calls", INT4OID, "3"},
	{"success_threshold", INT4OID, "3"},
	{"call_timeout", INTERVALOID, NULL},
	{"probe", BOOLOID, "true"},
	{"max_concurrent_calls", INT4OID, "-1"},
	{"on_open", TEXTOID, "error"},
	{"ignored_sqlstates", TEXTARRAYOID, NULL},
	{"recorded_sqlstates", TEXTARRAYOID, NULL},
	{"mode", TEXTOID, "enforce"},
};

static const rsl_definition_table definitions = {
	.table = "resilience.breaker_definitions",
	.relname = RSL_BREAKERS_NAME,
	.kind = "circuit breaker",
	.view = "breakers",
	.ncolumns = RSL_NUM_BREAKER_ARGUMENTS,
	.columns = columns,
	.check = check_definition,
};

/*
 * Rules for one definition.
 */

static void
check_interval(HeapTuple tuple, TupleDesc desc, int column, double min,
			   double max)
{
	double		ms = rsl_interval_column_ms(tuple, desc, column, min);
	const char *name = columns[column - 1].name;

	/* a timeout is kept in whole milliseconds */
	if (!(ms >= min && ms <= max))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a circuit breaker is out of range", name),
				 errdetail("%s_ms=%.3f minimum=%.0f maximum=%.0f", name, ms,
						   min, max),
				 errhint("Choose an interval between these bounds.")));
}

static void
check_count(HeapTuple tuple, TupleDesc desc, int column, int32 min, int32 max,
			const char *hint)
{
	int32		value = rsl_int_column(tuple, desc, column, min);
	const char *name = columns[column - 1].name;

	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a circuit breaker is out of range", name),
				 errdetail("%s=%d minimum=%d maximum=%d", name, value, min, max),
				 errhint("%s", hint)));
}

static void
check_number(HeapTuple tuple, TupleDesc desc, int column, double min,
			 bool min_included, double max, const char *hint)
{
	double		value = rsl_float_column(tuple, desc, column, max);
	const char *name = columns[column - 1].name;

	if (isnan(value) || value > max ||
		(min_included ? value < min : value <= min))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a circuit breaker is out of range", name),
				 errdetail("%s=%.15g minimum=%g maximum=%g", name, value, min, max),
				 errhint("%s", hint)));
}

static void
check_sqlstates(HeapTuple tuple, TupleDesc desc, int column)
{
	rsl_sqlstate_list list;
	const char *wrong = rsl_sqlstate_list_column(tuple, desc, column, &list);

	if (wrong)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid element of %s of a circuit breaker: %s",
						columns[column - 1].name, wrong),
				 errdetail("At most %d elements, each an SQLSTATE of five characters or a class of two, of an error.",
						   RSL_MAX_SQLSTATES),
				 errhint("For example: '{08,53300,57P01}'.")));
}

/*
 * Find a foreign server and keep it from being dropped or renamed until the
 * definition is published, and can be seen by whoever wants to.
 */
static bool
lock_server(const char *server)
{
	ObjectAddress address;
	Relation	relation;

	address = get_object_address(OBJECT_FOREIGN_SERVER,
								 (Node *) makeString(pstrdup(server)),
								 &relation, AccessShareLock, true);
	return OidIsValid(address.objectId);
}

static bool
same_text(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	static const char rate_hint[] = "It is a share of the calls: more than 0, at most 1.";
	char	   *word;
	char	   *server = rsl_text_column(tuple, desc, RSL_BCOL_SERVER);
	double		reset;
	double		max_reset;

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_BCOL_NAME));

	/* a breaker whose server is missing can still be altered */
	if (server &&
		!(old && same_text(server, rsl_text_column(old, desc, RSL_BCOL_SERVER))) &&
		!lock_server(server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", server),
				 errdetail("A circuit breaker guards a foreign server of its own database."),
				 errhint("SELECT srvname FROM pg_foreign_server lists them. Leave server out for a breaker of anything else.")));

	check_count(tuple, desc, RSL_BCOL_MAX_FAILURES, 1, 1000000,
				"It counts failures in a row.");
	check_count(tuple, desc, RSL_BCOL_MINIMUM_CALLS, 1, 1000000,
				"Rates mean nothing before so many calls were seen in the window.");
	check_number(tuple, desc, RSL_BCOL_FAILURE_RATE, 0, false, 1, rate_hint);
	check_number(tuple, desc, RSL_BCOL_SLOW_CALL_RATE, 0, false, 1, rate_hint);
	check_interval(tuple, desc, RSL_BCOL_SLOW_CALL_DURATION, 1, HOUR_MS);
	check_interval(tuple, desc, RSL_BCOL_WINDOW_DURATION, 100, HOUR_MS);
	check_interval(tuple, desc, RSL_BCOL_RESET_TIMEOUT, 10, HOUR_MS);
	check_interval(tuple, desc, RSL_BCOL_MAX_RESET_TIMEOUT, 10, DAY_MS);
	reset = rsl_interval_column_ms(tuple, desc, RSL_BCOL_RESET_TIMEOUT, 0);
	max_reset = rsl_interval_column_ms(tuple, desc, RSL_BCOL_MAX_RESET_TIMEOUT, 0);
	if (max_reset < reset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_reset_timeout of a circuit breaker is below its reset_timeout"),
				 errdetail("reset_timeout_ms=%.0f max_reset_timeout_ms=%.0f",
						   reset, max_reset),
				 errhint("The open time starts with reset_timeout and grows up to max_reset_timeout.")));
	check_number(tuple, desc, RSL_BCOL_BACKOFF_FACTOR, 1, true, 100,
				 "Each opening soon after another lasts so many times longer; 1 for always the same.");
	check_number(tuple, desc, RSL_BCOL_JITTER, 0, true, 1,
				 "The open time is varied at random by this share of it; 0 for not at all.");
	check_count(tuple, desc, RSL_BCOL_HALF_OPEN_CALLS, 1, 10000,
				"It is the number of trial calls at a time.");
	check_count(tuple, desc, RSL_BCOL_SUCCESS_THRESHOLD, 1, 10000,
				"It is the number of successes that close the breaker.");
	check_interval(tuple, desc, RSL_BCOL_CALL_TIMEOUT, 1, HOUR_MS);
	check_count(tuple, desc, RSL_BCOL_MAX_CONCURRENT_CALLS, -1, 1000000,
				"Use -1 for no limit, 0 to admit none.");

	word = rsl_text_column(tuple, desc, RSL_BCOL_ON_OPEN);
	if (word && rsl_parse_on_open(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown on_open \"%s\" of a circuit breaker", word),
				 errhint("Available values are error, fallback, empty.")));
	if (word && server == NULL && rsl_parse_on_open(word) != RSL_ON_OPEN_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_open \"%s\" needs a circuit breaker with a foreign server",
						word),
				 errdetail("There are no foreign tables that something else could stand in for."),
				 errhint("Use on_open => 'error', or name a server.")));
	check_sqlstates(tuple, desc, RSL_BCOL_IGNORED_SQLSTATES);
	check_sqlstates(tuple, desc, RSL_BCOL_RECORDED_SQLSTATES);
	word = rsl_text_column(tuple, desc, RSL_BCOL_MODE);
	if (word && rsl_parse_mode(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode \"%s\" of a circuit breaker", word),
				 errhint("Available modes are enforce, observe, off.")));
	word = rsl_text_column(tuple, desc, RSL_BCOL_FORCED);
	if (word && rsl_parse_force(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown state \"%s\" to force a circuit breaker into", word),
				 errhint("Available states are open, closed, auto.")));
}

/*
 * breaker_definitions_check() returns trigger
 *
 * BEFORE each row: the rules.
 */
Datum
breaker_definitions_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo,
												   "breaker_definitions_check");

	check_definition(tuple,
					 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					 trigger->tg_trigtuple : NULL,
					 RelationGetDescr(trigger->tg_relation));
	return PointerGetDatum(tuple);
}

/*
 * Whoever renames a server has locked it, and then the definitions: lock them
 * in the same order.
 */
static void
begin_change(FunctionCallInfo fcinfo, const char *function)
{
	rsl_require_shmem();
	if (!PG_ARGISNULL(RSL_BCOL_SERVER - 1))
		(void) lock_server(NameStr(*PG_GETARG_NAME(RSL_BCOL_SERVER - 1)));
	rsl_begin_change(function);
}

/* The arguments as column values; words in the spelling that views show. */
static void
collect_arguments(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	char	   *name = rsl_name_argument(fcinfo, definitions.kind);

	for (int i = 0; i < RSL_NUM_BREAKER_ARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = PG_GETARG_DATUM(i);
	}
	if (!nulls[RSL_BCOL_SERVER - 1])
	{
		char	   *server = pstrdup(NameStr(*DatumGetName(values[RSL_BCOL_SERVER - 1])));
		Oid			types[2] = {TEXTOID, TEXTOID};
		Datum		arguments[2];

		values[RSL_BCOL_SERVER - 1] = CStringGetTextDatum(server);
		arguments[0] = values[RSL_BCOL_SERVER - 1];
		arguments[1] = CStringGetTextDatum(name);
		if (rsl_execute_as_owner(RSL_BREAKERS_NAME,
								 "SELECT FROM resilience.breaker_definitions "
								 "WHERE server OPERATOR(pg_catalog.=) $1 "
								 "AND name OPERATOR(pg_catalog.<>) $2",
								 2, types, arguments, NULL, NULL) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("foreign server \"%s\" has a circuit breaker already",
							server),
					 errhint("Use resilience.alter_breaker() to change it; SELECT name FROM resilience.breakers WHERE server = %s tells its name.",
							 quote_literal_cstr(server))));
	}
	for (int i = 0; i < RSL_NUM_BREAKER_ARGUMENTS; i++)
	{
		if (!nulls[i] && (i + 1 == RSL_BCOL_ON_OPEN || i + 1 == RSL_BCOL_MODE))
		{
			char	   *word = TextDatumGetCString(values[i]);

			values[i] = CStringGetTextDatum(asc_tolower(word, strlen(word)));
		}
	}
}

/*
 * create_breaker(name text, server name, max_failures int, ...)
 *		returns void
 *
 * Errors: 22023 for a bad argument, 42710 for a name in use or a server that
 * has a breaker, 42704 for an unknown server, 53400 (at COMMIT) when shared
 * memory has no more room.
 */
Datum
create_breaker(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_BREAKER_ARGUMENTS];
	bool		nulls[RSL_NUM_BREAKER_ARGUMENTS];

	begin_change(fcinfo, "create_breaker()");
	collect_arguments(fcinfo, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_breaker(name text, ...the same arguments, NULL = leave)
 *		returns void
 *
 * Errors: 42704 when there is no such breaker; else as create_breaker().
 */
Datum
alter_breaker(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_BREAKER_ARGUMENTS];
	bool		nulls[RSL_NUM_BREAKER_ARGUMENTS];

	begin_change(fcinfo, "alter_breaker()");
	collect_arguments(fcinfo, values, nulls);
	rsl_definition_update(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * drop_breaker(name text, if_exists boolean = false) returns void
 *
 * Errors: 42704 when there is no such breaker, unless if_exists (NOTICE).
 */
Datum
drop_breaker(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_breaker()");
	rsl_refuse_drop_while_coupled(definitions.kind, RSL_FCOL_BREAKER,
								  TextDatumGetCString(name));
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

static void
raise_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("circuit breaker \"%s\" does not exist", name),
			 errhint("SELECT name FROM resilience.breakers lists the circuit breakers of this database.")));
}

/*
 * force_breaker(name text, state text) returns void
 *
 * 'open' lets no call through, 'closed' lets all through, 'auto' leaves the
 * breaker to itself again.  Holds until it is changed, also after a restart.
 * Errors: 42704 when there is no such breaker, 22023 for another state.
 */
Datum
force_breaker(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, definitions.kind);
	char	   *state = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];

	rsl_begin_change("force_breaker()");
	if (state == NULL || rsl_parse_force(state) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 state ?
				 errmsg("unknown state \"%s\" to force a circuit breaker into", state) :
				 errmsg("the state to force a circuit breaker into must not be null"),
				 errhint("Available states are open, closed, auto.")));
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(rsl_force_name(rsl_parse_force(state)));
	if (rsl_execute_as_owner(RSL_BREAKERS_NAME,
							 "UPDATE resilience.breaker_definitions SET forced = $2 "
							 "WHERE name OPERATOR(pg_catalog.=) $1",
							 2, types, values, NULL, NULL) == 0)
		raise_unknown(name);
	PG_RETURN_VOID();
}

/*
 * reset_breaker(name text) returns void
 *
 * Closes the breaker and forgets what it has seen; totals stay, and so does a
 * forced state.  Acts at once: unlike the other functions it cannot be rolled
 * back, and it works on a standby.  Errors: 42704 when there is no such
 * breaker, 55000 when it is not in force.
 */
Datum
reset_breaker(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, definitions.kind);
	int			index;

	rsl_require_shmem();
	index = rsl_breaker_by_name(name);
	if (index < 0)
	{
		if (!rsl_definition_exists(&definitions, CStringGetTextDatum(name)))
			raise_unknown(name);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("circuit breaker \"%s\" is not in force", name),
				 errdetail("Definitions take effect at COMMIT, if their foreign server exists and shared memory has room."),
				 errhint("There is nothing to reset yet.")));
	}
	rsl_breaker_command_reset(index);
	PG_RETURN_VOID();
}
