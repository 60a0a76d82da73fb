/*-------------------------------------------------------------------------
 *
 * hysteresis.h
 *		A switch that does not flutter: it leaves "good" after some bad looks
 *		in a row, and returns after some good ones and a time.
 *
 * Plain C over a plain struct, with the time passed in (microseconds of any
 * clock that does not go back).  Nothing here locks.
 *
 * With failure_threshold 3 and success_threshold 2 (g = good look, b = bad):
 *		looks	g b b g b b b g b g g (time is up)
 *		is_bad	. . . . . . B B B B B .
 *
 * A look that says nothing is not to be reported: the counts stay.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_HYSTERESIS_H
#define RSL_CORE_HYSTERESIS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rsl_hysteresis_config
{
	int			failure_threshold;	/* bad looks in a row; < 1 counts as 1 */
	int			success_threshold;	/* good ones; < 1 counts as 1 */
	int64_t		min_bad_us;		/* it stays bad for this long at least */
} rsl_hysteresis_config;

/* All zero at first: good. */
typedef struct rsl_hysteresis
{
	bool		is_bad;
	uint32_t	bad;			/* looks in a row; one of the two is 0 */
	uint32_t	good;
	int64_t		since_us;		/* of the last change; 0 = none yet */
} rsl_hysteresis;

/* One look.  Returns whether is_bad has changed. */
extern bool rsl_hysteresis_look(rsl_hysteresis *state,
								const rsl_hysteresis_config *config,
								bool good, int64_t now_us);

/*
 * No look, but time has passed: returns at once when that was all it waited
 * for.  Returns whether is_bad has changed.
 */
extern bool rsl_hysteresis_settle(rsl_hysteresis *state,
								  const rsl_hysteresis_config *config,
								  int64_t now_us);

/* Leave at once, whatever the threshold.  Returns whether is_bad has changed. */
extern bool rsl_hysteresis_trip(rsl_hysteresis *state, int64_t now_us);

#endif							/* RSL_CORE_HYSTERESIS_H */
