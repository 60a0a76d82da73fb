/*-------------------------------------------------------------------------
 *
 * test_histogram.c
 *		Unit tests of core/histogram: the mapping from durations to buckets
 *		and back, and quantiles against sorted samples.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/histogram.h"

#define SAMPLES			20000

/* the first duration that is too long for the buckets, in microseconds */
#define BEYOND			(UINT64_C(1) << 31)

/* what the header promises */
#define MAX_ERROR		0.125

static void
test_buckets(void)
{
	random_source source = {4711};
	int			last = -1;
	bool		used[RSL_HISTOGRAM_BUCKETS] = {false};
	int			unused = 0;

	/* every duration up to 100 ms, then the edges of all powers of two */
	for (uint64_t us = 0; us <= 100000; us++)
	{
		int			bucket = rsl_histogram_bucket(us);

		check(bucket == last || bucket == last + 1, "%llu us: %d after %d",
			  (unsigned long long) us, bucket, last);
		last = bucket;
	}
	check_done("buckets follow each other without a gap up to 100 ms");

	last = -1;
	for (int bit = 0; bit < 64; bit++)
	{
		for (int quarter = 4; quarter < 8; quarter++)
		{
			uint64_t	edge = bit < 2 ? UINT64_C(1) << bit :
				(uint64_t) quarter << (bit - 2);

			for (int offset = -1; offset <= 1; offset++)
			{
				int			bucket = rsl_histogram_bucket(edge + offset);
				int			before = edge + offset == 0 ? 0 :
					rsl_histogram_bucket(edge + offset - 1);

				check(bucket >= 0 && bucket < RSL_HISTOGRAM_BUCKETS,
					  "bit %d: bucket %d", bit, bucket);
				check(before <= bucket && bucket <= before + 1,
					  "bit %d: %d after %d", bit, bucket, before);
				used[bucket] = true;
			}
			if (bit >= 2 && edge < BEYOND)
				check(rsl_histogram_bucket(edge) ==
					  rsl_histogram_bucket(edge - 1) + 1,
					  "bit %d quarter %d begins no bucket", bit, quarter);
		}
	}
	check_done("monotone at the edges of every power of two");

	for (int i = 0; i < RSL_HISTOGRAM_BUCKETS; i++)
		unused += used[i] ? 0 : 1;
	is(unused, 0, "each bucket is somebody's");
	is(rsl_histogram_bucket(0), 0, "a wait of nothing is in the first bucket");
	is(rsl_histogram_bucket(BEYOND - 1), RSL_HISTOGRAM_BUCKETS - 1,
	   "2^31 - 1 us is the last duration that fits");
	is(rsl_histogram_bucket(UINT64_MAX), RSL_HISTOGRAM_BUCKETS - 1,
	   "what is too long is in the last bucket");

	for (int i = 0; i < 1000000; i++)
	{
		uint64_t	a = random_bits(&source) >> random_below(&source, 64);
		uint64_t	b = random_bits(&source) >> random_below(&source, 64);

		check((a <= b) == (rsl_histogram_bucket(a) <= rsl_histogram_bucket(b)) ||
			  rsl_histogram_bucket(a) == rsl_histogram_bucket(b),
			  "%llu and %llu", (unsigned long long) a, (unsigned long long) b);
	}
	check_done("monotone for a million random pairs");
}

static void
test_error(void)
{
	random_source source = {42};
	double		worst = 0;

	for (int i = 0; i < RSL_HISTOGRAM_BUCKETS; i++)
	{
		double		middle = rsl_histogram_middle(i);

		check(rsl_histogram_bucket((uint64_t) middle) == i,
			  "the middle of %d is in %d", i,
			  rsl_histogram_bucket((uint64_t) middle));
		check(i == 0 || middle > rsl_histogram_middle(i - 1), "bucket %d", i);
	}
	check_done("the middle of each bucket lies in it");

	for (uint64_t us = 0; us < 4; us++)
		check(rsl_histogram_middle(rsl_histogram_bucket(us)) == (double) us,
			  "%llu us", (unsigned long long) us);
	check_done("up to 3 us buckets are exact");

	for (int i = 0; i < 1000000; i++)
	{
		uint64_t	us = 1 + random_bits(&source) % (BEYOND - 1) / (UINT64_C(1) << random_below(&source, 31));
		double		error = fabs(rsl_histogram_middle(rsl_histogram_bucket(us)) - us) / us;

		worst = error > worst ? error : worst;
		check(error <= MAX_ERROR + 1e-12, "%llu us: %.4f",
			  (unsigned long long) us, error);
	}
	check_done("no duration is off by more than 12.5 %");
	diag("largest relative error %.2f %%", 100 * worst);
	ok(worst > 0.1, "the measurement of that error works");
}

