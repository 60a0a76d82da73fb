/*-------------------------------------------------------------------------
 *
 * budget.h
 *		CPU time that bulkheads owe, and what queries have cost.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_BUDGET_H
#define RSL_SHARED_BUDGET_H

#include "core/cpu_budget.h"
#include "shared/layout.h"

/* What has been learnt about one query; 0 = free. */
typedef struct rsl_query_cost
{
	pg_atomic_uint64 query_id;
	pg_atomic_uint64 word;		/* core/cpu_budget.h */
} rsl_query_cost;

/* how many of them: 8 kB */
#define RSL_QUERY_COSTS		512

extern rsl_query_cost *rsl_query_costs;

/* this backend's transaction is being charged to some bulkhead */
extern bool rsl_budget_is_open;

static inline double
rsl_budget_number(pg_atomic_uint64 *number)
{
	uint64		bits = pg_atomic_read_u64(number);
	double		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* Does a budget with these flags refuse anything now? */
static inline bool
rsl_budget_acts(uint32 flags)
{
	return (flags & RSL_BUDGET_ONLY_UNDER_LOAD) == 0 || rsl_server_is_loaded();
}

extern Size rsl_budget_shmem_size(void);
extern void rsl_budget_shmem_place(void *place);
extern void rsl_budget_shmem_init(void);
extern void rsl_budget_init(rsl_budget *budget);
extern void rsl_budget_publish(rsl_budget *budget,
							   const rsl_bulkhead_policy *policy);
extern void rsl_budget_reset_statistics(rsl_budget *budget);
extern void rsl_query_costs_forget(void);
extern uint64 rsl_query_cost_lookup(uint64 query_id);

extern void rsl_budget_charge(rsl_budget *budget, double cpu_us);
extern void rsl_budget_set_clock(void);
extern void rsl_budget_lose_clock(void);
extern void rsl_budget_open(uint32 paying, uint32 unestimated, uint32 counted,
							double estimate_us, uint64 query_id, double cost);
extern void rsl_budget_add(uint32 bits);
extern void rsl_budget_settle(bool completed);
extern void rsl_budget_charge_running(void);
extern void rsl_budget_worker_starts(void);

#endif							/* RSL_SHARED_BUDGET_H */
