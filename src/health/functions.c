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

#include <math.h>

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "health/kinds.h"
#include "policy/breaker_policy.h"
#include "policy/definitions.h"
#include "policy/dependencies.h"
#include "policy/health_policy.h"
#include "policy/probe.h"
#include "policy/read_query.h"
#include "replication/slot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(create_health_check);
PG_FUNCTION_INFO_V1(alter_health_check);
PG_FUNCTION_INFO_V1(drop_health_check);
PG_FUNCTION_INFO_V1(health_check_definitions_check);

static void check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc);

#define DAY_MS		(24 * 3600 * 1000.0)

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

static bool
same_text(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static bool
same_float(HeapTuple tuple, HeapTuple old, TupleDesc desc, int column)
{
	double		value = rsl_float_column(tuple, desc, column, NAN);
	double		old_value = rsl_float_column(old, desc, column, NAN);

	return value == old_value || (isnan(value) && isnan(old_value));
}

/*
 * Rules for one definition.
 */

static void
check_kind(const char *kind)
{
	if (rsl_parse_check_kind(kind) >= 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown kind \"%s\" of a health check", kind),
			 errhint("Available kinds are sql, foreign_server, connections, replication_lag, replication_slots, xid_age, long_transactions, lock_waits, archiver, disk_free, load.")));
}

static void
check_query_given(const char *kind, const char *query)
{
	bool		wanted = rsl_parse_check_kind(kind) == RSL_CHECK_SQL;

	if (wanted && (query == NULL || query[0] == '\0'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a health check of the kind \"sql\" needs a query"),
				 errhint("Give it a SELECT that returns a boolean or a number, or choose another kind.")));
	if (!wanted && query)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a health check of the kind \"%s\" has no query", kind),
				 errdetail("Only those of the kind \"sql\" have one."),
				 errhint("Leave query out. To make a check one of another kind, drop it and create it again.")));
}

/* What the target of a kind is, for messages; NULL if it has none. */
static const char *
target_meaning(int kind)
{
	switch (kind)
	{
		case RSL_CHECK_FOREIGN_SERVER:
			return "the name of a foreign server";
		case RSL_CHECK_REPLICATION_LAG:
			return "the application_name of a standby, NULL for all";
		case RSL_CHECK_REPLICATION_SLOTS:
			return "the name of a replication slot, NULL for all";
		case RSL_CHECK_DISK_FREE:
			return "the name of a tablespace or an absolute path, NULL for all that the server uses";
		default:
			return NULL;
	}
}

static void
check_target(const char *kind, const char *target)
{
	const char *meaning = target_meaning(rsl_parse_check_kind(kind));

	if (target == NULL)
	{
		if (rsl_parse_check_kind(kind) == RSL_CHECK_FOREIGN_SERVER)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a health check of the kind \"%s\" needs a target", kind),
					 errhint("It is %s.", meaning)));
		return;
	}
	if (meaning == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a health check of the kind \"%s\" has no target", kind),
				 errdetail("target=%s", target),
				 errhint("Leave target out.")));
	if (target[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the target of a health check must not be empty"),
				 errhint("It is %s.", meaning)));
	if (strlen(target) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the target of a health check is too long"),
				 errdetail("bytes=%zu maximum=%d", strlen(target),
						   NAMEDATALEN - 1),
				 errhint("It is %s.", meaning)));
}

/* Only those who may look at files may look at disks outside. */
static void
check_path(const char *target)
{
	char		path[NAMEDATALEN];

	if (target[0] != '/')
		return;
	strlcpy(path, target, sizeof(path));
	canonicalize_path(path);
	if (superuser() || has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES) ||
		(path_is_prefix_of_path(DataDir, path) && strstr(path, "/..") == NULL))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for a path outside of the data directory"),
			 errdetail("target=%s", target),
			 errhint("Name a tablespace; or ask for membership in pg_read_server_files.")));
}

static double
check_interval(HeapTuple tuple, TupleDesc desc, int column, double min,
			   double max)
{
	double		ms = rsl_interval_column_ms(tuple, desc, column, min);
	const char *name = columns[column - 1].name;

	if (!(ms >= min && ms <= max))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a health check is out of range", name),
				 errdetail("%s_ms=%.3f minimum=%.0f maximum=%.0f", name, ms,
						   min, max),
				 errhint("Choose an interval between these bounds.")));
	return ms;
}

