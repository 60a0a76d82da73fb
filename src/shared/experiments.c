/*-------------------------------------------------------------------------
 *
 * experiments.c
 *		Chaos experiments in shared memory: what may be injected, and where.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/breakers.h"
#include "shared/experiments.h"
#include "shared/health.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/timestamp.h"

rsl_experiments_shared *rsl_experiments = NULL;

/* a bitmap of each of rsl_noted for each run; experiments lock */
static uint32 *noted = NULL;
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

static int
noted_words(rsl_noted what)
{
	static const int draining[RSL_NUM_NOTED] = {
		[RSL_NOTED_BREAKERS] = RSL_DRAINING_BREAKERS,
		[RSL_NOTED_BULKHEADS] = RSL_DRAINING_BULKHEADS
	};
	const int	most[RSL_NUM_NOTED] = {
		[RSL_NOTED_BREAKERS] = rsl_max_breakers,
		[RSL_NOTED_FEATURES] = rsl_max_features,
		[RSL_NOTED_BULKHEADS] = rsl_max_bulkheads
	};

	return (most[what] + draining[what] + 31) / 32;
}

static int
noted_words_of_run(void)
{
	int			words = 0;

	for (int i = 0; i < RSL_NUM_NOTED; i++)
		words += noted_words(i);
	return words;
}

static Size
size_without_noted(void)
{
	return MAXALIGN(add_size(offsetof(rsl_experiments_shared, experiments),
							 mul_size(sizeof(rsl_experiment),
									  rsl_max_experiments)));
}

Size
rsl_experiments_shmem_size(void)
{
	return CACHELINEALIGN(add_size(size_without_noted(),
								   mul_size(RSL_MAX_RUNS * sizeof(uint32),
											noted_words_of_run())));
}

void
rsl_experiments_shmem_place(void *memory)
{
	rsl_experiments = memory;
	noted = (uint32 *) ((char *) memory + size_without_noted());
}

static uint32 *
noted_of_run(const rsl_run *run)
{
	return noted + (run - rsl_experiments->runs) * noted_words_of_run();
}

static uint32 *
noted_word(const rsl_run *run, rsl_noted what, int index)
{
	uint32	   *word = noted_of_run(run);

	for (int i = 0; i < what; i++)
		word += noted_words(i);
	return word + index / 32;
}

void
rsl_run_note(const rsl_run *run, rsl_noted what, int index)
{
	*noted_word(run, what, index) |= UINT32_C(1) << (index % 32);
}

bool
rsl_run_has_noted(const rsl_run *run, rsl_noted what, int index)
{
	return (*noted_word(run, what, index) & UINT32_C(1) << (index % 32)) != 0;
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
		pg_atomic_init_u64(&rsl_experiments->runs[i].condition_runner_us, 0);
		rsl_experiments->runs[i].experiment = -1;
	}
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
	{
		pg_atomic_init_u64(&rsl_experiments->experiments[i].injections, 0);
		pg_atomic_init_u64(&rsl_experiments->experiments[i].overflowed, 0);
		rsl_experiments->experiments[i].run = -1;
		rsl_experiments->experiments[i].warm = -1;
	}
}

/*
 * Which runs have anything to do with statements?  When the lever has ended
 * the faults, what follows is measured: has all become well again?  (A fault
 * looks at the lever itself.)
 */
static uint32
runs_to_arm(void)
{
	bool		lever = pg_atomic_read_u32(&rsl_experiments->lever) != 0;
	uint32		armed = 0;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		uint32		phase = pg_atomic_read_u32(&rsl_experiments->runs[i].phase);

		if (phase == RSL_RUN_DURING || phase == RSL_RUN_AFTER ||
			(lever && (phase == RSL_RUN_WARM || phase == RSL_RUN_BEFORE)))
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
 * A run for an experiment that starts: a free one, else one that is only warm,
 * else the one that was over, or without faults, for longest.
 */
static int
choose_run(void)
{
	int			best = -1;
	int			best_rank = 0;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_run    *run = &rsl_experiments->runs[i];
		int			rank;

		switch (pg_atomic_read_u32(&run->phase))
		{
			case RSL_RUN_FREE:
				return i;
			case RSL_RUN_WARM:
				rank = 3;
				break;
			case RSL_RUN_OVER:
				rank = 2;
				break;
			case RSL_RUN_AFTER:
				rank = 1;
				break;
			default:
				continue;
		}
		if (rank > best_rank ||
			(rank == best_rank &&
			 run->started_at < rsl_experiments->runs[best].started_at))
		{
			best = i;
			best_rank = rank;
		}
	}
	return best;
}

