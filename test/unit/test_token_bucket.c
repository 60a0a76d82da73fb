/*-------------------------------------------------------------------------
 *
 * test_token_bucket.c
 *		Unit tests of core/token_bucket: single steps, the packed word against
 *		a model that keeps tokens and time apart, and the promise itself:
 *		retries are at most a fraction of first attempts and a steady rate.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/token_bucket.h"

#define YEAR_MS		(INT64_C(365) * 86400 * 1000)
#define WRAP_MS		(INT64_C(1) << 36)
#define HOUR_MS		INT64_C(3600000)
#define LATE_MS		3000

/* what the default budget is */
static const rsl_bucket_config usual = {.per_second = 10,.deposit_milli = 200,.capacity = 100};

/* nothing comes by itself */
static const rsl_bucket_config still = {.per_second = 0,.deposit_milli = 200,.capacity = 100};

static bool
take(const rsl_bucket_config *config, uint64_t *word, int64_t now_ms)
{
	uint64_t	next = UINT64_C(0xDEADBEEF);

	if (rsl_bucket_take(config, *word, now_ms, &next))
	{
		*word = next;
		return true;
	}
	check(next == UINT64_C(0xDEADBEEF), "a refusal gave a word");
	return false;
}

static int
take_all(const rsl_bucket_config *config, uint64_t *word, int64_t now_ms)
{
	int			taken = 0;

	while (taken < 1000000 && take(config, word, now_ms))
		taken++;
	return taken;
}

static void
test_steps(void)
{
	uint64_t	word = rsl_bucket_full(&usual, 1000);
	uint64_t	kept;

	ok(rsl_bucket_tokens(&usual, word, 1000) == 100.0, "full at first");
	is(take_all(&usual, &word, 1000), 100, "as many retries at once");
	ok(rsl_bucket_tokens(&usual, word, 1000) == 0.0, "then empty");
	ok(!take(&usual, &word, 1099), "a token takes 100 ms: not after 99");
	ok(take(&usual, &word, 1100), "after 100");
	ok(!take(&usual, &word, 1100), "but only one");
	is(take_all(&usual, &word, 2100), 10, "ten in a second");
	is(take_all(&usual, &word, 2100 + 20 * 1000), 100, "no more than the capacity in 20 s");

	/* refusals in between must not cost the time that has passed */
	for (int ms = 1; ms < 100; ms++)
		check(!take(&usual, &word, 22100 + ms), "after %d ms", ms);
	check_done("99 refusals");
	ok(take(&usual, &word, 22200), "and the token comes at its time");

	word = rsl_bucket_full(&still, 5);
	is(take_all(&still, &word, 5), 100, "without a rate: what is in it");
	is(take_all(&still, &word, YEAR_MS), 0, "and no more in a year");
	for (int i = 0; i < 4; i++)
		word = rsl_bucket_deposit(&still, word, YEAR_MS);
	is(take_all(&still, &word, YEAR_MS), 0, "four first attempts are not yet a retry");
	word = rsl_bucket_deposit(&still, word, YEAR_MS);
	is(take_all(&still, &word, YEAR_MS), 1, "five are one");
	for (int i = 0; i < 10000; i++)
		word = rsl_bucket_deposit(&still, word, YEAR_MS);
	is(take_all(&still, &word, YEAR_MS), 100, "deposits stop at the capacity");

	/* deposits keep what time has brought */
	word = rsl_bucket_full(&usual, 0);
	take_all(&usual, &word, 0);
	for (int ms = 1; ms <= 1000; ms++)
		word = rsl_bucket_deposit(&usual, word, ms);
	ok(rsl_bucket_tokens(&usual, word, 1000) == 100.0, "200 tokens in a second, 100 fit");
	word = rsl_bucket_full(&usual, 0);
	take_all(&usual, &word, 0);
	for (int ms = 10; ms <= 1000; ms += 10)
		word = rsl_bucket_deposit(&usual, word, ms);
	ok(rsl_bucket_tokens(&usual, word, 1000) == 30.0,
	   "100 first attempts and a second are 30 tokens");

	kept = word;
	(void) rsl_bucket_tokens(&usual, word, 999999);
	ok(word == kept && rsl_bucket_tokens(&usual, word, 1050) == 30.5, "halves can be seen");
}

