/*-------------------------------------------------------------------------
 *
 * test_wait_queue.c
 *		Unit tests of core/wait_queue: the rules one by one, a random model
 *		test against a naive implementation, and simulations with 100 000
 *		waiters, a simulated clock, and the caps of core/pool_state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/pool_state.h"
#include "core/wait_queue.h"

#define LOW			RSL_PRIORITY_LOW
#define NORMAL		RSL_PRIORITY_NORMAL
#define HIGH		RSL_PRIORITY_HIGH
#define CRITICAL	RSL_PRIORITY_CRITICAL

#define ALL			0xFu		/* every class may run */
#define BIT(c)		(1u << (c))

#define SECOND		INT64_C(1000000)
#define MILLISECOND	INT64_C(1000)

static const char *const class_name[RSL_NUM_PRIORITIES] = {
	"low", "normal", "high", "critical"
};

/*
 * Everything that must hold of a queue at any time: lists linked both ways,
 * oldest first, lengths right, nothing owed to a class without waiters.
 */
static void
check_invariants(const rsl_wait_queue *queue, const rsl_wait_node *nodes,
				 int nnodes)
{
	int			total = 0;
	int			queued = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		int			length = 0;
		int32_t		before = RSL_NO_WAITER;

		for (int32_t i = queue->head[c]; i != RSL_NO_WAITER && length <= nnodes;
			 i = nodes[i].next)
		{
			check(nodes[i].queued && nodes[i].priority == c, "waiter %d", i);
			check(nodes[i].prev == before, "waiter %d: prev %d", i, nodes[i].prev);
			check(before == RSL_NO_WAITER ||
				  nodes[before].enqueued_at <= nodes[i].enqueued_at,
				  "waiter %d is older than the one before", i);
			before = i;
			length++;
		}
		check(queue->tail[c] == before, "class %d: tail %d", c, queue->tail[c]);
		check(queue->length[c] == length, "class %d: length %d", c, queue->length[c]);
		check(length > 0 || queue->passed_over[c] == 0, "class %d: owed %u", c,
			  queue->passed_over[c]);
		total += length;
	}
	check(queue->total == total, "total %d, counted %d", queue->total, total);
	for (int i = 0; i < nnodes; i++)
		queued += nodes[i].queued ? 1 : 0;
	check(queued == total, "%d nodes say that they are queued", queued);
}

/* next() and grant() in one: who got it? */
static int32_t
serve(rsl_wait_queue *queue, rsl_wait_node *nodes, int64_t now,
	  uint32_t eligible)
{
	int32_t		waiter = rsl_wait_queue_next(queue, nodes, now, eligible);

	if (waiter != RSL_NO_WAITER)
		rsl_wait_queue_grant(queue, nodes, waiter, eligible);
	return waiter;
}

static void
test_order(void)
{
	rsl_wait_queue queue;
	rsl_wait_node nodes[12] = {{0}};
	static const int32_t expected[] = {10, 11, 6, 7, 8, 9, 3, 4, 5, 0, 1, 2};

	rsl_wait_queue_init(&queue);
	is(rsl_wait_queue_next(&queue, nodes, 0, ALL), RSL_NO_WAITER,
	   "nobody waits, nobody is next");
	is(rsl_wait_queue_victim(&queue, nodes, 0, CRITICAL), RSL_NO_WAITER,
	   "nobody waits, nobody can be pushed out");

	/* lowest class first, so that arrival order says the opposite */
	for (int i = 0; i < 12; i++)
		rsl_wait_queue_push(&queue, nodes, i,
							i < 3 ? LOW : i < 6 ? NORMAL : i < 10 ? HIGH : CRITICAL, i);
	check_invariants(&queue, nodes, 12);
	for (int i = 0; i < 12; i++)
	{
		int32_t		next = rsl_wait_queue_next(&queue, nodes, 1000, ALL);

		check(next == rsl_wait_queue_next(&queue, nodes, 1000, ALL),
			  "asking changes nothing");
		rsl_wait_queue_grant(&queue, nodes, next, ALL);
		check(next == expected[i], "grant %d went to %d", i, next);
		check_invariants(&queue, nodes, 12);
	}
	check(queue.total == 0, "%d are left", queue.total);
	check_done("by class, within a class by arrival");
}

static void
test_eligible(void)
{
	rsl_wait_queue queue;
	rsl_wait_node nodes[4] = {{0}};

	rsl_wait_queue_init(&queue);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		rsl_wait_queue_push(&queue, nodes, c, c, 0);

	for (uint32_t mask = 0; mask <= ALL; mask++)
	{
		int32_t		highest = RSL_NO_WAITER;

		for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
			highest = (mask & BIT(c)) ? c : highest;
		check(rsl_wait_queue_next(&queue, nodes, 1, mask) == highest, "mask %x", mask);
		/* old enough for any class, which must not matter */
		check((mask == 0) == (rsl_wait_queue_next(&queue, nodes, 60 * SECOND, mask) == RSL_NO_WAITER),
			  "mask %x", mask);
	}
	check_done("a class that a cap holds back is not served");
}

static void
test_ageing(void)
{
	rsl_wait_queue queue;
	rsl_wait_node nodes[8] = {{0}};
	int64_t		now;

	/* an old waiter against a newcomer of each higher class */
	for (int c = LOW; c < CRITICAL; c++)
	{
		for (int higher = c + 1; higher <= CRITICAL; higher++)
		{
			int64_t		needed = (higher - c) * RSL_AGEING_INTERVAL;

			rsl_wait_queue_init(&queue);
			memset(nodes, 0, sizeof(nodes));
			rsl_wait_queue_push(&queue, nodes, 0, c, 1000);
			now = 1000 + needed - 1;
			rsl_wait_queue_push(&queue, nodes, 1, higher, now);
			check(rsl_wait_queue_next(&queue, nodes, now, ALL) == 1,
				  "%s gives way too early to %s", class_name[higher], class_name[c]);
			check(rsl_wait_queue_next(&queue, nodes, now + 1, ALL) == 0,
				  "%s has not risen to %s", class_name[c], class_name[higher]);
		}
	}
	check_done("a waiter rises one class for each 5 seconds");
	is(RSL_AGEING_INTERVAL, 5 * SECOND, "these are 5 seconds");

	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_push(&queue, nodes, 0, CRITICAL, 0);
	rsl_wait_queue_push(&queue, nodes, 1, LOW, 1);
	is(rsl_wait_queue_next(&queue, nodes, 1000 * SECOND, ALL), 0,
	   "nobody rises above critical: the older one is first");
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_push(&queue, nodes, 0, LOW, 0);
	rsl_wait_queue_push(&queue, nodes, 1, CRITICAL, 1);
	is(rsl_wait_queue_next(&queue, nodes, 1000 * SECOND, ALL), 0,
	   "the older one is first when it began at the bottom, too");
}

