/*-------------------------------------------------------------------------
 *
 * control.c
 *		Chaos experiments: start, stop, and everything that ends them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/control.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "policy/definitions.h"
#include "shared/events.h"
#include "shared/experiments.h"
#include "shared/pool.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(start_experiment);
PG_FUNCTION_INFO_V1(stop_experiment);

/* This database's experiment of that name that is in force; -1 = none. */
static int
find_experiment(const char *name)
{
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[i];

		if (experiment->published &&
			experiment->policy.home_database == MyDatabaseId &&
			strcmp(experiment->policy.name, name) == 0)
			return i;
	}
	return -1;
}

static void
raise_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("experiment \"%s\" does not exist", name),
			 errhint("See the view resilience.experiments.")));
}

/*
 * start_experiment(name text, baseline interval = NULL) returns void
 */
Datum
start_experiment(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, "experiment");
	int			index;
	bool		begun = false;

	rsl_require_shmem();
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	index = find_experiment(name);
	if (index >= 0)
	{
		LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
		begun = rsl_run_begin(index, 0);
		LWLockRelease(rsl_experiments_lock);
	}
	LWLockRelease(rsl_config_lock);
	if (index < 0)
		raise_unknown(name);
	if (!begun)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many experiments run"),
				 errdetail("limit=%d", RSL_MAX_RUNS),
				 errhint("Stop some with resilience.stop_experiment().")));
	PG_RETURN_VOID();
}

/*
 * stop_experiment(name text, reason text = NULL) returns void
 */
Datum
stop_experiment(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, "experiment");
	char	   *reason = PG_ARGISNULL(1) ? "stop_experiment()" :
		text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			index;

	rsl_require_shmem();
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	index = find_experiment(name);
	if (index >= 0)
	{
		LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
		rsl_run_end(index, RSL_EXPERIMENT_STOPPED, reason);
		LWLockRelease(rsl_experiments_lock);
	}
	LWLockRelease(rsl_config_lock);
	if (index < 0)
		raise_unknown(name);
	PG_RETURN_VOID();
}

/* The launcher: what is over has to end. */
void
rsl_experiments_tick(void)
{
	int64		now = rsl_now_us();

	if (pg_atomic_read_u32(&rsl_experiments->npublished) == 0)
		return;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
	for (int r = 0; r < RSL_MAX_RUNS; r++)
	{
		rsl_run    *run = &rsl_experiments->runs[r];
		uint32		phase = pg_atomic_read_u32(&run->phase);

		if (phase != RSL_RUN_BEFORE && phase != RSL_RUN_DURING)
			continue;
		if (pg_atomic_read_u32(&rsl_experiments->lever) == 0)
			rsl_run_end(run->experiment, RSL_EXPERIMENT_ABORTED,
						"resilience.chaos is off");
		else if (now >= (int64) pg_atomic_read_u64(&run->ends_us))
			rsl_run_end(run->experiment, RSL_EXPERIMENT_FINISHED,
						"max_duration");
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
}
