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

/* Epochs start at 1, so that 0 can mean that nothing was counted. */
static int64_t
epoch_of(const rsl_sliding_window *window, int64_t now_us)
{
	int64_t		slices = now_us / window->bucket_us;

	return slices < INT64_MAX ? slices + 1 : INT64_MAX;
}

/* Empty the buckets of the epochs after the newest, up to this one. */
static void
move_on(rsl_sliding_window *window, int64_t epoch)
{
	if (epoch - window->newest >= RSL_WINDOW_BUCKETS)
		memset(window->buckets, 0, sizeof(window->buckets));
	else
	{
		for (int64_t e = window->newest + 1; e <= epoch; e++)
			memset(&window->buckets[e % RSL_WINDOW_BUCKETS], 0,
				   sizeof(rsl_window_counts));
	}
	window->newest = epoch;
}

static void
add_counts(rsl_window_counts *sum, const rsl_window_counts *counts)
{
	sum->calls = add_saturating(sum->calls, counts->calls);
	sum->failures = add_saturating(sum->failures, counts->failures);
	sum->slow = add_saturating(sum->slow, counts->slow);
}

void
rsl_window_add(rsl_sliding_window *window, int64_t now_us,
			   const rsl_window_counts *counts)
{
	int64_t		epoch = epoch_of(window, now_us);

	if (epoch > window->newest)
		move_on(window, epoch);
	/* too late for the window: its bucket counts another epoch by now */
	if (window->newest - epoch >= RSL_WINDOW_BUCKETS)
		return;
	add_counts(&window->buckets[epoch % RSL_WINDOW_BUCKETS], counts);
}

void
rsl_window_sum(const rsl_sliding_window *window, int64_t now_us,
			   rsl_window_counts *sum)
{
	int64_t		epoch = epoch_of(window, now_us);

	memset(sum, 0, sizeof(*sum));
	for (int64_t e = window->newest; e > 0 && e > window->newest - RSL_WINDOW_BUCKETS; e--)
	{
		if (e > epoch - RSL_WINDOW_BUCKETS && e <= epoch)
			add_counts(sum, &window->buckets[e % RSL_WINDOW_BUCKETS]);
	}
}
