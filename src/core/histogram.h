/*-------------------------------------------------------------------------
 *
 * histogram.h
 *		Buckets for durations, from 1 microsecond to 20 minutes.
 *
 * Log-linear buckets, four for each power of two, as in Gil Tene's
 * HdrHistogram with two significant bits: the relative error of a quantile
 * is at most 12.5 %.  The counts are the caller's (atomics in shared memory);
 * only the mapping is here.  Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_HISTOGRAM_H
#define RSL_CORE_HISTOGRAM_H

#include <stdint.h>

/* 4 exact buckets (0..3 us), then 4 for each power of two up to 2^30 us */
#define RSL_HISTOGRAM_BUCKETS	(4 + 4 * 29)

extern int	rsl_histogram_bucket(uint64_t microseconds);
extern double rsl_histogram_middle(int bucket);
extern double rsl_histogram_quantile(const uint64_t *counts, uint64_t zeroes,
									 double quantile);

#endif							/* RSL_CORE_HISTOGRAM_H */