static void
test_minimum_flow(void)
{
	rsl_wait_queue queue;
	static rsl_wait_node nodes[40];
	int			grants[RSL_NUM_PRIORITIES] = {0};
	int			last[RSL_NUM_PRIORITIES] = {0};
	int			n;

	is(RSL_MINIMUM_FLOW, 100, "the minimum flow is one in a hundred");

	/* one low waiter and critical ones without end, no time passing */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_push(&queue, nodes, 0, LOW, 0);
	for (n = 1; n < 1000; n++)
	{
		int32_t		waiter;

		if (!nodes[1].queued)
			rsl_wait_queue_push(&queue, nodes, 1, CRITICAL, 0);
		waiter = serve(&queue, nodes, 0, ALL);
		if (waiter == 0)
			break;
	}
	is(n, RSL_MINIMUM_FLOW, "a class is passed over 99 times, then it is its turn");

	/* all classes, each with waiters all the time */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	for (int i = 0; i < 40; i++)
		rsl_wait_queue_push(&queue, nodes, i, i % RSL_NUM_PRIORITIES, 0);
	for (int i = 1; i <= 100000; i++)
	{
		int32_t		waiter = serve(&queue, nodes, 0, ALL);
		int			c = nodes[waiter].priority;

		grants[c]++;
		/* two others may be owed at the same time */
		check(c == CRITICAL || i - last[c] <= RSL_MINIMUM_FLOW + 2,
			  "%s had to wait for %d grants", class_name[c], i - last[c]);
		last[c] = i;
		rsl_wait_queue_push(&queue, nodes, waiter, c, 0);
	}
	check_done("in any hundred grants each class has one");
	diag("of 100000 grants: low %d, normal %d, high %d, critical %d",
		 grants[LOW], grants[NORMAL], grants[HIGH], grants[CRITICAL]);
	for (int c = LOW; c < CRITICAL; c++)
		ok(grants[c] >= 970 && grants[c] <= 1010,
		   "%s has its 1 %% and no more", class_name[c]);

	/* what a cap holds back is not owed, so there is no burst when it opens */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_push(&queue, nodes, 0, LOW, 0);
	for (int i = 0; i < 1000; i++)
	{
		rsl_wait_queue_push(&queue, nodes, 1, HIGH, 0);
		check(serve(&queue, nodes, 0, ALL & ~BIT(LOW)) == 1, "grant %d", i);
	}
	check(queue.passed_over[LOW] == 0, "low is owed %u", queue.passed_over[LOW]);
	rsl_wait_queue_push(&queue, nodes, 1, HIGH, 0);
	check(serve(&queue, nodes, 0, ALL) == 1, "the cap opened");
	check_done("a class behind its cap is not owed anything");

	/* a debt ends with the grant, and with the last waiter */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_push(&queue, nodes, 0, LOW, 0);
	rsl_wait_queue_push(&queue, nodes, 2, LOW, 0);
	for (int i = 0; i < 50; i++)
	{
		rsl_wait_queue_push(&queue, nodes, 1, HIGH, 0);
		serve(&queue, nodes, 0, ALL);
	}
	is(queue.passed_over[LOW], 50, "being passed over is counted");
	rsl_wait_queue_remove(&queue, nodes, 0);
	is(queue.passed_over[LOW], 50, "a waiter that leaves takes no debt along while others wait");
	rsl_wait_queue_grant(&queue, nodes, 2, ALL);
	is(queue.passed_over[LOW], 0, "a grant pays the debt");
	rsl_wait_queue_push(&queue, nodes, 0, LOW, 0);
	for (int i = 0; i < 50; i++)
	{
		rsl_wait_queue_push(&queue, nodes, 1, HIGH, 0);
		serve(&queue, nodes, 0, ALL);
	}
	rsl_wait_queue_remove(&queue, nodes, 0);
	is(queue.passed_over[LOW], 0, "and it is forgotten when nobody of the class waits");
}

static void
test_remove(void)
{
	rsl_wait_queue queue;
	rsl_wait_node nodes[5] = {{0}};

	/* every order in which five waiters can leave */
	int			order[5] = {0, 1, 2, 3, 4};
	int			permutations = 0;

	for (int code = 0; code < 5 * 5 * 5 * 5 * 5; code++)
	{
		int			rest = code;
		uint32_t	seen = 0;

		for (int i = 0; i < 5; i++, rest /= 5)
		{
			order[i] = rest % 5;
			seen |= 1u << order[i];
		}
		if (seen != 0x1F)
			continue;
		permutations++;

		rsl_wait_queue_init(&queue);
		for (int i = 0; i < 5; i++)
			rsl_wait_queue_push(&queue, nodes, i, NORMAL, i);
		for (int i = 0; i < 5; i++)
		{
			int32_t		oldest = RSL_NO_WAITER;
			int32_t		youngest = RSL_NO_WAITER;

			rsl_wait_queue_remove(&queue, nodes, order[i]);
			check_invariants(&queue, nodes, 5);
			/* a second time is harmless */
			rsl_wait_queue_remove(&queue, nodes, order[i]);
			check_invariants(&queue, nodes, 5);
			for (int j = 0; j < 5; j++)
			{
				if (!nodes[j].queued)
					continue;
				youngest = j;
				if (oldest == RSL_NO_WAITER)
					oldest = j;
			}
			check(rsl_wait_queue_next(&queue, nodes, 5, ALL) == oldest,
				  "code %d", code);
			check(rsl_wait_queue_victim(&queue, nodes, 0, HIGH) == youngest,
				  "code %d", code);
		}
	}
	check(permutations == 120, "%d permutations", permutations);
	check_done("waiters may leave in any order");
}

