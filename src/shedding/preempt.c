/*-------------------------------------------------------------------------
 *
 * preempt.c
 *		A running statement makes room for one of higher priority.
 *
 * With resilience.preemption = running, a statement that has waited for a
 * moment looks for a running one of a lower class that holds a slot of the
 * pool that it waits for, and has it cancelled (53R04).  The slot comes back
 * when the victim's transaction is aborted, and the queue gives it to the
 * highest class that waits.
 *
 * The victim is of the lowest class; among those, one that has written
 * nothing (no transaction id) and blocks nobody, if there is any; among those
 * the one that began last, which loses least.  Nobody is cancelled whose slot
 * would not help: because of a cap, or because more run than the limit says.
 *
 * What is thrown away is work that was done, so it is limited to a tenth of
 * the transactions, with a burst of RSL_PREEMPT_BURST; that is also the
 * budget for looking.  A look costs a pass over the sessions' entries.  One
 * that finds nobody is not repeated for VAIN_MS by anybody who waits for the
 * same pool.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "core/token_bucket.h"
#include "fmgr.h"
#include "funcapi.h"
#include "shared/cancel.h"
#include "shared/compartments.h"
#include "shared/refusal_log.h"
#include "shared/runaway.h"
#include "shared/settings.h"
#include "shedding/admission.h"
#include "shedding/preempt.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cancel_statement);
PG_FUNCTION_INFO_V1(cancel_statistics);

/* nobody is cancelled for one who gets a slot within this time anyway */
#define FIRST_LOOK_MS		10

/* who still waits looks again after this time */
#define NEXT_LOOK_MS		100

/* so many may look that often; the more wait, the less often each of them */
#define LOOKERS				16

/* who would find no use in a victim asks again after this time */
#define IDLE_LOOK_MS		1000

/* for this long nobody looks where nobody was found */
#define VAIN_MS				10

/* so many are compared in detail */
#define MAX_CANDIDATES		8

/* a tenth of the transactions, and so many at once */
static const rsl_bucket_config bucket = {0, 100, RSL_PREEMPT_BURST};

/* "detail" of a request: for whom, and for a slot of which pool */
#define BY_HAND				7
#define DETAIL(pool, by)	((((pool) + 1) << 3) | (by))
#define DETAIL_POOL(d)		(((d) >> 3) - 1)
#define DETAIL_BY(d)		((d) & 7)

typedef struct candidate
{
	rsl_session *session;
	uint32		statement;
	rsl_priority priority;
	bool		demoted;		/* by a runaway rule */
	bool		has_xid;
	TimestampTz started;		/* the transaction */
} candidate;

static bool
holds_slot(rsl_session *session, rsl_pool *pool)
{
	if (pool->number == RSL_SERVER_POOL)
		return (session->units & RSL_SERVER_UNIT) != 0;
	for (int m = 0; m < session->nmatches && m < RSL_MAX_MATCHES; m++)
	{
		if (session->matches[m].pool == pool->number)
			return (session->units & (UINT32_C(1) << m)) != 0;
	}
	return false;
}

/*
 * May this session's statement be cancelled for one of class "below"?  What
 * was read belongs together: slot and statement have the same numbers before
 * and after.
 */
static bool
is_candidate(int number, rsl_pool *pool, rsl_priority below, candidate *c)
{
	rsl_session *session = &rsl_sessions[number];
	volatile PGPROC *proc = GetPGProcByNumber(number);
	uint32		statement = pg_atomic_read_u32(&session->statement);
	uint32		slot = pg_atomic_read_u32(&session->slot);
	uint32		wait_event;
	uint8		flags;
	bool		holds;
	bool		demoted = pg_atomic_read_u32(&session->demoted) == statement;

	if ((statement & 1) == 0 || RSL_SLOT_STATE(slot) != RSL_SLOT_HELD ||
		(session->priority >= below && !demoted) || pg_atomic_read_u64(&session->doom) != 0)
		return false;

	pg_read_barrier();
	flags = session->statement_flags;
	c->session = session;

	c->statement = statement;
	c->priority = session->priority;

	c->demoted = demoted;
	c->started = session->run_start;

	c->has_xid = TransactionIdIsValid(proc->xid);
	holds = holds_slot(session, pool);
	wait_event = proc->wait_event_info;
	pg_read_barrier();

	/* a cancel does not reach who waits for its client */
	return holds && (c->priority < below || demoted) &&
		(flags & (RSL_STATEMENT_UTILITY | RSL_STATEMENT_SUPERUSER |
				  RSL_STATEMENT_OBSERVED)) == 0 &&
		wait_event != WAIT_EVENT_CLIENT_READ &&
		wait_event != WAIT_EVENT_CLIENT_WRITE &&
		pg_atomic_read_u32(&session->slot) == slot &&
		pg_atomic_read_u32(&session->statement) == statement;
}

