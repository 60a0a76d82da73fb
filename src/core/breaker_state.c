/*-------------------------------------------------------------------------
 *
 * breaker_state.c
 *		The state machine of a circuit breaker.
 *
 * See breaker_state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/breaker_state.h"

#include <math.h>
#include <string.h>

void
rsl_breaker_init(rsl_breaker_state *state, const rsl_breaker_config *config,
				 int64_t now_us)
{
	memset(state, 0, sizeof(*state));
	state->changed_at = now_us;
	rsl_window_init(&state->window, config->window_us);
}

/* A new generation: what was admitted before has no say any more. */
static void
next_generation(rsl_breaker_state *state)
{
	state->generation++;
	state->trials = 0;
}

static void
increment(uint32_t *counter)
{
	if (*counter < UINT32_MAX)
		(*counter)++;
}

/* min(max_reset, reset * factor^(n-1)) * U(1 - jitter, 1 + jitter) */
static int64_t
open_time(const rsl_breaker_state *state, const rsl_breaker_config *config,
		  double random)
{
	uint32_t	n = state->openings > 0 ? state->openings : 1;
	double		time = (double) config->reset_us *
		pow(config->backoff_factor, (double) (n - 1));

	if (!(time <= (double) config->max_reset_us))
		time = (double) config->max_reset_us;
	time *= 1 - config->jitter + 2 * config->jitter * random;
	return time < 1 ? 1 : (int64_t) time;
}

static int64_t
add_time(int64_t now_us, int64_t time_us)
{
	return now_us > INT64_MAX - time_us ? INT64_MAX : now_us + time_us;
}

/*
 * "anew": a failure of the dependency, not a probe that found it still down.
 */
static void
go_open(rsl_breaker_state *state, const rsl_breaker_config *config,
		int64_t now_us, rsl_trip_reason reason, bool anew, double random)
{
	if (state->position == RSL_BREAKER_CLOSED)
	{
		if (now_us - state->changed_at >= RSL_STABLE_US)
			state->openings = 0;
		state->opened_at = now_us;
	}
	if (anew)
	{
		increment(&state->openings);
		state->open_count++;
	}
	state->position = RSL_BREAKER_OPEN;
	state->reason = reason;
	state->changed_at = now_us;
	state->trial_successes = 0;
	state->retry_at = add_time(now_us, open_time(state, config, random));
	next_generation(state);
}

static void
go_half_open(rsl_breaker_state *state, int64_t now_us)
{
	state->position = RSL_BREAKER_HALF_OPEN;
	state->changed_at = now_us;
	state->trial_successes = 0;
	state->retry_at = 0;
	next_generation(state);
}

static void
go_closed(rsl_breaker_state *state, const rsl_breaker_config *config,
		  int64_t now_us)
{
	if (state->position != RSL_BREAKER_CLOSED)
		state->open_us += now_us - state->opened_at;
	state->position = RSL_BREAKER_CLOSED;
	state->changed_at = now_us;
	state->consecutive_failures = 0;
	state->trial_successes = 0;
	state->retry_at = 0;
	rsl_window_init(&state->window, config->window_us);
	next_generation(state);
}

/*
 * Permits of trials stay valid.  Whoever lowered success_threshold below what
 * was reached gets the breaker closed by the next success.
 */
void
rsl_breaker_reconfigure(rsl_breaker_state *state,
						const rsl_breaker_config *config)
{
	rsl_sliding_window fresh;

	rsl_window_init(&fresh, config->window_us);
	if (fresh.bucket_us != state->window.bucket_us)
		state->window = fresh;
}

bool
rsl_breaker_admit(rsl_breaker_state *state, const rsl_breaker_config *config,
				  int64_t now_us, rsl_breaker_permit *permit)
{
	permit->trial = false;
	permit->generation = state->generation;
	if (state->force == RSL_FORCE_OPEN)
		return false;
	if (state->force == RSL_FORCE_CLOSED ||
		state->position == RSL_BREAKER_CLOSED)
		return true;
	if (config->probe)
		return false;

	if (state->position == RSL_BREAKER_OPEN)
	{
		if (now_us < state->retry_at)
			return false;
		go_half_open(state, now_us);
	}
	if (state->trials >= (uint32_t) config->half_open_calls)
		return false;
	state->trials++;
	permit->generation = state->generation;
	permit->trial = true;
	return true;
}

/* Is one of the trip rules met? */
static rsl_trip_reason
must_trip(const rsl_breaker_state *state, const rsl_breaker_config *config,
		  int64_t now_us)
{
	rsl_window_counts sum;

	if (state->consecutive_failures >= (uint32_t) config->max_failures)
		return RSL_TRIP_CONSECUTIVE;

	rsl_window_sum(&state->window, now_us, &sum);
	if (sum.calls < (uint32_t) config->minimum_calls || sum.calls == 0)
		return RSL_TRIP_NONE;
	if (sum.failures > 0 &&
		(double) sum.failures / sum.calls >= config->failure_rate)
		return RSL_TRIP_FAILURE_RATE;
	if (sum.slow > 0 &&
		(double) sum.slow / sum.calls >= config->slow_call_rate)
		return RSL_TRIP_SLOW_RATE;
	return RSL_TRIP_NONE;
}

