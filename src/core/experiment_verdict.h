/*-------------------------------------------------------------------------
 *
 * experiment_verdict.h
 *		Did the protection hold, and since when is all well again?
 *
 * What was measured of some statements is compared with what was measured of
 * such statements before.  They are harmed when more of them than 1 % more
 * than before end with an error, or when a quantile of the latency of the
 * others is more than twice what it was before, and more than 10 ms more.
 *
 * Few statements say little: a single error, unless all statements end so, is
 * no harm; a 95th percentile needs 20 statements and a 99th 100.
 *
 * Times are microseconds, monotonic.  Part of the cores: plain C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_EXPERIMENT_VERDICT_H
#define RSL_CORE_EXPERIMENT_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/histogram.h"

/* with fewer statements before or during there is no verdict */
#define RSL_VERDICT_STATEMENTS		20
#define RSL_VERDICT_STATEMENTS_P99	100

/* how much worse than before is still well */
#define RSL_VERDICT_ERROR_RATE		0.01
#define RSL_VERDICT_LATENCY_FACTOR	2.0
#define RSL_VERDICT_LATENCY_US		10000.0

/* all must be well for this long */
#define RSL_RECOVERY_WELL_US		INT64_C(3000000)
/* at least so long is looked, and at most */
#define RSL_RECOVERY_MIN_US			INT64_C(10000000)
#define RSL_RECOVERY_MAX_US			INT64_C(300000000)

/* What was measured of some statements. */
typedef struct rsl_figures
{
	uint64_t	statements;
	uint64_t	errors;			/* of them */
	double		p50_us;			/* of the others */
	double		p95_us;
	double		p99_us;
} rsl_figures;

typedef enum rsl_harm
{
	RSL_UNHARMED = 0,
	RSL_HARM_ERRORS,
	RSL_HARM_P50,				/* p95 of the time before is the measure */
	RSL_HARM_P95,
	RSL_HARM_P99
} rsl_harm;

/* Quantiles from buckets; "counts" are of those without an error. */
extern void rsl_figures_make(rsl_figures *figures, uint64_t statements,
							 uint64_t errors, const uint64_t *counts);

/*
 * Are they harmed?  If so *found and *allowed are rates, or microseconds.  Of
 * latencies nothing is said where too little is known of before, or of now.
 */
extern rsl_harm rsl_judge_figures(const rsl_figures *before,
								  const rsl_figures *now,
								  double *found, double *allowed);

/*
 * The same of what ended within a short time, where few statements have to
 * do: their median is compared if there are too few for a quantile.
 */
extern rsl_harm rsl_judge_moment(const rsl_figures *before,
								 const rsl_figures *now,
								 double *found, double *allowed);

typedef enum rsl_verdict_kind
{
	RSL_VERDICT_HELD = 0,
	RSL_VERDICT_HARMED,			/* the rest was */
	RSL_VERDICT_NOT_RECOVERED,
	RSL_VERDICT_NO_BEFORE,		/* too few statements of the rest before */
	RSL_VERDICT_NO_DURING,		/* ... and during */
	RSL_VERDICT_NOT_YET			/* nothing bad yet, but it is not over */
} rsl_verdict_kind;

/* "over": its faults are; "gave_up": it did not recover in time. */
extern rsl_verdict_kind rsl_judge_experiment(const rsl_figures *rest_before,
											 const rsl_figures *rest_during,
											 bool over, bool gave_up,
											 rsl_harm *harm, double *found,
											 double *allowed);

/* What is not well in some moment; the worst is last. */
typedef enum rsl_ill
{
	RSL_WELL = 0,
	RSL_ILL_TARGET_LATENCY,
	RSL_ILL_REST_LATENCY,
	RSL_ILL_TARGET_ERRORS,
	RSL_ILL_REST_ERRORS,
	RSL_ILL_HEALTH,
	RSL_ILL_BREAKER
} rsl_ill;

/* After the faults.  All zero, but for faults_end_us, at first. */
typedef struct rsl_recovery
{
	int64_t		faults_end_us;
	int64_t		well_since_us;	/* 0 = is not well */
	rsl_ill		ill;			/* what was not well last */
} rsl_recovery;

typedef enum rsl_recovery_end
{
	RSL_RECOVERY_GOES_ON = 0,
	RSL_RECOVERED,				/* at well_since_us */
	RSL_RECOVERY_GAVE_UP		/* because of ill */
} rsl_recovery_end;

/* What was seen between two times. */
extern rsl_recovery_end rsl_recovery_look(rsl_recovery *recovery,
										  int64_t from_us, int64_t to_us,
										  rsl_ill ill);

#endif							/* RSL_CORE_EXPERIMENT_VERDICT_H */
