/*-------------------------------------------------------------------------
 *
 * experiments.c
 *		Chaos experiments in shared memory: what may be injected, and where.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "miscadmin.h"
#include "policy/settings.h"
#include "shared/events.h"
#include "shared/experiments.h"
#include "shared/pool.h"
#include "utils/timestamp.h"

rsl_experiments_shared *rsl_experiments = NULL;
rsl_chaos_sites rsl_chaos;
int			rsl_executor_depth = 0;
int			rsl_utility_depth = 0;
int			rsl_attempt_depth = 0;

static const char *const impact_names[RSL_NUM_IMPACTS] = {
	"latency", "error", "cancel", "terminate", "foreign_error",
	"foreign_latency", "connection_refused", "lock_delay"
};

static const char *const distribution_names[] = {"fixed", "uniform", "normal"};

static const char *const state_names[RSL_NUM_EXPERIMENT_STATES] = {
	"defined", "scheduled", "running", "stopped", "finished", "aborted"
};

static int
parse(const char *const *names, int n, const char *word)
{
	for (int i = 0; i < n; i++)
	{
		if (pg_strcasecmp(names[i], word) == 0)
			return i;
	}
	return -1;
}

const char *
rsl_impact_name(rsl_impact impact)
{
	return impact_names[impact];
}

int
rsl_parse_impact(const char *word)
{
	return parse(impact_names, lengthof(impact_names), word);
}

const char *
rsl_distribution_name(rsl_distribution distribution)
{
	return distribution_names[distribution];
}

int
rsl_parse_distribution(const char *word)
{
	return parse(distribution_names, lengthof(distribution_names), word);
}

const char *
rsl_experiment_state_name(rsl_experiment_state state)
{
	return state_names[state];
}

Size
rsl_experiments_shmem_size(void)
{
	return CACHELINEALIGN(add_size(offsetof(rsl_experiments_shared, experiments),
								   mul_size(sizeof(rsl_experiment),
											rsl_max_experiments)));
}

void
rsl_experiments_shmem_place(void *memory)
{
	rsl_experiments = memory;
}

/* The memory is zero. */
void
rsl_experiments_shmem_init(void)
{
	rsl_experiments->max_experiments = rsl_max_experiments;
	pg_atomic_init_u64(&rsl_experiments->generation, 1);
	pg_atomic_init_u64(&rsl_experiments->armed_at, 0);
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		pg_atomic_init_u64(&rsl_experiments->runs[i].begins_us, 0);
		pg_atomic_init_u64(&rsl_experiments->runs[i].ends_us, 0);
		pg_atomic_init_u64(&rsl_experiments->runs[i].condition_us, 0);
		rsl_experiments->runs[i].experiment = -1;
	}
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
	{
		pg_atomic_init_u64(&rsl_experiments->experiments[i].injections, 0);
		pg_atomic_init_u64(&rsl_experiments->experiments[i].overflowed, 0);
		rsl_experiments->experiments[i].run = -1;
	}
}

/* Which runs have anything to do with statements? */
static uint32
runs_to_arm(void)
{
	uint32		armed = 0;

	if (pg_atomic_read_u32(&rsl_experiments->lever) == 0)
		return 0;
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		uint32		phase = pg_atomic_read_u32(&rsl_experiments->runs[i].phase);

		if (phase != RSL_RUN_FREE && phase != RSL_RUN_OVER)
			armed |= UINT32_C(1) << i;
	}
	return armed;
}

/*
 * Sessions learn of it.  The lever is moved without a lock, hence the second
 * look: whoever writes last has seen all.
 */
void
rsl_chaos_arm(void)
{
	uint32		armed = runs_to_arm();

	pg_atomic_fetch_add_u64(&rsl_experiments->generation, 1);
	for (;;)
	{
		uint32		now;

		/* what is under way counts as older than that until it is known */
		if (armed != 0 && pg_atomic_read_u32(&rsl_shmem->chaos_armed) == 0)
		{
			pg_atomic_write_u64(&rsl_experiments->armed_at, (uint64) DT_NOEND);
			pg_memory_barrier();
			pg_atomic_exchange_u32(&rsl_shmem->chaos_armed, armed);
			pg_atomic_write_u64(&rsl_experiments->armed_at,
								(uint64) GetCurrentTimestamp());
		}
		else
			pg_atomic_exchange_u32(&rsl_shmem->chaos_armed, armed);
		now = runs_to_arm();
		if (now == armed)
			break;
		armed = now;
	}
}

void
rsl_chaos_set_lever(bool on)
{
	if ((pg_atomic_read_u32(&rsl_experiments->lever) != 0) == on)
		return;
	pg_atomic_write_u32(&rsl_experiments->lever, on ? 1 : 0);
	rsl_chaos_arm();
}

/*
 * A run for an experiment: a free one, else the one that is over for longest,
 * else that which is only still measured.
 */
static int
choose_run(void)
{
	int			best = -1;
	bool		best_is_over = false;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_run    *run = &rsl_experiments->runs[i];
		uint32		phase = pg_atomic_read_u32(&run->phase);

		if (phase == RSL_RUN_FREE)
			return i;
		if (phase == RSL_RUN_BEFORE || phase == RSL_RUN_DURING)
			continue;
		if (best < 0 || (!best_is_over && phase != RSL_RUN_AFTER) ||
			(best_is_over == (phase != RSL_RUN_AFTER) &&
			 run->started_at < rsl_experiments->runs[best].started_at))
		{
			best = i;
			best_is_over = phase != RSL_RUN_AFTER;
		}
	}
	return best;
}

