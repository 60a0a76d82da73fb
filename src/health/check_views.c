/*-------------------------------------------------------------------------
 *
 * check_views.c
 *		Function behind the view "health_checks".
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "health/kinds.h"
#include "shared/pool.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(health_check_statistics);

#define STATISTICS_COLUMNS	19

static Datum
interval_datum(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

/*
 * health_check_statistics() returns setof record
 *
 * What is known of this database's checks: see the view.  A result that is too
 * old to be believed has the status "unknown", and so has a check that is
 * disabled; what was found last is shown all the same.
 */
Datum
health_check_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_health->max_checks; i++)
	{
		rsl_check  *check = &rsl_health->checks[i];
		const rsl_check_policy *policy = &check->policy;
		rsl_health_config config = {.interval_us = policy->interval_ms * INT64CONST(1000)};
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};
		rsl_health_status status;
		char		message[RSL_CHECK_MESSAGE_LEN];
		double		value;
		bool		has_value;
		TimestampTz last_run;
		TimestampTz last_change;
		TimestampTz now;
		uint32		failures;
		uint32		successes;
		int64		last_run_us;
		int64		duration_us;
		int64		next_run;
		int64		now_us;
		uint64		runs;
		uint64		failures_total;
		uint64		timeouts;
		int64		late_us;
		int64		max_late_us;
		pid_t		runner;
		double		warning;
		double		critical;
		bool		never_ran;
		int			n = 0;

		if (!check->published || policy->home_database != MyDatabaseId)
			continue;

		SpinLockAcquire(&check->mutex);
		status = (rsl_health_status) pg_atomic_read_u32(&check->status);
		memcpy(message, check->message, sizeof(message));
		has_value = check->has_value;
		value = check->value;
		last_run = check->last_run;
		last_change = check->last_change;
		failures = check->consecutive_failures;
		successes = check->consecutive_successes;
		last_run_us = check->last_run_us;
		duration_us = check->duration_us;
		next_run = check->next_run;
		runner = check->runner;
		runs = check->runs;
		failures_total = check->failures;
		timeouts = check->timeouts;
		late_us = check->late_us;
		max_late_us = check->max_late_us;
		SpinLockRelease(&check->mutex);

		now = GetCurrentTimestamp();
		now_us = rsl_now_us();
		never_ran = last_run == 0;
		if (!policy->enabled || never_ran ||
			rsl_health_is_stale(&config, last_run_us, now_us))
			status = RSL_HEALTH_UNKNOWN;
		rsl_check_thresholds(policy, &warning, &critical);

#define PUT(value) (values[n++] = (value))
#define PUT_UNLESS(is_null, value) \
		((is_null) ? (void) (nulls[n++] = true) : (void) (values[n++] = (value)))

		PUT(CStringGetTextDatum(policy->name));
		PUT(CStringGetTextDatum(rsl_health_status_name(status)));
		PUT_UNLESS(message[0] == '\0', CStringGetTextDatum(message));
		PUT_UNLESS(!has_value, Float8GetDatum(value));
		PUT_UNLESS(never_ran, TimestampTzGetDatum(last_run));
		PUT_UNLESS(last_change == 0, TimestampTzGetDatum(last_change));
		PUT(Int64GetDatum(failures));
		PUT(Int64GetDatum(successes));
		PUT_UNLESS(never_ran, interval_datum(duration_us));
		PUT_UNLESS(never_ran, interval_datum(now_us - last_run_us));
		PUT_UNLESS(isnan(warning), Float8GetDatum(warning));
		PUT_UNLESS(isnan(critical), Float8GetDatum(critical));
		PUT_UNLESS(!policy->enabled,
				   TimestampTzGetDatum(now + (next_run - now_us)));
		PUT(BoolGetDatum(runner != 0));
		PUT(Int64GetDatum(runs));
		PUT(Int64GetDatum(failures_total));
		PUT(Int64GetDatum(timeouts));
		PUT_UNLESS(never_ran, interval_datum(late_us));
		PUT(interval_datum(max_late_us));

		Assert(n == STATISTICS_COLUMNS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}
