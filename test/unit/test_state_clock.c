/*-------------------------------------------------------------------------
 *
 * test_state_clock.c
 *		Unit tests of core/state_clock and core/buckets.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/buckets.h"
#include "core/state_clock.h"

static void
test_clock(void)
{
	rsl_state_clock c;
	int64_t		flapping = 0;

	rsl_state_clock_begin(&c, 0, 1000);
	is(rsl_state_clock_total(&c, 0, 1500), 500, "the present state's time goes on");
	is(rsl_state_clock_total(&c, 1, 1500), 0, "no other's does");
	is(c.entered[0], 0, "the first state is no transition");
	is(rsl_state_clock_move(&c, 2, 3000), 2000, "a state that is left tells how long it was");
	is(rsl_state_clock_move(&c, 2, 4000), 0, "the same state is none");
	is(c.entered[2], 1, "each transition is counted once");
	is(rsl_state_clock_total(&c, 2, 5000), 2000, "time since it was entered, not since it was said again");
	rsl_state_clock_move(&c, 0, 5000);
	is(rsl_state_clock_total(&c, 0, 6000), 3000, "times of one state add up");
	is(rsl_state_clock_total(&c, 2, 6000), 2000, "one that is over stays");

	/* shorter than any scrape */
	for (int i = 0; i < 1000; i++)
	{
		rsl_state_clock_move(&c, 1, 10000 + 2 * i);
		rsl_state_clock_move(&c, 0, 10000 + 2 * i + 1);
		flapping++;
	}
	is(c.entered[1], flapping, "flapping is counted");
	is(rsl_state_clock_total(&c, 1, 20000), 1000, "and its time");
	is(rsl_state_clock_total(&c, 0, 11999) + rsl_state_clock_total(&c, 1, 11999) +
	   rsl_state_clock_total(&c, 2, 11999), 11999 - 1000, "all states together are the time that has passed");
	is(rsl_state_clock_move(&c, 1, 5), 0, "a clock that goes back takes no time");
	is(rsl_state_clock_move(&c, 9, 50000), 0, "there is no such state");

	memset(&c, 0, sizeof(c));
	is(rsl_state_clock_move(&c, 1, 100), 0, "one that was never begun begins");
	is(c.entered[1], 0, "without a transition");
	is(rsl_state_clock_total(&c, 1, 150), 50, "and its time runs");
}

static void
test_buckets(void)
{
	is(rsl_bucket_of(&rsl_wait_buckets, 0), 0, "nothing is in the first bucket");
	is(rsl_bucket_of(&rsl_wait_buckets, 5000), 0, "a bound belongs to its bucket");
	is(rsl_bucket_of(&rsl_wait_buckets, 5001), 1, "what is beyond it does not");
	is(rsl_bucket_of(&rsl_wait_buckets, 10000000), RSL_BUCKET_BOUNDS - 1, "the last bound");
	is(rsl_bucket_of(&rsl_wait_buckets, 10000001), RSL_BUCKET_BOUNDS, "beyond all");
	is(rsl_bucket_of(&rsl_recovery_buckets, INT64_MAX), RSL_BUCKET_BOUNDS, "far beyond");
	for (int b = 0; b < RSL_BUCKET_BOUNDS; b++)
	{
		check(rsl_bucket_of(&rsl_wait_buckets, (int64_t) (rsl_wait_buckets.seconds[b] * 1e6 + 0.5)) == b, "wait bound %d", b);
		check(rsl_bucket_of(&rsl_recovery_buckets, (int64_t) (rsl_recovery_buckets.seconds[b] * 1e6 + 0.5)) == b, "recovery bound %d", b);
	}
	check_done("each bound is in its own bucket");
}

int
main(void)
{
	test_clock();
	test_buckets();
	return done_testing();
}
