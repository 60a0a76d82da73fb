/*-------------------------------------------------------------------------
 *
 * dimmer.c
 *		Which share of the calls can be served in full?
 *
 *-------------------------------------------------------------------------
 */
#include "core/dimmer.h"

#include <math.h>

/* a wait beyond this many set-points is no worse */
#define MAX_WAIT			10.0

#define MIN_ALPHA			1.0
#define MAX_ALPHA			5.0

#define FIRST_COVARIANCE	1000.0

/* how many periods to look ahead */
#define LOOK_AHEAD			2.0

/* not across a gap of more periods than this */
#define MAX_GAP				4

static double
clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

void
rsl_dimmer_init(rsl_dimmer *dimmer, double theta)
{
	dimmer->theta = isnan(theta) ? 1.0 : clamp(theta, 0, 1);
	dimmer->alpha = 1.0;
	dimmer->covariance = FIRST_COVARIANCE;
	dimmer->last_wait = -1;
	dimmer->last_us = 0;
}

bool
rsl_dimmer_due(const rsl_dimmer *dimmer, int64_t now_us)
{
	return dimmer->last_us == 0 || now_us < dimmer->last_us ||
		now_us - dimmer->last_us >= RSL_DIMMER_PERIOD_US;
}

/* Recursive least squares for one parameter.  At theta = 0 nothing is learnt. */
static void
learn(rsl_dimmer *dimmer, double wait)
{
	double		theta = dimmer->theta;
	double		error = wait - dimmer->alpha * theta;
	double		gain;

	gain = dimmer->covariance * theta /
		(RSL_DIMMER_FORGETTING + dimmer->covariance * theta * theta);
	dimmer->alpha = clamp(dimmer->alpha + gain * error, MIN_ALPHA, MAX_ALPHA);
	dimmer->covariance = clamp((1 - gain * theta) * dimmer->covariance / RSL_DIMMER_FORGETTING,
							   0, FIRST_COVARIANCE);
}

double
rsl_dimmer_update(rsl_dimmer *dimmer, int64_t now_us, double wait_ms,
				  double target_ms)
{
	double		wait;
	double		ahead;

	if (!rsl_dimmer_due(dimmer, now_us))
		return dimmer->theta;
	/* what was seen long ago, or by another clock, tells no direction */
	if (now_us < dimmer->last_us ||
		now_us - dimmer->last_us > MAX_GAP * RSL_DIMMER_PERIOD_US)
		dimmer->last_wait = -1;
	dimmer->last_us = now_us;
	if (!(wait_ms >= 0) || !(target_ms > 0))
	{
		dimmer->last_wait = -1;
		return dimmer->theta;
	}

	wait = fmin(wait_ms / target_ms, MAX_WAIT);
	learn(dimmer, wait);
	ahead = wait;
	if (dimmer->last_wait >= 0)
		ahead = fmax(wait + LOOK_AHEAD * (wait - dimmer->last_wait), 0);
	dimmer->last_wait = wait;
	dimmer->theta = clamp(dimmer->theta +
						  (1 - RSL_DIMMER_POLE) / dimmer->alpha * (1 - ahead), 0, 1);
	return dimmer->theta;
}

uint32_t
rsl_dimmer_share(double theta)
{
	return (uint32_t) (clamp(theta, 0, 1) * RSL_DIMMER_ALL + 0.5);
}
