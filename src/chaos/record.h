/*-------------------------------------------------------------------------
 *
 * record.h
 *		What statements are like before, during and after an experiment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_RECORD_H
#define RSL_CHAOS_RECORD_H

#include "compat.h"

/*
 * A top-level statement begins, is about to be hit perhaps, and has ended
 * without an error.  Bits are those of runs whose target it is.
 */
extern void rsl_record_start(uint32 targets);
extern void rsl_record_end(void);
extern void rsl_record_init(void);

#endif							/* RSL_CHAOS_RECORD_H */
