/*-------------------------------------------------------------------------
 *
 * fault_draw.h
 *		Whether a fault strikes, and how long a delay is.
 *
 * The caller brings uniform random numbers from [0, 1), so that tests can fix
 * them.  Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_FAULT_DRAW_H
#define RSL_CORE_FAULT_DRAW_H

#include <stdbool.h>
#include <stdint.h>

/* no delay is longer than this, nor than ten times the one that was asked for */
#define RSL_MAX_DELAY_US	INT64_C(3600000000)
#define RSL_MAX_DELAY_RATIO	10

typedef enum rsl_distribution
{
	RSL_DISTRIBUTION_FIXED = 0,
	RSL_DISTRIBUTION_UNIFORM,	/* delay - variance .. delay + variance */
	RSL_DISTRIBUTION_NORMAL		/* variance is the standard deviation */
} rsl_distribution;

extern bool rsl_fault_strikes(double probability, double random);
extern int64_t rsl_fault_delay_us(rsl_distribution distribution,
								  int64_t delay_us, int64_t variance_us,
								  double random1, double random2);

#endif							/* RSL_CORE_FAULT_DRAW_H */
