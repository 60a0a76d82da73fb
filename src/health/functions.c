/*-------------------------------------------------------------------------
 *
 * functions.c
 *		SQL functions that define health checks.
 *
 * create, alter and drop write resilience.health_check_definitions; see
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
#include "policy/health_policy.h"
#include "utils/builtins.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(create_health_check);
PG_FUNCTION_INFO_V1(alter_health_check);
PG_FUNCTION_INFO_V1(drop_health_check);
PG_FUNCTION_INFO_V1(health_check_definitions_check);

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_HCOL_OWNER] = {
	{"name", TEXTOID, NULL},
	{"kind", TEXTOID, "sql"},
	{"query", TEXTOID, NULL},
	{"target", TEXTOID, NULL},
	{"warning_threshold", FLOAT8OID, NULL},
	{"critical_threshold", FLOAT8OID, NULL},
	{"check_interval", INTERVALOID, "10 s"},
	{"timeout", INTERVALOID, "1 s"},
	{"failure_threshold", INT4OID, "3"},
	{"success_threshold", INT4OID, "1"},
	{"critical", BOOLOID, "false"},
	{"enabled", BOOLOID, "true"},
	{"owner", REGROLEOID, NULL},
};

static const rsl_definition_table definitions = {
	.table = "resilience.health_check_definitions",
	.relname = RSL_HEALTH_CHECKS_NAME,
	.kind = "health check",
	.view = "health_checks",
	.ncolumns = RSL_HCOL_OWNER,
	.columns = columns,
	.check = check_definition,
};

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_HCOL_NAME));
}

/*
 * health_check_definitions_check() returns trigger
 *
 * BEFORE each row that is written, whoever writes it.
 */
Datum
health_check_definitions_check(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo, "health_check_definitions_check");
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	check_definition(tuple,
					 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
					 trigger->tg_trigtuple : NULL,
					 RelationGetDescr(trigger->tg_relation));
	return PointerGetDatum(tuple);
}

/*
 * The arguments, and whose the check is.  Whoever gives it a query becomes its
 * owner: otherwise the query would run as somebody else.
 */
static void
collect_arguments(FunctionCallInfo fcinfo, bool is_new, Datum *values,
				  bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_HEALTH_CHECK_ARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	values[RSL_HCOL_OWNER - 1] = ObjectIdGetDatum(GetUserId());
	nulls[RSL_HCOL_OWNER - 1] = !is_new && nulls[RSL_HCOL_QUERY - 1];
}

/*
 * create_health_check(name text, ...) returns void
 */
Datum
create_health_check(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_HCOL_OWNER];
	bool		nulls[RSL_HCOL_OWNER];

	rsl_begin_change("create_health_check()");
	collect_arguments(fcinfo, true, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_health_check(name text, ...the same arguments, NULL = leave)
 *		returns void
 */
Datum
alter_health_check(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_HCOL_OWNER];
	bool		nulls[RSL_HCOL_OWNER];

	rsl_begin_change("alter_health_check()");
	collect_arguments(fcinfo, false, values, nulls);
	rsl_definition_update(&definitions, values, nulls);
	PG_RETURN_VOID();
}

/*
 * drop_health_check(name text, if_exists boolean = false) returns void
 */
Datum
drop_health_check(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_health_check()");
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
