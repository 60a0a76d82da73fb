/*-------------------------------------------------------------------------
 *
 * adaptive.h
 *		The server-wide limit that finds itself (resilience.adaptive_limit).
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_ADAPTIVE_H
#define RSL_SHEDDING_ADAPTIVE_H

#include "shedding/load_signals.h"

extern void rsl_adaptive_tick(const rsl_load_signals *signals);

#endif							/* RSL_SHEDDING_ADAPTIVE_H */
