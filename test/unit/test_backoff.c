/*-------------------------------------------------------------------------
 *
 * test_backoff.c
 *		Unit tests of core/backoff: the delay of each retry, its bounds, and
 *		how the jitters are distributed.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <limits.h>

#include "core/backoff.h"

#define DRAWS		200000
#define ALMOST_ONE	(1.0 - 1.0 / (double) (UINT64_C(1) << 53))

static int64_t
delay_of(int64_t base, int64_t max, double factor, rsl_jitter jitter,
		 int retry, int64_t previous, double random)
{
	rsl_backoff backoff = {base, max, factor, jitter};

	return rsl_backoff_delay(&backoff, retry, previous, random);
}

static void
test_exact(void)
{
	static const struct
	{
		int64_t		base;
		int64_t		max;
		double		factor;
		rsl_jitter	jitter;
		int			retry;
		int64_t		previous;
		double		random;
		int64_t		expected;
		const char *name;
	}			cases[] =
	{
		{50000, 2000000, 2, RSL_JITTER_NONE, 1, 0, 0.7, 50000, "none: the first retry after the base"},
		{50000, 2000000, 2, RSL_JITTER_NONE, 2, 0, 0.7, 100000, "none: the second after twice that"},
		{50000, 2000000, 2, RSL_JITTER_NONE, 6, 0, 0, 1600000, "none: the sixth"},
		{50000, 2000000, 2, RSL_JITTER_NONE, 7, 0, 0, 2000000, "none: the cap"},
		{50000, 1600000, 2, RSL_JITTER_NONE, 6, 0, 0, 1600000, "none: exactly the cap"},
		{50000, 1599999, 2, RSL_JITTER_NONE, 6, 0, 0, 1599999, "none: one above the cap"},
		{50000, 1600001, 2, RSL_JITTER_NONE, 6, 0, 0, 1600000, "none: one below the cap"},
		{1000, 1000000, 1.5, RSL_JITTER_NONE, 4, 0, 0, 3375, "none: factor 1.5"},
		{1000, 1000000, 1, RSL_JITTER_NONE, 1000, 0, 0, 1000, "none: factor 1 never grows"},
		{1000, 1000000, 2, RSL_JITTER_NONE, 3, 777777, 0, 4000, "none: the previous delay does not matter"},
		{1000, 1000000, 2, RSL_JITTER_NONE, 0, 0, 0, 1000, "none: no retry 0"},
		{1000, 1000000, 2, RSL_JITTER_NONE, INT_MIN, 0, 0, 1000, "none: nor before"},
		{0, 1000000, 2, RSL_JITTER_NONE, 5, 0, 0, 0, "none: no base, no delay"},
		{0, 1000000, 2, RSL_JITTER_NONE, INT_MAX, 0, 0, 0, "none: no base, not even at last"},
		{0, 0, 2, RSL_JITTER_EQUAL, 5, 0, 0.5, 0, "equal: no delay at all"},
		{1000, 1000, 2, RSL_JITTER_NONE, 9, 0, 0, 1000, "none: the cap is the base"},

		{1000, 1000000, 2, RSL_JITTER_FULL, 3, 0, 0, 0, "full: from 0"},
		{1000, 1000000, 2, RSL_JITTER_FULL, 3, 0, 0.5, 2000, "full: the middle"},
		{1000, 1000000, 2, RSL_JITTER_FULL, 3, 0, ALMOST_ONE, 3999, "full: to all of it"},
		{1000, 3000, 2, RSL_JITTER_FULL, 3, 0, 0.5, 1500, "full: of the cap"},
		{1000, 1000000, 2, RSL_JITTER_FULL, 3, 5000, 0.5, 2000, "full: the previous delay does not matter"},

		{1000, 1000000, 2, RSL_JITTER_EQUAL, 3, 0, 0, 2000, "equal: from the half"},
		{1000, 1000000, 2, RSL_JITTER_EQUAL, 3, 0, 0.5, 3000, "equal: the middle"},
		{1000, 1000000, 2, RSL_JITTER_EQUAL, 3, 0, 0.9999, 3999, "equal: to all of it"},
		{1000, 3000, 2, RSL_JITTER_EQUAL, 3, 0, 0, 1500, "equal: of the cap"},
		{1000, 1000000, 2, RSL_JITTER_EQUAL, 3, 5000, 0.5, 3000, "equal: the previous delay does not matter"},

		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 1, 0, 0, 1000, "decorrelated: from the base"},
		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 1, 0, 0.5, 2000, "decorrelated: the middle of 1 and 3"},
		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 1, 0, 0.9999, 2999, "decorrelated: to three times the base"},
		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 2, 5000, 0, 1000, "decorrelated: from the base again"},
		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 2, 5000, 0.5, 8000, "decorrelated: the middle of 1 and 15"},
		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 9, 5000, 0.9999, 14998, "decorrelated: to three times the previous"},
		{1000, 1000000, 9, RSL_JITTER_DECORRELATED, 9, 5000, 0.5, 8000, "decorrelated: the factor does not matter"},
		{1000, 6000, 2, RSL_JITTER_DECORRELATED, 2, 5000, 0.5, 6000, "decorrelated: the cap"},
		{1000, 1000, 2, RSL_JITTER_DECORRELATED, 2, 5000, 0.5, 1000, "decorrelated: the cap is the base"},
		{1000, 1000000, 2, RSL_JITTER_DECORRELATED, 2, 10, 0.5, 2000, "decorrelated: a previous delay below the base"},
		{0, 1000000, 2, RSL_JITTER_DECORRELATED, 3, 0, 0.9, 0, "decorrelated: no base"},
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
		is(delay_of(cases[i].base, cases[i].max, cases[i].factor,
					cases[i].jitter, cases[i].retry, cases[i].previous,
					cases[i].random),
		   cases[i].expected, cases[i].name);
}

static void
test_overflow(void)
{
	is(delay_of(1, INT64_MAX, 2, RSL_JITTER_NONE, 63, 0, 0), INT64_C(1) << 62,
	   "2^62 us");
	is(delay_of(1, INT64_MAX, 2, RSL_JITTER_NONE, 64, 0, 0), INT64_MAX,
	   "2^63 us are more than there is");
	is(delay_of(INT64_MAX, INT64_MAX, 1, RSL_JITTER_NONE, 1, 0, 0), INT64_MAX,
	   "the longest base");
	is(delay_of(1000, 2000000, 2, RSL_JITTER_NONE, INT_MAX, 0, 0), 2000000,
	   "the last retry");
	is(delay_of(1000, 2000000, INFINITY, RSL_JITTER_NONE, 1, 0, 0), 1000,
	   "an infinite factor, first retry");
	is(delay_of(1000, 2000000, INFINITY, RSL_JITTER_NONE, 2, 0, 0), 2000000,
	   "an infinite factor, second retry");
	is(delay_of(0, 2000000, INFINITY, RSL_JITTER_NONE, 2, 0, 0), 0,
	   "an infinite factor of nothing");
	is(delay_of(1, INT64_MAX, 2, RSL_JITTER_DECORRELATED, 9, INT64_MAX, ALMOST_ONE),
	   INT64_MAX, "three times the longest delay");

	/* (double) max rounds up */
	is(delay_of(1000, (INT64_C(1) << 60) - 1, 1e9, RSL_JITTER_NONE, 9, 0, 0),
	   (INT64_C(1) << 60) - 1, "a cap that is no double");
}

