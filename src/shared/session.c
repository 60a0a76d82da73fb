/*-------------------------------------------------------------------------
 *
 * session.c
 *		A session's entry in shared memory, and the one way to give back
 *		what it holds.
 *
 * Ways out of a transaction are many; the way back of a slot is one:
 * rsl_session_release(), which may be called any number of times.  It is
 * called at the end of the transaction, when admission fails half way, and
 * at exit.  A process that dies without the exit callback takes the whole
 * shared memory with it (crash restart), so nothing else is needed; the
 * launcher's sweep is there for what we have not thought of.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "port/pg_bitutils.h"
#include "shared/budget.h"
#include "shared/cancel.h"
#include "shared/compartments.h"
#include "shared/pool.h"
#include "shared/runaway.h"
#include "shared/session.h"
#include "shared/turns.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

rsl_session *rsl_me = NULL;
bool		rsl_admitted = false;

static int
session_number(rsl_session *session)
{
	return (int) (session - rsl_sessions);
}

/* Call a function for each pool whose bit is set. */
static pg_attribute_always_inline void
for_each_unit(rsl_session *session, const int16 *pools, uint32 units,
			  rsl_priority priority, void (*act) (rsl_pool *, rsl_priority))
{
	if (units & RSL_SERVER_UNIT)
		act(&rsl_shmem->server, priority);
	units &= ~(RSL_SERVER_UNIT | RSL_PINNED_UNIT);
	while (units != 0)
	{
		int			bit = pg_rightmost_one_pos32(units);

		units &= units - 1;
		act(rsl_pool_by_number(pools ? pools[bit] :
							   session->matches[bit].pool), priority);
	}
}

/* Nothing of any pool is held, or waited for: let go of compartments. */
static pg_noinline void
leave_compartments(rsl_session *session)
{
	for (int i = 0; i < session->nmatches; i++)
	{
		rsl_match  *match = &session->matches[i];
		int			pool = match->pool;

		if (pool == match->index)
			continue;
		match->pool = match->index;
		rsl_compartment_leave(pool);
	}
}

/* All slots of pools are taken: from now on they belong to a transaction. */
void
rsl_session_hold(void)
{
	uint32		slot = pg_atomic_read_u32(&rsl_me->slot);

	pg_write_barrier();
	/* step: hold */
	pg_atomic_write_u32(&rsl_me->slot, RSL_SLOT_NEXT(slot, RSL_SLOT_HELD));
	rsl_admitted = true;
}

static void
release(rsl_session *session, bool may_keep)
{
	uint32		units = session->units;
	uint32		slot = pg_atomic_read_u32(&session->slot);	/* step: release-read */
	bool		kept = false;

	session->units = 0;
	session->held = 0;

	if (unlikely(session->quarantine != 0))
		rsl_quarantine_leave(session);
	if ((units & RSL_SERVER_UNIT) != 0 && may_keep &&
		unlikely(rsl_turn_concerned()) &&
		RSL_SLOT_STATE(slot) == RSL_SLOT_HELD && rsl_turn_keep(session))
		/* step: release-keep */
		kept = pg_atomic_compare_exchange_u32(&session->slot, &slot,
											  RSL_SLOT_NEXT(slot, RSL_SLOT_KEPT));

	/*
	 * The launcher may be lending it right now, and may have thought better
	 * of it; others may be reclaiming it.
	 */
	if (kept)
		units &= ~RSL_SERVER_UNIT;
	else if (RSL_SLOT_STATE(slot) != RSL_SLOT_FREE)
		/* step: release-free */
		slot = pg_atomic_exchange_u32(&session->slot,
									  RSL_SLOT_NEXT(slot, RSL_SLOT_FREE));

	if (RSL_SLOT_STATE(slot) == RSL_SLOT_KEPT)
		rsl_pool_give(&rsl_shmem->server, session->kept_priority);
	/* what is lent has been given back already */
	if (RSL_SLOT_STATE(slot) != RSL_SLOT_LENT && units != 0)
		for_each_unit(session, NULL, units, session->priority, rsl_pool_give);
	if (unlikely((units & RSL_PINNED_UNIT) != 0))
		leave_compartments(session);
}

/* Give back whatever this session holds.  Safe to call at any time. */
void
rsl_session_release(void)
{
	if (unlikely(rsl_budget_is_open))
		rsl_budget_settle(false);
	rsl_admitted = false;
	release(rsl_me, false);
}

/*
 * The transaction has ended: the same, but in its turn the session may keep
 * its slot of the server-wide limit for the next transaction.
 */
