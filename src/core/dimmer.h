/*-------------------------------------------------------------------------
 *
 * dimmer.h
 *		Which share of the calls can be served in full? (brownout)
 *
 * A dimmable feature is what the application can do without.  It is served to
 * a share theta of the calls; the controller steers theta so that the time
 * that transactions wait comes to a set-point, as in Klein, Maggio, Arzen and
 * Hernandez-Rodriguez, "Brownout: Building More Robust Cloud Applications"
 * (ICSE 2014): the wait is taken to be alpha x theta; alpha is estimated by
 * recursive least squares with forgetting, and each period
 *
 *		theta += (1 - pole) / alpha x (set-point - wait)
 *
 * What differs from the paper, each as simulations asked for it
 * (test/sim/test_dimmer_simulation.c):
 *
 * - Waits are in units of the set-point, and alpha stays between 1 and 5:
 *	 theta rises by at most (1 - pole) a period, and can always rise again,
 *	 from 0 too, where nothing can be learnt about alpha.
 * - A queue is an integrator: a theta that just keeps it from growing does
 *	 not empty it, so theta would fall too far, and rise too far after that.
 *	 Hence the controller looks at what the wait will be two periods later if
 *	 it goes on as it went since the last one.  Without that the wait is above
 *	 twice the set-point for 17 seconds of 90 at three times the load; with
 *	 it, for one or two.
 *
 * When load rises alpha is still low, so theta falls far at once, which
 * empties the queue, and then finds its place within about 20 periods.
 *
 * One controller for each feature; the caller passes the time in.  Part of
 * the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_DIMMER_H
#define RSL_CORE_DIMMER_H

#include <stdbool.h>
#include <stdint.h>

/* microseconds from one decision to the next */
#define RSL_DIMMER_PERIOD_US	INT64_C(500000)

/* of the closed loop; nearer to 1 is slower and safer */
#define RSL_DIMMER_POLE			0.9

/* weight of what was seen a period ago, in the estimate of alpha */
#define RSL_DIMMER_FORGETTING	0.95

/* theta as the readers have it: a share of this many */
#define RSL_DIMMER_ALL			65536

typedef struct rsl_dimmer
{
	double		theta;			/* 0 .. 1 */
	double		alpha;			/* wait at theta = 1, in set-points */
	double		covariance;		/* how uncertain that is */
	double		last_wait;		/* in set-points; negative = none yet */
	int64_t		last_us;		/* of the last decision; 0 = none yet */
} rsl_dimmer;

/* Starts from a theta that was in force before (1 if it is not a number). */
extern void rsl_dimmer_init(rsl_dimmer *dimmer, double theta);

/* Is it time for a decision?  True also when the clock went backwards. */
extern bool rsl_dimmer_due(const rsl_dimmer *dimmer, int64_t now_us);

/*
 * A period is over in which transactions waited for wait_ms on average: 0 if
 * there were none; not a number, or negative, if it is not known: then theta
 * stays.  Returns theta.  Does nothing before a period is over.
 */
extern double rsl_dimmer_update(rsl_dimmer *dimmer, int64_t now_us,
								double wait_ms, double target_ms);

/* theta as a share of RSL_DIMMER_ALL, to the nearest. */
extern uint32_t rsl_dimmer_share(double theta);

/*
 * Is this call served in full?  The draw is any 32 bits, evenly distributed:
 * random ones, or the hash of a key, which then always gets the same answer at
 * the same share, and a yes at every greater one.
 */
static inline bool
rsl_dimmer_serves(uint32_t share, uint32_t draw)
{
	return (draw >> 16) < share;
}

#endif							/* RSL_CORE_DIMMER_H */
