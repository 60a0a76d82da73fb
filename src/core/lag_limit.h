/*-------------------------------------------------------------------------
 *
 * lag_limit.h
 *		How far a standby may be behind: "16MB" or "10s".
 *
 * Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_LAG_LIMIT_H
#define RSL_CORE_LAG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rsl_lag_limit
{
	bool		is_time;
	int64_t		bytes;			/* if not */
	int64_t		us;				/* if so */
} rsl_lag_limit;

/*
 * A whole number, with a unit: B (also without any), kB, MB, GB, TB; ms, s,
 * min, h.  Lower and upper case count alike.  Returns false if it is none.
 */
extern bool rsl_parse_lag_limit(const char *text, rsl_lag_limit *limit);

#endif							/* RSL_CORE_LAG_LIMIT_H */