static void
test_bounds(void)
{
	random_source source = {1815};

	for (int i = 0; i < 400000; i++)
	{
		int64_t		base = (int64_t) (random_bits(&source) >> (2 + random_below(&source, 61)));
		int64_t		max = base + (int64_t) (random_bits(&source) >> (2 + random_below(&source, 61)));
		double		factor = 1 + random_below(&source, 5) * random_double(&source);
		int			retry = 1 + (int) (random_bits(&source) >> (33 + random_below(&source, 31)));
		int64_t		previous = random_below(&source, 3) == 0 ? 0 :
			(int64_t) (random_double(&source) * (double) max);
		double		random = random_double(&source);
		int64_t		whole = delay_of(base, max, factor, RSL_JITTER_NONE, retry, 0, random);
		int64_t		full = delay_of(base, max, factor, RSL_JITTER_FULL, retry, previous, random);
		int64_t		equal = delay_of(base, max, factor, RSL_JITTER_EQUAL, retry, previous, random);
		int64_t		decorrelated = delay_of(base, max, factor, RSL_JITTER_DECORRELATED,
											retry, previous, random);

		check(whole >= base - base / 1000000 && whole <= max, "%lld of %lld to %lld",
			  (long long) whole, (long long) base, (long long) max);
		check(full >= 0 && full <= whole, "%lld of %lld",
			  (long long) full, (long long) whole);
		check(equal >= whole / 2 - whole / 1000000 && equal <= whole,
			  "%lld of %lld", (long long) equal, (long long) whole);
		check(decorrelated >= base - base / 1000000 && decorrelated <= max &&
			  (double) decorrelated <= 3.000001 * (double) (previous > base ? previous : base),
			  "%lld after %lld", (long long) decorrelated, (long long) previous);
		check(whole <= delay_of(base, max, factor, RSL_JITTER_NONE,
								retry < INT_MAX ? retry + 1 : retry, 0, random),
			  "retry %d waits longer than the next", retry);
	}
	check_done("no delay is outside its bounds");
}

