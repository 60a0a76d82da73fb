/*-------------------------------------------------------------------------
 *
 * retry_budget.h
 *		Shared memory of the retries: budgets and statistics.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_RETRY_BUDGET_H
#define RSL_SHARED_RETRY_BUDGET_H

#include "compat.h"

#include "port/atomics.h"

/* budgets there can be, the one named "default" included */
#define RSL_MAX_RETRY_BUDGETS	16

/* SQLSTATEs that are counted apart; the rest is counted as "other" */
#define RSL_MAX_RETRY_SQLSTATES 64

/* How a call ended. */
typedef enum rsl_retry_result
{
	RSL_RETRY_SUCCESS_FIRST = 0,
	RSL_RETRY_SUCCESS_RETRIED,
	RSL_RETRY_EXHAUSTED,
	RSL_RETRY_NOT_RETRYABLE,
	RSL_RETRY_BUDGET,
	RSL_RETRY_DEADLINE,
	RSL_RETRY_BREAKER_OPEN
} rsl_retry_result;

#define RSL_RETRY_RESULTS		(RSL_RETRY_BREAKER_OPEN + 1)

typedef struct rsl_retry_budget
{
	char		name[NAMEDATALEN];	/* retry lock; does not change */

	/* atomics */
	pg_atomic_uint64 word;		/* see core/token_bucket.h */
	pg_atomic_uint64 deposits;	/* first attempts */
	pg_atomic_uint64 allowed;	/* retries */
	pg_atomic_uint64 denied;
}			pg_attribute_aligned(64)
rsl_retry_budget;

typedef struct rsl_retry_counts
{
	/* atomics */
	pg_atomic_uint64 calls;
	pg_atomic_uint64 attempts;
	pg_atomic_uint64 delay_us;
} rsl_retry_counts;

typedef struct rsl_retry_entry
{
	int			sqlstate;		/* retry lock; encoded as in elog.h */
	rsl_retry_counts counts[RSL_RETRY_RESULTS];
} rsl_retry_entry;

typedef struct rsl_retry_shared
{
	/*
	 * Of the tranche of all our locks.  Exclusive to make a budget or an
	 * entry, and to reset; shared to find and to count.  Whoever holds it
	 * takes no other lock.
	 */
	LWLock		lock;
	int			nbudgets;
	int			nentries;

	rsl_retry_budget budgets[RSL_MAX_RETRY_BUDGETS];

	/* entry 0 is for calls without an error, the last one for "other" */
	rsl_retry_entry entries[RSL_MAX_RETRY_SQLSTATES + 2];
} rsl_retry_shared;

#define RSL_RETRY_OTHER			(RSL_MAX_RETRY_SQLSTATES + 1)

extern rsl_retry_shared *rsl_retry_shmem;

extern Size rsl_retry_shmem_size(void);
extern void rsl_retry_shmem_init(void *where);

extern rsl_retry_budget *rsl_retry_budget_find(const char *name);
extern void rsl_retry_budget_deposit(rsl_retry_budget *budget);
extern bool rsl_retry_budget_take(rsl_retry_budget *budget);
extern double rsl_retry_budget_tokens(rsl_retry_budget *budget);

extern const char *rsl_retry_result_name(rsl_retry_result result);
extern void rsl_retry_count(int sqlstate, rsl_retry_result result,
							uint64 attempts, uint64 delay_us);
extern void rsl_retry_reset_statistics(void);

#endif							/* RSL_SHARED_RETRY_BUDGET_H */
