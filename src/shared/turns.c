/*-------------------------------------------------------------------------
 *
 * turns.c
 *		Turns: who has waited may run several transactions.
 *
 * Handing the slot over at the end of each transaction keeps the right number
 * of transactions running, but lets all sessions circulate: with 256 clients
 * each transaction begins with a context switch to a process whose memory is
 * in no cache.  PostgreSQL is at its best when few sessions work, so the
 * limit should make few sessions work.
 *
 * Hence a session that was handed a slot of the server-wide limit has a turn
 * of some milliseconds.  While it lasts, and while nobody of a higher class
 * waits, the session keeps its slot from one transaction to the next.  All
 * waiters together come round in RSL_ROTATION, so the turn is the shorter the
 * more of them wait: with W waiters and a limit of L it lasts
 * RSL_ROTATION * L / W, and MAX_TURN at most: longer turns gain little, and
 * with few waiters nobody should wait for half a second.  That bounds how long
 * others wait: for a rotation,
 * plus what the last transaction of each turn runs over its end, L of them at
 * a time.  Nobody's patience may end before: a rotation is not longer than
 * the shortest "resilience.queue_target" of those who have queued (by default
 * a quarter of their max_wait), or without one half of their max_wait.
 *
 * A kept slot is idle while the client thinks.  It is kept only for as long
 * as the transaction took, so that a slot is used for more time than it
 * idles.  One waiter, the watchman, wakes once a millisecond and takes back
 * slots that have been kept for too long; a newcomer of a higher class takes
 * one at once.  A session whose client does not come back in time loses the
 * privilege until it has been seen to come back quickly again.
 *
 * What was measured (PostgreSQL 15, 2 cores, 256 clients; a client program
 * that uses epoll, since pgbench's polling of 256 sockets costs as much as
 * half of a TPC-B transaction; CPU time per transaction, because the machine
 * was not ours alone):
 *
 * - The loss is cold memory.  A session that works after 255 others needs 65
 *	 to 90 us more than a warm one, for a select that takes 11 us.  When the
 *	 client sees to it that 8 of 256 sessions work at a time and each works
 *	 for T, TPC-B scale 20 costs the server 431 us for a session in each
 *	 transaction, 339 us at T = 5 ms, 309 us at 20 ms, 293 us at 200 ms; plain
 *	 630 us.  No order of the queue can be better than that.
 * - Half of it is page faults: each process maps the pages of shared_buffers
 *	 for itself.  They end when it has touched all that are hot, or with
 *	 huge_pages.
 * - Turns of at most 5 ms (a rotation of 200 ms) are 2 transactions of TPC-B:
 *	 458 us, 3 455 TPS; a rotation of 500 ms: 347 us and 3 699 TPS, which is
 *	 what the client's own order reaches at such turns.
 * - Short transactions gain nothing.  Those of selects by key hold a slot for
 *	 10 us and leave it idle for 100, so slots that are kept between them keep
 *	 others waiting for nothing: 34 700 TPS and a p99 of 28 to 152 ms with
 *	 pgbench, against 43 800 and 9 ms of plain.  Keeping slots whenever the
 *	 server is loaded, whether somebody waits or not, made that 34 400 and 410
 *	 ms.  (The client with epoll had 0 to 20 % more, and a p99 of 150 ms
 *	 instead of 10.)  Hence MIN_HOLD, and no turns before there is a queue.  The price: a
 *	 limit so low that short transactions queue for it (4 on 2 cores) hands
 *	 over after each of them, at 18 700 TPS instead of 30 200.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/pool.h"
#include "shared/turns.h"
#include "storage/latch.h"
#include "storage/proc.h"

/* microseconds: all waiters get their turn in about this time ... */
#define RSL_ROTATION		INT64CONST(500000)
/* ... but a turn is not shorter, nor longer, than this */
#define MIN_TURN			INT64CONST(1000)
#define MAX_TURN			INT64CONST(20000)

/*
 * A slot is kept for a client that thinks for as long as its transaction
 * took, but not longer than this; microseconds.
 */
#define MAX_KEEP			INT64CONST(5000)

/* transactions shorter than this gain nothing from a turn; microseconds */
#define MIN_HOLD			INT64CONST(100)

/* quick returns in a row that earn the privilege */
#define QUICK_ENOUGH		2

bool		rsl_turn_pending = false;
bool		rsl_turn_entered = false;