static void
test_victim(void)
{
	rsl_wait_queue queue;
	rsl_wait_node nodes[6] = {{0}};

	rsl_wait_queue_init(&queue);
	rsl_wait_queue_push(&queue, nodes, 0, LOW, 0);
	rsl_wait_queue_push(&queue, nodes, 1, LOW, 1);
	rsl_wait_queue_push(&queue, nodes, 2, NORMAL, 2);
	rsl_wait_queue_push(&queue, nodes, 3, HIGH, 3);
	rsl_wait_queue_push(&queue, nodes, 4, CRITICAL, 4);

	is(rsl_wait_queue_victim(&queue, nodes, 0, CRITICAL), 1, "the youngest of the lowest class is pushed out");
	is(rsl_wait_queue_victim(&queue, nodes, 0, NORMAL), 1, "by any higher class");
	is(rsl_wait_queue_victim(&queue, nodes, 0, LOW), RSL_NO_WAITER, "nobody is pushed out by the lowest class");
	rsl_wait_queue_remove(&queue, nodes, 1);
	is(rsl_wait_queue_victim(&queue, nodes, 0, HIGH), 0, "then the next younger one");
	rsl_wait_queue_remove(&queue, nodes, 0);
	is(rsl_wait_queue_victim(&queue, nodes, 0, NORMAL), RSL_NO_WAITER, "an equal is not pushed out");
	is(rsl_wait_queue_victim(&queue, nodes, 0, HIGH), 2, "the next class follows");
	rsl_wait_queue_remove(&queue, nodes, 2);
	is(rsl_wait_queue_victim(&queue, nodes, 0, HIGH), RSL_NO_WAITER, "high does not push out high");
	is(rsl_wait_queue_victim(&queue, nodes, 0, CRITICAL), 3, "critical does");
	rsl_wait_queue_remove(&queue, nodes, 3);
	is(rsl_wait_queue_victim(&queue, nodes, 0, CRITICAL), RSL_NO_WAITER, "nobody pushes out critical");

	rsl_wait_queue_push(&queue, nodes, 0, LOW, 5);
	rsl_wait_queue_push(&queue, nodes, 5, HIGH, 5);
	check(rsl_wait_queue_ahead(&queue, LOW) == 3, "low");
	check(rsl_wait_queue_ahead(&queue, NORMAL) == 2, "normal");
	check(rsl_wait_queue_ahead(&queue, HIGH) == 2, "high");
	check(rsl_wait_queue_ahead(&queue, CRITICAL) == 1, "critical");
	check_done("how many are ahead: those of the same class and above");
}

/* Push waiters first .. last of a class, one each microsecond. */
static void
push_range(rsl_wait_queue *queue, rsl_wait_node *nodes, int first, int last,
		   int priority, int64_t now)
{
	for (int i = first; i <= last; i++)
		rsl_wait_queue_push(queue, nodes, i, priority, now + i - first);
}

static void
test_newest_first(void)
{
	rsl_wait_queue queue;
	static rsl_wait_node nodes[300];

	/* when does it begin, when does it end? */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	push_range(&queue, nodes, 0, 99, NORMAL, 0);
	ok(!queue.newest_first, "without a capacity the oldest is first");
	rsl_wait_queue_set_capacity(&queue, 125);
	ok(!queue.newest_first, "80 %% full: still the oldest first");
	is(rsl_wait_queue_next(&queue, nodes, 1000, ALL), 0, "that is the first one");
	is(rsl_wait_queue_last(&queue), 99, "the last one will be here longest");
	is(rsl_wait_queue_before(&queue, NORMAL), 100, "a newcomer has all of them before it");
	rsl_wait_queue_push(&queue, nodes, 100, NORMAL, 100);
	ok(queue.newest_first, "one more: newest first");
	is(rsl_wait_queue_next(&queue, nodes, 1000, ALL), 100, "that is the last one");
	is(rsl_wait_queue_last(&queue), 0, "the first one will be here longest");
	is(rsl_wait_queue_before(&queue, NORMAL), 0, "a newcomer has nobody before it");
	is(rsl_wait_queue_before(&queue, LOW), 101, "one of a lower class all the same");
	is(rsl_wait_queue_before(&queue, HIGH), 0, "one of a higher class nobody");
	is(rsl_wait_queue_ahead(&queue, NORMAL), 101, "as many wait as before");
	for (int i = 100; i >= 75; i--)
		check(serve(&queue, nodes, 1000, ALL) == i, "grant of %d", i);
	check(queue.total == 75 && queue.newest_first, "%d wait", queue.total);
	check_done("so it goes until 60 % are left");
	is(serve(&queue, nodes, 1000, ALL), 74, "and once more");
	ok(!queue.newest_first, "below 60 %% the oldest is first again");
	is(serve(&queue, nodes, 1000, ALL), 0, "that is the first one");
	rsl_wait_queue_push(&queue, nodes, 0, NORMAL, 1000);
	rsl_wait_queue_push(&queue, nodes, 74, NORMAL, 1000);
	ok(!queue.newest_first, "it does not flap at 60 %%");
	check_invariants(&queue, nodes, 300);

	/* the capacity changes while they wait; waiters leave by themselves */
	rsl_wait_queue_set_capacity(&queue, 90);
	ok(queue.newest_first, "the capacity shrinks: newest first");
	rsl_wait_queue_set_capacity(&queue, 110);
	ok(queue.newest_first, "it grows a little: still so");
	rsl_wait_queue_set_capacity(&queue, 200);
	ok(!queue.newest_first, "it grows: oldest first");
	rsl_wait_queue_set_capacity(&queue, 0);
	ok(!queue.newest_first, "no room for anybody: oldest first");
	rsl_wait_queue_set_capacity(&queue, 90);
	ok(queue.newest_first, "newest first again");
	for (int i = 1; queue.newest_first; i++)
		rsl_wait_queue_remove(&queue, nodes, i);
	is(queue.total, 53, "waiters that leave count, too");
	rsl_wait_queue_set_capacity(&queue, 1 << 30);
	ok(!queue.newest_first, "a huge capacity does not overflow");
	check_done("links are right all the time");

	/* a short queue */
	for (int capacity = 0; capacity <= 9; capacity++)
	{
		rsl_wait_queue_init(&queue);
		memset(nodes, 0, sizeof(nodes));
		rsl_wait_queue_set_capacity(&queue, capacity);
		for (int i = 0; i < capacity; i++)
			rsl_wait_queue_push(&queue, nodes, i, NORMAL, i);
		check(!queue.newest_first, "a full queue of %d", capacity);
	}
	check_done("a short queue is served in order, full or not");

	/* classes, and patience */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_set_capacity(&queue, 40);
	push_range(&queue, nodes, 0, 19, LOW, 0);
	push_range(&queue, nodes, 20, 39, HIGH, 100);
	ok(queue.newest_first, "two classes fill the queue");
	is(rsl_wait_queue_next(&queue, nodes, 1000, ALL), 39, "the newest of the higher class");
	is(rsl_wait_queue_next(&queue, nodes, 1000, BIT(LOW)), 19, "or of the other one, if only that may run");
	is(rsl_wait_queue_victim(&queue, nodes, 1000, HIGH), 0, "pushed out is who has the least to hope for");
	is(rsl_wait_queue_next(&queue, nodes, RSL_AGEING_INTERVAL + 99, ALL), 39,
	   "who has risen to normal does not pass high");
	is(rsl_wait_queue_next(&queue, nodes, RSL_AGEING_INTERVAL + 99, BIT(LOW)), 0,
	   "but is served before its equals");
	is(rsl_wait_queue_victim(&queue, nodes, RSL_AGEING_INTERVAL + 99, HIGH), 19,
	   "and not pushed out for it");
	is(rsl_wait_queue_next(&queue, nodes, RSL_AGEING_INTERVAL + 100, ALL), 20,
	   "the patient one of class high is next when it has waited long enough");
	for (int i = 20; i < 40; i++)
		rsl_wait_queue_remove(&queue, nodes, i);
	push_range(&queue, nodes, 20, 39, HIGH, 2 * RSL_AGEING_INTERVAL - 30);
	ok(queue.newest_first, "new ones came");
	is(rsl_wait_queue_next(&queue, nodes, 2 * RSL_AGEING_INTERVAL - 1, ALL), 39, "not yet high");
	is(serve(&queue, nodes, 2 * RSL_AGEING_INTERVAL, ALL), 0, "who has risen to high passes new ones");
	is(serve(&queue, nodes, 2 * RSL_AGEING_INTERVAL, ALL), 39, "one at a time");
	check_invariants(&queue, nodes, 300);

	/* the minimum flow stays */
	rsl_wait_queue_init(&queue);
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_set_capacity(&queue, 100);
	push_range(&queue, nodes, 0, 49, LOW, 0);
	push_range(&queue, nodes, 50, 98, CRITICAL, 0);
	for (int n = 1; n <= 1000; n++)
	{
		int32_t		waiter = serve(&queue, nodes, 1000, ALL);

		check((n % RSL_MINIMUM_FLOW == 0) == (nodes[waiter].priority == LOW), "grant %d: %d", n, waiter);
		rsl_wait_queue_push(&queue, nodes, waiter, nodes[waiter].priority, 1000);
		check(queue.newest_first, "grant %d", n);
	}
	check_invariants(&queue, nodes, 300);
	check_done("newest first: each class still has one grant in a hundred");
}

