/*-------------------------------------------------------------------------
 *
 * admission.c
 *		Admission of a transaction at its first statement that does work.
 *
 * The transaction takes a slot of each bulkhead that it matches (of one of
 * its compartments, if it has one for each value of a tag), in ascending
 * order of the bulkheads' index, and then one of the server-wide limit: so
 * nobody holds the wide slot while it waits for a narrow one, and waiting
 * cannot form a cycle.  Either it gets them all, or it gets none and an
 * error says so.
 *
 * Nobody waits who holds what others may wait for: a transaction id, or a
 * lock above RowExclusive.  (Parse analysis takes weak locks before any hook
 * runs; a waiter that comes to block somebody through them is let through
 * by the launcher.)
 *
 * Without contention all of this is a few loads, one compare-and-swap for
 * each limited pool, and stores to cache lines of our own.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "bulkhead/budget.h"
#include "policy/match.h"
#include "shared/compartments.h"
#include "shared/features.h"
#include "shared/measures.h"
#include "shared/overload.h"
#include "shared/pool.h"
#include "shared/refusal_log.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "shared/turns.h"
#include "shedding/admission.h"
#include "shedding/preempt.h"
#include "shedding/refusal.h"
#include "shedding/retry_storm.h"
#include "shedding/runaway.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* What the admission of one transaction is about. */
typedef struct admission
{
	const rsl_statement *statement;
	QueryDesc  *queryDesc;		/* NULL for a utility statement */
	rsl_priority priority;
	int			force;			/* 1 = never wait, 0 = may wait, -1 = to see */
	int64		deadline;		/* when the client's budget ends; 0 = none */
	bool		snapshot_released;
	rsl_preemptor preemptor;	/* while it waits */
} admission;

/*
 * May the statement's own tag lower its priority?  Looked for only where the
 * priority matters: nothing is scanned if there is no limit at all.
 */
static inline bool
tag_may_lower_priority(void)
{
	return (rsl_me->nmatches > 0 ||
			pg_atomic_read_u32(&rsl_shmem->minimum_priority) > RSL_PRIORITY_LOW ||
			rsl_pool_limited(&rsl_shmem->server)) &&
		rsl_priority_tag[0] != '\0';
}

/*
 * Which of the session's bulkheads does a statement have to pass?  If
 * *priority is set and the statement may have tags its priority is looked for
 * among them; else *priority is cleared.
 */
static inline uint32
matching_bulkheads(const rsl_statement *statement, bool *priority)
{
	uint32		matched = rsl_matches.unconditional;

	if (rsl_matches.ntags > 0 || *priority)
	{
		if (unlikely(rsl_statement_may_have_tags(statement)))
			rsl_match_read_tags(statement, *priority);
		else
		{
			*priority = false;
			if (unlikely(rsl_matches.ntags > 0))
				rsl_match_no_tags();
		}
	}
	if (rsl_matches.uses_statement)
		matched |= rsl_match_statement(statement);
	return matched;
}

/*
 * Must this transaction not wait?  Looked up only when it would have to.
 */
static bool
must_not_wait(admission *a)
{
	if (a->force < 0)
		a->force = TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
			(rsl_lock_state(MyProc) & (RSL_LOCKS_STRONG | RSL_LOCKS_BLOCKING)) != 0;
	return a->force > 0;
}

/*
 * While we wait our snapshot grows old.  It would keep vacuum and pruning
 * from removing what others update meanwhile, and at the end each update of
 * a hot row would have to walk all the versions that were made since: with
 * 256 clients on one row that costs half of the throughput.  In READ
 * COMMITTED a statement's snapshot may as well be taken when the statement
 * really begins, so we give it up while we sleep.  We can do that only for a
 * statement whose snapshot was pushed by the portal that is starting it.
 */
static void
release_snapshot(void *arg)
{
	admission  *a = arg;
	QueryDesc  *queryDesc = a->queryDesc;

	if (queryDesc == NULL || IsolationUsesXactSnapshot() ||
		!ActiveSnapshotSet() ||
		queryDesc->snapshot != GetActiveSnapshot() ||
		queryDesc->crosscheck_snapshot != InvalidSnapshot ||
		ActivePortal == NULL ||
		!list_member_ptr(ActivePortal->stmts, queryDesc->plannedstmt))
		return;

	UnregisterSnapshot(queryDesc->snapshot);
	queryDesc->snapshot = InvalidSnapshot;
	PopActiveSnapshot();
	InvalidateCatalogSnapshotConditionally();
	a->snapshot_released = true;
}

static void
renew_snapshot(void *arg)
{
	admission  *a = arg;

	if (!a->snapshot_released)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	a->queryDesc->snapshot = RegisterSnapshot(GetActiveSnapshot());
	a->snapshot_released = false;
}

