/*-------------------------------------------------------------------------
 *
 * test_contention_simulation.c
 *		What do the words that all cores write cost, with 64 and 256 cores?
 *
 * A limit is kept by one word of shared memory that each transaction adds to
 * and subtracts from.  The cache line with it moves from core to core, one at
 * a time, so that there is a rate of transactions that no server can exceed,
 * however many cores it has.  PostgreSQL has such lines of its own.  This
 * simulation has cores that work for a while and then touch those lines, one
 * after the other, and asks how much of the throughput is lost with the word
 * and without it.
 *
 * How often a line is touched was counted with gdb (PostgreSQL 15.20, EXECUTE
 * of a select by primary key, resilience.max_running = 50: a watchpoint on
 * rsl_shmem->server.word, a breakpoint on LWLockAcquire):
 *
 *	the pool's word				2 writes, each after the line was read (of the
 *								word and the limit; turns look whether
 *								somebody waits)
 *	ProcArrayLock				taken once, shared: 2 writes
 *	root page of the index		pinned, its content lock taken shared: 4 writes
 *								of one line (LWLock and state of its buffer)
 *	partition of the root page	its mapping lock taken shared: 2 writes
 *
 * A bulkhead that matches is one more word like the first.
 *
 * What the transfer of a line takes is assumed: 50 ns between two cores of a
 * socket of 64, and 150 ns between two sockets.  That is the order of what is
 * published for servers (David, Guerraoui, Trigonakis: Everything You Always
 * Wanted to Know About Synchronization but Were Afraid to Ask, SOSP 2013; and
 * the core-to-core latencies in reviews of newer processors).  A core that had
 * the line last pays 5 ns.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#define MAX_CORES		256
#define SOCKET_CORES	64

#define SAME_CORE_NS	5
#define SAME_SOCKET_NS	50
#define OTHER_SOCKET_NS 150

/* the lines, and how often a transaction touches each of them */
typedef enum sim_line
{
	LINE_POOL = 0,
	LINE_BULKHEAD,
	LINE_PROCARRAY,
	LINE_ROOT_PAGE,
	LINE_ROOT_PARTITION,
	NUM_LINES
} sim_line;

static const sim_line plain_touches[] = {
	LINE_PROCARRAY, LINE_PROCARRAY,
	LINE_ROOT_PARTITION, LINE_ROOT_PARTITION,
	LINE_ROOT_PAGE, LINE_ROOT_PAGE, LINE_ROOT_PAGE, LINE_ROOT_PAGE
};

#define NPLAIN	((int) (sizeof(plain_touches) / sizeof(plain_touches[0])))
#define MAX_TOUCHES	(NPLAIN + 8)

/* reading the line, then writing it: that is two transfers when others come between */
#define TOUCHES_OF_A_POOL	4

typedef struct sim_transaction
{
	sim_line	touches[MAX_TOUCHES];
	int			ntouches;
} sim_transaction;

/* The words are taken at the beginning of a transaction and given back at its end. */
static void
compose(sim_transaction *t, bool plain, int pools)
{
	t->ntouches = 0;
	for (int p = 0; p < pools; p++)
		for (int i = 0; i < TOUCHES_OF_A_POOL / 2; i++)
			t->touches[t->ntouches++] = p == 0 ? LINE_POOL : LINE_BULKHEAD;
	for (int i = 0; i < NPLAIN && plain; i++)
		t->touches[t->ntouches++] = plain_touches[i];
	for (int p = 0; p < pools; p++)
		for (int i = 0; i < TOUCHES_OF_A_POOL / 2; i++)
			t->touches[t->ntouches++] = p == 0 ? LINE_POOL : LINE_BULKHEAD;
}

/* Events: at "when" core "core" is ready for its next touch.  A binary heap. */
typedef struct sim_event
{
	double		when;
	int			core;
} sim_event;

static sim_event heap[MAX_CORES + 1];
static int	nheap;

static void
push(double when, int core)
{
	int			i = ++nheap;

	while (i > 1 && heap[i / 2].when > when)
	{
		heap[i] = heap[i / 2];
		i /= 2;
	}
	heap[i] = (sim_event)
	{
		when, core
	};
}

