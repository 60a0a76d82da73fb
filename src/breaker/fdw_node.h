/*-------------------------------------------------------------------------
 *
 * fdw_node.h
 *		What the guarded functions of foreign data wrappers have in common.
 *
 * Included by fdw*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_FDW_NODE_H
#define RSL_BREAKER_FDW_NODE_H

#include "compat.h"

#include "access/parallel.h"
#include "breaker/guard.h"
#include "breaker/servers.h"
#include "nodes/execnodes.h"
#include "shared/experiments.h"
#include "shared/settings.h"

/*
 * A node of a plan, or a result relation, that belongs to a guarded server.
 * Its functions are its own: the executor finds them here, and they find here
 * what they have to know.
 */
typedef struct rsl_fdw_node
{
	FdwRoutine	routine;		/* first: the executor's node points here */
	const FdwRoutine *fdw;		/* the wrapper's own functions */
	rsl_server *server;
	rsl_guard  *guard;			/* NULL until it has begun */
	Oid			user;			/* whose user mapping counts */
	bool		begun;			/* the wrapper's Begin has returned */
} rsl_fdw_node;

extern void rsl_fdw_node_init(rsl_fdw_node *node, rsl_server *server, Oid user);
extern rsl_guard *rsl_fdw_guard_of_query(rsl_server *server, EState *estate);

extern void rsl_wrap_planning(FdwRoutine *routine);
extern void rsl_wrap_scans(FdwRoutine *routine);
extern void rsl_wrap_modifications(FdwRoutine *routine);
extern void rsl_wrap_commands(FdwRoutine *routine);

/* A first contact: it takes time that counts, and may need a connection. */
#define RSL_FDW_BEGIN	(RSL_SECTION_TIMED | RSL_SECTION_CONNECTS)

/*
 * The server is about to be called: here chaos experiments strike, where the
 * breaker sees it.
 */
static inline void
rsl_fdw_call_begins(const rsl_server *server)
{
	rsl_chaos_foreign_call(server->serverid);
}

/* Is there anything to do for calls to this server? */
static inline bool
rsl_fdw_is_guarded(const rsl_server *server)
{
	/* the leader of a parallel query speaks for its workers */
	return server->breaker >= 0 && rsl_mode_setting != RSL_MODE_OFF &&
		server->policy.mode != RSL_MODE_OFF && !IsParallelWorker();
}

/* Then a node may begin when the executor says so. */
static inline bool
rsl_fdw_is_closed(const rsl_server *server)
{
	return RSL_GATE_POSITION(pg_atomic_read_u64(&rsl_breakers[server->breaker].gate)) ==
		RSL_BREAKER_CLOSED;
}

/* Run a statement that is the whole of a call to a guarded server. */
#define RSL_FDW_CALL(server_, phase_, ...) \
	do { \
		rsl_guard	guard_; \
		rsl_guard_open(&guard_, (server_)->breaker, &(server_)->policy, NULL, \
					   (phase_)); \
		RSL_GUARDED(&guard_, RSL_FDW_BEGIN, (phase_), \
					rsl_fdw_call_begins(server_), \
					__VA_ARGS__); \
		rsl_guard_close(&guard_); \
	} while (0)

#endif							/* RSL_BREAKER_FDW_NODE_H */
