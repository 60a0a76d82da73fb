/*-------------------------------------------------------------------------
 *
 * experiment_verdict.c
 *		Did the protection hold, and since when is all well again?
 *
 * See experiment_verdict.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/experiment_verdict.h"

void
rsl_figures_make(rsl_figures *figures, uint64_t statements, uint64_t errors,
				 const uint64_t *counts)
{
	figures->statements = statements;
	figures->errors = errors < statements ? errors : statements;
	figures->p50_us = rsl_histogram_quantile(counts, 0, 0.50);
	figures->p95_us = rsl_histogram_quantile(counts, 0, 0.95);
	figures->p99_us = rsl_histogram_quantile(counts, 0, 0.99);
}

static double
error_rate(const rsl_figures *figures)
{
	return figures->statements == 0 ? 0 :
		(double) figures->errors / (double) figures->statements;
}

/* Only those without an error have a latency. */
static uint64_t
latencies(const rsl_figures *figures)
{
	return figures->statements - figures->errors;
}

static bool
has_too_many_errors(const rsl_figures *before, const rsl_figures *now,
					double *found, double *allowed)
{
	*found = error_rate(now);
	*allowed = error_rate(before) + RSL_VERDICT_ERROR_RATE;
	return *found > *allowed &&
		(now->errors > 1 || now->errors == now->statements);
}

static bool
is_too_slow(double before_us, double now_us, double *found, double *allowed)
{
	double		factor = before_us * RSL_VERDICT_LATENCY_FACTOR;
	double		sum = before_us + RSL_VERDICT_LATENCY_US;

	*found = now_us;
	*allowed = factor > sum ? factor : sum;
	return *found > *allowed;
}

rsl_harm
rsl_judge_figures(const rsl_figures *before, const rsl_figures *now,
				  double *found, double *allowed)
{
	if (has_too_many_errors(before, now, found, allowed))
		return RSL_HARM_ERRORS;
	if (latencies(before) >= RSL_VERDICT_STATEMENTS &&
		latencies(now) >= RSL_VERDICT_STATEMENTS &&
		is_too_slow(before->p95_us, now->p95_us, found, allowed))
		return RSL_HARM_P95;
	if (latencies(before) >= RSL_VERDICT_STATEMENTS_P99 &&
		latencies(now) >= RSL_VERDICT_STATEMENTS_P99 &&
		is_too_slow(before->p99_us, now->p99_us, found, allowed))
		return RSL_HARM_P99;
	return RSL_UNHARMED;
}

rsl_harm
rsl_judge_moment(const rsl_figures *before, const rsl_figures *now,
				 double *found, double *allowed)
{
	if (now->statements == 0)
		return RSL_UNHARMED;
	if (has_too_many_errors(before, now, found, allowed))
		return RSL_HARM_ERRORS;
	if (latencies(before) < RSL_VERDICT_STATEMENTS || latencies(now) == 0)
		return RSL_UNHARMED;
	if (latencies(now) < RSL_VERDICT_STATEMENTS)
		return is_too_slow(before->p95_us, now->p50_us, found, allowed) ?
			RSL_HARM_P50 : RSL_UNHARMED;
	return is_too_slow(before->p95_us, now->p95_us, found, allowed) ?
		RSL_HARM_P95 : RSL_UNHARMED;
}

rsl_verdict_kind
rsl_judge_experiment(const rsl_figures *rest_before,
					 const rsl_figures *rest_during, bool over, bool gave_up,
					 rsl_harm *harm, double *found, double *allowed)
{
	*harm = RSL_UNHARMED;
	if (rest_before->statements < RSL_VERDICT_STATEMENTS)
		return RSL_VERDICT_NO_BEFORE;
	if (rest_during->statements < RSL_VERDICT_STATEMENTS)
		return over ? RSL_VERDICT_NO_DURING : RSL_VERDICT_NOT_YET;
	*harm = rsl_judge_figures(rest_before, rest_during, found, allowed);
	if (*harm != RSL_UNHARMED)
		return RSL_VERDICT_HARMED;
	if (gave_up)
		return RSL_VERDICT_NOT_RECOVERED;
	return over ? RSL_VERDICT_HELD : RSL_VERDICT_NOT_YET;
}

rsl_recovery_end
rsl_recovery_look(rsl_recovery *recovery, int64_t from_us, int64_t to_us,
				  rsl_ill ill)
{
	int64_t		elapsed = to_us - recovery->faults_end_us;

	if (ill != RSL_WELL)
	{
		recovery->well_since_us = 0;
		recovery->ill = ill;
	}
	else if (recovery->well_since_us == 0)
		recovery->well_since_us = from_us > recovery->faults_end_us ?
			from_us : recovery->faults_end_us;

	if (elapsed >= RSL_RECOVERY_MIN_US && recovery->well_since_us != 0 &&
		to_us - recovery->well_since_us >= RSL_RECOVERY_WELL_US)
		return RSL_RECOVERED;
	return elapsed >= RSL_RECOVERY_MAX_US ? RSL_RECOVERY_GAVE_UP :
		RSL_RECOVERY_GOES_ON;
}
