/*-------------------------------------------------------------------------
 *
 * budget.c
 *		CPU time that bulkheads owe, and what queries have cost.
 *
 * A transaction that a budget judges is charged with an estimate when it is
 * let in; what it really took replaces the estimate when it ends, however it
 * ends.  In between the launcher charges what it has used beyond that, so
 * that a statement that runs for an hour does not look like one that was
 * estimated to take a second.  It is CPU time of the process from the end of
 * its last transaction to the end of this one: idle time costs nothing,
 * parsing and planning do, and all statements of the transaction count.  Parallel workers add theirs to their
 * leader's when they end; the leader waits for that before it ends.
 *
 * What the launcher and the owner charge must add up: the session's word
 * cpu_charged tells how much has been charged, and who moves it on by
 * compare-and-swap charges the difference.  The owner takes it out at the
 * end.  A number in it tells transactions apart.
 *
 * What is learnt is the CPU time of the transaction that begins with a query,
 * against the planner's cost of that query.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <unistd.h>

#include "access/parallel.h"
#include "port/pg_bitutils.h"
#include "shared/budget.h"
#include "shared/pool.h"
#include "shared/process_cpu.h"
#include "shared/session.h"
#include "storage/ipc.h"
#include "storage/proc.h"

/*
 * cpu_charged: the transaction's number, and the process's CPU time up to which
 * it has been charged, in microseconds
 */
#define CHARGED_BITS		48
#define CHARGED_UP_TO(word)	((int64) ((word) & ((UINT64CONST(1) << CHARGED_BITS) - 1)))
#define CHARGED_NUMBER(word)	((word) >> CHARGED_BITS)
#define CHARGED(number, us)	((uint64) (number) << CHARGED_BITS | (uint64) (us))

/* the launcher does not charge less than this, in microseconds */
#define LEAST_CHARGE		1000

/* places where a query may be found */
#define COST_WAYS			4
#define COST_BUSY			UINT64_MAX

rsl_query_cost *rsl_query_costs = NULL;
bool		rsl_budget_is_open = false;

/* The transaction that is being charged. */
static struct
{
	uint16		number;			/* of the transactions that were charged */
	bool		learns;			/* it was judged at its first statement */
	uint64		query_id;
	double		cost;
	int64		began;			/* the process's CPU time then */

	uint32		counted;		/* matches that do not pay */

	/* per match: the process's CPU time, and what was charged, at its begin */
	int64		used_before[RSL_MAX_MATCHES];
	int64		charged_before[RSL_MAX_MATCHES];
}			current;

static rsl_session *leader = NULL;	/* in a parallel worker */

/*
 * This process's CPU time when its last transaction was settled (-1 = not
 * known), and how many it had been admitted for.
 */
static int64 settled_at = -1;
static uint64 settled_admitted = 0;

static uint64
admitted_by_me(void)
{
	uint64		n = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		n += pg_atomic_read_u64(&rsl_me->admitted[c]);
	return n;
}

Size
rsl_budget_shmem_size(void)
{
	return RSL_QUERY_COSTS * sizeof(rsl_query_cost);
}

void
rsl_budget_shmem_place(void *place)
{
	rsl_query_costs = place;
}

void
rsl_budget_shmem_init(void)
{
	for (int i = 0; i < RSL_QUERY_COSTS; i++)
	{
		pg_atomic_init_u64(&rsl_query_costs[i].query_id, 0);
		pg_atomic_init_u64(&rsl_query_costs[i].word, 0);
	}
}

static void
write_number(pg_atomic_uint64 *number, double value)
{
	uint64		bits;

	memcpy(&bits, &value, sizeof(bits));
	pg_atomic_write_u64(number, bits);
}

/* A new bulkhead's: nothing is owed. */
void
rsl_budget_init(rsl_budget *budget)
{
	pg_atomic_init_u32(&budget->flags, 0);
	pg_atomic_init_u64(&budget->rate, 0);
	pg_atomic_init_u64(&budget->burst_us, 0);
	pg_atomic_init_u64(&budget->max_cost, 0);
	pg_atomic_init_u64(&budget->max_rate, 0);
	pg_atomic_init_u64(&budget->debt, 0);
	pg_atomic_init_u64(&budget->arrivals, 0);
	pg_atomic_init_u64(&budget->typical, 0);
	pg_atomic_init_u64(&budget->cpu_us, 0);
	pg_atomic_init_u64(&budget->refused, 0);
}

