/*-------------------------------------------------------------------------
 *
 * report.h
 *		What the last run of an experiment tells.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_REPORT_H
#define RSL_CHAOS_REPORT_H

#include "core/experiment_verdict.h"
#include "shared/experiments.h"
#include "utils/array.h"

/* A copy of all that is known of a run. */
typedef struct rsl_run_report
{
	char		name[NAMEDATALEN];
	rsl_experiment_state state;
	char		stop_reason[RSL_STOP_REASON_LEN];
	rsl_run_phase phase;
	bool		foreign;		/* its faults are in calls of foreign servers */
	bool		overlapped;		/* others had faults at the same time */
	uint32		injections;
	uint64		overflowed;
	TimestampTz started_at;
	TimestampTz faults_at;		/* 0 = not yet, or never */
	TimestampTz faults_end_at;
	TimestampTz recovered_at;
	TimestampTz after_end_at;
	rsl_ill		ill;
	double		seconds[RSL_NUM_TIMES];
	rsl_figures figures[RSL_NUM_TIMES][RSL_NUM_GROUPS];
	uint32		refused[RSL_NUM_TIMES][RSL_NUM_GROUPS];
	uint32		fallbacks[RSL_NUM_TIMES][RSL_NUM_GROUPS];
	List	   *noted[RSL_NUM_NOTED];	/* names, palloc'd */
} rsl_run_report;

/* Of the experiment of that name.  Raises 42704, or 55000 if it has none. */
extern void rsl_run_report_make(const char *name, rsl_run_report *report);

/*
 * Did the protection hold?  1 = yes, 0 = no, -1 = not known (yet).  The text
 * says why.
 */
extern int	rsl_run_report_verdict(const rsl_run_report *report,
								   const char **text);

/* Seconds; -1 = not, or not yet.  The text says why, or is NULL. */
extern double rsl_run_report_recovery(const rsl_run_report *report,
									  const char **text);

#endif							/* RSL_CHAOS_REPORT_H */