/* this session's turn; microseconds, monotonic */
static int64 turn_start = 0;
static int64 granted_at = 0;	/* 0 = unknown */
static int64 released_at = 0;
static int64 held = 0;			/* how long the last transaction held the slot */
static int	quick_returns = QUICK_ENOUGH;
static int	position = -1;		/* in in_turn[], or -1 */
static uint64 mark = 0;			/* what stands there if it is still ours */

/*
 * A mark says whose it is and which transaction made it: the session's number
 * + 1, and its slot's word.  Each slot that is kept has a mark of its own,
 * because who took the one before back may be about to remove the mark that it
 * saw then.
 */
#define MARK(session, slot) \
	((uint64) (slot) << 32 | (uint64) ((session) - rsl_sessions + 1))
#define MARK_SESSION(mark)	(&rsl_sessions[(uint32) (mark) - 1])

/* The session was handed a slot after waiting: its turn begins. */
void
rsl_turn_begin(void)
{
	turn_start = granted_at = rsl_now_us();
}

/*
 * How long is a turn now?  Queue and limit are read without the lock: they
 * need not be exact.
 */
static int64
turn_length(rsl_pool *pool, int limit)
{
	int64		patience = pg_atomic_read_u32(&rsl_shmem->turns.patience_ms);
	int64		rotation = Min(RSL_ROTATION, patience * 1000);

	rotation = rotation * Max(limit, 1) / Max(pool->queue.total, 1);
	return Max(MIN_TURN, Min(rotation, MAX_TURN));
}

/* Somebody is about to queue who is patient for so long.  Pool's lock held. */
void
rsl_turn_note_patience(rsl_pool *pool, int64 patience_us)
{
	pg_atomic_uint32 *shortest = &rsl_shmem->turns.patience_ms;
	uint32		patience = (uint32) Max(1, Min(patience_us / 1000, INT_MAX));

	if (pool->queue.total == 0 || patience < pg_atomic_read_u32(shortest))
		pg_atomic_write_u32(shortest, patience);
}

/* Find or make our place among those in a turn, with a mark of its own. */
static bool
enter(rsl_session *session)
{
	rsl_turns  *turns = &rsl_shmem->turns;
	uint64		old = mark;

	mark = MARK(session, pg_atomic_read_u32(&session->slot));
	/* step: enter-mark */
	if (position >= 0 &&
		pg_atomic_compare_exchange_u64(&turns->in_turn[position], &old, mark))
		return true;

	for (int i = 0; i < RSL_MAX_TURNS; i++)
	{
		int			place = ((uint32) mark + i) % RSL_MAX_TURNS;
		uint64		nobody = 0;

		/* step: enter-mark */
		if (pg_atomic_read_u64(&turns->in_turn[place]) == 0 &&
			pg_atomic_compare_exchange_u64(&turns->in_turn[place], &nobody, mark))
		{
			position = place;
			rsl_turn_entered = true;
			/* step: turns-more */
			if (pg_atomic_fetch_add_u32(&turns->nturns, 1) == 0)
			{
				/* step: enter-watchman */
				uint32		watchman = pg_atomic_read_u32(&turns->watchman);

				/* there is something to look after now */
				if (watchman != 0)
					SetLatch(&GetPGProcByNumber(watchman - 1)->procLatch);
			}
			return true;
		}
	}
	return false;
}

/* Remove a mark, unless another one has taken its place. */
static void
forget(int place, uint64 seen)
{
	rsl_turns  *turns = &rsl_shmem->turns;

	/* step: reclaim-forget */
	if (pg_atomic_compare_exchange_u64(&turns->in_turn[place], &seen, 0))
		/* step: turns-fewer */
		pg_atomic_fetch_sub_u32(&turns->nturns, 1);
}

static void
leave(void)
{
	/* step: leave-mark */
	if (position >= 0)
		forget(position, mark);
	position = -1;
	rsl_turn_entered = false;
}

/*
 * A session is gone: so is its place, or a successor in its entry would never
 * clear it.
 */
void
rsl_turn_forget(rsl_session *session)
{
	rsl_turns  *turns = &rsl_shmem->turns;

	if (pg_atomic_read_u32(&turns->nturns) == 0)
		return;
	for (int i = 0; i < RSL_MAX_TURNS; i++)
	{
		uint64		seen = pg_atomic_read_u64(&turns->in_turn[i]);

		if (seen != 0 && MARK_SESSION(seen) == session)
			forget(i, seen);
	}
}

/*
 * A transaction that held a slot of the server's pool has ended.  May the
 * session keep the slot for the next one?  If so the caller sets the state.
 */
