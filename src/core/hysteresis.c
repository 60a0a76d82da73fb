/*-------------------------------------------------------------------------
 *
 * hysteresis.c
 *		A switch that does not flutter; see hysteresis.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/hysteresis.h"

static uint32_t
at_least_one(int threshold)
{
	return threshold < 1 ? 1 : (uint32_t) threshold;
}

static void
count(uint32_t *looks)
{
	if (*looks < UINT32_MAX)
		(*looks)++;
}

static void
change(rsl_hysteresis *state, bool is_bad, int64_t now_us)
{
	state->is_bad = is_bad;
	state->since_us = now_us;
}

bool
rsl_hysteresis_settle(rsl_hysteresis *state,
					  const rsl_hysteresis_config *config, int64_t now_us)
{
	if (!state->is_bad ||
		state->good < at_least_one(config->success_threshold) ||
		now_us - state->since_us < config->min_bad_us)
		return false;
	change(state, false, now_us);
	return true;
}

bool
rsl_hysteresis_look(rsl_hysteresis *state, const rsl_hysteresis_config *config,
					bool good, int64_t now_us)
{
	if (good)
	{
		count(&state->good);
		state->bad = 0;
		return rsl_hysteresis_settle(state, config, now_us);
	}

	count(&state->bad);
	state->good = 0;
	if (state->is_bad || state->bad < at_least_one(config->failure_threshold))
		return false;
	change(state, true, now_us);
	return true;
}

bool
rsl_hysteresis_trip(rsl_hysteresis *state, int64_t now_us)
{
	count(&state->bad);
	state->good = 0;
	if (state->is_bad)
		return false;
	change(state, true, now_us);
	return true;
}