static bool
comes_before(const candidate *a, const candidate *b)
{
	if (a->demoted != b->demoted)
		return a->demoted;
	if (a->priority != b->priority)
		return a->priority < b->priority;
	if (a->has_xid != b->has_xid)
		return b->has_xid;
	return a->started > b->started;
}

/* Choose a victim among those below a class; false if there is none. */
static bool
choose_victim(rsl_pool *pool, rsl_priority below, candidate *victim)
{
	candidate	best[MAX_CANDIDATES];
	int			n = 0;
	int			chosen = -1;

	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		candidate	c;
		int			place;

		if (!is_candidate(i, pool, below, &c))
			continue;
		if (n == MAX_CANDIDATES && !comes_before(&c, &best[n - 1]))
			continue;
		if (n < MAX_CANDIDATES)
			n++;
		for (place = n - 1; place > 0 && comes_before(&c, &best[place - 1]); place--)
			best[place] = best[place - 1];
		best[place] = c;
	}

	/* a runaway rule says so */
	if (n > 0 && best[0].demoted)
	{
		*victim = best[0];
		return true;
	}

	/* of the lowest class, the first one that is free of burdens */
	for (int i = 0; i < n && best[i].priority == best[0].priority; i++)
	{
		int			number = (int) (best[i].session - rsl_sessions);

		if (best[i].has_xid)
			break;
		if (rsl_lock_state(GetPGProcByNumber(number)) & RSL_LOCKS_BLOCKING)
			continue;
		*victim = best[i];
		return true;
	}

	/* all have one: the youngest */
	for (int i = 0; i < n && best[i].priority == best[0].priority; i++)
	{
		if (chosen < 0 || best[i].started > best[chosen].started)
			chosen = i;
	}
	if (chosen < 0)
		return false;
	*victim = best[chosen];
	return true;
}

/*
 * Is there a class whose slot would help?  Runaway rules may offer victims of
 * any class.
 */
static bool
worth_a_look(rsl_pool *pool, rsl_priority priority)
{
	int			end = rsl_runaway_active() ? RSL_NUM_PRIORITIES : (int) priority;

	for (int c = 0; c < end; c++)
	{
		if (rsl_pool_freed_for(pool, priority, c))
			return true;
	}
	return false;
}

static int64
now_ms(void)
{
	return rsl_now_us() / 1000;
}

static bool
take_token(void)
{
	uint64		word = pg_atomic_read_u64(&rsl_shmem->preempt_tokens);
	uint64		next;

	do
	{
		if (!rsl_bucket_take(&bucket, word, now_ms(), &next))
			return false;
	} while (!pg_atomic_compare_exchange_u64(&rsl_shmem->preempt_tokens,
											 &word, next));
	return true;
}

static void
put_tokens(uint32 milli)
{
	uint64		word = pg_atomic_read_u64(&rsl_shmem->preempt_tokens);
	rsl_bucket_config deposit = bucket;
	uint64		next;

	deposit.deposit_milli = milli;
	do
	{
		next = rsl_bucket_deposit(&deposit, word, now_ms());
	} while (!pg_atomic_compare_exchange_u64(&rsl_shmem->preempt_tokens,
											 &word, next));
}

/*
 * Nobody was found a moment ago, for this class or a higher one?  The pool's
 * word for that has the time in milliseconds and the class.
 */
static bool
was_in_vain(rsl_pool *pool, rsl_priority priority)
{
	uint32		word = pg_atomic_read_u32(&pool->no_victim);
	uint32		elapsed = (((uint32) now_ms() << 2) - (word & ~UINT32_C(3))) >> 2;

	return word != 0 && elapsed < VAIN_MS && (word & 3) >= priority;
}

