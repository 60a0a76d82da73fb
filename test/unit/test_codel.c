/*-------------------------------------------------------------------------
 *
 * test_codel.c
 *		Unit tests of core/codel: the rules one by one, and simulations with
 *		core/wait_queue of what clients still have use for.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/codel.h"
#include "core/wait_queue.h"

#define SECOND		INT64_C(1000000)
#define MS			INT64_C(1000)

static void
test_rules(void)
{
	rsl_codel	codel;
	int64_t		now;

	/* an interval without anybody in time, then overload */
	rsl_codel_reset(&codel);
	for (now = 0; now < 100 * MS; now += 10 * MS)
		check(!rsl_codel_drop(&codel, now, 900 * MS, 50 * MS, true), "at %lld", (long long) now);
	check_done("nobody is dropped within the first interval");
	ok(rsl_codel_drop(&codel, now, 101 * MS, 50 * MS, true), "in the second one who waited more than twice the target");
	ok(!rsl_codel_drop(&codel, now, 100 * MS, 50 * MS, true), "not who waited twice the target");
	ok(!rsl_codel_drop(&codel, now, 101 * MS, 50 * MS, false), "nor if nobody would gain");
	ok(!rsl_codel_drop(&codel, now, 101 * MS, 60 * MS, true), "nor one who is more patient");
	ok(!rsl_codel_drop(&codel, now, 3600 * SECOND, 0, true), "nor one without a target");

	/* that one counts as in time: the next interval is none of overload */
	ok(rsl_codel_drop(&codel, now + 99 * MS, 101 * MS, 50 * MS, true), "overload lasts for the interval");
	ok(!rsl_codel_drop(&codel, now + 100 * MS, 101 * MS, 50 * MS, true), "and ends if anybody in it was in time");
	ok(rsl_codel_drop(&codel, now + 200 * MS, 101 * MS, 50 * MS, true), "if nobody is any more, it is back");

	/* the queue has drained */
	rsl_codel_reset(&codel);
	ok(!rsl_codel_drop(&codel, now + 300 * MS, 900 * MS, 50 * MS, true), "no overload after nobody waited");

	/* turns that are rarer than intervals */
	ok(rsl_codel_drop(&codel, now + 900 * MS, 900 * MS, 50 * MS, true), "an interval may be long");

	/* the milliseconds wrap around, after 49 days */
	rsl_codel_reset(&codel);
	now = INT64_C(4294967296) * MS - 50 * MS;
	ok(!rsl_codel_drop(&codel, now, 900 * MS, 50 * MS, true), "before the wrap: begun");
	ok(!rsl_codel_drop(&codel, now + 60 * MS, 900 * MS, 50 * MS, true), "after it: the same interval");
	ok(rsl_codel_drop(&codel, now + 100 * MS, 900 * MS, 50 * MS, true), "and the next one");
}

/*
 * The simulation: some servers, one class of clients that are ready to wait
 * for max_wait in all.  Plain: oldest first, and a time-out.  "codel" and
 * "newest" add what the names say.
 */
#define NODES		20000
#define SERVERS		8
#define SERVICE		(10 * MS)	/* so 800 a second */
#define MAX_WAIT	(1 * SECOND)
#define TARGET		(MAX_WAIT / 4)

typedef struct
{
	int64_t		at;
	int32_t		client;
} event;

typedef struct
{
	bool		codel;
	bool		newest;
	double		rate;			/* open loop: arrivals a second */
	int			burst;			/* so many at once, and no more */
	int			clients;		/* closed loop: that come again at once */

	int64_t		good;			/* done in time */
	int64_t		late;			/* done for nobody */
	int64_t		timed_out;
	int64_t		dropped;
	int64_t		refused;
} scenario;

static rsl_wait_node nodes[NODES];

