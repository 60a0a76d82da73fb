/*-------------------------------------------------------------------------
 *
 * record_tick.h
 *		Before and after the faults of experiments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_RECORD_TICK_H
#define RSL_CHAOS_RECORD_TICK_H

#include "core/experiment_verdict.h"
#include "shared/experiments.h"

/* The launcher, at each tick, after rsl_experiments_tick(). */
extern void rsl_record_tick(void);

/* What has been measured of a group of statements in one time of a run. */
extern void rsl_run_figures(rsl_run *run, rsl_run_time time, rsl_run_group group,
							rsl_figures *figures);

#endif							/* RSL_CHAOS_RECORD_TICK_H */
