/*-------------------------------------------------------------------------
 *
 * test_event_fold.c
 *		At most one of an object's events in each period.
 *
 *-------------------------------------------------------------------------
 */
#include "core/event_fold.h"
#include "tap.h"

#define PERIOD	1000

static rsl_fold fold;

static bool
due_is(int64_t now, uint64_t event, uint32_t others)
{
	uint64_t	got_event = 0;
	uint32_t	got_others = 0;

	return rsl_fold_due(&fold, now, &got_event, &got_others) &&
		got_event == event && got_others == others;
}

static bool
nothing_due(int64_t now)
{
	uint64_t	event;
	uint32_t	others;

	return !rsl_fold_due(&fold, now, &event, &others);
}

static void
test_one(void)
{
	rsl_fold_init(&fold, PERIOD);
	ok(nothing_due(0), "nothing is due at first");
	ok(rsl_fold_add(&fold, 7, 1, 0), "the first is told at once");
	ok(nothing_due(2000), "once");
	ok(rsl_fold_add(&fold, 7, 2, 2000), "and one that comes later");
	ok(!rsl_fold_add(&fold, 7, 3, 2001), "another is held back");
	ok(!rsl_fold_add(&fold, 7, 4, 2500), "and another");
	ok(rsl_fold_add(&fold, 8, 5, 2500), "another object has its own time");
	ok(nothing_due(2999), "until the period is over");
	ok(!rsl_fold_add(&fold, 7, 6, 3100), "what is held back goes before a new one");
	ok(due_is(3100, 6, 2), "the newest stands for all");
	ok(nothing_due(3100), "and that is all");
	ok(!rsl_fold_add(&fold, 7, 7, 4099), "another period has begun");
	ok(due_is(4100, 7, 0), "alone");
	ok(rsl_fold_add(&fold, 7, 8, 5100), "quiet again");
}

static void
test_order(void)
{
	rsl_fold_init(&fold, PERIOD);
	for (int object = 1; object <= 3; object++)
		(void) rsl_fold_add(&fold, object, object, 0);
	(void) rsl_fold_add(&fold, 3, 10, 1);
	(void) rsl_fold_add(&fold, 1, 11, 1);
	(void) rsl_fold_add(&fold, 2, 12, 1);
	ok(due_is(1000, 10, 0) && due_is(1000, 11, 0) && due_is(1000, 12, 0) &&
	   nothing_due(1000), "in the order of the events");
}

static void
test_room(void)
{
	int			told = 0;

	rsl_fold_init(&fold, PERIOD);
	for (int i = 0; i < RSL_FOLD_OBJECTS; i++)
		told += rsl_fold_add(&fold, i, i + 1, 0);
	is(told, RSL_FOLD_OBJECTS, "as many objects as there is room for");
	ok(rsl_fold_add(&fold, 1000000, 5000, 1) && rsl_fold_add(&fold, 1000000, 5001, 1),
	   "one more is told as it comes");
	ok(!rsl_fold_add(&fold, 5, 5002, 1), "those that are known are held back");
	ok(rsl_fold_add(&fold, 1000000, 5003, 1000) &&
	   !rsl_fold_add(&fold, 1000000, 5004, 1001), "later there is room");
	ok(due_is(1001, 5002, 0), "nothing that was held back is forgotten");
}

/*
 * A simulation: each event is told or counted once, and no object twice within
 * a period.
 */
static void
test_random(void)
{
	enum
	{
		OBJECTS = 20
	};
	int64_t		last[OBJECTS];
	uint64_t	objects[100001];
	long		told = 0;
	int64_t		now = 0;

	rsl_fold_init(&fold, PERIOD);
	for (int i = 0; i < OBJECTS; i++)
		last[i] = -PERIOD;
	for (uint64_t event = 1; event <= 100000 || now < 0; event++)
	{
		uint64_t	due;
		uint32_t	others;
		int			object = rand() % OBJECTS;

		now += rand() % 200;
		objects[event] = object;
		if (rsl_fold_add(&fold, object, event, now))
		{
			check(now - last[object] >= PERIOD, "object %d at %ld", object, (long) now);
			last[object] = now;
			told++;
		}
		while (rsl_fold_due(&fold, now, &due, &others))
		{
			object = (int) objects[due];
			check(now - last[object] >= PERIOD, "object %d at %ld", object, (long) now);
			last[object] = now;
			told += 1 + others;
		}
	}
	for (uint64_t due; now < INT64_MAX / 2; now = INT64_MAX / 2)
	{
		uint32_t	others;

		while (rsl_fold_due(&fold, now + PERIOD, &due, &others))
			told += 1 + others;
	}
	check_done("no object is told of twice within a period");
	is(told, 100000, "and every event is told of or counted");
}

int
main(void)
{
	test_one();
	test_order();
	test_room();
	test_random();
	return done_testing();
}
