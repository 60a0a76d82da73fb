/*-------------------------------------------------------------------------
 *
 * test_health_state.c
 *		Unit tests of core/health_state: values against thresholds, status
 *		from runs, the schedule of checks, staleness.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/health_state.h"

#define SECOND	INT64_C(1000000)

static void
test_judge(void)
{
	static const struct
	{
		double		value;
		double		warning;
		double		critical;
		rsl_health_status expected;
		const char *name;
	}			cases[] =
	{
		{5, NAN, NAN, RSL_HEALTHY, "no thresholds: any value"},
		{-INFINITY, NAN, NAN, RSL_HEALTHY, "no thresholds: minus infinity"},
		{NAN, NAN, NAN, RSL_UNHEALTHY, "not a number, no thresholds"},
		{NAN, 1, 2, RSL_UNHEALTHY, "not a number, more is worse"},
		{NAN, 2, 1, RSL_UNHEALTHY, "not a number, less is worse"},

		{9.99, 10, 20, RSL_HEALTHY, "more is worse: below the warning"},
		{10, 10, 20, RSL_DEGRADED, "more is worse: equal to the warning"},
		{19.99, 10, 20, RSL_DEGRADED, "more is worse: below the critical one"},
		{20, 10, 20, RSL_UNHEALTHY, "more is worse: equal to the critical one"},
		{INFINITY, 10, 20, RSL_UNHEALTHY, "more is worse: infinity"},
		{-1e300, 10, 20, RSL_HEALTHY, "more is worse: far below"},

		{20.01, 20, 10, RSL_HEALTHY, "less is worse: above the warning"},
		{20, 20, 10, RSL_DEGRADED, "less is worse: equal to the warning"},
		{10.01, 20, 10, RSL_DEGRADED, "less is worse: above the critical one"},
		{10, 20, 10, RSL_UNHEALTHY, "less is worse: equal to the critical one"},
		{-INFINITY, 20, 10, RSL_UNHEALTHY, "less is worse: minus infinity"},
		{INFINITY, 20, 10, RSL_HEALTHY, "less is worse: infinity"},

		{9, 10, 10, RSL_HEALTHY, "equal thresholds: below"},
		{10, 10, 10, RSL_UNHEALTHY, "equal thresholds: at them"},
		{9, NAN, 10, RSL_HEALTHY, "critical alone: below"},
		{10, NAN, 10, RSL_UNHEALTHY, "critical alone: more is worse"},
		{9, 10, NAN, RSL_HEALTHY, "warning alone: below"},
		{1e9, 10, NAN, RSL_DEGRADED, "warning alone: never unhealthy"},
		{0, -5, 0, RSL_UNHEALTHY, "negative thresholds"},
		{-0.0, 0, 1, RSL_DEGRADED, "minus zero is zero"},
	};

	for (int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		is(rsl_judge_value(cases[i].value, cases[i].warning, cases[i].critical),
		   cases[i].expected, cases[i].name);

	is(rsl_judge_value_towards(3, NAN, 5, true), RSL_UNHEALTHY,
	   "a direction that is known: critical alone");
	is(rsl_judge_value_towards(6, NAN, 5, true), RSL_HEALTHY,
	   "a direction that is known: above it");
	is(rsl_judge_value_towards(3, 5, NAN, true), RSL_DEGRADED,
	   "a direction that is known: warning alone");
}

/* Run by run: 'h', 'd', 'u'; the status after each as '.', 'H', 'D', 'U'. */
static void
play(int failure_threshold, int success_threshold, const char *runs,
	 const char *expected, const char *name)
{
	rsl_health_config config = {SECOND, failure_threshold, success_threshold};
	rsl_health_state state = {0};
	char		got[64];
	int			n = 0;
	bool		told = true;

	for (; runs[n]; n++)
	{
		rsl_health_status before = state.status;
		bool		changed;

		changed = rsl_health_run_ended(&state, &config,
									   runs[n] == 'h' ? RSL_HEALTHY :
									   runs[n] == 'd' ? RSL_DEGRADED : RSL_UNHEALTHY);
		told &= changed == (state.status != before);
		got[n] = ".HDU"[state.status];
	}
	got[n] = '\0';
	if (!ok(strcmp(got, expected) == 0 && told, "%s", name))
		diag("runs %s: got %s, expected %s", runs, got, expected);
}