/*
 * The naive model: an array of waiters in order of arrival, searched from
 * end to end, and the history of the grants.
 */
#define MODEL_NODES		200
#define MODEL_OPS		100000

typedef struct
{
	int32_t		waiter;
	int			priority;
	int64_t		enqueued_at;
} model_waiter;

typedef struct
{
	model_waiter waiters[MODEL_NODES];
	int			n;

	/* grants since a class was served or empty, in which it might have been */
	int			missed[RSL_NUM_PRIORITIES];

	int			capacity;		/* -1 = not known */
	bool		newest_first;
} model_queue;

/* After each change of length or capacity. */
static void
model_order(model_queue *naive)
{
	double		filled = naive->capacity > 0 ? (double) naive->n / naive->capacity : 2;

	if (naive->capacity < 10 || filled < 0.6 - 1e-9)
		naive->newest_first = false;

	else if (filled > 0.8 + 1e-9)
		naive->newest_first = true;
}

/* Is this one the first of its class? */
static bool
model_first(const model_queue *naive, int i, int64_t now)
{
	int			oldest = -1;
	int			newest = -1;

	for (int j = 0; j < naive->n; j++)
	{
		if (naive->waiters[j].priority != naive->waiters[i].priority)
			continue;
		newest = j;
		if (oldest < 0)
			oldest = j;
	}
	if (naive->newest_first && now - naive->waiters[oldest].enqueued_at < 5 * SECOND)
		return i == newest;
	return i == oldest;
}

static int
model_find(const model_queue *naive, int32_t waiter)
{
	for (int i = 0; i < naive->n; i++)
	{
		if (naive->waiters[i].waiter == waiter)
			return i;
	}
	return -1;
}

static bool
model_has(const model_queue *naive, int priority)
{
	for (int i = 0; i < naive->n; i++)
	{
		if (naive->waiters[i].priority == priority)
			return true;
	}
	return false;
}

static void
model_remove(model_queue *naive, int32_t waiter)
{
	int			i = model_find(naive, waiter);
	int			priority;

	if (i < 0)
		return;
	priority = naive->waiters[i].priority;

	memmove(&naive->waiters[i], &naive->waiters[i + 1],
			(naive->n - i - 1) * sizeof(model_waiter));
	naive->n--;

	model_order(naive);

	if (!model_has(naive, priority))
		naive->missed[priority] = 0;
}

static int32_t
model_next(const model_queue *naive, int64_t now, uint32_t eligible)
{
	int			best = -1;
	int64_t		best_level = -1;
	int			owed_class = -1;

	for (int c = CRITICAL; c >= LOW; c--)
	{
		if ((eligible & BIT(c)) && model_has(naive, c) &&
			naive->missed[c] >= RSL_MINIMUM_FLOW - 1 &&
			(owed_class < 0 || naive->missed[c] > naive->missed[owed_class]))
			owed_class = c;
	}
	for (int i = 0; i < naive->n; i++)
	{
		const model_waiter *waiter = &naive->waiters[i];
		int64_t		level = waiter->priority + (now - waiter->enqueued_at) / (5 * SECOND);

		if (!model_first(naive, i, now))
			continue;
		if (owed_class >= 0)
		{
			if (waiter->priority == owed_class)
				return waiter->waiter;
			continue;
		}
		if ((eligible & BIT(waiter->priority)) == 0)
			continue;
		level = level > CRITICAL ? CRITICAL : level;
		/* the array is in order of arrival; ties go to the higher class */
		if (best < 0 || level > best_level ||
			(level == best_level &&
			 (waiter->enqueued_at < naive->waiters[best].enqueued_at ||
			  (waiter->enqueued_at == naive->waiters[best].enqueued_at &&
			   waiter->priority > naive->waiters[best].priority))))
		{
			best = i;
			best_level = level;
		}
	}
	return best < 0 ? RSL_NO_WAITER : naive->waiters[best].waiter;
}

static void
model_grant(model_queue *naive, int32_t waiter, uint32_t eligible)
{
	int			granted = naive->waiters[model_find(naive, waiter)].priority;

	model_remove(naive, waiter);
	for (int c = LOW; c <= CRITICAL; c++)
	{
		if (c == granted)
			naive->missed[c] = 0;

		else if ((eligible & BIT(c)) && model_has(naive, c))
			naive->missed[c]++;
	}
}

static int32_t
model_victim(const model_queue *naive, int64_t now, int priority)
{
	for (int c = LOW; c < priority; c++)
	{
		int			youngest = -1;
		int			oldest = -1;

		for (int i = naive->n - 1; i >= 0; i--)
		{
			if (naive->waiters[i].priority != c)
				continue;
			oldest = i;
			if (youngest < 0)
				youngest = i;
		}
		if (oldest >= 0)
			return naive->waiters[model_first(naive, oldest, now) ? youngest : oldest].waiter;
	}
	return RSL_NO_WAITER;
}

