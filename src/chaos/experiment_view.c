/*-------------------------------------------------------------------------
 *
 * experiment_view.c
 *		Live numbers of chaos experiments: what is behind their view.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/control.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shared/pool.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(experiment_statistics);

/* phase, injections and ends_at of the run that is under way, if any. */
static void
run_statistics(const rsl_experiment *experiment, Datum *values, bool *nulls)
{
	static const char *const phases[] = {NULL, NULL, "before", "during", "after", NULL};
	rsl_run    *run;
	uint32		phase;

	nulls[0] = nulls[1] = nulls[2] = true;
	if (experiment->run < 0)
		return;
	run = &rsl_experiments->runs[experiment->run];
	phase = pg_atomic_read_u32(&run->phase);
	if (phases[phase] == NULL)
		return;
	nulls[0] = nulls[1] = false;
	values[0] = CStringGetTextDatum(phases[phase]);
	values[1] = Int32GetDatum((int32) pg_atomic_read_u32(&run->injections));
	if (phase == RSL_RUN_AFTER)
		return;
	nulls[2] = false;
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp() +
									(int64) pg_atomic_read_u64(&run->ends_us) - rsl_now_us());
}

#define STATISTICS_COLUMNS	12

/*
 * experiment_statistics() returns setof record
 *
 * Live numbers of this database's experiments: name, state, injections_total,
 * overflowed_total, started_total, started_at, ended_at, stop_reason, phase,
 * injections, ends_at, next_start.
 */
Datum
experiment_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_SHARED);
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[i];
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};
		TimestampTz next_start;
		rsl_experiment_state state;

		if (!experiment->published ||
			experiment->policy.home_database != MyDatabaseId)
			continue;
		values[0] = CStringGetTextDatum(experiment->policy.name);
		next_start = rsl_experiment_next_start(experiment, GetCurrentTimestamp());
		state = experiment->state;
		/* the launcher will say so in a moment */
		if (state == RSL_EXPERIMENT_DEFINED && next_start != DT_NOEND)
			state = RSL_EXPERIMENT_SCHEDULED;
		values[1] = CStringGetTextDatum(rsl_experiment_state_name(state));
		values[2] = Int64GetDatum(pg_atomic_read_u64(&experiment->injections));
		values[3] = Int64GetDatum(pg_atomic_read_u64(&experiment->overflowed));
		values[4] = Int64GetDatum(experiment->started);
		values[5] = TimestampTzGetDatum(experiment->started_at);
		nulls[5] = experiment->started_at == 0;
		values[6] = TimestampTzGetDatum(experiment->ended_at);
		nulls[6] = experiment->ended_at == 0;
		values[7] = CStringGetTextDatum(experiment->stop_reason);
		nulls[7] = experiment->stop_reason[0] == '\0';
		run_statistics(experiment, &values[8], &nulls[8]);
		values[11] = TimestampTzGetDatum(next_start);
		nulls[11] = next_start == DT_NOEND;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}