static void
test_status(void)
{
	play(3, 1, "h", "H", "healthy at once");
	play(3, 5, "h", "H", "from unknown: healthy at once, whatever the threshold");
	play(3, 1, "uuu", "..U", "from unknown: unhealthy after three");
	play(3, 1, "ddd", "..D", "from unknown: degraded after three");
	play(3, 1, "uud", "..D", "three bad runs, the last only degraded");
	play(3, 1, "dud", "..D", "three bad runs, one of them unhealthy");
	play(3, 1, "duduuu", "..DDDU", "unhealthy takes three unhealthy ones in a row");
	play(3, 1, "huuhuuhuuu", "HHHHHHHHHU", "not before three in a row");
	play(3, 1, "hdddh", "HHHDH", "back after one");
	play(3, 1, "huuuh", "HHHUH", "back from unhealthy after one");
	play(3, 1, "huuud", "HHHUD", "better, but not well");
	play(3, 2, "huuuhh", "HHHUUH", "back after two");
	play(3, 2, "huuuhuhh", "HHHUUUUH", "two in a row");
	play(3, 2, "huuuddh", "HHHUUDD", "to degraded after two");
	play(3, 2, "huuudh", "HHHUUD", "two that were not unhealthy");
	play(3, 2, "huuududd", "HHHUUUUD", "in a row");
	play(3, 3, "hdddhuh", "HHHDDDD", "a bad run between good ones");
	play(1, 1, "huhdhu", "HUHDHU", "thresholds of one");
	play(0, 0, "huhdhu", "HUHDHU", "thresholds below one count as that");
	play(-5, -5, "udh", "UDH", "negative ones, too");
	play(1, 3, "udhudhhh", "UUUUUUDH", "slow to get better");
	play(5, 1, "uuuuduuuuu", "....DDDDDU", "a threshold of five");
	play(2147483647, 1, "huuu", "HHHH", "a threshold that is never reached");
}

/* What never holds, whatever the runs are. */
static void
test_random_runs(void)
{
	random_source source = {4711};

	for (int round = 0; round < 2000; round++)
	{
		rsl_health_config config = {SECOND, 1 + random_below(&source, 5), 1 + random_below(&source, 5)};
		rsl_health_state state = {0};
		int			unhealthy = 0;
		int			bad = 0;

		for (int run = 0; run < 100; run++)
		{
			rsl_health_status result = RSL_HEALTHY + random_below(&source, 3);
			rsl_health_status before = state.status;

			rsl_health_run_ended(&state, &config, result);
			unhealthy = result == RSL_UNHEALTHY ? unhealthy + 1 : 0;
			bad = result != RSL_HEALTHY ? bad + 1 : 0;

			if (state.status > before && state.status == RSL_UNHEALTHY)
				check(unhealthy >= config.failure_threshold, "unhealthy too early");
			if (state.status > before && state.status == RSL_DEGRADED)
				check(bad >= config.failure_threshold, "degraded too early");
			if (state.status < before)
				check(result < before, "better after a run that was not");
			if (unhealthy >= config.failure_threshold)
				check(state.status == RSL_UNHEALTHY, "unhealthy by now");
			if (bad >= config.failure_threshold)
				check(state.status >= RSL_DEGRADED, "not healthy any more");
			check(state.status != RSL_HEALTH_UNKNOWN || before == RSL_HEALTH_UNKNOWN,
				  "a run makes nothing unknown");
		}
	}
	check_done("no status without its runs");
}

static int64_t
next_run(int64_t interval, rsl_health_status status, rsl_health_status result,
		 bool first, int64_t started, int64_t duration, double random)
{
	rsl_health_config config = {interval, 3, 1};
	rsl_health_state state = {.status = status};

	return rsl_health_next_run(&state, &config, result, first, started, duration,
							   random);
}

