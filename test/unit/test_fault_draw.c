/*-------------------------------------------------------------------------
 *
 * test_fault_draw.c
 *		Unit tests of core/fault_draw: edges, and the distributions by samples
 *		with fixed seeds.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/fault_draw.h"

#define SAMPLES		200000

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift") */
static uint64_t state;

static double
uniform(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (double) ((state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

static int64_t samples[SAMPLES];

static int
compare(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

static double mean;
static double deviation;

static void
draw(rsl_distribution distribution, int64_t delay, int64_t variance, uint64_t seed)
{
	double		sum = 0;
	double		squares = 0;

	state = seed;
	for (int i = 0; i < SAMPLES; i++)
	{
		double		first = uniform();

		samples[i] = rsl_fault_delay_us(distribution, delay, variance, first, uniform());
		sum += (double) samples[i];
	}
	mean = sum / SAMPLES;
	for (int i = 0; i < SAMPLES; i++)
		squares += ((double) samples[i] - mean) * ((double) samples[i] - mean);
	deviation = sqrt(squares / SAMPLES);
	qsort(samples, SAMPLES, sizeof(samples[0]), compare);
}

/* Kolmogorov-Smirnov distance of the samples from a distribution function. */
static double
distance(double (*cdf) (double))
{
	double		worst = 0;

	for (int i = 0; i < SAMPLES; i++)
	{
		double		expected = cdf((double) samples[i]);

		worst = fmax(worst, fabs(expected - (double) i / SAMPLES));
		worst = fmax(worst, fabs(expected - (double) (i + 1) / SAMPLES));
	}
	return worst;
}

static double
uniform_cdf(double x)
{
	return fmin(fmax((x - 50000) / 100000, 0), 1);
}

static double
normal_cdf(double x)
{
	return 0.5 * erfc(-(x - 100000) / 20000 / sqrt(2));
}

static void
test_probability(void)
{
	static const double probabilities[] = {0.001, 0.01, 0.25, 0.5, 0.9, 0.999};

	ok(!rsl_fault_strikes(0, 0), "0 never strikes");
	ok(rsl_fault_strikes(1, 0.9999999999999999), "1 always does");
	for (int p = 0; p < 6; p++)
	{
		double		probability = probabilities[p];
		double		expected = probability * SAMPLES;
		double		sigma = sqrt(expected * (1 - probability));
		int			hits = 0;

		state = 42 + p;
		for (int i = 0; i < SAMPLES; i++)
			hits += rsl_fault_strikes(probability, uniform()) ? 1 : 0;
		ok(fabs(hits - expected) < 4 * sigma,
		   "probability %g: %d of %d, expected %.0f +- %.0f", probability, hits,
		   SAMPLES, expected, sigma);
	}
}

static void
test_distributions(void)
{
	/* 1.95 / sqrt(n): what a good sample exceeds once in a thousand times */
	double		critical = 1.95 / sqrt(SAMPLES);

	draw(RSL_DISTRIBUTION_FIXED, 100000, 0, 1);
	ok(samples[0] == 100000 && samples[SAMPLES - 1] == 100000, "fixed: always the same");

	draw(RSL_DISTRIBUTION_UNIFORM, 100000, 50000, 2);
	ok(samples[0] >= 50000 && samples[SAMPLES - 1] <= 150000, "uniform: within delay +- variance");
	ok(fabs(mean - 100000) < 4 * 28868 / sqrt(SAMPLES), "uniform: mean %.0f", mean);
	ok(fabs(deviation - 28868) < 200, "uniform: deviation %.0f", deviation);
	ok(distance(uniform_cdf) < critical, "uniform: it is (%.5f)", distance(uniform_cdf));

	draw(RSL_DISTRIBUTION_NORMAL, 100000, 20000, 3);
	ok(fabs(mean - 100000) < 4 * 20000 / sqrt(SAMPLES), "normal: mean %.0f", mean);
	ok(fabs(deviation - 20000) < 150, "normal: deviation %.0f", deviation);
	ok(distance(normal_cdf) < critical, "normal: it is (%.5f)", distance(normal_cdf));

	draw(RSL_DISTRIBUTION_NORMAL, 1000, 100000, 4);
	ok(samples[0] == 0, "normal: never below 0");
	ok(samples[SAMPLES - 1] == 10000, "nor above ten times the delay");
	draw(RSL_DISTRIBUTION_NORMAL, 3000000000, 3000000000, 5);
	ok(samples[SAMPLES - 1] == RSL_MAX_DELAY_US, "nor above an hour");

	ok(rsl_fault_delay_us(RSL_DISTRIBUTION_NORMAL, 1000, 100, 0, 0) == 1000, "the first number may be 0");
}

int
main(void)
{
	test_probability();
	test_distributions();
	return done_testing();
}
