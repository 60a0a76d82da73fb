/*-------------------------------------------------------------------------
 *
 * connection_rate.h
 *		How many connections per second are let in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BULKHEAD_CONNECTION_RATE_H
#define RSL_BULKHEAD_CONNECTION_RATE_H

#include "shared/layout.h"

/* A rate that a new connection has to keep. */
typedef struct rsl_connection_rate
{
	char		bulkhead[NAMEDATALEN];	/* "" = resilience.max_connection_rate */
	double		per_second;
	bool		enforce;		/* or observe */
	pg_atomic_uint64 *word;		/* see core/arrival_rate.h */
	pg_atomic_uint64 *refused;	/* counters */
	pg_atomic_uint64 *delayed;	/* or NULL */
	pg_atomic_uint32 *last_logged;
} rsl_connection_rate;

extern void rsl_keep_connection_rates(const rsl_connection_rate *rates, int n);

#endif							/* RSL_BULKHEAD_CONNECTION_RATE_H */
