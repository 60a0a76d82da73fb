/*-------------------------------------------------------------------------
 *
 * breaker_change.h
 *		What has changed about a circuit breaker, and who is told.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_BREAKER_CHANGE_H
#define RSL_SHARED_BREAKER_CHANGE_H

#include "shared/breakers.h"

/*
 * What has changed about a breaker, taken under its mutex and told when that
 * is free again.
 */
typedef struct rsl_breaker_change
{
	bool		any;			/* the prober has something to do */
	bool		to_tell;		/* its position or force is another one */
	rsl_breaker_position from;
	rsl_breaker_position to;
	rsl_breaker_force old_force;
	rsl_breaker_force force;
	rsl_mode	mode;
	rsl_trip_reason reason;
	uint32		consecutive_failures;
	rsl_window_counts window;
	int32		last_sqlstate;
	int64		retry_after_us;
	int64		open_us;		/* for how long it was open; -1 = it was not */
	Oid			database;
	char		name[NAMEDATALEN];
	char		server_name[NAMEDATALEN];
} rsl_breaker_change;

/* Who, or what, has changed a breaker. */
typedef enum rsl_change_cause
{
	RSL_CAUSE_CALL,
	RSL_CAUSE_PROBE,
	RSL_CAUSE_COMMAND
} rsl_change_cause;

extern void rsl_breaker_update_gate(rsl_breaker *breaker, int64 now,
									rsl_breaker_change *change);
extern void rsl_breaker_tell_change(const rsl_breaker_change *change,
									rsl_change_cause cause);
extern void rsl_breaker_wake_prober(void);

#endif							/* RSL_SHARED_BREAKER_CHANGE_H */
