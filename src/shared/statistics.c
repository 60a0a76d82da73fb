/*-------------------------------------------------------------------------
 *
 * statistics.c
 *		Sums over the sessions, made when somebody looks.
 *
 * What every transaction counts, it counts in its session's own cache lines.
 * A session adds its counts to the totals when it ends (rsl_session_clean,
 * under the statistics lock); a reader, who holds that lock too, adds up the
 * totals and the sessions.  What each bulkhead has admitted is counted in a few
 * rows of counters, since each session may have to do with any of them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/breakers.h"
#include "shared/budget.h"
#include "shared/compartments.h"
#include "shared/features.h"
#include "shared/health.h"
#include "shared/measures.h"
#include "shared/overload.h"
#include "shared/retry_budget.h"
#include "shared/runaway.h"
#include "shared/statistics.h"

static bool
session_runs(rsl_session *session)
{
	return session->pid != 0 &&
		RSL_SLOT_STATE(pg_atomic_read_u32(&session->slot)) == RSL_SLOT_HELD;
}

/*
 * How many transactions this entry has admitted since the server's start, also
 * for bulkheads that had it before: see admitted_before_reset.
 */
uint64
rsl_bulkhead_admitted(int index)
{
	uint64		admitted = 0;

	for (int row = 0; row < RSL_ADMITTED_ROWS; row++)
		admitted += pg_atomic_read_u64(&rsl_admitted_rows[row * rsl_shmem->admitted_row_length + index]);
	return admitted;
}

/* Config and statistics locks are held. */
void
rsl_count_bulkhead(int index, rsl_bulkhead_counts *counts)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];

	counts->running = counts->waiting = 0;
	/* a bulkhead's own pool, and those of its compartments */
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		int			waiting_for;

		if (session->pid == 0)
			continue;
		waiting_for = (int32) pg_atomic_read_u32(&session->waiting_for);
		if (waiting_for >= 0 &&
			rsl_pool_bulkhead(rsl_pool_by_number(waiting_for)) == bulkhead)
			counts->waiting++;
		if (!session_runs(session))
			continue;
		for (int m = 0; m < session->nmatches; m++)
		{
			if ((session->held & (UINT32_C(1) << m)) != 0 &&
				session->matches[m].index == index &&
				session->matches[m].uid == bulkhead->uid)
				counts->running++;
		}
	}
	counts->admitted = rsl_bulkhead_admitted(index) - bulkhead->admitted_before_reset;
}

/*
 * The same for all bulkheads at once, in one pass over the sessions: an array
 * of nbulkheads elements.  Config and statistics locks are held.
 */
void
rsl_count_all_bulkheads(rsl_bulkhead_counts *counts)
{
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		counts[i].running = counts[i].waiting = 0;
		counts[i].admitted = rsl_bulkhead_admitted(i) -
			rsl_bulkheads[i].admitted_before_reset;
	}
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		int			waiting_for;

		if (session->pid == 0)
			continue;
		waiting_for = (int32) pg_atomic_read_u32(&session->waiting_for);
		if (waiting_for >= 0)
			counts[rsl_pool_bulkhead(rsl_pool_by_number(waiting_for)) - rsl_bulkheads].waiting++;
		if (!session_runs(session))
			continue;
		for (int m = 0; m < session->nmatches; m++)
		{
			rsl_match  *match = &session->matches[m];

			if (match->uid == rsl_bulkheads[match->index].uid &&
				(session->held & (UINT32_C(1) << m)) != 0)
				counts[match->index].running++;
		}
	}
}

/*
 * Who runs and who waits in each pool but the server's: two arrays of
 * rsl_npools() elements, as that was before.  The config lock is held.
 */
