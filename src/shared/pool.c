/*-------------------------------------------------------------------------
 *
 * pool.c
 *		Taking, waiting for, and giving back the slots of a pool.
 *
 * Without contention a slot is taken by one compare-and-swap of the pool's
 * word and given back by one atomic subtraction.  The pool's lock is taken
 * only by those who must wait and by those who, when giving back, see in the
 * word that somebody waits who could run now.
 *
 * A releaser hands its slot over: it counts the chosen waiter as running,
 * writes the verdict, and wakes nobody else.  The waiter finds the slot
 * already its own.  If it was cancelled in the same moment it gives the slot
 * back, that is, to the next one.
 *
 * No wake-up is lost: the flag "somebody waits" is in the same word as the
 * counts.  A newcomer sets the flag and then dispatches once more; a
 * releaser either subtracted before (and the dispatch sees the free slot),
 * or sees the flag.
 *
 * pool.pml is a model of this, of turns.c and of the slots of session.c, that
 * is checked by test/hardening/model.sh.  The comments "step: NAME" say which
 * of its steps a line is; change both together.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/overload.h"
#include "shared/pool.h"
#include "shared/turns.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

/* At most so many waiters are woken for each hold of the pool's lock. */
#define WAKE_BATCH				32

/*
 * A waiter looks by itself for sessions that it blocks, in case the launcher,
 * which does so ten times as often, is not there.
 */
#define SELF_CHECK_MS			1000

/* how often the watchman looks for slots that were kept for too long */
#define WATCH_MS				1

/* until there is a measurement */
#define DEFAULT_RETRY_AFTER_MS	250

static inline int
session_number(rsl_session *session)
{
	return (int) (session - rsl_sessions);
}

/* Which classes had work in this pool a moment ago?  A bit for each. */
static uint32
recently_active(const rsl_pool_limits *limits)
{
	uint32		tick;
	uint32		recent = 0;

	if (limits->low_cap < 0 && limits->normal_cap < 0)
		return 0;
	tick = pg_atomic_read_u32(&rsl_shmem->tick);
	for (int c = RSL_PRIORITY_NORMAL; c < RSL_NUM_PRIORITIES; c++)
	{
		if (tick - pg_atomic_read_u32(&rsl_shmem->last_active[c]) <= RSL_ACTIVE_TICKS)
			recent |= 1u << c;
	}
	return recent;
}

/* Remember that a class has work here, writing once a tick at most. */
static inline void
note_activity(rsl_pool *pool, rsl_priority priority)
{
	uint32		tick = pg_atomic_read_u32(&rsl_shmem->tick);

	if (pool->number == RSL_SERVER_POOL &&
		pg_atomic_read_u32(&rsl_shmem->last_active[priority]) != tick)
		pg_atomic_write_u32(&rsl_shmem->last_active[priority], tick);
}

/* Take a slot if one is free and nobody of our class or above waits. */
static inline bool
take_if_free(rsl_pool *pool, rsl_priority priority)
{
	rsl_pool_limits limits;
	uint64		word = pg_atomic_read_u64(&pool->word);

	rsl_pool_read_limits(pool, &limits);
	for (;;)
	{
		uint32		recent = 0;

		if (unlikely(rsl_pool_cap_reached(word, &limits, priority)))
			recent = recently_active(&limits);
		if ((word & rsl_pool_wait_bits_from(priority)) != 0 ||
			!rsl_pool_admits(word, &limits, priority, recent))
			return false;
		/* step: take-if-free */
		if (pg_atomic_compare_exchange_u64(&pool->word, &word,
										   word + rsl_pool_unit(priority)))
			return true;
	}
}

bool
rsl_pool_try_take(rsl_pool *pool, rsl_priority priority)
{
	note_activity(pool, priority);
	return take_if_free(pool, priority);
}

/* Take a slot, over the limit if need be. */
void
rsl_pool_force_take(rsl_pool *pool, rsl_priority priority)
{
	note_activity(pool, priority);
	/* step: force-take */
	pg_atomic_fetch_add_u64(&pool->word, rsl_pool_unit(priority));
}

