/*-------------------------------------------------------------------------
 *
 * measured.c
 *		Metrics of retries, of waits and recoveries, of the time in states.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "metrics/collector.h"
#include "shared/health.h"
#include "shared/measures.h"
#include "shared/pool.h"
#include "shared/retry_budget.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "utils/builtins.h"

/*
 * Retries
 */

typedef struct retry_row
{
	int			slot;
	char		sqlstate[6];
	int			result;
	uint64		attempts;
} retry_row;

static void
collect_attempts(rsl_collector *c)
{
	static const rsl_metric_family attempts = {
		"resilience_retry_attempts_total", "counter",
		"Attempts of calls to retry(), retry_query() and retry_transaction() by the last SQLSTATE and how the call ended."
	};
	static const rsl_metric_family calls = {
		"resilience_retry_calls_total", "counter",
		"Calls to retry(), retry_query() and retry_transaction() that have ended: first attempts."
	};
	static const rsl_metric_family retries = {
		"resilience_retries_total", "counter",
		"Attempts after the first."
	};
	retry_row  *rows = palloc(lengthof(rsl_retry_shmem->entries) *
							  RSL_RETRY_RESULTS * sizeof(retry_row));
	int			n = 0;
	uint64		ncalls = 0;
	uint64		nattempts = 0;

	LWLockAcquire(&rsl_retry_shmem->lock, LW_SHARED);
	for (int i = 0; i < lengthof(rsl_retry_shmem->entries); i++)
	{
		rsl_retry_entry *entry = &rsl_retry_shmem->entries[i];

		for (int r = 0; r < RSL_RETRY_RESULTS; r++)
		{
			uint64		of_result = pg_atomic_read_u64(&entry->counts[r].calls);

			if (of_result == 0)
				continue;
			strlcpy(rows[n].sqlstate, i == RSL_RETRY_OTHER ? "other" :
					unpack_sql_state(entry->sqlstate), sizeof(rows[n].sqlstate));
			rows[n].slot = i;
			rows[n].result = r;
			rows[n].attempts = pg_atomic_read_u64(&entry->counts[r].attempts);
			ncalls += of_result;
			nattempts += rows[n].attempts;
			n++;
		}
	}
	LWLockRelease(&rsl_retry_shmem->lock);

	for (int i = 0; i < n; i++)
		rsl_collect_of(c, &attempts, rows[i].slot, RSL_RETRY_RESULTS,
					   rows[i].attempts, 1, 2, "sqlstate", rows[i].sqlstate,
					   "result", rsl_retry_result_name(rows[i].result));
	rsl_collect(c, &calls, ncalls, 0);
	rsl_collect(c, &retries, nattempts > ncalls ? nattempts - ncalls : 0, 0);
}

void
rsl_collect_retries(rsl_collector *c)
{
	static const rsl_metric_family tokens = {
		"resilience_retry_budget_tokens", "gauge",
		"Retries that a budget would allow now."
	};
	static const rsl_metric_family exhausted = {
		"resilience_retry_budget_exhausted_total", "counter",
		"Retries that a budget has not allowed."
	};
	int			n;

	collect_attempts(c);

	/* budgets are made, and never go away */
	LWLockAcquire(&rsl_retry_shmem->lock, LW_SHARED);
	n = rsl_retry_shmem->nbudgets;
	LWLockRelease(&rsl_retry_shmem->lock);
	for (int i = 0; i < n; i++)
		rsl_collect(c, &tokens, rsl_retry_budget_tokens(&rsl_retry_shmem->budgets[i]),
					1, "budget", rsl_retry_shmem->budgets[i].name);
	for (int i = 0; i < n; i++)
		rsl_collect(c, &exhausted, pg_atomic_read_u64(&rsl_retry_shmem->budgets[i].denied),
					1, "budget", rsl_retry_shmem->budgets[i].name);
}

/*
 * Histograms
 */

static double
read_measured(rsl_measured *measured, uint64 *counts)
{
	for (int b = 0; b <= RSL_BUCKET_BOUNDS; b++)
		counts[b] = pg_atomic_read_u64(&measured->buckets[b]);
	return pg_atomic_read_u64(&measured->sum_us) / 1e6;
}

static void
collect_recoveries(rsl_collector *c)
{
	static const rsl_metric_family recovery = {
		"resilience_recovery_seconds", "histogram",
		"From leaving the good state (closed, healthy, on, not shedding) to being back in it."
	};
	static const char *const kinds[RSL_NUM_RECOVERIES] = {
		"circuit_breaker", "health_check", "feature", "load_shedding", "server"
	};

	for (int k = 0; k < RSL_NUM_RECOVERIES; k++)
	{
		uint64		counts[RSL_BUCKET_BOUNDS + 1];
		double		sum = read_measured(&rsl_measures->recovery[k], counts);

		rsl_collect_histogram(c, &recovery, &rsl_recovery_buckets, counts, sum,
							  "kind", kinds[k]);
	}
}

/*
 * Transactions that were admitted at once have waited for no time: they are in
 * the first bucket, though nobody has counted them there.
 */
static void
collect_waits(rsl_collector *c)
{
	static const rsl_metric_family wait = {
		"resilience_admission_wait_seconds", "histogram",
		"How long transactions have waited for the server-wide limit, those that were refused in the end included."
	};
	rsl_priority_counts priorities[RSL_NUM_PRIORITIES];
	uint64		at_once[RSL_NUM_PRIORITIES];

	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_priorities(priorities);
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
		at_once[p] = rsl_measures_at_once(p, priorities[p].admitted);
	LWLockRelease(rsl_stats_lock);
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
	{
		uint64		counts[RSL_BUCKET_BOUNDS + 1];
		double		sum = read_measured(&rsl_measures->waits[p], counts);

		counts[0] += at_once[p];
		rsl_collect_histogram(c, &wait, &rsl_wait_buckets, counts, sum,
							  "priority", rsl_priority_name(p));
	}
}

void
rsl_collect_measures(rsl_collector *c)
{
	static const rsl_metric_family health = {
		"resilience_health_state_seconds_total", "counter",
		"How long the health of the whole was in each status."
	};
	static const rsl_metric_family shedding = {
		"resilience_load_shedding_seconds_total", "counter",
		"How long the server was shedding load."
	};
	static const rsl_metric_family ceiling = {
		"resilience_load_max_running", "gauge",
		"resilience.max_running: transactions that may run at once."
	};
	rsl_state_clock of_health;
	rsl_state_clock of_shedding;
	int64		now = rsl_now_us();

	SpinLockAcquire(&rsl_measures->mutex);
	of_health = rsl_measures->health;
	of_shedding = rsl_measures->shedding;
	SpinLockRelease(&rsl_measures->mutex);

	for (int s = RSL_HEALTH_UNKNOWN; s <= RSL_UNHEALTHY; s++)
		rsl_collect(c, &health, rsl_state_clock_total(&of_health, s, now) / 1e6,
					1, "status", rsl_health_status_name(s));
	rsl_collect(c, &shedding, rsl_state_clock_total(&of_shedding, 1, now) / 1e6, 0);
	if (rsl_max_running >= 0)
		rsl_collect(c, &ceiling, rsl_max_running, 0);
	collect_waits(c);
	collect_recoveries(c);
}
