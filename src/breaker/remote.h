/*-------------------------------------------------------------------------
 *
 * remote.h
 *		What can be known about a connection of postgres_fdw.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_REMOTE_H
#define RSL_BREAKER_REMOTE_H

#include "breaker/guard.h"
#include "breaker/servers.h"

extern void rsl_remote_used(rsl_server *server, rsl_guard *guard, Oid user);
extern void rsl_remote_init(void);
extern void rsl_remote_prepare(void);

#endif							/* RSL_BREAKER_REMOTE_H */