static void
clear_counts(rsl_run_counts *counts)
{
	pg_atomic_write_u32(&counts->statements, 0);
	pg_atomic_write_u32(&counts->errors, 0);
	pg_atomic_write_u32(&counts->refused, 0);
	pg_atomic_write_u32(&counts->fallbacks, 0);
	for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
		pg_atomic_write_u32(&counts->latencies[b], 0);
}

static void
move_count(pg_atomic_uint32 *to, pg_atomic_uint32 *from)
{
	uint32		n = pg_atomic_exchange_u32(from, 0);

	if (n != 0)
		pg_atomic_fetch_add_u32(to, n);
}

static void
move_counts(rsl_run_counts *to, rsl_run_counts *from)
{
	move_count(&to->statements, &from->statements);
	move_count(&to->errors, &from->errors);
	move_count(&to->refused, &from->refused);
	move_count(&to->fallbacks, &from->fallbacks);
	for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
		move_count(&to->latencies[b], &from->latencies[b]);
}

static void
clear_run(rsl_run *run)
{
	pg_atomic_write_u32(&run->phase, RSL_RUN_FREE);
	pg_atomic_write_u32(&run->uid, 0);
	pg_atomic_fetch_add_u32(&run->serial, 1);
	if (run->experiment >= 0)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[run->experiment];
		int			r = run - rsl_experiments->runs;

		if (experiment->run == r)
			experiment->run = -1;
		if (experiment->warm == r)
			experiment->warm = -1;
	}
	run->experiment = -1;
	run->started_at = run->faults_at = run->faults_end_at = 0;
	run->recovered_at = run->after_end_at = 0;
	run->faults_us = run->faults_end_us = 0;
	run->before_us = run->half_us = run->half_began_us = 0;
	run->ill = 0;
	run->overlapped = false;
	memset(noted_of_run(run), 0, noted_words_of_run() * sizeof(uint32));
	pg_atomic_write_u64(&run->ends_us, 0);
	pg_atomic_write_u64(&run->condition_us, 0);
	pg_atomic_write_u64(&run->condition_runner_us, 0);
	pg_atomic_write_u32(&run->injections, 0);
	for (int t = 0; t < RSL_NUM_TIMES; t++)
	{
		for (int g = 0; g < RSL_NUM_GROUPS; g++)
			clear_counts(&run->counts[t][g]);
	}
}

bool
rsl_run_warm(int index)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	uint32		uid = pg_atomic_read_u32(&experiment->uid);
	rsl_run    *found = NULL;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_run    *run = &rsl_experiments->runs[i];
		uint32		phase = pg_atomic_read_u32(&run->phase);

		if (phase == RSL_RUN_FREE)
		{
			found = run;
			break;
		}
		if (phase != RSL_RUN_WARM || pg_atomic_read_u32(&run->uid) > uid)
			continue;
		if (found == NULL ||
			pg_atomic_read_u32(&run->uid) < pg_atomic_read_u32(&found->uid))
			found = run;
	}
	if (found == NULL)
		return false;
	clear_run(found);
	found->experiment = index;
	found->half_began_us = rsl_now_us();
	pg_atomic_write_u32(&found->warm_time, RSL_TIME_BEFORE);
	pg_atomic_write_u32(&found->uid, uid);
	pg_atomic_write_u32(&found->phase, RSL_RUN_WARM);
	experiment->warm = found - rsl_experiments->runs;
	return true;
}

void
rsl_run_cool(rsl_run *run)
{
	clear_run(run);
}

