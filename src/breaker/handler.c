/*-------------------------------------------------------------------------
 *
 * handler.c
 *		Getting in between the server and foreign data wrappers.
 *
 * Whoever wants to use a foreign data wrapper asks its handler function for a
 * table of functions: the relation cache, the planner for joins, TRUNCATE,
 * IMPORT FOREIGN SCHEMA.  That makes the handler the one place that all ways
 * to a foreign server pass.  The function manager lets us replace a function
 * at its call; ours calls the handler and hands out a changed copy of its
 * answer.  No catalog is touched, and nothing is left behind.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "breaker/servers.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

typedef struct handler_entry
{
	Oid			handler;		/* hash key: the function's OID */
	PGFunction	function;		/* the handler itself */
	bool		answered;
	FdwRoutine	routine;		/* its answer */
} handler_entry;

static HTAB *handlers = NULL;
static needs_fmgr_hook_type prev_needs_fmgr_hook = NULL;
static fmgr_hook_type prev_fmgr_hook = NULL;

static handler_entry *
find_entry(Oid handler, bool create)
{
	handler_entry *entry;
	bool		found;

	if (handlers == NULL)
	{
		HASHCTL		ctl = {0};

		if (!create)
			return NULL;
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(handler_entry);
		handlers = hash_create("resilience foreign data wrappers", 8, &ctl,
							   HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(handlers, &handler, create ? HASH_ENTER : HASH_FIND,
						&found);
	if (entry && !found)
	{
		entry->function = NULL;
		entry->answered = false;
	}
	return entry;
}

static bool
is_fdw_handler(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_proc) GETSTRUCT(tuple))->prorettype == FDW_HANDLEROID;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * What the function manager calls in place of a handler.
 */
static Datum
wrapped_handler(PG_FUNCTION_ARGS)
{
	Oid			handler = fcinfo->flinfo->fn_oid;
	handler_entry *entry = find_entry(handler, false);
	Datum		answer;
	FdwRoutine *routine;

	if (entry == NULL || entry->function == NULL)
		elog(ERROR, "resilience has lost the handler function %u", handler);
	answer = entry->function(fcinfo);
	routine = (FdwRoutine *) DatumGetPointer(answer);
	if (routine == NULL || !IsA(routine, FdwRoutine))
		return answer;			/* GetFdwRoutine() will complain */

	/* it may be a constant: never write into what the handler returned */
	memcpy(&entry->routine, routine, sizeof(FdwRoutine));
	entry->answered = true;
	routine = makeNode(FdwRoutine);
	memcpy(routine, &entry->routine, sizeof(FdwRoutine));
	rsl_wrap_routine(routine);
	return PointerGetDatum(routine);
}

/* The functions as the handler gave them.  The pointer stays valid. */
const FdwRoutine *
rsl_original_routine(Oid handler)
{
	handler_entry *entry = find_entry(handler, false);

	if (entry == NULL || !entry->answered)
	{
		pfree(GetFdwRoutine(handler));
		entry = find_entry(handler, false);
	}
	if (entry == NULL || !entry->answered)
		elog(ERROR, "resilience was passed by when handler function %u was called",
			 handler);
	return &entry->routine;
}

static bool
needs_hook(Oid function)
{
	if (prev_needs_fmgr_hook && prev_needs_fmgr_hook(function))
		return true;
	return is_fdw_handler(function);
}

static void
function_manager_hook(FmgrHookEventType event, FmgrInfo *flinfo, Datum *arg)
{
	if (event == FHET_START && flinfo->fn_addr != wrapped_handler &&
		is_fdw_handler(flinfo->fn_oid))
	{
		find_entry(flinfo->fn_oid, true)->function = flinfo->fn_addr;
		flinfo->fn_addr = wrapped_handler;
	}
	if (prev_fmgr_hook)
		prev_fmgr_hook(event, flinfo, arg);
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_handler_init(void)
{
	prev_needs_fmgr_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_hook;
	prev_fmgr_hook = fmgr_hook;
	fmgr_hook = function_manager_hook;
}
