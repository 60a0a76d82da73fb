/*-------------------------------------------------------------------------
 *
 * backoff.h
 *		How long to wait before a retry.
 *
 * With base b, cap c, factor f, retry n = 1, 2, ... and e = min(c, b*f^(n-1)):
 *		none			d = e
 *		full			d = U(0, e)
 *		equal			d = e/2 + U(0, e/2)
 *		decorrelated	d = min(c, U(b, 3 * previous)), previous_0 = b
 * After M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
 * 2015.  Full jitter needs the fewest calls when many contend for one row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_BACKOFF_H
#define RSL_CORE_BACKOFF_H

#include <stdint.h>

typedef enum rsl_jitter
{
	RSL_JITTER_NONE = 0,
	RSL_JITTER_FULL,
	RSL_JITTER_EQUAL,
	RSL_JITTER_DECORRELATED
} rsl_jitter;

typedef struct rsl_backoff
{
	int64_t		base_us;		/* >= 0 */
	int64_t		max_us;			/* >= base_us */
	double		factor;			/* >= 1 */
	rsl_jitter	jitter;
} rsl_backoff;

/*
 * Delay before the given retry (1, 2, ...).  "previous_us" is the last delay
 * that this returned, 0 before the first retry; only decorrelated jitter
 * looks at it.  "random" is uniform in [0, 1).  Overflows end at the cap.
 */
extern int64_t rsl_backoff_delay(const rsl_backoff *backoff, int retry,
								 int64_t previous_us, double random);

#endif							/* RSL_CORE_BACKOFF_H */