static void
test_model(void)
{
	random_source source = {20260101};
	rsl_wait_queue queue;
	rsl_wait_node nodes[MODEL_NODES] = {{0}};
	model_queue naive = {.n = 0,.capacity = -1};
	int64_t		now = 0;
	int			pushes = 0;
	int			grants = 0;
	int			owed = 0;
	int			risen = 0;
	int			removals = 0;
	int			longest = 0;
	int			turned = 0;
	int			last_in = 0;

	rsl_wait_queue_init(&queue);
	for (int op = 0; op < MODEL_OPS; op++)
	{
		int			priority = (int) random_below(&source, RSL_NUM_PRIORITIES);
		int32_t		waiter = (int32_t) random_below(&source, MODEL_NODES);
		bool		stands_still = op / 5000 % 2 == 1;

		/* now and then some classes are held back, more often none */
		uint32_t	eligible = random_below(&source, stands_still ? 200 : 3) ? ALL :
			random_below(&source, 16);
		uint32_t	dice = random_below(&source, 100);
		bool		newest_first = queue.newest_first;

		if (random_below(&source, 200) == 0)
		{
			naive.capacity = (int) random_below(&source, MODEL_NODES * 2) - 1;

			model_order(&naive);
			rsl_wait_queue_set_capacity(&queue, naive.capacity);
		}

		/*
		 * Mostly little time passes, sometimes enough to age.  Long stretches
		 * without any make debts, long stretches of pushes make a long queue.
		 */
		if (!stands_still && random_below(&source, 4) == 0)
			now += random_below(&source, random_below(&source, 20) == 0 ? 6000000 : 20000);

		if (dice < (naive.n < 20 ? 80 : op / 10000 % 2 == 0 ? 55 : 40))
		{
			/* somebody who is not there yet, if such a one is found quickly */
			for (int i = 0; i < 10 && model_find(&naive, waiter) >= 0; i++)
				waiter = (int32_t) random_below(&source, MODEL_NODES);
			if (model_find(&naive, waiter) >= 0)
				continue;
			/* critical more often, so that lower classes are passed over */
			if (random_below(&source, 4) != 0)
				priority = CRITICAL;
			rsl_wait_queue_push(&queue, nodes, waiter, priority, now);
			naive.waiters[naive.n++] = (model_waiter)
			{
				waiter, priority, now
			};

			model_order(&naive);
			pushes++;
		}
		else if (dice < 85)
		{
			int32_t		got = rsl_wait_queue_next(&queue, nodes, now, eligible);
			int32_t		expected = model_next(&naive, now, eligible);

			check(got == expected, "op %d: next is %d, should be %d", op, got, expected);
			if (got != expected)
				break;
			if (got != RSL_NO_WAITER)
			{
				int			c = nodes[got].priority;

				if (queue.passed_over[c] >= RSL_MINIMUM_FLOW - 1)
					owed++;
				else if (c < CRITICAL && (eligible & BIT(CRITICAL)) && queue.length[CRITICAL] > 0)
					risen++;
				if (queue.tail[c] == got && queue.length[c] > 1)
					last_in++;
				rsl_wait_queue_grant(&queue, nodes, got, eligible);
				model_grant(&naive, got, eligible);
				grants++;
			}
		}
		else if (dice < 93)
		{
			/* anybody, queued or not */
			rsl_wait_queue_remove(&queue, nodes, waiter);
			model_remove(&naive, waiter);
			removals++;
		}
		else
		{
			int			ahead = 0;
			int			equal = 0;

			for (int i = 0; i < naive.n; i++)
			{
				ahead += naive.waiters[i].priority >= priority ? 1 : 0;
				equal += naive.waiters[i].priority == priority ? 1 : 0;
			}

			check(rsl_wait_queue_ahead(&queue, priority) == ahead, "op %d", op);
			check(rsl_wait_queue_before(&queue, priority) ==
				  ahead - (naive.newest_first ? equal : 0), "op %d", op);
			check(rsl_wait_queue_victim(&queue, nodes, now, priority) == model_victim(&naive, now, priority),
				  "op %d", op);
		}

		longest = naive.n > longest ? naive.n : longest;

		check(queue.newest_first == naive.newest_first, "op %d: newest first: %d, %d of %d",
			  op, queue.newest_first, queue.total, queue.capacity);
		turned += queue.newest_first != newest_first ? 1 : 0;
		check(queue.total == naive.n, "op %d: %d waiters, should be %d", op,
			  queue.total, naive.n);
		for (int c = LOW; c <= CRITICAL; c++)
			check((int) queue.passed_over[c] == naive.missed[c], "op %d class %d", op, c);
		check_invariants(&queue, nodes, MODEL_NODES);
		if (tap_bad_checks > 0)
			break;
	}
	check_done("100000 random operations: queue and naive model agree");
	diag("%d pushed, %d granted (%d owed by the minimum flow, %d by ageing), %d removals, at most %d waiting",
		 pushes, grants, owed, risen, removals, longest);
	diag("the order turned %d times, %d times the newest of several was served", turned, last_in);
	ok(pushes > 20000 && grants > 20000 && owed > 50 && risen > 500 && longest > MODEL_NODES / 2 &&
	   turned > 100 && last_in > 3000,
	   "all rules were met often");
}

/*
 * The simulation: sessions that arrive, wait for one of a few slots, work
 * for a random time and leave or come again.  It puts pool word and queue
 * together as shared/pool.c does, with a clock of its own.
 */
#define SESSIONS		100000
#define MAX_SLOTS		8
#define RECENT			(1 * SECOND)	/* as RSL_ACTIVE_TICKS */
#define TICK			(100 * MILLISECOND)

typedef struct
{
	rsl_wait_queue queue;
	rsl_wait_node *nodes;
	int			nnodes;
	rsl_pool_limits limits;
	uint64_t	word;
	int64_t		now;
	int64_t		next_tick;
	int64_t		last_active[RSL_NUM_PRIORITIES];
	double		service;		/* mean, in microseconds */
	random_source source;

	struct
	{
		int64_t		end;
		int32_t		waiter;
	}			slots[MAX_SLOTS];
	int			running;

	/* results by class */
	int64_t		grants[RSL_NUM_PRIORITIES];
	int64_t		busy[RSL_NUM_PRIORITIES];
	int64_t		longest[RSL_NUM_PRIORITIES];
	int64_t		waited[RSL_NUM_PRIORITIES];
	int			most_running[RSL_NUM_PRIORITIES];
	int64_t    *allowed;		/* how long a session may wait at most, or
								 * NULL */
} simulation;

