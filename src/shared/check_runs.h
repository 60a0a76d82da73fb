/*-------------------------------------------------------------------------
 *
 * check_runs.h
 *		Runs of health checks: who claims one, what came of it, and what if
 *		nothing does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_CHECK_RUNS_H
#define RSL_SHARED_CHECK_RUNS_H

#include "shared/health.h"

/* a run's time is up this long before the launcher gives it up */
#define RSL_GIVE_UP_AFTER_MS	100

/* a worker that does not come back from such a run is terminated after this */
#define RSL_TERMINATE_AFTER_MS	1000

/* A run that is this process's. */
typedef struct rsl_check_claim
{
	int			index;
	uint32		uid;
	int64		started;
	rsl_check_policy policy;
} rsl_check_claim;

/*
 * Workers.  Claim the check that has been due for the longest, of those of a
 * database and an owner, and for as long as "patience_us"; false: there is
 * none, and the next one will be at *next_due, microseconds (INT64_MAX =
 * never).  A claim ends with a result,
 * or is released without one, and then the check is due again after that
 * time.  Results count only while the claim is still the process's own, and
 * the check is the same.
 */
extern bool rsl_check_claim_due(Oid database, Oid owner, int64 patience_us,
								rsl_check_claim *claim, int64 *next_due);
extern void rsl_check_finish(const rsl_check_claim *claim,
							 const rsl_check_result *result);
extern void rsl_check_release(const rsl_check_claim *claim, int64 delay_us);

/*
 * Launcher, at each tick: give up what has run for too long, free what dead
 * workers have claimed, and believe no result that is too old.
 */
extern void rsl_check_runs_watch(void);

#endif							/* RSL_SHARED_CHECK_RUNS_H */
