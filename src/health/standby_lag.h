/*-------------------------------------------------------------------------
 *
 * standby_lag.h
 *		How far this standby is behind, from shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_HEALTH_STANDBY_LAG_H
#define RSL_HEALTH_STANDBY_LAG_H

#include "compat.h"

typedef struct rsl_standby_lag
{
	bool		streams;		/* connected to a primary */
	int64		bytes;			/* of WAL, not replayed; -1 = not known */
	int64		us;				/* -1 = not known */
	bool		is_silent;		/* the primary is, for too long: since "us" */
} rsl_standby_lag;

extern void rsl_standby_lag_get(rsl_standby_lag *lag);

#endif							/* RSL_HEALTH_STANDBY_LAG_H */
