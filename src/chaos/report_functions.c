/*-------------------------------------------------------------------------
 *
 * report_functions.c
 *		SQL functions that tell what experiments did.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "chaos/report.h"
#include "fmgr.h"
#include "funcapi.h"
#include "policy/definitions.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(experiment_report);
PG_FUNCTION_INFO_V1(experiment_summary);

/* One value for each time; NaN = none. */
typedef struct times
{
	double		at[RSL_NUM_TIMES];
} times;

static const times no_times = {{NAN, NAN, NAN}};

/* Three digits behind the point are more than was measured. */
static Datum
rounded(double value)
{
	return Float8GetDatum(rint(value * 1000) / 1000);
}

static void
put_row(ReturnSetInfo *rsinfo, const char *section, const char *metric,
		times values, const char *unit, const char *remark)
{
	Datum		row[7];
	bool		nulls[7] = {0};

	row[0] = CStringGetTextDatum(section);
	row[1] = CStringGetTextDatum(metric);
	for (int t = 0; t < RSL_NUM_TIMES; t++)
	{
		nulls[2 + t] = isnan(values.at[t]);
		row[2 + t] = nulls[2 + t] ? (Datum) 0 : rounded(values.at[t]);
	}
	nulls[5] = unit == NULL;
	row[5] = unit ? CStringGetTextDatum(unit) : (Datum) 0;
	nulls[6] = remark == NULL;
	row[6] = remark ? CStringGetTextDatum(remark) : (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
}

static times
at_time(rsl_run_time time, double value)
{
	times		result = no_times;

	result.at[time] = value;
	return result;
}

static const char *
joined(List *names)
{
	StringInfoData text;
	ListCell   *lc;

	if (names == NIL)
		return NULL;
	initStringInfo(&text);
	foreach(lc, names)
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", (char *) lfirst(lc));
	return text.data;
}

/* Has this time begun, so that there is something to be said of it? */
static bool
has_time(const rsl_run_report *report, rsl_run_time time)
{
	return report->seconds[time] > 0;
}

static void
put_run(ReturnSetInfo *rsinfo, const rsl_run_report *report)
{
	static const char *const noted[RSL_NUM_NOTED] = {
		[RSL_NOTED_BREAKERS] = "breakers opened",
		[RSL_NOTED_FEATURES] = "features degraded",
		[RSL_NOTED_BULKHEADS] = "bulkheads saturated"
	};
	const char *text;
	double		recovery;
	times		seconds;

	(void) rsl_run_report_verdict(report, &text);
	put_row(rsinfo, "run", "protection held", no_times, NULL, text);
	put_row(rsinfo, "run", "state", no_times, NULL,
			psprintf("%s%s%s%s", rsl_experiment_state_name(report->state),
					 report->stop_reason[0] == '\0' ? "" : ": ",
					 report->stop_reason, report->overlapped ?
					 "; other experiments had faults at the same time" : ""));
	for (int t = 0; t < RSL_NUM_TIMES; t++)
		seconds.at[t] = has_time(report, t) ? report->seconds[t] : NAN;
	put_row(rsinfo, "run", "measured", seconds, "s",
			has_time(report, RSL_TIME_BEFORE) ? NULL :
			"nothing was measured before: start with a baseline");
	put_row(rsinfo, "run", "injections",
			at_time(RSL_TIME_DURING, report->injections), NULL,
			report->overflowed == 0 ? NULL :
			psprintf(UINT64_FORMAT " more were not injected: max_concurrent",
					 report->overflowed));
	for (int i = 0; i < RSL_NUM_NOTED; i++)
		put_row(rsinfo, "run", noted[i],
				at_time(RSL_TIME_DURING, list_length(report->noted[i])), NULL,
				joined(report->noted[i]));
	recovery = rsl_run_report_recovery(report, &text);
	put_row(rsinfo, "run", "time to recover",
			at_time(RSL_TIME_AFTER, recovery < 0 ? NAN : recovery), "s", text);
}

/* What would have been well of the rest, of which the verdict is. */
static const char *
limit_text(double before, bool is_rate)
{
	if (isnan(before))
		return NULL;
	if (is_rate)
		return psprintf("well: at most %.2f", before + RSL_VERDICT_ERROR_RATE * 100);
	return psprintf("well: at most %.1f",
					Max(before * RSL_VERDICT_LATENCY_FACTOR,
						before + RSL_VERDICT_LATENCY_US / 1000));
}

static void
put_group(ReturnSetInfo *rsinfo, const rsl_run_report *report,
		  const char *section, rsl_run_group group)
{
	bool		is_rest = group == RSL_GROUP_REST;
	times		statements = no_times;
	times		rate = no_times;
	times		errors = no_times;
	times		refused = no_times;
	times		fallbacks = no_times;
	times		p50 = no_times;
	times		p95 = no_times;
	times		p99 = no_times;

	for (int t = 0; t < RSL_NUM_TIMES; t++)
	{
		const rsl_figures *f = &report->figures[t][group];
		double		n = (double) f->statements;

		if (!has_time(report, t))
			continue;
		statements.at[t] = n;
		rate.at[t] = n / report->seconds[t];
		if (f->statements == 0)
			continue;
		errors.at[t] = 100 * f->errors / n;
		refused.at[t] = 100 * report->refused[t][group] / n;
		fallbacks.at[t] = 100 * report->fallbacks[t][group] / n;
		if (f->errors == f->statements)
			continue;
		p50.at[t] = f->p50_us / 1000;
		p95.at[t] = f->p95_us / 1000;
		p99.at[t] = f->p99_us / 1000;
	}
	put_row(rsinfo, section, "statements", statements, NULL, NULL);
	put_row(rsinfo, section, "rate", rate, "1/s", NULL);
	put_row(rsinfo, section, "errors", errors, "%",
			is_rest ? limit_text(errors.at[RSL_TIME_BEFORE], true) : NULL);
	put_row(rsinfo, section, "refused", refused, "%",
			"among the errors: answers of limits, breakers, features");
	if (report->foreign && !is_rest)
		put_row(rsinfo, section, "fallback", fallbacks, "%",
				"answered without a call to the server");
	put_row(rsinfo, section, "p50", p50, "ms", NULL);
	put_row(rsinfo, section, "p95", p95, "ms",
			is_rest ? limit_text(p95.at[RSL_TIME_BEFORE], false) : NULL);
	put_row(rsinfo, section, "p99", p99, "ms",
			is_rest ? limit_text(p99.at[RSL_TIME_BEFORE], false) : NULL);
}

/*
 * experiment_report(name text) returns setof record
 *
 * One row for each metric of the run, its target and the rest: section ("run",
 * "target", "rest"), metric, and its values before, during and after the
 * faults (NULL = that time has not been, or there is nothing to tell), unit
 * and a remark.
 *
 * Errors: 42704 when there is no such experiment, 55000 when there is no
 * report of it.
 */
Datum
experiment_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	rsl_run_report report;

	rsl_require_shmem();
	rsl_run_report_make(rsl_name_argument(fcinfo, "chaos experiment"), &report);
	InitMaterializedSRF(fcinfo, 0);
	put_run(rsinfo, &report);
	put_group(rsinfo, &report, "target", RSL_GROUP_TARGET);
	put_group(rsinfo, &report, "rest", RSL_GROUP_REST);
	return (Datum) 0;
}