static long
look_for_victim(void *arg)
{
	return rsl_preempt_look(&((admission *) arg)->preemptor);
}

/*
 * Count a refusal, and raise it unless we only observe.  "bulkhead" is NULL
 * for the server-wide limit.
 */
static void
refuse(admission *a, rsl_bulkhead *bulkhead, rsl_pool *pool, rsl_verdict verdict,
	   const rsl_pool_numbers *numbers, bool enforce)
{
	bool		late = verdict == RSL_TIMED_OUT || verdict == RSL_DROPPED;
	pg_atomic_uint32 *last_logged;
	rsl_compartment *compartment = rsl_compartment_of(pool);
	rsl_refusal refusal = {.priority = a->priority,.numbers = numbers};

	if (compartment)
	{
		char		value[RSL_COMPARTMENT_SHOWN_LEN];

		pg_atomic_fetch_add_u32(verdict == RSL_PREEMPTED ? &compartment->preempted :
								late ? &compartment->timed_out :
								&compartment->refused, 1);
		snprintf(refusal.where, sizeof(refusal.where), " compartment=\"%s\"",
				 rsl_compartment_value(compartment, value));
	}

	/* the lever is the server's, in whatever queue it finds a waiter */
	if (verdict == RSL_SHED)
		bulkhead = NULL;

	if (bulkhead)
	{
		pg_atomic_fetch_add_u64(verdict == RSL_PREEMPTED ? &bulkhead->preempted :
								late ? &bulkhead->timed_out :
								&bulkhead->refused_statements, 1);
		LWLockAcquire(rsl_config_lock, LW_SHARED);
		strlcpy(refusal.bulkhead, bulkhead->policy.name, sizeof(refusal.bulkhead));
		LWLockRelease(rsl_config_lock);
		last_logged = &bulkhead->last_logged;
	}
	else
	{
		pg_atomic_fetch_add_u64(verdict == RSL_PREEMPTED ?
								&rsl_shmem->preempted[a->priority] :
								late ?
								&rsl_shmem->timed_out[a->priority] :
								&rsl_shmem->shed[a->priority], 1);
		last_logged = &rsl_shmem->last_logged;
	}

	if (!enforce)
	{
		if (rsl_time_to_log(last_logged))
			rsl_log_refusal(&refusal, verdict);
		return;
	}

	/* all or nothing */
	rsl_session_release();
	if (verdict == RSL_SHED && rsl_is_retry(a->statement))
		pg_atomic_fetch_add_u64(&rsl_shmem->overload[a->priority].retried, 1);
	rsl_note_refusal(a->statement, Max(numbers->retry_after_ms, 1));
	rsl_refusal_unlogged = !rsl_time_to_log(last_logged);

	rsl_raise_refusal(&refusal, verdict);
}

static void
count_wait(admission *a, rsl_bulkhead *bulkhead, rsl_pool *pool, int64 started,
		   bool granted)
{
	int64		waited = Max(rsl_now_us() - started, 0);
	rsl_compartment *compartment = rsl_compartment_of(pool);

	if (compartment)
		pg_atomic_fetch_add_u64(&compartment->wait_us, waited);

	if (bulkhead)
		pg_atomic_fetch_add_u64(&bulkhead->wait_us, waited);
	else
	{
		pg_atomic_fetch_add_u64(&rsl_shmem->wait_us[a->priority], waited);
		pg_atomic_fetch_add_u64(&rsl_shmem->waits[a->priority][rsl_histogram_bucket(waited)], 1);
		rsl_measure_wait(a->priority, waited, granted);
	}
}

/*
 * After how long is a waiter late?  What somebody is ready to wait for is
 * known best from the longest wait that was set for it.
 */
static int64
queue_target_us(rsl_bulkhead *bulkhead, int64 max_wait_us)
{
	if (rsl_queue_target == 0)
		return 0;
	if (rsl_queue_target > 0 && bulkhead == NULL)
		return rsl_queue_target * INT64CONST(1000);
	return max_wait_us / 4;
}

/*
 * No slot of a limited pool is free.  Come back with one, or not at all.
 */
