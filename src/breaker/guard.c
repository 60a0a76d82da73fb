/*-------------------------------------------------------------------------
 *
 * guard.c
 *		A call to something that a circuit breaker guards.
 *
 * See guard.h.  Whoever calls may be interrupted in three ways, which are told
 * apart here: the dependency fails; the user cancels, or a local timeout
 * strikes; or the call takes longer than the breaker's call_timeout.  See
 * fault.c for the first two, and call_timer.c for the third.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "breaker/guard_parts.h"
#include "breaker/rejection.h"
#include "shared/errcodes.h"
#include "shared/pool.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

rsl_guard  *volatile rsl_current_guard = NULL;
rsl_call_board *rsl_my_board = NULL;
dlist_head	rsl_open_guards = DLIST_STATIC_INIT(rsl_open_guards);
volatile sig_atomic_t rsl_open_guards_busy = false;

static bool exit_registered = false;

/* The error being thrown was charged to somebody by an inner section. */
static bool error_is_charged = false;

static void
unlink_guard(rsl_guard *guard)
{
	dlist_iter	iter;
	bool		timed = false;

	rsl_open_guards_busy = true;
	dlist_delete(&guard->node);
	rsl_open_guards_busy = false;
	if (rsl_timer_struck(guard))
		rsl_timer_forget();

	dlist_foreach(iter, &rsl_open_guards)
	{
		rsl_guard  *other = dlist_container(rsl_guard, node, iter.cur);

		if (other->trial == guard)
			other->trial = NULL;
		timed |= other->timeout_us > 0;
	}
	if (guard->timeout_us > 0 && !timed)
		rsl_timer_stop();
}

/* Record what came of it, once. */
static void
settle(rsl_guard *guard, rsl_call_outcome outcome, int sqlstate,
	   const char *message)
{
	bool		slow;

	if (!guard->open)
		return;
	guard->open = false;
	/* a part of a trial fails, and so does the trial */
	if (guard->trial && outcome == RSL_CALL_FAILURE)
		settle(guard->trial, outcome, sqlstate, message);
	unlink_guard(guard);

	slow = outcome != RSL_CALL_NEITHER &&
		guard->busy_us >= guard->policy->config.slow_call_us;

	/* it was counted as a slow one while it was hanging */
	if (slow && rsl_my_board &&
		pg_atomic_read_u32(&rsl_my_board->counted) != 0)
	{
		pg_atomic_write_u32(&rsl_my_board->counted, 0);
		if (outcome == RSL_CALL_SUCCESS)
			outcome = RSL_CALL_NEITHER;

		slow = false;
	}
	rsl_call_leave(&guard->call, outcome, slow, sqlstate, message);
	if (outcome == RSL_CALL_FAILURE && guard->on_failure)
		guard->on_failure(guard);
}

/*
 * This backend ends, perhaps by FATAL in the middle of a call: permits and
 * places among the concurrent calls go back.
 */
static void
guard_exit(int code, Datum arg)
{
	rsl_current_guard = NULL;
	while (!dlist_is_empty(&rsl_open_guards))
	{
		rsl_guard  *guard = dlist_container(rsl_guard, node,
											dlist_head_node(&rsl_open_guards));

		settle(guard, RSL_CALL_NEITHER, 0, NULL);
	}
	if (rsl_my_board)
		pg_atomic_write_u32(&rsl_my_board->sequence, 0);
}

static void guard_xact_callback(XactEvent event, void *arg);
static void guard_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
								   SubTransactionId parentSubid, void *arg);

static void
first_use(void)
{
	if (exit_registered)
		return;
	RegisterXactCallback(guard_xact_callback, NULL);
	RegisterSubXactCallback(guard_subxact_callback, NULL);
	before_shmem_exit(guard_exit, (Datum) 0);
	exit_registered = true;
	rsl_my_board = &rsl_call_boards[rsl_my_slot_number()];
	pg_atomic_write_u32(&rsl_my_board->sequence, 0);
	pg_atomic_write_u32(&rsl_my_board->breaker, 0);
	pg_atomic_write_u32(&rsl_my_board->counted, 0);
}

/* The open guard of this breaker for the same statement, or NULL. */
rsl_guard *
rsl_guard_find(int breaker, const void *key)
{
	dlist_iter	iter;

	dlist_foreach(iter, &rsl_open_guards)
	{
		rsl_guard  *guard = dlist_container(rsl_guard, node, iter.cur);

		if (guard->key == key && guard->call.breaker == breaker)
			return guard;
	}
	return NULL;
}

