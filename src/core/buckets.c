/*-------------------------------------------------------------------------
 *
 * buckets.c
 *		The histograms of the metrics: which bucket is a duration in?
 *
 *-------------------------------------------------------------------------
 */
#include "core/buckets.h"

const rsl_buckets rsl_wait_buckets = {
	{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
};

const rsl_buckets rsl_recovery_buckets = {
	{1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
};

int
rsl_bucket_of(const rsl_buckets *buckets, int64_t us)
{
	int			b = 0;

	while (b < RSL_BUCKET_BOUNDS && (double) us > buckets->seconds[b] * 1e6)
		b++;
	return b;
}
