/*-------------------------------------------------------------------------
 *
 * runaway_functions.c
 *		SQL functions of runaway rules and the quarantine.
 *
 * create, alter and drop write resilience.runaway_rule_definitions; see
 * policy/definitions.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "policy/definitions.h"
#include "policy/query_ids.h"
#include "policy/runaway_policy.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(create_runaway_rule);
PG_FUNCTION_INFO_V1(alter_runaway_rule);
PG_FUNCTION_INFO_V1(drop_runaway_rule);
PG_FUNCTION_INFO_V1(runaway_rule_definitions_check);
PG_FUNCTION_INFO_V1(runaway_rule_statistics);
PG_FUNCTION_INFO_V1(quarantine_statistics);
PG_FUNCTION_INFO_V1(release_quarantine);

#define DAY_MS		(24 * 3600 * 1000.0)

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

static const rsl_definition_column_type columns[RSL_NUM_RUNAWAY_COLUMNS] = {
	{"name", TEXTOID, NULL},
	{"role_name", REGROLEOID, NULL},
	{"database_name", TEXTOID, NULL},
	{"application_name", TEXTOID, NULL},
	{"client_address", CIDROID, NULL},
	{"tag", TEXTOID, NULL},
	{"query_id", INT8OID, NULL},
	{"command", TEXTOID, NULL},
	{"max_duration", INTERVALOID, "0"},
	{"max_cpu", INTERVALOID, "0"},
	{"max_temp_bytes", INT8OID, "-1"},
	{"max_rows_estimate", FLOAT8OID, "-1"},
	{"action", TEXTOID, "observe"},
	{"quarantine_duration", INTERVALOID, "10 min"},
	{"quarantine_max_running", INT4OID, "0"},
	{"mode", TEXTOID, "enforce"},
	{"expires_at", TIMESTAMPTZOID, NULL},
};

static const rsl_definition_table definitions = {
	.table = "resilience.runaway_rule_definitions",
	.relname = RSL_RUNAWAY_RULES_NAME,
	.kind = "runaway rule",
	.view = "runaway_rules",
	.ncolumns = RSL_NUM_RUNAWAY_COLUMNS,
	.columns = columns,
	.check = check_definition,
};

/*
 * Rules for one definition.
 */

/* A limit on time: 0 = none. */
static bool
check_time_limit(HeapTuple tuple, TupleDesc desc, int column)
{
	double		ms = rsl_interval_column_ms(tuple, desc, column, 0);
	const char *name = columns[column - 1].name;

	if (ms != 0 && !(ms >= 1 && ms <= 30 * DAY_MS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a runaway rule is out of range", name),
				 errdetail("%s_ms=%.3f minimum=1 maximum=%.0f", name, ms,
						   30 * DAY_MS),
				 errhint("Choose an interval from 1 ms to 30 days, or 0 for no limit.")));
	return ms != 0;
}

static void
check_word(HeapTuple tuple, TupleDesc desc, int column, int (*parse) (const char *),
		   const char *available)
{
	char	   *word = rsl_text_column(tuple, desc, column);

	if (word && parse(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown %s \"%s\" of a runaway rule",
						columns[column - 1].name, word),
				 errhint("Available values are %s.", available)));
}

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	bool		limits = false;
	bool		isnull;
	Datum		value;
	int64		bytes;
	double		rows;
	double		ms;
	int32		running;

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_COL_NAME));
	rsl_check_conditions(definitions.kind, tuple, desc);

	limits |= check_time_limit(tuple, desc, RSL_RCOL_MAX_DURATION);
	limits |= check_time_limit(tuple, desc, RSL_RCOL_MAX_CPU);
	value = heap_getattr(tuple, RSL_RCOL_MAX_TEMP_BYTES, desc, &isnull);
	bytes = isnull ? -1 : DatumGetInt64(value);
	if (bytes < -1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_temp_bytes of a runaway rule must not be negative"),
				 errdetail("max_temp_bytes=" INT64_FORMAT, bytes),
				 errhint("Use -1 for no limit, 0 for no temporary files.")));
	limits |= bytes >= 0;
	rows = rsl_float_column(tuple, desc, RSL_RCOL_MAX_ROWS_ESTIMATE, -1);
	if (rows != -1 && !(rows >= 0 && rows <= 1e300))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows_estimate of a runaway rule is out of range"),
				 errdetail("max_rows_estimate=%g minimum=0 maximum=1e+300", rows),
				 errhint("Use -1 for no limit.")));
	limits |= rows >= 0;
	if (!limits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a runaway rule needs a limit"),
				 errdetail("max_duration, max_cpu, max_temp_bytes and max_rows_estimate all mean no limit."),
				 errhint("Give it at least one of them; a statement hits the rule when it goes beyond any.")));

	check_word(tuple, desc, RSL_RCOL_ACTION, rsl_parse_runaway_action,
			   "observe, lower_priority, cancel, quarantine");
	check_word(tuple, desc, RSL_RCOL_MODE, rsl_parse_mode,
			   "enforce, observe, off");
	ms = rsl_interval_column_ms(tuple, desc, RSL_RCOL_QUARANTINE_DURATION, 600000);
	if (!(ms >= 1 && ms <= 365 * DAY_MS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("quarantine_duration of a runaway rule is out of range"),
				 errdetail("quarantine_duration_ms=%.3f minimum=1 maximum=%.0f", ms,
						   365 * DAY_MS),
				 errhint("Choose an interval from 1 ms to 365 days.")));
	running = rsl_int_column(tuple, desc, RSL_RCOL_QUARANTINE_MAX_RUNNING, 0);
	if (running < 0 || running > 1000000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("quarantine_max_running of a runaway rule is out of range"),
				 errdetail("quarantine_max_running=%d minimum=0 maximum=1000000",
						   running),
				 errhint("Use 0 to refuse a query in quarantine altogether.")));
}