static void
take_slot_slowly(admission *a, rsl_bulkhead *bulkhead, rsl_pool *pool,
				 uint32 unit)
{
	bool		observe;
	rsl_pool_numbers numbers;
	rsl_wait_options options;
	rsl_verdict verdict;
	int64		started;

	observe = rsl_mode_setting == RSL_MODE_OBSERVE ||
		(bulkhead &&
		 pg_atomic_read_u32(&bulkhead->mode) == RSL_MODE_OBSERVE);

	if (rsl_matches.superuser || must_not_wait(a))
	{
		rsl_pool_force_take(pool, a->priority);
		rsl_me->units |= unit;
		return;
	}

	if (observe)
	{
		int32		excess;

		/*
		 * Everybody runs.  Those beyond the limit are the queue that there
		 * would be, and who would have found it full is counted as refused.
		 */
		rsl_pool_get_numbers(pool, a->priority, &numbers);
		excess = numbers.running - numbers.limit + numbers.waiting;
		if (pg_atomic_read_u32(&rsl_shmem->preemption) == RSL_PREEMPTION_RUNNING)
			rsl_preempt_observe(pool, a->priority);
		rsl_pool_force_take(pool, a->priority);
		rsl_me->units |= unit;
		if (excess >= (int32) pg_atomic_read_u32(&pool->max_waiting))
			refuse(a, bulkhead, pool, RSL_QUEUE_FULL, &numbers, false);
		return;
	}

	/* who retries at once must not keep the queue full */
	if (!rsl_retry_may_queue(rsl_overload_of(pool, a->priority),
							 rsl_is_retry(a->statement)) &&
		pg_atomic_read_u32(&pool->max_waiting) > 0)
	{
		rsl_pool_get_numbers(pool, a->priority, &numbers);
		/* who comes back after that is not a retry to us any more */
		numbers.retry_after_ms = Max(numbers.retry_after_ms, 1000);
		refuse(a, bulkhead, pool, RSL_TOO_SOON, &numbers, true);
	}

	if (bulkhead && rsl_turn_pending)
		rsl_turn_give_up(rsl_me);

	started = rsl_now_us();
	if (rsl_deadline > 0 && a->deadline == 0)
		a->deadline = started + rsl_deadline * INT64CONST(1000);
	options.timeout_us = INT64CONST(1000) *
		(bulkhead ? pg_atomic_read_u32(&bulkhead->max_wait_ms) : rsl_max_wait);
	options.target_us = queue_target_us(bulkhead, options.timeout_us);
	options.budget_us = a->deadline == 0 ? 0 : Max(a->deadline - started, 1);
	options.preempt = pg_atomic_read_u32(&rsl_shmem->preemption) !=
		RSL_PREEMPTION_OFF;
	options.on_sleep = release_snapshot;
	options.on_wake = renew_snapshot;
	options.look = NULL;
	options.arg = a;
	if (pg_atomic_read_u32(&rsl_shmem->preemption) == RSL_PREEMPTION_RUNNING &&
		a->priority > RSL_PRIORITY_LOW)
	{
		rsl_preempt_begin(&a->preemptor, pool, a->priority);
		options.look = look_for_victim;
	}

	PG_TRY();
	{
		verdict = rsl_pool_wait(pool, rsl_me, a->priority, &options, &numbers);
		if (verdict == RSL_GRANTED)
			rsl_me->units |= unit;
	}
	PG_CATCH();
	{
		/* cancelled, terminated: the slots of narrower pools too */
		rsl_session_release();
		PG_RE_THROW();
	}
	PG_END_TRY();

	count_wait(a, bulkhead, pool, started, verdict == RSL_GRANTED);
	if (verdict == RSL_DROPPED)
		pg_atomic_fetch_add_u64(&rsl_overload_of(pool, a->priority)->dropped, 1);
	if (verdict != RSL_GRANTED)
		refuse(a, bulkhead, pool, verdict, &numbers, true);
}

/* Is this transaction never refused, whatever it costs? */
static bool
exempt_from_budgets(void *arg)
{
	return rsl_matches.superuser || must_not_wait(arg);
}

/* Judge this transaction by budgets, before it takes anything. */
static void
judge_budgets(admission *a, uint32 bits, const rsl_statement *statement)
{
	rsl_budget_request request = {bits, statement->stmt,
		rsl_statement_query_id(statement), a->priority,
	exempt_from_budgets, a};

	rsl_budget_judge(&request);
}

/* Take a slot of one pool for this transaction. */
static inline void
take_slot(admission *a, rsl_bulkhead *bulkhead, rsl_pool *pool, uint32 unit)
{
	if (!rsl_pool_limited(pool))
		return;
	if (likely(rsl_pool_try_take(pool, a->priority)))
		rsl_me->units |= unit;
	else
		take_slot_slowly(a, bulkhead, pool, unit);
}

/*
 * The pool of a match that the statement meets: the bulkhead's, or that of a
 * compartment, which is pinned until rsl_session_release().
 */