static void
clear_run(rsl_run *run)
{
	pg_atomic_write_u32(&run->phase, RSL_RUN_FREE);
	pg_atomic_write_u32(&run->uid, 0);
	if (run->experiment >= 0)
		rsl_experiments->experiments[run->experiment].run = -1;
	run->experiment = -1;
	run->started_at = run->faults_at = run->faults_end_at = 0;
	run->recovered_at = run->after_end_at = 0;
	pg_atomic_write_u64(&run->ends_us, 0);
	pg_atomic_write_u64(&run->condition_us, 0);
	pg_atomic_write_u32(&run->injections, 0);
	for (int t = 0; t < RSL_NUM_TIMES; t++)
	{
		for (int g = 0; g < RSL_NUM_GROUPS; g++)
		{
			rsl_run_counts *counts = &run->counts[t][g];

			pg_atomic_write_u32(&counts->statements, 0);
			pg_atomic_write_u32(&counts->errors, 0);
			for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
				pg_atomic_write_u32(&counts->latencies[b], 0);
		}
	}
}

bool
rsl_run_begin(int index, int64 baseline_ms)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	TimestampTz now = GetCurrentTimestamp();
	int64		begins_us = rsl_now_us() + baseline_ms * INT64CONST(1000);
	int			r = experiment->run;
	rsl_run    *run;

	/* what was measured while it was warm is the time before */
	if (r < 0 ||
		pg_atomic_read_u32(&rsl_experiments->runs[r].phase) != RSL_RUN_WARM)
	{
		if (r < 0)
			r = choose_run();
		if (r < 0)
			return false;
		clear_run(&rsl_experiments->runs[r]);
	}
	run = &rsl_experiments->runs[r];
	run->experiment = index;
	run->started_at = now;
	run->began_us = run->condition_since_us = rsl_now_us();
	pg_atomic_write_u32(&run->uid, pg_atomic_read_u32(&experiment->uid));
	pg_atomic_write_u64(&run->begins_us, begins_us);
	pg_atomic_write_u64(&run->ends_us, begins_us +
						experiment->policy.max_duration_ms * INT64CONST(1000));
	pg_atomic_write_u64(&run->condition_us, 0);
	pg_atomic_write_u32(&run->injections, 0);
	run->faults_at = baseline_ms > 0 ? 0 : now;
	pg_atomic_write_u32(&run->phase,
						baseline_ms > 0 ? RSL_RUN_BEFORE : RSL_RUN_DURING);

	experiment->run = r;
	experiment->started++;
	experiment->started_at = now;
	experiment->ended_at = 0;
	experiment->state = RSL_EXPERIMENT_RUNNING;
	experiment->stop_reason[0] = '\0';
	rsl_chaos_arm();
	return true;
}

void
rsl_run_end(int index, rsl_experiment_state state, const char *reason)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	TimestampTz now = GetCurrentTimestamp();

	if (experiment->run >= 0)
	{
		rsl_run    *run = &rsl_experiments->runs[experiment->run];
		uint32		phase = pg_atomic_read_u32(&run->phase);

		if (phase == RSL_RUN_BEFORE || phase == RSL_RUN_DURING)
		{
			pg_atomic_write_u64(&run->ends_us, 0);
			if (phase == RSL_RUN_DURING)
				run->faults_end_at = now;
			pg_atomic_write_u32(&run->phase, phase == RSL_RUN_DURING ?
								RSL_RUN_AFTER : RSL_RUN_OVER);
		}
	}
	experiment->ended_at = now;
	experiment->state = state;
	strlcpy(experiment->stop_reason, reason, sizeof(experiment->stop_reason));
	rsl_chaos_arm();
}

void
rsl_experiment_put(int index, const rsl_experiment_policy *policy)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];

	/* what another condition has said does not count; no faults until then */
	if (experiment->published && experiment->run >= 0 &&
		policy->has_stop_condition &&
		(!experiment->policy.has_stop_condition ||
		 experiment->policy.stop_hash != policy->stop_hash))
	{
		rsl_run    *run = &rsl_experiments->runs[experiment->run];

		LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
		pg_atomic_write_u64(&run->condition_us, 0);
		run->condition_since_us = rsl_now_us();
		LWLockRelease(rsl_experiments_lock);
	}

	experiment->policy = *policy;
	if (!experiment->published)
	{
		pg_atomic_write_u64(&experiment->injections, 0);
		pg_atomic_write_u64(&experiment->overflowed, 0);
		experiment->state = RSL_EXPERIMENT_DEFINED;
		experiment->run = -1;
		experiment->started = 0;
		experiment->started_at = experiment->ended_at = 0;
		experiment->scheduled_at = 0;
		experiment->stop_reason[0] = '\0';
		pg_atomic_write_u32(&experiment->uid, ++rsl_experiments->last_uid);
	}
	experiment->published = true;
}

bool
rsl_experiments_name(Oid server, Oid relation)
{
	bool		found = false;

	if (rsl_experiments == NULL ||
		pg_atomic_read_u32(&rsl_experiments->npublished) == 0)
		return false;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_experiments->max_experiments && !found; i++)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[i];

		found = experiment->published &&
			experiment->policy.home_database == MyDatabaseId &&
			((OidIsValid(server) && experiment->policy.server == server) ||
			 (OidIsValid(relation) && experiment->policy.relation == relation));
	}
	LWLockRelease(rsl_config_lock);
	return found;
}

/* Its faults end, and so does its report. */
void
rsl_experiment_retire(int index)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];

	LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
	if (experiment->run >= 0)
		clear_run(&rsl_experiments->runs[experiment->run]);
	LWLockRelease(rsl_experiments_lock);
	experiment->published = false;
	pg_atomic_write_u32(&experiment->uid, 0);
}