/*
 * runaway_rule_definitions_check() returns trigger
 *
 * BEFORE each row: the rules for rules.
 */
Datum
runaway_rule_definitions_check(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple = rsl_definition_trigger_row(fcinfo,
												   "runaway_rule_definitions_check");
	TupleDesc	desc = RelationGetDescr(((TriggerData *) fcinfo->context)->tg_relation);

	check_definition(tuple, NULL, desc);
	rsl_check_row_database(definitions.kind, tuple, desc);
	rsl_lock_condition_role(definitions.kind, tuple, desc);
	return PointerGetDatum(tuple);
}

/* The arguments as column values; words in the spelling that views show. */
static void
collect_arguments(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_RUNAWAY_COLUMNS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = PG_GETARG_DATUM(i);
	}
	rsl_collect_conditions(definitions.kind, values, nulls);
	for (int i = 0; i < RSL_NUM_RUNAWAY_COLUMNS; i++)
	{
		if (!nulls[i] && (i + 1 == RSL_RCOL_ACTION || i + 1 == RSL_RCOL_MODE))
		{
			char	   *word = TextDatumGetCString(values[i]);

			values[i] = CStringGetTextDatum(asc_tolower(word, strlen(word)));
		}
	}
	if (!nulls[RSL_RCOL_EXPIRES_AT - 1] &&
		DatumGetTimestampTz(values[RSL_RCOL_EXPIRES_AT - 1]) <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at of a runaway rule lies in the past"),
				 errdetail("expires_at=%s",
						   timestamptz_to_str(DatumGetTimestampTz(values[RSL_RCOL_EXPIRES_AT - 1]))),
				 errhint("Choose a time to come, or leave it out for a rule that stays.")));
}

/* Some rules are of no use, or of less, where no query ids are computed. */
static void
warn_without_query_ids(Datum *values, bool *nulls)
{
	int			action = nulls[RSL_RCOL_ACTION - 1] ? -1 :
		rsl_parse_runaway_action(TextDatumGetCString(values[RSL_RCOL_ACTION - 1]));

	if (!nulls[RSL_COL_QUERY_ID - 1] || action == RSL_RUNAWAY_QUARANTINE ||
		action == RSL_RUNAWAY_LOWER_PRIORITY)
		rsl_warn_without_query_ids(definitions.kind,
								   TextDatumGetCString(values[0]));
}

/*
 * create_runaway_rule(name text, role_name name, database_name name,
 *		application_name text, client_address cidr, tag text, query_id bigint,
 *		command text, max_duration interval, max_cpu interval,
 *		max_temp_bytes bigint, max_rows_estimate float8, action text,
 *		quarantine_duration interval, quarantine_max_running int, mode text,
 *		expires_at timestamptz) returns void
 *
 * Limits: intervals from 1 ms to 30 days, 0 = none; numbers from 0, -1 = none.
 * Errors: 22023 for a bad argument, 42710 for a name in use, 42704 for an
 * unknown role, 3D000 for an unknown database, 42501, 53400 (at COMMIT) when
 * shared memory has no more room.
 */
Datum
create_runaway_rule(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_RUNAWAY_COLUMNS];
	bool		nulls[RSL_NUM_RUNAWAY_COLUMNS];

	rsl_begin_change("create_runaway_rule()");
	collect_arguments(fcinfo, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	warn_without_query_ids(values, nulls);
	PG_RETURN_VOID();
}

/*
 * alter_runaway_rule(name text, ...the same arguments, NULL = leave)
 *		returns void
 *
 * What the rule has put into quarantine is released.  Errors: 42704 when there
 * is no such rule; else as create_runaway_rule().
 */
