/*-------------------------------------------------------------------------
 *
 * budget.c
 *		Budgets of bulkheads: who may begin, considering what it will cost.
 *
 * A transaction is judged at its first statement, before it takes or waits
 * for any slot.  What it will cost is estimated by the planner's cost of the
 * statement and what CPU time such costs have turned out to be: for the same
 * query, or else for the bulkhead's transactions in general.  If the estimate
 * and what the bulkhead still owes are more than its burst the transaction is
 * refused, with the time after which it would not be; if it is let in, the
 * estimate is charged at once, so that many that begin together do not all
 * see an empty debt.  What is known about the CPU time is charged later, see
 * shared/budget.c.
 *
 * The planner's cost of a query of which nothing is known says little: it
 * counts for half of the burst at most, so that it can run and be learnt about
 * even where something is always owed.
 *
 * The budgets are about CPU time and numbers of transactions, not about
 * slots: who is refused here does not wait in a queue.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "bulkhead/budget.h"
#include "core/arrival_rate.h"
#include "port/pg_bitutils.h"
#include "shared/errcodes.h"
#include "shared/pool.h"
#include "shared/refusal_log.h"
#include "shared/session.h"
#include "shared/settings.h"

/* Why a transaction is not let in. */
typedef enum budget_reason
{
	WITHIN_BUDGET = 0,
	DEBT,						/* too much is owed */
	BURST,						/* it alone is more than the burst */
	COST,						/* its plan costs too much */
	RATE						/* too many have come */
} budget_reason;

/* What was found, for the message. */
typedef struct budget_finding
{
	budget_reason reason;
	double		rate;
	double		limit;			/* burst in us, cost, or transactions/s */
	double		debt_us;
	double		estimate_us;
	double		cost;
	int64		wait_us;		/* until it would not be refused; -1 = never */
} budget_finding;

static double
planned_cost(const PlannedStmt *stmt)
{
	return stmt->planTree ? stmt->planTree->total_cost : 0;
}

/* One more transaction per second? */
static bool
take_arrival(rsl_budget *budget, budget_finding *finding)
{
	uint64		old = pg_atomic_read_u64(&budget->arrivals);
	uint64		next;

	finding->limit = rsl_budget_number(&budget->max_rate);
	finding->wait_us = -1;
	if (finding->limit <= 0)
		return false;
	do
	{
		if (!rsl_arrival_reserve(finding->limit, 0, old, rsl_now_us(), &next,
								 &finding->wait_us))
			return false;
	} while (!pg_atomic_compare_exchange_u64(&budget->arrivals, &old, next));
	return true;
}

/* What will a transaction that begins with this query cost, in microseconds? */
static double
estimate_cpu(const rsl_budget_request *request, double cost)
{
	uint64		learnt = rsl_query_cost_lookup(request->query_id);
	double		estimate = -1;

	if (learnt != 0)
		return rsl_cost_estimate(learnt, cost);

	for (uint32 left = request->bits; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);
		rsl_budget *budget = &rsl_bulkheads[rsl_me->matches[i].index].budget;

		if ((pg_atomic_read_u32(&budget->flags) & RSL_BUDGET_CPU) == 0)
			continue;
		if (estimate < 0)
			estimate = rsl_cost_estimate(pg_atomic_read_u64(&budget->typical),
										 cost);
		estimate = Min(estimate, rsl_budget_number(&budget->burst_us) / 2);
	}
	return Max(estimate, 0);
}

/* Charge the estimate if there is room for it. */
static bool
take_cpu(rsl_budget *budget, budget_finding *finding)
{
	double		rate = rsl_budget_number(&budget->rate);
	double		burst = rsl_budget_number(&budget->burst_us);
	double		estimate = finding->estimate_us;
	int64		now = rsl_now_us();
	uint64		old = pg_atomic_read_u64(&budget->debt);

	finding->rate = rate;
	finding->limit = burst;
	do
	{
		finding->debt_us = rsl_cpu_debt(old, rate, now);
		if (estimate > burst)
		{
			finding->reason = BURST;
			finding->wait_us = -1;
			return false;
		}
		if (finding->debt_us + estimate > burst)
		{
			finding->reason = DEBT;
			finding->wait_us = rsl_cpu_debt_wait(old, rate, now, burst - estimate);
			return false;
		}
	} while (!pg_atomic_compare_exchange_u64(&budget->debt, &old,
											 rsl_cpu_debt_add(old, rate, now, estimate)));
	return true;
}

/* The numbers of a finding, as key=value. */
static char *
describe(const budget_finding *finding)
{
	switch (finding->reason)
	{
		case RATE:
			return psprintf("max_rate=%g", finding->limit);
		case COST:
			return psprintf("cost=%.0f max_statement_cost=%.0f",
							finding->cost, finding->limit);
		default:
			return psprintf("cpu_debt_ms=%.0f estimate_ms=%.0f cpu_burst_ms=%.0f cpu_ms_per_second=%.0f",
							finding->debt_us / 1000, finding->estimate_us / 1000,
							finding->limit / 1000, finding->rate * 1000);
	}
}