static sim_event
pop(void)
{
	sim_event	first = heap[1];
	sim_event	last = heap[nheap--];
	int			i = 1;

	while (2 * i <= nheap)
	{
		int			child = 2 * i;

		if (child < nheap && heap[child + 1].when < heap[child].when)
			child++;
		if (last.when <= heap[child].when)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

static double
transfer_ns(int from, int to)
{
	if (from == to)
		return SAME_CORE_NS;
	return from / SOCKET_CORES == to / SOCKET_CORES ? SAME_SOCKET_NS : OTHER_SOCKET_NS;
}

/* Transactions per microsecond of so many cores; each has so much work. */
static double
throughput(int cores, double work_us, const sim_transaction *t)
{
	struct
	{
		double		free_at;
		int			owner;
	}			lines[NUM_LINES] = {0};
	int			next[MAX_CORES] = {0};
	random_source random = {42};
	long		wanted = 100L * cores + 2000;
	long		warm = wanted / 4;
	double		warm_at = 0;
	double		now = 0;
	double		slice = work_us * 1000 / (t->ntouches + 1);
	long		done = 0;

	nheap = 0;
	for (int c = 0; c < cores; c++)
		push(random_double(&random) * work_us * 1000, c);
	while (done < wanted)
	{
		sim_event	e = pop();
		int			c = e.core;

		now = e.when;
		if (next[c] == t->ntouches)
		{
			next[c] = 0;
			if (++done == warm)
				warm_at = now;
		}
		else
		{
			sim_line	line = t->touches[next[c]++];
			double		begin = now > lines[line].free_at ? now : lines[line].free_at;

			now = begin + transfer_ns(lines[line].owner, c);
			lines[line].free_at = now;
			lines[line].owner = c;
		}
		push(now + slice * (0.5 + random_double(&random)), c);
	}
	return (done - warm) / ((now - warm_at) / 1000);
}

int
main(void)
{
	static const int cores[] = {1, 16, 64, 256};
	static const double works[] = {20, 50, 100, 200, 1000};
	sim_transaction alone;
	sim_transaction plain;
	sim_transaction limited;
	sim_transaction bulkhead;

	compose(&alone, false, 1);
	compose(&plain, true, 0);
	compose(&limited, true, 1);
	compose(&bulkhead, true, 2);

	diag("throughput / what the work alone would allow; the last columns: with / without");
	diag("cores  work us  plain  the word alone  + limit  + bulkhead  limit/plain  bulkhead/plain");
	for (int i = 0; i < 4; i++)
	{
		for (int j = 0; j < 5; j++)
		{
			double		ideal = cores[i] / works[j];
			double		p = throughput(cores[i], works[j], &plain) / ideal;
			double		a = throughput(cores[i], works[j], &alone) / ideal;
			double		l = throughput(cores[i], works[j], &limited) / ideal;
			double		b = throughput(cores[i], works[j], &bulkhead) / ideal;

			diag("%5d %8.0f %6.2f %15.2f %8.2f %11.2f %12.2f %15.2f",
				 cores[i], works[j], p, a, l, b, l / p, b / p);

			/* the model is a model of something */
			check(p <= 1.01 && a <= 1.01 && l <= p * 1.02,
				  "%d cores, %g us: %g %g %g", cores[i], works[j], p, a, l);

			/*
			 * a server does not stop earlier at our word than at its own
			 * lines
			 */
			check(a >= p * 0.98, "%d cores, %g us: alone %g, plain %g",
				  cores[i], works[j], a, p);
			if (cores[i] <= 16)
				check(l >= 0.97 * p && b >= 0.95 * p, "%d cores, %g us: %g, %g of %g",
					  cores[i], works[j], l, b, p);
			if (cores[i] == 64)
				check(l >= 0.9 * p, "64 cores, %g us: %g of %g", works[j], l, p);
			if (cores[i] == 256 && works[j] >= 200)
				check(l >= 0.95 * p, "256 cores, %g us: %g of %g", works[j], l, p);
		}
	}
	check_done("the word of a limit costs no more than PostgreSQL's own shared lines");
	return done_testing();
}
