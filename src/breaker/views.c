/*-------------------------------------------------------------------------
 *
 * views.c
 *		Function behind the view "breakers".
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "policy/breaker_policy.h"
#include "shared/pool.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(breaker_statistics);

#define STATISTICS_COLUMNS	31

static const char *
reason_name(rsl_trip_reason reason)
{
	switch (reason)
	{
		case RSL_TRIP_CONSECUTIVE:
			return "consecutive failures";
		case RSL_TRIP_FAILURE_RATE:
			return "failure rate";
		case RSL_TRIP_SLOW_RATE:
			return "slow call rate";
		case RSL_TRIP_TRIAL:
			return "failed trial";
		case RSL_TRIP_FORCED:
			return "forced";
		case RSL_TRIP_NONE:
			break;
	}
	return NULL;
}

static Datum
total(pg_atomic_uint64 *counter)
{
	return Int64GetDatum(pg_atomic_read_u64(counter));
}

/*
 * breaker_statistics() returns setof record
 *
 * State and totals of this database's breakers: see the view.
 */
Datum
breaker_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	static const char *const positions[] = {"closed", "half_open", "open"};

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		rsl_breaker *breaker = &rsl_breakers[i];
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};
		rsl_breaker_state state;
		rsl_window_counts window;
		TimestampTz last_failure_at;
		TimestampTz last_probe_at;
		int			last_sqlstate;
		char		last_error[RSL_LAST_ERROR_LEN];
		char		last_probe_result[sizeof(breaker->last_probe_result)];
		TimestampTz now = GetCurrentTimestamp();
		int64		now_us = rsl_now_us();
		Interval   *open_time;
		int			n = 0;

		if (!breaker->published ||
			breaker->policy.home_database != MyDatabaseId)
			continue;

		SpinLockAcquire(&breaker->mutex);
		state = breaker->state;
		last_failure_at = breaker->last_failure_at;
		last_probe_at = breaker->last_probe_at;
		last_sqlstate = breaker->last_sqlstate;
		memcpy(last_error, breaker->last_error, sizeof(last_error));
		memcpy(last_probe_result, breaker->last_probe_result,
			   sizeof(last_probe_result));
		SpinLockRelease(&breaker->mutex);

		rsl_window_sum(&state.window, now_us, &window);
		open_time = palloc0(sizeof(Interval));
		open_time->time = rsl_breaker_time_open(&state, now_us);

#define PUT(value) (values[n++] = (value))
#define PUT_UNLESS(is_null, value) \
		((is_null) ? (void) (nulls[n++] = true) : (void) (values[n++] = (value)))

		PUT(CStringGetTextDatum(breaker->policy.name));
		PUT(CStringGetTextDatum(positions[rsl_breaker_effective(&state)]));
		PUT(CStringGetTextDatum(rsl_force_name(state.force)));
		PUT(Int64GetDatum(state.consecutive_failures));
		PUT(Int64GetDatum(window.calls));
		PUT(Int64GetDatum(window.failures));
		PUT(Int64GetDatum(window.slow));
		PUT_UNLESS(window.calls == 0,
				   Float8GetDatum((double) window.failures / window.calls));
		PUT(Int32GetDatum(pg_atomic_read_u32(&breaker->in_flight)));
		PUT_UNLESS(state.opened_at == 0,
				   TimestampTzGetDatum(now - (now_us - state.opened_at)));
		PUT_UNLESS(state.position != RSL_BREAKER_OPEN ||
				   state.force != RSL_FORCE_AUTO,
				   TimestampTzGetDatum(now + (state.retry_at - now_us)));
		PUT(Int64GetDatum(state.open_count));
		PUT_UNLESS(last_failure_at == 0, TimestampTzGetDatum(last_failure_at));
		PUT_UNLESS(last_sqlstate == 0,
				   CStringGetTextDatum(unpack_sql_state(last_sqlstate)));
		PUT_UNLESS(last_error[0] == '\0', CStringGetTextDatum(last_error));
		PUT(total(&breaker->successes));
		PUT(total(&breaker->failures));
		PUT(total(&breaker->slow));
		PUT(total(&breaker->ignored));
		PUT(total(&breaker->rejected));
		PUT(total(&breaker->fallbacks));
		PUT(IntervalPGetDatum(open_time));
		PUT_UNLESS(reason_name(state.reason) == NULL,
				   CStringGetTextDatum(reason_name(state.reason)));
		PUT(total(&breaker->timed_out));
		PUT(total(&breaker->superseded));
		PUT(total(&breaker->rejected_full));
		PUT(total(&breaker->probes));
		PUT(total(&breaker->failed_probes));
		PUT_UNLESS(last_probe_at == 0, TimestampTzGetDatum(last_probe_at));
		PUT_UNLESS(last_probe_result[0] == '\0',
				   CStringGetTextDatum(last_probe_result));
		PUT_UNLESS(breaker->policy.probe_target[0] == '\0',
				   CStringGetTextDatum(breaker->policy.probe_target));
		Assert(n == STATISTICS_COLUMNS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}