static void
record_trial(rsl_breaker_state *state, const rsl_breaker_config *config,
			 int64_t now_us, rsl_call_outcome outcome, bool slow,
			 double random)
{
	if (state->trials > 0)
		state->trials--;
	if (outcome == RSL_CALL_NEITHER)
		return;

	/* a dependency that answers too late has not recovered */
	if (outcome == RSL_CALL_FAILURE || slow)
	{
		if (outcome == RSL_CALL_FAILURE)
			increment(&state->consecutive_failures);
		go_open(state, config, now_us, RSL_TRIP_TRIAL, true, random);
		return;
	}
	state->trial_successes++;
	if (state->trial_successes >= (uint32_t) config->success_threshold)
		go_closed(state, config, now_us);
}

bool
rsl_breaker_record(rsl_breaker_state *state, const rsl_breaker_config *config,
				   int64_t now_us, const rsl_breaker_permit *permit,
				   rsl_call_outcome outcome, bool slow, double random)
{
	rsl_window_counts counts = {.calls = 1};
	rsl_trip_reason reason;

	if (permit->generation != state->generation)
		return false;
	if (permit->trial)
	{
		record_trial(state, config, now_us, outcome, slow, random);
		return true;
	}
	if (outcome == RSL_CALL_NEITHER)
		return true;

	/* forced closed over another position, or let through by observing */
	if (state->position != RSL_BREAKER_CLOSED)
		return true;

	counts.failures = outcome == RSL_CALL_FAILURE ? 1 : 0;

	counts.slow = slow ? 1 : 0;
	rsl_window_add(&state->window, now_us, &counts);
	if (outcome == RSL_CALL_FAILURE)
		increment(&state->consecutive_failures);
	else
		state->consecutive_failures = 0;

	if (state->force != RSL_FORCE_AUTO)
		return true;
	reason = must_trip(state, config, now_us);
	if (reason != RSL_TRIP_NONE)
		go_open(state, config, now_us, reason, true, random);
	return true;
}

bool
rsl_breaker_probe_due(const rsl_breaker_state *state,
					  const rsl_breaker_config *config, int64_t now_us)
{
	if (!config->probe ||state->force != RSL_FORCE_AUTO)
		return false;
	return state->position == RSL_BREAKER_HALF_OPEN ||
		(state->position == RSL_BREAKER_OPEN && now_us >= state->retry_at);
}

void
rsl_breaker_probed(rsl_breaker_state *state, const rsl_breaker_config *config,
				   int64_t now_us, uint32_t generation, bool alive,
				   double random)
{
	if (generation != state->generation || state->force != RSL_FORCE_AUTO ||
		!config->probe ||state->position == RSL_BREAKER_CLOSED)
		return;

	if (!alive)
	{
		if (state->position == RSL_BREAKER_HALF_OPEN)
			go_open(state, config, now_us, RSL_TRIP_TRIAL, false, random);
		else
			state->retry_at = add_time(now_us, open_time(state, config, random));
		return;
	}
	if (state->position == RSL_BREAKER_OPEN)
		go_half_open(state, now_us);
	state->trial_successes++;
	if (state->trial_successes >= (uint32_t) config->success_threshold)
		go_closed(state, config, now_us);
}

/*
 * What the machine has found stays underneath, and goes on from there when
 * the breaker is left to itself again.
 */
void
rsl_breaker_force_to(rsl_breaker_state *state, rsl_breaker_force force,
					 int64_t now_us)
{
	(void) now_us;
	if (state->force == force)
		return;
	state->force = force;
	next_generation(state);
}

void
rsl_breaker_reset(rsl_breaker_state *state, const rsl_breaker_config *config,
				  int64_t now_us)
{
	go_closed(state, config, now_us);
	state->openings = 0;
	state->reason = RSL_TRIP_NONE;
}

int64_t
rsl_breaker_retry_after(const rsl_breaker_state *state, int64_t now_us)
{
	if (state->force != RSL_FORCE_AUTO ||
		state->position != RSL_BREAKER_OPEN || now_us >= state->retry_at)
		return 0;
	return state->retry_at - now_us;
}

int64_t
rsl_breaker_time_open(const rsl_breaker_state *state, int64_t now_us)
{
	int64_t		time = state->open_us;

	if (state->position != RSL_BREAKER_CLOSED)
		time += now_us - state->opened_at;
	return time;
}
