/*-------------------------------------------------------------------------
 *
 * inject.h
 *		Faults.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_INJECT_H
#define RSL_CHAOS_INJECT_H

#include "compat.h"

/* Bits are those of runs whose conditions hold; see target.h. */
extern void rsl_inject_at_start(uint32 targets);
extern void rsl_inject_at_end(uint32 targets);
extern void rsl_inject_at_connection(void);

#endif							/* RSL_CHAOS_INJECT_H */
