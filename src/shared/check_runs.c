/*-------------------------------------------------------------------------
 *
 * check_runs.c
 *		Runs of health checks: who claims one, what came of it, and what if
 *		nothing does.
 *
 * A run is counted once: by the worker that made it, or by the launcher when
 * its time is up and the worker has not come back, or when the worker is dead.
 * Nobody waits for a worker.  While one is stuck in a run that was given up
 * its check is not run again, but counted as timed out whenever it would have
 * been due.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "common/pg_prng.h"
#include "shared/check_runs.h"
#include "shared/events.h"
#include "shared/measures.h"
#include "shared/pool.h"
#include "shared/workers.h"
#include "utils/timestamp.h"

/* What an event tells of a change of status. */
typedef struct transition
{
	bool		changed;
	rsl_health_status from;
	rsl_health_status to;
	rsl_check_policy policy;
	double		warning_threshold;
	double		critical_threshold;
	uint32		consecutive_failures;
	int64		duration_us;
	int64		age_us;			/* of a stale result */
	bool		has_value;
	double		value;
	char		message[RSL_CHECK_MESSAGE_LEN];
} transition;

static rsl_health_config
config_of(const rsl_check_policy *policy)
{
	rsl_health_config config;

	config.interval_us = Max(policy->interval_ms, 1) * INT64CONST(1000);
	config.failure_threshold = policy->failure_threshold;
	config.success_threshold = policy->success_threshold;
	return config;
}

/* Mutex held. */
static void
measure_status(rsl_check *check, rsl_health_status status)
{
	int64		now = rsl_now_us();

	rsl_state_clock_move(&check->clock, status, now);
	if (status == RSL_HEALTHY)
	{
		if (check->ill_since_us != 0)
			rsl_measure_recovery(RSL_RECOVERY_CHECK, now - check->ill_since_us);
		check->ill_since_us = 0;
	}
	else if (status != RSL_HEALTH_UNKNOWN && check->ill_since_us == 0)
		check->ill_since_us = now;
}

/* Mutex held. */
static void
set_status(rsl_check *check, rsl_health_status status, TimestampTz now,
		   transition *change)
{
	change->changed = true;
	change->from = pg_atomic_read_u32(&check->status);
	change->to = status;
	change->policy = check->policy;
	change->consecutive_failures = check->consecutive_failures;
	change->duration_us = check->duration_us;
	change->has_value = check->has_value;
	change->value = check->value;
	memcpy(change->message, check->message, sizeof(change->message));
	check->last_change = now;
	pg_atomic_write_u32(&check->status, status);
	measure_status(check, status);
}

/* Count a run.  Mutex held; "now" and "random" were taken before. */
static void
count_run(rsl_check *check, const rsl_check_result *result, int64 now_us,
		  TimestampTz now, double random, transition *change)
{
	rsl_health_config config = config_of(&check->policy);
	rsl_health_state state;
	bool		first = check->last_run_us == 0;

	state.status = pg_atomic_read_u32(&check->status);
	state.consecutive_successes = check->consecutive_successes;
	state.consecutive_failures = check->consecutive_failures;
	state.consecutive_unhealthy = check->consecutive_unhealthy;
	state.not_unhealthy = check->not_unhealthy;
	(void) rsl_health_run_ended(&state, &config, result->status);
	check->consecutive_successes = state.consecutive_successes;
	check->consecutive_failures = state.consecutive_failures;
	check->consecutive_unhealthy = state.consecutive_unhealthy;
	check->not_unhealthy = state.not_unhealthy;

	check->last_run = now;
	check->last_run_us = now_us;
	check->duration_us = now_us - check->started;
	check->has_value = result->has_value;
	check->value = result->has_value ? result->value : 0;
	check->last_result = result->status;
	check->cut_off = result->timed_out;
	memcpy(check->message, result->message, sizeof(check->message));
	check->runs++;
	check->failures += result->status == RSL_HEALTHY ? 0 : 1;
	check->timeouts += result->timed_out ? 1 : 0;
	check->next_run = rsl_health_next_run(&state, &config, result->status, first,
										  check->started, check->duration_us,
										  random);
	if (state.status != pg_atomic_read_u32(&check->status))
	{
		set_status(check, state.status, now, change);
		change->warning_threshold = result->warning_threshold;
		change->critical_threshold = result->critical_threshold;
	}
}

