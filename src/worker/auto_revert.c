/*-------------------------------------------------------------------------
 *
 * auto_revert.c
 *		Bulkheads that refuse more than they are meant to.
 *
 * A bulkhead with auto_revert_refusal_rate, in enforce mode, only observes
 * once it has refused more than that share of what it decided in the last 10
 * seconds, statements and connections apart: neither should hide in the
 * number of the others.  The launcher looks at each tick, and goes through the
 * sessions only while there are such bulkheads.
 *
 * The windows are the launcher's own: if it is started anew they begin empty.
 * That a bulkhead has been reverted is in shared memory and in the snapshot
 * file; see rsl_revert_bulkhead().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "core/sliding_window.h"
#include "policy/publish.h"
#include "shared/compartments.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/auto_revert.h"

#define WINDOW_US			INT64CONST(10000000)

/* fewer decisions than these say nothing */
#define FEW_DECISIONS		20

/* What of one kind a bulkhead has decided. */
typedef struct decisions
{
	uint64		admitted;		/* counters at the last look */
	uint64		refused;
	rsl_sliding_window window;
} decisions;

/* A bulkhead that is looked at. */
typedef struct watched
{
	int			index;
	uint32		uid;
	double		rate;
	bool		known;			/* the counters are those of an earlier look */
	uint64		connected;		/* sessions that came, since we look */
	decisions	statements;
	decisions	connections;
} watched;

static watched *watched_bulkheads = NULL;
static int	nwatched = 0;
static bool some_reverted;		/* some bulkhead that is in force */
static uint64 generation = 0;	/* of the bulkheads when the list was made */

static int16 *watched_of;		/* by index of the bulkhead; -1 = none */
static pid_t *seen_pids;		/* by session */
static bool pids_known = false;

static bool
is_watched(rsl_bulkhead *bulkhead)
{
	return bulkhead->published && !bulkhead->expired &&
		bulkhead->reverted_at == 0 &&
		bulkhead->policy.mode == RSL_MODE_ENFORCE &&
		bulkhead->policy.auto_revert_refusal_rate >= 0;
}

/*
 * Make the list of bulkheads to look at.  Those that were in it keep what is
 * known of them, unless they were dropped meanwhile.
 */
static void
make_list(void)
{
	watched    *list = NULL;
	int			n = 0;

	if (watched_of == NULL)
	{
		watched_of = MemoryContextAlloc(TopMemoryContext,
										rsl_shmem->nbulkheads * sizeof(int16));
		for (int i = 0; i < rsl_shmem->nbulkheads; i++)
			watched_of[i] = -1;
		seen_pids = MemoryContextAllocZero(TopMemoryContext,
										   rsl_shmem->nsessions * sizeof(pid_t));
	}

	/* what changes from here on is seen at the next tick */
	generation = pg_atomic_read_u64(&rsl_shmem->generation);
	some_reverted = false;
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
		n += rsl_bulkheads[i].policy.auto_revert_refusal_rate >= 0 ? 1 : 0;
	if (n > 0)
		list = MemoryContextAllocZero(TopMemoryContext, n * sizeof(watched));

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	nwatched = 0;
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];
		int			before = watched_of[i];
		watched    *entry;

		watched_of[i] = -1;
		if (bulkhead->published && bulkhead->reverted_at != 0)
			some_reverted = true;
		if (nwatched == n || !is_watched(bulkhead))
			continue;
		entry = &list[nwatched];
		if (before >= 0 && watched_bulkheads[before].uid == bulkhead->uid)
			*entry = watched_bulkheads[before];
		else
		{
			rsl_window_init(&entry->statements.window, WINDOW_US);
			rsl_window_init(&entry->connections.window, WINDOW_US);
		}
		entry->index = i;
		entry->uid = bulkhead->uid;
		entry->rate = bulkhead->policy.auto_revert_refusal_rate;
		watched_of[i] = nwatched++;
	}
	LWLockRelease(rsl_config_lock);

	if (watched_bulkheads)
		pfree(watched_bulkheads);
	watched_bulkheads = list;
	if (nwatched == 0)
		pids_known = false;
}

