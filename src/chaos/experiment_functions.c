/*-------------------------------------------------------------------------
 *
 * experiment_functions.c
 *		SQL functions that define chaos experiments.
 *
 * create, alter and drop write resilience.experiment_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "policy/experiment_policy.h"
#include "policy/read_query.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(create_experiment);
PG_FUNCTION_INFO_V1(alter_experiment);
PG_FUNCTION_INFO_V1(drop_experiment);
PG_FUNCTION_INFO_V1(experiment_definitions_check);

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_ECOL_OWNER] = {
	{"name", TEXTOID, NULL},
	{"role_name", REGROLEOID, NULL},
	{"database_name", TEXTOID, NULL},
	{"application_name", TEXTOID, NULL},
	{"client_address", CIDROID, NULL},
	{"tag", TEXTOID, NULL},
	{"query_id", INT8OID, NULL},
	{"command", TEXTOID, NULL},
	{"impact", TEXTOID, NULL},
	{"probability", FLOAT8OID, "0.001"},
	{"delay", INTERVALOID, NULL},
	{"variance", INTERVALOID, NULL},
	{"distribution", TEXTOID, NULL},
	{"sqlstate", TEXTOID, NULL},
	{"server", TEXTOID, NULL},
	{"relation", REGCLASSOID, NULL},
	{"max_injections", INT4OID, "10"},
	{"max_concurrent", INT4OID, "10"},
	{"max_duration", INTERVALOID, "5 min"},
	{"schedule_start", TIMESTAMPTZOID, NULL},
	{"schedule_end", TIMESTAMPTZOID, NULL},
	{"schedule_interval", INTERVALOID, NULL},
	{"stop_when_unhealthy", BOOLOID, "true"},
	{"stop_condition", TEXTOID, NULL},
	{"owner", REGROLEOID, NULL},
};

/* The functions' arguments, in their order, as columns. */
static const int argument_columns[RSL_NUM_EXPERIMENT_ARGUMENTS] = {
	RSL_COL_NAME, RSL_ECOL_IMPACT, RSL_ECOL_PROBABILITY, RSL_ECOL_DELAY,
	RSL_ECOL_VARIANCE, RSL_ECOL_SQLSTATE, RSL_COL_ROLE, RSL_COL_DATABASE,
	RSL_COL_APPLICATION_NAME, RSL_ECOL_SERVER, RSL_ECOL_RELATION,
	RSL_COL_COMMAND, RSL_COL_QUERY_ID, RSL_ECOL_MAX_INJECTIONS,
	RSL_ECOL_MAX_DURATION, RSL_ECOL_SCHEDULE_START, RSL_ECOL_SCHEDULE_END,
	RSL_ECOL_STOP_WHEN_UNHEALTHY, RSL_ECOL_DISTRIBUTION,
	RSL_ECOL_STOP_CONDITION, RSL_ECOL_SCHEDULE_INTERVAL,
	RSL_ECOL_MAX_CONCURRENT, RSL_COL_CLIENT_ADDRESS, RSL_COL_TAG
};

#define MAX_DURATION_ARGUMENT	14
#define STOP_CONDITION_ARGUMENT	19

#define HOUR_MS		(3600 * 1000.0)
#define DAY_MS		(24 * HOUR_MS)

static const rsl_definition_table definitions = {
	.table = "resilience.experiment_definitions",
	.relname = RSL_EXPERIMENTS_NAME,
	.kind = "chaos experiment",
	.view = "experiments",
	.ncolumns = RSL_ECOL_OWNER,
	.columns = columns,
	.check = check_definition,
};

/*
 * Rules for one definition.
 */

/* How each impact may be defined. */
typedef struct impact_rules
{
	bool		needs_delay;
	bool		has_sqlstate;
	bool		has_server;
	bool		has_statement;	/* it hits statements, which have conditions */
} impact_rules;

static const impact_rules rules_of_impacts[RSL_NUM_IMPACTS] = {
	[RSL_IMPACT_LATENCY] = {.needs_delay = true,.has_statement = true},
	[RSL_IMPACT_ERROR] = {.has_sqlstate = true,.has_statement = true},
	[RSL_IMPACT_CANCEL] = {.has_statement = true},
	[RSL_IMPACT_TERMINATE] = {.has_statement = true},
	[RSL_IMPACT_FOREIGN_ERROR] = {.has_sqlstate = true,.has_server = true,.has_statement = true},
	[RSL_IMPACT_FOREIGN_LATENCY] = {.needs_delay = true,.has_server = true,.has_statement = true},
	[RSL_IMPACT_CONNECTION_REFUSED] = {.has_sqlstate = true},
	[RSL_IMPACT_LOCK_DELAY] = {.needs_delay = true,.has_statement = true},
};

