/*-------------------------------------------------------------------------
 *
 * run_feature.c
 *		run_feature(): the primary while a feature is enabled, else its
 *		fallback.
 *
 * The primary runs in a subtransaction where its error is to be answered by
 * the fallback: what it has done is rolled back before the fallback begins.
 * Both run as the caller, but for the fallback of the feature's definition:
 * that runs as the feature's owner, who has written it, with nothing of the
 * caller's that could change its meaning (search_path) or reach further than
 * its end (security-restricted operation).
 *
 * Not every error is the primary's own: who cancels wants the statement to
 * end, and a serialization failure or a deadlock that involves what the
 * transaction did before can only be answered by doing it all again.  Those
 * are passed on.  So are errors that say that the SQL is none, or that its rows
 * are not what the caller asked for: a fallback would hide that for ever; and
 * so is what says that data are damaged.
 *
 * (57P01 is not among them: by a shutdown of this server the session ends, and
 * catches nothing.  As an error it comes from a foreign server that stops.)
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "degradation/enabled.h"
#include "degradation/feature_views.h"
#include "degradation/run_feature.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "policy/definitions.h"
#include "policy/execution.h"
#include "policy/feature_policy.h"
#include "policy/read_query.h"
#include "shared/errcodes.h"
#include "shared/events.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(run_feature);

/* What a definition's fallback may name without a schema. */
#define FALLBACK_SEARCH_PATH	"pg_catalog, pg_temp"

static const rsl_sql_rules primary_rules = {
	.what = "primary_sql of a feature",
	.no_transaction_control = "It runs within the caller's transaction.",
	.no_client_copy = "Its rows are those of a function.",
	.no_client_copy_hint = "Use SELECT, or a statement with RETURNING.",
};

static const rsl_sql_rules fallback_rules = {
	.what = "fallback_sql of a feature",
	.no_transaction_control = "It runs within the caller's transaction.",
	.no_client_copy = "Its rows are those of a function.",
	.no_client_copy_hint = "Use SELECT, or a statement with RETURNING.",
};

typedef struct feature_run
{
	const char *name;
	rsl_feature *feature;		/* NULL = there is none of this name */
	uint32		uid;
	bool		fallback_on_error;
	bool		has_fallback;	/* in its definition */
	rsl_feature_verdict verdict;
	rsl_feature_description description;	/* unless served */

	List	   *primary;
	List	   *fallback;		/* the argument; NIL = none */
	rsl_row_receiver rows;
	MemoryContext context;
	ErrorData  *error;			/* of the primary, or NULL */
} feature_run;

static void
count(feature_run *run, pg_atomic_uint64 *counter)
{
	if (run->feature && pg_atomic_read_u32(&run->feature->uid) == run->uid)
		pg_atomic_fetch_add_u64(counter, 1);
}

/*
 * The message of a health check may quote what its owner reads: it is for
 * those who may see the view.
 */