/*
 * What a policy says, for the statement path; NULL: it says nothing any more.
 * Config lock held exclusively, or nobody else is there yet.
 */
void
rsl_budget_publish(rsl_budget *budget, const rsl_bulkhead_policy *policy)
{
	uint32		flags = 0;
	long		cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (policy && policy->cpu_share >= 0)
	{
		double		old_rate = rsl_budget_number(&budget->rate);
		double		rate = policy->cpu_share * Max(cores, 1);

		flags |= RSL_BUDGET_CPU;
		if (old_rate != rate)
		{
			/*
			 * The word is the time at which all is paid: keep what is owed,
			 * not how long that takes.  (What others charge in this moment is
			 * lost.)
			 */
			int64		now = rsl_now_us();
			double		debt = rsl_cpu_debt(pg_atomic_read_u64(&budget->debt),
											old_rate, now);

			pg_atomic_write_u64(&budget->debt,
								rsl_cpu_debt_add(0, rate, now, debt));
		}
		write_number(&budget->rate, rate);
		write_number(&budget->burst_us, policy->cpu_burst_ms * 1000);
	}
	if (policy && policy->max_statement_cost >= 0)
	{
		flags |= RSL_BUDGET_COST;
		write_number(&budget->max_cost, policy->max_statement_cost);
	}
	if (policy && policy->max_rate >= 0)
	{
		flags |= RSL_BUDGET_RATE;
		write_number(&budget->max_rate, policy->max_rate);
	}
	if (policy && policy->only_under_load)
		flags |= RSL_BUDGET_ONLY_UNDER_LOAD;
	pg_write_barrier();
	pg_atomic_write_u32(&budget->flags, flags);
}

void
rsl_budget_reset_statistics(rsl_budget *budget)
{
	pg_atomic_write_u64(&budget->cpu_us, 0);
	pg_atomic_write_u64(&budget->refused, 0);
}

/*
 * What has been learnt about queries: a small table, without locks.  Who
 * learns about a query for the first time takes a free place or another
 * query's.
 */

static rsl_query_cost *
cost_places(uint64 query_id)
{
	/* an identifier is a hash already */
	return &rsl_query_costs[query_id % (RSL_QUERY_COSTS / COST_WAYS) * COST_WAYS];
}

void
rsl_query_costs_forget(void)
{
	for (int i = 0; i < RSL_QUERY_COSTS; i++)
		pg_atomic_write_u64(&rsl_query_costs[i].query_id, 0);
}

/* 0 if nothing is known of it. */
uint64
rsl_query_cost_lookup(uint64 query_id)
{
	rsl_query_cost *places = cost_places(query_id);

	if (query_id == 0 || query_id == COST_BUSY)
		return 0;
	for (int i = 0; i < COST_WAYS; i++)
	{
		if (pg_atomic_read_u64(&places[i].query_id) == query_id)
			return pg_atomic_read_u64(&places[i].word);
	}
	return 0;
}

static void
learn_word(pg_atomic_uint64 *word, double cost, double cpu_us)
{
	uint64		old = pg_atomic_read_u64(word);

	while (!pg_atomic_compare_exchange_u64(word, &old,
										   rsl_cost_learn(old, cost, cpu_us)))
		 /* somebody else has learnt */ ;
}

