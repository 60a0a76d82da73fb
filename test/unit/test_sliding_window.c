/*-------------------------------------------------------------------------
 *
 * test_sliding_window.c
 *		Unit tests of core/sliding_window: edges of the time slices, reuse of
 *		buckets, and long random lives against a list of all calls.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/sliding_window.h"

/* the longest list of calls that the naive window keeps */
#define MOST_CALLS	4000

static const rsl_window_counts a_call = {1, 0, 0};

static uint32_t
calls_at(const rsl_sliding_window *window, int64_t now_us)
{
	rsl_window_counts sum;

	rsl_window_sum(window, now_us, &sum);
	return sum.calls;
}

/* A window of 10 slices of 100: one call at each time, the sum at each other. */
static void
test_edges(void)
{
	static const struct
	{
		int64_t		call;
		int64_t		look;
		uint32_t	expected;
		const char *name;
	}			cases[] =
	{
		{1, 1, 1, "the first microsecond"},
		{1, 99, 1, "the end of the first slice"},
		{99, 999, 1, "the tenth slice still has the first"},
		{99, 1000, 0, "the eleventh does not"},
		{0, 999, 1, "the begin of time counts as long"},
		{0, 1000, 0, "and no longer"},
		{1000, 1000, 1, "the begin of a slice"},
		{1000, 1999, 1, "is in the window for a whole one"},
		{1000, 2000, 0, "and then out of it"},
		{1099, 1999, 1, "the end of a slice for nine tenths"},
		{1099, 2000, 0, "and then out of it, too"},
		{1100, 2000, 1, "the next slice stays"},
		{1100, 2099, 1, "for as long"},
		{1100, 2100, 0, "and goes"},
		{5555, INT64_MAX, 0, "the end of time"},
		{INT64_MAX, INT64_MAX, 1, "a call at the end of time"},
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		rsl_sliding_window window;

		rsl_window_init(&window, 1000);
		rsl_window_add(&window, cases[i].call, &a_call);
		is(calls_at(&window, cases[i].look), cases[i].expected, cases[i].name);
	}
}

static void
test_counts(void)
{
	rsl_sliding_window window;
	rsl_sliding_window before;
	rsl_window_counts sum;
	rsl_window_counts much = {UINT32_MAX - 1, UINT32_MAX - 1, UINT32_MAX - 1};
	rsl_window_counts some = {5, 3, 2};

	rsl_window_init(&window, 1000);
	rsl_window_sum(&window, 50, &sum);
	ok(sum.calls == 0 && sum.failures == 0 && sum.slow == 0, "empty at first");

	rsl_window_add(&window, 50, &some);
	is(window.newest, 1, "a slice that was counted has a number, also the first");
	rsl_window_add(&window, 60, &some);
	rsl_window_add(&window, 450, &some);
	rsl_window_sum(&window, 450, &sum);
	ok(sum.calls == 15 && sum.failures == 9 && sum.slow == 6,
	   "calls, failures and slow calls, in one slice and in two");

	before = window;
	rsl_window_sum(&window, 100000, &sum);
	ok(sum.calls == 0 && memcmp(&before, &window, sizeof(window)) == 0,
	   "looking forgets nothing");
	is(calls_at(&window, 450), 15, "all is still there");

	is(calls_at(&window, 399), 10, "what is still to come does not count");
	is(calls_at(&window, 400), 15, "from the begin of its slice it does");

	/* the bucket of 450, one round later */
	rsl_window_add(&window, 1450, &a_call);
	rsl_window_sum(&window, 1450, &sum);
	ok(sum.calls == 1 && sum.failures == 0 && sum.slow == 0,
	   "a reused bucket starts from zero");
	rsl_window_add(&window, 450, &a_call);
	is(calls_at(&window, 1450), 1, "who comes a round too late is not counted");
	rsl_window_add(&window, 550, &a_call);
	is(calls_at(&window, 1450), 2, "who comes nine slices late is");
	rsl_window_add(&window, 1450 + 7 * 1000, &a_call);
	is(calls_at(&window, 1450 + 7 * 1000), 1, "also many rounds later");

	rsl_window_init(&window, 1000);
	is(calls_at(&window, 1450 + 7 * 1000), 0, "a restarted window is empty");

	rsl_window_add(&window, 50, &much);
	rsl_window_add(&window, 50, &a_call);
	is(calls_at(&window, 50), UINT32_MAX, "the last number");
	rsl_window_add(&window, 50, &some);
	rsl_window_add(&window, 150, &some);
	rsl_window_sum(&window, 150, &sum);
	ok(sum.calls == UINT32_MAX && sum.failures == UINT32_MAX &&
	   sum.slow == UINT32_MAX, "counts stay at their largest value");
}

