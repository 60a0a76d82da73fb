/*-------------------------------------------------------------------------
 *
 * arrivals.h
 *		The history of arrivals in shared memory.
 *
 * resilience.history_size kilobytes (16 by default), nothing if it is 0.
 * Only the launcher writes it, once a tick; who reads it takes a copy.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_ARRIVALS_H
#define RSL_SHARED_ARRIVALS_H

#include "compat.h"

#include "core/arrival_history.h"
#include "shared/layout.h"

typedef struct rsl_arrivals
{
	LWLock		lock;			/* guards the history; taken alone */
	rsl_history history;		/* the first bytes of its block */
} rsl_arrivals;

/* NULL when there is no shared memory, or resilience.history_size is 0 */
extern rsl_arrivals *rsl_arrivals_shmem;

extern Size rsl_arrivals_shmem_size(void);
extern void rsl_arrivals_shmem_place(void *memory);
extern void rsl_arrivals_shmem_init(void);

extern void rsl_arrivals_identity(rsl_history_identity *identity, Oid role,
								  Oid database, const rsl_address *address,
								  bool superuser, const char *application_name);
extern rsl_history *rsl_arrivals_copy(void);

#endif							/* RSL_SHARED_ARRIVALS_H */
