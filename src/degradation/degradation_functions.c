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
#include "funcapi.h"
#include "policy/definitions.h"
#include "policy/degradable.h"
#include "policy/feature_policy.h"
#include "shared/settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(create_degradation);
PG_FUNCTION_INFO_V1(alter_degradation);
PG_FUNCTION_INFO_V1(drop_degradation);
PG_FUNCTION_INFO_V1(degradation_definitions_check);
PG_FUNCTION_INFO_V1(degradation_statistics);

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

/*
 * Rules for one definition.
 */

static void
check_word(HeapTuple tuple, TupleDesc desc, int column,
		   int (*parse) (const char *), const char *available)
{
	char	   *word = rsl_text_column(tuple, desc, column);
	const char *name = columns[column - 1].name;

	if (word == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a degradation must not be null", name),
				 errhint("Available values are %s.", available)));
	if (parse(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown %s \"%s\" of a degradation", name, word),
				 errhint("Available values are %s.", available)));
}

/*
 * Would the server accept this value?  If not, its own message says why.
 */
static void
check_value(const char *name, const char *value)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, false, ERROR, false);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"%s\" of a degradation does not accept its value",
						name),
				 errdetail("%s%s%s", edata->message, edata->detail ? ": " : ".",
						   edata->detail ? edata->detail : ""),
				 edata->hint ? errhint("%s", edata->hint) : 0));
	}
	PG_END_TRY();
}

/*
 * May a degradation have this setting, and may this user ask for it?  Settings
 * that only superusers set stay theirs: a degradation is no way around.
 */
static void
check_setting(const char *name, const char *value, bool check_privilege)
{
	struct config_generic *record = rsl_find_setting(name);

	if (record == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("unrecognized setting \"%s\" of a degradation", name),
				 errhint(RSL_DEGRADABLE_HINT)));
	if (!rsl_setting_is_degradable(record))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("setting \"%s\" may not be changed by a degradation",
						record->name),
				 errhint(RSL_DEGRADABLE_HINT)));
	check_value(record->name, value);
	if (check_privilege && record->context == PGC_SUSET && !superuser() &&
		pg_parameter_aclcheck(record->name, GetUserId(), ACL_SET) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set \"%s\" by a degradation",
						record->name),
				 errhint("A superuser may GRANT SET ON PARAMETER %s.",
						 record->name)));
}

static void
raise_bad_settings(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("settings of a degradation must be an object of names and values"),
			 errdetail_internal("%s", detail),
			 errhint("For example: {\"work_mem\": \"4MB\", \"jit\": false}.")));
}

static void
check_settings(Jsonb *settings, bool check_privilege)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	List	   *seen = NIL;
	char	   *name = NULL;
	size_t		bytes = 0;

	if (!JB_ROOT_IS_OBJECT(settings))
		raise_bad_settings("It is not an object.");
	if (JB_ROOT_COUNT(settings) == 0)
		raise_bad_settings("It is empty.");

	it = JsonbIteratorInit(&settings->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *word;
		ListCell   *lc;

		if (token != WJB_KEY && token != WJB_VALUE)
			continue;
		word = rsl_setting_word(&value);
		if (word == NULL)
			raise_bad_settings(psprintf("The value of \"%s\" is none of string, number and boolean.",
										name));
		bytes += strlen(word) + 1;
		if (token == WJB_VALUE)
		{
			check_setting(name, word, check_privilege);
			continue;
		}
		name = word;
		foreach(lc, seen)
		{
			if (pg_strcasecmp(lfirst(lc), name) == 0)
				raise_bad_settings(psprintf("It has \"%s\" twice.", name));
		}
		seen = lappend(seen, name);
	}
	if (list_length(seen) > RSL_MAX_DEGRADATION_SETTINGS ||
		bytes > RSL_DEGRADATION_SETTINGS_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many settings of a degradation"),
				 errdetail("settings=%d maximum=%d bytes=%zu maximum_bytes=%d",
						   list_length(seen), RSL_MAX_DEGRADATION_SETTINGS,
						   bytes, RSL_DEGRADATION_SETTINGS_LEN),
				 errhint("Share them out among several degradations for the same state.")));
}

static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	bool		isnull;
	Datum		settings;
	bool		unchanged = false;

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_DCOL_NAME));
	check_word(tuple, desc, RSL_DCOL_WHEN_STATE, rsl_parse_load_state,
			   "loaded, shedding, degraded, unhealthy");
	check_word(tuple, desc, RSL_DCOL_PRIORITY, rsl_parse_priority,
			   "low, normal, high, critical");
	settings = heap_getattr(tuple, RSL_DCOL_SETTINGS, desc, &isnull);
	if (isnull)
		raise_bad_settings("It is null.");
	if (old)
	{
		bool		old_isnull;
		Datum		before = heap_getattr(old, RSL_DCOL_SETTINGS, desc, &old_isnull);

		unchanged = !old_isnull &&
			compareJsonbContainers(&DatumGetJsonbP(before)->root,
								   &DatumGetJsonbP(settings)->root) == 0;
	}
	check_settings(DatumGetJsonbP(settings), !unchanged);
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

/* The arguments as column values; words in the spelling that views show. */
static void
collect_arguments(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	(void) rsl_name_argument(fcinfo, definitions.kind);
	for (int i = 0; i < RSL_NUM_DEGRADATION_ARGUMENTS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
		if (!nulls[i] &&
			(i + 1 == RSL_DCOL_WHEN_STATE || i + 1 == RSL_DCOL_PRIORITY))
		{
			char	   *word = TextDatumGetCString(values[i]);

			values[i] = CStringGetTextDatum(asc_tolower(word, strlen(word)));
		}
	}
}

/*
 * create_degradation(name text, when_state text,
 *		minimum_priority_affected text, settings jsonb, enabled boolean = true)
 *		returns void
 *
 * when_state: loaded, shedding, degraded, unhealthy.  settings: an object of
 * 1 to 16 names and values, together at most 400 bytes.
 * Errors: 22023 for a bad argument, a setting that may not be changed or a
 * value that it does not accept, 42704 for an unknown setting, 42710 for a
 * name in use, 54000 for too many settings, 42501 for a setting that only
 * superusers change (unless GRANT SET), 53400 (at COMMIT) when shared memory
 * has no more room.
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
 *
 * Errors: 42704 when there is no such degradation; else as
 * create_degradation().
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
 *
 * Errors: 42704 when there is no such degradation, unless if_exists (NOTICE).
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

#define STATISTICS_COLUMNS	5

/*
 * degradation_statistics() returns setof record
 *
 * Live numbers of this database's degradations: name, active, since,
 * transactions_total, skipped_total.
 */
Datum
degradation_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_degradations->max_degradations; i++)
	{
		rsl_degradation *degradation = &rsl_degradations->degradations[i];
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};

		if (!degradation->published ||
			degradation->policy.home_database != MyDatabaseId)
			continue;
		values[0] = CStringGetTextDatum(degradation->policy.name);
		values[1] = BoolGetDatum((pg_atomic_read_u32(&rsl_degradations->active) &
								  (UINT32_C(1) << i)) != 0);
		values[2] = TimestampTzGetDatum(degradation->since);
		values[3] = Int64GetDatum(pg_atomic_read_u64(&degradation->transactions));
		values[4] = Int64GetDatum(pg_atomic_read_u64(&degradation->skipped));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}
