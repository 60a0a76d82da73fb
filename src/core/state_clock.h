/*-------------------------------------------------------------------------
 *
 * state_clock.h
 *		How long something was in each of its states, and how often it came.
 *
 * Kept at each transition, so that states which last shorter than anybody
 * looks are counted too.  Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_STATE_CLOCK_H
#define RSL_CORE_STATE_CLOCK_H

#include <stdint.h>

#define RSL_CLOCK_STATES	4

/* 64 bytes. */
typedef struct rsl_state_clock
{
	uint32_t	state;
	uint32_t	entered[RSL_CLOCK_STATES];	/* transitions into it */
	int64_t		since_us;		/* begin of the present state; 0 = not begun */
	int64_t		total_us[RSL_CLOCK_STATES]; /* of states that are over */
} rsl_state_clock;

/* The first state is no transition. */
extern void rsl_state_clock_begin(rsl_state_clock *clock, uint32_t state,
								  int64_t now_us);

/* Returns how long the state that is left has lasted; 0 if it is the same. */
extern int64_t rsl_state_clock_move(rsl_state_clock *clock, uint32_t state,
									int64_t now_us);
extern int64_t rsl_state_clock_total(const rsl_state_clock *clock,
									 uint32_t state, int64_t now_us);

#endif							/* RSL_CORE_STATE_CLOCK_H */