void
rsl_run_roll(rsl_run *run)
{
	int64		now = rsl_now_us();
	rsl_run_time next = pg_atomic_read_u32(&run->warm_time) == RSL_TIME_BEFORE ?
		RSL_TIME_AFTER : RSL_TIME_BEFORE;

	for (int g = 0; g < RSL_NUM_GROUPS; g++)
		clear_counts(&run->counts[next][g]);
	run->half_us = now - run->half_began_us;
	run->half_began_us = now;
	pg_atomic_write_u32(&run->warm_time, next);
}

/* What was measured while it was warm is the time before. */
static void
start_warm_run(rsl_run *run)
{
	pg_atomic_fetch_add_u32(&run->serial, 1);
	for (int g = 0; g < RSL_NUM_GROUPS; g++)
		move_counts(&run->counts[RSL_TIME_BEFORE][g],
					&run->counts[RSL_TIME_AFTER][g]);
	run->before_us = run->half_us + rsl_now_us() - run->half_began_us;
}

void
rsl_run_faults_begin(rsl_run *run)
{
	run->faults_at = GetCurrentTimestamp();
	run->faults_us = rsl_now_us();
	run->before_us += run->faults_us - run->began_us;
	run->health_before = pg_atomic_read_u32(&rsl_health->status);
	pg_atomic_write_u32(&run->phase, RSL_RUN_DURING);
}

bool
rsl_run_begin(int index, int64 baseline_ms)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	int64		begins_us = rsl_now_us() + baseline_ms * INT64CONST(1000);
	int			r = experiment->warm;
	rsl_run    *run;

	if (r >= 0)
	{
		start_warm_run(&rsl_experiments->runs[r]);
		experiment->warm = -1;
		if (experiment->run >= 0)
			clear_run(&rsl_experiments->runs[experiment->run]);
	}
	else
	{
		r = experiment->run >= 0 ? experiment->run : choose_run();
		if (r < 0)
			return false;
		clear_run(&rsl_experiments->runs[r]);
	}
	run = &rsl_experiments->runs[r];
	run->experiment = index;
	run->started_at = GetCurrentTimestamp();
	run->began_us = run->condition_since_us = rsl_now_us();
	pg_atomic_write_u32(&run->uid, pg_atomic_read_u32(&experiment->uid));
	pg_atomic_write_u64(&run->begins_us, begins_us);
	pg_atomic_write_u64(&run->ends_us, begins_us +
						experiment->policy.max_duration_ms * INT64CONST(1000));
	pg_atomic_write_u64(&run->condition_us, 0);
	pg_atomic_write_u64(&run->condition_runner_us, 0);
	pg_atomic_write_u32(&run->injections, 0);
	run->overflowed_before = pg_atomic_read_u64(&experiment->overflowed);
	if (baseline_ms > 0)
		pg_atomic_write_u32(&run->phase, RSL_RUN_BEFORE);
	else
		rsl_run_faults_begin(run);

	experiment->run = r;
	experiment->started++;
	experiment->started_at = run->started_at;
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
			{
				run->faults_end_at = now;
				run->faults_end_us = rsl_now_us();
			}
			else
				run->before_us += rsl_now_us() - run->began_us;
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
		pg_atomic_write_u64(&run->condition_runner_us, 0);
		run->condition_since_us = rsl_now_us();
		LWLockRelease(rsl_experiments_lock);
	}

	/* what was measured was another target's */
	if (experiment->published && experiment->warm >= 0 &&
		memcmp(&experiment->policy, policy, sizeof(*policy)) != 0)
	{
		LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
		if (experiment->warm >= 0)
			clear_run(&rsl_experiments->runs[experiment->warm]);
		LWLockRelease(rsl_experiments_lock);
	}

	experiment->policy = *policy;
	if (!experiment->published)
	{
		pg_atomic_write_u64(&experiment->injections, 0);
		pg_atomic_write_u64(&experiment->overflowed, 0);
		experiment->state = RSL_EXPERIMENT_DEFINED;
		experiment->run = experiment->warm = -1;
		experiment->started = 0;
		experiment->started_at = experiment->ended_at = 0;
		experiment->scheduled_at = 0;
		experiment->told_skip_us = 0;
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
	if (experiment->warm >= 0)
		clear_run(&rsl_experiments->runs[experiment->warm]);
	LWLockRelease(rsl_experiments_lock);
	experiment->published = false;
	pg_atomic_write_u32(&experiment->uid, 0);
}
