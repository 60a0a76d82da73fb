/*-------------------------------------------------------------------------
 *
 * cancel.c
 *		Cancelling exactly one statement of another session.
 *
 * pg_cancel_backend() hits whatever runs when its signal arrives.  That may
 * be the next statement of the same session, of another transaction and of
 * another priority.  What is chosen here is a statement: it has a number, and
 * either that one is cancelled or none.
 *
 * While a top-level statement runs that may be cancelled, its session's
 * number of the statement is odd.  The owner moves it on at the beginning and
 * at the end; it never repeats, not even when the entry gets another owner.
 * Whoever cancels reads the number, judges the session, and leaves a request
 * with that number in the entry ("doom", by compare-and-swap from nothing, so
 * that a statement is doomed once).  Then it sends SIGUSR2, which PostgreSQL's
 * ordinary backends ignore.  The handler compares the two numbers within the
 * process that runs the statement, and nothing can come between: if they are
 * equal the statement is still under way and is cancelled as a user would
 * cancel it; if not, nothing happens.
 *
 * The owner takes each request out again and counts it: as delivered when its
 * error is on its way to the client, or as missed.  At the end of a statement
 * a cancel that was not yet noticed is withdrawn, unless somebody else wanted
 * one too: SIGINT is how everybody else cancels, hence our handler in front
 * of PostgreSQL's.
 *
 * Within the statement the error is an ordinary 57014, which EXCEPTION WHEN
 * OTHERS does not catch.  Only where it leaves the top level it is turned into
 * what it really is.  If a function catches query_canceled by name, it is
 * cancelled again.
 *
 * cancel.pml is a model of this, see pool.c.
 *
 * A signal must not hit a stranger: SIGUSR2 ends a process that has no handler
 * for it.  So the sender looks at the entry's pid and sends under a lock
 * that the owner takes to clear its pid at exit.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <signal.h>

#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "shared/cancel.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"

#define DOOM(statement, reason, detail) \
	((uint64) (statement) << 32 | (uint64) (reason) << 24 | (uint64) (detail))
#define DOOM_STATEMENT(doom)	((uint32) ((doom) >> 32))
#define DOOM_REASON(doom)		((int) ((doom) >> 24 & 0xFF))
#define DOOM_DETAIL(doom)		((int) ((doom) & RSL_CANCEL_DETAIL_MAX))

/* the request that has struck the present statement, 0 = none */
static volatile uint64 struck = 0;

/* somebody else has cancelled since, or had done so before */
static volatile sig_atomic_t others_cancel = false;

/* a function has caught our cancel */
static bool was_caught = false;

static rsl_cancel_describe describers[RSL_CANCEL_REASONS];

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	/* caught within the statement: once more, where nobody catches it */
	if (unlikely(struck != 0) && event == SUBXACT_EVENT_ABORT_SUB &&
		!others_cancel && !QueryCancelPending)
	{
		was_caught = true;
		QueryCancelPending = true;
		InterruptPending = true;
	}
}

/* SIGUSR2 */
static void
handle_doom(SIGNAL_ARGS)
{
	int			save_errno = errno;
	rsl_session *me = rsl_me;

	if (me != NULL && struck == 0)
	{
		/* step: handler-doom; step: handler-statement */
		uint64		doom = pg_atomic_read_u64(&me->doom);
		uint32		statement = pg_atomic_read_u32(&me->statement);

		if (DOOM_STATEMENT(doom) == statement && (statement & 1) != 0 &&
			DOOM_REASON(doom) != RSL_CANCEL_OBSERVED)
		{
			/* SIGINT may come between any two lines */
			others_cancel = false;
			if (QueryCancelPending)
				others_cancel = true;
			struck = doom;
			QueryCancelPending = true;
			InterruptPending = true;
			SetLatch(MyLatch);
		}
	}
	errno = save_errno;
}

/* SIGINT: a user's cancel, statement_timeout, lock_timeout */
static void
handle_cancel(SIGNAL_ARGS)
{
	others_cancel = true;
	StatementCancelHandler(RSL_SIGNAL_PASSED_ON);
}

/* What happens to the error of a request with this reason. */
void
rsl_cancel_register(int reason, rsl_cancel_describe describe)
{
	static bool registered = false;

	if (!registered)
		RegisterSubXactCallback(subxact_callback, NULL);
	registered = true;
	describers[reason] = describe;
}

/* From now on statements are numbered, or need not be. */
void
rsl_cancel_arm(uint32 who, bool on)
{
	if (on)
		pg_atomic_fetch_or_u32(&rsl_shmem->cancellers, who);
	else
		pg_atomic_fetch_and_u32(&rsl_shmem->cancellers, ~who);
}

/*
 * Cancel a statement of a session, if it still runs when the signal arrives.
 * "statement" is the number that was read before the session was judged.
 * Returns false, and does nothing, if it is no number of a running statement
 * or the session has a request that is not settled yet.
 */
