/*-------------------------------------------------------------------------
 *
 * test_hysteresis.c
 *		Unit tests of core/hysteresis: when it leaves, when it returns, and
 *		that it does not flutter, on a simulated clock.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <limits.h>

#include "core/hysteresis.h"

#define SECOND		INT64_C(1000000)

/*
 * Play a sequence, one character each second: g and b are looks, . is a
 * second without one, t trips, others are skipped.  Returns what it was after
 * each: B or a dot.
 */
static const char *
play(const rsl_hysteresis_config *config, const char *looks)
{
	static char result[200];
	rsl_hysteresis state = {0};
	int64_t		now = 1000 * SECOND;
	size_t		n = 0;

	for (; *looks; looks++)
	{
		bool		before = state.is_bad;
		bool		changed;

		if (*looks == ' ')
			continue;
		now += SECOND;
		if (*looks == 'g' || *looks == 'b')
			changed = rsl_hysteresis_look(&state, config, *looks == 'g', now);
		else if (*looks == 't')
			changed = rsl_hysteresis_trip(&state, now);
		else
			changed = rsl_hysteresis_settle(&state, config, now);
		check(changed == (before != state.is_bad), "return value at %zu", n);
		check(!changed || state.since_us == now, "since at %zu", n);
		check(state.bad == 0 || state.good == 0, "counts at %zu", n);
		result[n++] = state.is_bad ? 'B' : '.';
	}
	result[n] = '\0';
	return result;
}

static void
test_sequences(void)
{
	static const struct
	{
		int			failures;
		int			successes;
		int			seconds;
		const char *looks;
		const char *expected;
		const char *name;
	}			cases[] =
	{
		{3, 2, 0, "g b b g b b b g b g g g", "......BBBB..", "three bad in a row leave, two good return"},
		{3, 2, 0, "b b b", "..B", "from the start"},
		{3, 2, 0, "b b . . . b", ".....B", "time without looks changes nothing"},
		{1, 1, 0, "b g b g", "B.B.", "thresholds of one"},
		{0, 0, 0, "b g b g", "B.B.", "less than one counts as one"},
		{INT_MIN, INT_MIN, 0, "b g", "B.", "however much less"},
		{2, 3, 5, "b b g g g g g g g", ".BBBBB...", "enough good looks wait for the time"},
		{2, 3, 5, "b b g g g . . .", ".BBBBB..", "and the return needs no other look"},
		{2, 3, 5, "b b . . . . . . . g g g", ".BBBBBBBBBB.", "enough time waits for the good looks"},
		{2, 3, 5, "b b g g g b . . . . . .", ".BBBBBBBBBBB", "a bad look while it waits takes them back"},
		{2, 3, 5, "b b g g g b . . g g g", ".BBBBBBBBB.", "they count anew, the time does not"},
		{5, 1, 3, "t . . g", "BBB.", "a trip asks for no threshold"},
		{5, 2, 0, "t t t g t g g", "BBBBBB.", "each trip takes the good looks back"},
		{5, 5, 0, "g g g g g g g b b b b g", "............", "four of five bad ones do not leave"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		rsl_hysteresis_config config = {cases[i].failures, cases[i].successes,
		cases[i].seconds * SECOND};
		const char *got = play(&config, cases[i].looks);

		if (!ok(strcmp(got, cases[i].expected) == 0, "%s", cases[i].name))
			diag("got %s expected %s", got, cases[i].expected);
	}
	check_done("what is returned, since when, and one count at a time");
}

/* Counts do not wrap, however long it lasts. */
static void
test_saturation(void)
{
	rsl_hysteresis_config config = {1, INT_MAX, 0};
	rsl_hysteresis state = {.good = UINT32_MAX - 1};

	for (int i = 0; i < 3; i++)
		rsl_hysteresis_look(&state, &config, true, i);
	ok(state.good == UINT32_MAX, "good looks are counted up to a limit");
	state.good = 0;
	state.bad = UINT32_MAX - 1;
	for (int i = 0; i < 3; i++)
		rsl_hysteresis_trip(&state, i);
	ok(state.bad == UINT32_MAX && state.is_bad, "and so are bad ones");
}

/*
 * A check that fails at random, looked at for a day of seconds.  With the
 * defaults it changes at most twice in the time that it has to stay bad, and
 * never against the looks before.
 */
static void
test_random(void)
{
	rsl_hysteresis_config config = {3, 5, 30 * SECOND};
	random_source source = {88172645463325252};

	for (int share = 1; share < 10; share++)
	{
		rsl_hysteresis state = {0};
		int			changes = 0;
		int			in_a_row = 0;
		bool		last = true;
		int64_t		left = 0;

		for (int64_t now = SECOND; now < 86400 * SECOND; now += SECOND)
		{
			bool		good = random_below(&source, 10) >= share;

			in_a_row = good == last ? in_a_row + 1 : 1;
			last = good;
			if (!rsl_hysteresis_look(&state, &config, good, now))
				continue;
			changes++;
			if (state.is_bad)
			{
				check(!good && in_a_row >= 3, "left after %d bad", in_a_row);
				left = now;
			}
			else
			{
				check(good && in_a_row >= 5, "returned after %d good", in_a_row);
				check(now - left >= 30 * SECOND, "returned after %lld us",
					  (long long) (now - left));
			}
		}
		check(changes <= 2 * 86400 / 30, "%d changes with %d/10 bad", changes, share);
		check(share > 7 || changes > 0, "%d changes with %d/10 bad", changes, share);
	}
	check_done("a day of random looks");
}

int
main(void)
{
	test_sequences();
	test_saturation();
	test_random();
	return done_testing();
}