/* Values of thresholds that are not given are not told. */
static void
append_number(char *text, size_t size, const char *key, double value)
{
	size_t		used = strlen(text);

	if (!isnan(value))
		snprintf(text + used, size - used, "%s=%.10g ", key, value);
}

static void
announce(const transition *change)
{
	char		numbers[128] = "";
	char		message[RSL_CHECK_MESSAGE_LEN];

	if (!change->changed)
		return;
	if (change->to == RSL_HEALTH_UNKNOWN)
	{
		rsl_event(RSL_EVENT_HEALTH_CHECK, change->policy.home_database,
				  change->policy.name, rsl_health_status_name(change->from),
				  rsl_health_status_name(change->to),
				  "age_ms=" INT64_FORMAT " check_interval_ms=%d message=\"no result for %d intervals\"",
				  change->age_us / 1000, change->policy.interval_ms,
				  RSL_HEALTH_STALE_INTERVALS);
		return;
	}
	append_number(numbers, sizeof(numbers), "value",
				  change->has_value ? change->value : NAN);
	append_number(numbers, sizeof(numbers), "warning_threshold",
				  change->warning_threshold);
	append_number(numbers, sizeof(numbers), "critical_threshold",
				  change->critical_threshold);
	strlcpy(message, change->message, sizeof(message));
	rsl_event(RSL_EVENT_HEALTH_CHECK, change->policy.home_database,
			  change->policy.name, rsl_health_status_name(change->from),
			  rsl_health_status_name(change->to),
			  "%sconsecutive_failures=%u duration_ms=%.1f message=\"%s\"",
			  numbers, change->consecutive_failures,
			  change->duration_us / 1000.0, rsl_without_quotes(message));
}

/*
 * Workers
 */

/* Look for the check to run next.  Config lock held.  -1: none is due. */
static int
find_due(Oid database, Oid owner, int64 now, int64 *next_due)
{
	int			found = -1;
	int64		earliest = INT64_MAX;

	for (int i = 0; i < rsl_health->max_checks; i++)
	{
		rsl_check  *check = &rsl_health->checks[i];

		if (!check->published || !check->policy.enabled ||
			check->policy.home_database != database ||
			check->policy.owner != owner)
			continue;
		SpinLockAcquire(&check->mutex);
		if (check->runner == 0 && check->next_run < earliest)
		{
			earliest = check->next_run;
			found = i;
		}
		SpinLockRelease(&check->mutex);
	}
	*next_due = earliest;
	return earliest <= now ? found : -1;
}

bool
rsl_check_claim_due(Oid database, Oid owner, int64 patience_us,
					rsl_check_claim *claim, int64 *next_due)
{
	bool		claimed = false;
	int			index;

	*next_due = INT64_MAX;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	do
	{
		int64		now = rsl_now_us();

		index = find_due(database, owner, now - patience_us, next_due);
		if (index >= 0)
		{
			rsl_check  *check = &rsl_health->checks[index];

			SpinLockAcquire(&check->mutex);
			/* another worker may have been faster */
			if (check->runner == 0 && check->next_run <= now)
			{
				check->runner = MyProcPid;
				check->given_up = false;
				check->late_us = now - check->next_run;
				check->max_late_us = Max(check->max_late_us, check->late_us);
				check->started = now;
				check->deadline = now + check->policy.timeout_ms * INT64CONST(1000);
				claim->index = index;
				claim->uid = pg_atomic_read_u32(&check->uid);
				claim->started = now;
				claim->policy = check->policy;
				claimed = true;
			}
			SpinLockRelease(&check->mutex);
		}
	} while (index >= 0 && !claimed);
	if (*next_due < INT64_MAX)
		*next_due += patience_us;
	LWLockRelease(rsl_config_lock);
	return claimed;
}

/* Is it still this process's run of the same check?  Mutex held. */
static bool
is_mine(const rsl_check *check, const rsl_check_claim *claim)
{
	return pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &check->uid)) == claim->uid &&
		check->runner == MyProcPid && check->started == claim->started;
}

void
rsl_check_finish(const rsl_check_claim *claim, const rsl_check_result *result)
{
	rsl_check  *check = &rsl_health->checks[claim->index];
	int64		now_us = rsl_now_us();
	TimestampTz now = GetCurrentTimestamp();
	double		random = pg_prng_double(&pg_global_prng_state);
	transition	change = {0};

	SpinLockAcquire(&check->mutex);
	if (is_mine(check, claim))
	{
		if (!check->given_up)
			count_run(check, result, now_us, now, random, &change);
		check->runner = 0;
		check->given_up = false;
	}
	SpinLockRelease(&check->mutex);
	announce(&change);
}