/*
 * Ask the breaker; raises 08R01 or 53R01 when it says no.  "phase" is for the
 * DETAIL.  A session that is in a call already, say in a function that the
 * statement calls, does not need another place among the concurrent calls: it
 * would wait for itself.
 */
void
rsl_guard_open(rsl_guard *guard, int breaker, const rsl_breaker_policy *policy,
			   const void *key, const char *phase)
{
	rsl_admittance admittance;
	rsl_guard  *outer = NULL;
	bool		in_trial;
	dlist_iter	iter;

	first_use();
	error_is_charged = false;

	dlist_foreach(iter, &rsl_open_guards)
	{
		rsl_guard  *other = dlist_container(rsl_guard, node, iter.cur);

		if (other->call.breaker == breaker &&
			(outer == NULL || other->call.permit.trial))
			outer = other;
	}

	in_trial = outer && outer->call.permit.trial &&
		outer->call.permit.generation ==
		RSL_GATE_GENERATION(pg_atomic_read_u64(&rsl_breakers[breaker].gate));
	admittance = rsl_call_enter(&guard->call, breaker, outer != NULL, in_trial);
	if (admittance != RSL_ADMITTED)
		rsl_raise_rejection(breaker, admittance, phase);

	/* nothing between here and the list may fail */
	guard->policy = policy;
	guard->key = key;
	guard->timeout_us = policy->call_timeout_ms * INT64CONST(1000);
	guard->busy_us = 0;
	guard->trial = in_trial ? outer : NULL;
	guard->local_since = 0;
	guard->pending = 0;
	guard->pending_since = 0;
	guard->answered = false;
	guard->open = true;
	guard->watching = false;
	guard->on_timeout = NULL;
	guard->break_call = NULL;
	guard->on_failure = NULL;
	guard->arg = NULL;
	rsl_open_guards_busy = true;
	dlist_push_head(&rsl_open_guards, &guard->node);
	rsl_open_guards_busy = false;
	if (guard->timeout_us > 0)
		rsl_timer_start(guard->timeout_us);
}

/*
 * The call is over: a success, if anything was asked and answered.  Safe to
 * be repeated, and to be called where nothing may fail.
 */
void
rsl_guard_close(rsl_guard *guard)
{
	settle(guard, guard->answered ? RSL_CALL_SUCCESS : RSL_CALL_NEITHER, 0, NULL);
}

/* Charge a failure that was noticed outside of sections. */
void
rsl_guard_blame(rsl_guard *guard, int sqlstate, const char *message)
{
	settle(guard, RSL_CALL_FAILURE, sqlstate, message);
}

/*
 * Watch over something that may not be rejected any more: only the timer
 * looks at such a guard, and no outcome is recorded for it.
 */
void
rsl_guard_watch(rsl_guard *guard, const rsl_breaker_policy *policy,
				void (*on_timeout) (rsl_guard *))
{
	first_use();
	memset(guard, 0, sizeof(*guard));
	guard->call.breaker = -1;
	guard->policy = policy;
	guard->timeout_us = policy->call_timeout_ms * INT64CONST(1000);
	guard->on_timeout = on_timeout;
	guard->watching = true;
	rsl_timer_start(guard->timeout_us);
}

void
rsl_guard_unwatch(rsl_guard *guard)
{
	if (!guard->watching)
		return;
	guard->watching = false;
	if (rsl_timer_struck(guard))
		rsl_timer_forget();
	if (dlist_is_empty(&rsl_open_guards))
		rsl_timer_stop();
}

/*
 * When a foreign data wrapper is asked for an asynchronous row it may compute
 * expressions of this server's within the section: what has a row, until the
 * next one is fetched, is local work.
 */
void
rsl_guard_local(rsl_guard *guard)
{
	guard->local_since = rsl_now_us();
}

void
rsl_guard_remote(rsl_guard *guard)
{
	int64		now = rsl_now_us();
	dlist_iter	iter;

	guard->busy_us -= now - guard->local_since;
	guard->local_since = 0;
	rsl_section_since = now;

	/* whose answers have come meanwhile had nobody to listen */
	dlist_foreach(iter, &rsl_open_guards)
		dlist_container(rsl_guard, node, iter.cur)->pending_since = now;
}

/* An asynchronous answer is awaited from now on, or has come. */
void
rsl_guard_await(rsl_guard *guard, bool *was_pending, bool pending)
{
	int64		now;

	if (*was_pending == pending)
		return;
	*was_pending = pending;
	now = rsl_now_us();
	if (guard->pending > 0)
		guard->busy_us += now - guard->pending_since;
	guard->pending_since = now;
	guard->pending += pending ? 1 : -1;
}