/* Find somebody and have the statement cancelled, or only say so. */
static bool
preempt(rsl_pool *pool, rsl_priority priority, bool observe, candidate *victim)
{
	if (rsl_bucket_tokens(&bucket,
						  pg_atomic_read_u64(&rsl_shmem->preempt_tokens),
						  now_ms()) < 1 ||
		was_in_vain(pool, priority))
		return false;

	if (!choose_victim(pool, priority, victim) ||
		!rsl_pool_freed_for(pool, priority, victim->priority))
	{
		pg_atomic_write_u32(&pool->no_victim,
							(uint32) now_ms() << 2 | (uint32) priority);
		return false;
	}
	if (!take_token())
		return false;
	if (rsl_cancel_statement(victim->session, victim->statement,
							 observe ? RSL_CANCEL_OBSERVED : RSL_CANCEL_PREEMPTED,
							 DETAIL(pool->number, priority)))
		return true;
	put_tokens(1000);			/* somebody was faster */
	return false;
}

/* A statement is about to wait. */
void
rsl_preempt_begin(rsl_preemptor *preemptor, rsl_pool *pool,
				  rsl_priority priority)
{
	preemptor->pool = pool;
	preemptor->priority = priority;
	preemptor->next_look = rsl_now_us() + FIRST_LOOK_MS * 1000;
	preemptor->victim = NULL;
}

/*
 * It waits.  Returns after how many milliseconds this is to be called again;
 * earlier calls do no harm.
 */
long
rsl_preempt_look(rsl_preemptor *preemptor)
{
	int64		now = rsl_now_us();
	rsl_pool   *pool = preemptor->pool;
	candidate	victim;
	long		pause;

	if (now < preemptor->next_look)
		return (preemptor->next_look - now) / 1000 + 1;

	/* (read without the lock: it is only for the pace) */
	pause = NEXT_LOOK_MS * Max(1, pool->queue.total / LOOKERS);

	if (!worth_a_look(pool, preemptor->priority))
		pause = IDLE_LOOK_MS;
	else if (preemptor->victim != NULL &&
			 pg_atomic_read_u32(&preemptor->victim->statement) == preemptor->statement)
		 /* it is still on its way out */ ;
	else if (preempt(pool, preemptor->priority, false, &victim))
	{
		preemptor->victim = victim.session;
		preemptor->statement = victim.statement;
	}
	preemptor->next_look = now + pause * 1000;
	return pause;
}

static void
count_preempted(rsl_pool *pool, rsl_priority priority)
{
	if (pool->number == RSL_SERVER_POOL)
	{
		pg_atomic_fetch_add_u64(&rsl_shmem->preempted[priority], 1);
		pg_atomic_fetch_add_u64(&rsl_shmem->preempted_running[priority], 1);
	}
	else
	{
		rsl_bulkhead *bulkhead = rsl_pool_bulkhead(pool);

		pg_atomic_fetch_add_u64(&bulkhead->preempted, 1);
		pg_atomic_fetch_add_u64(&bulkhead->preempted_running, 1);
	}
}

static void
bulkhead_name(rsl_pool *pool, char *name)
{
	name[0] = '\0';
	if (pool->number == RSL_SERVER_POOL)
		return;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	strlcpy(name, rsl_pool_bulkhead(pool)->policy.name, NAMEDATALEN);
	LWLockRelease(rsl_config_lock);
}

static pg_atomic_uint32 *
last_logged(rsl_pool *pool)
{
	return pool->number == RSL_SERVER_POOL ? &rsl_shmem->last_logged :
		&rsl_pool_bulkhead(pool)->last_logged;
}

/*
 * Observe mode: a statement would have to wait now.  Count and log whose
 * statement it would have cancelled.  (It cannot be known whether it would
 * have got a slot by itself within a moment.)
 */
bool
rsl_preempt_observe(rsl_pool *pool, rsl_priority priority)
{
	candidate	victim;

	if (!worth_a_look(pool, priority) ||
		!preempt(pool, priority, true, &victim))
		return false;

	count_preempted(pool, victim.priority);
	if (rsl_time_to_log(last_logged(pool)))
	{
		char		name[NAMEDATALEN];

		bulkhead_name(pool, name);
		ereport(LOG,
				(name[0] ?
				 errmsg("bulkhead \"%s\" would have preempted a running statement", name) :
				 errmsg("the server-wide limit would have preempted a running statement"),
				 errdetail("pid=%d priority=%s by_priority=%s ran_ms=%ld mode=observe",
						   (int) victim.session->pid,
						   rsl_priority_name(victim.priority),
						   rsl_priority_name(priority),
						   TimestampDifferenceMilliseconds(victim.started,
														   GetCurrentTimestamp()))));
	}
	return true;
}

