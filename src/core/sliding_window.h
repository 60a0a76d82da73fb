/*-------------------------------------------------------------------------
 *
 * sliding_window.h
 *		Counts of calls over the last seconds, in buckets of time.
 *
 * The window is divided into buckets, used in turn.  Time slices are numbered
 * (epochs), and the newest that was counted says which one each bucket belongs
 * to, so nobody has to move the window on: whoever counts a later one empties
 * the buckets in between, and until then they are too old to be summed up.
 * Plain memory without locks: the caller serializes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_SLIDING_WINDOW_H
#define RSL_CORE_SLIDING_WINDOW_H

#include <stdint.h>

#define RSL_WINDOW_BUCKETS	10

typedef struct rsl_window_counts
{
	uint32_t	calls;
	uint32_t	failures;
	uint32_t	slow;
} rsl_window_counts;

typedef struct rsl_sliding_window
{
	int64_t		bucket_us;		/* length of a time slice */
	int64_t		newest;			/* epoch that was counted last; 0 = none */
	rsl_window_counts buckets[RSL_WINDOW_BUCKETS];	/* by epoch, modulo */
} rsl_sliding_window;

extern void rsl_window_init(rsl_sliding_window *window, int64_t duration_us);
extern void rsl_window_add(rsl_sliding_window *window, int64_t now_us,
						   const rsl_window_counts *counts);
extern void rsl_window_sum(const rsl_sliding_window *window, int64_t now_us,
						   rsl_window_counts *sum);

#endif							/* RSL_CORE_SLIDING_WINDOW_H */