void
rsl_section_enter_timed(rsl_section *section)
{
	section->started = rsl_now_us();
	rsl_section_since = section->started;
	rsl_limit_connect_time(section);
}

/* The part of leaving that rows do not need. */
void
rsl_section_leave_timed(rsl_section *section)
{
	if (unlikely(section->guard->local_since != 0))
		rsl_guard_remote(section->guard);
	if (section->started != 0)
	{
		int64		now = rsl_now_us();

		section->guard->busy_us += now - section->started;
		rsl_restore_connect_time(section);

		/* the time of a section within another one is its own */
		rsl_section_since = section->outer ? now : 0;
		if (section->outer)
			section->outer->busy_us -= now - section->started;
	}

	/*
	 * It was answered in the last moment.  That is too late for a connection
	 * that has been ended.
	 */
	if (rsl_timer_struck(section->guard) && rsl_timer_forget() &&
		!section->guard->watching)
	{
		settle(section->guard, RSL_CALL_FAILURE, ERRCODE_CALL_TIMED_OUT,
			   "call timed out");
		rsl_raise_timeout(section->guard, "execution",
						  section->guard->timeout_us);
	}
}

/*
 * How long has a section lasted?  For one of many rows that is known only if
 * somebody had an eye on it.
 */
static int64
section_elapsed(const rsl_section *section, int64 now)
{
	uint32		sequence = pg_atomic_read_u32(&rsl_my_board->sequence);
	int64		seen_since = rsl_timer_seen_since(sequence);

	if (section->started != 0)
		return now - section->started;
	if (seen_since != 0)
		return now - seen_since;
	if (pg_atomic_read_u32(&rsl_my_board->counted) == sequence)
		return section->guard->policy->config.slow_call_us;
	return 0;
}

/*
 * A section ends by an error.  Called in a PG_CATCH block, which re-throws the
 * error when this returns; a timeout of ours is raised here instead.
 */
void
rsl_section_failed(rsl_section *section, const char *phase)
{
	rsl_guard  *guard = section->guard;
	int64		now = rsl_now_us();
	int64		elapsed = section_elapsed(section, now);
	uint32		next = pg_atomic_read_u32(&rsl_my_board->sequence) + 1;
	bool		ours = rsl_timer_struck(guard);
	bool		is_local = false;
	MemoryContext old;
	ErrorData  *edata;
	rsl_call_outcome outcome;
	int			sqlstate;

	/* first of all: no cancel of ours may strike what follows */
	if (ours && !rsl_timer_is_our_error(geterrcode()))
	{
		/* it failed by itself at the same moment */
		rsl_timer_forget();
		ours = false;
	}
	rsl_current_guard = section->outer;
	pg_atomic_write_u32(&rsl_my_board->sequence,
						section->outer ? next | 1 : next & ~UINT32_C(1));
	if (ours)
		rsl_timer_forget();
	if (guard->local_since != 0)
	{
		/* our own work: whatever it is, the server has answered */
		rsl_guard_remote(guard);
		guard->answered = true;
		is_local = true;
	}
	rsl_section_since = section->outer ? now : 0;
	if (section->started != 0)
	{
		guard->busy_us += elapsed;
		if (section->outer)
			section->outer->busy_us -= elapsed;
		rsl_restore_connect_time(section);
	}

	if (error_is_charged || is_local)
	{
		/* whoever opened it may not get to close it: end it here */
		guard->answered = true;
		rsl_guard_close(guard);
		return;
	}
	error_is_charged = true;

	old = MemoryContextSwitchTo(TopTransactionContext ? TopTransactionContext :
								TopMemoryContext);
	edata = CopyErrorData();
	MemoryContextSwitchTo(old);

	/* the connection could not be made in time */
	if (edata->sqlerrcode == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION &&
		guard->timeout_us > 0 && elapsed >= guard->timeout_us)
		ours = true;

	if (ours)
	{
		void		(*on_timeout) (rsl_guard *) = guard->on_timeout;

		settle(guard, RSL_CALL_FAILURE, ERRCODE_CALL_TIMED_OUT,
			   "call timed out");
		if (on_timeout)
			on_timeout(guard);
		FreeErrorData(edata);
		FlushErrorState();
		rsl_raise_timeout(guard, phase, elapsed);
	}

	outcome = rsl_guard_judge(guard, edata, elapsed, &sqlstate);

	if (outcome == RSL_CALL_SUCCESS)
		guard->answered = true;
	settle(guard, outcome, sqlstate, edata->message);
	FreeErrorData(edata);
}

/* Where an error ends: the next one is somebody else's. */
static void
guard_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		error_is_charged = false;
}

static void
guard_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
					   SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		error_is_charged = false;
}
