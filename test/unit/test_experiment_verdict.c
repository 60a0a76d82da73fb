/*-------------------------------------------------------------------------
 *
 * test_experiment_verdict.c
 *		Unit tests of core/experiment_verdict, with simulated clocks.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/experiment_verdict.h"

#define SECOND	INT64_C(1000000)

static double found;
static double allowed;

static rsl_figures
figures(uint64_t statements, uint64_t errors, double p50, double p95, double p99)
{
	rsl_figures f = {statements, errors, p50, p95, p99};

	return f;
}

static rsl_harm
judge(rsl_figures before, rsl_figures now)
{
	return rsl_judge_figures(&before, &now, &found, &allowed);
}

static rsl_harm
moment(rsl_figures before, rsl_figures now)
{
	return rsl_judge_moment(&before, &now, &found, &allowed);
}

static rsl_verdict_kind
experiment(rsl_figures before, rsl_figures during, bool over, bool gave_up)
{
	rsl_harm	harm;

	return rsl_judge_experiment(&before, &during, over, gave_up, &harm, &found,
								&allowed);
}

static void
test_figures(void)
{
	uint64_t	counts[RSL_HISTOGRAM_BUCKETS] = {0};
	rsl_figures f;

	rsl_figures_make(&f, 0, 0, counts);
	check(f.statements == 0 && f.p50_us == 0 && f.p99_us == 0, "nothing");
	counts[rsl_histogram_bucket(1000)] = 94;
	counts[rsl_histogram_bucket(100000)] = 6;
	rsl_figures_make(&f, 103, 3, counts);
	check(fabs(f.p50_us / 1000 - 1) < 0.13, "p50 %f", f.p50_us);
	check(fabs(f.p95_us / 100000 - 1) < 0.13, "p95 %f", f.p95_us);
	check(fabs(f.p99_us / 100000 - 1) < 0.13, "p99 %f", f.p99_us);
	/* counted while it was read */
	rsl_figures_make(&f, 5, 6, counts);
	check(f.errors == 5, "no more errors than statements");
	check_done("figures");
}

static void
test_errors(void)
{
	rsl_figures well = figures(1000, 0, 1000, 2000, 3000);

	is(judge(well, well), RSL_UNHARMED, "as before");
	is(judge(well, figures(1000, 10, 1000, 2000, 3000)), RSL_UNHARMED, "1 % of errors");
	is(judge(well, figures(1000, 11, 1000, 2000, 3000)), RSL_HARM_ERRORS, "more");
	check(fabs(found - 0.011) < 1e-9 && fabs(allowed - 0.01) < 1e-9, "%f %f", found, allowed);
	check_done("rates");
	is(judge(figures(1000, 100, 1, 1, 1), figures(1000, 110, 1, 1, 1)), RSL_UNHARMED, "errors before count");
	is(judge(figures(1000, 100, 1, 1, 1), figures(1000, 111, 1, 1, 1)), RSL_HARM_ERRORS, "1 % more than before");
	is(judge(well, figures(20, 1, 1000, 2000, 3000)), RSL_UNHARMED, "one error says nothing");
	is(judge(well, figures(20, 2, 1000, 2000, 3000)), RSL_HARM_ERRORS, "two do");
	is(moment(well, figures(1, 1, 0, 0, 0)), RSL_HARM_ERRORS, "nothing but an error");
	is(moment(well, figures(0, 0, 0, 0, 0)), RSL_UNHARMED, "nothing at all");
}

static void
test_latency(void)
{
	rsl_figures well = figures(1000, 0, 1000, 2000, 3000);
	rsl_figures slow = figures(1000, 0, 100000, 200000, 300000);

	is(judge(well, figures(1000, 0, 9000, 12000, 13000)), RSL_UNHARMED, "10 ms more");
	is(judge(well, figures(1000, 0, 9000, 12001, 13000)), RSL_HARM_P95, "more than 10 ms more");
	is(judge(slow, figures(1000, 0, 200000, 400000, 600000)), RSL_UNHARMED, "twice as slow");
	is(judge(slow, figures(1000, 0, 200000, 400001, 600000)), RSL_HARM_P95, "slower: p95");
	is(judge(slow, figures(1000, 0, 200000, 400000, 600001)), RSL_HARM_P99, "slower: p99");
	is(judge(slow, figures(99, 0, 200000, 400000, 700000)), RSL_UNHARMED, "p99 of 99 statements");
	is(judge(slow, figures(19, 0, 900000, 900000, 900000)), RSL_UNHARMED, "p95 of 19 statements");
	is(judge(figures(19, 0, 1, 1, 1), slow), RSL_UNHARMED, "nor is anything known of before");
	is(judge(figures(1000, 990, 1, 1, 1), slow), RSL_UNHARMED, "errors have no latency");
	is(moment(well, figures(3, 0, 13000, 900000, 900000)), RSL_HARM_P50, "the median of three");
	is(moment(well, figures(3, 0, 1000, 900000, 900000)), RSL_UNHARMED, "not one of three");
	is(moment(well, figures(20, 0, 1000, 13000, 900000)), RSL_HARM_P95, "p95 of twenty");
	is(moment(figures(0, 0, 0, 0, 0), slow), RSL_UNHARMED, "without a time before");
}

