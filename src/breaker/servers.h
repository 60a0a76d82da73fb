/*-------------------------------------------------------------------------
 *
 * servers.h
 *		What this backend knows about foreign servers and their wrappers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_SERVERS_H
#define RSL_BREAKER_SERVERS_H

#include "compat.h"

#include "foreign/fdwapi.h"
#include "shared/breakers.h"

typedef struct rsl_server
{
	Oid			serverid;		/* hash key */
	bool		described;		/* false when the catalogs have changed */
	const FdwRoutine *fdw;		/* the wrapper's own functions */
	bool		is_postgres_fdw;
	bool		remote_estimate;	/* its option use_remote_estimate */
	char		host[256];		/* its options, as far as they fit */
	char		hostaddr[256];
	char		port[64];
	uint64		generation;		/* of the breakers when we looked; 0 = never */
	int			breaker;		/* index, or -1: not guarded */
	rsl_breaker_policy policy;	/* of the breaker */
} rsl_server;

extern rsl_server *rsl_server_lookup(Oid serverid);
extern bool rsl_table_estimates_remotely(rsl_server *server, Oid relid);

extern void rsl_handler_init(void);
extern const FdwRoutine *rsl_original_routine(Oid handler);

/* fdw.c: replace what has to be guarded in a copy of a wrapper's functions */
extern void rsl_wrap_routine(FdwRoutine *routine);

#endif							/* RSL_BREAKER_SERVERS_H */
