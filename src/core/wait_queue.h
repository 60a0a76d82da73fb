/*-------------------------------------------------------------------------
 *
 * wait_queue.h
 *		Queue of waiters with priority classes, ageing and a minimum flow.
 *
 * One FIFO list for each class, linked by index through an array of nodes
 * that the caller owns (in the server: one node for each session, in shared
 * memory), so that nothing is allocated and the addresses of the processes
 * do not matter.  All operations take constant time, whatever the number of
 * waiters.
 *
 * Order of service:
 *	1. a class that was passed over RSL_MINIMUM_FLOW - 1 times in a row by
 *	   other classes is next: each class that has waiters gets at least 1 % of
 *	   the grants;
 *	2. otherwise the highest level, where a waiter rises by one class for
 *	   each RSL_AGEING_INTERVAL that it has waited (priority kick-up, as in
 *	   MySQL's thread pool): nobody waits for ever;
 *	3. among equals, the one that has waited longest.
 *
 * Since the head of a list is its oldest waiter, comparing the heads is
 * enough.
 *
 * Not thread-safe: the caller locks.  Time is passed in, in microseconds of
 * any monotonic clock.  Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_WAIT_QUEUE_H
#define RSL_CORE_WAIT_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/priority.h"

/* a waiter rises one class after waiting this long, in microseconds */
#define RSL_AGEING_INTERVAL		INT64_C(5000000)

/* one grant in this many is owed to each class that has waiters */
#define RSL_MINIMUM_FLOW		100

#define RSL_NO_WAITER			(-1)

typedef struct rsl_wait_node
{
	int32_t		next;			/* towards younger waiters, or RSL_NO_WAITER */
	int32_t		prev;			/* towards older waiters, or RSL_NO_WAITER */
	int64_t		enqueued_at;	/* microseconds */
	uint8_t		priority;		/* rsl_priority */
	bool		queued;
} rsl_wait_node;

typedef struct rsl_wait_queue
{
	int32_t		head[RSL_NUM_PRIORITIES];	/* oldest waiter of each class */
	int32_t		tail[RSL_NUM_PRIORITIES];	/* youngest */
	int32_t		length[RSL_NUM_PRIORITIES];
	int32_t		total;
	uint32_t	passed_over[RSL_NUM_PRIORITIES];
} rsl_wait_queue;

extern void rsl_wait_queue_init(rsl_wait_queue *queue);
extern void rsl_wait_queue_push(rsl_wait_queue *queue, rsl_wait_node *nodes,
								int32_t waiter, rsl_priority priority,
								int64_t now);
extern void rsl_wait_queue_remove(rsl_wait_queue *queue, rsl_wait_node *nodes,
								  int32_t waiter);
extern int32_t rsl_wait_queue_next(const rsl_wait_queue *queue,
								   const rsl_wait_node *nodes, int64_t now,
								   uint32_t eligible);
extern void rsl_wait_queue_grant(rsl_wait_queue *queue, rsl_wait_node *nodes,
								 int32_t waiter, uint32_t eligible);
extern int32_t rsl_wait_queue_victim(const rsl_wait_queue *queue,
									 rsl_priority priority);
extern int32_t rsl_wait_queue_ahead(const rsl_wait_queue *queue,
									rsl_priority priority);

#endif							/* RSL_CORE_WAIT_QUEUE_H */