static void
learn_query(uint64 query_id, double cost, double cpu_us)
{
	rsl_query_cost *places = cost_places(query_id);
	rsl_query_cost *place = NULL;
	uint64		old;

	if (query_id == 0 || query_id == COST_BUSY)
		return;
	for (int i = 0; i < COST_WAYS; i++)
	{
		old = pg_atomic_read_u64(&places[i].query_id);
		if (old == query_id)
		{
			learn_word(&places[i].word, cost, cpu_us);
			return;
		}
		if (old == 0 && place == NULL)
			place = &places[i];
	}

	/* any place will do: it is the queries that come often that stay */
	if (place == NULL)
		place = &places[current.number % COST_WAYS];
	old = pg_atomic_read_u64(&place->query_id);
	if (old == COST_BUSY ||
		!pg_atomic_compare_exchange_u64(&place->query_id, &old, COST_BUSY))
		return;
	pg_atomic_write_u64(&place->word, rsl_cost_learn(0, cost, cpu_us));
	pg_write_barrier();
	pg_atomic_write_u64(&place->query_id, query_id);
}

/*
 * Add to what a bulkhead owes, or (negative) take off.  While the budget does
 * not act nothing can keep the debt down, so it grows to the burst and no
 * further: else an hour of using an idle machine would be paid for by hours of
 * refusals when it is not idle any more.
 */
void
rsl_budget_charge(rsl_budget *budget, double cpu_us)
{
	uint32		flags = pg_atomic_read_u32(&budget->flags);
	bool		capped = cpu_us > 0 && !rsl_budget_acts(flags);
	double		rate;
	double		burst;
	uint64		old;
	uint64		next;
	int64		now;

	if ((flags & RSL_BUDGET_CPU) == 0)
		return;
	rate = rsl_budget_number(&budget->rate);
	burst = rsl_budget_number(&budget->burst_us);
	now = rsl_now_us();
	old = pg_atomic_read_u64(&budget->debt);
	do
	{
		next = capped ?
			rsl_cpu_debt_add_capped(old, rate, now, cpu_us, burst) :
			rsl_cpu_debt_add(old, rate, now, cpu_us);
	} while (!pg_atomic_compare_exchange_u64(&budget->debt, &old, next));
}

/* The bulkhead of a match, if it is still the one that was matched. */
static rsl_bulkhead *
matched_bulkhead(const rsl_match *match)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[match->index];

	return bulkhead->uid == match->uid ? bulkhead : NULL;
}

/*
 * The process's CPU time was last looked at now: what it used before is paid
 * for by somebody, or by nobody.
 */
void
rsl_budget_set_clock(void)
{
	settled_at = rsl_process_cpu_us(0);
	settled_admitted = admitted_by_me();
}

/* The session's bulkheads are others: what it did is not theirs. */
void
rsl_budget_lose_clock(void)
{
	settled_at = -1;
}

/*
 * This transaction belongs to the bulkheads of these matches from now on:
 * "paying" have been charged with the estimate, but for "unestimated";
 * "counted" do not pay, their CPU time is only counted.  Parsing and planning
 * of its first statement, since our last transaction ended, are part of it,
 * if nothing else was done in between.  Does not fail.
 */
void
rsl_budget_open(uint32 paying, uint32 unestimated, uint32 counted,
				double estimate_us, uint64 query_id, double cost)
{
	rsl_session *me = rsl_me;
	uint32		bits = paying | counted;

	if (++current.number == 0)
		current.number = 1;
	current.learns = true;
	current.query_id = query_id;
	current.cost = cost;
	current.began = settled_at >= 0 && settled_admitted == admitted_by_me() ?
		settled_at : rsl_process_cpu_us(0);

	for (uint32 left = bits; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);

		current.used_before[i] = current.began;
		current.charged_before[i] = current.began +
			((unestimated & (UINT32_C(1) << i)) != 0 ? (int64) estimate_us : 0);
	}
	current.counted = counted;

	me->budget_bits = paying;
	pg_atomic_write_u64(&me->worker_cpu_us, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&me->cpu_charged,
						CHARGED(current.number, current.began + (int64) estimate_us));
	rsl_budget_is_open = true;
}

