/*-------------------------------------------------------------------------
 *
 * codel.c
 *		When is a waiter too late to be served?
 *
 * See codel.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/codel.h"

void
rsl_codel_reset(rsl_codel *codel)
{
	codel->interval_end = 0;
	codel->begun = codel->in_time = codel->overload = false;
}

bool
rsl_codel_drop(rsl_codel *codel, int64_t now_us, int64_t waited_us,
			   int64_t target_us, bool others_in_time)
{
	uint32_t	now_ms = (uint32_t) (now_us / 1000);
	bool		in_time = target_us <= 0 || waited_us <= target_us;

	/*
	 * Where turns are rarer than intervals the one that has ended lasted
	 * until now: somebody has waited all the time, or there had been a reset.
	 */
	if (!codel->begun || (int32_t) (now_ms - codel->interval_end) >= 0)
	{
		codel->overload = codel->begun && !codel->in_time;
		codel->begun = true;
		codel->in_time = false;
		codel->interval_end = now_ms + RSL_CODEL_INTERVAL_MS;
	}
	if (in_time)
		codel->in_time = true;

	return codel->overload && !in_time && waited_us > 2 * target_us &&
		others_in_time;
}
