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
#include "fmgr.h"
#include "miscadmin.h"
#include "policy/definitions.h"
#include "policy/feature_policy.h"
#include "utils/builtins.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(create_feature);
PG_FUNCTION_INFO_V1(alter_feature);
PG_FUNCTION_INFO_V1(drop_feature);
PG_FUNCTION_INFO_V1(feature_definitions_check);

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

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_FCOL_NAME));
}

/*
 * feature_definitions_check() returns trigger
 *
 * BEFORE each row that is written, whoever writes it.
 */
Datum
feature_definitions_check(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo, "feature_definitions_check");
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	check_definition(tuple,
					 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					 trigger->tg_trigtuple : NULL,
					 RelationGetDescr(trigger->tg_relation));
	rsl_check_owner(definitions.kind, tuple,
					TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					trigger->tg_trigtuple : NULL,
					RelationGetDescr(trigger->tg_relation), RSL_FCOL_OWNER,
					RSL_FCOL_FALLBACK_SQL);
	return PointerGetDatum(tuple);
}

/*
 * The arguments, and whose the feature is.  Whoever gives it a fallback_sql becomes its
 * owner: otherwise that would run as somebody else.
 */
static void
collect_arguments(FunctionCallInfo fcinfo, bool is_new, Datum *values,
				  bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_FEATURE_ARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	nulls[RSL_FCOL_REASON - 1] = true;
	values[RSL_FCOL_REASON - 1] = (Datum) 0;
	values[RSL_FCOL_OWNER - 1] = ObjectIdGetDatum(GetUserId());
	nulls[RSL_FCOL_OWNER - 1] = !is_new && nulls[RSL_FCOL_FALLBACK_SQL - 1];
}

/*
 * create_feature(name text, ...) returns void
 */
Datum
create_feature(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_FCOL_OWNER];
	bool		nulls[RSL_FCOL_OWNER];

	rsl_begin_change("create_feature()");
	collect_arguments(fcinfo, true, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_feature(name text, ...the same arguments, NULL = leave)
 *		returns void
 */
Datum
alter_feature(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_FCOL_OWNER];
	bool		nulls[RSL_FCOL_OWNER];

	rsl_begin_change("alter_feature()");
	collect_arguments(fcinfo, false, values, nulls);
	rsl_definition_update(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * drop_feature(name text, if_exists boolean = false) returns void
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