static void
check_intervals(HeapTuple tuple, TupleDesc desc)
{
	double		interval = check_interval(tuple, desc, RSL_HCOL_CHECK_INTERVAL,
										  1000, DAY_MS);
	double		timeout = check_interval(tuple, desc, RSL_HCOL_TIMEOUT, 1, DAY_MS);

	if (timeout >= interval)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout of a health check must be below its check_interval"),
				 errdetail("timeout_ms=%.0f check_interval_ms=%.0f", timeout, interval),
				 errhint("A run has to end before the next one is due.")));
}

static void
check_count(HeapTuple tuple, TupleDesc desc, int column)
{
	int32		value = rsl_int_column(tuple, desc, column, 1);
	const char *name = columns[column - 1].name;

	if (value < 1 || value > 1000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a health check is out of range", name),
				 errdetail("%s=%d minimum=1 maximum=1000", name, value),
				 errhint("It is the number of runs in a row that change the status.")));
}

static void
check_threshold(HeapTuple tuple, TupleDesc desc, int column, int kind)
{
	double		value = rsl_float_column(tuple, desc, column, 0);
	const char *name = columns[column - 1].name;
	const char *unit = rsl_check_unit(kind);
	bool		is_share = unit && strcmp(unit, "share") == 0;

	if (!isfinite(value) || (unit && value < 0) || (is_share && value > 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a health check is out of range", name),
				 errdetail("%s=%g", name, value),
				 unit == NULL ? errhint("It is a number that the query's result is compared with.") :
				 is_share ? errhint("It is a share, from 0 to 1.") :
				 errhint("It counts %s.", unit)));
}

/* In the direction of the kind; the one that is not given is the default. */
static void
check_thresholds(HeapTuple tuple, TupleDesc desc)
{
	rsl_check_policy policy = {0};
	double		warning;
	double		critical;
	bool		less;

	(void) rsl_health_check_kind.from_tuple(tuple, desc, &policy);
	check_threshold(tuple, desc, RSL_HCOL_WARNING_THRESHOLD, policy.kind);
	check_threshold(tuple, desc, RSL_HCOL_CRITICAL_THRESHOLD, policy.kind);
	rsl_check_thresholds(&policy, &warning, &critical);
	less = rsl_check_less_is_worse(policy.kind);
	if (policy.kind == RSL_CHECK_SQL || isnan(warning) || isnan(critical) ||
		(isnan(policy.warning_threshold) && isnan(policy.critical_threshold)) ||
		(less ? warning >= critical : warning <= critical))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("thresholds of a health check are the wrong way round"),
			 errdetail("kind=%s warning_threshold=%g%s critical_threshold=%g%s",
					   rsl_check_kind_name(policy.kind), warning,
					   isnan(policy.warning_threshold) ? " (default)" : "",
					   critical,
					   isnan(policy.critical_threshold) ? " (default)" : ""),
			 less ? errhint("Less is worse: critical_threshold must not be above warning_threshold.") :
			 errhint("More is worse: critical_threshold must not be below warning_threshold.")));
}

/* What can be said of a row without a look at anything else. */
static void
check_row(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *kind = rsl_text_column(tuple, desc, RSL_HCOL_KIND);
	char	   *query = rsl_text_column(tuple, desc, RSL_HCOL_QUERY);
	char	   *target = rsl_text_column(tuple, desc, RSL_HCOL_TARGET);

	rsl_check_name(definitions.kind, rsl_text_column(tuple, desc, RSL_HCOL_NAME));
	if (kind == NULL)
		return;					/* the column's constraint will say so */
	check_kind(kind);
	check_query_given(kind, query);
	check_target(kind, target);
	if (target && !(old && same_text(target, rsl_text_column(old, desc, RSL_HCOL_TARGET))))
		check_path(target);
	check_intervals(tuple, desc);
	check_count(tuple, desc, RSL_HCOL_FAILURE_THRESHOLD);
	check_count(tuple, desc, RSL_HCOL_SUCCESS_THRESHOLD);
	check_thresholds(tuple, desc);
	if (query && !(old && same_text(query, rsl_text_column(old, desc, RSL_HCOL_QUERY))))
		rsl_parse_check_query(query);
}

