/*-------------------------------------------------------------------------
 *
 * control_tick.c
 *		Chaos experiments: what starts and ends them by itself.
 *
 * The launcher looks at each tick.  It is not the only safety: a fault looks
 * itself at its run's time, the lever and the launcher's last look, so that
 * without a launcher there are no faults after three seconds.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "chaos/control.h"
#include "health/components.h"
#include "shared/events.h"
#include "shared/health.h"
#include "shared/pool.h"
#include "utils/timestamp.h"

/* a run by schedule begins late by this at most, else it is left out */
#define LATE_US				INT64CONST(60000000)

/* those that are left out are told of this often at most: events are few */
#define SKIPS_EVERY_US		INT64CONST(55000000)

/* a clock that was wrong by more than this has been put right */
#define WRONG_CLOCK_US		INT64CONST(3600000000)

/* the first evaluation of a stop condition may take that long: workers come */
#define FIRST_CONDITION_US	INT64CONST(10000000)
#define CONDITION_US		(RSL_CHAOS_DEAD_MAN_MS * INT64CONST(1000))

static void
end_run(int index, rsl_experiment_state state, const char *reason)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	uint32		injections = experiment->run < 0 ? 0 :
		pg_atomic_read_u32(&rsl_experiments->runs[experiment->run].injections);

	rsl_run_end(index, state, reason);
	rsl_event(RSL_EVENT_EXPERIMENT, experiment->policy.home_database,
			  experiment->policy.name, "running",
			  rsl_experiment_state_name(state),
			  "injections=%u reason=\"%s\"", injections, reason);
}

/* Remember one that is unhealthy, a critical one if there is any. */
static void
find_unhealthy(const rsl_component *component, void *arg)
{
	char	   *reason = arg;

	if (component->status == RSL_UNHEALTHY &&
		(reason[0] == '\0' || component->critical))
		snprintf(reason, RSL_STOP_REASON_LEN, "the server is unhealthy: %s %s",
				 component->kind, component->name);
}

/* Does anything end this run?  Experiments lock held exclusively. */
static void
look_at_run(int r, int64 silence_us, const char *unhealthy)
{
	rsl_run    *run = &rsl_experiments->runs[r];
	uint32		phase = pg_atomic_read_u32(&run->phase);
	int			index = run->experiment;
	rsl_experiment *experiment;
	int64		now = rsl_now_us();
	char		reason[RSL_STOP_REASON_LEN];

	if (phase != RSL_RUN_BEFORE && phase != RSL_RUN_DURING)
		return;
	experiment = &rsl_experiments->experiments[index];

	if (pg_atomic_read_u32(&rsl_experiments->lever) == 0)
		end_run(index, RSL_EXPERIMENT_ABORTED, "resilience.chaos is off");
	else if (RecoveryInProgress())
		end_run(index, RSL_EXPERIMENT_ABORTED, "the server is in recovery");
	else if (silence_us > CONDITION_US)
	{
		snprintf(reason, sizeof(reason), "the launcher was silent for %.1f s",
				 silence_us / 1e6);
		end_run(index, RSL_EXPERIMENT_ABORTED, reason);
	}
	else if (experiment->policy.stop_when_unhealthy &&
			 pg_atomic_read_u32(&rsl_health->status) == RSL_UNHEALTHY)
		end_run(index, RSL_EXPERIMENT_ABORTED, unhealthy[0] ? unhealthy :
				"the server is unhealthy");
	else if (now >= (int64) pg_atomic_read_u64(&run->ends_us))
		end_run(index, RSL_EXPERIMENT_FINISHED, "max_duration");
	else if (pg_atomic_read_u32(&run->injections) >= (uint32) experiment->policy.max_injections)
		end_run(index, RSL_EXPERIMENT_FINISHED, "max_injections");
	else if (experiment->policy.schedule_end != DT_NOEND &&
			 GetCurrentTimestamp() >= experiment->policy.schedule_end)
		end_run(index, RSL_EXPERIMENT_FINISHED, "schedule_end");
	else if (experiment->policy.has_stop_condition)
	{
		int64		last = (int64) pg_atomic_read_u64(&run->condition_us);
		int64		silent = now - (last != 0 ? last : run->condition_since_us);

		if (silent > (last != 0 ? CONDITION_US : FIRST_CONDITION_US))
		{
			snprintf(reason, sizeof(reason),
					 "its stop condition was not evaluated for %.1f s", silent / 1e6);
			end_run(index, RSL_EXPERIMENT_ABORTED, reason);
		}
	}
	if (pg_atomic_read_u32(&run->phase) == RSL_RUN_BEFORE &&
		now >= (int64) pg_atomic_read_u64(&run->begins_us))
	{
		rsl_run_faults_begin(run);
		rsl_chaos_arm();
	}
}