static void
sim_init(simulation *sim, int nnodes, int32_t limit, bool caps, double service)
{
	memset(sim, 0, sizeof(*sim));
	rsl_wait_queue_init(&sim->queue);
	sim->nodes = calloc(nnodes, sizeof(rsl_wait_node));
	sim->nnodes = nnodes;
	sim->limits.max_running = limit;
	sim->limits.low_cap = caps ? rsl_pool_effective_cap(-1, limit, 1) : RSL_UNLIMITED;
	sim->limits.normal_cap = caps ? rsl_pool_effective_cap(-1, limit, 3) : RSL_UNLIMITED;
	sim->service = service;

	sim->source.state = 12345;
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		sim->last_active[c] = -10 * RECENT;
}

static void
sim_free(simulation *sim)
{
	free(sim->nodes);
	free(sim->allowed);
}

static uint32_t
sim_recent(const simulation *sim)
{
	uint32_t	recent = 0;

	for (int c = NORMAL; c <= CRITICAL; c++)
		recent |= sim->now - sim->last_active[c] <= RECENT ? BIT(c) : 0;
	return recent;
}

static uint32_t
sim_eligible(const simulation *sim)
{
	uint32_t	eligible = 0;

	for (int c = LOW; c <= CRITICAL; c++)
	{
		if ((sim->word & rsl_pool_wait_bit(c)) != 0 &&
			rsl_pool_admits(sim->word, &sim->limits, c, sim_recent(sim)))
			eligible |= BIT(c);
	}
	return eligible;
}

static void
sim_run(simulation *sim, int32_t waiter, int priority)
{
	int64_t		duration = random_duration(&sim->source, sim->service);
	int			lane = priority < HIGH ? priority : 2;

	sim->word += rsl_pool_unit(priority);
	check(sim->running < sim->limits.max_running, "%d run", sim->running);
	sim->slots[sim->running].end = sim->now + duration;
	sim->slots[sim->running++].waiter = waiter;
	sim->busy[priority] += duration;
	sim->grants[priority]++;
	if (rsl_pool_lane(sim->word, lane) > sim->most_running[priority])
		sim->most_running[priority] = rsl_pool_lane(sim->word, lane);
}

static void
sim_dispatch(simulation *sim)
{
	while (sim->queue.total > 0)
	{
		uint32_t	eligible = sim_eligible(sim);
		int32_t		waiter;
		int			priority;
		int64_t		waited;

		if (eligible == 0)
			break;
		waiter = rsl_wait_queue_next(&sim->queue, sim->nodes, sim->now, eligible);
		check(waiter != RSL_NO_WAITER, "an eligible class without a waiter");
		if (waiter == RSL_NO_WAITER)
			break;
		priority = sim->nodes[waiter].priority;

		/*
		 * Nobody who is as old as can be is passed by a younger one, but for
		 * the minimum flow.
		 */
		for (int c = LOW; c <= CRITICAL; c++)
		{
			int32_t		head = sim->queue.head[c];

			check(c == priority || head == RSL_NO_WAITER ||
				  (eligible & BIT(c)) == 0 ||
				  sim->now - sim->nodes[head].enqueued_at < 3 * RSL_AGEING_INTERVAL ||
				  sim->nodes[head].enqueued_at >= sim->nodes[waiter].enqueued_at ||
				  sim->queue.passed_over[priority] >= RSL_MINIMUM_FLOW - 1,
				  "%s passes an old %s", class_name[priority], class_name[c]);
		}

		waited = sim->now - sim->nodes[waiter].enqueued_at;
		sim->waited[priority] += waited;
		if (waited > sim->longest[priority])
			sim->longest[priority] = waited;
		check(sim->allowed == NULL || waited <= sim->allowed[waiter],
			  "%s waited %.1f s, allowed %.1f s", class_name[priority],
			  (double) waited / SECOND, (double) sim->allowed[waiter] / SECOND);

		rsl_wait_queue_grant(&sim->queue, sim->nodes, waiter, eligible);
		if (sim->queue.length[priority] == 0)
			sim->word &= ~rsl_pool_wait_bit(priority);
		sim_run(sim, waiter, priority);
	}
}

static void
sim_arrive(simulation *sim, int32_t waiter, int priority)
{
	sim->last_active[priority] = sim->now;
	if ((sim->word & rsl_pool_wait_bits_from(priority)) == 0 &&
		rsl_pool_admits(sim->word, &sim->limits, priority, sim_recent(sim)))
	{
		sim_run(sim, waiter, priority);
		sim->nodes[waiter].priority = (uint8_t) priority;
		return;
	}
	rsl_wait_queue_push(&sim->queue, sim->nodes, waiter, priority, sim->now);
	sim->word |= rsl_pool_wait_bit(priority);
	sim_dispatch(sim);
}

/* The next that ends its work; RSL_NO_WAITER if that is after "until". */
static int32_t
sim_complete(simulation *sim, int64_t until)
{
	int			first = -1;
	int32_t		waiter;

	for (int i = 0; i < sim->running; i++)
	{
		if (first < 0 || sim->slots[i].end < sim->slots[first].end)
			first = i;
	}
	if (first < 0 || sim->slots[first].end > until)
	{
		if (until != INT64_MAX)
			sim->now = until;
		return RSL_NO_WAITER;
	}
	sim->now = sim->slots[first].end;
	waiter = sim->slots[first].waiter;
	sim->slots[first] = sim->slots[--sim->running];
	sim->word -= rsl_pool_unit(sim->nodes[waiter].priority);
	sim_dispatch(sim);
	return waiter;
}

static void
sim_report(const simulation *sim, const char *title)
{
	int64_t		grants = 0;
	int64_t		busy = 0;

	for (int c = LOW; c <= CRITICAL; c++)
	{
		grants += sim->grants[c];
		busy += sim->busy[c];
	}
	diag("%s: %.2f s simulated, %lld grants", title, (double) sim->now / SECOND,
		 (long long) grants);
	for (int c = CRITICAL; c >= LOW; c--)
	{
		if (sim->grants[c] > 0)
			diag("  %-8s %8lld grants %6.2f %% of them, %6.2f %% of the work, wait mean %9.2f ms, longest %9.2f ms, at most %d at once",
				 class_name[c], (long long) sim->grants[c],
				 100.0 * sim->grants[c] / grants, 100.0 * sim->busy[c] / busy,
				 sim->waited[c] / 1000.0 / sim->grants[c],
				 sim->longest[c] / 1000.0, sim->most_running[c]);
	}
}

static double
share(const simulation *sim, int priority)
{
	int64_t		grants = 0;

	for (int c = LOW; c <= CRITICAL; c++)
		grants += sim->grants[c];
	return (double) sim->grants[priority] / grants;
}

/*
 * 100 000 sessions of all classes that come again as soon as they are
 * through.  Statements are so short that nobody ages: order by class, and
 * the minimum flow, are all there is.
 */