bool
rsl_cancel_statement(rsl_session *session, uint32 statement, int reason,
					 int detail)
{
	uint64		nothing = 0;

	Assert(detail >= 0 && detail <= RSL_CANCEL_DETAIL_MAX);
	/* step: request */
	if ((statement & 1) == 0 ||
		!pg_atomic_compare_exchange_u64(&session->doom, &nothing,
										DOOM(statement, reason, detail)))
		return false;
	if (reason == RSL_CANCEL_OBSERVED)
		return true;

	pg_atomic_fetch_add_u64(&rsl_shmem->cancels_requested, 1);
	LWLockAcquire(rsl_cancel_lock, LW_SHARED);
	if (session->pid != 0)
		kill(session->pid, SIGUSR2);
	LWLockRelease(rsl_cancel_lock);
	return true;
}

/* Requests that no owner has settled yet. */
uint64
rsl_cancel_pending_requests(void)
{
	uint64		n = 0;

	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		uint64		doom = pg_atomic_read_u64(&rsl_sessions[i].doom);

		if (doom != 0 && DOOM_REASON(doom) != RSL_CANCEL_OBSERVED)
			n++;
	}
	return n;
}

static uint64
take_request(rsl_session *session)
{
	/* step: take-request */
	return pg_atomic_exchange_u64(&session->doom, 0);
}

static void
count_missed(uint64 doom)
{
	if (doom != 0 && DOOM_REASON(doom) != RSL_CANCEL_OBSERVED)
		pg_atomic_fetch_add_u64(&rsl_shmem->cancels_missed, 1);
}

/* Withdraw a cancel that only we wanted.  No statement is under way. */
static void
withdraw(void)
{
	if (struck == 0)
		return;
	/* step: withdraw */
	struck = 0;
	was_caught = false;
	QueryCancelPending = false;
	pg_compiler_barrier();

	/* a signal after the line before sets both by itself */
	if (others_cancel)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
}

/* There is a request, and no statement is under way: it came too late. */
void
rsl_cancel_settle(void)
{
	withdraw();
	count_missed(take_request(rsl_me));
}

/*
 * A statement has failed, in a PG_CATCH block of its outermost call.  If it
 * was our cancel the error is replaced by one that says so; else this
 * returns, and the caller re-throws.
 */
void
rsl_cancel_failed(MemoryContext caller)
{
	rsl_session *me = rsl_me;
	uint32		statement;
	uint64		doom;
	bool		delivered;
	rsl_cancel	cancel;
	ErrorData  *edata;

	/* a FATAL error does not come here, but its exit callback might call us */
	if (me == NULL)
		return;
	statement = pg_atomic_read_u32(&me->statement);
	/* step: failed */
	pg_atomic_write_u32(&me->statement, statement + 1);
	pg_compiler_barrier();
	if (likely(pg_atomic_read_u64(&me->doom) == 0))
		return;

	doom = take_request(me);
	delivered = struck != 0 && struck == doom && !others_cancel &&
		geterrcode() == ERRCODE_QUERY_CANCELED;
	withdraw();
	if (!delivered)
	{
		count_missed(doom);
		return;
	}

	pg_atomic_fetch_add_u64(&rsl_shmem->cancels_delivered, 1);
	cancel.statement = statement;
	cancel.reason = DOOM_REASON(doom);
	cancel.detail = DOOM_DETAIL(doom);
	cancel.started = me->statement_start;

	MemoryContextSwitchTo(caller);
	edata = CopyErrorData();
	FlushErrorState();
	if (describers[cancel.reason])
		describers[cancel.reason] (&cancel, edata);
	ReThrowError(edata);
}

/*
 * The statement has done its work, but a function in it caught our cancel:
 * that does not help it.
 */
void
rsl_cancel_insist(void)
{
	if (unlikely(was_caught))
		CHECK_FOR_INTERRUPTS();
}

/*
 * Somebody else of this process, who has set QueryCancelPending without a
 * signal, takes that back: for our part only.
 */
void
rsl_cancel_forget_other(void)
{
	if (struck != 0)
		others_cancel = false;
	else
		QueryCancelPending = false;
}

/*
 * Is there nobody further out who could catch errors?  Functions that run
 * outside of the executor (at planning, deferred triggers, the fast-path
 * protocol) may have EXCEPTION blocks, and they run statements through SPI.
 * Asking SPI for a relation that cannot be there tells whether it is in use.
 */
bool
rsl_cancel_outermost(void)
{
	return SPI_unregister_relation("") == SPI_ERROR_UNCONNECTED;
}

/* This backend can be signalled from now on, once the caller sets the pid. */
void
rsl_cancel_attach(rsl_session *session)
{
	/* left over from a predecessor */
	count_missed(take_request(session));
	pqsignal(SIGUSR2, handle_doom);
	pqsignal(SIGINT, handle_cancel);
}

/*
 * The entry's process is about to go, or is gone: nobody signals it any more.
 * Its pid is cleared here.
 */
void
rsl_cancel_detach(rsl_session *session)
{
	uint32		statement = pg_atomic_read_u32(&session->statement);

	/* a FATAL error in the middle of it; step: failed */
	if (statement & 1)
		pg_atomic_write_u32(&session->statement, statement + 1);

	LWLockAcquire(rsl_cancel_lock, LW_EXCLUSIVE);
	session->pid = 0;

	LWLockRelease(rsl_cancel_lock);
	count_missed(take_request(session));
}
