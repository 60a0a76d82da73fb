/*-------------------------------------------------------------------------
 *
 * state_clock.c
 *		How long something was in each of its states, and how often it came.
 *
 *-------------------------------------------------------------------------
 */
#include "core/state_clock.h"

#include <string.h>

static int64_t
lasted(const rsl_state_clock *clock, int64_t now_us)
{
	return clock->since_us == 0 || now_us < clock->since_us ? 0 :
		now_us - clock->since_us;
}

void
rsl_state_clock_begin(rsl_state_clock *clock, uint32_t state, int64_t now_us)
{
	memset(clock, 0, sizeof(*clock));
	clock->state = state % RSL_CLOCK_STATES;
	clock->since_us = now_us;
}

int64_t
rsl_state_clock_move(rsl_state_clock *clock, uint32_t state, int64_t now_us)
{
	int64_t		time;

	if (clock->since_us == 0)
	{
		rsl_state_clock_begin(clock, state, now_us);
		return 0;
	}
	if (state == clock->state || state >= RSL_CLOCK_STATES)
		return 0;
	time = lasted(clock, now_us);
	clock->total_us[clock->state] += time;
	clock->state = state;
	clock->entered[state]++;
	clock->since_us = now_us;
	return time;
}

int64_t
rsl_state_clock_total(const rsl_state_clock *clock, uint32_t state,
					  int64_t now_us)
{
	if (state >= RSL_CLOCK_STATES)
		return 0;
	return clock->total_us[state] +
		(state == clock->state ? lasted(clock, now_us) : 0);
}