static bool
column_is_null(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;

	(void) heap_getattr(tuple, column, desc, &isnull);
	return isnull;
}

static void
check_not_given(HeapTuple tuple, TupleDesc desc, int column, rsl_impact impact,
				const char *hint)
{
	if (!column_is_null(tuple, desc, column))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s does not go with the impact \"%s\" of an experiment",
						columns[column - 1].name, rsl_impact_name(impact)),
				 errhint("%s", hint)));
}

/* An interval; in a message in milliseconds. */
static double
check_interval(HeapTuple tuple, TupleDesc desc, int column, double minimum,
			   double maximum, const char *hint)
{
	double		ms = rsl_interval_column_ms(tuple, desc, column, minimum);
	const char *name = columns[column - 1].name;

	if (!(ms >= minimum && ms <= maximum))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of an experiment is out of range", name),
				 errdetail("%s_ms=%.3f minimum=%.0f maximum=%.0f", name, ms,
						   minimum, maximum),
				 errhint("%s", hint)));
	return ms;
}

static void
check_count(HeapTuple tuple, TupleDesc desc, int column, int32 maximum)
{
	int32		n = rsl_int_column(tuple, desc, column, 1);
	const char *name = columns[column - 1].name;

	if (n < 1 || n > maximum)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of an experiment is out of range", name),
				 errdetail("%s=%d minimum=1 maximum=%d", name, n, maximum),
				 errhint("There is no unlimited experiment.")));
}

/* Five characters, of a class of errors that PostgreSQL has. */
static void
check_sqlstate(const char *code)
{
	static const char *const classes[] = {
		"03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22",
		"23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39",
		"3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "72",
		"F0", "HV", "P0", "XX"
	};
	bool		known = false;

	if (strlen(code) != 5 ||
		strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid SQLSTATE \"%s\" of an experiment", code),
				 errdetail("A SQLSTATE has five digits or upper-case letters."),
				 errhint("For example 53100 (disk full), 53200 (out of memory), 40001 (serialization failure).")));
	for (int i = 0; i < lengthof(classes); i++)
		known |= strncmp(code, classes[i], 2) == 0;
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("SQLSTATE \"%s\" of an experiment is not one of an error",
						code),
				 errdetail("PostgreSQL has no class %.2s of errors.", code),
				 errhint("See the appendix \"PostgreSQL Error Codes\" of its documentation.")));
}

static void
check_delay(HeapTuple tuple, TupleDesc desc, rsl_impact impact)
{
	char	   *word = rsl_text_column(tuple, desc, RSL_ECOL_DISTRIBUTION);
	bool		needed = rules_of_impacts[impact].needs_delay;
	double		delay;
	double		variance;

	if (needed && column_is_null(tuple, desc, RSL_ECOL_DELAY))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the impact \"%s\" of an experiment needs a delay",
						rsl_impact_name(impact)),
				 errhint("For example delay => '200 ms'.")));
	delay = check_interval(tuple, desc, RSL_ECOL_DELAY, needed ? 0.001 : 0, HOUR_MS,
						   "Choose an interval of at most 1 hour.");
	variance = check_interval(tuple, desc, RSL_ECOL_VARIANCE, 0, HOUR_MS,
							  "Choose an interval of at most 1 hour, in the place of the variance: it is the standard deviation of a normal, half the width of a uniform distribution.");
	if (word && rsl_parse_distribution(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown distribution \"%s\" of an experiment", word),
				 errhint("Available distributions are fixed, uniform, normal.")));
	if (column_is_null(tuple, desc, RSL_ECOL_DELAY) &&
		(variance > 0 || word != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of an experiment needs a delay",
						word ? "distribution" : "variance"),
				 errhint("For example delay => '200 ms', variance => '50 ms'.")));
	if (word && rsl_parse_distribution(word) == RSL_DISTRIBUTION_UNIFORM &&
		variance > delay)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("variance of an experiment is greater than its delay"),
				 errdetail("delay_ms=%.3f variance_ms=%.3f", delay, variance),
				 errhint("A uniform distribution reaches from delay - variance to delay + variance.")));
}