static void
test_configs(void)
{
	rsl_bucket_config config = {.per_second = 10,.deposit_milli = 0,.capacity = 0};
	uint64_t	word = rsl_bucket_full(&config, 0);

	is(take_all(&config, &word, YEAR_MS), 0, "no capacity, no retries");

	config.capacity = 1;
	word = rsl_bucket_full(&config, 0);
	is(take_all(&config, &word, 0), 1, "a capacity of one");
	word = rsl_bucket_deposit(&config, word, 0);
	is(take_all(&config, &word, 0), 0, "a deposit of nothing");

	config.deposit_milli = 999;
	word = rsl_bucket_deposit(&config, word, 0);
	is(take_all(&config, &word, 0), 0, "a thousandth less than a token");
	config.deposit_milli = 1;
	word = rsl_bucket_deposit(&config, word, 0);
	is(take_all(&config, &word, 0), 1, "exactly a token");

	/* 2^33 ms at this rate are 2^64 thousandths */
	config.per_second = UINT32_C(1) << 31;
	ok(rsl_bucket_tokens(&config, word, INT64_C(1) << 33) == 1.0, "a product beyond 64 bits");

	config.capacity = UINT32_MAX;
	config.per_second = UINT32_MAX;
	config.deposit_milli = UINT32_MAX;
	word = rsl_bucket_full(&config, 0);
	ok(rsl_bucket_tokens(&config, word, 0) == 268435.455, "the largest capacity");
	is(take_all(&config, &word, 0), 268435, "all of it");
	word = rsl_bucket_deposit(&config, word, 0);
	is(take_all(&config, &word, 0), 268435, "the largest deposit");
	is(take_all(&config, &word, 1), 268435, "the largest rate");
	is(take_all(&config, &word, YEAR_MS), 268435, "over the longest time");

	/* the configuration shrinks under a full word */
	word = rsl_bucket_full(&usual, 0);
	config = usual;
	config.capacity = 7;
	ok(rsl_bucket_tokens(&config, word, 0) == 7.0, "a lowered capacity holds at once");
	is(take_all(&config, &word, 0), 7, "for retries, too");
}

/* Where the fields of the word are full or begin again. */
static void
test_time(void)
{
	static const int64_t edges[] = {
		0, INT64_C(1) << 31, INT64_C(1) << 32, INT64_C(1) << 35, WRAP_MS,
		5 * WRAP_MS, INT64_MAX - 2 * YEAR_MS
	};
	static const int64_t gaps[] = {
		1, 50, 99, 100, 9999, 10000, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1,
		INT64_C(1) << 31, INT64_C(1) << 32, (INT64_C(1) << 32) + 5,
		INT64_C(1) << 35, (INT64_C(1) << 35) + 1, 2 * YEAR_MS
	};

	for (int e = 0; e < (int) (sizeof(edges) / sizeof(edges[0])); e++)
	{
		for (int g = 0; g < (int) (sizeof(gaps) / sizeof(gaps[0])); g++)
		{
			for (int64_t before = 0; before <= 200; before++)
			{
				int64_t		start = edges[e] >= before ? edges[e] - before : 0;
				uint64_t	word = rsl_bucket_full(&usual, start);
				int64_t		due = gaps[g] / 100 < 100 ? gaps[g] / 100 : 100;

				for (int i = 0; i < 100; i++)
					check(take(&usual, &word, start), "%d of 100", i);
				check(fabs(rsl_bucket_tokens(&usual, word, start)) < 1e-9, "empty");
				for (int i = 0; i < due; i++)
					check(take(&usual, &word, start + gaps[g]),
						  "%lld + %lld: no token %d", (long long) start, (long long) gaps[g], i);
				check(!take(&usual, &word, start + gaps[g]), "%lld + %lld: one too many",
					  (long long) start, (long long) gaps[g]);
			}
		}
	}
	check_done("the time field may wrap anywhere");
}

/*
 * Processes look at the clock, and are put aside before they change the word.
 */
static void
test_stragglers(void)
{
	uint64_t	word = rsl_bucket_full(&usual, 100000);
	uint64_t	word2;

	is(take_all(&usual, &word, 100000), 100, "empty at 100 s");
	word2 = rsl_bucket_deposit(&usual, word, 99000);
	ok(rsl_bucket_tokens(&usual, word2, 99000) == 0.2, "a time before brings nothing");
	ok(rsl_bucket_tokens(&usual, word2, 100000) == 0.2,
	   "nor does the time between, for a second time");
	word2 = rsl_bucket_full(&usual, 100000);
	ok(take(&usual, &word2, 99000) && rsl_bucket_tokens(&usual, word2, 100000) == 99.0,
	   "a late retry does not set the time back");
	ok(rsl_bucket_tokens(&usual, word, 100000 - HOUR_MS) == 0.0, "an hour late is late");

	/* back to zero and below: the clock's start */
	word = rsl_bucket_full(&usual, 10);
	take_all(&usual, &word, 10);
	ok(rsl_bucket_tokens(&usual, word, 0) == 0.0, "late at the begin of time");

	/* what cannot be told from a straggler ends after an hour */
	word = rsl_bucket_full(&usual, 1000);
	take_all(&usual, &word, 1000);
	ok(rsl_bucket_tokens(&usual, word, 1000 + WRAP_MS - HOUR_MS - 1) == 100.0,
	   "two years later it is full");
	ok(rsl_bucket_tokens(&usual, word, 1000 + WRAP_MS - 5) == 0.0,
	   "in the last hour of the wrap nothing comes");
	ok(rsl_bucket_tokens(&usual, word, 1000 + WRAP_MS + 5000) == 50.0, "after it time goes on");
}

