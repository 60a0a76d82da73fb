/*-------------------------------------------------------------------------
 *
 * sliding_window.c
 *		Counts of calls over the last seconds, in buckets of time.
 *
 * See sliding_window.h.  The present slice counts from its begin, however
 * young it is: the sum is over nine slices and the part of the tenth that has
 * passed, so a call is forgotten after nine to ten tenths of the window.
 *
 *-------------------------------------------------------------------------
 */
#include "core/sliding_window.h"

#include <string.h>

void
rsl_window_init(rsl_sliding_window *window, int64_t duration_us)
{
	memset(window, 0, sizeof(*window));
	window->bucket_us = duration_us / RSL_WINDOW_BUCKETS;
	if (window->bucket_us < 1)
		window->bucket_us = 1;
}

static uint32_t
add_saturating(uint32_t a, uint32_t b)
{
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

/* Epochs start at 1, so that 0 can mean an unused bucket. */
static int64_t
epoch_of(const rsl_sliding_window *window, int64_t now_us)
{
	int64_t		slices = now_us / window->bucket_us;

	return slices < INT64_MAX ? slices + 1 : INT64_MAX;
}

void
rsl_window_add(rsl_sliding_window *window, int64_t now_us,
			   const rsl_window_counts *counts)
{
	int64_t		epoch = epoch_of(window, now_us);
	rsl_window_bucket *bucket = &window->buckets[epoch % RSL_WINDOW_BUCKETS];

	if (bucket->epoch != epoch)
	{
		memset(bucket, 0, sizeof(*bucket));
		bucket->epoch = epoch;
	}
	bucket->counts.calls = add_saturating(bucket->counts.calls, counts->calls);
	bucket->counts.failures = add_saturating(bucket->counts.failures,
											 counts->failures);
	bucket->counts.slow = add_saturating(bucket->counts.slow, counts->slow);
}

void
rsl_window_sum(const rsl_sliding_window *window, int64_t now_us,
			   rsl_window_counts *sum)
{
	int64_t		epoch = epoch_of(window, now_us);

	memset(sum, 0, sizeof(*sum));
	for (int i = 0; i < RSL_WINDOW_BUCKETS; i++)
	{
		const rsl_window_bucket *bucket = &window->buckets[i];

		if (bucket->epoch <= epoch - RSL_WINDOW_BUCKETS ||
			bucket->epoch > epoch)
			continue;
		sum->calls = add_saturating(sum->calls, bucket->counts.calls);
		sum->failures = add_saturating(sum->failures, bucket->counts.failures);
		sum->slow = add_saturating(sum->slow, bucket->counts.slow);
	}
}
