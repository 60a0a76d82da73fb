/*-------------------------------------------------------------------------
 *
 * health_state.c
 *		What the runs of a health check say of its status, and when it is to
 *		run again.
 *
 * See health_state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/health_state.h"

#include <math.h>

rsl_health_status
rsl_judge_value_towards(double value, double warning, double critical,
						bool less_is_worse)
{
	if (isnan(value))
		return RSL_UNHEALTHY;

	/* comparisons with a threshold that is not given are false */
	if (less_is_worse ? value <= critical : value >= critical)
		return RSL_UNHEALTHY;
	if (less_is_worse ? value <= warning : value >= warning)
		return RSL_DEGRADED;
	return RSL_HEALTHY;
}

rsl_health_status
rsl_judge_value(double value, double warning, double critical)
{
	return rsl_judge_value_towards(value, warning, critical,
								   critical < warning);
}

static void
count(uint32_t *counter)
{
	if (*counter < UINT32_MAX)
		(*counter)++;
}

/* What the runs so far make of the status. */
static rsl_health_status
judge_runs(const rsl_health_state *state, const rsl_health_config *config)
{
	uint32_t	failures = config->failure_threshold > 1 ?
		(uint32_t) config->failure_threshold : 1;
	uint32_t	successes = config->success_threshold > 1 ?
		(uint32_t) config->success_threshold : 1;

	if (state->status == RSL_HEALTH_UNKNOWN)
		successes = 1;
	if (state->consecutive_successes >= successes)
		return RSL_HEALTHY;
	if (state->consecutive_unhealthy >= failures)
		return RSL_UNHEALTHY;
	if (state->status == RSL_UNHEALTHY)
		return state->not_unhealthy >= successes ? RSL_DEGRADED : RSL_UNHEALTHY;
	if (state->consecutive_failures >= failures)
		return RSL_DEGRADED;
	return state->status;
}

bool
rsl_health_run_ended(rsl_health_state *state, const rsl_health_config *config,
					 rsl_health_status result)
{
	rsl_health_status before = state->status;

	if (result == RSL_HEALTHY)
	{
		count(&state->consecutive_successes);
		state->consecutive_failures = 0;
	}
	else
	{
		count(&state->consecutive_failures);
		state->consecutive_successes = 0;
	}
	if (result == RSL_UNHEALTHY)
	{
		count(&state->consecutive_unhealthy);
		state->not_unhealthy = 0;
	}
	else
	{
		count(&state->not_unhealthy);
		state->consecutive_unhealthy = 0;
	}
	state->status = judge_runs(state, config);
	return state->status != before;
}

int64_t
rsl_health_next_run(const rsl_health_state *state,
					const rsl_health_config *config, rsl_health_status result,
					bool first_run, int64_t started_us, int64_t duration_us,
					double random)
{
	double		interval = (double) config->interval_us;
	double		ended = (double) started_us + (double) duration_us;
	double		next;

	/* until all is well again, not only until a run is */
	if (result != RSL_HEALTHY || state->status > RSL_HEALTHY)
	{
		double		shorter = interval / RSL_HEALTH_FAILING_PART;

		if (shorter < (double) RSL_HEALTH_MIN_US)
			shorter = (double) RSL_HEALTH_MIN_US;
		if (shorter < (double) duration_us * RSL_HEALTH_FAILING_RUNS)
			shorter = (double) duration_us * RSL_HEALTH_FAILING_RUNS;
		if (shorter < interval)
			interval = shorter;
	}

	if (first_run)
		interval *= 0.1 + 0.9 * random;
	else
		interval *= 1 - RSL_HEALTH_JITTER + 2 * RSL_HEALTH_JITTER * random;
	next = (double) started_us + interval;
	return (int64_t) (next > ended ? next : ended);
}

bool
rsl_health_is_stale(const rsl_health_config *config, int64_t ended_us,
					int64_t now_us)
{
	int64_t		interval = config->interval_us > RSL_HEALTH_MIN_US ?
		config->interval_us : RSL_HEALTH_MIN_US;

	return now_us - ended_us > RSL_HEALTH_STALE_INTERVALS * interval;
}
