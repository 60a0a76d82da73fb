/*-------------------------------------------------------------------------
 *
 * lag_limit.c
 *		How far a standby may be behind: "16MB" or "10s".
 *
 *-------------------------------------------------------------------------
 */
#include "core/lag_limit.h"

#include <strings.h>

static const struct
{
	const char *name;
	bool		is_time;
	int64_t		factor;
}			units[] =

{
	{"", false, 1},
	{"b", false, 1},
	{"kb", false, INT64_C(1) << 10},
	{"mb", false, INT64_C(1) << 20},
	{"gb", false, INT64_C(1) << 30},
	{"tb", false, INT64_C(1) << 40},
	{"ms", true, 1000},
	{"s", true, 1000000},
	{"min", true, INT64_C(60) * 1000000},
	{"h", true, INT64_C(3600) * 1000000},
};

bool
rsl_parse_lag_limit(const char *text, rsl_lag_limit *limit)
{
	const char *digits = text;
	int64_t		value = 0;

	while (*text >= '0' && *text <= '9')
	{
		if (value > (INT64_MAX - 9) / 10)
			return false;
		value = value * 10 + (*text++ - '0');
	}
	if (text == digits)
		return false;
	for (int i = 0; i < (int) (sizeof(units) / sizeof(units[0])); i++)
	{
		if (strcasecmp(text, units[i].name) != 0)
			continue;
		if (value > INT64_MAX / units[i].factor)
			return false;
		limit->is_time = units[i].is_time;
		limit->bytes = units[i].is_time ? 0 : value * units[i].factor;
		limit->us = units[i].is_time ? value * units[i].factor : 0;
		return true;
	}
	return false;
}
