/*-------------------------------------------------------------------------
 *
 * buckets.h
 *		The histograms of the metrics: which bucket is a duration in?
 *
 * Bounds are exact, as a monitoring system wants them; see histogram.h for
 * the finer buckets that quantiles are computed from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_BUCKETS_H
#define RSL_CORE_BUCKETS_H

#include <stdint.h>

/* bounds, and one bucket more for what is beyond the last of them */
#define RSL_BUCKET_BOUNDS	11

typedef struct rsl_buckets
{
	double		seconds[RSL_BUCKET_BOUNDS]; /* upper bounds, included */
} rsl_buckets;

/* waits: 5 ms to 10 s (MicroProfile Metrics' for time-outs) */
extern const rsl_buckets rsl_wait_buckets;

/* recoveries: 1 s to 1 hour */
extern const rsl_buckets rsl_recovery_buckets;

extern int	rsl_bucket_of(const rsl_buckets *buckets, int64_t us);

#endif							/* RSL_CORE_BUCKETS_H */
