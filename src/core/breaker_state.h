/*-------------------------------------------------------------------------
 *
 * breaker_state.h
 *		The state machine of a circuit breaker.
 *
 * Plain C over plain structs, with the time passed in (microseconds of any
 * clock that does not go back, starting above 0) and randomness too (uniform
 * in [0, 1)).  Nothing here locks: the caller serializes.
 *
 *				trips						time is up, or a probe answered
 *		CLOSED --------> OPEN -----------------------------------> HALF_OPEN
 *		  ^				  ^ ^---- a probe failed ----'				|	|
 *		  |				  '--------------- a trial failed ----------'	|
 *		  '---------------------- enough trials succeeded --------------'
 *
 * Every change of position begins a new generation.  A call belongs to the
 * generation in which it was admitted; when it ends in a later one its result
 * says nothing about the present and is not counted (as in sony/gobreaker).
 *
 * Trip rules, any of which opens the closed breaker: max_failures failures in
 * a row (Envoy, Finagle); failure_rate or slow_call_rate reached over the
 * window once minimum_calls were seen in it (Hystrix, resilience4j).
 *
 * The breaker stays open for
 *		min(max_reset, reset * factor^(n-1)) * U(1 - jitter, 1 + jitter)
 * where n counts openings since it was last closed for RSL_STABLE_US: a
 * dependency that fails again soon after it recovered is left alone for
 * longer.  While a worker probes, a probe that fails does not let the time
 * grow: asking in the background costs nobody anything.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_BREAKER_STATE_H
#define RSL_CORE_BREAKER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sliding_window.h"

/* closed this long, a breaker forgets how often it opened before */
#define RSL_STABLE_US	INT64_C(60000000)

typedef enum rsl_breaker_position
{
	RSL_BREAKER_CLOSED = 0,		/* the metric's values */
	RSL_BREAKER_HALF_OPEN = 1,
	RSL_BREAKER_OPEN = 2
} rsl_breaker_position;

/* what the administrator says, over what the machine found */
typedef enum rsl_breaker_force
{
	RSL_FORCE_AUTO = 0,
	RSL_FORCE_OPEN,
	RSL_FORCE_CLOSED
} rsl_breaker_force;

typedef enum rsl_call_outcome
{
	RSL_CALL_SUCCESS = 0,
	RSL_CALL_FAILURE,
	RSL_CALL_NEITHER			/* says nothing about the dependency */
} rsl_call_outcome;

typedef enum rsl_trip_reason
{
	RSL_TRIP_NONE = 0,
	RSL_TRIP_CONSECUTIVE,
	RSL_TRIP_FAILURE_RATE,
	RSL_TRIP_SLOW_RATE,
	RSL_TRIP_TRIAL,				/* a trial call or a probe failed */
	RSL_TRIP_FORCED
} rsl_trip_reason;

typedef struct rsl_breaker_config
{
	int32_t		max_failures;	/* >= 1 */
	int32_t		minimum_calls;	/* >= 1 */
	double		failure_rate;	/* (0, 1] */
	double		slow_call_rate; /* (0, 1] */
	int64_t		slow_call_us;
	int64_t		window_us;
	int64_t		reset_us;
	int64_t		max_reset_us;
	double		backoff_factor; /* >= 1 */
	double		jitter;			/* [0, 1] */
	int32_t		half_open_calls;	/* >= 1 */
	int32_t		success_threshold;	/* >= 1 */
	bool		probe;			/* trials are the prober's, not the callers' */
} rsl_breaker_config;

typedef struct rsl_breaker_state
{
	rsl_breaker_position position;
	rsl_breaker_force force;
	uint32_t	generation;		/* + 1 at each change of position or force */
	rsl_trip_reason reason;		/* of the last opening */
	uint32_t	consecutive_failures;
	uint32_t	trials;			/* permits of this half-open state in use */
	uint32_t	trial_successes;
	uint32_t	openings;		/* n above: since the last stable close */
	uint64_t	open_count;		/* openings ever; a failed probe is none */
	int64_t		changed_at;		/* begin of this position */
	int64_t		opened_at;		/* when it was last closed no more; 0 = never */
	int64_t		retry_at;		/* end of the open state; 0 if not open */
	int64_t		open_us;		/* time spent not closed, before opened_at */
	rsl_sliding_window window;
} rsl_breaker_state;

/* What an admitted call has to bring back. */
typedef struct rsl_breaker_permit
{
	uint32_t	generation;
	bool		trial;			/* holds one of the half_open_calls */
} rsl_breaker_permit;

extern void rsl_breaker_init(rsl_breaker_state *state,
							 const rsl_breaker_config *config, int64_t now_us);

/*
 * The configuration has changed: positions and counts stay, the window is
 * restarted when its length differs.
 */
extern void rsl_breaker_reconfigure(rsl_breaker_state *state,
									const rsl_breaker_config *config);

/*
 * May a call go ahead?  An open breaker whose time is up becomes half-open
 * here, unless it has a prober.  Forced closed admits all, forced open none.
 */
extern bool rsl_breaker_admit(rsl_breaker_state *state,
							  const rsl_breaker_config *config, int64_t now_us,
							  rsl_breaker_permit *permit);

/*
 * A call has ended.  Returns false when it belongs to another generation and
 * was not counted.  RSL_CALL_NEITHER gives a trial's permit back.  "slow" is
 * for the caller to decide (it may be true before the call has ended: see
 * rsl_breaker_count_hanging()).
 */
extern bool rsl_breaker_record(rsl_breaker_state *state,
							   const rsl_breaker_config *config, int64_t now_us,
							   const rsl_breaker_permit *permit,
							   rsl_call_outcome outcome, bool slow,
							   double random);

/*
 * The prober's part, for a configuration with "probe".  Is it time to probe
 * (open and the time is up, or half-open and not enough answers yet)?  And
 * what came of it: an answer makes the open breaker half-open and counts as
 * one of the successes that close it; a failure lets it wait again.
 */
extern bool rsl_breaker_probe_due(const rsl_breaker_state *state,
								  const rsl_breaker_config *config,
								  int64_t now_us);
extern void rsl_breaker_probed(rsl_breaker_state *state,
							   const rsl_breaker_config *config, int64_t now_us,
							   uint32_t generation, bool alive, double random);

/* by command */
extern void rsl_breaker_force_to(rsl_breaker_state *state,
								 rsl_breaker_force force, int64_t now_us);
extern void rsl_breaker_reset(rsl_breaker_state *state,
							  const rsl_breaker_config *config, int64_t now_us);

/* time in microseconds until a call may be tried again; 0 = now */
extern int64_t rsl_breaker_retry_after(const rsl_breaker_state *state,
									   int64_t now_us);

/* time in microseconds spent open or half-open, up to now */
extern int64_t rsl_breaker_time_open(const rsl_breaker_state *state,
									 int64_t now_us);

/* the position that counts, the administrator's word included */
static inline rsl_breaker_position
rsl_breaker_effective(const rsl_breaker_state *state)
{
	if (state->force == RSL_FORCE_OPEN)
		return RSL_BREAKER_OPEN;
	if (state->force == RSL_FORCE_CLOSED)
		return RSL_BREAKER_CLOSED;
	return state->position;
}

#endif							/* RSL_CORE_BREAKER_STATE_H */
