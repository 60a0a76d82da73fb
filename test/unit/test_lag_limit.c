/*-------------------------------------------------------------------------
 *
 * test_lag_limit.c
 *		Unit tests of core/lag_limit: amounts of WAL and times.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/lag_limit.h"

int
main(void)
{
	static const struct
	{
		const char *text;
		bool		is_time;
		int64_t		value;
	}			good[] =
	{
		{"0", false, 0},
		{"1048576", false, 1048576},
		{"7B", false, 7},
		{"16MB", false, 16 << 20},
		{"16mb", false, 16 << 20},
		{"3kB", false, 3 << 10},
		{"2GB", false, INT64_C(2) << 30},
		{"1TB", false, INT64_C(1) << 40},
		{"250ms", true, 250000},
		{"10s", true, 10000000},
		{"0s", true, 0},
		{"5min", true, 300000000},
		{"1h", true, INT64_C(3600000000)},
		{"922337203685477580", false, INT64_C(922337203685477580)},
	};
	static const char *const bad[] = {
		"", "-1", "+1", " 1", "1 s", "1.5s", "s", "MB", "1m", "1PB", "10 MB",
		"0x10", "1e3", "9223372036854775808", "99999999999999999999",
		"9223372036854775807s", "8388608TB", "16MBs"
	};

	for (int i = 0; i < (int) (sizeof(good) / sizeof(good[0])); i++)
	{
		rsl_lag_limit limit;

		ok(rsl_parse_lag_limit(good[i].text, &limit) &&
		   limit.is_time == good[i].is_time &&
		   (limit.is_time ? limit.us : limit.bytes) == good[i].value,
		   "\"%s\"", good[i].text);
	}
	for (int i = 0; i < (int) (sizeof(bad) / sizeof(bad[0])); i++)
	{
		rsl_lag_limit limit;

		ok(!rsl_parse_lag_limit(bad[i], &limit), "refused: \"%s\"", bad[i]);
	}
	return done_testing();
}
