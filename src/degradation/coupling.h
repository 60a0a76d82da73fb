/*-------------------------------------------------------------------------
 *
 * coupling.h
 *		Features that follow a health check, a circuit breaker or the load.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_DEGRADATION_COUPLING_H
#define RSL_DEGRADATION_COUPLING_H

/* The launcher, at each tick. */
extern void rsl_features_tick(void);

#endif							/* RSL_DEGRADATION_COUPLING_H */