/* Count a refusal, and raise it unless we only observe. */
static void
refuse(const rsl_budget_request *request, rsl_bulkhead *bulkhead,
	   const budget_finding *finding, bool enforce)
{
	char		name[NAMEDATALEN];
	const char *priority = rsl_priority_name(request->priority);
	int64		retry_after_ms = finding->wait_us / 1000 + 1;
	bool		to_log = rsl_time_to_log(&bulkhead->last_logged);
	char	   *numbers;

	pg_atomic_fetch_add_u64(&bulkhead->refused_statements, 1);
	pg_atomic_fetch_add_u64(&bulkhead->budget.refused, 1);
	if (!enforce && !to_log)
		return;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	strlcpy(name, bulkhead->policy.name, sizeof(name));
	LWLockRelease(rsl_config_lock);
	numbers = describe(finding);

	if (!enforce)
	{
		ereport(LOG,
				(errmsg("a budget of bulkhead \"%s\" would have refused a statement",
						name),
				 errdetail("%s priority=%s mode=observe", numbers, priority)));
		pfree(numbers);
		return;
	}

	rsl_session_release();
	rsl_refusal_unlogged = !to_log;
	switch (finding->reason)
	{
		case BURST:
			ereport(ERROR,
					(errcode(ERRCODE_BULKHEAD_FULL),
					 errmsg("statement needs more CPU time than bulkhead \"%s\" may use at once",
							name),
					 errdetail("%s priority=%s started=false", numbers, priority),
					 errhint("Retrying does not help. Make the statement cheaper, or raise the bulkhead's cpu_burst.")));
			break;
		case COST:
			ereport(ERROR,
					(errcode(ERRCODE_BULKHEAD_FULL),
					 errmsg("statement is too expensive for bulkhead \"%s\"", name),
					 errdetail("%s priority=%s started=false", numbers, priority),
					 errhint("Retrying does not help. Make the statement cheaper, or raise the bulkhead's max_statement_cost.")));
			break;
		case RATE:
			if (finding->wait_us < 0)
				ereport(ERROR,
						(errcode(ERRCODE_BULKHEAD_FULL),
						 errmsg("bulkhead \"%s\" admits no transactions", name),
						 errdetail("%s priority=%s started=false", numbers, priority),
						 errhint("Raise the bulkhead's max_rate.")));
			ereport(ERROR,
					(errcode(ERRCODE_BULKHEAD_FULL),
					 errmsg("too many transactions per second for bulkhead \"%s\"",
							name),
					 errdetail("%s priority=%s started=false retry_after_ms=" INT64_FORMAT,
							   numbers, priority, retry_after_ms),
					 errhint("Retry later, or raise the bulkhead's max_rate.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_BULKHEAD_FULL),
					 errmsg("CPU budget of bulkhead \"%s\" is used up", name),
					 errdetail("%s priority=%s started=false retry_after_ms=" INT64_FORMAT,
							   numbers, priority, retry_after_ms),
					 errhint("Retry later, or raise the bulkhead's cpu_share or cpu_burst.")));
	}
}

/* Undo what was charged to these bulkheads: another one has refused. */
static void
give_back(uint32 bits, double estimate_us)
{
	for (; bits != 0; bits &= bits - 1)
	{
		int			i = pg_rightmost_one_pos32(bits);

		rsl_budget_charge(&rsl_bulkheads[rsl_me->matches[i].index].budget,
						  -estimate_us);
	}
}

/*
 * Judge a transaction by the budgets of the bulkheads that it matches: charge
 * it to them, or raise an error.  In the end it is open (rsl_budget_settle())
 * if there is a CPU budget among them.
 */
void
rsl_budget_judge(const rsl_budget_request *request)
{
	double		cost = planned_cost(request->stmt);
	double		estimate = estimate_cpu(request, cost);
	uint32		charged = 0;
	uint32		unestimated = 0;
	uint32		counted = 0;

	for (uint32 left = request->bits; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);
		rsl_bulkhead *bulkhead = &rsl_bulkheads[rsl_me->matches[i].index];
		rsl_budget *budget = &bulkhead->budget;
		uint32		flags = pg_atomic_read_u32(&budget->flags);
		bool		acts = rsl_budget_acts(flags);
		bool		pays = false;
		bool		observed = false;
		budget_finding finding = {WITHIN_BUDGET};

		finding.cost = cost;
		if (flags & RSL_BUDGET_CPU)
		{
			finding.estimate_us = estimate;
			pays = take_cpu(budget, &finding);
		}
		if (finding.reason == WITHIN_BUDGET && (flags & RSL_BUDGET_COST) != 0 &&
			cost > rsl_budget_number(&budget->max_cost))
		{
			finding.reason = COST;
			finding.limit = rsl_budget_number(&budget->max_cost);
		}
		if (finding.reason == WITHIN_BUDGET && (flags & RSL_BUDGET_RATE) != 0 &&
			!take_arrival(budget, &finding))
			finding.reason = RATE;

		if (finding.reason != WITHIN_BUDGET && acts &&
			!request->exempt(request->arg))
		{
			bool		enforce = rsl_mode_setting == RSL_MODE_ENFORCE &&
				pg_atomic_read_u32(&bulkhead->mode) == RSL_MODE_ENFORCE;

			if (enforce)
			{
				give_back((charged & ~unestimated) |
						  (pays ? UINT32_C(1) << i : 0), estimate);
				/* who tries again and again pays for what runs only */
				rsl_budget_set_clock();
			}
			else if (pays)
				give_back(UINT32_C(1) << i, estimate);
			observed = true;
			refuse(request, bulkhead, &finding, enforce);
		}

		/*
		 * It runs, whatever was found.  What would not have run owes nothing,
		 * so that observing sees the debt that there would be.  While the
		 * budget does not act the debt may be capped, and what was not added
		 * in advance must not be taken off later.
		 */
		if ((flags & RSL_BUDGET_CPU) == 0)
			continue;
		if (observed)
		{
			counted |= UINT32_C(1) << i;
			continue;
		}
		charged |= UINT32_C(1) << i;
		if (pays)
			continue;
		if (acts)
			rsl_budget_charge(budget, estimate);
		else
			unestimated |= UINT32_C(1) << i;
	}

	if ((charged | counted) != 0)
		rsl_budget_open(charged, unestimated, counted, estimate, request->query_id, cost);
}
