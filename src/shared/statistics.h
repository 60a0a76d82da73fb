/*-------------------------------------------------------------------------
 *
 * statistics.h
 *		Sums over the sessions, made when somebody looks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_STATISTICS_H
#define RSL_SHARED_STATISTICS_H

#include "shared/layout.h"

typedef struct rsl_bulkhead_counts
{
	int32		running;
	int32		waiting;
	int64		admitted;
} rsl_bulkhead_counts;

typedef struct rsl_priority_counts
{
	int32		running;
	int32		waiting;
	int64		admitted;
} rsl_priority_counts;

/* A row of counters, one for each bulkhead, and what fills its cache lines. */
static inline int
rsl_admitted_row_length(int nbulkheads)
{
	return (int) (CACHELINEALIGN(nbulkheads * sizeof(pg_atomic_uint64)) /
				  sizeof(pg_atomic_uint64));
}

/*
 * A bulkhead has admitted a transaction of this session's.  If it is dropped at
 * this moment, the next one with its entry may have one too many.
 */
static inline void
rsl_count_admitted(const rsl_session *session, int index)
{
	int			row = (int) (session - rsl_sessions) % RSL_ADMITTED_ROWS;

	pg_atomic_fetch_add_u64(&rsl_admitted_rows[row * rsl_shmem->admitted_row_length + index], 1);
}

extern uint64 rsl_bulkhead_admitted(int index);
extern void rsl_count_bulkhead(int index, rsl_bulkhead_counts *counts);
extern void rsl_count_all_bulkheads(rsl_bulkhead_counts *counts);
extern void rsl_count_pools(int npools, int32 *running, int32 *waiting);
extern void rsl_count_priorities(rsl_priority_counts *counts);
extern void rsl_reset_statistics(void);

#endif							/* RSL_SHARED_STATISTICS_H */
