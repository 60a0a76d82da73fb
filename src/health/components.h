/*-------------------------------------------------------------------------
 *
 * components.h
 *		All that the extension knows, as components of the server's health.
 *
 * From shared memory only, without a transaction: for the view "health", for
 * the endpoint, and for the launcher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_HEALTH_COMPONENTS_H
#define RSL_HEALTH_COMPONENTS_H

#include "shared/health.h"

typedef struct rsl_component
{
	const char *kind;			/* "bulkhead", "load_shedder", "breaker",
								 * "health_check", "feature", "worker",
								 * "experiment", "degradation", "runaway_rule" */
	char		name[NAMEDATALEN];
	Oid			database;		/* InvalidOid = the server's */
	rsl_health_status status;
	bool		critical;
	TimestampTz since;			/* 0 = not known */
	char		message[RSL_CHECK_MESSAGE_LEN];
} rsl_component;

/*
 * Call "each" for every component.  Takes locks for moments, none while it
 * calls; allocates nothing.
 *
 * Health checks and degradations that are disabled are no components.  A
 * status is that of this moment, but for bulkheads and the load shedder: those
 * are saturated or shedding when the launcher has seen them so, and until a
 * second has passed without.  "since" is when the launcher has first seen the
 * status, within a tick; of the launcher's own death, when it looked last.
 */
extern void rsl_each_component(void (*each) (const rsl_component *component,
											 void *arg), void *arg);

/*
 * The whole: unhealthy when a critical component is, degraded when anything is
 * not healthy, else healthy.  As the launcher has seen it last; unknown when
 * the launcher has not looked for 3 s.  Worse at once, better after a second
 * in which it was better all the time.  "since" may be NULL; it is set to 0
 * when that is not known.
 *
 * Not counted: health checks that have not run yet, until they should have
 * three times; degradations that hold because the whole is degraded or
 * unhealthy.
 */
extern rsl_health_status rsl_health_whole(TimestampTz *since);

/*
 * Is rather the one who checks in trouble?  More than half of the health checks
 * that are enabled, and at least 4, were cut off in their last run, by their
 * time-out or because their worker died.  What depends on checks had better
 * stay as it is then.
 */
extern bool rsl_health_is_suspect(void);

/* The launcher, at each tick: finds out what has changed, and notes it. */
extern void rsl_health_tick(void);

#endif							/* RSL_HEALTH_COMPONENTS_H */
