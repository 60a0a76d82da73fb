/*-------------------------------------------------------------------------
 *
 * degrade.h
 *		Settings for a transaction, while the server is in a bad state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_DEGRADATION_DEGRADE_H
#define RSL_DEGRADATION_DEGRADE_H

extern void rsl_degradation_init(void);

/* The launcher, at each tick: which degradations hold? */
extern void rsl_degradations_tick(void);

#endif							/* RSL_DEGRADATION_DEGRADE_H */
