/*-------------------------------------------------------------------------
 *
 * record_tick.c
 *		Before and after the faults of experiments: the launcher's part.
 *
 * While the lever is on, experiments that could be started are measured all
 * the time, in a window of the last 30 to 60 seconds, so that a start has a
 * time before.  While a run goes on it is noted which breakers have opened,
 * which features are degraded and which bulkheads are saturated.  After the
 * faults it is looked once a second whether all is as it was before: until
 * that has been so for a while.
 *
 * What is compared from one second to the next is in the launcher's own
 * memory: when it is started again, the second that was under way is lost.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "chaos/record_tick.h"
#include "shared/breakers.h"
#include "shared/features.h"
#include "shared/health.h"
#include "shared/pool.h"
#include "utils/timestamp.h"

/* the window of what is warm: the one half that is full and the other one */
#define HALF_WINDOW_US		INT64CONST(30000000)

#define LOOK_EVERY_US		INT64CONST(1000000)

/* The counts of one group as they were at some moment. */
typedef struct snapshot
{
	uint32		statements;
	uint32		errors;
	uint32		latencies[RSL_HISTOGRAM_BUCKETS];
} snapshot;

/* How a run was when it was looked at last. */
typedef struct last_look
{
	uint32		serial;			/* of the run; 0 = never looked */
	int64		at_us;
	rsl_recovery recovery;
	rsl_figures before[RSL_NUM_GROUPS];
	snapshot	counts[RSL_NUM_GROUPS];
} last_look;

static last_look looks[RSL_MAX_RUNS];

void
rsl_run_figures(rsl_run *run, rsl_run_time time, rsl_run_group group,
				rsl_figures *figures)
{
	rsl_run_counts *counts = &run->counts[time][group];
	uint64		latencies[RSL_HISTOGRAM_BUCKETS];

	for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
		latencies[b] = pg_atomic_read_u32(&counts->latencies[b]);
	rsl_figures_make(figures, pg_atomic_read_u32(&counts->statements),
					 pg_atomic_read_u32(&counts->errors), latencies);
}

/*
 * What is noted
 */

static bool
is_open(const rsl_breaker *breaker)
{
	uint64		gate = pg_atomic_read_u64((pg_atomic_uint64 *) &breaker->gate);

	return RSL_GATE_POSITION(gate) != RSL_BREAKER_CLOSED;
}

/* Config lock held, experiments lock exclusively. */
static void
note_breakers(rsl_run *run)
{
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		rsl_breaker *breaker = &rsl_breakers[i];
		int64		opened_at;

		if (!breaker->published)
			continue;
		SpinLockAcquire(&breaker->mutex);
		opened_at = breaker->state.opened_at;
		SpinLockRelease(&breaker->mutex);
		if (opened_at >= run->faults_us)
			rsl_run_note(run, RSL_NOTED_BREAKERS, i);
	}
}

/* By the launcher alone a feature becomes degraded, and just before. */
static void
note_features(rsl_run *run)
{
	for (int i = 0; i < rsl_features->max_features; i++)
	{
		rsl_feature *feature = &rsl_features->features[i];
		int64		since_us;

		if (pg_atomic_read_u32(&feature->uid) == 0 ||
			pg_atomic_read_u32(&feature->state) != RSL_FEATURE_DEGRADED)
			continue;
		SpinLockAcquire(&feature->mutex);
		since_us = feature->since_us;
		SpinLockRelease(&feature->mutex);
		if (since_us >= run->faults_us)
			rsl_run_note(run, RSL_NOTED_FEATURES, i);
	}
}

static void
note_bulkheads(rsl_run *run)
{
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published &&
			pg_atomic_read_u64(&rsl_bulkheads[i].saturated_since) != 0)
			rsl_run_note(run, RSL_NOTED_BULKHEADS, i);
	}
}

static void
note(rsl_run *run)
{
	note_breakers(run);
	note_features(run);
	note_bulkheads(run);
	run->last_uids[RSL_NOTED_BREAKERS] = rsl_breakers_shmem->last_uid;
	run->last_uids[RSL_NOTED_FEATURES] = rsl_features->last_uid;
	run->last_uids[RSL_NOTED_BULKHEADS] = rsl_shmem->last_uid;
}

/*
 * After
 */

static void
take_snapshot(rsl_run *run, rsl_run_group group, snapshot *to)
{
	rsl_run_counts *counts = &run->counts[RSL_TIME_AFTER][group];

	to->statements = pg_atomic_read_u32(&counts->statements);
	to->errors = pg_atomic_read_u32(&counts->errors);
	for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
		to->latencies[b] = pg_atomic_read_u32(&counts->latencies[b]);
}

/* How was a group between the last look and now? */
static rsl_harm
harm_of_group(rsl_run *run, last_look *look, rsl_run_group group)
{
	snapshot	now;
	snapshot   *last = &look->counts[group];
	uint64		latencies[RSL_HISTOGRAM_BUCKETS];
	rsl_figures figures;
	double		found;
	double		allowed;

	take_snapshot(run, group, &now);
	for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
		latencies[b] = now.latencies[b] - last->latencies[b];
	rsl_figures_make(&figures, now.statements - last->statements,
					 now.errors - last->errors, latencies);
	*last = now;
	return rsl_judge_moment(&look->before[group], &figures, &found, &allowed);
}