/* What the client of a cancelled statement is told. */
static void
describe_preempted(const rsl_cancel *cancel, ErrorData *edata)
{
	rsl_pool   *pool = rsl_pool_by_number(DETAIL_POOL(cancel->detail));
	int			by = DETAIL_BY(cancel->detail);
	rsl_priority priority = rsl_me->priority;
	long		ran_ms = TimestampDifferenceMilliseconds(cancel->started,
														 GetCurrentTimestamp());
	rsl_pool_numbers numbers;
	char		name[NAMEDATALEN];

	count_preempted(pool, priority);
	rsl_refusal_unlogged = !rsl_time_to_log(last_logged(pool));
	rsl_pool_get_numbers(pool, priority, &numbers);
	bulkhead_name(pool, name);

	edata->sqlerrcode = ERRCODE_PREEMPTED;
	edata->message = pstrdup(by == BY_HAND ? _("preempted by an administrator") :
							 _("preempted by a statement of higher priority"));
	edata->detail = psprintf("%s%s%spriority=%s by_priority=%s ran_ms=%ld statement=%u started=true retry_after_ms=" INT64_FORMAT,
							 name[0] ? "bulkhead=" : "", name, name[0] ? " " : "",
							 rsl_priority_name(priority),
							 by == BY_HAND ? "none" : rsl_priority_name(by),
							 ran_ms, cancel->statement,
							 Max(numbers.retry_after_ms, 1));
	edata->hint = pstrdup(_("The transaction has to be rolled back. Retry it later."));
}

/*
 * The launcher, at each tick: "admitted" is how many transactions there have
 * been, all classes together.
 */
void
rsl_preempt_deposit(uint64 admitted)
{
	static uint64 last = 0;
	uint64		milli;

	/* sessions that end may make it a little too large for a moment */
	if (admitted <= last)
		return;
	milli = last == 0 ? 0 : (admitted - last) * bucket.deposit_milli;
	last = admitted;
	if (milli > 0)
		put_tokens((uint32) Min(milli, RSL_PREEMPT_BURST * 1000));
}

/*
 * cancel_statement(pid int, statement bigint = NULL) returns bigint
 *
 * For tests: have the statement with this number cancelled, by default the
 * one that the session runs now, as if a statement of higher priority needed
 * its slot; the rate is not limited.  Returns the number, or NULL if there is
 * no such session, no statement that can be cancelled (those are numbered
 * only while resilience.preemption is "running"), or a request on its way.
 */
Datum
cancel_statement(PG_FUNCTION_ARGS)
{
	int			pid = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);

	rsl_require_shmem();
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to cancel statements by their number")));

	for (int i = 0; i < rsl_shmem->nsessions && pid != 0; i++)
	{
		rsl_session *session = &rsl_sessions[i];
		uint32		statement;

		if (session->pid != pid)
			continue;
		statement = PG_ARGISNULL(1) ? pg_atomic_read_u32(&session->statement) :
			(uint32) PG_GETARG_INT64(1);
		if (!rsl_cancel_statement(session, statement, RSL_CANCEL_PREEMPTED,
								  DETAIL(RSL_SERVER_POOL, BY_HAND)))
			break;
		PG_RETURN_INT64(statement);
	}
	PG_RETURN_NULL();
}

/*
 * cancel_statistics() returns record
 *
 * Requests to cancel a statement, since the server's start: requested,
 * delivered (the client got the error), missed (the statement had ended, or
 * failed by itself), pending.
 */
Datum
cancel_statistics(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {0};

	rsl_require_shmem();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->cancels_requested));
	values[1] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->cancels_delivered));
	values[2] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->cancels_missed));
	values[3] = Int64GetDatum(rsl_cancel_pending_requests());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_preempt_init(void)
{
	rsl_cancel_register(RSL_CANCEL_PREEMPTED, describe_preempted);
}
