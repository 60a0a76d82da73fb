/*-------------------------------------------------------------------------
 *
 * wait_queue.c
 *		Queue of waiters with priority classes, ageing and a minimum flow.
 *
 * See wait_queue.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/wait_queue.h"

void
rsl_wait_queue_init(rsl_wait_queue *queue)
{
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		queue->head[c] = queue->tail[c] = RSL_NO_WAITER;
		queue->length[c] = 0;
		queue->passed_over[c] = 0;
	}
	queue->total = 0;
	queue->capacity = -1;
	queue->newest_first = false;
}

/* The order follows the length of the queue, with some inertia. */
static void
choose_order(rsl_wait_queue *queue)
{
	int64_t		filled = (int64_t) queue->total * RSL_NEWEST_FIRST_PARTS;

	if (queue->capacity < RSL_NEWEST_FIRST_ROOM ||
		filled < (int64_t) queue->capacity * RSL_OLDEST_FIRST_BELOW)
		queue->newest_first = false;
	else if (filled > (int64_t) queue->capacity * RSL_NEWEST_FIRST_ABOVE)
		queue->newest_first = true;
}

/* How many may wait?  May change at any time, below the length as well. */
void
rsl_wait_queue_set_capacity(rsl_wait_queue *queue, int32_t capacity)
{
	if (queue->capacity == capacity)
		return;
	queue->capacity = capacity;
	choose_order(queue);
}

/* Put a waiter at the end of its class.  It must not be queued anywhere. */
void
rsl_wait_queue_push(rsl_wait_queue *queue, rsl_wait_node *nodes,
					int32_t waiter, rsl_priority priority, int64_t now)
{
	rsl_wait_node *node = &nodes[waiter];

	node->priority = (uint8_t) priority;
	node->enqueued_at = now;
	node->next = RSL_NO_WAITER;
	node->prev = queue->tail[priority];
	node->queued = true;

	if (node->prev == RSL_NO_WAITER)
		queue->head[priority] = waiter;
	else
		nodes[node->prev].next = waiter;
	queue->tail[priority] = waiter;
	queue->length[priority]++;
	queue->total++;
	choose_order(queue);
}

/* Take a waiter out, wherever it stands.  No-op when it is not queued. */
void
rsl_wait_queue_remove(rsl_wait_queue *queue, rsl_wait_node *nodes,
					  int32_t waiter)
{
	rsl_wait_node *node = &nodes[waiter];
	int			c = node->priority;

	if (!node->queued)
		return;

	if (node->prev == RSL_NO_WAITER)
		queue->head[c] = node->next;
	else
		nodes[node->prev].next = node->next;
	if (node->next == RSL_NO_WAITER)
		queue->tail[c] = node->prev;
	else
		nodes[node->next].prev = node->prev;

	node->queued = false;
	node->next = node->prev = RSL_NO_WAITER;
	queue->length[c]--;
	queue->total--;
	choose_order(queue);

	/* what a class is owed ends with its last waiter */
	if (queue->length[c] == 0)
		queue->passed_over[c] = 0;
}

/* Is the oldest waiter of a class to be served before the others? */
static bool
oldest_is_next(const rsl_wait_queue *queue, const rsl_wait_node *nodes,
			   int c, int64_t now)
{
	return !queue->newest_first ||
		now - nodes[queue->head[c]].enqueued_at >= RSL_AGEING_INTERVAL;
}

/*
 * Who is next among the classes whose bit is set in "eligible"?  Returns
 * RSL_NO_WAITER when nobody is.  Changes nothing: the caller may fail to get
 * the slot, and calls rsl_wait_queue_grant() when it has it.
 */
int32_t
rsl_wait_queue_next(const rsl_wait_queue *queue, const rsl_wait_node *nodes,
					int64_t now, uint32_t eligible)
{
	int32_t		best = RSL_NO_WAITER;
	int64_t		best_level = -1;
	int32_t		owed = RSL_NO_WAITER;
	uint32_t	most_passed = RSL_MINIMUM_FLOW - 2;

	for (int c = RSL_NUM_PRIORITIES - 1; c >= 0; c--)
	{
		int32_t		first = queue->head[c];
		int64_t		level;

		if (first == RSL_NO_WAITER || (eligible & (1u << c)) == 0)
			continue;
		if (!oldest_is_next(queue, nodes, c, now))
			first = queue->tail[c];

		if (queue->passed_over[c] > most_passed)
		{
			most_passed = queue->passed_over[c];
			owed = first;
		}

		level = c + (now - nodes[first].enqueued_at) / RSL_AGEING_INTERVAL;
		if (level > RSL_PRIORITY_CRITICAL)
			level = RSL_PRIORITY_CRITICAL;
		if (level > best_level ||
			(level == best_level &&
			 nodes[first].enqueued_at < nodes[best].enqueued_at))
		{
			best = first;
			best_level = level;
		}
	}

	return owed != RSL_NO_WAITER ? owed : best;
}

/*
 * The waiter chosen by rsl_wait_queue_next() gets the slot: take it out and
 * note which of the other eligible classes were passed over.  A class that a
 * cap held back is not owed anything: its flow is what the cap lets through.
 */
void
rsl_wait_queue_grant(rsl_wait_queue *queue, rsl_wait_node *nodes,
					 int32_t waiter, uint32_t eligible)
{
	int			granted = nodes[waiter].priority;

	rsl_wait_queue_remove(queue, nodes, waiter);
	queue->passed_over[granted] = 0;
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		if (c != granted && queue->length[c] > 0 && (eligible & (1u << c)) &&
			queue->passed_over[c] < UINT8_MAX)
			queue->passed_over[c]++;
	}
}

/*
 * Whom may a newcomer of this class push out of a full queue?  Of the lowest
 * class below it the one that would be served last: in order of arrival the
 * youngest, which has lost the least; otherwise the oldest, which has the
 * least to hope for.  Returns RSL_NO_WAITER when all waiters are of the
 * newcomer's class or above.
 */
int32_t
rsl_wait_queue_victim(const rsl_wait_queue *queue, const rsl_wait_node *nodes,
					  int64_t now, rsl_priority priority)
{
	for (int c = 0; c < (int) priority; c++)
	{
		if (queue->tail[c] != RSL_NO_WAITER)
			return oldest_is_next(queue, nodes, c, now) ?
				queue->tail[c] : queue->head[c];
	}
	return RSL_NO_WAITER;
}

/* Who is likely to wait for longest from now on?  RSL_NO_WAITER: nobody. */
int32_t
rsl_wait_queue_last(const rsl_wait_queue *queue)
{
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		if (queue->length[c] > 0)
			return queue->newest_first ? queue->head[c] : queue->tail[c];
	}
	return RSL_NO_WAITER;
}

/* How many wait that are of this class or above? */
int32_t
rsl_wait_queue_ahead(const rsl_wait_queue *queue, rsl_priority priority)
{
	int32_t		ahead = 0;

	for (int c = (int) priority; c < RSL_NUM_PRIORITIES; c++)
		ahead += queue->length[c];
	return ahead;
}

/* How many of them would be served before a newcomer, as things stand? */
int32_t
rsl_wait_queue_before(const rsl_wait_queue *queue, rsl_priority priority)
{
	return rsl_wait_queue_ahead(queue, priority) -
		(queue->newest_first ? queue->length[priority] : 0);
}
