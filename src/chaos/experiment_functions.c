/*-------------------------------------------------------------------------
 *
 * experiment_functions.c
 *		SQL functions that define chaos experiments, and their view.
 *
 * create, alter and drop write resilience.experiment_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "policy/experiment_policy.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(create_experiment);
PG_FUNCTION_INFO_V1(alter_experiment);
PG_FUNCTION_INFO_V1(drop_experiment);
PG_FUNCTION_INFO_V1(experiment_definitions_check);
PG_FUNCTION_INFO_V1(experiment_statistics);

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

static const rsl_definition_table definitions = {
	.table = "resilience.experiment_definitions",
	.relname = RSL_EXPERIMENTS_NAME,
	.kind = "experiment",
	.view = "experiments",
	.ncolumns = RSL_ECOL_OWNER,
	.columns = columns,
	.check = check_definition,
};

/*
 * Rules for one definition.
 */

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *word;

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_COL_NAME));
	rsl_check_conditions(definitions.kind, tuple, desc);

	word = rsl_text_column(tuple, desc, RSL_ECOL_IMPACT);
	if (word == NULL || rsl_parse_impact(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 word ? errmsg("unknown impact \"%s\" of an experiment", word) :
				 errmsg("impact of an experiment must not be null"),
				 errhint("Available impacts are latency, error, cancel, terminate, foreign_error, foreign_latency, connection_refused, lock_delay.")));
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

	check_definition(tuple, old, desc);
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
 * create_experiment(...) returns void
 */
Datum
create_experiment(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_ECOL_OWNER];
	bool		nulls[RSL_ECOL_OWNER];

	rsl_begin_change("create_experiment()");
	collect_arguments(fcinfo, true, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_experiment(name text, ...the same arguments, NULL = leave) returns void
 */
Datum
alter_experiment(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_ECOL_OWNER];
	bool		nulls[RSL_ECOL_OWNER];

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

#define STATISTICS_COLUMNS	8

/*
 * experiment_statistics() returns setof record
 *
 * Live numbers of this database's experiments: name, state, injections_total,
 * overflowed_total, started_total, started_at, ended_at, stop_reason.
 */
Datum
experiment_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_SHARED);
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[i];
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};

		if (!experiment->published ||
			experiment->policy.home_database != MyDatabaseId)
			continue;
		values[0] = CStringGetTextDatum(experiment->policy.name);
		values[1] = CStringGetTextDatum(rsl_experiment_state_name(experiment->state));
		values[2] = Int64GetDatum(pg_atomic_read_u64(&experiment->injections));
		values[3] = Int64GetDatum(pg_atomic_read_u64(&experiment->overflowed));
		values[4] = Int64GetDatum(experiment->started);
		values[5] = TimestampTzGetDatum(experiment->started_at);
		nulls[5] = experiment->started_at == 0;
		values[6] = TimestampTzGetDatum(experiment->ended_at);
		nulls[6] = experiment->ended_at == 0;
		values[7] = CStringGetTextDatum(experiment->stop_reason);
		nulls[7] = experiment->stop_reason[0] == '\0';
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}