/* The same, with tokens and time in variables of their own. */
static void
test_model(void)
{
	random_source source = {31337};

	for (int life = 0; life < 200; life++)
	{
		rsl_bucket_config config = {
			.per_second = random_below(&source, 50),
			.deposit_milli = random_below(&source, 1500),
			.capacity = random_below(&source, 200)
		};
		int64_t		now = (int64_t) (random_bits(&source) >> (20 + random_below(&source, 40)));
		int64_t		latest = now;
		int64_t		milli = (int64_t) config.capacity * 1000;
		uint64_t	word = rsl_bucket_full(&config, now);
		double		mean = 1 + random_below(&source, 1000);

		for (int i = 0; i < 5000; i++)
		{
			int64_t		seen;
			int64_t		after;
			int64_t		largest = (int64_t) config.capacity * 1000;

			now += random_duration(&source, mean) - 1;
			if (random_below(&source, 500) == 0)
				now += (int64_t) (random_double(&source) * (double) YEAR_MS);
			seen = now;
			if (random_below(&source, 3) == 0)
				seen -= random_below(&source, random_below(&source, 5) == 0 ? 3000000 : 1000);
			if (seen < 0)
				seen = 0;

			/* what it would be; a refusal leaves it as it was */
			after = milli;
			if (seen > latest)
			{
				double		all = (double) milli + (double) (seen - latest) * config.per_second;

				after = all > (double) largest ? largest : (int64_t) all;
			}
			check(fabs(rsl_bucket_tokens(&config, word, seen) - (double) after / 1000) < 1e-9,
				  "life %d, step %d: %.3f, not %.3f", life, i,
				  rsl_bucket_tokens(&config, word, seen), (double) after / 1000);
			if (random_below(&source, 2) == 0)
			{
				word = rsl_bucket_deposit(&config, word, seen);
				after += config.deposit_milli;
				after = after > largest ? largest : after;
			}
			else
			{
				check(take(&config, &word, seen) == (after >= 1000), "life %d, step %d", life, i);
				if (after < 1000)
					continue;
				after -= 1000;
			}
			milli = after;
			latest = seen > latest ? seen : latest;
		}
	}
	check_done("a million random steps, word and model alike");
}

/*
 * The promise.  Every call fails, every failure wants to be repeated without
 * end.  Between any two moments there are no more retries than 20 % of the
 * first attempts between them, 10 per second and the capacity; and the
 * budget is used, or else it would be easy.  In every other trace some
 * processes are late: a full bucket may not have noticed time that has passed,
 * and gives what came in it on top.
 */
static void
test_promise(void)
{
	random_source source = {161803};

	for (int trace = 0; trace < 20; trace++)
	{
		int64_t		now = trace < 10 ? WRAP_MS - 50000 : random_below(&source, 1000000);
		int64_t		start = now;
		uint64_t	word = rsl_bucket_full(&usual, now);
		int64_t		firsts = 0;
		int64_t		retries = 0;
		int64_t		lowest = 0; /* of retries minus what is allowed, in milli */
		double		mean = trace % 5 == 0 ? 1000 : 0.5 * (trace % 5);
		int			late = trace % 2 == 0 ? 0 : LATE_MS;

		for (int i = 0; i < 100000; i++)
		{
			int64_t		balance;
			int64_t		seen;

			now += (int64_t) (-log(1.0 - random_double(&source)) * mean);
			if (random_below(&source, 10000) == 0)
				now += random_below(&source, 20000);
			seen = now - (late > 0 && random_below(&source, 5) == 0 ? random_below(&source, late) : 0);
			if (seen < start)
				seen = start;

			word = rsl_bucket_deposit(&usual, word, seen);
			firsts++;
			balance = retries * 1000 - firsts * 200 - (now - start) * 10;
			lowest = balance < lowest ? balance : lowest;
			for (int r = 0; r < 200 && take(&usual, &word, seen); r++)
				retries++;
			balance = retries * 1000 - firsts * 200 - (now - start) * 10;

			/* the deposit of this moment is before the lowest point */
			check(balance - lowest <= 100 * 1000 + 200 + late * 10, "trace %d, step %d: %lld retries",
				  trace, i, (long long) retries);
		}
		check(retries >= 100 && retries * 1000 >= (firsts * 200 + (now - start) * 10) * 9 / 10,
			  "trace %d: only %lld retries of %lld", trace, (long long) retries, (long long) firsts);
		if (trace == 1)
			diag("%lld first attempts in %lld s: %lld retries", (long long) firsts,
				 (long long) (now - start) / 1000, (long long) retries);
	}
	check_done("retries are at most 20 %, 10 per second and the capacity");
}

int
main(void)
{
	test_steps();
	test_configs();
	test_time();
	test_stragglers();
	test_model();
	test_promise();
	return done_testing();
}