bool
rsl_turn_keep(rsl_session *session)
{
	rsl_pool   *pool = &rsl_shmem->server;
	uint64		word = pg_atomic_read_u64(&pool->word);
	int32		limit = (int32) pg_atomic_read_u32(&pool->max_running);
	int64		now;

	if ((word & RSL_WAIT_MASK) == 0)
	{
		leave();
		return false;
	}

	rsl_turn_pending = true;
	now = released_at = rsl_now_us();
	held = granted_at == 0 ? 0 : now - granted_at;
	granted_at = 0;
	if (held < MIN_HOLD || now - turn_start >= turn_length(pool, limit) || quick_returns < QUICK_ENOUGH ||
		(word & rsl_pool_wait_bits_from(session->priority) &
		 ~rsl_pool_wait_bit(session->priority)) != 0 ||
		rsl_pool_running(word) > limit ||
		!enter(session))
	{
		leave();
		return false;
	}
	session->kept_priority = session->priority;

	pg_atomic_write_u64(&session->kept_until, now + Min(held, MAX_KEEP));
	return true;
}

/*
 * A transaction has all it needs but the server's slot.  Returns true if the
 * one that was kept is still there and of the same class: then it is the
 * transaction's.
 */
bool
rsl_turn_resume(rsl_session *session, rsl_priority priority)
{
	uint32		slot = pg_atomic_read_u32(&session->slot);

	granted_at = rsl_now_us();
	if (granted_at - released_at > Min(held, MAX_KEEP))
		quick_returns = 0;
	else if (quick_returns < QUICK_ENOUGH)
		quick_returns++;
	rsl_turn_pending = false;

	/* step: resume-take */
	if (RSL_SLOT_STATE(slot) != RSL_SLOT_KEPT ||
		!pg_atomic_compare_exchange_u32(&session->slot, &slot,
										RSL_SLOT_NEXT(slot, RSL_SLOT_FREE)))
		return false;
	if (session->kept_priority == priority)
		return true;
	rsl_pool_give(&rsl_shmem->server, session->kept_priority);
	return false;
}

/*
 * The session is about to wait for a bulkhead: nobody may hold the server's
 * slot, which is the wide one, while waiting for a narrow one.
 */
void
rsl_turn_give_up(rsl_session *session)
{
	uint32		slot = pg_atomic_read_u32(&session->slot);

	rsl_turn_pending = false;
	/* step: give-up-take */
	if (RSL_SLOT_STATE(slot) == RSL_SLOT_KEPT &&
		pg_atomic_compare_exchange_u32(&session->slot, &slot,
									   RSL_SLOT_NEXT(slot, RSL_SLOT_FREE)))
		rsl_pool_give(&rsl_shmem->server, session->kept_priority);
}

/*
 * Take back slots that were kept for too long, and all those of a class
 * below "below".  Returns whether there were any; the caller dispatches.
 */
bool
rsl_turn_reclaim(rsl_priority below)
{
	rsl_turns  *turns = &rsl_shmem->turns;
	bool		reclaimed = false;
	int64		now = 0;

	if (pg_atomic_read_u32(&turns->nturns) == 0)
		return false;

	for (int i = 0; i < RSL_MAX_TURNS; i++)
	{
		/* step: reclaim-mark */
		uint64		seen = pg_atomic_read_u64(&turns->in_turn[i]);
		rsl_session *session;
		uint32		slot;
		rsl_priority priority;

		if (seen == 0)
			continue;
		session = MARK_SESSION(seen);

		pg_read_barrier();
		slot = pg_atomic_read_u32(&session->slot);	/* step: reclaim-slot */
		if (RSL_SLOT_STATE(slot) != RSL_SLOT_KEPT)
		{
			/*
			 * It runs; or it has nothing, and will make another mark when it
			 * keeps a slot again.
			 */
			if (RSL_SLOT_STATE(slot) == RSL_SLOT_FREE)
				forget(i, seen);
			continue;
		}
		pg_read_barrier();
		priority = session->kept_priority;

		if (now == 0)
			now = rsl_now_us();
		if (priority >= below &&
			now <= (int64) pg_atomic_read_u64(&session->kept_until))
			continue;
		/* step: reclaim-take */
		if (!pg_atomic_compare_exchange_u32(&session->slot, &slot,
											RSL_SLOT_NEXT(slot, RSL_SLOT_FREE)))
			continue;
		/* step: reclaim-subtract */
		pg_atomic_fetch_sub_u64(&rsl_shmem->server.word,
								rsl_pool_unit(priority));
		forget(i, seen);
		reclaimed = true;
	}
	return reclaimed;
}