static void
simulate(scenario *s, int64_t duration)
{
	rsl_wait_queue queue;
	rsl_codel	codel;
	random_source source = {99};
	event		busy[SERVERS];
	int			nbusy = 0;
	static int32_t free_nodes[NODES];
	static event again[NODES];	/* closed loop: refused ones, in order */
	int			again_first = 0;
	int			nagain = 0;
	int			nfree = 0;
	int64_t		now = 0;
	int64_t		next_arrival = s->rate > 0 ? 1 : INT64_MAX;
	const int	max_waiting = 1000;

	s->good = s->late = s->timed_out = s->dropped = s->refused = 0;
	memset(nodes, 0, sizeof(nodes));
	rsl_wait_queue_init(&queue);
	rsl_codel_reset(&codel);
	if (s->newest)
		rsl_wait_queue_set_capacity(&queue, max_waiting);
	for (int i = NODES - 1; i >= 0; i--)
		free_nodes[nfree++] = i;

	/* all of them come within the first millisecond */
	for (int i = 0; i < s->burst + s->clients; i++)
	{
		again[nagain].at = i;
		again[nagain++].client = free_nodes[--nfree];
	}

	for (;;)
	{
		int			first = -1;
		int64_t		at;
		int32_t		waiter;
		int32_t		gone[64];
		int			ngone = 0;

		for (int i = 0; i < nbusy; i++)
			first = first < 0 || busy[i].at < busy[first].at ? i : first;
		at = first < 0 ? INT64_MAX : busy[first].at;
		if (nagain > 0 && again[again_first].at < at)
			at = again[again_first].at;
		if (next_arrival < at)
			at = next_arrival;
		/* a waiter times out on time, whatever happens */
		if (queue.total > 0 && nodes[queue.head[1]].enqueued_at + MAX_WAIT < at)
			at = nodes[queue.head[1]].enqueued_at + MAX_WAIT;
		if (at >= duration)
			break;
		now = at;

		if (first >= 0 && busy[first].at == now)
		{
			waiter = busy[first].client;
			if (now - nodes[waiter].enqueued_at <= MAX_WAIT)
				s->good++;
			else
				s->late++;
			busy[first] = busy[--nbusy];
			gone[ngone++] = waiter;
		}
		else
		{
			waiter = RSL_NO_WAITER;
			if (nagain > 0 && again[again_first].at == now)
			{
				waiter = again[again_first].client;
				again_first = (again_first + 1) % NODES;
				nagain--;
			}
			else if (next_arrival == now)
			{
				waiter = free_nodes[--nfree];
				next_arrival = now + random_duration(&source, SECOND / s->rate);
			}
			if (waiter != RSL_NO_WAITER && queue.total >= max_waiting)
			{
				s->refused++;
				gone[ngone++] = waiter;
			}
			else if (waiter != RSL_NO_WAITER)
			{
				nodes[waiter].target_ms = (uint32_t) (TARGET / MS);
				rsl_wait_queue_push(&queue, nodes, waiter, RSL_PRIORITY_NORMAL, now);
			}
		}
		while (queue.total > 0 && ngone < 60 &&
			   now - nodes[queue.head[1]].enqueued_at >= MAX_WAIT)
		{
			waiter = queue.head[1];
			rsl_wait_queue_remove(&queue, nodes, waiter);
			s->timed_out++;
			gone[ngone++] = waiter;
		}
		while (nbusy < SERVERS && queue.total > 0 && ngone < 60)
		{
			int32_t		newest = queue.tail[1];

			waiter = rsl_wait_queue_next(&queue, nodes, now, 0xF);
			if (s->codel &&
				rsl_codel_drop(&codel, now, now - nodes[waiter].enqueued_at, TARGET,
							   newest != waiter &&
							   now - nodes[newest].enqueued_at <= TARGET))
			{
				rsl_wait_queue_remove(&queue, nodes, waiter);
				s->dropped++;
				gone[ngone++] = waiter;
				continue;
			}
			rsl_wait_queue_grant(&queue, nodes, waiter, 0xF);
			busy[nbusy].at = now + random_duration(&source, SERVICE);
			busy[nbusy++].client = waiter;
		}
		if (queue.total == 0)
			rsl_codel_reset(&codel);

		for (int i = 0; i < ngone; i++)
		{
			if (s->clients > 0)
			{
				/* it comes again, after 20 ms */
				event	   *e = &again[(again_first + nagain++) % NODES];

				e->at = now + 20 * MS;
				e->client = gone[i];
			}
			else
				free_nodes[nfree++] = gone[i];
		}
	}
}