Datum
alter_runaway_rule(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_RUNAWAY_COLUMNS];
	bool		nulls[RSL_NUM_RUNAWAY_COLUMNS];

	rsl_begin_change("alter_runaway_rule()");
	collect_arguments(fcinfo, values, nulls);
	rsl_check_other_databases(&definitions, values[0]);
	rsl_definition_update(&definitions, values, nulls);
	warn_without_query_ids(values, nulls);
	PG_RETURN_VOID();
}

/*
 * drop_runaway_rule(name text, if_exists boolean = false) returns void
 *
 * What the rule has put into quarantine is released.  Errors: 42704 when there
 * is no such rule, unless if_exists (NOTICE).
 */
Datum
drop_runaway_rule(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_runaway_rule()");
	rsl_check_other_databases(&definitions, name);
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

/*
 * Views.
 */

#define RULE_COLUMNS	8

/*
 * runaway_rule_statistics() returns setof record
 *
 * Live numbers of this database's rules: name, hits_total, cancelled_total,
 * refused_total, quarantined_total, evicted_total, last_hit_at, last_query_id.
 */
Datum
runaway_rule_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];
		Datum		values[RULE_COLUMNS];
		bool		nulls[RULE_COLUMNS] = {0};
		TimestampTz last_hit = (TimestampTz) pg_atomic_read_u64(&rule->last_hit);
		int64		query_id = (int64) pg_atomic_read_u64(&rule->last_query_id);

		if (!rule->published || rule->policy.home_database != MyDatabaseId)
			continue;
		values[0] = CStringGetTextDatum(rule->policy.name);
		values[1] = Int64GetDatum(pg_atomic_read_u64(&rule->hits));
		values[2] = Int64GetDatum(pg_atomic_read_u64(&rule->cancelled));
		values[3] = Int64GetDatum(pg_atomic_read_u64(&rule->refused));
		values[4] = Int64GetDatum(pg_atomic_read_u64(&rule->quarantined));
		values[5] = Int64GetDatum(pg_atomic_read_u64(&rule->evicted));
		values[6] = TimestampTzGetDatum(last_hit);
		nulls[6] = last_hit == 0;
		values[7] = Int64GetDatum(query_id);
		nulls[7] = query_id == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}

#define QUARANTINE_COLUMNS	8

/*
 * quarantine_statistics() returns setof record
 *
 * What this database's rules have put into quarantine: query_id, rule, action
 * ("refuse", "limit", "lower_priority"), max_running (NULL unless limited),
 * since, until, refused_total, running (NULL unless limited).
 */
Datum
quarantine_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];
		rsl_runaway_policy *policy = &rsl_runaway->rules[pg_atomic_read_u32(&entry->rule)].policy;
		Datum		values[QUARANTINE_COLUMNS];
		bool		nulls[QUARANTINE_COLUMNS] = {0};
		uint32		max_running = pg_atomic_read_u32(&entry->max_running);
		const char *action;

		if (pg_atomic_read_u64(&entry->query_id) == 0 ||
			(TimestampTz) pg_atomic_read_u64(&entry->until) <= now ||
			policy->home_database != MyDatabaseId)
			continue;
		action = pg_atomic_read_u32(&entry->action) == RSL_RUNAWAY_LOWER_PRIORITY ?
			"lower_priority" : max_running == 0 ? "refuse" : "limit";
		values[0] = Int64GetDatum(pg_atomic_read_u64(&entry->query_id));
		values[1] = CStringGetTextDatum(policy->name);
		values[2] = CStringGetTextDatum(action);
		values[3] = Int32GetDatum((int32) max_running);
		values[4] = TimestampTzGetDatum(pg_atomic_read_u64(&entry->since));
		values[5] = TimestampTzGetDatum(pg_atomic_read_u64(&entry->until));
		values[6] = Int64GetDatum(pg_atomic_read_u64(&entry->refused));
		values[7] = Int32GetDatum((int32) (uint32) pg_atomic_read_u64(&entry->word));
		nulls[3] = nulls[7] = strcmp(action, "limit") != 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}

/*
 * release_quarantine(query_id bigint) returns boolean
 *
 * Ends the quarantine of a query by this database's rules.  Acts at once and
 * cannot be rolled back; works on a standby.  Returns false if it was in none.
 */
Datum
release_quarantine(PG_FUNCTION_ARGS)
{
	int			n;

	rsl_require_shmem();
	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
	n = rsl_quarantine_release(MyDatabaseId, (uint64) PG_GETARG_INT64(0));
	LWLockRelease(rsl_config_lock);
	PG_RETURN_BOOL(n > 0);
}