/* Those that have opened are closed again, or gone. */
static bool
breakers_are_closed(rsl_run *run)
{
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (rsl_run_has_noted(run, RSL_NOTED_BREAKERS, i) &&
			rsl_breakers[i].published && is_open(&rsl_breakers[i]))
			return false;
	}
	return true;
}

static rsl_ill
what_is_ill(rsl_run *run, last_look *look)
{
	rsl_harm	target = harm_of_group(run, look, RSL_GROUP_TARGET);
	rsl_harm	rest = harm_of_group(run, look, RSL_GROUP_REST);

	if (!breakers_are_closed(run))
		return RSL_ILL_BREAKER;
	if (pg_atomic_read_u32(&rsl_health->status) >
		Max(run->health_before, RSL_HEALTHY))
		return RSL_ILL_HEALTH;
	if (rest == RSL_HARM_ERRORS)
		return RSL_ILL_REST_ERRORS;
	if (target == RSL_HARM_ERRORS)
		return RSL_ILL_TARGET_ERRORS;
	if (rest != RSL_UNHARMED)
		return RSL_ILL_REST_LATENCY;
	return target != RSL_UNHARMED ? RSL_ILL_TARGET_LATENCY : RSL_WELL;
}

static void
begin_looking(rsl_run *run, last_look *look)
{
	memset(look, 0, sizeof(*look));
	look->serial = pg_atomic_read_u32(&run->serial);
	look->recovery.faults_end_us = look->at_us = run->faults_end_us;
	for (int g = 0; g < RSL_NUM_GROUPS; g++)
		rsl_run_figures(run, RSL_TIME_BEFORE, g, &look->before[g]);
}

/* Is it over?  Returns whether it is. */
static bool
look_after(rsl_run *run, last_look *look)
{
	int64		now = rsl_now_us();
	rsl_recovery *recovery = &look->recovery;
	rsl_recovery_end end;

	if (look->serial != pg_atomic_read_u32(&run->serial))
		begin_looking(run, look);
	if (now - look->at_us < LOOK_EVERY_US)
		return false;
	end = rsl_recovery_look(recovery, look->at_us, now, what_is_ill(run, look));
	look->at_us = now;
	run->recovered_at = recovery->well_since_us == 0 ||
		now - recovery->well_since_us < RSL_RECOVERY_WELL_US ? 0 :
		run->faults_end_at + (recovery->well_since_us - run->faults_end_us);
	run->ill = run->recovered_at != 0 ? RSL_WELL : recovery->ill;
	if (end == RSL_RECOVERY_GOES_ON)
		return false;
	run->after_end_at = GetCurrentTimestamp();
	pg_atomic_write_u32(&run->phase, RSL_RUN_OVER);
	return true;
}

/*
 * Before
 */

/* Is it to be measured for its next start, and is not yet? */
static bool
could_be_warm(const rsl_experiment *experiment)
{
	if (!experiment->published || experiment->warm >= 0 ||
		experiment->state == RSL_EXPERIMENT_RUNNING)
		return false;
	return experiment->run < 0 ||
		pg_atomic_read_u32(&rsl_experiments->runs[experiment->run].phase) == RSL_RUN_OVER;
}

/* The youngest first. */
static bool
warm_up(void)
{
	bool		changed = false;

	for (int n = 0; n < RSL_MAX_RUNS; n++)
	{
		int			best = -1;

		for (int i = 0; i < rsl_experiments->max_experiments; i++)
		{
			if (could_be_warm(&rsl_experiments->experiments[i]) &&
				(best < 0 ||
				 pg_atomic_read_u32(&rsl_experiments->experiments[i].uid) >
				 pg_atomic_read_u32(&rsl_experiments->experiments[best].uid)))
				best = i;
		}
		if (best < 0 || !rsl_run_warm(best))
			break;
		changed = true;
	}
	return changed;
}

/* With several at once nobody can tell whose fault anything is. */
static void
note_others(void)
{
	int			during = 0;

	for (int pass = 0; pass < 2; pass++)
	{
		for (int r = 0; r < RSL_MAX_RUNS; r++)
		{
			rsl_run    *run = &rsl_experiments->runs[r];

			if (pg_atomic_read_u32(&run->phase) != RSL_RUN_DURING)
				continue;
			if (pass == 0)
				during++;
			else if (during > 1)
				run->overlapped = true;
		}
	}
}

/* Returns whether anything has changed. */
static bool
look_at_run(int r, bool may_be_warm)
{
	rsl_run    *run = &rsl_experiments->runs[r];

	switch (pg_atomic_read_u32(&run->phase))
	{
		case RSL_RUN_WARM:
			if (!may_be_warm)
			{
				rsl_run_cool(run);
				return true;
			}
			if (rsl_now_us() - run->half_began_us >= HALF_WINDOW_US)
				rsl_run_roll(run);
			return false;
		case RSL_RUN_DURING:
			note(run);
			return false;
		case RSL_RUN_AFTER:
			note(run);
			return look_after(run, &looks[r]);
		default:
			return false;
	}
}

void
rsl_record_tick(void)
{
	bool		may_be_warm;
	bool		changed = false;

	if (pg_atomic_read_u32(&rsl_experiments->npublished) == 0)
		return;
	may_be_warm = pg_atomic_read_u32(&rsl_experiments->lever) != 0 &&
		!RecoveryInProgress();

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
	for (int r = 0; r < RSL_MAX_RUNS; r++)
		changed |= look_at_run(r, may_be_warm);
	note_others();
	if (may_be_warm)
		changed |= warm_up();
	if (changed)
		rsl_chaos_arm();
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
}