void
rsl_count_pools(int npools, int32 *running, int32 *waiting)
{
	memset(running, 0, npools * sizeof(int32));
	memset(waiting, 0, npools * sizeof(int32));
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		int			waiting_for;

		if (session->pid == 0)
			continue;
		waiting_for = (int32) pg_atomic_read_u32(&session->waiting_for);
		if (waiting_for >= 0 && waiting_for < npools)
			waiting[waiting_for]++;
		if (!session_runs(session))
			continue;
		for (int m = 0; m < session->nmatches; m++)
		{
			int			pool = session->matches[m].pool;

			if ((session->held & (UINT32_C(1) << m)) != 0 && pool < npools)
				running[pool]++;
		}
	}
}

static void
admitted_by_priority(uint64 *admitted)
{
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		admitted[c] = pg_atomic_read_u64(&rsl_shmem->admitted[c]);
		for (int s = 0; s < rsl_shmem->nsessions; s++)
			admitted[c] += pg_atomic_read_u64(&rsl_sessions[s].admitted[c]);
	}
}

/* Fills RSL_NUM_PRIORITIES elements.  The statistics lock is held. */
void
rsl_count_priorities(rsl_priority_counts *counts)
{
	uint64		admitted[RSL_NUM_PRIORITIES];

	memset(counts, 0, RSL_NUM_PRIORITIES * sizeof(*counts));
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];

		if (session->pid == 0)
			continue;
		if ((int32) pg_atomic_read_u32(&session->waiting_for) == RSL_SERVER_POOL)
			counts[session->priority].waiting++;
		if (session_runs(session))
			counts[session->priority].running++;
	}
	admitted_by_priority(admitted);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		counts[c].admitted = admitted[c] - rsl_shmem->admitted_before_reset[c];
}

/* Totals restart at zero; live numbers are not touched. */
void
rsl_reset_statistics(void)
{
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_stats_lock, LW_EXCLUSIVE);
	admitted_by_priority(rsl_shmem->admitted_before_reset);
	pg_atomic_write_u64(&rsl_shmem->refused_connections, 0);
	pg_atomic_write_u64(&rsl_shmem->delayed_connections, 0);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		pg_atomic_write_u64(&rsl_shmem->shed[c], 0);
		pg_atomic_write_u64(&rsl_shmem->timed_out[c], 0);
		pg_atomic_write_u64(&rsl_shmem->preempted[c], 0);
		pg_atomic_write_u64(&rsl_shmem->preempted_running[c], 0);
		pg_atomic_write_u64(&rsl_shmem->wait_us[c], 0);
		rsl_overload_reset(&rsl_shmem->overload[c]);
		for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
			pg_atomic_write_u64(&rsl_shmem->waits[c][b], 0);
	}
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];

		if (!bulkhead->published)
			continue;
		bulkhead->admitted_before_reset = rsl_bulkhead_admitted(i);
		pg_atomic_write_u64(&bulkhead->refused_connections, 0);
		pg_atomic_write_u64(&bulkhead->refused_statements, 0);
		pg_atomic_write_u64(&bulkhead->timed_out, 0);
		pg_atomic_write_u64(&bulkhead->preempted, 0);
		pg_atomic_write_u64(&bulkhead->preempted_running, 0);
		pg_atomic_write_u64(&bulkhead->wait_us, 0);
		pg_atomic_write_u64(&bulkhead->no_compartment, 0);
		rsl_overload_reset(&bulkhead->overload);
		rsl_budget_reset_statistics(&bulkhead->budget);
	}
	rsl_compartments_reset_statistics();
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
		rsl_breaker_reset_statistics(i);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
		rsl_runaway_reset_statistics(i);
	for (int i = 0; i < rsl_degradations->max_degradations; i++)
	{
		pg_atomic_write_u64(&rsl_degradations->degradations[i].transactions, 0);
		pg_atomic_write_u64(&rsl_degradations->degradations[i].skipped, 0);
	}
	for (int i = 0; i < rsl_health->max_checks; i++)
		rsl_check_reset_statistics(i);
	for (int i = 0; i < rsl_features->max_features; i++)
		rsl_feature_reset_statistics(i);
	rsl_measures_reset();
	LWLockRelease(rsl_stats_lock);
	LWLockRelease(rsl_config_lock);
	rsl_query_costs_forget();
	rsl_retry_reset_statistics();
}
