/*-------------------------------------------------------------------------
 *
 * backoff.c
 *		How long to wait before a retry.
 *
 * See backoff.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/backoff.h"

#include <math.h>

/* A double up to 2^63 as an integer up to max: the cap itself may round up. */
static int64_t
to_us(double delay, int64_t max)
{
	return delay < (double) max ? (int64_t) delay : max;
}

int64_t
rsl_backoff_delay(const rsl_backoff *backoff, int retry, int64_t previous_us,
				  double random)
{
	double		base = (double) backoff->base_us;
	double		max = (double) backoff->max_us;
	double		delay = base;

	/* no base never grows; asked first, as 0 * infinity is not a number */
	if (base > 0 && retry > 1)
		delay *= pow(backoff->factor, retry - 1);
	if (delay > max)
		delay = max;

	switch (backoff->jitter)
	{
		case RSL_JITTER_NONE:
			break;
		case RSL_JITTER_FULL:
			delay *= random;
			break;
		case RSL_JITTER_EQUAL:
			delay = delay / 2 + delay / 2 * random;
			break;
		case RSL_JITTER_DECORRELATED:
			{
				double		previous = previous_us > backoff->base_us ?
					(double) previous_us : base;

				delay = base + (3 * previous - base) * random;
				break;
			}
	}
	return to_us(delay, backoff->max_us);
}
