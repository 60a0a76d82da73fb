/*-------------------------------------------------------------------------
 *
 * test_series_cap.c
 *		Unit tests of core/series_cap.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/series_cap.h"

int
main(void)
{
	for (int reserved = 0; reserved <= 64; reserved += 8)
	{
		for (int per_object = 1; per_object <= 8; per_object++)
		{
			int			own = rsl_own_objects(reserved, per_object);

			check(reserved + (own + 1) * per_object <= RSL_MAX_SERIES,
				  "%d with %d each: not too many, with those of the others", reserved, per_object);
			check(reserved + (own + 2) * per_object > RSL_MAX_SERIES,
				  "%d with %d each: no room is wasted", reserved, per_object);
			check(rsl_has_own_series(own - 1, reserved, per_object), "the last one");
			check(!rsl_has_own_series(own, reserved, per_object), "the first one beyond");
		}
	}
	check_done("as many objects as fit have series of their own");
	/* as docs/metrics.md says */
	is(rsl_own_objects(0, 1), 199, "one series each: more than the default number of objects");
	is(rsl_own_objects(0, 3), 65, "three each");
	is(rsl_own_objects(0, 4), 49, "four each");
	is(rsl_own_objects(2 * 32, 3), 44, "three each, beside two each of 32 others");
	is(rsl_own_objects(0, 7), 27, "seven each");
	return done_testing();
}