static inline rsl_pool *
pool_of_match(int i)
{
	rsl_match_list *list = &rsl_matches;
	rsl_match  *match = &rsl_me->matches[i];

	if (likely((list->by_value & (UINT32_C(1) << i)) == 0))
		return &rsl_bulkheads[match->index].pool;

	match->pool = rsl_compartment_enter(match->index, match->uid,
										&list->tags[list->tag_of[i]],
										&list->compartment[i]);
	if (match->pool != match->index)
		rsl_me->units |= RSL_PINNED_UNIT;
	return rsl_pool_by_number(match->pool);
}

/* The transaction is charged to match i: count it. */
static inline void
count_admitted(int i)
{
	rsl_match  *match = &rsl_me->matches[i];

	rsl_count_admitted(rsl_me, match->index);
	if (unlikely(match->pool != match->index))
		pg_atomic_fetch_add_u64(&rsl_compartment_of(rsl_pool_by_number(match->pool))->admitted, 1);
}

/*
 * Admit this transaction, or raise an error.  Called for its first statement
 * that does work; does nothing if the mode is off.
 */
void
rsl_admit_transaction(const PlannedStmt *stmt, const char *source_text,
					  QueryDesc *queryDesc)
{
	rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};
	admission	a;
	rsl_session *me = rsl_me;
	uint32		matched;
	bool		priority_tag;

	if (unlikely(rsl_mode_setting == RSL_MODE_OFF))
		return;
	if (unlikely(rsl_match_stale()))
		rsl_match_session();

	priority_tag = tag_may_lower_priority();
	matched = matching_bulkheads(&statement, &priority_tag);
	a.statement = &statement;
	a.queryDesc = queryDesc;
	a.priority = rsl_session_priority(matched);
	if (unlikely(priority_tag))
		a.priority = Min(a.priority, rsl_match_tag_priority());
	a.force = -1;
	a.deadline = 0;
	a.snapshot_released = false;

	me->query_id = (uint64) stmt->queryId;

	/* may raise an error; what it takes is given back by refuse(), too */
	if (unlikely(rsl_runaway_active()) &&
		rsl_runaway_statement_starts(&statement))
		a.priority = RSL_PRIORITY_LOW;
	me->priority = a.priority;
	me->command = rsl_command_of(stmt);

	/* degrade before anybody is shed */
	rsl_degradation_admitting(a.priority);

	if (unlikely(a.priority < pg_atomic_read_u32(&rsl_shmem->minimum_priority)) &&
		!rsl_matches.superuser && !must_not_wait(&a))
	{
		rsl_pool_numbers numbers = {0};

		rsl_pool_get_numbers(&rsl_shmem->server, a.priority, &numbers);
		refuse(&a, NULL, &rsl_shmem->server, RSL_SHED, &numbers,
			   rsl_mode_setting == RSL_MODE_ENFORCE);
	}

	if (unlikely((matched & rsl_matches.budgets) != 0))
		judge_budgets(&a, matched & rsl_matches.budgets, &statement);

	for (uint32 left = matched; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);
		rsl_bulkhead *bulkhead = &rsl_bulkheads[me->matches[i].index];

		take_slot(&a, bulkhead, pool_of_match(i), UINT32_C(1) << i);
	}

	/* in its turn the session may have kept the slot */
	if (unlikely(rsl_turn_pending) && rsl_turn_resume(me, a.priority))
		me->units |= RSL_SERVER_UNIT;
	else
		take_slot(&a, NULL, &rsl_shmem->server, RSL_SERVER_UNIT);

	/* from here on the transaction runs */
	me->held = matched;
	me->run_start = GetCurrentStatementStartTimestamp();
	pg_atomic_write_u64(&me->admitted[a.priority],
						pg_atomic_read_u64(&me->admitted[a.priority]) + 1);
	for (uint32 left = matched; left != 0; left &= left - 1)
		count_admitted(pg_rightmost_one_pos32(left));
	rsl_session_hold();
}

/*
 * A later statement of an admitted transaction meets the conditions of a
 * bulkhead on statements: charge it, but do not wait.
 */
void
rsl_charge_statement(const PlannedStmt *stmt, const char *source_text,
					 QueryDesc *queryDesc)
{
	rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};
	rsl_session *me = rsl_me;
	bool		priority_tag = false;
	uint32		added = matching_bulkheads(&statement, &priority_tag) & ~me->held;

	if (added == 0)
		return;
	if (unlikely((added & rsl_matches.budgets) != 0))
		rsl_budget_add(added & rsl_matches.budgets);
	rsl_session_bump();
	for (uint32 left = added; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);
		rsl_pool   *pool = pool_of_match(i);

		if (rsl_pool_limited(pool))
		{
			rsl_pool_force_take(pool, me->priority);
			me->units |= UINT32_C(1) << i;
		}
		me->held |= UINT32_C(1) << i;
		count_admitted(i);
	}
}