/* Bit c is set when class c has waiters and one of them could run now. */
static uint32
eligible_classes(rsl_pool *pool, uint64 word)
{
	rsl_pool_limits limits;
	uint32		recent;
	uint32		eligible = 0;

	rsl_pool_read_limits(pool, &limits);
	recent = recently_active(&limits);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		if ((word & rsl_pool_wait_bit(c)) != 0 &&
			rsl_pool_admits(word, &limits, c, recent))
			eligible |= 1u << c;
	}
	return eligible;
}

/* Give a slot back, to the next waiter if there is one who may run. */
void
rsl_pool_give(rsl_pool *pool, rsl_priority priority)
{
	uint64		unit = rsl_pool_unit(priority);
	uint64		word;

	/* step: give-subtract */
	word = pg_atomic_fetch_sub_u64(&pool->word, unit) - unit;
	if (unlikely((word & RSL_WAIT_MASK) != 0) &&
		eligible_classes(pool, word) != 0)
		rsl_pool_dispatch(pool);
}

/* The latch outlives its owner: setting that of a dead process is harmless. */
static void
wake(int waiter)
{
	SetLatch(&GetPGProcByNumber(waiter)->procLatch);
}

/* Clear the flag of a class that has no waiters left.  Pool's lock held. */
static void
update_wait_flag(rsl_pool *pool, int priority)
{
	if (pool->queue.length[priority] > 0)
		return;
	rsl_codel_reset(&pool->codel[priority]);
	/* step: flag-clear */
	pg_atomic_fetch_and_u64(&pool->word, ~rsl_pool_wait_bit(priority));
}

/*
 * One waiter looks after the slots that are kept between transactions: the
 * one that will be here longest.  Pool's lock held.
 */
static void
choose_watchman(rsl_pool *pool)
{
	rsl_turns  *turns = &rsl_shmem->turns;
	int			waiter;

	if (pool->number != RSL_SERVER_POOL)
		return;
	waiter = rsl_wait_queue_last(&pool->queue);
	/* step: watchman-write */
	pg_atomic_write_u32(&turns->watchman, (uint32) (waiter + 1));

	/*
	 * Who makes the first mark looks for the watchman afterwards: either it
	 * sees this one, or we see the mark.
	 */
	pg_memory_barrier();
	/* step: watchman-look */
	if (waiter != RSL_NO_WAITER && pg_atomic_read_u32(&turns->nturns) > 0)
		wake(waiter);
}

static inline bool
is_watchman(rsl_pool *pool, int waiter)
{
	return pool->number == RSL_SERVER_POOL &&
		pg_atomic_read_u32(&rsl_shmem->turns.watchman) == (uint32) (waiter + 1);
}

/* Take a waiter out with this verdict.  Pool's lock held; wake it later. */
static void
settle(rsl_pool *pool, int waiter, rsl_verdict verdict)
{
	int			priority = rsl_nodes[waiter].priority;

	rsl_wait_queue_remove(&pool->queue, rsl_nodes, waiter);
	update_wait_flag(pool, priority);
	if (is_watchman(pool, waiter))
		choose_watchman(pool);
	/* step: settle-verdict */
	pg_atomic_write_u32(&rsl_sessions[waiter].verdict, verdict);
}

/*
 * Hand free slots to waiters.  Pool's lock held.  Writes at most "room"
 * numbers of sessions to wake, and returns how many.
 */
