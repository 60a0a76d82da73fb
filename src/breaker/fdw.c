/*-------------------------------------------------------------------------
 *
 * fdw.c
 *		Guarding the functions of foreign data wrappers.
 *
 * In the copy of the functions that handler.c hands out only those are
 * replaced with which everything begins.  They look up the server: if no
 * breaker guards it, the node gets the wrapper's own functions, and we are out
 * of the way.  Else the node gets a table of functions of its own, see
 * fdw_node.h.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/fdw.h"
#include "breaker/fdw_node.h"
#include "breaker/remote.h"
#include "utils/memutils.h"

/* A guard that lives as long as a query does. */
typedef struct query_guard
{
	rsl_guard	guard;
	MemoryContextCallback callback;
} query_guard;

static void
query_ends(void *arg)
{
	rsl_guard_close((rsl_guard *) arg);
}

/*
 * The guard of this query's call to a server: one for all its nodes.  Raises
 * 08R01 or 53R01.
 */
rsl_guard *
rsl_fdw_guard_of_query(rsl_server *server, EState *estate)
{
	rsl_guard  *guard = rsl_guard_find(server->breaker, estate);
	query_guard *mine;

	if (guard)
		return guard;
	mine = MemoryContextAllocZero(estate->es_query_cxt, sizeof(query_guard));
	rsl_guard_open(&mine->guard, server->breaker, &server->policy, estate, "begin");
	mine->callback.func = query_ends;
	mine->callback.arg = &mine->guard;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &mine->callback);
	return &mine->guard;
}

/* A node with the wrapper's own functions; the caller replaces some. */
void
rsl_fdw_node_init(rsl_fdw_node *node, rsl_server *server, Oid user)
{
	node->routine = *server->fdw;
	node->fdw = server->fdw;
	node->server = server;
	node->user = user;
}

/*
 * Replace the functions with which everything begins.  What is NULL stays
 * NULL where planner and executor draw conclusions from that.
 */
void
rsl_wrap_routine(FdwRoutine *routine)
{
	rsl_remote_prepare();
	rsl_wrap_planning(routine);
	rsl_wrap_scans(routine);
	rsl_wrap_modifications(routine);
	rsl_wrap_commands(routine);
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_fdw_init(void)
{
	rsl_handler_init();
	rsl_remote_init();
}
