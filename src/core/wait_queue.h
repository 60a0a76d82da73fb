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
 * A queue that is nearly full has stood for a while: who has waited longest
 * is likely to be given up by its client before it is through, and serving
 * the oldest first would make everybody that late.  So while the queue is
 * more than 80 % full each class serves its newest waiter first (adaptive
 * LIFO, as in Facebook's servers and in HBase), until it is less than 60 %
 * full.  Who has waited RSL_AGEING_INTERVAL, and is still there, is patient:
 * it keeps its right to rise, and is served before the newest.
 *
 * Since the head of a list is its oldest waiter and the tail its newest,
 * looking at these is enough.
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

/*
 * Newest first above 4/5 of the capacity, oldest first below 3/5.  A queue
 * for so few is always served in order: there is little to gain.
 */
#define RSL_NEWEST_FIRST_ABOVE	4
#define RSL_OLDEST_FIRST_BELOW	3
#define RSL_NEWEST_FIRST_PARTS	5
#define RSL_NEWEST_FIRST_ROOM	10

#define RSL_NO_WAITER			(-1)

typedef struct rsl_wait_node
{
	int32_t		next;			/* towards younger waiters, or RSL_NO_WAITER */
	int32_t		prev;			/* towards older waiters, or RSL_NO_WAITER */
	int64_t		enqueued_at;	/* microseconds */
	uint8_t		priority;		/* rsl_priority */
	bool		queued;
	uint32_t	target_ms;		/* the caller's; see core/codel.h */
} rsl_wait_node;

typedef struct rsl_wait_queue
{
	int32_t		head[RSL_NUM_PRIORITIES];	/* oldest waiter of each class */
	int32_t		tail[RSL_NUM_PRIORITIES];	/* youngest */
	int32_t		length[RSL_NUM_PRIORITIES];
	int32_t		total;
	int32_t		capacity;		/* how many may wait; -1 = not known */
	bool		newest_first;	/* the order within a class */

	/* grants to others in a row; hardly more than RSL_MINIMUM_FLOW */
	uint8_t		passed_over[RSL_NUM_PRIORITIES];
} rsl_wait_queue;

extern void rsl_wait_queue_init(rsl_wait_queue *queue);
extern void rsl_wait_queue_set_capacity(rsl_wait_queue *queue,
										int32_t capacity);
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
									 const rsl_wait_node *nodes, int64_t now,
									 rsl_priority priority);
extern int32_t rsl_wait_queue_last(const rsl_wait_queue *queue);
extern int32_t rsl_wait_queue_ahead(const rsl_wait_queue *queue,
									rsl_priority priority);
extern int32_t rsl_wait_queue_before(const rsl_wait_queue *queue,
									 rsl_priority priority);

#endif							/* RSL_CORE_WAIT_QUEUE_H */