static int
dispatch_locked(rsl_pool *pool, int *woken, int room)
{
	int			n = 0;
	int64		now = 0;

	rsl_wait_queue_set_capacity(&pool->queue,
								(int32) pg_atomic_read_u32(&pool->max_waiting));
	while (n < room && pool->queue.total > 0)
	{
		uint64		word = pg_atomic_read_u64(&pool->word);
		uint32		eligible = eligible_classes(pool, word);
		int			waiter;
		int			priority;

		if (eligible == 0)
			break;
		if (now == 0)
			now = rsl_now_us();
		waiter = rsl_wait_queue_next(&pool->queue, rsl_nodes, now, eligible);
		if (waiter == RSL_NO_WAITER)
			break;
		priority = rsl_nodes[waiter].priority;
		if (rsl_waiter_too_late(pool, waiter, now))
		{
			settle(pool, waiter, RSL_DROPPED);
			woken[n++] = waiter;
			continue;
		}
		/* step: dispatch-grant */
		if (!pg_atomic_compare_exchange_u64(&pool->word, &word,
											word + rsl_pool_unit(priority)))
			continue;

		rsl_wait_queue_grant(&pool->queue, rsl_nodes, waiter, eligible);
		update_wait_flag(pool, priority);
		if (is_watchman(pool, waiter))
			choose_watchman(pool);
		/* step: dispatch-verdict */
		pg_atomic_write_u32(&rsl_sessions[waiter].verdict, RSL_GRANTED);
		woken[n++] = waiter;

		/* moving average of 1/8, as TCP smooths its round-trip time */
		if (pool->last_grant != 0 && now > pool->last_grant)
		{
			int64		sample = Min(now - pool->last_grant, INT64CONST(10000000));

			if (pool->grant_interval == 0)
				pool->grant_interval = sample;
			else
				pool->grant_interval += (sample - pool->grant_interval) / 8;
		}
		pool->last_grant = now;
	}
	return n;
}

/* Hand free slots to waiters, as many as there are. */
void
rsl_pool_dispatch(rsl_pool *pool)
{
	int			woken[WAKE_BATCH];
	int			n;

	do
	{
		LWLockAcquire(rsl_pool_lock(pool), LW_EXCLUSIVE);
		n = dispatch_locked(pool, woken, WAKE_BATCH);
		LWLockRelease(rsl_pool_lock(pool));
		for (int i = 0; i < n; i++)
			wake(woken[i]);
	} while (n == WAKE_BATCH);
}

/* How long until a newcomer would run, in microseconds; 0 = no idea. */
static int64
expected_wait(rsl_pool *pool, rsl_priority priority)
{
	return pool->grant_interval *
		(rsl_wait_queue_before(&pool->queue, priority) + 1);
}

static void
numbers_locked(rsl_pool *pool, rsl_priority priority, rsl_pool_numbers *numbers)
{
	/* whoever waits now is to be through by then, in whatever order */
	int64		wait_us = pool->grant_interval *
		(rsl_wait_queue_ahead(&pool->queue, priority) + 1);

	numbers->limit = (int32) pg_atomic_read_u32(&pool->max_running);
	numbers->running = rsl_pool_running(pg_atomic_read_u64(&pool->word));
	numbers->waiting = pool->queue.total;
	numbers->retry_after_ms = wait_us == 0 ? DEFAULT_RETRY_AFTER_MS :
		Max(1, Min(wait_us / 1000, 60000));
}

void
rsl_pool_get_numbers(rsl_pool *pool, rsl_priority priority,
					 rsl_pool_numbers *numbers)
{
	LWLockAcquire(rsl_pool_lock(pool), LW_SHARED);
	numbers_locked(pool, priority, numbers);
	LWLockRelease(rsl_pool_lock(pool));
}

/*
 * Stop waiting, whatever the state: leave the queue, or, when the slot was
 * handed over in this moment, give it back.  Safe to call at any time, also
 * at exit.
 */