static void
test_schedule(void)
{
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_HEALTHY, false, 7, 5000, 0.5),
	   10 * SECOND + 7, "the interval counts from the beginning of the run");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_HEALTHY, false, 0, 0, 0),
	   9 * SECOND, "a tenth less");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_HEALTHY, false, 0, 0, 1),
	   11 * SECOND, "a tenth more");
	is(next_run(SECOND, RSL_HEALTHY, RSL_HEALTHY, false, 100, 5 * SECOND, 0.5),
	   5 * SECOND + 100, "not before the run has ended");

	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_UNHEALTHY, false, 0, 1000, 0.5),
	   2 * SECOND, "a run that failed: a fifth");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_DEGRADED, false, 0, 1000, 0.5),
	   2 * SECOND, "one that was degraded, too");
	is(next_run(10 * SECOND, RSL_HEALTH_UNKNOWN, RSL_UNHEALTHY, false, 0, 1000, 0.5),
	   2 * SECOND, "also while nothing is known");
	is(next_run(10 * SECOND, RSL_UNHEALTHY, RSL_HEALTHY, false, 0, 1000, 0.5),
	   2 * SECOND, "a good run of a check that is unhealthy, too");
	is(next_run(10 * SECOND, RSL_UNHEALTHY, RSL_UNHEALTHY, false, 0, 1000, 0),
	   2 * SECOND * 9 / 10, "jittered");
	is(next_run(3 * SECOND, RSL_HEALTHY, RSL_UNHEALTHY, false, 0, 1000, 0.5),
	   SECOND, "at least a second");
	is(next_run(SECOND / 2, RSL_HEALTHY, RSL_UNHEALTHY, false, 0, 1000, 0.5),
	   SECOND / 2, "but not longer than the interval");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_UNHEALTHY, false, 0, SECOND, 0.5),
	   5 * SECOND, "five times as long as the run took");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_UNHEALTHY, false, 0, 3 * SECOND, 0.5),
	   10 * SECOND, "but not longer than the interval, either");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_HEALTHY, false, 0, 3 * SECOND, 0.5),
	   10 * SECOND, "a slow run that is healthy changes nothing");

	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_HEALTHY, true, 0, 1000, 0),
	   SECOND, "after the first run: a tenth of the interval");
	is(next_run(10 * SECOND, RSL_HEALTHY, RSL_HEALTHY, true, 0, 1000, 1),
	   10 * SECOND, "to all of it");
	is(next_run(INT64_C(1) << 50, RSL_HEALTHY, RSL_HEALTHY, false, INT64_C(1) << 52, 0, 0.5),
	   (INT64_C(1) << 50) + (INT64_C(1) << 52), "no overflow after decades");
}

/*
 * 100 checks that begin together: the first runs are at once, later ones
 * spread over the interval, and the mean interval is what was asked for.
 */
static void
test_spread(void)
{
	enum
	{
		CHECKS = 100, INTERVAL = 10, SECONDS = 1000
	};
	static int	per_second[SECONDS];
	rsl_health_config config = {INTERVAL * SECOND, 3, 1};
	random_source source = {17};
	long		runs = 0;
	int			most = 0;

	for (int c = 0; c < CHECKS; c++)
	{
		rsl_health_state state = {0};
		int64_t		at = 0;
		bool		first = true;

		while (at < SECONDS * SECOND)
		{
			per_second[at / SECOND]++;
			runs++;
			rsl_health_run_ended(&state, &config, RSL_HEALTHY);
			at = rsl_health_next_run(&state, &config, RSL_HEALTHY, first, at,
									 1000, random_double(&source));
			first = false;
		}
	}
	is(per_second[0], CHECKS, "all run at once");
	for (int s = 1; s < SECONDS; s++)
		most = per_second[s] > most ? per_second[s] : most;
	/* evenly it would be 10 */
	ok(most <= 30, "and never again so many in one second (%d)", most);
	ok(fabs(runs / (double) (CHECKS * SECONDS / INTERVAL) - 1) < 0.02,
	   "as often as asked for (%ld runs)", runs);
}

/* All hang until their timeout: how many workers does that keep busy? */
static void
test_hanging(void)
{
	rsl_health_config config = {10 * SECOND, 3, 1};
	rsl_health_state state = {0};
	random_source source = {3};
	int64_t		at = 0;
	int64_t		busy = 0;

	while (at < 10000 * SECOND)
	{
		rsl_health_run_ended(&state, &config, RSL_UNHEALTHY);
		busy += SECOND;
		at = rsl_health_next_run(&state, &config, RSL_UNHEALTHY, false, at,
								 SECOND, random_double(&source));
	}
	ok(busy < at * 0.205, "a check that hangs keeps a worker busy for a fifth of the time (%.3f)",
	   busy / (double) at);
}

static void
test_stale(void)
{
	rsl_health_config ten = {10 * SECOND, 3, 1};
	rsl_health_config tiny = {SECOND / 10, 3, 1};

	ok(!rsl_health_is_stale(&ten, SECOND, 31 * SECOND), "fresh for three intervals");
	ok(rsl_health_is_stale(&ten, SECOND, 31 * SECOND + 1), "then stale");
	ok(!rsl_health_is_stale(&tiny, 0, 3 * SECOND), "an interval counts as a second at least");
	ok(rsl_health_is_stale(&tiny, 0, 3 * SECOND + 1), "and then stale, too");
}

int
main(void)
{
	test_judge();
	test_status();
	test_random_runs();
	test_schedule();
	test_spread();
	test_hanging();
	test_stale();
	return done_testing();
}
