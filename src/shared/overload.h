/*-------------------------------------------------------------------------
 *
 * overload.h
 *		What makes a queue worse than it has to be: waiters that nobody
 *		waits for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_OVERLOAD_H
#define RSL_SHARED_OVERLOAD_H

#include "shared/compartments.h"

/* when a waiter looks first, and then how often, whether its client is there */
#define RSL_CLIENT_FIRST_CHECK_MS	250
#define RSL_CLIENT_CHECK_MS			1000

/* who has waited for less than this is not looked after when it is admitted */
#define RSL_CLIENT_SURE_US			10000

/* A bulkhead has one for all classes, the server one for each. */
static inline rsl_overload *
rsl_overload_of(rsl_pool *pool, rsl_priority priority)
{
	return pool->number == RSL_SERVER_POOL ?
		&rsl_shmem->overload[priority] :
		&rsl_pool_bulkhead(pool)->overload;
}

extern void rsl_overload_init(rsl_overload *overload);
extern void rsl_overload_reset(rsl_overload *overload);
extern bool rsl_waiter_too_late(rsl_pool *pool, int waiter, int64 now);
extern void rsl_end_if_client_gone(rsl_pool *pool, rsl_priority priority);

#endif							/* RSL_SHARED_OVERLOAD_H */