static void
simulate_saturation(void)
{
	simulation	sim;

	sim_init(&sim, SESSIONS, 8, false, 8);
	for (int i = 0; i < SESSIONS; i++)
		sim_arrive(&sim, i, i % RSL_NUM_PRIORITIES);
	for (int i = 0; i < 500000; i++)
	{
		int32_t		waiter = sim_complete(&sim, INT64_MAX);

		sim_arrive(&sim, waiter, sim.nodes[waiter].priority);
	}
	check_invariants(&sim.queue, sim.nodes, SESSIONS);
	check_done("saturation: 100000 waiters of all classes, no time to age");
	sim_report(&sim, "saturation");
	for (int c = LOW; c < CRITICAL; c++)
		ok(share(&sim, c) >= 0.0097 && share(&sim, c) <= 0.0103,
		   "saturation: %s gets its 1 %% and no more", class_name[c]);
	ok(share(&sim, CRITICAL) >= 0.965, "saturation: critical gets the rest");
	sim_free(&sim);
}

/*
 * The same with statements of 10 ms: 800 a second, so that everybody ages.
 * First without caps: whoever has waited 15 seconds is passed by nobody
 * younger.  So nobody waits longer than these 15 seconds and the time it
 * takes to serve those who were there before.
 */
static void
simulate_ageing(void)
{
	simulation	sim;
	int			left = SESSIONS;
	int64_t		newcomers = 0;
	const double rate = 8 / 0.010;

	sim_init(&sim, SESSIONS, 8, false, 10 * MILLISECOND);
	sim.allowed = calloc(SESSIONS, sizeof(int64_t));

	/*
	 * half of them come within a second, mostly low; critical ones keep
	 * coming
	 */
	for (int i = 0; i < SESSIONS / 2; i++)
	{
		while (sim_complete(&sim, i * INT64_C(20)) != RSL_NO_WAITER)
			left--;
		sim.allowed[i] = 15 * SECOND + (int64_t) (1.05 * (sim.queue.total + 200) / rate * SECOND);
		sim_arrive(&sim, i, i % 10 == 0 ? HIGH : i % 3 == 0 ? NORMAL : LOW);
	}
	for (int32_t next = SESSIONS / 2; left > 0;)
	{
		int64_t		arrival = next < SESSIONS ?
			sim.now + random_duration(&sim.source, 1.2e6 / rate) : INT64_MAX;

		while (sim_complete(&sim, arrival) != RSL_NO_WAITER)
			left--;
		if (next < SESSIONS)
		{
			sim.allowed[next] = 15 * SECOND + (int64_t) (1.05 * (sim.queue.total + 200) / rate * SECOND);
			sim_arrive(&sim, next++, CRITICAL);
			newcomers++;
		}
	}
	check(sim.queue.total == 0 && sim.running == 0 && sim.word == 0, "word %llx",
		  (unsigned long long) sim.word);
	check_invariants(&sim.queue, sim.nodes, SESSIONS);
	check_done("ageing: nobody waits for ever, whatever comes");
	sim_report(&sim, "ageing");
	is(sim.grants[LOW] + sim.grants[NORMAL] + sim.grants[HIGH] + sim.grants[CRITICAL],
	   SESSIONS, "ageing: all were served");
	is(newcomers, SESSIONS / 2, "ageing: while critical ones came all the time");
	sim_free(&sim);
}

/*
 * 100 000 sessions in a closed loop, with caps: limit 8, low 2, normal 6.
 * They have all aged, so that without caps the classes would be equal.
 */
static void
simulate_caps(void)
{
	simulation	sim;

	sim_init(&sim, SESSIONS, 8, true, 10 * MILLISECOND);
	/* most of them low */
	for (int i = 0; i < SESSIONS; i++)
		sim_arrive(&sim, i, i % 20 < 16 ? LOW : i % 20 < 18 ? NORMAL :
				   i % 20 < 19 ? HIGH : CRITICAL);
	memset(sim.most_running, 0, sizeof(sim.most_running));
	for (int i = 0; i < 300000; i++)
	{
		int32_t		waiter = sim_complete(&sim, INT64_MAX);

		/* whatever the caps, a slot is not idle while somebody may have it */
		check(sim.running == 8 || sim_eligible(&sim) == 0,
			  "%d run and somebody might", sim.running);
		sim_arrive(&sim, waiter, sim.nodes[waiter].priority);
		if (i == 10000)
		{
			/* those who came first found no higher ones: not any more */
			memset(sim.most_running, 0, sizeof(sim.most_running));
			memset(sim.grants, 0, sizeof(sim.grants));
			memset(sim.busy, 0, sizeof(sim.busy));
		}
	}
	check_done("caps: never beyond the limit, no slot idle that somebody may have");
	sim_report(&sim, "caps");
	for (int c = LOW; c <= CRITICAL; c++)
		ok(share(&sim, c) > 0.01, "caps: %s has its 1 %% and more", class_name[c]);
	is(sim.most_running[LOW], 2, "caps: at most 2 low ones run at once");
	ok(sim.most_running[NORMAL] <= 6, "caps: at most 6 normal ones run at once");
	ok(sim.busy[LOW] < 0.26 * (sim.busy[LOW] + sim.busy[NORMAL] + sim.busy[HIGH] + sim.busy[CRITICAL]),
	   "caps: low has a quarter of the work, though most of the waiters are low");
	sim_free(&sim);
}

/*
 * What the limit is for: ten times the load in low priority, a bounded
 * queue, waits that time out, and a little important work in between.
 */