/* A later statement of the transaction concerns these bulkheads, too. */
void
rsl_budget_add(uint32 bits)
{
	rsl_session *me = rsl_me;
	uint64		charged;

	if (!rsl_budget_is_open)
	{
		rsl_budget_lose_clock();
		rsl_budget_open(bits, 0, 0, 0, 0, 0);
		current.learns = false;

		return;
	}

	/* keep the launcher out while the list changes */
	charged = pg_atomic_exchange_u64(&me->cpu_charged, 0);
	for (uint32 left = bits; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);

		current.used_before[i] = rsl_process_cpu_us(0);
		current.charged_before[i] = CHARGED_UP_TO(charged);
	}
	me->budget_bits |= bits;
	if (++current.number == 0)
		current.number = 1;

	pg_write_barrier();
	pg_atomic_write_u64(&me->cpu_charged,
						CHARGED(current.number, CHARGED_UP_TO(charged)));
}

/*
 * The transaction is over, or was not let in after all: put what it used in
 * the place of what was charged.  "completed" if it was not cut short, so
 * that something can be learnt from it.
 */
void
rsl_budget_settle(bool completed)
{
	rsl_session *me = rsl_me;
	int64		charged;
	int64		used;

	rsl_budget_is_open = false;
	charged = CHARGED_UP_TO(pg_atomic_exchange_u64(&me->cpu_charged, 0));
	rsl_budget_set_clock();
	used = settled_at +
		(int64) pg_atomic_exchange_u64(&me->worker_cpu_us, 0);

	for (uint32 left = me->budget_bits | current.counted; left != 0;
		 left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);
		rsl_bulkhead *bulkhead = matched_bulkhead(&me->matches[i]);
		int64		its_use = used - current.used_before[i];

		if (bulkhead == NULL)
			continue;
		if ((me->budget_bits & (UINT32_C(1) << i)) != 0)
			rsl_budget_charge(&bulkhead->budget,
							  its_use - (charged - current.charged_before[i]));
		pg_atomic_fetch_add_u64(&bulkhead->budget.cpu_us, its_use);
		if (completed && current.learns)
			learn_word(&bulkhead->budget.typical, current.cost,
					   used - current.began);
	}
	me->budget_bits = 0;
	if (completed && current.learns)
		learn_query(current.query_id, current.cost, used - current.began);
}

/*
 * Called by the launcher: charge what running transactions have used beyond
 * what they were charged with.  A process that ends takes its word out before,
 * so that nobody is charged with what a successor of its pid has used.
 */
void
rsl_budget_charge_running(void)
{
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		uint64		word = pg_atomic_read_u64(&session->cpu_charged);
		rsl_match	matches[RSL_MAX_MATCHES];
		uint32		bits;
		int64		used;
		int64		more;

		if (word == 0)
			continue;
		pg_read_barrier();
		bits = session->budget_bits;

		memcpy(matches, session->matches, sizeof(matches));
		used = rsl_process_cpu_us(session->pid);
		if (used < 0)
			continue;
		more = used - CHARGED_UP_TO(word);
		if (more < LEAST_CHARGE ||
			!pg_atomic_compare_exchange_u64(&session->cpu_charged, &word,
											CHARGED(CHARGED_NUMBER(word), used)))
			continue;
		for (; bits != 0; bits &= bits - 1)
		{
			rsl_bulkhead *bulkhead;

			bulkhead = matched_bulkhead(&matches[pg_rightmost_one_pos32(bits)]);
			if (bulkhead)
				rsl_budget_charge(&bulkhead->budget, more);
		}
	}
}

/*
 * Parallel workers
 */

static void
worker_exit(int code, Datum arg)
{
	int64		used = rsl_process_cpu_us(0);

	if (used > 0 && pg_atomic_read_u64(&leader->cpu_charged) != 0)
		pg_atomic_fetch_add_u64(&leader->worker_cpu_us, used);
}

/*
 * A parallel worker runs its part of a plan: at its end its CPU time goes to
 * the leader's transaction.  Called at each executor start of a worker.
 */
void
rsl_budget_worker_starts(void)
{
	PGPROC	   *proc = MyProc->lockGroupLeader;

	if (leader != NULL || proc == NULL || rsl_shmem == NULL)
		return;
	leader = &rsl_sessions[proc - ProcGlobal->allProcs];
	if (pg_atomic_read_u64(&leader->cpu_charged) != 0)
		before_shmem_exit(worker_exit, (Datum) 0);
}
