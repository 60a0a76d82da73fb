/*-------------------------------------------------------------------------
 *
 * test_xid_clock.c
 *		Unit tests of core/xid_clock: what is not known, single steps, and how
 *		exact it is over minutes and weeks.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/xid_clock.h"

#define SECOND	INT64_C(1000000)

static void
test_steps(void)
{
	rsl_xid_clock clock = {0};

	is(rsl_xid_clock_age(&clock, 100 * SECOND, 5), 0, "nothing is known at first");
	rsl_xid_clock_note(&clock, 100 * SECOND, 1000);
	is(rsl_xid_clock_age(&clock, 160 * SECOND, 999), 60 * SECOND, "an id that was given out then");
	is(rsl_xid_clock_age(&clock, 160 * SECOND, 1000), 0, "one that was not");
	is(rsl_xid_clock_age(&clock, 160 * SECOND, 3), 60 * SECOND, "an old one: at least since the first look");
	rsl_xid_clock_note(&clock, 160 * SECOND, 2000);
	is(rsl_xid_clock_age(&clock, 200 * SECOND, 1500), 40 * SECOND, "between two looks");
	is(rsl_xid_clock_age(&clock, 200 * SECOND, 999), 100 * SECOND, "before both");
	rsl_xid_clock_note(&clock, 160 * SECOND + 1, 3000);
	is(rsl_xid_clock_age(&clock, 200 * SECOND, 2500), 0, "a look too soon after another is not kept");
}

/*
 * Ids are given out at a steady rate.  One look every "spacing", for "length";
 * then the age of ids of all ages.
 */
static void
test_exactness(int64_t spacing, int64_t length, const char *name)
{
	rsl_xid_clock clock = {0};
	int64_t		now = 7 * SECOND;
	double		worst = 1;

	for (int64_t t = 0; t <= length; t += spacing)
		rsl_xid_clock_note(&clock, now + t, (uint64_t) (t / 1000));
	for (int64_t age = 20 * spacing; age < length; age += age / 10 + 1)
	{
		int64_t		told = rsl_xid_clock_age(&clock, now + length,
											 (uint64_t) ((length - age) / 1000));

		check(told <= age, "age " "%lld told as %lld", (long long) age, (long long) told);
		if ((double) told / (double) age < worst)
			worst = (double) told / (double) age;
	}
	check_done(name);
	ok(worst >= 0.5 - 0.06, "%s: never less than about half (%.2f)", name, worst);
}

int
main(void)
{
	test_steps();
	test_exactness(SECOND, 3600 * SECOND, "a look a second, an hour");
	test_exactness(10 * SECOND, 14 * 86400 * SECOND, "one every 10 s, two weeks");
	test_exactness(3 * SECOND / 2, 6 * 3600 * SECOND, "one every 1.5 s, six hours");
	return done_testing();
}
