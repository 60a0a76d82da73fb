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

extern void rsl_count_bulkhead(int index, rsl_bulkhead_counts *counts);
extern void rsl_count_all_bulkheads(rsl_bulkhead_counts *counts);
extern void rsl_count_pools(int npools, int32 *running, int32 *waiting);
extern void rsl_count_priorities(rsl_priority_counts *counts);
extern void rsl_reset_statistics(void);

#endif							/* RSL_SHARED_STATISTICS_H */