static void
hide_message(char *reason)
{
	static const char prefix[] = "health check \"";
	char	   *is;
	char	   *message;

	if (strncmp(reason, prefix, sizeof(prefix) - 1) != 0 ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		return;
	is = strstr(reason, "\" is ");
	message = is ? strstr(is, ": ") : NULL;
	if (message)
		*message = '\0';
}

/*
 * What a feature's definition says, and whether this call is served.
 */
static void
decide(feature_run *run)
{
	rsl_known_feature *known = rsl_find_feature(run->name, strlen(run->name));

	if (known == NULL)
		return;
	run->feature = known->feature;
	run->uid = known->uid;
	run->verdict = rsl_feature_decide(known, rsl_feature_random_hash(known));

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	run->fallback_on_error = run->feature->policy.fallback_on_error;
	run->has_fallback = run->feature->policy.has_fallback;
	if (run->verdict != RSL_FEATURE_SERVED)
		rsl_feature_describe(run->feature, &run->description);
	LWLockRelease(rsl_config_lock);

	hide_message(run->description.reason);
	(void) rsl_without_quotes(run->description.reason);

	/* it may be on again by now */
	if (run->verdict != RSL_FEATURE_SERVED &&
		run->description.state == RSL_FEATURE_ON)
		run->description.state = RSL_FEATURE_DEGRADED;
}

/* Does an error of the primary concern more than the primary? */
static bool
must_pass(feature_run *run, ErrorData *error, bool worked_before)
{
	switch (error->sqlerrcode)
	{
		case ERRCODE_QUERY_CANCELED:	/* also by statement_timeout */
		case ERRCODE_ASSERT_FAILURE:
		case ERRCODE_SYNTAX_ERROR:	/* also: returns no rows at all */
		case ERRCODE_DATA_CORRUPTED:
		case ERRCODE_INDEX_CORRUPTED:
			return true;
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
			return worked_before || IsolationUsesXactSnapshot();
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			return worked_before;
		default:
			return run->rows.mismatch;
	}
}

/*
 * The primary.  Returns whether its rows are there; if not, its error is to
 * be answered by the fallback.
 */
static bool
run_primary(feature_run *run)
{
	bool		worked_before;
	uint64		processed;

	if (!run->fallback_on_error ||
		(run->fallback == NIL && !run->has_fallback))
	{
		PG_TRY();
		{
			(void) rsl_execute_statements(run->primary, &run->rows);
		}
		PG_CATCH();
		{
			if (run->feature && geterrcode() != ERRCODE_QUERY_CANCELED)
				count(run, &run->feature->primary_failures);
			PG_RE_THROW();
		}
		PG_END_TRY();
		return true;
	}

	worked_before = rsl_transaction_has_worked();
	run->error = rsl_execute_in_subtransaction(run->primary, &run->rows,
											   run->context, run->context,
											   &processed);
	if (run->error == NULL)
		return true;
	if (run->error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		count(run, &run->feature->primary_failures);
	if (must_pass(run, run->error, worked_before))
		ReThrowError(run->error);
	ereport(DEBUG1,
			(errmsg_internal("feature \"%s\": fallback after SQLSTATE %s: %s",
							 run->name, unpack_sql_state(run->error->sqlerrcode),
							 run->error->message)));
	/* the fallback begins with an empty store: see rows_startup() */
	return false;
}

/* The definition's fallback, and who wrote it.  NULL when there is none. */
static char *
read_fallback(const char *name, Oid *owner)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	Relation	relation;
	HeapTuple	row;
	Datum		datum;
	bool		isnull;
	char	   *sql;

	if (rsl_execute_as_owner(RSL_FEATURES_NAME,
							 "SELECT * FROM resilience.feature_definitions "
							 "WHERE name OPERATOR(pg_catalog.=) $1",
							 1, types, values, NULL, &row) == 0)
		return NULL;
	relation = table_open(rsl_extension_relation(RSL_FEATURES_NAME), AccessShareLock);
	sql = rsl_text_column(row, RelationGetDescr(relation), RSL_FCOL_FALLBACK_SQL);
	datum = heap_getattr(row, RSL_FCOL_OWNER, RelationGetDescr(relation), &isnull);
	*owner = isnull ? InvalidOid : DatumGetObjectId(datum);
	table_close(relation, AccessShareLock);
	return sql;
}

static void
fallback_context(void *arg)
{
	errcontext("fallback_sql of feature \"%s\", with search_path %s",
			   (const char *) arg, FALLBACK_SEARCH_PATH);
}

static int
fix_search_path(void)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("search_path", FALLBACK_SEARCH_PATH, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

/*
 * At the definition: can it be run, as far as an analysis can tell, and does
 * it mean the same in every session?  Errors: those of the analysis, 22023.
 */
void
rsl_fallback_prepare(const char *name, const char *sql)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = fallback_context,
		.arg = unconstify(char *, name)
	};
	int			nest_level = fix_search_path();
	SPIPlanPtr	plan;
	ListCell   *source;

	error_context_stack = &callback;
	SPI_connect();
	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	foreach(source, SPI_plan_get_plan_sources(plan))
	{
		ListCell   *query;

		foreach(query, ((CachedPlanSource *) lfirst(source))->query_list)
			rsl_refuse_temporary(lfirst_node(Query, query), fallback_rules.what);
	}
	SPI_finish();
	error_context_stack = callback.previous;
	AtEOXact_GUC(false, nest_level);
}

/* Run the definition's fallback.  An error's way out restores all of this. */
static void
run_as_owner(feature_run *run, char *sql, Oid owner)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = fallback_context,
		.arg = unconstify(char *, run->name)
	};
	Oid			save_user;
	int			save_context;
	int			nest_level;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("owner of feature \"%s\" does not exist", run->name),
				 errdetail("owner=%u", owner),
				 errhint("Whoever gives it a fallback_sql by resilience.alter_feature() owns it from then on.")));

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(owner, save_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	nest_level = fix_search_path();
	error_context_stack = &callback;
	(void) rsl_execute_statements(list_make1(sql), &run->rows);
	error_context_stack = callback.previous;
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(save_user, save_context);
}

