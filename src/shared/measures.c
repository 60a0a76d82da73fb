/*-------------------------------------------------------------------------
 *
 * measures.c
 *		Counts that only metrics need: histograms, and times of the whole.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/health.h"
#include "shared/measures.h"
#include "shared/pool.h"

rsl_measures_shared *rsl_measures = NULL;

Size
rsl_measures_shmem_size(void)
{
	return CACHELINEALIGN(sizeof(rsl_measures_shared));
}

void
rsl_measures_shmem_place(void *memory)
{
	rsl_measures = memory;
}

static void
init(rsl_measured *measured)
{
	for (int b = 0; b <= RSL_BUCKET_BOUNDS; b++)
		pg_atomic_init_u64(&measured->buckets[b], 0);
	pg_atomic_init_u64(&measured->sum_us, 0);
}

/* The memory is zero. */
void
rsl_measures_shmem_init(void)
{
	for (int k = 0; k < RSL_NUM_RECOVERIES; k++)
		init(&rsl_measures->recovery[k]);
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
	{
		init(&rsl_measures->waits[p]);
		pg_atomic_init_u64(&rsl_measures->admitted_waits[p], 0);
		pg_atomic_init_u64(&rsl_measures->told_at_once[p], 0);
	}
	SpinLockInit(&rsl_measures->mutex);
	rsl_state_clock_begin(&rsl_measures->health, RSL_HEALTH_UNKNOWN, rsl_now_us());
	rsl_state_clock_begin(&rsl_measures->shedding, 0, rsl_now_us());
}

static void
add(rsl_measured *measured, const rsl_buckets *buckets, int64 us)
{
	us = Max(us, 0);
	pg_atomic_fetch_add_u64(&measured->buckets[rsl_bucket_of(buckets, us)], 1);
	pg_atomic_fetch_add_u64(&measured->sum_us, us);
}

void
rsl_measure_recovery(rsl_recovery_kind kind, int64 us)
{
	add(&rsl_measures->recovery[kind], &rsl_recovery_buckets, us);
}

void
rsl_measure_wait(int priority, int64 us, bool admitted)
{
	add(&rsl_measures->waits[priority], &rsl_wait_buckets, us);
	if (admitted)
		pg_atomic_fetch_add_u64(&rsl_measures->admitted_waits[priority], 1);
}

/*
 * Who has waited counts here first, and as admitted afterwards: read the other
 * way round the difference can be too low for a moment, but not too high.
 */
uint64
rsl_measures_at_once(int priority, int64 admitted)
{
	pg_atomic_uint64 *told = &rsl_measures->told_at_once[priority];
	uint64		before = pg_atomic_read_u64(told);
	uint64		waited;
	uint64		at_once;

	pg_read_barrier();
	waited = pg_atomic_read_u64(&rsl_measures->admitted_waits[priority]);
	at_once = admitted > (int64) waited ? admitted - waited : 0;
	while (at_once > before)
	{
		if (pg_atomic_compare_exchange_u64(told, &before, at_once))
			return at_once;
	}
	return before;
}

void
rsl_measure_health(int status)
{
	int64		now = rsl_now_us();
	int64		ill_us = -1;

	SpinLockAcquire(&rsl_measures->mutex);
	rsl_state_clock_move(&rsl_measures->health, status, now);
	if (status == RSL_HEALTHY)
	{
		if (rsl_measures->ill_since_us != 0)
			ill_us = now - rsl_measures->ill_since_us;
		rsl_measures->ill_since_us = 0;
	}
	else if (status != RSL_HEALTH_UNKNOWN && rsl_measures->ill_since_us == 0)
		rsl_measures->ill_since_us = now;
	SpinLockRelease(&rsl_measures->mutex);
	if (ill_us >= 0)
		rsl_measure_recovery(RSL_RECOVERY_SERVER, ill_us);
}

void
rsl_measure_shedding(bool shedding)
{
	int64		lasted;

	SpinLockAcquire(&rsl_measures->mutex);
	lasted = rsl_state_clock_move(&rsl_measures->shedding, shedding ? 1 : 0,
								  rsl_now_us());
	SpinLockRelease(&rsl_measures->mutex);
	if (!shedding && lasted > 0)
		rsl_measure_recovery(RSL_RECOVERY_SHEDDING, lasted);
}

/* With the statistics of the load; times in state and recoveries go on. */
void
rsl_measures_reset(void)
{
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
	{
		for (int b = 0; b <= RSL_BUCKET_BOUNDS; b++)
			pg_atomic_write_u64(&rsl_measures->waits[p].buckets[b], 0);
		pg_atomic_write_u64(&rsl_measures->waits[p].sum_us, 0);
		pg_atomic_write_u64(&rsl_measures->admitted_waits[p], 0);
		pg_atomic_write_u64(&rsl_measures->told_at_once[p], 0);
	}
}
