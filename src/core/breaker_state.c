/*-------------------------------------------------------------------------
 *
 * breaker_state.c
 *		The state machine of a circuit breaker.
 *
 * See breaker_state.h.  What is decided here and does not show there:
 *
 * Trials.  A slow trial is a failed one, whatever slow_call_rate says: a
 * dependency that answers too late has not recovered.  Successes need not
 * come in a row with answers that say nothing in between.
 *
 * Force.  The position underneath stays as it is, nothing moves it; only
 * rsl_breaker_reset() does.  Calls that pass while forced closed count in the
 * window and in consecutive_failures but cannot trip.  Left to itself again
 * the machine goes on from its position: closed, and the next call that ends
 * looks at a window with what happened meanwhile; open, with time having
 * passed, so a trial or probe may be due at once; half-open, with the
 * successes so far but without the trials under way, as these belong to an
 * older generation.
 *
 * Time open counts while the position is not closed, and while the breaker is
 * forced open; forced closed over another position still counts, as it is
 * the dependency's time and not the calls'.  opened_at is the begin of that,
 * so a failed trial does not move it.
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

/* does its time count as open? */
static bool
is_open(const rsl_breaker_state *state)
{
	return state->position != RSL_BREAKER_CLOSED ||
		state->force == RSL_FORCE_OPEN;
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

/* times are not negative */
static int64_t
add_time(int64_t a, int64_t b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

/*
 * Change position and force, and keep account of the time spent open.  A new
 * generation begins even if nothing changes.
 */
static void
move(rsl_breaker_state *state, rsl_breaker_position position,
	 rsl_breaker_force force, int64_t now_us)
{
	bool		was_open = is_open(state);

	state->position = position;
	state->force = force;
	if (is_open(state) && !was_open)
		state->opened_at = now_us;
	else if (was_open && !is_open(state))
		state->open_us = add_time(state->open_us, now_us - state->opened_at);
	next_generation(state);
}

/* The machine's own move: successes of trials count from here on. */
static void
go(rsl_breaker_state *state, rsl_breaker_position position, int64_t now_us)
{
	move(state, position, state->force, now_us);
	state->changed_at = now_us;
	state->trial_successes = 0;
	state->retry_at = 0;
}

/* min(max_reset, reset * factor^(n-1)) * U(1 - jitter, 1 + jitter) */
static int64_t
open_time(const rsl_breaker_state *state, const rsl_breaker_config *config,
		  double random)
{
	double		n = state->openings > 0 ? state->openings : 1;
	double		time = (double) config->reset_us *
		pow(config->backoff_factor, n - 1);

	/* also when there is no such number */
	if (!(time <= (double) config->max_reset_us))
		time = (double) config->max_reset_us;
	time *= 1 - config->jitter + 2 * config->jitter * random;
	if (!(time < (double) INT64_MAX))
		return INT64_MAX;
	return time < 1 ? 1 : (int64_t) time;
}

/*
 * "anew": a call failed, so this opening counts; a probe's failure does not.
 */
static void
go_open(rsl_breaker_state *state, const rsl_breaker_config *config,
		int64_t now_us, rsl_trip_reason reason, bool anew, double random)
{
	if (state->position == RSL_BREAKER_CLOSED &&
		now_us - state->changed_at >= RSL_STABLE_US)
		state->openings = 0;
	if (anew)
	{
		increment(&state->openings);
		state->open_count++;
	}
	go(state, RSL_BREAKER_OPEN, now_us);
	state->reason = reason;
	state->retry_at = add_time(now_us, open_time(state, config, random));
}

static void
go_closed(rsl_breaker_state *state, const rsl_breaker_config *config,
		  int64_t now_us)
{
	go(state, RSL_BREAKER_CLOSED, now_us);
	state->consecutive_failures = 0;
	rsl_window_init(&state->window, config->window_us);
}

/*
 * Nothing may be stuck by what the old configuration led to.  Whoever made
 * the open times shorter does not wait for the end of a long one.  Permits of
 * trials stay valid: with fewer half_open_calls than are under way nobody is
 * admitted until enough of them have come back, and with a prober they count
 * beside its answers.  With success_threshold at or below the successes so
 * far, the next one closes the breaker; a half-open breaker always gets that
 * one, as there is a trial or a probe to come.
 */
void
rsl_breaker_reconfigure(rsl_breaker_state *state,
						const rsl_breaker_config *config)
{
	rsl_sliding_window fresh;

	rsl_window_init(&fresh, config->window_us);
	if (fresh.bucket_us != state->window.bucket_us)
		state->window = fresh;

	/*
	 * The longest time now possible, from the begin of the open state: after
	 * failed probes that is over, and the next probe is due at once.
	 */
	if (state->position == RSL_BREAKER_OPEN)
	{
		int64_t		latest = add_time(state->changed_at,
									  open_time(state, config, 1.0));

		if (state->retry_at > latest)
			state->retry_at = latest;
	}
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
		go(state, RSL_BREAKER_HALF_OPEN, now_us);
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

/* One more success of a trial or a probe: is it enough? */
static void
count_success(rsl_breaker_state *state, const rsl_breaker_config *config,
			  int64_t now_us)
{
	uint32_t	successes = state->trial_successes + 1;

	if (successes >= (uint32_t) config->success_threshold)
		go_closed(state, config, now_us);
	else
	{
		if (state->position == RSL_BREAKER_OPEN)
			go(state, RSL_BREAKER_HALF_OPEN, now_us);
		state->trial_successes = successes;
	}
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

	if (outcome == RSL_CALL_FAILURE)
		increment(&state->consecutive_failures);
	if (outcome == RSL_CALL_FAILURE || slow)
		go_open(state, config, now_us, RSL_TRIP_TRIAL, true, random);
	else
		count_success(state, config, now_us);
}

bool
rsl_breaker_record(rsl_breaker_state *state, const rsl_breaker_config *config,
				   int64_t now_us, const rsl_breaker_permit *permit,
				   rsl_call_outcome outcome, bool slow, double random)
{
	rsl_window_counts one = {.calls = 1};
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

	/* let through although it was refused, by who only observes */
	if (rsl_breaker_effective(state) != RSL_BREAKER_CLOSED)
		return true;

	one.failures = outcome == RSL_CALL_FAILURE ? 1 : 0;

	one.slow = slow ? 1 : 0;
	rsl_window_add(&state->window, now_us, &one);
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
	if (state->force != RSL_FORCE_AUTO || !config->probe)
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
		state->position == RSL_BREAKER_CLOSED || !config->probe)
		return;

	if (alive)
		count_success(state, config, now_us);
	else if (state->position == RSL_BREAKER_HALF_OPEN)
		go_open(state, config, now_us, RSL_TRIP_TRIAL, false, random);
	else
		state->retry_at = add_time(now_us, open_time(state, config, random));
}

/*
 * What the machine has found stays underneath: also why it is open.
 */
void
rsl_breaker_force_to(rsl_breaker_state *state, rsl_breaker_force force,
					 int64_t now_us)
{
	if (state->force == force)
		return;
	move(state, state->position, force, now_us);
	if (force == RSL_FORCE_OPEN && state->position == RSL_BREAKER_CLOSED)
		state->reason = RSL_TRIP_FORCED;
}

void
rsl_breaker_reset(rsl_breaker_state *state, const rsl_breaker_config *config,
				  int64_t now_us)
{
	go_closed(state, config, now_us);
	state->openings = 0;
	state->reason = state->force == RSL_FORCE_OPEN ?
		RSL_TRIP_FORCED : RSL_TRIP_NONE;
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
	if (!is_open(state))
		return state->open_us;
	return add_time(state->open_us, now_us - state->opened_at);
}