static void
check_schedule(HeapTuple tuple, TupleDesc desc)
{
	bool		no_start = column_is_null(tuple, desc, RSL_ECOL_SCHEDULE_START);
	bool		no_end = column_is_null(tuple, desc, RSL_ECOL_SCHEDULE_END);
	bool		isnull;
	TimestampTz start;
	TimestampTz end;

	if (no_start && (!no_end || !column_is_null(tuple, desc, RSL_ECOL_SCHEDULE_INTERVAL)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of an experiment needs schedule_start",
						no_end ? "schedule_interval" : "schedule_end"),
				 errhint("Without schedule_start an experiment is started by resilience.start_experiment().")));
	start = no_start ? 0 : DatumGetTimestampTz(heap_getattr(tuple, RSL_ECOL_SCHEDULE_START, desc, &isnull));
	end = no_end ? 0 : DatumGetTimestampTz(heap_getattr(tuple, RSL_ECOL_SCHEDULE_END, desc, &isnull));
	if ((!no_start && TIMESTAMP_NOT_FINITE(start)) ||
		(!no_end && TIMESTAMP_NOT_FINITE(end)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the schedule of an experiment must be finite")));
	if (!no_end && end <= start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schedule_end of an experiment is not after schedule_start"),
				 errdetail("schedule_start=%s schedule_end=%s",
						   pstrdup(timestamptz_to_str(start)),
						   pstrdup(timestamptz_to_str(end)))));
	if (!column_is_null(tuple, desc, RSL_ECOL_SCHEDULE_INTERVAL))
	{
		double		duration = rsl_interval_column_ms(tuple, desc, RSL_ECOL_MAX_DURATION, 0);

		check_interval(tuple, desc, RSL_ECOL_SCHEDULE_INTERVAL,
					   Max(duration, 1000), 366 * DAY_MS,
					   "A run must be over before the next one: choose at least max_duration and 1 s, at most 366 days.");
	}
}

static rsl_read_query
condition_query(const char *text)
{
	rsl_read_query query = {
		.text = text,
		.what = "stop_condition of an experiment",
		.select_hint = "Write one SELECT that returns a boolean: true stops the experiment.",
		.columns_hint = "Write one SELECT that returns one boolean: true stops the experiment; a second column of type text says why."
	};

	return query;
}

/* What can be said of a row by itself: also of one that is being restored. */
static void
check_row(HeapTuple tuple, TupleDesc desc)
{
	char	   *word;
	rsl_impact	impact;
	const impact_rules *rules;
	double		probability;

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_COL_NAME));
	rsl_check_conditions(definitions.kind, tuple, desc);

	word = rsl_text_column(tuple, desc, RSL_ECOL_IMPACT);
	if (word == NULL || rsl_parse_impact(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 word ? errmsg("unknown impact \"%s\" of an experiment", word) :
				 errmsg("impact of an experiment must not be null"),
				 errhint("Available impacts are latency, error, cancel, terminate, foreign_error, foreign_latency, connection_refused, lock_delay.")));
	impact = rsl_parse_impact(word);
	rules = &rules_of_impacts[impact];

	probability = rsl_float_column(tuple, desc, RSL_ECOL_PROBABILITY, 0.001);
	if (!(probability >= 0 && probability <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("probability of an experiment is out of range"),
				 errdetail("probability=%g minimum=0 maximum=1",
						   probability),
				 errhint("0.001 hits one in a thousand.")));
	check_delay(tuple, desc, impact);

	word = rsl_text_column(tuple, desc, RSL_ECOL_SQLSTATE);
	if (!rules->has_sqlstate)
		check_not_given(tuple, desc, RSL_ECOL_SQLSTATE, impact,
						"It goes with error, foreign_error and connection_refused.");
	else if (word)
		check_sqlstate(word);
	if (!rules->has_server)
		check_not_given(tuple, desc, RSL_ECOL_SERVER, impact,
						"It goes with foreign_error and foreign_latency.");
	if (!rules->has_statement)
	{
		static const int of_statements[] = {RSL_ECOL_RELATION, RSL_COL_COMMAND,
		RSL_COL_QUERY_ID, RSL_COL_TAG};

		for (int i = 0; i < lengthof(of_statements); i++)
			check_not_given(tuple, desc, of_statements[i], impact,
							"While a client connects only role, database, application_name and address are known.");
	}

	check_count(tuple, desc, RSL_ECOL_MAX_INJECTIONS, 1000000);
	check_count(tuple, desc, RSL_ECOL_MAX_CONCURRENT, 1000);
	check_interval(tuple, desc, RSL_ECOL_MAX_DURATION, 1, DAY_MS,
				   "Every experiment has an end: choose an interval from 1 ms to 24 hours.");
	check_schedule(tuple, desc);
	word = rsl_text_column(tuple, desc, RSL_ECOL_STOP_CONDITION);
	if (word)
	{
		rsl_read_query query = condition_query(word);

		rsl_parse_read_query(&query);
	}
}

