/*-------------------------------------------------------------------------
 *
 * test_dimmer.c
 *		Unit tests of core/dimmer: single steps, the edges, and what no input
 *		may do.  How it steers a queue is in test/sim/test_dimmer_simulation.c.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/dimmer.h"

#define PERIOD	RSL_DIMMER_PERIOD_US
#define NOT_A_NUMBER	(0.0 / 0.0)

static bool
near(double got, double expected)
{
	bool		passed = fabs(got - expected) <= 1e-6;

	if (!passed)
		diag("got %.9f, expected %.9f", got, expected);
	return passed;
}

/* Some periods with the same wait, of a set-point of 100 ms. */
static double
periods(rsl_dimmer *dimmer, int n, double wait_ms)
{
	for (int i = 0; i < n; i++)
		rsl_dimmer_update(dimmer, dimmer->last_us + PERIOD, wait_ms, 100);
	return dimmer->theta;
}

static void
start(rsl_dimmer *dimmer, double theta)
{
	rsl_dimmer_init(dimmer, theta);
	dimmer->last_us = 1000000;
}

static void
test_steps(void)
{
	rsl_dimmer	d;

	rsl_dimmer_init(&d, 1);
	ok(near(d.theta, 1), "starts with all");
	ok(rsl_dimmer_due(&d, 1), "the first decision is due at once");
	ok(near(rsl_dimmer_update(&d, 1000000, 50, 100), 1), "a wait below the set-point changes nothing");
	ok(!rsl_dimmer_due(&d, 1000000 + PERIOD - 1), "the next one is not due before a period is over");
	ok(near(rsl_dimmer_update(&d, 1000000 + PERIOD - 1, 1000, 100), 1), "nor made");
	ok(rsl_dimmer_due(&d, 1000000 + PERIOD), "then it is");

	/* alpha is 2 at once: P is large */
	start(&d, 1);
	ok(fabs(periods(&d, 1, 200) - 0.95) < 1e-4, "twice the set-point: down by (1 - pole) / alpha");
	ok(d.alpha > 1.99 && d.alpha <= 2, "alpha is the wait at theta = 1");
	start(&d, 0.5);
	periods(&d, 1, 200);
	ok(d.alpha > 3.98 && d.alpha <= 4, "at half theta it is twice as much");
	start(&d, 0.5);
	d.alpha = 2;
	d.covariance = 1e-9;
	d.last_wait = 1;
	ok(near(periods(&d, 1, 100), 0.5), "at the set-point it stays");
	start(&d, 0.5);
	d.alpha = 2;
	d.covariance = 1e-9;
	d.last_wait = 1;
	ok(near(periods(&d, 1, 120), 0.5 - 0.05 * (1.2 + 2 * 0.2 - 1)), "looks two periods ahead");
	start(&d, 0.5);
	d.alpha = 2;
	d.covariance = 1e-9;
	d.last_wait = 3;
	ok(near(periods(&d, 1, 150), 0.5 + 0.05), "but not below no wait at all");

	/* forgetting: the estimate follows another load in about 1/0.05 periods */
	start(&d, 1);
	periods(&d, 200, 100);
	ok(near(d.alpha, 1), "alpha settles");
	d.theta = 0.5;
	d.alpha = 2;
	d.covariance = 0.05 / 0.25;
	rsl_dimmer_update(&d, d.last_us + PERIOD, 200, 100);
	ok(near(d.alpha, 2 + 1 * (0.2 * 0.5 / (0.95 + 0.2 * 0.25))), "forgets a twentieth in a period");
	ok(near(d.covariance, (1 - 0.5 * 0.1) * 0.2 / 0.95), "and so does its certainty");
}

