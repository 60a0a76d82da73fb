/*-------------------------------------------------------------------------
 *
 * control.h
 *		Chaos experiments: start, stop, and everything that ends them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_CONTROL_H
#define RSL_CHAOS_CONTROL_H

/* The launcher, at each tick. */
extern void rsl_experiments_tick(void);

#endif							/* RSL_CHAOS_CONTROL_H */