/*
 * Mean and deciles of a jitter that is uniform in [low, high).  With 200 000
 * draws the mean is off by 0.0007 of the width, a decile's share by 0.0007.
 */
static void
check_uniform(const char *name, rsl_jitter jitter, int retry, int64_t previous,
			  double low, double high)
{
	random_source source = {99};
	double		sum = 0;
	int			deciles[10] = {0};

	for (int i = 0; i < DRAWS; i++)
	{
		int64_t		delay = delay_of(50000, 2000000, 2, jitter, retry, previous,
									 random_double(&source));

		sum += (double) delay;
		check((double) delay >= low && (double) delay < high, "%lld", (long long) delay);
		deciles[(int) (((double) delay - low) / (high - low) * 10) % 10]++;
	}
	check(fabs(sum / DRAWS - (low + high) / 2) < 0.004 * (high - low),
		  "mean %.0f, not %.0f", sum / DRAWS, (low + high) / 2);
	for (int i = 0; i < 10; i++)
		check(abs(deciles[i] - DRAWS / 10) < DRAWS / 200, "decile %d: %d", i, deciles[i]);
	check_done(name);
}

static void
test_distributions(void)
{
	random_source source = {5};
	double		first = 0;
	double		third = 0;
	int			capped = 0;

	check_uniform("full jitter of the first retry", RSL_JITTER_FULL, 1, 0, 0, 50000);
	check_uniform("full jitter of the fourth", RSL_JITTER_FULL, 4, 0, 0, 400000);
	check_uniform("full jitter at the cap", RSL_JITTER_FULL, 20, 0, 0, 2000000);
	check_uniform("equal jitter of the first retry", RSL_JITTER_EQUAL, 1, 0, 25000, 50000);
	check_uniform("equal jitter of the fourth", RSL_JITTER_EQUAL, 4, 0, 200000, 400000);
	check_uniform("equal jitter at the cap", RSL_JITTER_EQUAL, 20, 0, 1000000, 2000000);
	check_uniform("decorrelated jitter, first", RSL_JITTER_DECORRELATED, 1, 0, 50000, 150000);
	check_uniform("decorrelated jitter after 300 ms", RSL_JITTER_DECORRELATED, 7, 300000, 50000, 900000);

	/* a sequence: E(d1) = 2b, E(d2) = b/2 + 3/2 E(d1) = 3.5b, E(d3) = 5.75b */
	for (int i = 0; i < DRAWS; i++)
	{
		int64_t		previous = 0;

		for (int retry = 1; retry <= 20; retry++)
		{
			previous = delay_of(50000, 2000000, 2, RSL_JITTER_DECORRELATED, retry,
								previous, random_double(&source));
			check(previous >= 50000 && previous <= 2000000, "%lld", (long long) previous);
			if (retry == 1)
				first += (double) previous / DRAWS;
			else if (retry == 3)
				third += (double) previous / DRAWS;
		}
		capped += previous == 2000000;
	}
	check(fabs(first / 100000 - 1) < 0.005, "first: %.0f", first);
	check(fabs(third / 287500 - 1) < 0.01, "third: %.0f", third);
	check(capped > DRAWS / 10 && capped < DRAWS * 9 / 10, "%d at the cap", capped);
	check_done("sequences of decorrelated jitter");
}

int
main(void)
{
	test_exact();
	test_overflow();
	test_bounds();
	test_distributions();
	return done_testing();
}
