/*-------------------------------------------------------------------------
 *
 * compartments.h
 *		One compartment for each value of a tag.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_COMPARTMENTS_H
#define RSL_SHARED_COMPARTMENTS_H

#include "shared/layout.h"

/* set in rsl_compartment.pins while the compartment gets another value */
#define RSL_COMPARTMENT_CLAIMED		(UINT32_C(1) << 31)

/* room for a value as it is shown: each byte may become four */
#define RSL_COMPARTMENT_SHOWN_LEN	(4 * RSL_COMPARTMENT_VALUE_LEN)

/* The compartment whose pool this is; NULL if it is none's. */
static inline rsl_compartment *
rsl_compartment_of(rsl_pool *pool)
{
	return pool->number < rsl_shmem->nbulkheads ? NULL :
		&rsl_compartments[pool->number - rsl_shmem->nbulkheads];
}

/* The bulkhead that a pool belongs to; not the server's pool. */
static inline rsl_bulkhead *
rsl_pool_bulkhead(rsl_pool *pool)
{
	return &rsl_bulkheads[pool->number < rsl_shmem->nbulkheads ? pool->number :
						  rsl_compartment_of(pool)->bulkhead];
}

/* How many pools there are besides the server's: numbers 0 .. n - 1. */
static inline int
rsl_npools(void)
{
	return rsl_shmem->nbulkheads +
		(int) pg_atomic_read_u32(&rsl_shmem->ncompartments_used);
}

extern int	rsl_compartment_enter(int index, uint32 uid, const rsl_tag *tag,
								  int *remembered);
extern void rsl_compartment_leave(int number);
extern void rsl_compartments_apply_limits(int index);
extern bool rsl_compartments_in_use(int index);
extern void rsl_compartments_reset_statistics(void);
extern char *rsl_compartment_value(rsl_compartment *compartment, char *shown);

#endif							/* RSL_SHARED_COMPARTMENTS_H */
