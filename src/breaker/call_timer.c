/*-------------------------------------------------------------------------
 *
 * call_timer.c
 *		A breaker's call_timeout.
 *
 * It is enforced by one repeating timer, not by one for each contact: while a
 * session is in a section, the handler looks whether it is still in the same
 * one.  So a row costs a few stores.  When the time is up the handler cancels
 * the statement as pg_cancel_backend() would, and the section turns the error
 * into 08R02.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/guard_parts.h"
#include "shared/cancel.h"
#include "shared/errcodes.h"
#include "shared/pool.h"
#include "storage/latch.h"
#include "utils/backend_status.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* the timer's period: a tenth of the timeout, within these bounds */
#define MIN_TICK_MS		2
#define MAX_TICK_MS		100

volatile sig_atomic_t rsl_cancel_is_ours = false;
volatile int64 rsl_section_since = 0;

/* whom we cancelled the statement for, or ended the connection of */
static rsl_guard *volatile timed_out_guard = NULL;
static volatile sig_atomic_t connection_is_broken = false;

/* what the timer saw last */
static volatile uint32 tick_sequence = 0;
static volatile int64 tick_since = 0;

static bool timer_registered = false;
static TimeoutId timer;
static int	timer_period_ms = 0;

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

	if (rsl_open_guards_busy)
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
		int64		since = rsl_section_since;

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
	dlist_foreach(iter, &rsl_open_guards)
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

void
rsl_timer_start(int64 timeout_us)
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

void
rsl_timer_stop(void)
{
	if (timer_registered && get_timeout_active(timer))
		disable_timeout(timer, false);
}

/* Is this the error that our timeout was to lead to? */
bool
rsl_timer_is_our_error(int sqlstate)
{
	return connection_is_broken ?
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_CONNECTION_EXCEPTION :
		sqlstate == ERRCODE_QUERY_CANCELED;
}

/* Has this guard's call been cancelled by the timer, and not ended yet? */
bool
rsl_timer_struck(const rsl_guard *guard)
{
	return rsl_cancel_is_ours && timed_out_guard == guard;
}

/*
 * Take back our cancel of the statement, if it is still on its way.  A
 * connection that was ended in its place stays ended: returns true then.
 */
bool
rsl_timer_forget(void)
{
	bool		broken = connection_is_broken;

	if (!rsl_cancel_is_ours)
		return false;
	if (!broken)
		rsl_cancel_forget_other();
	connection_is_broken = false;
	rsl_cancel_is_ours = false;
	timed_out_guard = NULL;
	return broken;
}

/*
 * Since when has the timer seen the same section?  0 if it has not had an eye
 * on this one.
 */
int64
rsl_timer_seen_since(uint32 sequence)
{
	if (timer_registered && get_timeout_active(timer) &&
		tick_sequence == sequence)
		return tick_since;
	return 0;
}

#define TIMEOUT_HINT \
	"The call took longer than the call_timeout of the circuit breaker. What it did on the other side is not known."

/* 08R02 */
void
rsl_raise_timeout(const rsl_guard *guard, const char *phase, int64 elapsed)
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
		!rsl_timer_is_our_error(edata->sqlerrcode))
		return false;
	rsl_cancel_is_ours = false;
	connection_is_broken = false;
	timed_out_guard = NULL;
	rsl_guard_blame(guard, ERRCODE_CALL_TIMED_OUT, "call timed out");
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
