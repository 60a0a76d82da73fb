/*-------------------------------------------------------------------------
 *
 * report.c
 *		What the last run of an experiment tells.
 *
 * Its place in shared memory keeps the run until another experiment needs the
 * place, or the experiment is started again, or the server is.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/control.h"
#include "chaos/record_tick.h"
#include "chaos/report.h"
#include "nodes/pg_list.h"
#include "shared/breakers.h"
#include "shared/features.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * The name of what was noted, if it is still there, and the same.  Config lock
 * held.
 */
static const char *
name_of_noted(const rsl_run *run, rsl_noted what, int index)
{
	uint32		uid;
	const char *name;

	switch (what)
	{
		case RSL_NOTED_BREAKERS:
			uid = pg_atomic_read_u32(&rsl_breakers[index].uid);
			name = rsl_breakers[index].published ?
				rsl_breakers[index].policy.name : NULL;
			break;
		case RSL_NOTED_FEATURES:
			uid = pg_atomic_read_u32(&rsl_features->features[index].uid);
			name = rsl_features->features[index].published ?
				rsl_features->features[index].policy.name : NULL;
			break;
		default:
			uid = rsl_bulkheads[index].uid;
			name = rsl_bulkheads[index].published ?
				rsl_bulkheads[index].policy.name : NULL;
			break;
	}
	return uid <= run->last_uids[what] ? name : NULL;
}

/* Copy them without allocating: locks are held. */
static int
copy_names(const rsl_run *run, rsl_noted what, char (*names)[NAMEDATALEN])
{
	const int	counts[RSL_NUM_NOTED] = {
		[RSL_NOTED_BREAKERS] = rsl_breakers_shmem->nbreakers,
		[RSL_NOTED_FEATURES] = rsl_features->max_features,
		[RSL_NOTED_BULKHEADS] = rsl_shmem->nbulkheads
	};
	int			n = 0;

	for (int i = 0; i < counts[what]; i++)
	{
		const char *name = rsl_run_has_noted(run, what, i) ?
			name_of_noted(run, what, i) : NULL;

		if (name)
			strlcpy(names[n++], name, NAMEDATALEN);
	}
	return n;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static double
seconds_between(TimestampTz from, TimestampTz to, TimestampTz now)
{
	return from == 0 ? 0 : (double) ((to == 0 ? now : to) - from) / 1e6;
}

/* Both locks held. */
static void
copy_run(rsl_run *run, rsl_run_report *report)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[run->experiment];
	TimestampTz now = GetCurrentTimestamp();

	strlcpy(report->name, experiment->policy.name, sizeof(report->name));
	report->state = experiment->state;
	strlcpy(report->stop_reason, experiment->stop_reason,
			sizeof(report->stop_reason));
	report->phase = pg_atomic_read_u32(&run->phase);
	report->foreign = experiment->policy.impact == RSL_IMPACT_FOREIGN_ERROR ||
		experiment->policy.impact == RSL_IMPACT_FOREIGN_LATENCY;
	report->overlapped = run->overlapped;
	report->injections = pg_atomic_read_u32(&run->injections);
	report->overflowed = pg_atomic_read_u64(&experiment->overflowed) -
		run->overflowed_before;
	report->started_at = run->started_at;
	report->faults_at = run->faults_at;
	report->faults_end_at = run->faults_end_at;
	report->recovered_at = run->recovered_at;
	report->after_end_at = run->after_end_at;
	report->ill = run->ill;
	report->seconds[RSL_TIME_BEFORE] = (double) run->before_us / 1e6;
	if (report->phase == RSL_RUN_BEFORE)
		report->seconds[RSL_TIME_BEFORE] += seconds_between(run->started_at, 0, now);
	report->seconds[RSL_TIME_DURING] =
		seconds_between(run->faults_at, run->faults_end_at, now);
	report->seconds[RSL_TIME_AFTER] =
		seconds_between(run->faults_end_at, run->after_end_at, now);
	for (int t = 0; t < RSL_NUM_TIMES; t++)
	{
		for (int g = 0; g < RSL_NUM_GROUPS; g++)
		{
			rsl_run_figures(run, t, g, &report->figures[t][g]);
			report->refused[t][g] = pg_atomic_read_u32(&run->counts[t][g].refused);
			report->fallbacks[t][g] = pg_atomic_read_u32(&run->counts[t][g].fallbacks);
		}
	}
}

static void
raise_no_report(const char *name, uint32 started)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no report of experiment \"%s\"", name),
			 started == 0 ?
			 errdetail("It has not been started since the server's start.") :
			 errdetail("Its place is needed by experiments that were started later."),
			 errhint("SELECT resilience.start_experiment(%s);",
					 quote_literal_cstr(name))));
}