void
rsl_check_release(const rsl_check_claim *claim, int64 delay_us)
{
	rsl_check  *check = &rsl_health->checks[claim->index];
	int64		now_us = rsl_now_us();

	SpinLockAcquire(&check->mutex);
	if (is_mine(check, claim))
	{
		if (!check->given_up)
			check->next_run = now_us + delay_us;
		check->runner = 0;
		check->given_up = false;
	}
	SpinLockRelease(&check->mutex);
}

/*
 * The launcher
 */

/* Count a run that ended without a result, from outside. */
static void
count_lost_run(rsl_check *check, bool timed_out, int64 now_us, TimestampTz now,
			   double random, transition *change)
{
	rsl_check_result result = {.status = RSL_UNHEALTHY,.timed_out = timed_out,
	.warning_threshold = NAN,.critical_threshold = NAN};

	if (timed_out && !check->given_up)
		snprintf(result.message, sizeof(result.message),
				 "timed out after %d ms", check->policy.timeout_ms);
	else if (timed_out)
		snprintf(result.message, sizeof(result.message),
				 "cannot be cut off: has been running for " INT64_FORMAT " ms, timeout %d ms",
				 (now_us - check->started) / 1000, check->policy.timeout_ms);
	else
		strlcpy(result.message, "the worker that ran the check has ended",
				sizeof(result.message));
	count_run(check, &result, now_us, now, random, change);
	check->cut_off = true;
}

static void
watch_run(rsl_check *check, int64 now_us, TimestampTz now)
{
	transition	change = {0};
	double		random = pg_prng_double(&pg_global_prng_state);
	bool		overdue = false;
	pid_t		runner;
	int64		started;

	SpinLockAcquire(&check->mutex);
	runner = check->runner;
	started = check->started;
	if (runner != 0)
	{
		int64		over_us = now_us - check->deadline;

		overdue = over_us > (RSL_GIVE_UP_AFTER_MS + RSL_TERMINATE_AFTER_MS) *
			INT64CONST(1000);
		if (check->given_up ? now_us >= check->next_run :
			over_us > RSL_GIVE_UP_AFTER_MS * INT64CONST(1000))
		{
			count_lost_run(check, true, now_us, now, random, &change);
			/* intervals count from the beginning, which is long ago */
			if (check->given_up)
				check->next_run = now_us + config_of(&check->policy).interval_us;
			check->given_up = true;
		}
	}
	SpinLockRelease(&check->mutex);
	announce(&change);
	if (runner == 0)
		return;

	if (!rsl_worker_is_here(runner))
	{
		change.changed = false;
		SpinLockAcquire(&check->mutex);
		if (check->runner == runner && check->started == started)
		{
			if (!check->given_up)
				count_lost_run(check, false, now_us, now, random, &change);
			check->runner = 0;
			check->given_up = false;
		}
		SpinLockRelease(&check->mutex);
		announce(&change);
	}
	else if (overdue)
		rsl_worker_terminate(runner);
}

static void
watch_age(rsl_check *check, int64 now_us, TimestampTz now)
{
	transition	change = {0};
	rsl_health_config config;

	SpinLockAcquire(&check->mutex);
	config = config_of(&check->policy);
	if (pg_atomic_read_u32(&check->status) != RSL_HEALTH_UNKNOWN &&
		rsl_health_is_stale(&config, check->last_run_us, now_us))
	{
		set_status(check, RSL_HEALTH_UNKNOWN, now, &change);
		change.age_us = now_us - check->last_run_us;
	}
	SpinLockRelease(&check->mutex);
	announce(&change);
}

void
rsl_check_runs_watch(void)
{
	int64		now_us = rsl_now_us();
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < rsl_health->max_checks; i++)
	{
		rsl_check  *check = &rsl_health->checks[i];

		/* whether one is there, and runs, is looked at again under the mutex */
		if (pg_atomic_read_u32(&check->uid) == 0)
			continue;
		if (check->runner != 0)
			watch_run(check, now_us, now);
		if (pg_atomic_read_u32(&check->status) != RSL_HEALTH_UNKNOWN)
			watch_age(check, now_us, now);
	}
}