/* Neither served, nor a fallback. */
RSL_NORETURN static void
refuse(feature_run *run)
{
	rsl_feature_description *is = &run->description;

	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_DEGRADED),
			 errmsg("feature \"%s\" is %s", run->name,
					rsl_feature_state_name(is->state)),
			 errdetail("state=%s reason=\"%s\" since=\"%s\" dimmer=%g started=false",
					   rsl_feature_state_name(is->state), is->reason,
					   timestamptz_to_str(is->since), is->dimmer),
			 errhint("Do without it: give run_feature() a fallback_sql, or the feature one by resilience.alter_feature().")));
}

/* Why the fallback ran: appended to the DETAIL of its own error. */
static void
append_cause(feature_run *run, ErrorData *error)
{
	char	   *cause;

	if (run->error)
		cause = psprintf("The primary had failed before: sqlstate=%s message=\"%s\"%s%s",
						 unpack_sql_state(run->error->sqlerrcode),
						 run->error->message,
						 run->error->detail ? " detail: " : "",
						 run->error->detail ? run->error->detail : "");
	else
		cause = psprintf("The primary was not run: state=%s reason=\"%s\"",
						 rsl_feature_state_name(run->description.state),
						 run->description.reason);
	error->detail = error->detail ?
		psprintf("%s\n%s", error->detail, cause) : cause;
}

static void
run_fallback(feature_run *run)
{
	char	   *sql = NULL;
	Oid			owner = InvalidOid;

	if (run->fallback == NIL && run->has_fallback)
		sql = read_fallback(run->name, &owner);
	if (run->fallback == NIL && sql == NULL)
	{
		/* dropped in this moment */
		if (run->error)
			ReThrowError(run->error);
		refuse(run);
	}

	PG_TRY();
	{
		if (run->fallback != NIL)
			(void) rsl_execute_statements(run->fallback, &run->rows);
		else
			run_as_owner(run, sql, owner);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(run->context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		count(run, &run->feature->fallback_failures);
		FlushErrorState();
		append_cause(run, error);
		ReThrowError(error);
	}
	PG_END_TRY();
	count(run, &run->feature->fallbacks);
}

static List *
get_statements(FunctionCallInfo fcinfo, int arg, const rsl_sql_rules *rules)
{
	List	   *statements =
		rsl_split_statements(text_to_cstring(PG_GETARG_TEXT_PP(arg)), rules);

	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", rules->what),
				 errhint("Give it a statement that returns rows.")));
	return statements;
}

/*
 * run_feature(name text, primary_sql text, fallback_sql text = NULL)
 *		returns setof record
 *
 * Rows of the primary while the feature is served to this call (or there is
 * none of this name); else those of the fallback: the argument, or the
 * definition's.  If the feature says fallback_on_error the fallback answers
 * errors of the primary, too.
 *
 * Errors: 55R01 when the feature is degraded or off and there is no fallback;
 * those of the SQL, the primary's in the DETAIL of the fallback's; 42804 when
 * the rows do not have the columns that the caller's column definition list
 * names; 22023, 0A000, 42601 for SQL that cannot be run here.
 */
Datum
run_feature(PG_FUNCTION_ARGS)
{
	MemoryContext old = CurrentMemoryContext;
	feature_run *run = palloc0(sizeof(feature_run));

	run->name = rsl_name_argument(fcinfo, "feature");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("primary_sql of a feature must not be null"),
				 errhint("SELECT * FROM resilience.run_feature('name', 'SELECT ...') AS (id int, name text);")));
	rsl_require_shmem();
	run->primary = get_statements(fcinfo, 1, &primary_rules);
	if (!PG_ARGISNULL(2))
		run->fallback = get_statements(fcinfo, 2, &fallback_rules);
	rsl_rows_begin(&run->rows, fcinfo, "resilience.run_feature()",
				   "SELECT * FROM resilience.run_feature('name', 'SELECT ...') AS (id int, name text);");
	run->context = AllocSetContextCreate(CurrentMemoryContext,
										 "resilience feature",
										 ALLOCSET_SMALL_SIZES);

	decide(run);
	if (run->verdict != RSL_FEATURE_SERVED || !run_primary(run))
		run_fallback(run);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(run->context);
	return (Datum) 0;
}
