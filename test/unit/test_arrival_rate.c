/*-------------------------------------------------------------------------
 *
 * test_arrival_rate.c
 *		Unit tests of core/arrival_rate: burst, waits, refusals, changes of
 *		the rate, and storms.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/arrival_rate.h"

#define SECOND		INT64_C(1000000)
#define MILLISECOND INT64_C(1000)

/* some time after the machine's start */
#define START		(INT64_C(123456) * SECOND + 789)

static uint64_t word;

/* -1 = refused; otherwise the wait in microseconds */
static int64_t
arrive(double rate, int64_t max_wait, int64_t now)
{
	uint64_t	next = 42;
	int64_t		wait = -42;

	if (!rsl_arrival_reserve(rate, max_wait, word, now, &next, &wait))
	{
		check(next == 42, "a refusal changes the word");
		check(wait > max_wait, "it says %lld", (long long) wait);
		return -1;
	}
	check(wait >= 0 && wait <= max_wait, "it waits for %lld", (long long) wait);
	word = next;
	return wait;
}

static void
test_burst(void)
{
	static const double rates[] = {0.001, 0.5, 1, 1.5, 2, 10, 100, 2500.5, 1e6};

	for (int i = 0; i < (int) (sizeof(rates) / sizeof(rates[0])); i++)
	{
		double		rate = rates[i];
		int			burst = rate < 1 ? 1 : (int) floor(rate + 1e-9);
		int			n = 0;

		word = 0;
		while (arrive(rate, 0, START) == 0 && n <= 2000000)
			n++;
		check(n == burst, "%g per second: a burst of %d", rate, n);

		/* and then one for each interval */
		check(arrive(rate, 0, START + rsl_arrival_interval(rate) - 1) == -1 ||
			  rate != floor(rate), "%g: early", rate);
		check(arrive(rate, 0, START + rsl_arrival_interval(rate)) == 0 ||
			  rate != floor(rate), "%g: due", rate);

		/* a long pause gives one burst, not two */
		n = 0;
		while (arrive(rate, 0, START + INT64_C(3600000000)) == 0 && n <= 2000000)
			n++;
		check(n == burst, "%g per second: %d after a pause", rate, n);
	}
	check_done("a burst is one second's worth, at least one");

	word = 0;
	is(rsl_arrival_interval(1e9), 1, "the shortest interval");
	ok(rsl_arrival_interval(1e-300) > 0, "the longest one does not overflow");
	is(arrive(1e-300, SECOND, START), 0, "at the lowest rate one may come");
	is(arrive(1e-300, SECOND, START + 1000 * SECOND), -1, "and then none");
	check_done("of a refusal nothing stays");
}

static void
test_waits(void)
{
	word = 0;
	/* 10 per second, up to half a second */
	for (int i = 0; i < 10; i++)
		check(arrive(10, SECOND / 2, START) == 0, "%d", i);
	check_done("ten of the burst need not wait");
	for (int i = 1; i <= 5; i++)
	{
		int64_t		wait = arrive(10, SECOND / 2, START);

		check(wait == i * 100 * MILLISECOND, "%d waits for %lld", i, (long long) wait);
		check(rsl_arrivals_waiting(10, word, START) == i, "%d: %lld wait", i,
			  (long long) rsl_arrivals_waiting(10, word, START));
	}
	check_done("five wait for 100 to 500 ms");
	is(arrive(10, SECOND / 2, START), -1, "the next one is refused");
	is(arrive(10, SECOND / 2, START + 100 * MILLISECOND - 1), -1, "so is one a bit later");
	is(rsl_arrivals_waiting(10, word, START + 250 * MILLISECOND), 3, "two have come in meanwhile");
	is(arrive(10, SECOND / 2, START + 100 * MILLISECOND), SECOND / 2, "then there is a place");
	word = rsl_arrival_give_back(10, word);
	is(arrive(10, SECOND / 2, START + 100 * MILLISECOND), SECOND / 2, "one that was given back is there again");
	is(rsl_arrivals_waiting(10, word, START + 600 * MILLISECOND), 0, "in the end nobody waits");
	is(rsl_arrival_give_back(10, 5), 0, "giving back does not wrap around");
	is(rsl_arrivals_waiting(10, 0, START), 0, "nobody has come, nobody waits");
	check_done("waits are within the bound");
}

static void
test_changes(void)
{
	/* once in a hundred seconds, with a long wait, then a high rate */
	word = 0;
	arrive(0.01, 60 * SECOND, START);
	is(arrive(0.01, 60 * SECOND, START), -1, "once in 100 s: not the second one");
	arrive(0.01, 60 * SECOND, START + 40 * SECOND);
	is(arrive(100, SECOND / 2, START + 40 * SECOND), 0, "a higher rate is in force at once");
	is(arrive(100, SECOND / 2, START + 40 * SECOND), 10 * MILLISECOND, "without a burst");
	is(arrive(100, SECOND / 2, START + 41 * SECOND), 0, "no memory of the lower one stays");

	/* from high to low */
	word = 0;
	for (int i = 0; i < 1000; i++)
		arrive(1000, SECOND, START);
	is(arrive(1, SECOND / 2, START), -1, "a lower rate: after a burst of 1000 nobody");
	is(arrive(1, SECOND / 2, START + SECOND), 0, "then one each second");
	is(arrive(1, SECOND / 2, START + SECOND), -1, "and no more");

	/* a process that was put aside after it looked at the clock */
	word = 0;
	for (int i = 0; i < 10; i++)
		arrive(10, SECOND, START);
	is(arrive(10, SECOND, START - 100 * MILLISECOND), 200 * MILLISECOND, "a clock that is behind makes nothing free");
	check_done("waits are within the bound");
}

/*
 * A storm: clients connect, are refused, come again.  In any window there
 * are at most window x rate + burst, and never more than rate x wait sleep.
 */
static void
test_storm(void)
{
	static const double rates[] = {0.7, 3, 50, 400};
	random_source source = {4711};

	for (int r = 0; r < 4; r++)
	{
		double		rate = rates[r];
		int64_t		max_wait = SECOND / 2;
		int64_t		end = 60 * SECOND;
		int64_t    *in = malloc(sizeof(int64_t) * 100000);
		int			n = 0;
		int			refused = 0;
		int64_t		most = 0;

		word = 0;
		for (int64_t t = 0; t < end; t += random_duration(&source, SECOND / (rate * 20)))
		{
			int64_t		wait = arrive(rate, max_wait, START + t);

			if (wait < 0)
				refused++;
			else
				in[n++] = t + wait;
			if (rsl_arrivals_waiting(rate, word, START + t) > most)
				most = rsl_arrivals_waiting(rate, word, START + t);
		}
		for (int i = 0; i < n; i++)
		{
			int64_t		window = 5 * SECOND;
			int			j = i;

			check(i == 0 || in[i] >= in[i - 1], "in order");
			while (j < n && in[j] < in[i] + window)
				j++;
			check(j - i <= 5 * rate + (rate < 1 ? 1 : rate) + 1, "%g: %d in 5 s", rate, j - i);
		}
		check(most <= ceil(rate * 0.5), "%g: %lld wait", rate, (long long) most);
		check(n >= 60 * rate - 1, "%g: only %d in 60 s", rate, n);
		check(refused > n, "%g: %d refused", rate, refused);
		diag("%g per second: %d in 60 s, %d refused, at most %lld wait", rate, n, refused, (long long) most);
		free(in);
	}
	check_done("storms of twenty times the rate: rate, burst and number of waiters hold");
}

int
main(void)
{
	test_burst();
	test_waits();
	test_changes();
	test_storm();
	return done_testing();
}
