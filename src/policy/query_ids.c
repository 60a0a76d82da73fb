/*-------------------------------------------------------------------------
 *
 * query_ids.c
 *		Query identifiers, computed while somebody wants them.
 *
 * With compute_query_id = auto, the default, PostgreSQL computes them only if
 * a preloaded module asks for that for good.  We need them only while, say, a
 * bulkhead has a condition on query_id.  A word in shared memory says so, and
 * then each backend computes the identifier of what it parses that has none
 * yet, by the same function.  compute_query_id = off is respected.
 *
 * What was parsed before has none, and a prepared statement keeps its parse.
 * When a backend first meets such a statement, it invalidates its cached
 * plans, so that all of them are parsed anew before they run again.  This one
 * has begun to run already: its text is parsed once more here.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "policy/query_ids.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/resowner.h"

static post_parse_analyze_hook_type prev_post_parse_analyze_hook = NULL;

/* for which time of being wanted the cached plans were invalidated */
static uint32 plans_reset_for = 0;

/* Start or stop computing query identifiers, in all sessions. */
void
rsl_want_query_ids(uint32 who, bool wanted)
{
	if (!wanted)
		pg_atomic_fetch_and_u32(&rsl_shmem->query_ids_wanted, ~who);
	else if ((pg_atomic_read_u32(&rsl_shmem->query_ids_wanted) & who) == 0)
	{
		/* first the number: whoever sees the bit sees the number, too */
		pg_atomic_fetch_add_u32(&rsl_shmem->query_ids_since, 1);
		pg_atomic_fetch_or_u32(&rsl_shmem->query_ids_wanted, who);
	}
}

static void
post_parse_analyze(ParseState *pstate, Query *query, rsl_jumble_state *jstate)
{
	if (unlikely(rsl_query_ids_wanted()) && query->queryId == 0 &&
		rsl_may_compute_query_id())
		(void) rsl_jumble_query(query, pstate->p_sourcetext);

	if (prev_post_parse_analyze_hook)
		prev_post_parse_analyze_hook(pstate, query, jstate);
}

/* The statement at a place of a string; NULL if it cannot be told. */
static RawStmt *
statement_at(List *statements, int location)
{
	ListCell   *lc;

	foreach(lc, statements)
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (raw->stmt_location == location || list_length(statements) == 1)
			return raw;
	}
	return NULL;
}

static uint64
parse_and_analyze(const PlannedStmt *stmt, const char *text, QueryDesc *queryDesc)
{
	ParamListInfo params = queryDesc ? queryDesc->params : NULL;
	int			nparams = params ? params->numParams : 0;
	MemoryContext context;
	MemoryContext caller;
	RawStmt    *raw;
	uint64		query_id = 0;

	/* parameters of PL/pgSQL and the like: not a top-level statement's */
	if (params && params->paramFetch != NULL)
		return 0;

	context = AllocSetContextCreate(CurrentMemoryContext,
									"resilience query identifier",
									ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	raw = statement_at(raw_parser(text, RAW_PARSE_DEFAULT),
					   stmt->stmt_location);
	/* what runs is the query within */
	if (raw && IsA(raw->stmt, PrepareStmt))
		raw->stmt = ((PrepareStmt *) raw->stmt)->query;
	else if (raw && IsA(raw->stmt, ExplainStmt))
		raw->stmt = ((ExplainStmt *) raw->stmt)->query;
	else if (raw && IsA(raw->stmt, DeclareCursorStmt))
		raw->stmt = ((DeclareCursorStmt *) raw->stmt)->query;
	if (raw)
	{
		Oid		   *types = palloc0((nparams + 1) * sizeof(Oid));
		Query	   *query;

		for (int i = 0; i < nparams; i++)
			types[i] = params->params[i].ptype;
		query = parse_analyze_fixedparams(raw, text, types, nparams, NULL);
		query_id = (uint64) query->queryId;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return query_id;
}

/*
 * The identifier of a statement whose parse was made without one; 0 = none.
 * The text may not be understood any more, by other names that are visible
 * now, say.  That is nothing to the statement, which has its plan.
 */
static uint64
parse_again(const PlannedStmt *stmt, const char *text, QueryDesc *queryDesc)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile uint64 query_id = 0;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		query_id = parse_and_analyze(stmt, text, queryDesc);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return query_id;
}

/*
 * The query identifier of a top-level statement that begins to run; 0 if it
 * has none.  "text" is the query string, "queryDesc" NULL for a utility
 * statement.  Call rsl_want_query_ids() first.  Normally this only reads a
 * field; it parses the text once in the life of a backend after identifiers
 * have become wanted.
 */
uint64
rsl_query_id_of(const PlannedStmt *stmt, const char *text, QueryDesc *queryDesc)
{
	uint32		since;

	if (likely(stmt->queryId != 0))
		return (uint64) stmt->queryId;
	since = pg_atomic_read_u32(&rsl_shmem->query_ids_since);
	if (likely(since == plans_reset_for) || !rsl_may_compute_query_id())
		return 0;

	plans_reset_for = since;
	ResetPlanCache();
	return text ? parse_again(stmt, text, queryDesc) : 0;
}

/* For whoever creates something that needs them. */
void
rsl_warn_without_query_ids(const char *kind, const char *name)
{
	if (rsl_may_compute_query_id())
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("%s \"%s\" needs query identifiers, and they are not computed",
					kind, name),
			 errdetail("\"%s\" is \"off\", and no statement of such a session matches.",
					   "compute_query_id"),
			 errhint("Set \"%s\" to \"auto\" or \"on\".", "compute_query_id")));
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_query_ids_init(void)
{
	prev_post_parse_analyze_hook = post_parse_analyze_hook;
	post_parse_analyze_hook = post_parse_analyze;
}