void
rsl_session_end_transaction(void)
{
	rsl_admitted = false;
	release(rsl_me, true);
}

/* The session works again: its slots are its own, over the limit if need be. */
void
rsl_session_take_back(void)
{
	uint32		slot = pg_atomic_read_u32(&rsl_me->slot);

	if (RSL_SLOT_STATE(slot) != RSL_SLOT_LENT)
		return;
	/* step: take-back */
	if (pg_atomic_compare_exchange_u32(&rsl_me->slot, &slot,
									   RSL_SLOT_NEXT(slot, RSL_SLOT_HELD)))
		for_each_unit(rsl_me, NULL, rsl_me->units, rsl_me->priority,
					  rsl_pool_force_take);
}

/*
 * Before a held transaction is charged to one more pool: make sure that the
 * slot is not lent, and that the launcher cannot lend it with the old list.
 */
void
rsl_session_bump(void)
{
	uint32		slot = pg_atomic_read_u32(&rsl_me->slot);

	for (;;)
	{
		rsl_session_take_back();
		slot = pg_atomic_read_u32(&rsl_me->slot);
		if (RSL_SLOT_STATE(slot) != RSL_SLOT_HELD)
			continue;
		/* step: hold */
		if (pg_atomic_compare_exchange_u32(&rsl_me->slot, &slot,
										   RSL_SLOT_NEXT(slot, RSL_SLOT_HELD)))
			return;
	}
}

/* Has the backend been idle in its transaction for long enough? */
static bool
idle_in_transaction(rsl_session *session)
{
	volatile PgBackendStatus *status = session->status;

	for (int tries = 0; tries < 10; tries++)
	{
		int			before;
		int			after;
		BackendState state;
		TimestampTz since;

		pgstat_begin_read_activity(status, before);
		state = status->st_state;
		since = status->st_state_start_timestamp;
		pgstat_end_read_activity(status, after);
		if (pgstat_read_activity_complete(before, after))
			return state == STATE_IDLEINTRANSACTION &&
				TimestampDifferenceExceeds(since, GetCurrentTimestamp(),
										   RSL_LEND_AFTER_MS);
	}
	return false;				/* it is busy, then */
}

/*
 * Lend the slots of a session that is idle in its transaction.  Called by
 * the launcher.  The copy made before the compare-and-swap belongs to the
 * same transaction as the slot, or the swap fails.
 */
bool
rsl_session_lend(rsl_session *session)
{
	uint32		slot = pg_atomic_read_u32(&session->slot);	/* step: lend-read */
	uint32		lent;
	uint32		units;
	rsl_priority priority;
	int16		pools[RSL_MAX_MATCHES];

	if (RSL_SLOT_STATE(slot) != RSL_SLOT_HELD || session->pid == 0 ||
		!idle_in_transaction(session))
		return false;

	pg_read_barrier();
	units = session->units;
	priority = session->priority;

	for (int i = 0; i < RSL_MAX_MATCHES; i++)
		pools[i] = session->matches[i].pool;

	if ((units & ~RSL_PINNED_UNIT) == 0)
		return false;

	lent = RSL_SLOT_NEXT(slot, RSL_SLOT_LENT);
	/* step: lend-take */
	if (!pg_atomic_compare_exchange_u32(&session->slot, &slot, lent))
		return false;

	/*
	 * It may have begun to work since we looked, without seeing that the slot
	 * was lent.  Undo that if so, unless it has seen it by now.
	 */
	/* step: lend-undo */
	if (!idle_in_transaction(session) &&
		pg_atomic_compare_exchange_u32(&session->slot, &lent,
									   RSL_SLOT_NEXT(lent, RSL_SLOT_HELD)))
		return false;

	for_each_unit(session, pools, units, priority, rsl_pool_give);
	return true;
}

/*
 * Lend our own slots while we sleep in the middle of a statement, whatever
 * the backend's state says.  rsl_session_take_back() ends that; the next
 * statement and the transaction's end do so, too.
 */
void
rsl_session_lend_own(void)
{
	uint32		slot;

	if (rsl_me == NULL || rsl_me->units == 0)
		return;

	/*
	 * The launcher cannot lend it: we are not idle, or it sees that in time.
	 * step: lend-take
	 */
	slot = pg_atomic_read_u32(&rsl_me->slot);
	if (RSL_SLOT_STATE(slot) == RSL_SLOT_HELD &&
		pg_atomic_compare_exchange_u32(&rsl_me->slot, &slot,
									   RSL_SLOT_NEXT(slot, RSL_SLOT_LENT)))
		for_each_unit(rsl_me, NULL, rsl_me->units, rsl_me->priority,
					  rsl_pool_give);
}