static void
test_edges(void)
{
	rsl_dimmer	d;
	int			n;

	start(&d, 0);
	ok(near(periods(&d, 50, 5000), 0), "at 0 it stays while the wait is long");
	ok(near(periods(&d, 1, 0), 0.1), "and rises when it is not, from 0 too");

	start(&d, 1);
	periods(&d, 100, 5000);
	ok(d.theta == 0, "a plant that does not react: down to 0");
	for (n = 0; d.theta < 1 && n < 100; n++)
		periods(&d, 1, 0);
	ok(n >= 10 && n <= 40, "back at 1 after %d periods without a wait", n);

	start(&d, 0.2);
	d.alpha = 5;
	ok(periods(&d, 1, 0) <= 0.2 + 0.1 + 1e-9, "rises by 0.1 a period at most");
	for (n = 1; d.theta < 1 && n < 100; n++)
		periods(&d, 1, 0);
	ok(n <= 25, "from 0.2 to 1 in %d periods", n);
	ok(periods(&d, 1000, 0) == 1, "and stays there");

	/* long at 1 without load: the next overload is noticed at once */
	n = 0;
	while (d.theta > 0.5 && n++ < 100)
		periods(&d, 1, 500);
	ok(n <= 3, "below one half after %d periods of five times the set-point", n);

	/* a queue that only begins to drain is no reason to serve more */
	start(&d, 0.5);
	periods(&d, 1, 10000);
	d.theta = 0.5;
	ok(periods(&d, 1, 5000) < 0.5, "half of far too long is too long");
	start(&d, 0.5);
	periods(&d, 1, INFINITY);
	d.theta = 0.5;
	ok(periods(&d, 1, INFINITY) < 0.5, "twice for ever, too");

	/* not known is not zero */
	start(&d, 0.5);
	periods(&d, 3, 100);
	{
		double		before = d.theta;

		ok(periods(&d, 5, NOT_A_NUMBER) == before && periods(&d, 5, -1) == before,
		   "an unknown wait leaves theta as it is");
		ok(rsl_dimmer_update(&d, d.last_us + PERIOD, 100, 0) == before &&
		   rsl_dimmer_update(&d, d.last_us + PERIOD, 100, NOT_A_NUMBER) == before &&
		   rsl_dimmer_update(&d, d.last_us + PERIOD, 100, -5) == before,
		   "so does a set-point that is none");
		d.alpha = 2;
		d.covariance = 1e-9;
		rsl_dimmer_update(&d, d.last_us + PERIOD, 200, 100);
		ok(near(d.theta, before - 0.05), "and after it there is no looking ahead");
	}

	/* the clock */
	start(&d, 0.5);
	periods(&d, 1, 100);
	n = (int) (d.last_us / 1000);
	ok(rsl_dimmer_due(&d, 5), "a clock that went backwards does not stop it");
	d.alpha = 2;
	d.covariance = 1e-9;
	d.last_wait = 1;
	d.theta = 0.5;
	ok(near(rsl_dimmer_update(&d, 5, 200, 100), 0.45), "nor tell a direction");
	d.theta = 0.5;
	d.covariance = 1e-9;
	d.alpha = 2;
	ok(near(rsl_dimmer_update(&d, 5 + INT64_C(86400000000), 300, 100), 0.4),
	   "a day later: one step, and no direction");
	d.theta = 0.5;
	d.covariance = 1e-9;
	d.alpha = 2;
	ok(near(rsl_dimmer_update(&d, d.last_us + 4 * PERIOD, 200, 100), 0.55),
	   "four periods later there still is one");

	rsl_dimmer_init(&d, NOT_A_NUMBER);
	ok(d.theta == 1, "no number to start from is 1");
	rsl_dimmer_init(&d, 7);
	ok(d.theta == 1, "not above 1");
	rsl_dimmer_init(&d, -7);
	ok(d.theta == 0, "not below 0");
}

