/*-------------------------------------------------------------------------
 *
 * guard.c
 *		A call to something that a circuit breaker guards.
 *
 * See guard.h.  Whoever calls may be interrupted in three ways, which are told
 * apart here: the dependency fails; the user cancels, or a local timeout
 * strikes; or the call takes longer than the breaker's call_timeout.
 *
 * call_timeout is enforced by one repeating timer, not by one for each
 * contact: while a session is in a section, the handler looks whether it is
 * still in the same one.  So a row costs a few stores.  When the time is up
 * the handler cancels the statement as pg_cancel_backend() would, and the
 * section turns the error into 08R02.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <stdlib.h>

#include "access/xact.h"
#include "breaker/guard.h"
#include "breaker/rejection.h"
#include "policy/settings.h"
#include "shared/cancel.h"
#include "shared/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* the timer's period: a tenth of the timeout, within these bounds */
#define MIN_TICK_MS		2
#define MAX_TICK_MS		100

rsl_guard  *volatile rsl_current_guard = NULL;
rsl_call_board *rsl_my_board = NULL;
volatile sig_atomic_t rsl_cancel_is_ours = false;

/* whom we cancelled the statement for, or ended the connection of */
static rsl_guard *volatile timed_out_guard = NULL;
static volatile sig_atomic_t connection_is_broken = false;

/* since when the present section has been running; 0 = not known */
static volatile int64 section_since = 0;

/* what the timer saw last */
static volatile uint32 tick_sequence = 0;
static volatile int64 tick_since = 0;

/* the list is being changed: the timer must not look at it */
static volatile sig_atomic_t list_is_busy = false;
static dlist_head open_guards = DLIST_STATIC_INIT(open_guards);
static bool exit_registered = false;
static bool timer_registered = false;
static TimeoutId timer;
static int	timer_period_ms = 0;

/* The error being thrown was charged to somebody by an inner section. */
static bool error_is_charged = false;

static void
strike(rsl_guard *guard)
{
	timed_out_guard = guard;
	rsl_cancel_is_ours = true;
	connection_is_broken = guard->break_call && guard->break_call(guard);
	if (connection_is_broken)
		return;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/* The timer's handler: a signal handler. */
static void
timer_tick(void)
{
	int64		now = rsl_now_us();
	rsl_guard  *guard = rsl_current_guard;
	uint32		sequence = pg_atomic_read_u32(&rsl_my_board->sequence);
	dlist_iter	iter;

	if (list_is_busy)
		return;
	if (rsl_cancel_is_ours)
	{
		/* not that connection, then: another one of those concerned */
		if (connection_is_broken && timed_out_guard->watching)
			timed_out_guard->break_call(timed_out_guard);
		return;
	}

	if (guard != NULL)
	{
		int64		since = section_since;

		if (guard->local_since != 0)
			return;

		if (since == 0)
		{
			/* one of many rows: since we first saw it */
			if (sequence != tick_sequence)
			{
				tick_sequence = sequence;
				tick_since = now;
			}
			since = tick_since;
		}
		if (guard->timeout_us > 0 && now - since >= guard->timeout_us)
			strike(guard);
		return;
	}

	/*
	 * Outside of all sections the executor may wait for asynchronous answers.
	 * A cursor may also leave them unread while its session is idle.
	 */
	dlist_foreach(iter, &open_guards)
	{
		guard = dlist_container(rsl_guard, node, iter.cur);
		if (MyBEEntry && (MyBEEntry->st_state == STATE_IDLE ||
						  MyBEEntry->st_state == STATE_IDLEINTRANSACTION))
			guard->pending_since = now;
		if (guard->pending > 0 && guard->timeout_us > 0 &&
			now - guard->pending_since >= guard->timeout_us)
		{
			strike(guard);
			return;
		}
	}
}

static void
start_timer(int64 timeout_us)
{
	int			period = Min(Max(timeout_us / 10000, MIN_TICK_MS), MAX_TICK_MS);

	if (!timer_registered)
	{
		timer = RegisterTimeout(USER_TIMEOUT, timer_tick);
		timer_registered = true;
	}
	if (get_timeout_active(timer) && timer_period_ms <= period)
		return;
	timer_period_ms = period;
	enable_timeout_every(timer,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 period),
						 period);
}