void
rsl_run_report_make(const char *name, rsl_run_report *report)
{
	int			room = Max(rsl_breakers_shmem->nbreakers,
						   Max(rsl_features->max_features, rsl_shmem->nbulkheads));
	char		(*names[RSL_NUM_NOTED])[NAMEDATALEN];
	int			counts[RSL_NUM_NOTED];
	uint32		started = 0;
	bool		found = false;
	int			index;

	memset(report, 0, sizeof(*report));
	for (int i = 0; i < RSL_NUM_NOTED; i++)
		names[i] = palloc(Max(room, 1) * NAMEDATALEN);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_SHARED);
	index = rsl_experiment_by_name(name);
	if (index >= 0)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[index];

		started = experiment->started;
		if (experiment->run >= 0)
		{
			rsl_run    *run = &rsl_experiments->runs[experiment->run];

			copy_run(run, report);
			for (int i = 0; i < RSL_NUM_NOTED; i++)
				counts[i] = copy_names(run, i, names[i]);
			found = true;
		}
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);

	if (!found)
	{
		if (index < 0)
			rsl_experiment_require(name);
		raise_no_report(name, started);
	}
	for (int i = 0; i < RSL_NUM_NOTED; i++)
	{
		for (int j = 0; j < counts[i]; j++)
			report->noted[i] = lappend(report->noted[i], names[i][j]);
		list_sort(report->noted[i], compare_names);
	}
}

/*
 * The verdict
 */

static const char *
ill_text(const rsl_run_report *report)
{
	switch (report->ill)
	{
		case RSL_WELL:
			break;
		case RSL_ILL_TARGET_LATENCY:
			return "the target is slower than before";
		case RSL_ILL_REST_LATENCY:
			return "the rest is slower than before";
		case RSL_ILL_TARGET_ERRORS:
			return "the target has more errors than before";
		case RSL_ILL_REST_ERRORS:
			return "the rest has more errors than before";
		case RSL_ILL_HEALTH:
			return "the server's health is worse than before (see the view health)";
		case RSL_ILL_BREAKER:
			return "a circuit breaker that opened is not closed";
	}
	return "it has not been well for 3 s";
}

static const char *
harm_text(rsl_harm harm, double found, double allowed)
{
	if (harm == RSL_HARM_ERRORS)
		return psprintf("no: %.2f %% of the rest ended with an error, at most %.2f %% would be well",
						found * 100, allowed * 100);
	return psprintf("no: p%d of the rest was %.1f ms, at most %.1f ms would be well",
					harm == RSL_HARM_P99 ? 99 : 95, found / 1000, allowed / 1000);
}

int
rsl_run_report_verdict(const rsl_run_report *report, const char **text)
{
	const rsl_figures *before = &report->figures[RSL_TIME_BEFORE][RSL_GROUP_REST];
	const rsl_figures *during = &report->figures[RSL_TIME_DURING][RSL_GROUP_REST];
	bool		over = report->faults_end_at != 0;
	bool		gave_up = report->phase == RSL_RUN_OVER && over &&
		report->recovered_at == 0;
	rsl_harm	harm;
	double		found;
	double		allowed;

	if (report->faults_at == 0)
	{
		*text = report->phase == RSL_RUN_BEFORE ?
			"not known yet: its faults have not begun" :
			"not known: it ended before its faults began";
		return -1;
	}
	if (over && report->injections == 0)
	{
		*text = "not known: no fault was injected";
		return -1;
	}
	switch (rsl_judge_experiment(before, during, over, gave_up, &harm, &found,
								 &allowed))
	{
		case RSL_VERDICT_HELD:
			if (report->phase == RSL_RUN_OVER)
			{
				*text = "yes: the rest was not harmed, and all is as before";
				return 1;
			}
			*text = "yes so far: the rest was not harmed; whether all becomes as before is still looked at";
			return -1;
		case RSL_VERDICT_HARMED:
			*text = harm_text(harm, found, allowed);
			return 0;
		case RSL_VERDICT_NOT_RECOVERED:
			*text = psprintf("no: the rest was not harmed, but after 5 min %s",
							 ill_text(report));
			return 0;
		case RSL_VERDICT_NO_BEFORE:
			*text = psprintf("not known: " UINT64_FORMAT " statements of the rest were measured before, %d are needed (start_experiment(..., baseline => '30 s') takes the time)",
							 before->statements, RSL_VERDICT_STATEMENTS);
			return -1;
		case RSL_VERDICT_NO_DURING:
			*text = psprintf("not known: " UINT64_FORMAT " statements of the rest were measured during the faults, %d are needed",
							 during->statements, RSL_VERDICT_STATEMENTS);
			return -1;
		case RSL_VERDICT_NOT_YET:
			*text = "not known yet: the rest is not harmed so far";
			return -1;
	}
	return -1;
}

double
rsl_run_report_recovery(const rsl_run_report *report, const char **text)
{
	bool		measured =
		report->figures[RSL_TIME_AFTER][RSL_GROUP_TARGET].statements > 0 ||
		report->figures[RSL_TIME_AFTER][RSL_GROUP_REST].statements > 0 ||
		report->noted[RSL_NOTED_BREAKERS] != NIL;

	*text = NULL;
	if (report->faults_at == 0)
		*text = report->phase == RSL_RUN_BEFORE ? "not yet: there are no faults yet" :
			"there were no faults";
	else if (report->faults_end_at == 0)
		*text = "not yet: its faults are not over";
	else if (report->recovered_at == 0)
		*text = psprintf("%s: %s", report->phase == RSL_RUN_OVER ?
						 "not within 5 min" : "not yet", ill_text(report));
	else if (!measured)
		*text = "not known: no statements were measured after the faults";
	else
	{
		if (report->phase != RSL_RUN_OVER)
			*text = "so far: still looked at";
		return (double) (report->recovered_at - report->faults_end_at) / 1e6;
	}
	return -1;
}
