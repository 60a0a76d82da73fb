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
								 * "experiment", "degradation" */
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
 */
extern void rsl_each_component(void (*each) (const rsl_component *component,
											 void *arg), void *arg);

/*
 * The whole: unhealthy when a critical component is, degraded when anything is
 * not healthy, else healthy.  As the launcher has seen it last; unknown when
 * the launcher has not looked for 3 s.
 */
extern rsl_health_status rsl_health_whole(TimestampTz *since);

/* The launcher, at each tick: finds out what has changed, and notes it. */
extern void rsl_health_tick(void);

#endif							/* RSL_HEALTH_COMPONENTS_H */