/* Who has come? */
static void
look_at_sessions(void)
{
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		bool		is_new = session->pid != seen_pids[s];

		seen_pids[s] = session->pid;

		if (session->pid == 0 || !is_new || !pids_known)
			continue;
		for (int w = 0; w < nwatched; w++)
		{
			if (rsl_connection_held(session, watched_bulkheads[w].index))
				watched_bulkheads[w].connected++;
		}
	}
	pids_known = true;
}

/*
 * Bring a window up to date.  Returns whether more than the rate was refused;
 * *sum is what is in the window then.
 */
static bool
decide(decisions *d, bool known, double rate, uint64 admitted, uint64 refused,
	   int64 now, rsl_window_counts *sum)
{
	rsl_window_counts counts = {0};

	/* reset_statistics() lets counters begin anew */
	if (known)
	{
		counts.failures = refused >= d->refused ? refused - d->refused : refused;
		counts.calls = counts.failures +
			(admitted >= d->admitted ? admitted - d->admitted : 0);
		if (counts.calls > 0)
			rsl_window_add(&d->window, now, &counts);
	}
	d->admitted = admitted;
	d->refused = refused;

	rsl_window_sum(&d->window, now, sum);
	return sum->calls >= FEW_DECISIONS && sum->failures > rate * sum->calls;
}

static void
look_at_bulkhead(watched *entry, int64 now)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[entry->index];
	rsl_window_counts statements;
	rsl_window_counts connections;
	bool		too_many;
	bool		too_many_connections;

	too_many = decide(&entry->statements, entry->known, entry->rate,
					  rsl_bulkhead_admitted(entry->index),
					  pg_atomic_read_u64(&bulkhead->refused_statements) +
					  pg_atomic_read_u64(&bulkhead->timed_out) +
					  pg_atomic_read_u64(&bulkhead->preempted),
					  now, &statements);
	too_many_connections = decide(&entry->connections, entry->known, entry->rate,
								  entry->connected,
								  pg_atomic_read_u64(&bulkhead->refused_connections),
								  now, &connections);
	entry->known = true;

	/* nothing is refused while the server only observes */
	if ((too_many || too_many_connections) &&
		rsl_mode_setting == RSL_MODE_ENFORCE)
		rsl_revert_bulkhead(entry->index, entry->uid,
							too_many ? "statements" : "connections",
							too_many ? statements.failures : connections.failures,
							too_many ? statements.calls : connections.calls);
}

/*
 * Nobody waits for what is only observed: neither those who did, nor who
 * looked at its mode just before it was reverted.
 */
static void
let_waiters_run(void)
{
	for (int i = 0; i < rsl_npools(); i++)
	{
		rsl_pool   *pool = rsl_pool_by_number(i);

		if ((pg_atomic_read_u64(&pool->word) & RSL_WAIT_MASK) == 0 ||
			rsl_pool_bulkhead(pool)->reverted_at == 0)
			continue;
		for (int s = 0; s < rsl_shmem->nsessions; s++)
		{
			if ((int32) pg_atomic_read_u32(&rsl_sessions[s].waiting_for) == i)
				rsl_pool_let_through(&rsl_sessions[s], i);
		}
	}
}

/* Called at each tick. */
void
rsl_look_at_refusals(void)
{
	if (generation != pg_atomic_read_u64(&rsl_shmem->generation))
		make_list();
	if (nwatched > 0)
	{
		int64		now = rsl_now_us();

		/*
		 * a session that adds its counters to the totals does so before or
		 * after
		 */
		LWLockAcquire(rsl_stats_lock, LW_SHARED);
		look_at_sessions();
		LWLockRelease(rsl_stats_lock);
		for (int w = 0; w < nwatched; w++)
			look_at_bulkhead(&watched_bulkheads[w], now);
	}
	if (some_reverted ||
		generation != pg_atomic_read_u64(&rsl_shmem->generation))
		let_waiters_run();
}