static void
report(const char *what, const scenario *s, int64_t duration)
{
	diag("%-34s %-6s %-7s in time %6.1f /s, too late %6.1f /s, timed out %7.1f /s, dropped %7.1f /s, refused %8.1f /s",
		 what, s->codel ? "codel" : "-", s->newest ? "newest" : "oldest",
		 s->good * 1e6 / duration, s->late * 1e6 / duration,
		 s->timed_out * 1e6 / duration, s->dropped * 1e6 / duration,
		 s->refused * 1e6 / duration);
}

static void
compare(const char *what, double rate, int clients, int burst,
		int64_t duration, scenario *results)
{
	scenario	template = {.rate = rate,.clients = clients,.burst = burst};

	for (int i = 0; i < 4; i++)
	{
		template.codel = i & 1;
		template.newest = i & 2;
		simulate(&template, duration);
		results[i] = template;
		report(what, &template, duration);
	}
}

static void
simulations(void)
{
	scenario	r[4];
	const int64_t duration = 20 * SECOND;
	const double capacity = 800;

	compare("open loop, half the capacity", 400, 0, 0, duration, r);
	is(r[1].dropped + r[3].dropped, 0, "below the capacity nobody is dropped");
	ok(r[1].good == r[0].good, "and nothing changes");

	compare("open loop, 97 % of the capacity", 0.97 * capacity, 0, 0, duration, r);
	is(r[1].dropped, 0, "near the capacity neither");

	for (int i = 0; i < 3; i++)
	{
		static const double times[] = {1.1, 2, 5};
		char		what[64];

		snprintf(what, sizeof(what), "open loop, %g times the capacity", times[i]);
		compare(what, times[i] * capacity, 0, 0, duration, r);
		ok(r[0].good < 0.85 * capacity * 20, "%s: plain, much comes too late (%.0f %% of the capacity in time)",
		   what, r[0].good / 20 / capacity * 100);
		ok(r[1].good > 0.97 * capacity * 20, "%s: codel, next to all in time (%.0f %%)",
		   what, r[1].good / 20 / capacity * 100);
		ok(r[3].good > 0.93 * capacity * 20, "%s: with both as well (%.0f %%)",
		   what, r[3].good / 20 / capacity * 100);
		ok(r[1].late < 0.005 * r[1].good, "%s: codel, hardly anything is done for nobody", what);
	}

	for (int i = 0; i < 2; i++)
	{
		static const int clients[] = {900, 3000};
		char		what[64];

		snprintf(what, sizeof(what), "closed loop, %d clients", clients[i]);
		compare(what, 0, clients[i], 0, duration, r);
		ok(r[1].good > 0.97 * capacity * 20 && r[1].good > r[0].good, "%s: codel, in time %.0f %%, plain %.0f %%",
		   what, r[1].good / 20 / capacity * 100, r[0].good / 20 / capacity * 100);
		ok(r[3].good > 0.93 * capacity * 20, "%s: with both %.0f %%", what, r[3].good / 20 / capacity * 100);
	}

	/* 600 at once are through within a second, if they are let */
	compare("a burst of 600", 0, 0, 600, 3 * SECOND, r);
	is(r[0].good, 600, "a burst: plain, all are served in time");
	is(r[1].good, 600, "a burst: codel drops nobody who would be served");
}

int
main(void)
{
	test_rules();
	simulations();
	return done_testing();
}