/* As its owner: what does the query return, and do the thresholds fit? */
static void
check_query(HeapTuple tuple, TupleDesc desc, const char *query)
{
	bool		isnull;
	Oid			owner = DatumGetObjectId(heap_getattr(tuple, RSL_HCOL_OWNER, desc, &isnull));
	bool		thresholds =
		!isnan(rsl_float_column(tuple, desc, RSL_HCOL_WARNING_THRESHOLD, NAN)) ||
		!isnan(rsl_float_column(tuple, desc, RSL_HCOL_CRITICAL_THRESHOLD, NAN));
	rsl_identity before;
	rsl_query_result result;

	rsl_become(owner, &before);
	result = rsl_analyze_check_query(query);
	rsl_become_again(&before);
	if (result == RSL_QUERY_BOOLEAN && thresholds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a query that returns a boolean has no thresholds"),
				 errhint("Leave them out, or let the query return a number.")));
	if (result == RSL_QUERY_NUMBER && !thresholds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a query that returns a number needs a threshold"),
				 errdetail("Without one every number is healthy."),
				 errhint("Give it warning_threshold, critical_threshold or both; if less is worse, both, with critical_threshold below warning_threshold.")));
}

static void
check_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	char		target[RSL_PROBE_TARGET_LEN];

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errdetail("A health check looks at a foreign server of its own database."),
				 errhint("SELECT srvname FROM pg_foreign_server lists them.")));
	rsl_probe_target(server, target);
	if (target[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("foreign server \"%s\" cannot be asked without credentials", name),
				 errdetail("It is not one of postgres_fdw, or its options name a service, or are too long."),
				 errhint("Use a check of the kind \"sql\" that reads one of its foreign tables.")));
}

/* What is named has to be there, or may come later. */
static void
check_target_exists(int kind, const char *target)
{
	if (kind == RSL_CHECK_FOREIGN_SERVER)
		check_server(target);
	else if (kind == RSL_CHECK_DISK_FREE && target[0] != '/' &&
			 !OidIsValid(get_tablespace_oid(target, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("tablespace \"%s\" does not exist", target),
				 errhint("The target is %s.", target_meaning(kind))));
	else if (kind == RSL_CHECK_REPLICATION_SLOTS &&
			 SearchNamedReplicationSlot(target, true) == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("replication slot \"%s\" does not exist", target),
				 errdetail("The health check is unhealthy until it does.")));
}

/*
 * The rules, and what has to be there.  A restore may write the row before
 * what its query reads: the trigger goes without this.
 */
static void
check_definition(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	char	   *query = rsl_text_column(tuple, desc, RSL_HCOL_QUERY);
	char	   *target = rsl_text_column(tuple, desc, RSL_HCOL_TARGET);
	int			kind;

	check_row(tuple, old, desc);
	kind = rsl_parse_check_kind(rsl_text_column(tuple, desc, RSL_HCOL_KIND));

	/* what else is altered must not fail for a table that is gone */
	if (query &&
		!(old && same_text(query, rsl_text_column(old, desc, RSL_HCOL_QUERY)) &&
		  same_float(tuple, old, desc, RSL_HCOL_WARNING_THRESHOLD) &&
		  same_float(tuple, old, desc, RSL_HCOL_CRITICAL_THRESHOLD)))
		check_query(tuple, desc, query);
	if (target && !(old && same_text(target, rsl_text_column(old, desc, RSL_HCOL_TARGET))))
		check_target_exists(kind, target);
	if (kind == RSL_CHECK_ARCHIVER && old == NULL && !XLogArchivingActive())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("archiving is off"),
				 errdetail("The health check is healthy as long as archive_mode is off.")));
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
	HeapTuple	old = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_trigtuple : NULL;
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	check_row(tuple, old, desc);
	rsl_check_owner(definitions.kind, tuple, old, desc, RSL_HCOL_OWNER,
					RSL_HCOL_QUERY);
	return PointerGetDatum(tuple);
}

