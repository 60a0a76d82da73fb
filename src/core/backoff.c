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

int64_t
rsl_backoff_delay(const rsl_backoff *backoff, int retry, int64_t previous_us,
				  double random)
{
	double		base = (double) backoff->base_us;
	double		max = (double) backoff->max_us;
	double		delay = base * pow(backoff->factor, retry > 1 ? retry - 1 : 0);

	/* also when the power is too large for a number */
	if (!(delay <= max))
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
				if (!(delay <= max))
					delay = max;
				break;
			}
	}
	return (int64_t) delay;
}