/* Superusers are never hit: is there anybody else whom it could concern? */
static void
check_role(HeapTuple tuple, TupleDesc desc)
{
	Oid			types[1] = {OIDOID};
	Datum		role;
	bool		isnull;

	role = heap_getattr(tuple, RSL_COL_ROLE, desc, &isnull);
	if (isnull || !superuser_arg(DatumGetObjectId(role)) ||
		rsl_execute_as_owner(RSL_EXPERIMENTS_NAME,
							 "SELECT FROM pg_catalog.pg_roles r "
							 "WHERE NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, $1, 'MEMBER') LIMIT 1",
							 1, types, &role, NULL, NULL) > 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the experiment could hit nobody"),
			 errdetail("Role \"%s\" is a superuser, and has no members that are not. Superusers are never hit.",
					   GetUserNameFromId(DatumGetObjectId(role), false)),
			 errhint("Choose a role that applications use.")));
}

/* The rules, and what has to be there. */
static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *server;
	char	   *condition;
	Datum		relation;
	bool		isnull;

	check_row(tuple, desc);
	check_role(tuple, desc);

	server = rsl_text_column(tuple, desc, RSL_ECOL_SERVER);
	if (server && GetForeignServerByName(server, true) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", server),
				 errdetail("An experiment hits calls to a foreign server of its own database."),
				 errhint("SELECT srvname FROM pg_foreign_server lists them.")));
	relation = heap_getattr(tuple, RSL_ECOL_RELATION, desc, &isnull);
	if (!isnull)
	{
		Oid			schema = get_rel_namespace(DatumGetObjectId(relation));

		if (!OidIsValid(schema))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 DatumGetObjectId(relation) == InvalidOid ?
					 errmsg("the relation of the experiment was dropped") :
					 errmsg("relation with OID %u does not exist",
							DatumGetObjectId(relation)),
					 errhint("Choose a table that exists.")));
		if (IsCatalogNamespace(schema) || IsToastNamespace(schema))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("relation of an experiment must not be a system catalog"),
					 errdetail("relation=%s", get_rel_name(DatumGetObjectId(relation))),
					 errhint("Choose a table of an application.")));
	}
	if (!column_is_null(tuple, desc, RSL_ECOL_SCHEDULE_END))
	{
		TimestampTz end = DatumGetTimestampTz(heap_getattr(tuple, RSL_ECOL_SCHEDULE_END, desc, &isnull));

		if (end <= GetCurrentTimestamp())
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("schedule_end of an experiment lies in the past"),
					 errdetail("schedule_end=%s", timestamptz_to_str(end))));
	}

	/* what else is altered must not fail for a table that is gone */
	condition = rsl_text_column(tuple, desc, RSL_ECOL_STOP_CONDITION);
	if (condition &&
		!(old && rsl_text_column(old, desc, RSL_ECOL_STOP_CONDITION) &&
		  strcmp(condition, rsl_text_column(old, desc, RSL_ECOL_STOP_CONDITION)) == 0))
	{
		Oid			owner = DatumGetObjectId(heap_getattr(tuple, RSL_ECOL_OWNER, desc, &isnull));
		rsl_read_query query = condition_query(condition);
		rsl_identity before;

		rsl_become(owner, &before);
		(void) rsl_analyze_read_query(&query);
		rsl_become_again(&before);
	}
}

/*
 * experiment_definitions_check() returns trigger
 *
 * BEFORE each row that is written, whoever writes it.
 */
Datum
experiment_definitions_check(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo, "experiment_definitions_check");
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	old = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_trigtuple : NULL;
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	check_row(tuple, desc);
	rsl_check_row_database(definitions.kind, tuple, desc);
	rsl_lock_condition_role(definitions.kind, tuple, desc);
	rsl_check_owner(definitions.kind, tuple, old, desc, RSL_ECOL_OWNER,
					RSL_ECOL_STOP_CONDITION);
	return PointerGetDatum(tuple);
}