/*
 * The arguments, words in the spelling that views show; and whose the check
 * is.  Whoever gives it a query becomes its owner: otherwise the query would
 * run as somebody else.
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
	if (!nulls[RSL_HCOL_KIND - 1])
	{
		char	   *word = TextDatumGetCString(values[RSL_HCOL_KIND - 1]);

		values[RSL_HCOL_KIND - 1] =
			CStringGetTextDatum(asc_tolower(word, strlen(word)));
	}
	values[RSL_HCOL_OWNER - 1] = ObjectIdGetDatum(GetUserId());
	nulls[RSL_HCOL_OWNER - 1] = !is_new && nulls[RSL_HCOL_QUERY - 1];
}

/*
 * Analysis may have to wait for a lock on what the query reads.  Do that, and
 * find what is wrong with it, before all others are kept from changing
 * definitions; its locks last until the transaction ends, so that the analysis
 * that counts, with the row as it will be, finds them there.
 */
static void
understand_query(FunctionCallInfo fcinfo, bool is_new)
{
	Oid			owner = GetUserId();
	char	   *query = NULL;
	rsl_identity before;

	rsl_require_shmem();
	if (RecoveryInProgress() ||
		(!PG_ARGISNULL(RSL_HCOL_KIND - 1) &&
		 rsl_parse_check_kind(TextDatumGetCString(PG_GETARG_DATUM(RSL_HCOL_KIND - 1))) != RSL_CHECK_SQL))
		return;
	if (!PG_ARGISNULL(RSL_HCOL_QUERY - 1))
		query = TextDatumGetCString(PG_GETARG_DATUM(RSL_HCOL_QUERY - 1));
	else if (!is_new && (!PG_ARGISNULL(RSL_HCOL_WARNING_THRESHOLD - 1) ||
						 !PG_ARGISNULL(RSL_HCOL_CRITICAL_THRESHOLD - 1)))
	{
		/* whether it returns numbers will be asked again */
		rsl_check_policy policy;

		query = rsl_read_check(rsl_name_argument(fcinfo, definitions.kind), &policy);
		owner = policy.owner;
	}
	if (query == NULL || query[0] == '\0')
		return;
	rsl_become(owner, &before);
	(void) rsl_analyze_check_query(query);
	rsl_become_again(&before);
}

/*
 * create_health_check(name text, kind text, query text, target text,
 *		warning_threshold float8, critical_threshold float8,
 *		check_interval interval, timeout interval, failure_threshold int,
 *		success_threshold int, critical boolean, enabled boolean) returns void
 *
 * check_interval: 1 s to 1 day; timeout: from 1 ms, below check_interval;
 * failure_threshold, success_threshold: 1 to 1000; thresholds in the unit of
 * the kind, NULL = its default.
 *
 * Errors: 22023 for a bad argument, 42710 for a name in use, 42704 for an
 * unknown server or tablespace, 42501 for a path that the caller may not look
 * at, whatever the parser says of the query, 53400 (at COMMIT) when shared
 * memory has no more room.
 */
Datum
create_health_check(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_HCOL_OWNER];
	bool		nulls[RSL_HCOL_OWNER];

	understand_query(fcinfo, true);
	rsl_begin_change("create_health_check()");
	collect_arguments(fcinfo, true, values, nulls);
	rsl_definition_insert(&definitions, values, nulls);
	rsl_refuse_coupling_cycle();
	PG_RETURN_VOID();
}

/*
 * alter_health_check(name text, ...the same arguments, NULL = leave)
 *		returns void
 *
 * Who gives it a query becomes its owner.  Errors: 42704 when there is no such
 * check; else as create_health_check().
 */
Datum
alter_health_check(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_HCOL_OWNER];
	bool		nulls[RSL_HCOL_OWNER];

	understand_query(fcinfo, false);
	rsl_begin_change("alter_health_check()");
	collect_arguments(fcinfo, false, values, nulls);
	rsl_definition_update(&definitions, values, nulls);
	rsl_refuse_coupling_cycle();
	PG_RETURN_VOID();
}

/*
 * drop_health_check(name text, if_exists boolean = false) returns void
 *
 * Errors: 42704 when there is no such check, unless if_exists (NOTICE).
 */
Datum
drop_health_check(PG_FUNCTION_ARGS)
{
	Datum		name;

	name = CStringGetTextDatum(rsl_name_argument(fcinfo, definitions.kind));
	rsl_begin_change("drop_health_check()");
	rsl_refuse_drop_while_coupled(definitions.kind, RSL_FCOL_HEALTH_CHECK,
								  TextDatumGetCString(name));
	rsl_definition_delete(&definitions, name,
						  !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
