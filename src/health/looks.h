/*-------------------------------------------------------------------------
 *
 * looks.h
 *		One look at one component: how is it?
 *
 * A kind of component has its place in rsl_component_kind and its function in
 * looks.c; whatever is to have a say in the server's health comes in there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_HEALTH_LOOKS_H
#define RSL_HEALTH_LOOKS_H

#include "health/components.h"
#include "shared/health_board.h"

typedef struct rsl_look
{
	int64		now_us;			/* monotonic */
	TimestampTz now;

	/* what is found */
	uint32		uid;			/* another one is another component */
	rsl_health_status status;
	bool		critical;
	bool		ignored;		/* the whole does not depend on it */
	bool		has_run;		/* health checks: there is a result */
	bool		cut_off;		/* ... which is that the run was cut off */
	TimestampTz since;			/* if the component knows; 0 = ask the board */
} rsl_look;

/* For how long has somebody been waiting for the server-wide limit? */
extern int64 rsl_longest_wait_us(TimestampTz now);

extern const char *rsl_component_kind_name(rsl_component_kind kind);

/*
 * Look at a component.  Returns false when there is none.  "details" gets the
 * name, the database and the message, and may be NULL.  The config lock is
 * held; takes spinlocks and, for a message, locks of pools.
 */
extern bool rsl_look_at(rsl_component_kind kind, int index, rsl_look *look,
						rsl_component *details);

#endif							/* RSL_HEALTH_LOOKS_H */