static void
simulate_flood(void)
{
	simulation	sim;
	int32_t    *free_nodes = malloc(SESSIONS * sizeof(int32_t));
	int			nfree = SESSIONS;
	int64_t		next_arrival[RSL_NUM_PRIORITIES];
	double		interval[RSL_NUM_PRIORITIES];
	int64_t		arrived[RSL_NUM_PRIORITIES] = {0};
	int64_t		shed[RSL_NUM_PRIORITIES] = {0};
	int64_t		preempted[RSL_NUM_PRIORITIES] = {0};
	int64_t		timed_out[RSL_NUM_PRIORITIES] = {0};
	const int	max_waiting = 1000;
	const int64_t max_wait = 1 * SECOND;
	const int64_t quiet = 20 * SECOND;
	const int64_t end = 30 * SECOND;
	int64_t		low_grants_when_quiet = 0;

	sim_init(&sim, SESSIONS, 8, true, 5 * MILLISECOND);
	for (int i = 0; i < SESSIONS; i++)
		free_nodes[i] = i;

	/* 1600 a second is the capacity */
	interval[LOW] = SECOND / 16000.0;
	interval[NORMAL] = SECOND / 400.0;
	interval[HIGH] = SECOND / 200.0;
	interval[CRITICAL] = SECOND / 40.0;
	for (int c = LOW; c <= CRITICAL; c++)
		next_arrival[c] = random_duration(&sim.source, interval[c]);

	while (sim.now < end)
	{
		int			c = LOW;
		int64_t		next = sim.next_tick;
		int32_t		waiter;

		for (int i = NORMAL; i <= CRITICAL; i++)
			c = next_arrival[i] < next_arrival[c] ? i : c;
		next = next_arrival[c] < next ? next_arrival[c] : next;
		while ((waiter = sim_complete(&sim, next)) != RSL_NO_WAITER)
		{
			free_nodes[nfree++] = waiter;
			if (sim.now >= quiet + 2 * SECOND && sim.nodes[waiter].priority == LOW)
				low_grants_when_quiet++;
		}

		if (next == sim.next_tick)
		{
			/* time-outs, then what the caps let run now */
			for (int i = LOW; i <= CRITICAL; i++)
			{
				while ((waiter = sim.queue.head[i]) != RSL_NO_WAITER &&
					   sim.now - sim.nodes[waiter].enqueued_at >= max_wait)
				{
					rsl_wait_queue_remove(&sim.queue, sim.nodes, waiter);
					free_nodes[nfree++] = waiter;
					timed_out[i]++;
				}
				if (sim.queue.length[i] == 0)
					sim.word &= ~rsl_pool_wait_bit(i);
			}
			sim_dispatch(&sim);
			sim.next_tick += TICK;
			continue;
		}

		/* an arrival, which may find the queue full */
		next_arrival[c] += random_duration(&sim.source, interval[c]);
		if (c > LOW && sim.now >= quiet)
		{
			next_arrival[c] = INT64_MAX;
			continue;
		}
		arrived[c]++;
		if (sim.queue.total >= max_waiting)
		{
			waiter = rsl_wait_queue_victim(&sim.queue, sim.nodes, sim.now, c);
			if (waiter == RSL_NO_WAITER)
			{
				shed[c]++;
				continue;
			}
			rsl_wait_queue_remove(&sim.queue, sim.nodes, waiter);
			preempted[sim.nodes[waiter].priority]++;
			free_nodes[nfree++] = waiter;
		}
		check(nfree > 0, "out of sessions");
		sim_arrive(&sim, free_nodes[--nfree], c);
		check(sim.queue.total <= max_waiting, "%d wait", sim.queue.total);
	}
	check_invariants(&sim.queue, sim.nodes, SESSIONS);
	check_done("flood: limit and length of the queue hold");
	sim_report(&sim, "flood");
	for (int c = CRITICAL; c >= LOW; c--)
		diag("  %-8s %lld arrived, %lld shed, %lld preempted, %lld timed out",
			 class_name[c], (long long) arrived[c], (long long) shed[c],
			 (long long) preempted[c], (long long) timed_out[c]);

	for (int c = HIGH; c <= CRITICAL; c++)
	{
		is(shed[c] + preempted[c] + timed_out[c], 0,
		   c == HIGH ? "flood: nothing of class high is lost" :
		   "flood: nothing of class critical is lost");
		ok(sim.waited[c] / sim.grants[c] < 5 * MILLISECOND &&
		   sim.longest[c] < 100 * MILLISECOND,
		   "flood: %s waits for less than one statement on average", class_name[c]);
	}
	ok(timed_out[NORMAL] == 0 && preempted[NORMAL] == 0 && sim.longest[NORMAL] < max_wait,
	   "flood: nothing of class normal is lost");
	ok(preempted[LOW] > 0 && shed[LOW] > 0, "flood: low makes room");
	ok(share(&sim, LOW) > 0.1, "flood: yet low is served");
	ok(low_grants_when_quiet > 0.9 * 8 * 1600,
	   "flood: when the others are quiet, low has all slots (%lld in 8 s)",
	   (long long) low_grants_when_quiet);
	free(free_nodes);
	sim_free(&sim);
}

/* Nanoseconds of push, next and grant while so many wait, in random order. */
static double
cost(int waiters, bool victims)
{
	rsl_wait_queue queue;
	rsl_wait_node *nodes = calloc(waiters, sizeof(rsl_wait_node));
	int32_t    *order = malloc(waiters * sizeof(int32_t));
	random_source source = {3};
	const int	ops = 100000;
	int64_t		now = 0;
	int64_t		best = INT64_MAX;
	int64_t		sum = 0;

	for (int i = 0; i < waiters; i++)
		order[i] = i;
	for (int i = waiters - 1; i > 0; i--)
	{
		int			j = (int) random_below(&source, i + 1);
		int32_t		swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
	rsl_wait_queue_init(&queue);
	for (int i = 0; i < waiters; i++)
		rsl_wait_queue_push(&queue, nodes, order[i], i % RSL_NUM_PRIORITIES, now);

	for (int round = 0; round < 5; round++)
	{
		int64_t		start = cpu_ns();

		for (int i = 0; i < ops; i++)
		{
			int32_t		waiter;
			int			priority;

			if (victims)
			{
				waiter = rsl_wait_queue_victim(&queue, nodes, now, CRITICAL);
				priority = nodes[waiter].priority;
				rsl_wait_queue_remove(&queue, nodes, waiter);
				sum += rsl_wait_queue_ahead(&queue, priority);
			}
			else
			{
				waiter = rsl_wait_queue_next(&queue, nodes, now, ALL);
				priority = nodes[waiter].priority;
				rsl_wait_queue_grant(&queue, nodes, waiter, ALL);
			}
			rsl_wait_queue_push(&queue, nodes, waiter, priority, now);
			/* everybody ages at the same speed, so all classes are served */
			now += 200;
		}
		if (cpu_ns() - start < best)
			best = cpu_ns() - start;
	}
	check(queue.total == waiters && sum >= 0, "%d wait", queue.total);
	free(order);
	free(nodes);
	return (double) best / ops;
}

static void
test_cost(void)
{
	static const char *const what[] = {"push, next and grant", "push, victim, ahead and remove"};

	for (int victims = 0; victims < 2; victims++)
	{
		double		few = cost(100, victims);
		double		many = cost(SESSIONS, victims);

		diag("%s: %.0f ns with 100 waiters, %.0f ns with %d", what[victims], few, many, SESSIONS);

		/* a search would cost a thousand times as much; caches cost something */
		ok(many / few < 20, "%s: constant time, ratio %.1f", what[victims], many / few);
	}
	check_done("nobody was lost meanwhile");
}

int
main(void)
{
	test_order();
	test_eligible();
	test_ageing();
	test_minimum_flow();
	test_remove();
	test_victim();
	test_newest_first();
	test_model();
	simulate_saturation();
	simulate_ageing();
	simulate_caps();
	simulate_flood();
	test_cost();
	return done_testing();
}