void
rsl_pool_abandon_wait(rsl_session *session)
{
	int			number = (int32) pg_atomic_read_u32(&session->waiting_for);
	rsl_pool   *pool;
	bool		granted;

	if (number == RSL_NO_POOL)
		return;
	pool = rsl_pool_by_number(number);

	LWLockAcquire(rsl_pool_lock(pool), LW_EXCLUSIVE);
	if (rsl_nodes[session_number(session)].queued)
		settle(pool, session_number(session), RSL_TIMED_OUT);
	granted = pg_atomic_read_u32(&session->verdict) == RSL_GRANTED;
	pg_atomic_write_u32(&session->waiting_for, (uint32) RSL_NO_POOL);
	LWLockRelease(rsl_pool_lock(pool));

	session->wait_start = 0;

	if (granted)
		rsl_pool_give(pool, rsl_nodes[session_number(session)].priority);
}

/* Sleep until there is a verdict or the time is over. */
static rsl_verdict
wait_for_verdict(rsl_pool *pool, rsl_session *session, rsl_priority priority,
				 int64 begin, int64 end, const rsl_wait_options *options)
{
	int			me = session_number(session);
	int64		next_check = begin + RSL_CLIENT_FIRST_CHECK_MS * INT64CONST(1000);
	bool		slept = false;

	for (;;)
	{
		/* step: verdict-read */
		rsl_verdict verdict = pg_atomic_read_u32(&session->verdict);
		int64		now;
		int64		left;
		long		patience = SELF_CHECK_MS;
		int			rc;

		if (verdict != RSL_WAITING)
			return verdict;

		now = rsl_now_us();
		left = end - now;
		if (left > 0 && now >= next_check)
		{
			next_check = now + RSL_CLIENT_CHECK_MS * INT64CONST(1000);
			rsl_end_if_client_gone(pool, priority);
			continue;
		}
		if (left <= 0)
		{
			LWLockAcquire(rsl_pool_lock(pool), LW_EXCLUSIVE);
			if (rsl_nodes[me].queued)
				settle(pool, me, RSL_TIMED_OUT);
			LWLockRelease(rsl_pool_lock(pool));
			continue;
		}

		/* step: watchman-read */
		if (is_watchman(pool, me) &&
			pg_atomic_read_u32(&rsl_shmem->turns.nturns) > 0)
			patience = WATCH_MS;
		if (options->look)
			patience = Min(patience, options->look(options->arg));
		if (!slept && options->on_sleep)
			options->on_sleep(options->arg);
		slept = true;

		rc = WaitLatch(MyLatch,
					   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   Min(Min(left, next_check - now) / 1000 + 1, patience),
					   rsl_admission_wait_event());
		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		if (rc & WL_TIMEOUT)
		{
			if (rsl_lock_state(MyProc) & RSL_LOCKS_BLOCKING)
				rsl_pool_let_through(session, pool->number);
			else if (patience == WATCH_MS &&
					 rsl_turn_reclaim(RSL_PRIORITY_LOW))
				rsl_pool_dispatch(pool);
		}
	}
}

/*
 * Let go of the pool's lock, without having queued.  If the batch was full
 * there may be more waiters who can have a slot.
 */
static void
leave_unqueued(rsl_pool *pool, const int *woken, int n)
{
	LWLockRelease(rsl_pool_lock(pool));
	for (int i = 0; i < n; i++)
		wake(woken[i]);
	if (n >= WAKE_BATCH - 1)
		rsl_pool_dispatch(pool);
}

/*
 * Wait for a slot.  The caller has found none free.  On RSL_GRANTED the slot
 * is taken; on anything else nothing is, and *numbers says how things stood.
 * Cancel, termination and the like leave by error, with nothing taken.
 */
