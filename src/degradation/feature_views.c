/*-------------------------------------------------------------------------
 *
 * feature_views.c
 *		Function behind the view "features".
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "degradation/feature_views.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(feature_statistics);

#define STATISTICS_COLUMNS	10

/*
 * The state as one tells it: with what the load and the dimmer do, which each
 * call finds out for itself.  Config lock held.
 */
void
rsl_feature_describe(rsl_feature *feature, rsl_feature_description *result)
{
	int32		minimum = (int32) pg_atomic_read_u32(&feature->minimum_priority);
	int			length;

	result->dimmer = (double) pg_atomic_read_u32(&feature->dimmer) / RSL_DIMMER_ALL;
	SpinLockAcquire(&feature->mutex);
	result->state = pg_atomic_read_u32(&feature->state);
	result->since = feature->since;
	memcpy(result->reason, feature->reason, sizeof(result->reason));
	SpinLockRelease(&feature->mutex);

	if (result->state == RSL_FEATURE_ON && minimum >= 0 &&
		rsl_server_is_loaded())
	{
		result->state = RSL_FEATURE_DEGRADED;
		if (feature->by_load != 0)
			result->since = feature->by_load;
		snprintf(result->reason, sizeof(result->reason),
				 "server is loaded: below priority %s", rsl_priority_name(minimum));
	}
	else if (result->state == RSL_FEATURE_ON && result->dimmer < 1)
	{
		result->state = RSL_FEATURE_DEGRADED;
		snprintf(result->reason, sizeof(result->reason),
				 "dimmed: %.1f %% of calls are served", result->dimmer * 100);
	}

	/* who wrote it may not know this database's encoding */
	length = strlen(result->reason);
	result->reason[pg_mbcliplen(result->reason, length, length)] = '\0';
}

static Datum
total(pg_atomic_uint64 *counter)
{
	return Int64GetDatum((int64) pg_atomic_read_u64(counter));
}

/*
 * feature_statistics() returns setof record
 *
 * State and totals of this database's features: see the view.
 */
Datum
feature_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_features->max_features; i++)
	{
		rsl_feature *feature = &rsl_features->features[i];
		rsl_feature_description description;
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};
		int			n = 0;

		if (!feature->published ||
			feature->policy.home_database != MyDatabaseId)
			continue;
		rsl_feature_describe(feature, &description);
		values[n++] = CStringGetTextDatum(feature->policy.name);
		values[n++] = CStringGetTextDatum(rsl_feature_state_name(description.state));
		nulls[n] = description.reason[0] == '\0';
		values[n++] = CStringGetTextDatum(description.reason);
		values[n++] = Float8GetDatum(description.dimmer);
		values[n++] = TimestampTzGetDatum(description.since);
		values[n++] = total(&feature->evaluations);
		values[n++] = total(&feature->degraded);
		values[n++] = total(&feature->fallbacks);
		values[n++] = total(&feature->primary_failures);
		values[n++] = total(&feature->fallback_failures);
		Assert(n == STATISTICS_COLUMNS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}
