/*-------------------------------------------------------------------------
 *
 * inject.h
 *		Faults: what experiments do to those whom they hit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_INJECT_H
#define RSL_CHAOS_INJECT_H

#include "compat.h"

/* Bits are those of runs whose conditions hold; see target.h. */
extern void rsl_inject_at_start(uint32 targets);
extern void rsl_inject_at_end(uint32 targets);
extern void rsl_inject_at_connection(uint32 targets);
extern void rsl_inject_at_foreign_call(uint32 targets, Oid server);

#endif							/* RSL_CHAOS_INJECT_H */