static void
test_verdict(void)
{
	rsl_figures well = figures(1000, 0, 1000, 2000, 3000);
	rsl_figures bad = figures(1000, 500, 1000, 2000, 3000);
	rsl_figures few = figures(19, 19, 1000, 2000, 3000);

	is(experiment(well, well, true, false), RSL_VERDICT_HELD, "held");
	is(experiment(well, well, false, false), RSL_VERDICT_NOT_YET, "not over");
	is(experiment(well, bad, false, false), RSL_VERDICT_HARMED, "harmed, already");
	is(experiment(well, bad, true, true), RSL_VERDICT_HARMED, "harmed");
	is(experiment(well, well, true, true), RSL_VERDICT_NOT_RECOVERED, "has not recovered");
	is(experiment(few, bad, true, false), RSL_VERDICT_NO_BEFORE, "too few before");
	is(experiment(well, few, true, false), RSL_VERDICT_NO_DURING, "too few during");
	is(experiment(well, few, false, false), RSL_VERDICT_NOT_YET, "too few, but it goes on");
}

/*
 * Looks once a second; ill[i] is how the second i was, the last one for ever.
 * Returns when it ended, in seconds; *recovered is the time to recover or -1.
 */
static int
simulate(const rsl_ill *ill, int n, int *recovered, rsl_ill *why)
{
	rsl_recovery recovery = {.faults_end_us = 77 * SECOND};

	for (int s = 0; s < 1000; s++)
	{
		rsl_recovery_end end;

		/* the first look reaches back into the time of the faults */
		end = rsl_recovery_look(&recovery,
								(77 + s) * SECOND - (s == 0 ? SECOND / 2 : 0),
								(78 + s) * SECOND, ill[s < n ? s : n - 1]);
		*why = recovery.ill;
		if (end == RSL_RECOVERY_GOES_ON)
			continue;
		*recovered = end == RSL_RECOVERED ?
			(int) ((recovery.well_since_us - recovery.faults_end_us) / SECOND) : -1;
		return s + 1;
	}
	return -1;
}

static void
test_recovery(void)
{
	rsl_ill		ill[400] = {0};
	rsl_ill		why;
	int			recovered;

	is(simulate(ill, 1, &recovered, &why), 10, "well at once: ten seconds are looked at");
	is(recovered, 0, "recovered at once");

	for (int i = 0; i < 4; i++)
		ill[i] = RSL_ILL_BREAKER;
	is(simulate(ill, 5, &recovered, &why), 10, "a breaker for four seconds");
	is(recovered, 4, "time to recover");
	is(why, RSL_ILL_BREAKER, "what took longest");

	ill[7] = RSL_ILL_REST_ERRORS;
	is(simulate(ill, 9, &recovered, &why), 11, "again ill after three seconds: longer");
	is(recovered, 8, "not before all stays well");

	ill[9] = RSL_ILL_TARGET_LATENCY;
	is(simulate(ill, 11, &recovered, &why), 13, "and again");
	is(recovered, 10, "time to recover");

	for (int i = 0; i < 400; i++)
		ill[i] = i % 3 == 0 ? RSL_ILL_HEALTH : RSL_WELL;
	is(simulate(ill, 400, &recovered, &why), 300, "never for three seconds: five minutes");
	is(recovered, -1, "not recovered");
	is(why, RSL_ILL_HEALTH, "the reason");
}

int
main(void)
{
	test_figures();
	test_errors();
	test_latency();
	test_verdict();
	test_recovery();
	return done_testing();
}