/* Whatever comes, theta is in 0 .. 1, and with no wait it comes back. */
static void
test_anything(void)
{
	random_source random = {UINT64_C(88172645463325252)};
	static const double odd[] = {
		0, -0.0, 1e-300, 1e300, INFINITY, -INFINITY, -1, 100, 99.999, 1e9
	};
	rsl_dimmer	d;
	int64_t		now = 1;

	rsl_dimmer_init(&d, 1);
	for (int i = 0; i < 300000; i++)
	{
		double		wait;
		double		target = 100;
		uint32_t	what = random_below(&random, 20);

		if (what < 10)
			wait = random_double(&random) * 300;
		else if (what == 10)
			wait = NOT_A_NUMBER;
		else if (what < 15)
			wait = odd[random_below(&random, sizeof(odd) / sizeof(odd[0]))];
		else
			wait = exp(random_double(&random) * 40 - 20);
		if (random_below(&random, 10) == 0)
			target = odd[random_below(&random, sizeof(odd) / sizeof(odd[0]))];
		if (random_below(&random, 50) == 0)
			now = (int64_t) (random_bits(&random) >> 2);
		else
			now += (int64_t) (random_double(&random) * 1.5 * PERIOD);
		rsl_dimmer_update(&d, now, wait, target);
		check(d.theta >= 0 && d.theta <= 1, "theta %g", d.theta);
		check(d.alpha >= 1 && d.alpha <= 5, "alpha %g", d.alpha);
		check(d.covariance >= 0 && d.covariance <= 1000, "covariance %g", d.covariance);
		if (i % 1000 == 999)
		{
			rsl_dimmer	quiet = d;
			int			n;

			quiet.last_us = 1;
			for (n = 0; quiet.theta < 1 && n < 1000; n++)
				periods(&quiet, 1, 0);
			check(n <= 60, "%d periods to come back from %g, alpha %g", n, d.theta, d.alpha);
		}
	}
	check_done("whatever comes, theta stays in its range and comes back");
}

/* A hash as good as any: murmur3's finalizer. */
static uint32_t
hash(uint32_t key)
{
	key ^= key >> 16;
	key *= 0x85ebca6b;
	key ^= key >> 13;
	key *= 0xc2b2ae35;
	return key ^ key >> 16;
}

static void
test_shares(void)
{
	static const double thetas[] = {0, 0.001, 0.1, 0.37, 0.5, 0.9, 0.999, 1};
	int			served[8] = {0};

	is(rsl_dimmer_share(1), RSL_DIMMER_ALL, "all");
	is(rsl_dimmer_share(0), 0, "none");
	is(rsl_dimmer_share(0.5), RSL_DIMMER_ALL / 2, "half");
	is(rsl_dimmer_share(0.999995), RSL_DIMMER_ALL, "to the nearest");
	is(rsl_dimmer_share(0.99999), RSL_DIMMER_ALL - 1, "but not further");
	is(rsl_dimmer_share(1e9), RSL_DIMMER_ALL, "never more than all");
	ok(rsl_dimmer_serves(RSL_DIMMER_ALL, 0xFFFFFFFF), "at 1 every draw is served");
	ok(!rsl_dimmer_serves(0, 0), "at 0 none is");

	for (uint32_t key = 0; key < 1000000; key++)
	{
		bool		before = false;

		for (int i = 0; i < 8; i++)
		{
			uint32_t	share = rsl_dimmer_share(thetas[i]);
			bool		served_now = rsl_dimmer_serves(share, hash(key));

			check(served_now || !before, "key %u served at a smaller share than %g", key, thetas[i]);
			check(served_now == rsl_dimmer_serves(share, hash(key)), "key %u", key);
			before = served_now;
			served[i] += served_now ? 1 : 0;
		}
	}
	for (int i = 0; i < 8; i++)
	{
		double		sd = sqrt(thetas[i] * (1 - thetas[i]) * 1e6);

		check(fabs(served[i] - thetas[i] * 1e6) <= 5 * sd + 10,
			  "%d keys served at %g", served[i], thetas[i]);
	}
	check_done("a million keys: sticky, monotone, and as many as theta says");
}

int
main(void)
{
	test_steps();
	test_edges();
	test_anything();
	test_shares();
	return done_testing();
}