static Datum
text_array(List *names)
{
	Datum	   *elements = palloc(Max(list_length(names), 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
		elements[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* Of both groups, from the first fault on. */
static int64
total(const uint32 (*counts)[RSL_NUM_GROUPS])
{
	int64		sum = 0;

	for (int g = 0; g < RSL_NUM_GROUPS; g++)
		sum += (int64) counts[RSL_TIME_DURING][g] + counts[RSL_TIME_AFTER][g];
	return sum;
}

#define SUMMARY_COLUMNS		17

/*
 * experiment_summary(name text) returns record
 *
 * The same run in one row.  refused, fallbacks: statements of the target and
 * the rest, during and after the faults.  held: NULL = not known (yet);
 * verdict says why.  time_to_recover: NULL = not, or not yet; recovery says why.
 *
 * Errors: as experiment_report().
 */
Datum
experiment_summary(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[SUMMARY_COLUMNS];
	bool		nulls[SUMMARY_COLUMNS] = {0};
	rsl_run_report report;
	int			n = 0;
	int			held;
	double		recovery;
	const char *text;

	rsl_require_shmem();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rsl_run_report_make(rsl_name_argument(fcinfo, "chaos experiment"), &report);

#define PUT(value) (values[n++] = (value))
#define PUT_UNLESS(is_null, value) \
	((is_null) ? (void) (nulls[n++] = true) : (void) (values[n++] = (value)))

	PUT(CStringGetTextDatum(rsl_experiment_state_name(report.state)));
	PUT_UNLESS(report.stop_reason[0] == '\0', CStringGetTextDatum(report.stop_reason));
	PUT(TimestampTzGetDatum(report.started_at));
	PUT_UNLESS(report.faults_at == 0, TimestampTzGetDatum(report.faults_at));
	PUT_UNLESS(report.faults_end_at == 0, TimestampTzGetDatum(report.faults_end_at));
	PUT_UNLESS(report.after_end_at == 0, TimestampTzGetDatum(report.after_end_at));
	PUT(Int32GetDatum((int32) report.injections));
	PUT(Int64GetDatum((int64) report.overflowed));
	PUT(text_array(report.noted[RSL_NOTED_BREAKERS]));
	PUT(text_array(report.noted[RSL_NOTED_FEATURES]));
	PUT(text_array(report.noted[RSL_NOTED_BULKHEADS]));
	PUT(Int64GetDatum(total(report.refused)));
	PUT(Int64GetDatum(total(report.fallbacks)));

	recovery = rsl_run_report_recovery(&report, &text);
	if (recovery < 0)
		nulls[n++] = true;
	else
	{
		Interval   *interval = palloc0(sizeof(Interval));

		interval->time = (TimeOffset) (recovery * USECS_PER_SEC);
		values[n++] = IntervalPGetDatum(interval);
	}
	PUT_UNLESS(text == NULL, CStringGetTextDatum(text));

	held = rsl_run_report_verdict(&report, &text);
	PUT_UNLESS(held < 0, BoolGetDatum(held > 0));
	PUT(CStringGetTextDatum(text));
	Assert(n == SUMMARY_COLUMNS);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
