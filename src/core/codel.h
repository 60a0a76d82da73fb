/*-------------------------------------------------------------------------
 *
 * codel.h
 *		When is a waiter too late to be served?
 *
 * A queue that drains now and then does its work: it evens out arrivals.  One
 * in which even the shortest wait is long does harm only: everybody is late
 * by that much, and nobody more gets done (Nichols and Jacobson, "Controlling
 * Queue Delay", 2012).  Hence, as in Facebook's servers (folly's Codel): if
 * nobody who was served within an interval of 100 ms waited for less than
 * the target, there is overload in the next one; and then whoever would be
 * served after more than twice the target is dropped.
 *
 * Two things differ.  Each waiter brings its own target, since each knows how
 * long it is ready to wait.  And somebody is dropped only in favour of others
 * of its class who are younger and still in time: when a burst is all there
 * is, to drop its rest would help nobody.
 *
 * One for each class, for whatever order within it: served newest first, a
 * class is never in overload.  The caller locks, and passes the time in, in
 * microseconds of a monotonic clock.  Part of the cores: plain C, no backend
 * headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_CODEL_H
#define RSL_CORE_CODEL_H

#include <stdbool.h>
#include <stdint.h>

#define RSL_CODEL_INTERVAL_MS	100

typedef struct rsl_codel
{
	uint32_t	interval_end;	/* milliseconds, wraps around */
	bool		begun;			/* there is an interval */
	bool		in_time;		/* somebody in it waited for less than the
								 * target */
	bool		overload;		/* nobody in the one before did */
} rsl_codel;

/* Nobody of the class waits (any more). */
extern void rsl_codel_reset(rsl_codel *codel);

/*
 * It is somebody's turn who has waited for so long; target_us = 0 means that
 * it is never too late.  Returns whether to drop it instead.  "others_in_time":
 * somebody else of the class has waited for less than its own target.
 */
extern bool rsl_codel_drop(rsl_codel *codel, int64_t now_us, int64_t waited_us,
						   int64_t target_us, bool others_in_time);

#endif							/* RSL_CORE_CODEL_H */