/*
 * The arguments as column values; and whose the experiment is: whoever gives
 * it a stop condition becomes its owner.
 */
static void
collect_arguments(FunctionCallInfo fcinfo, bool is_new, Datum *values,
				  bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_EXPERIMENT_ARGUMENTS; i++)
	{
		int			column = argument_columns[i] - 1;

		nulls[column] = PG_ARGISNULL(i);
		values[column] = nulls[column] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	rsl_collect_conditions(definitions.kind, values, nulls);
	for (int i = 0; i < RSL_NUM_EXPERIMENT_ARGUMENTS; i++)
	{
		if (!nulls[i] &&
			(i + 1 == RSL_ECOL_IMPACT || i + 1 == RSL_ECOL_DISTRIBUTION))
		{
			char	   *word = TextDatumGetCString(values[i]);

			values[i] = CStringGetTextDatum(asc_tolower(word, strlen(word)));
		}
	}
	values[RSL_ECOL_OWNER - 1] = ObjectIdGetDatum(GetUserId());
	nulls[RSL_ECOL_OWNER - 1] = !is_new && nulls[RSL_ECOL_STOP_CONDITION - 1];
}

/*
 * Analysis may have to wait for a lock on what the condition reads: do that
 * before all others are kept from changing definitions.
 */
static void
understand_condition(FunctionCallInfo fcinfo)
{
	rsl_identity before;
	rsl_read_query query;

	rsl_require_shmem();
	if (RecoveryInProgress() || PG_ARGISNULL(STOP_CONDITION_ARGUMENT))
		return;
	query = condition_query(TextDatumGetCString(PG_GETARG_DATUM(STOP_CONDITION_ARGUMENT)));
	rsl_become(GetUserId(), &before);
	(void) rsl_analyze_read_query(&query);
	rsl_become_again(&before);
}

/*
 * create_experiment(name text, impact text, probability float8, delay interval,
 *		variance interval, sqlstate text, role_name name, database_name name,
 *		application_name text, server text, relation regclass, command text,
 *		query_id bigint, max_injections int, max_duration interval,
 *		schedule_start timestamptz, schedule_end timestamptz,
 *		stop_when_unhealthy boolean, distribution text, stop_condition text,
 *		schedule_interval interval, max_concurrent int, client_address cidr,
 *		tag text) returns void
 *
 * probability: 0 to 1; delay, variance: at most 1 hour;
 * max_injections: 1 to 1 000 000; max_concurrent: 1 to 1000; max_duration:
 * 1 ms to 24 hours; schedule_interval: at least max_duration.
 *
 * Errors: 22023 for a bad argument, 42710 for a name in use, 42704 for an
 * unknown role or server, 42P01 for an unknown relation, 3D000, 42501,
 * whatever the parser says of the stop condition, 53400 (at COMMIT) when
 * shared memory has no more room.
 */
Datum
create_experiment(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_ECOL_OWNER];
	bool		nulls[RSL_ECOL_OWNER];

	if (PG_ARGISNULL(MAX_DURATION_ARGUMENT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_duration of an experiment must not be null"),
				 errhint("Every experiment has an end: choose an interval from 1 ms to 24 hours.")));
	understand_condition(fcinfo);
	rsl_begin_change("create_experiment()");
	collect_arguments(fcinfo, true, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_experiment(name text, ...the same arguments, NULL = leave) returns void
 *
 * Also of one that runs: what is hit and how changes at once, its end does
 * not.  Errors: 42704 when there is no such experiment; else as
 * create_experiment().
 */
Datum
alter_experiment(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_ECOL_OWNER];
	bool		nulls[RSL_ECOL_OWNER];

	understand_condition(fcinfo);
	rsl_begin_change("alter_experiment()");
	collect_arguments(fcinfo, false, values, nulls);
	rsl_check_other_databases(&definitions, values[0]);
	rsl_definition_update(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * drop_experiment(name text, if_exists boolean = false) returns void
 *
 * If it runs it ends.  Errors: 42704 when there is no such experiment, unless
 * if_exists (NOTICE).
 */
Datum
drop_experiment(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_experiment()");
	rsl_check_other_databases(&definitions, name);
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
