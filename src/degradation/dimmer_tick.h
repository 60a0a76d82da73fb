/*-------------------------------------------------------------------------
 *
 * dimmer_tick.h
 *		The launcher steers which share of calls dimmable features get.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_DEGRADATION_DIMMER_TICK_H
#define RSL_DEGRADATION_DIMMER_TICK_H

#include "compat.h"

/*
 * At each tick: the time (microseconds, monotonic), how many cores there are,
 * how many transactions are on one or wait for one, and how many have been
 * admitted so far.
 */
extern void rsl_dimmer_tick(int64 now, int cores, int on_cpu, uint64 admitted);

#endif							/* RSL_DEGRADATION_DIMMER_TICK_H */
