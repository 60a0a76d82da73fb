/*-------------------------------------------------------------------------
 *
 * degradation_functions.c
 *		SQL functions that define degradations.
 *
 * create, alter and drop write resilience.degradation_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "policy/definitions.h"
#include "policy/feature_policy.h"
#include "utils/builtins.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(create_degradation);
PG_FUNCTION_INFO_V1(alter_degradation);
PG_FUNCTION_INFO_V1(drop_degradation);
PG_FUNCTION_INFO_V1(degradation_definitions_check);

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_NUM_DEGRADATION_ARGUMENTS] = {
	{"name", TEXTOID, NULL},
	{"when_state", TEXTOID, NULL},
	{"minimum_priority_affected", TEXTOID, NULL},
	{"settings", JSONBOID, NULL},
	{"enabled", BOOLOID, "true"},
};

static const rsl_definition_table definitions = {
	.table = "resilience.degradation_definitions",
	.relname = RSL_DEGRADATIONS_NAME,
	.kind = "degradation",
	.view = "degradations",
	.ncolumns = RSL_NUM_DEGRADATION_ARGUMENTS,
	.columns = columns,
	.check = check_definition,
};

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_DCOL_NAME));
}

/*
 * degradation_definitions_check() returns trigger
 *
 * BEFORE each row that is written, whoever writes it.
 */
Datum
degradation_definitions_check(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo, "degradation_definitions_check");
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	check_definition(tuple,
					 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					 trigger->tg_trigtuple : NULL,
					 RelationGetDescr(trigger->tg_relation));
	return PointerGetDatum(tuple);
}

static void
collect_arguments(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_DEGRADATION_ARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
}

/*
 * create_degradation(name text, ...) returns void
 */
Datum
create_degradation(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_DEGRADATION_ARGUMENTS];
	bool		nulls[RSL_NUM_DEGRADATION_ARGUMENTS];

	rsl_begin_change("create_degradation()");
	collect_arguments(fcinfo, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_degradation(name text, ...the same arguments, NULL = leave)
 *		returns void
 */
Datum
alter_degradation(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_DEGRADATION_ARGUMENTS];
	bool		nulls[RSL_NUM_DEGRADATION_ARGUMENTS];

	rsl_begin_change("alter_degradation()");
	collect_arguments(fcinfo, values, nulls);
	rsl_definition_update(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * drop_degradation(name text, if_exists boolean = false) returns void
 */
Datum
drop_degradation(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_degradation()");
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