/*
 * Connection slots: a bit in the session's bitmap says who has one.  Setting
 * and clearing the bit atomically makes both operations safe to repeat and
 * to race, between the owner and whoever publishes a changed bulkhead.
 */
static pg_atomic_uint32 *
connection_word(rsl_session *session, int index, uint32 *bit)
{
	*bit = UINT32_C(1) << (index % 32);
	return &rsl_connection_bits[session_number(session) *
								rsl_shmem->bitmap_words + index / 32];
}

bool
rsl_connection_held(rsl_session *session, int index)
{
	uint32		bit;
	pg_atomic_uint32 *word = connection_word(session, index, &bit);

	return (pg_atomic_read_u32(word) & bit) != 0;
}

/*
 * Take a connection slot of a bulkhead.  Returns false if it is full, unless
 * "force" is set.  The config lock is held.
 */
bool
rsl_connection_take(rsl_session *session, int index, bool force)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];
	int32		max = bulkhead->policy.max_connections;
	uint32		bit;
	pg_atomic_uint32 *word = connection_word(session, index, &bit);
	uint32		count;

	if (pg_atomic_read_u32(word) & bit)
		return true;

	count = pg_atomic_read_u32(&bulkhead->connections);
	do
	{
		if (!force && max >= 0 && count >= (uint32) max)
			return false;
	} while (!pg_atomic_compare_exchange_u32(&bulkhead->connections, &count,
											 count + 1));
	if (pg_atomic_fetch_or_u32(word, bit) & bit)
		pg_atomic_fetch_sub_u32(&bulkhead->connections, 1);
	return true;
}

void
rsl_connection_give(rsl_session *session, int index)
{
	uint32		bit;
	pg_atomic_uint32 *word = connection_word(session, index, &bit);

	if (pg_atomic_fetch_and_u32(word, ~bit) & bit)
		pg_atomic_fetch_sub_u32(&rsl_bulkheads[index].connections, 1);
}

/* The session ends: add its own counters to the totals. */
static void
fold_counters(rsl_session *session)
{
	LWLockAcquire(rsl_stats_lock, LW_EXCLUSIVE);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		pg_atomic_fetch_add_u64(&rsl_shmem->admitted[c],
								pg_atomic_read_u64(&session->admitted[c]));
		pg_atomic_write_u64(&session->admitted[c], 0);
	}
	LWLockRelease(rsl_stats_lock);
}

/* Give back everything that a session holds, its entry too. */
void
rsl_session_clean(rsl_session *session)
{
	rsl_pool_abandon_wait(session);
	release(session, false);
	rsl_turn_forget(session);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
		rsl_connection_give(session, i);
	session->nmatches = 0;
	fold_counters(session);
	session->status = NULL;

	pg_atomic_write_u64(&session->cpu_charged, 0);
	rsl_cancel_detach(session);
}

/*
 * Runs before the open transaction is aborted, after LWLocks were released.
 */
static void
session_exit(int code, Datum arg)
{
	rsl_session *session = rsl_me;

	if (session == NULL)
		return;
	if (rsl_budget_is_open)
		rsl_budget_settle(false);
	rsl_admitted = false;
	rsl_me = NULL;
	rsl_session_clean(session);
}

/*
 * Enter this backend: called once, when it has been authenticated.  The exit
 * callback comes first: whatever is taken later is given back.  (Callbacks
 * that _PG_init() of a preloaded library registers are lost at fork.)
 */
void
rsl_session_attach(Oid role, Oid database, bool superuser,
				   const rsl_address *address, const char *application_name)
{
	rsl_session *session;

	if (rsl_shmem == NULL || rsl_me != NULL)
		return;
	Assert(rsl_my_slot_number() < rsl_shmem->nsessions);
	session = &rsl_sessions[rsl_my_slot_number()];

	before_shmem_exit(session_exit, (Datum) 0);

	/* left over from a predecessor? */
	if (session->pid != 0)
		rsl_session_clean(session);

	session->role = role;
	session->database = database;
	session->superuser = superuser;
	session->address = *address;

	strlcpy(session->application_name, application_name,
			sizeof(session->application_name));
	session->status = MyBEEntry;
	session->priority = RSL_PRIORITY_NORMAL;
	session->query_id = 0;
	session->runaway_rules = 0;
	session->run_start = session->wait_start = 0;

	rsl_cancel_attach(session);
	pg_write_barrier();
	session->pid = MyProcPid;
	rsl_me = session;
}
