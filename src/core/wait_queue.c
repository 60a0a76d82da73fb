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

	/* what a class is owed ends with its last waiter */
	if (queue->length[c] == 0)
		queue->passed_over[c] = 0;
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
		int32_t		head = queue->head[c];
		int64_t		level;

		if (head == RSL_NO_WAITER || (eligible & (1u << c)) == 0)
			continue;

		if (queue->passed_over[c] > most_passed)
		{
			most_passed = queue->passed_over[c];
			owed = head;
		}

		level = c + (now - nodes[head].enqueued_at) / RSL_AGEING_INTERVAL;
		if (level > RSL_PRIORITY_CRITICAL)
			level = RSL_PRIORITY_CRITICAL;
		if (level > best_level ||
			(level == best_level &&
			 nodes[head].enqueued_at < nodes[best].enqueued_at))
		{
			best = head;
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
		if (c != granted && queue->length[c] > 0 && (eligible & (1u << c)))
			queue->passed_over[c]++;
	}
}

/*
 * Whom may a newcomer of this class push out of a full queue?  The youngest
 * waiter of the lowest class below it: it has lost the least.  Returns
 * RSL_NO_WAITER when all waiters are of the newcomer's class or above.
 */
int32_t
rsl_wait_queue_victim(const rsl_wait_queue *queue, rsl_priority priority)
{
	for (int c = 0; c < (int) priority; c++)
	{
		if (queue->tail[c] != RSL_NO_WAITER)
			return queue->tail[c];
	}
	return RSL_NO_WAITER;
}

/* How many waiters would a newcomer of this class have before it? */
int32_t
rsl_wait_queue_ahead(const rsl_wait_queue *queue, rsl_priority priority)
{
	int32_t		ahead = 0;

	for (int c = (int) priority; c < RSL_NUM_PRIORITIES; c++)
		ahead += queue->length[c];
	return ahead;
}
