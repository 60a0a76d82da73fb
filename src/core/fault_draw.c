/*-------------------------------------------------------------------------
 *
 * fault_draw.c
 *		Whether a fault strikes, and how long a delay is.
 *
 *-------------------------------------------------------------------------
 */
#include "core/fault_draw.h"

#include <math.h>

#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif

/* Never for 0, always for 1. */
bool
rsl_fault_strikes(double probability, double random)
{
	return random < probability;
}

/*
 * A delay in microseconds.  The normal distribution is made of two uniform
 * numbers (Box and Muller, "A Note on the Generation of Random Normal
 * Deviates", 1958) and clipped: nothing is shorter than no time, and one draw
 * far out must not hold a session for ever.
 */
int64_t
rsl_fault_delay_us(rsl_distribution distribution, int64_t delay_us,
				   int64_t variance_us, double random1, double random2)
{
	double		longest = fmin((double) delay_us * RSL_MAX_DELAY_RATIO,
							   (double) RSL_MAX_DELAY_US);
	double		delay = (double) delay_us;

	switch (distribution)
	{
		case RSL_DISTRIBUTION_FIXED:
			break;
		case RSL_DISTRIBUTION_UNIFORM:
			delay += (2 * random1 - 1) * (double) variance_us;
			break;
		case RSL_DISTRIBUTION_NORMAL:
			/* 1 - random1 is never 0 */
			delay += sqrt(-2 * log(1 - random1)) * cos(2 * M_PI * random2) *
				(double) variance_us;
			break;
	}
	return (int64_t) fmax(fmin(delay, longest), 0);
}