/* The start by schedule that is next after "after". */
static TimestampTz
next_start(const rsl_experiment_policy *policy, TimestampTz after)
{
	TimestampTz start = policy->schedule_start;
	int64		interval_us = policy->schedule_interval_ms * INT64CONST(1000);

	if (start == DT_NOBEGIN)
		return DT_NOEND;
	if (start <= after)
	{
		if (interval_us <= 0)
			return DT_NOEND;
		start += ((after - start) / interval_us + 1) * interval_us;
	}
	return policy->schedule_end != DT_NOEND && start >= policy->schedule_end ?
		DT_NOEND : start;
}

TimestampTz
rsl_experiment_next_start(const rsl_experiment *experiment, TimestampTz now)
{
	/* one that is due is next until it was dealt with */
	return next_start(&experiment->policy,
					  Max(experiment->scheduled_at, now - LATE_US));
}

/* Is it to start by its schedule?  Both locks held. */
static void
look_at_schedule(int index, TimestampTz now)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	TimestampTz start;
	rsl_experiment_state from;
	const char *hint;
	const char *obstacle;

	if (!experiment->published ||
		experiment->policy.schedule_start == DT_NOBEGIN)
		return;
	if (experiment->scheduled_at > now + WRONG_CLOCK_US)
		experiment->scheduled_at = 0;
	start = next_start(&experiment->policy,
					   Max(experiment->scheduled_at, now - LATE_US));
	if (experiment->state == RSL_EXPERIMENT_DEFINED && start != DT_NOEND)
		experiment->state = RSL_EXPERIMENT_SCHEDULED;
	else if (experiment->state == RSL_EXPERIMENT_SCHEDULED && start == DT_NOEND)
		experiment->state = RSL_EXPERIMENT_DEFINED;
	if (start == DT_NOEND || start > now)
		return;

	experiment->scheduled_at = start;

	/*
	 * A run does not outlive the server that it was begun in; and on a
	 * standby it is the primary's business.
	 */
	if (start < rsl_events->begun || experiment->state == RSL_EXPERIMENT_RUNNING ||
		RecoveryInProgress())
		return;
	from = experiment->state;
	obstacle = rsl_experiment_obstacle(&experiment->policy, &hint);
	if (obstacle == NULL && rsl_run_begin(index, 0))
		rsl_event(RSL_EVENT_EXPERIMENT, experiment->policy.home_database,
				  experiment->policy.name, rsl_experiment_state_name(from), "running",
				  "schedule_start=\"%s\"", timestamptz_to_str(start));
	else if (experiment->told_skip_us == 0 ||
			 rsl_now_us() - experiment->told_skip_us >= SKIPS_EVERY_US)
	{
		experiment->told_skip_us = rsl_now_us();
		rsl_event(RSL_EVENT_EXPERIMENT, experiment->policy.home_database,
				  experiment->policy.name, NULL, "skipped", "reason=\"%s\"",
				  obstacle ? obstacle : "too many experiments run");
	}
}

void
rsl_experiments_tick(void)
{
	int64		now_us = rsl_now_us();
	int64		silence_us = rsl_experiments->looked_us == 0 ? 0 :
		now_us - rsl_experiments->looked_us;
	TimestampTz now = GetCurrentTimestamp();
	char		unhealthy[RSL_STOP_REASON_LEN] = "";

	rsl_experiments->looked_us = now_us;
	if (pg_atomic_read_u32(&rsl_experiments->npublished) == 0)
		return;

	/* what would be said takes locks that must not be held here */
	if (pg_atomic_read_u32(&rsl_shmem->chaos_armed) != 0 &&
		pg_atomic_read_u32(&rsl_health->status) == RSL_UNHEALTHY)
		rsl_each_component(find_unhealthy, unhealthy);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
	for (int r = 0; r < RSL_MAX_RUNS; r++)
		look_at_run(r, silence_us, unhealthy);
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
		look_at_schedule(i, now);
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
}
