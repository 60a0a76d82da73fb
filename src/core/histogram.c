/*-------------------------------------------------------------------------
 *
 * histogram.c
 *		Buckets for durations, from 1 microsecond to 20 minutes.
 *
 * See histogram.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/histogram.h"

/* Which bucket does a duration belong to?  Too long ones go to the last. */
int
rsl_histogram_bucket(uint64_t microseconds)
{
	int			exponent;
	int			bucket;

	if (microseconds < 4)
		return (int) microseconds;
	exponent = 63 - __builtin_clzll(microseconds);
	bucket = 4 + 4 * (exponent - 2) +
		(int) ((microseconds >> (exponent - 2)) & 3);
	return bucket < RSL_HISTOGRAM_BUCKETS ? bucket : RSL_HISTOGRAM_BUCKETS - 1;
}

/* The middle of a bucket, in microseconds. */
double
rsl_histogram_middle(int bucket)
{
	int			exponent;
	double		width;

	if (bucket < 4)
		return bucket;
	exponent = 2 + (bucket - 4) / 4;
	width = (double) (UINT64_C(1) << (exponent - 2));
	return width * (4 + (bucket - 4) % 4) + width / 2;
}

/*
 * The given quantile (0..1) in microseconds of "zeroes" durations of zero
 * and those counted in the buckets; 0 when there are none.
 */
double
rsl_histogram_quantile(const uint64_t *counts, uint64_t zeroes,
					   double quantile)
{
	uint64_t	total = zeroes;
	uint64_t	seen = zeroes;
	double		rank;

	for (int i = 0; i < RSL_HISTOGRAM_BUCKETS; i++)
		total += counts[i];
	rank = quantile * (double) total;
	if (total == 0 || (double) seen >= rank)
		return 0;
	for (int i = 0; i < RSL_HISTOGRAM_BUCKETS; i++)
	{
		seen += counts[i];
		if ((double) seen >= rank)
			return rsl_histogram_middle(i);
	}
	return rsl_histogram_middle(RSL_HISTOGRAM_BUCKETS - 1);
}
