/*-------------------------------------------------------------------------
 *
 * control.h
 *		Chaos experiments: start, stop, and everything that ends them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_CONTROL_H
#define RSL_CHAOS_CONTROL_H

#include "shared/experiments.h"

/* The launcher, at each tick. */
extern void rsl_experiments_tick(void);

/* When does it start by its schedule, after "now"?  DT_NOEND = never. */
extern TimestampTz rsl_experiment_next_start(const rsl_experiment *experiment,
											 TimestampTz now);

/*
 * Why can an experiment not start now?  NULL = it can; else a sentence, and
 * what to do.  Any state of the experiment itself is the caller's business.
 */
extern const char *rsl_experiment_obstacle(const rsl_experiment_policy *policy,
										   const char **hint);

/* This database's experiment of that name that is in force; -1 = none. */
extern int	rsl_experiment_by_name(const char *name);

/* Raises 42704 unless it is defined, if only by this transaction. */
extern void rsl_experiment_require(const char *name);

/* Is it defined, in force or not, if only by this transaction? */
extern bool rsl_experiment_is_defined(const char *name);

RSL_NORETURN extern void rsl_raise_unknown_experiment(const char *name);

#endif							/* RSL_CHAOS_CONTROL_H */
