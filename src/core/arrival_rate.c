/*-------------------------------------------------------------------------
 *
 * arrival_rate.c
 *		A limit on arrivals per second, with a bounded wait: one 64-bit word.
 *
 * See arrival_rate.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/arrival_rate.h"

#define SECOND			INT64_C(1000000)

/* rarer than once in this time is never */
#define MAX_INTERVAL	(INT64_C(1000000) * SECOND)

int64_t
rsl_arrival_interval(double per_second)
{
	double		interval = (double) SECOND / per_second;

	if (!(interval < (double) MAX_INTERVAL))
		return MAX_INTERVAL;
	return interval < 1 ? 1 : (int64_t) (interval + 0.5);
}

/* How early may an arrival be?  Then it is the last one of a burst. */
static int64_t
tolerance(int64_t interval)
{
	return interval < SECOND ? SECOND - interval : 0;
}

bool
rsl_arrival_reserve(double per_second, int64_t max_wait_us,
					uint64_t word, int64_t now_us,
					uint64_t *next, int64_t *wait_us)
{
	int64_t		interval = rsl_arrival_interval(per_second);
	int64_t		latest = now_us + tolerance(interval) + max_wait_us;
	int64_t		due = (int64_t) word > now_us ? (int64_t) word : now_us;

	/*
	 * No reservation under this rate and wait reaches so far: they have been
	 * changed since.  What was reserved under a very low rate must not keep
	 * everybody out under a higher one: begin with a burst that is used up.
	 */
	if (due > latest + interval)
		due = now_us + tolerance(interval);

	*wait_us = due - tolerance(interval) - now_us;
	if (*wait_us < 0)
		*wait_us = 0;
	if (due > latest)
		return false;
	*next = (uint64_t) (due + interval);
	return true;
}

uint64_t
rsl_arrival_give_back(double per_second, uint64_t word)
{
	uint64_t	interval = (uint64_t) rsl_arrival_interval(per_second);

	return word > interval ? word - interval : 0;
}

int64_t
rsl_arrivals_waiting(double per_second, uint64_t word, int64_t now_us)
{
	int64_t		interval = rsl_arrival_interval(per_second);
	int64_t		ahead = (int64_t) word - tolerance(interval) - now_us;

	/* the last one's place is one interval before the word */
	return ahead <= interval ? 0 : (ahead - 1) / interval;
}