static int
compare(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a;
	uint64_t	y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

/* Quantiles of one set of samples, by the histogram and by sorting. */
static void
quantiles(const char *name, uint64_t *samples, int n, uint64_t zeroes)
{
	static const double wanted[] = {0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1};
	uint64_t	counts[RSL_HISTOGRAM_BUCKETS] = {0};
	double		last = 0;
	char		title[100];

	for (int i = 0; i < n; i++)
		counts[rsl_histogram_bucket(samples[i])]++;
	qsort(samples, n, sizeof(uint64_t), compare);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
	{
		double		rank = wanted[i] * (double) ((uint64_t) n + zeroes);
		int64_t		index = (int64_t) ceil(rank) - 1 - (int64_t) zeroes;
		double		exact = index < 0 ? 0 : (double) samples[index];
		double		got = rsl_histogram_quantile(counts, zeroes, wanted[i]);

		check(fabs(got - exact) <= MAX_ERROR * exact + 1e-9,
			  "quantile %.3f: %.1f, exactly %.1f", wanted[i], got, exact);
		check(got >= last, "quantile %.3f below the one before", wanted[i]);
		last = got;
	}
	snprintf(title, sizeof(title), "quantiles of %s", name);
	check_done(title);
}

static void
test_quantiles(void)
{
	static uint64_t samples[SAMPLES];
	uint64_t	none[RSL_HISTOGRAM_BUCKETS] = {0};
	uint64_t	one[RSL_HISTOGRAM_BUCKETS] = {0};
	random_source source = {1};

	ok(rsl_histogram_quantile(none, 0, 0.5) == 0, "no samples: 0");
	ok(rsl_histogram_quantile(none, 10, 0.99) == 0, "nobody waited: 0");
	one[rsl_histogram_bucket(1000)] = 1;
	ok(rsl_histogram_quantile(one, 0, 0) == 0 &&
	   fabs(rsl_histogram_quantile(one, 0, 0.5) - 1000) < 125 &&
	   fabs(rsl_histogram_quantile(one, 0, 1) - 1000) < 125,
	   "one sample is every quantile");
	ok(rsl_histogram_quantile(one, 99, 0.99) == 0 &&
	   rsl_histogram_quantile(one, 99, 0.991) > 875,
	   "99 that did not wait and one that did: p99 is 0, beyond it is not");

	for (int i = 0; i < SAMPLES; i++)
		samples[i] = random_below(&source, 1000000);
	quantiles("a uniform distribution", samples, SAMPLES, 0);

	for (int i = 0; i < SAMPLES; i++)
		samples[i] = random_duration(&source, 5000);
	quantiles("an exponential distribution", samples, SAMPLES, 0);

	for (int i = 0; i < SAMPLES; i++)
		samples[i] = (uint64_t) exp(random_double(&source) * log((double) BEYOND - 1));
	quantiles("everything from 1 us to half an hour", samples, SAMPLES, 0);

	for (int i = 0; i < SAMPLES; i++)
		samples[i] = i % 10 == 0 ? 900000 + random_below(&source, 200000) :
			1 + random_below(&source, 20);
	quantiles("two peaks far apart", samples, SAMPLES, 0);

	for (int i = 0; i < SAMPLES; i++)
		samples[i] = random_duration(&source, 20000);
	quantiles("waits of one in five", samples, SAMPLES, 4 * SAMPLES);
}

int
main(void)
{
	test_buckets();
	test_error();
	test_quantiles();
	return done_testing();
}