static void
stop_timer(void)
{
	if (timer_registered && get_timeout_active(timer))
		disable_timeout(timer, false);
}

/* Is this the error that our timeout was to lead to? */
static bool
is_our_error(int sqlstate)
{
	return connection_is_broken ?
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_CONNECTION_EXCEPTION :
		sqlstate == ERRCODE_QUERY_CANCELED;
}

/* Take back our cancel of the statement, if it is still on its way. */
static void
forget_timeout(void)
{
	if (!rsl_cancel_is_ours)
		return;
	if (!connection_is_broken)
		rsl_cancel_forget_other();
	connection_is_broken = false;
	rsl_cancel_is_ours = false;
	timed_out_guard = NULL;
}

static void
unlink_guard(rsl_guard *guard)
{
	dlist_iter	iter;
	bool		timed = false;

	list_is_busy = true;
	dlist_delete(&guard->node);
	list_is_busy = false;
	if (timed_out_guard == guard)
		forget_timeout();

	dlist_foreach(iter, &open_guards)
	{
		rsl_guard  *other = dlist_container(rsl_guard, node, iter.cur);

		if (other->trial == guard)
			other->trial = NULL;
		timed |= other->timeout_us > 0;
	}
	if (guard->timeout_us > 0 && !timed)
		stop_timer();
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
	while (!dlist_is_empty(&open_guards))
	{
		rsl_guard  *guard = dlist_container(rsl_guard, node,
											dlist_head_node(&open_guards));

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

	dlist_foreach(iter, &open_guards)
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

	dlist_foreach(iter, &open_guards)
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
	list_is_busy = true;
	dlist_push_head(&open_guards, &guard->node);
	list_is_busy = false;
	if (guard->timeout_us > 0)
		start_timer(guard->timeout_us);
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
	start_timer(guard->timeout_us);
}

void
rsl_guard_unwatch(rsl_guard *guard)
{
	if (!guard->watching)
		return;
	guard->watching = false;
	if (timed_out_guard == guard)
		forget_timeout();
	if (dlist_is_empty(&open_guards))
		stop_timer();
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
	section_since = now;

	/* whose answers have come meanwhile had nobody to listen */
	dlist_foreach(iter, &open_guards)
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

/*
 * Before PostgreSQL 16 a connection is made by a blocking call of libpq, which
 * no signal interrupts: neither a timeout nor pg_terminate_backend().  libpq's
 * own connect_timeout ends it, in whole seconds of which it allows no fewer
 * than two, and the environment is where it takes the default from, for any
 * foreign data wrapper that uses libpq.  A connect_timeout among the server's
 * options wins over it.
 */
static void
limit_connect_time(rsl_section *section)
{
	const char *present = getenv("PGCONNECT_TIMEOUT");
	int			seconds = Max((section->guard->timeout_us + 999999) / 1000000, 2);
	char		value[16];

	section->saved_connect_timeout = present ? strdup(present) : NULL;
	if (present && atoi(present) > 0 && atoi(present) <= seconds)
		return;
	snprintf(value, sizeof(value), "%d", seconds);
	setenv("PGCONNECT_TIMEOUT", value, 1);
}

static void
restore_connect_time(rsl_section *section)
{
	if (section->saved_connect_timeout)
	{
		setenv("PGCONNECT_TIMEOUT", section->saved_connect_timeout, 1);
		free(section->saved_connect_timeout);
		section->saved_connect_timeout = NULL;
	}
	else
		unsetenv("PGCONNECT_TIMEOUT");
}

static bool
limits_connect_time(const rsl_section *section)
{
	return RSL_BLOCKING_CONNECT &&
		(section->flags & RSL_SECTION_CONNECTS) != 0 &&
		section->guard->timeout_us > 0;
}

#define TIMEOUT_HINT \
	"The call took longer than the call_timeout of the circuit breaker. What it did on the other side is not known."

static void
raise_timeout(rsl_guard *guard, const char *phase, int64 elapsed)
{
	bool		generic = !OidIsValid(guard->policy->server);

	ereport(ERROR,
			(errcode(ERRCODE_CALL_TIMED_OUT),
			 generic ?
			 errmsg("call through circuit breaker \"%s\" timed out",
					guard->policy->name) :
			 errmsg("call to foreign server \"%s\" timed out",
					guard->policy->server_name),
			 errdetail("breaker=%s phase=%s call_timeout_ms=%d elapsed_ms=" INT64_FORMAT " started=true",
					   guard->policy->name, phase,
					   guard->policy->call_timeout_ms, elapsed / 1000),
			 errhint(TIMEOUT_HINT)));
}

void
rsl_section_enter_timed(rsl_section *section)
{
	section->started = rsl_now_us();
	section_since = section->started;
	if (limits_connect_time(section))
		limit_connect_time(section);
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
		if (limits_connect_time(section))
			restore_connect_time(section);

		/* the time of a section within another one is its own */
		section_since = section->outer ? now : 0;
		if (section->outer)
			section->outer->busy_us -= now - section->started;
	}

	/*
	 * It was answered in the last moment.  That is too late for a connection
	 * that has been ended.
	 */
	if (rsl_cancel_is_ours && timed_out_guard == section->guard)
	{
		bool		broken = connection_is_broken;

		forget_timeout();
		if (broken && !section->guard->watching)
		{
			settle(section->guard, RSL_CALL_FAILURE, ERRCODE_CALL_TIMED_OUT,
				   "call timed out");
			raise_timeout(section->guard, "execution",
						  section->guard->timeout_us);
		}
	}
}

/*
 * libpq reports whatever goes wrong while it connects as one condition, 08001.
 * What the server said is in the text only; it may be in the server's
 * language, so this is a hint.  Whether the server is really down, the prober
 * finds out.
 */
static int
connection_sqlstate(const ErrorData *edata)
{
	static const struct
	{
		const char *words;
		int			sqlstate;
	}			reasons[] =

	{
		{"password authentication failed", ERRCODE_INVALID_PASSWORD},
		{"no password supplied", ERRCODE_INVALID_PASSWORD},
		{"authentication failed", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"no pg_hba.conf entry", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"is not permitted to log in", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"FATAL:  role \"", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"too many c", ERRCODE_TOO_MANY_CONNECTIONS},
		{"remaining connection slots", ERRCODE_TOO_MANY_CONNECTIONS},
		{"the database system is", ERRCODE_CANNOT_CONNECT_NOW},
	};

	for (int i = 0; edata->detail && i < lengthof(reasons); i++)
	{
		if (strstr(edata->detail, reasons[i].words))
			return reasons[i].sqlstate;
	}
	return edata->sqlerrcode;
}

/* Whose fault is an error that a section let through? */
static rsl_call_outcome
judge(rsl_guard *guard, const ErrorData *edata, int64 elapsed, int *sqlstate)
{
	bool		local = edata->funcname &&
		strcmp(edata->funcname, "ProcessInterrupts") == 0;

	*sqlstate = edata->sqlerrcode;
	if (*sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
		*sqlstate = connection_sqlstate(edata);

	/* another breaker's, or another bulkhead's here, on the way out */
	if (*sqlstate == ERRCODE_BREAKER_OPEN)
		return RSL_CALL_NEITHER;

	/*
	 * A user may set statement_timeout to a millisecond, and must not open
	 * the breaker for everybody by that: it counts only if the server had
	 * taken longer than the administrator thinks is right.
	 */
	if (local && *sqlstate == ERRCODE_QUERY_CANCELED &&
		strcmp(edata->message, _("canceling statement due to statement timeout")) == 0 &&
		elapsed >= guard->policy->config.slow_call_us)
		return RSL_CALL_FAILURE;
	if (local)
		return RSL_CALL_NEITHER;

	/* what comes of an earlier failure in this transaction is not another one */
	if (edata->funcname &&
		strcmp(edata->funcname, "pgfdw_reject_incomplete_xact_state_change") == 0)
		return RSL_CALL_NEITHER;

	/* memory that this server could not give */
	if (*sqlstate == ERRCODE_OUT_OF_MEMORY && edata->filename &&
		strstr(edata->filename, "mcxt.c"))
		return RSL_CALL_NEITHER;

	return rsl_breaker_counts_sqlstate(guard->policy, *sqlstate,
									   !OidIsValid(guard->policy->server)) ?
		RSL_CALL_FAILURE : RSL_CALL_SUCCESS;
}

/*
 * How long has a section lasted?  For one of many rows that is known only if
 * somebody had an eye on it.
 */
static int64
section_elapsed(const rsl_section *section, int64 now)
{
	uint32		sequence = pg_atomic_read_u32(&rsl_my_board->sequence);

	if (section->started != 0)
		return now - section->started;
	if (timer_registered && get_timeout_active(timer) &&
		tick_sequence == sequence)
		return now - tick_since;
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
	bool		ours = rsl_cancel_is_ours && timed_out_guard == guard;
	bool		is_local = false;
	MemoryContext old;
	ErrorData  *edata;
	rsl_call_outcome outcome;
	int			sqlstate;

	/* first of all: no cancel of ours may strike what follows */
	if (ours && !is_our_error(geterrcode()))
	{
		/* it failed by itself at the same moment */
		forget_timeout();
		ours = false;
	}
	rsl_current_guard = section->outer;
	pg_atomic_write_u32(&rsl_my_board->sequence,
						section->outer ? next | 1 : next & ~UINT32_C(1));
	if (ours)
		forget_timeout();
	if (guard->local_since != 0)
	{
		/* our own work: whatever it is, the server has answered */
		rsl_guard_remote(guard);
		guard->answered = true;
		is_local = true;
	}
	section_since = section->outer ? now : 0;
	if (section->started != 0)
	{
		guard->busy_us += elapsed;
		if (section->outer)
			section->outer->busy_us -= elapsed;
		if (limits_connect_time(section))
			restore_connect_time(section);
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
		raise_timeout(guard, phase, elapsed);
	}

	outcome = judge(guard, edata, elapsed, &sqlstate);

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

/*
 * Our cancel hit where no section catches the error: in the executor's own
 * wait for asynchronous answers, or when remote transactions were ended.  Say
 * what it really was.  Called for each error that is about to be reported.
 */
bool
rsl_guard_rewrite_error(ErrorData *edata)
{
	rsl_guard  *guard = timed_out_guard;

	if (!rsl_cancel_is_ours || guard == NULL || edata->elevel < ERROR ||
		!is_our_error(edata->sqlerrcode))
		return false;
	rsl_cancel_is_ours = false;
	connection_is_broken = false;
	timed_out_guard = NULL;
	settle(guard, RSL_CALL_FAILURE, ERRCODE_CALL_TIMED_OUT, "call timed out");
	if (guard->on_timeout)
		guard->on_timeout(guard);
	edata->sqlerrcode = ERRCODE_CALL_TIMED_OUT;
	edata->message = psprintf("call to foreign server \"%s\" timed out",
							  guard->policy->server_name);
	edata->detail = psprintf("breaker=%s phase=%s call_timeout_ms=%d started=true",
							 guard->policy->name,
							 guard->watching ? "commit" : "asynchronous",
							 guard->policy->call_timeout_ms);
	edata->hint = pstrdup(TIMEOUT_HINT);
	return true;
}