static void
test_lengths(void)
{
	rsl_sliding_window window;

	rsl_window_init(&window, 10000000);
	is(window.bucket_us, 1000000, "10 s are slices of 1 s");
	rsl_window_init(&window, 19);
	is(window.bucket_us, 1, "19 us are slices of 1 us");
	rsl_window_init(&window, 0);
	is(window.bucket_us, 1, "no length is the shortest");
	rsl_window_add(&window, INT64_MAX, &a_call);
	is(calls_at(&window, INT64_MAX), 1, "slices of 1 us at the end of time");
	rsl_window_init(&window, INT64_MAX);
	rsl_window_add(&window, 1, &a_call);
	is(calls_at(&window, INT64_MAX / 2), 1, "the longest window");
}

/* All calls ever, as far as they could matter. */
typedef struct
{
	int64_t		at[MOST_CALLS];
	bool		failed[MOST_CALLS];
	bool		slow[MOST_CALLS];
	int			n;
} call_list;

static void
remember(call_list *list, int64_t at, bool failed, bool slow)
{
	if (list->n == MOST_CALLS)
	{
		memmove(list->at, list->at + 1, sizeof(list->at) - sizeof(list->at[0]));
		memmove(list->failed, list->failed + 1, sizeof(list->failed) - sizeof(bool));
		memmove(list->slow, list->slow + 1, sizeof(list->slow) - sizeof(bool));
		list->n--;
	}
	list->at[list->n] = at;
	list->failed[list->n] = failed;
	list->slow[list->n] = slow;
	list->n++;
}

/* Calls that began at or after a time. */
static rsl_window_counts
since(const call_list *list, int64_t from)
{
	rsl_window_counts sum = {0, 0, 0};

	for (int i = list->n - 1; i >= 0 && list->at[i] >= from; i--)
	{
		sum.calls++;
		sum.failures += list->failed[i];
		sum.slow += list->slow[i];
	}
	return sum;
}

static void
test_random(void)
{
	static call_list list;
	random_source source = {20261124};

	for (int life = 0; life < 60; life++)
	{
		rsl_sliding_window window;
		int64_t		duration = 10 * (1 + (int64_t) random_below(&source, life % 3 == 0 ? 20 : 1000000));
		int64_t		slice = duration / 10;
		int64_t		now = 1 + random_below(&source, 1000000);
		double		mean = (double) slice / (1 + random_below(&source, 20));

		list.n = 0;
		rsl_window_init(&window, duration);
		for (int i = 0; i < 5000; i++)
		{
			rsl_window_counts sum;
			rsl_window_counts expected;

			switch (random_below(&source, 40))
			{
				case 0:			/* exactly the begin of a slice */
					now = (now / slice + 1) * slice;
					break;
				case 1:			/* its last moment */
					now = (now / slice + 1) * slice - 1;
					break;
				case 2:			/* rounds later */
					now += random_below(&source, 4) * duration;
					break;
				case 3:			/* one slice less or more than a round */
					now += duration + ((int64_t) random_below(&source, 3) - 1) * slice;
					break;
				default:
					now += random_duration(&source, mean) - 1;
			}
			if (random_below(&source, 4) != 0)
			{
				rsl_window_counts one = {1, random_below(&source, 2), random_below(&source, 2)};

				rsl_window_add(&window, now, &one);
				remember(&list, now, one.failures > 0, one.slow > 0);
			}
			rsl_window_sum(&window, now, &sum);

			/* this slice and the nine before */
			expected = since(&list, now - now % slice - 9 * slice);
			check(memcmp(&sum, &expected, sizeof(sum)) == 0,
				  "life %d, step %d: %u calls, not %u", life, i, sum.calls, expected.calls);

			/* what a user may rely upon, whatever the slices are */
			check(sum.calls >= since(&list, now - 9 * slice).calls &&
				  sum.calls <= since(&list, now - duration + 1).calls,
				  "life %d, step %d: not nine to ten tenths", life, i);
		}
	}
	check_done("random lives of a window, like a list of all calls");
}

int
main(void)
{
	test_edges();
	test_counts();
	test_lengths();
	test_random();
	return done_testing();
}
