/*-------------------------------------------------------------------------
 *
 * health_state.h
 *		What the runs of a health check say of its status, and when it is to
 *		run again.
 *
 * A value is judged by two thresholds, in the direction that they point to.
 * One bad run does not make a status: it gets worse when as many runs in a row
 * as the failure threshold says were that bad or worse, and better when as
 * many in a row as the success threshold says were that good or better.  Only
 * what is not known yet is healthy after the first healthy run, whatever the
 * success threshold.
 *
 * With F = 3, S = 1 (h = healthy, d = degraded, u = unhealthy):
 *		runs	u u u	d u d	u u d	h	d	(u u u) d
 *		status	. . U	. . D	. . D	H	H			D
 *
 * Times are microseconds, monotonic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_HEALTH_STATE_H
#define RSL_CORE_HEALTH_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* In the order from best to worst, but for the first. */
typedef enum rsl_health_status
{
	RSL_HEALTH_UNKNOWN = 0,
	RSL_HEALTHY,
	RSL_DEGRADED,
	RSL_UNHEALTHY
} rsl_health_status;

/* by how much of itself an interval is made shorter or longer */
#define RSL_HEALTH_JITTER			0.1

/*
 * While a check fails its interval is this part of the usual one, but at
 * least a second, and at least so many times as long as its last run: checks
 * that hang are the ones that must not fill the workers.
 */
#define RSL_HEALTH_FAILING_PART		5
#define RSL_HEALTH_FAILING_RUNS		5

/* a result is stale after so many intervals */
#define RSL_HEALTH_STALE_INTERVALS	3

/* no interval counts as shorter than this, where it is about staleness */
#define RSL_HEALTH_MIN_US			INT64_C(1000000)

typedef struct rsl_health_config
{
	int64_t		interval_us;	/* > 0 */
	int			failure_threshold;	/* < 1 counts as 1 */
	int			success_threshold;	/* < 1 counts as 1 */
} rsl_health_config;

/* How the last runs were.  All zero at first. */
typedef struct rsl_health_state
{
	rsl_health_status status;
	uint32_t	consecutive_successes;	/* healthy runs */
	uint32_t	consecutive_failures;	/* degraded or unhealthy runs */
	uint32_t	consecutive_unhealthy;	/* unhealthy runs */
	uint32_t	not_unhealthy;	/* runs since the last unhealthy one */
} rsl_health_state;

/*
 * Judge a value.  A threshold counts as reached when the value equals it; one
 * that is NaN is not given.  If critical >= warning, or only one is given,
 * more is worse; if critical < warning, less is worse.  Without thresholds all
 * values are healthy.  A value that is NaN is unhealthy.
 */
extern rsl_health_status rsl_judge_value(double value, double warning,
										 double critical);

/* The same, in a direction that is known whatever thresholds are given. */
extern rsl_health_status rsl_judge_value_towards(double value, double warning,
												 double critical,
												 bool less_is_worse);

/*
 * A run has ended with this result (not UNKNOWN).  Returns whether the status
 * has changed.
 */
extern bool rsl_health_run_ended(rsl_health_state *state,
								 const rsl_health_config *config,
								 rsl_health_status result);

/*
 * When is the check to run again, after a run that began at "started_us" and
 * took "duration_us"?  "random" is uniform in [0, 1).  Intervals count from
 * the beginning of runs, so that they do not grow with their duration; the
 * result is never before the run's end.  The interval after a check's very
 * first run is any part of the usual one from a tenth on, so that checks
 * which were created together do not run in step.
 */
extern int64_t rsl_health_next_run(const rsl_health_state *state,
								   const rsl_health_config *config,
								   rsl_health_status result, bool first_run,
								   int64_t started_us, int64_t duration_us,
								   double random);

/* Is the result of a run that ended then too old to be believed? */
extern bool rsl_health_is_stale(const rsl_health_config *config,
								int64_t ended_us, int64_t now_us);

#endif							/* RSL_CORE_HEALTH_STATE_H */