rsl_verdict
rsl_pool_wait(rsl_pool *pool, rsl_session *session, rsl_priority priority,
			  const rsl_wait_options *options, rsl_pool_numbers *numbers)
{
	int			me = session_number(session);
	int			woken[WAKE_BATCH];
	int			n = 0;
	int64		now;
	rsl_verdict verdict = RSL_WAITING;
	bool		ours = false;

	LWLockAcquire(rsl_pool_lock(pool), LW_EXCLUSIVE);
	now = rsl_now_us();
	rsl_wait_queue_set_capacity(&pool->queue,
								(int32) pg_atomic_read_u32(&pool->max_waiting));

	/* a slot that is only kept, by a lower class or for too long, is free */
	if (pool->number == RSL_SERVER_POOL && rsl_turn_reclaim(priority))
		n = dispatch_locked(pool, woken, WAKE_BATCH - 1);
	if (take_if_free(pool, priority))
	{
		leave_unqueued(pool, woken, n);
		return RSL_GRANTED;
	}

	numbers_locked(pool, priority, numbers);
	if (options->timeout_us <= 0 ||
		(options->budget_us > 0 &&
		 expected_wait(pool, priority) > options->budget_us))
		verdict = RSL_TIMED_OUT;
	if (pool->queue.total >= (int32) pg_atomic_read_u32(&pool->max_waiting))
	{
		int			victim = RSL_NO_WAITER;

		if (options->preempt && verdict == RSL_WAITING)
			victim = rsl_wait_queue_victim(&pool->queue, rsl_nodes, now,
										   priority);
		if (victim != RSL_NO_WAITER)
		{
			settle(pool, victim, RSL_PREEMPTED);
			woken[n++] = victim;
		}
		else
			verdict = RSL_QUEUE_FULL;
	}
	if (verdict != RSL_WAITING)
	{
		leave_unqueued(pool, woken, n);
		return verdict;
	}

	/* step: queue */
	pg_atomic_write_u32(&session->verdict, RSL_WAITING);
	pg_atomic_write_u32(&session->waiting_for, (uint32) pool->number);
	rsl_nodes[me].target_ms = (uint32) (options->target_us / 1000);
	if (pool->number == RSL_SERVER_POOL)
		rsl_turn_note_patience(pool, options->target_us > 0 ?
							   options->target_us : options->timeout_us / 2);
	rsl_wait_queue_push(&pool->queue, rsl_nodes, me, priority, now);
	if (pg_atomic_read_u32(&rsl_shmem->turns.watchman) == 0)
		choose_watchman(pool);
	/* step: flag-set */
	pg_atomic_fetch_or_u64(&pool->word, rsl_pool_wait_bit(priority));
	/* a slot may have come back before the flag was seen */
	n += dispatch_locked(pool, woken + n, WAKE_BATCH - n);
	LWLockRelease(rsl_pool_lock(pool));
	for (int i = 0; i < n; i++)
	{
		if (woken[i] != me)
			wake(woken[i]);
	}
	if (n == WAKE_BATCH)
		rsl_pool_dispatch(pool);	/* there may be more */

	session->wait_start = GetCurrentTimestamp();

	PG_TRY();
	{
		int64		timeout = options->timeout_us;

		if (options->budget_us > 0)
			timeout = Min(timeout, options->budget_us);
		verdict = wait_for_verdict(pool, session, priority, now, now + timeout,
								   options);
		ours = verdict == RSL_GRANTED;
		if (ours)
		{
			if (rsl_now_us() - now >= RSL_CLIENT_SURE_US)
				rsl_end_if_client_gone(pool, priority);
			if (pool->number == RSL_SERVER_POOL)
				rsl_turn_begin();
			/* not the abandoner's any more, but on_wake may throw */
			if (options->on_wake)
				options->on_wake(options->arg);
			pg_atomic_write_u32(&session->waiting_for, (uint32) RSL_NO_POOL);
		}
		else
			rsl_pool_get_numbers(pool, priority, numbers);
	}
	PG_CATCH();
	{
		rsl_pool_abandon_wait(session);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (!ours)
		pg_atomic_write_u32(&session->waiting_for, (uint32) RSL_NO_POOL);
	session->wait_start = 0;

	return verdict;
}

/*
 * Would a slot that one of class "victim" gives back let one of class
 * "priority" run?
 */
bool
rsl_pool_freed_for(rsl_pool *pool, rsl_priority priority, rsl_priority victim)
{
	uint64		unit = rsl_pool_unit(victim);
	uint64		word = pg_atomic_read_u64(&pool->word);
	rsl_pool_limits limits;

	if (rsl_pool_lane(word, Min(victim, RSL_PRIORITY_HIGH)) == 0)
		return false;
	rsl_pool_read_limits(pool, &limits);
	return rsl_pool_admits(word - unit, &limits, priority,
						   recently_active(&limits));
}

/*
 * Let a waiter run over the limit, because it blocks somebody.  Returns
 * false when it does not wait there any more.
 */
bool
rsl_pool_let_through(rsl_session *session, int waiting_for)
{
	rsl_pool   *pool = rsl_pool_by_number(waiting_for);
	int			waiter = session_number(session);
	bool		found;

	LWLockAcquire(rsl_pool_lock(pool), LW_EXCLUSIVE);
	found = rsl_nodes[waiter].queued &&
		(int32) pg_atomic_read_u32(&session->waiting_for) == waiting_for;
	if (found)
	{
		/* step: through-add */
		pg_atomic_fetch_add_u64(&pool->word,
								rsl_pool_unit(rsl_nodes[waiter].priority));
		settle(pool, waiter, RSL_GRANTED);
	}
	LWLockRelease(rsl_pool_lock(pool));
	if (found)
		wake(waiter);
	return found;
}

/* Shed all waiters below a priority: the minimum was raised. */
void
rsl_pool_shed_below(rsl_pool *pool, rsl_priority minimum)
{
	int			woken[WAKE_BATCH];
	int			n;

	do
	{
		n = 0;
		LWLockAcquire(rsl_pool_lock(pool), LW_EXCLUSIVE);
		for (int c = 0; c < (int) minimum; c++)
		{
			while (n < WAKE_BATCH && pool->queue.head[c] != RSL_NO_WAITER)
			{
				woken[n] = pool->queue.head[c];
				settle(pool, woken[n++], RSL_SHED);
			}
		}
		LWLockRelease(rsl_pool_lock(pool));
		for (int i = 0; i < n; i++)
			wake(woken[i]);
	} while (n == WAKE_BATCH);
}

static void
look_at_proclock(PROCLOCK *proclock, void *arg)
{
	int		   *flags = arg;
	LOCK	   *lock = proclock->tag.myLock;
	const LockMethodData *method = GetLocksMethodTable(lock);
	bool		counts;

	/*
	 * Neither one's own virtual transaction id, nor advisory locks, which a
	 * job queue's session may hold all its life and which anybody may take:
	 * they would be a way around every limit.
	 */
	counts = LOCK_LOCKTAG(*lock) != LOCKTAG_VIRTUALTRANSACTION &&
		LOCK_LOCKTAG(*lock) != LOCKTAG_ADVISORY;

	for (LOCKMODE mode = 1; mode <= method->numLockModes; mode++)
	{
		if ((proclock->holdMask & LOCKBIT_ON(mode)) == 0)
			continue;
		if (mode > RowExclusiveLock && counts)
			*flags |= RSL_LOCKS_STRONG;
		if ((method->conflictTab[mode] & lock->waitMask) != 0)
			*flags |= RSL_LOCKS_BLOCKING;
	}
}

/*
 * Does a process hold strong locks, does it block somebody?
 *
 * Weak relation locks live in the holder's fast-path array, where nobody can
 * be waiting for them: a conflicting request moves them to the shared table
 * first.  So the lists in the PGPROC tell everything.  They are empty for
 * most processes, and whether they are is read without the lock: a change
 * that is missed is seen at the next look.
 */
int
rsl_lock_state(PGPROC *proc)
{
	int			flags = 0;

	for (int partition = 0; partition < NUM_LOCK_PARTITIONS; partition++)
	{
		LWLock	   *lock;

		if (rsl_proclocks_empty(proc, partition))
			continue;
		lock = LockHashPartitionLockByIndex(partition);
		LWLockAcquire(lock, LW_SHARED);
		rsl_foreach_proclock(proc, partition, look_at_proclock, &flags);
		LWLockRelease(lock);
	}
	return flags;
}
