/*-------------------------------------------------------------------------
 *
 * control.c
 *		Chaos experiments: start and stop, by hand.
 *
 * A start is part of the transaction, like every other change; a stop acts at
 * once, whatever the transaction does, and needs nothing that anybody could
 * hold for long.  What ends experiments by itself is in control_tick.c.
 *
 *-------------------------------------------------------------------------
 */
#include "client_port.h"
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "chaos/control.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "policy/experiment_policy.h"
#include "policy/publish.h"
#include "shared/events.h"
#include "shared/health.h"
#include "shared/health_board.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(start_experiment);
PG_FUNCTION_INFO_V1(stop_experiment);
PG_FUNCTION_INFO_V1(stop_all_experiments);

#define HOUR_MS		(3600 * 1000.0)

/* What this transaction starts when it commits. */
typedef struct pending_start
{
	char		name[NAMEDATALEN];
	int64		baseline_ms;
	SubTransactionId subid;
} pending_start;

static List *pending_starts = NIL;

int
rsl_experiment_by_name(const char *name)
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

/* Who does it, for an event. */
static const char *
role_name(void)
{
	static char name[NAMEDATALEN];

	strlcpy(name, MyProcPort ? MyProcPort->user_name : "", sizeof(name));
	return rsl_without_quotes(name);
}

const char *
rsl_experiment_obstacle(const rsl_experiment_policy *policy, const char **hint)
{
	int64		looked = (int64) pg_atomic_read_u64(&rsl_health_board->looked_us);
	int			busy = 0;

	if (RecoveryInProgress())
	{
		*hint = "Start it on the primary.";
		return "the server is in recovery";
	}
	if (pg_atomic_read_u32(&rsl_experiments->lever) == 0)
	{
		*hint = "ALTER SYSTEM SET resilience.chaos = on; SELECT pg_reload_conf();";
		return "resilience.chaos is off";
	}
	/* just after the server's start it has not looked yet */
	if (looked != 0 &&
		rsl_now_us() - looked > RSL_CHAOS_DEAD_MAN_MS * INT64CONST(1000))
	{
		*hint = "Nobody would end it. SELECT * FROM pg_stat_activity WHERE backend_type = 'resilience launcher' shows whether there is one.";
		return "the launcher is silent";
	}
	if (policy && policy->stop_when_unhealthy &&
		pg_atomic_read_u32(&rsl_health->status) == RSL_UNHEALTHY)
	{
		*hint = "SELECT * FROM resilience.health shows why; an experiment with stop_when_unhealthy => false starts nevertheless.";
		return "the server is unhealthy";
	}
	if (policy && policy->schedule_end <= GetCurrentTimestamp())
	{
		*hint = "Move it with resilience.alter_experiment(), or define another experiment.";
		return "its schedule_end has passed";
	}
	if (policy && policy->has_stop_condition && rsl_max_health_check_workers == 0)
	{
		*hint = "Stop conditions are evaluated by the workers that run health checks: raise \"resilience.max_health_check_workers\".";
		return "nobody would evaluate its stop condition";
	}
	for (int r = 0; r < RSL_MAX_RUNS; r++)
	{
		uint32		phase = pg_atomic_read_u32(&rsl_experiments->runs[r].phase);

		busy += phase == RSL_RUN_BEFORE || phase == RSL_RUN_DURING ? 1 : 0;
	}
	if (busy >= RSL_MAX_RUNS)
	{
		*hint = "Stop some with resilience.stop_experiment().";
		return "too many experiments run";
	}
	return NULL;
}

/*
 * Start by hand.
 */

/* Nothing here may fail: the transaction has committed. */
static void
start_now(const pending_start *start)
{
	int			index;
	bool		begun = false;
	const char *obstacle = "it is gone, or not in force";
	const char *hint;
	rsl_experiment_state from = RSL_EXPERIMENT_DEFINED;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	index = rsl_experiment_by_name(start->name);
	if (index >= 0)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[index];

		LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
		from = experiment->state;
		/* much may have happened between the call and the commit */
		obstacle = from == RSL_EXPERIMENT_RUNNING ? "it is running" :
			rsl_experiment_obstacle(&experiment->policy, &hint);
		begun = obstacle == NULL && rsl_run_begin(index, start->baseline_ms);
		LWLockRelease(rsl_experiments_lock);
	}
	LWLockRelease(rsl_config_lock);
	if (begun)
		rsl_event(RSL_EVENT_EXPERIMENT, MyDatabaseId, start->name,
				  rsl_experiment_state_name(from), "running",
				  "role=\"%s\" baseline_ms=" INT64_FORMAT, role_name(),
				  start->baseline_ms);
	else
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("experiment \"%s\" was not started: %s", start->name,
						obstacle ? obstacle : "too many experiments run")));
}

static void
transaction_over(bool committed)
{
	List	   *starts = pending_starts;
	ListCell   *lc;

	pending_starts = NIL;
	if (!committed)
		return;
	foreach(lc, starts)
		start_now(lfirst(lc));
}

static void
forget_start(const char *name)
{
	ListCell   *lc;

	foreach(lc, pending_starts)
	{
		if (strcmp(((pending_start *) lfirst(lc))->name, name) == 0)
			pending_starts = foreach_delete_current(pending_starts, lc);
	}
}

/* A savepoint's rollback takes its starts with it. */
static void
subtransaction_over(SubXactEvent event, SubTransactionId mine,
					SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach(lc, pending_starts)
	{
		pending_start *start = lfirst(lc);

		if (start->subid != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			start->subid = parent;
		else
			pending_starts = foreach_delete_current(pending_starts, lc);
	}
}

void
rsl_raise_unknown_experiment(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("experiment \"%s\" does not exist", name),
			 errhint("SELECT name FROM resilience.experiments lists the experiments of this database.")));
}

/* Is it defined, if only by this transaction? */
bool
rsl_experiment_is_defined(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};

	return rsl_execute_as_owner(RSL_EXPERIMENTS_NAME,
								"SELECT FROM resilience.experiment_definitions "
								"WHERE name OPERATOR(pg_catalog.=) $1",
								1, types, values, NULL, NULL) > 0;
}

void
rsl_experiment_require(const char *name)
{
	if (!rsl_experiment_is_defined(name))
		rsl_raise_unknown_experiment(name);
}

/*
 * start_experiment(name text, baseline interval = NULL) returns void
 *
 * At COMMIT.  With a baseline, of at most 1 hour, statements are measured for
 * that time before the first fault; max_duration begins after it.
 *
 * Errors: 42704 when there is no such experiment; 55000 while resilience.chaos
 * is off, the server is unhealthy and that matters, or is in recovery; 55006
 * when it runs; 53400 when too many do; 22023 for a bad baseline.
 */
Datum
start_experiment(PG_FUNCTION_ARGS)
{
	static bool callback_registered = false;
	char	   *name = rsl_name_argument(fcinfo, "chaos experiment");
	double		baseline_ms = PG_ARGISNULL(1) ? 0 :
		rsl_interval_ms(PG_GETARG_INTERVAL_P(1));
	const char *obstacle;
	const char *hint = NULL;
	rsl_experiment_policy policy;
	bool		in_force = false;
	bool		runs = false;
	int			index;
	MemoryContext old;
	pending_start *start;

	rsl_require_shmem();
	if (!(baseline_ms >= 0 && baseline_ms <= HOUR_MS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("baseline of an experiment is out of range"),
				 errdetail("baseline_ms=%.3f minimum=0 maximum=%.0f", baseline_ms, HOUR_MS),
				 errhint("Choose some seconds to a few minutes of usual work, or leave it out.")));

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	index = rsl_experiment_by_name(name);
	if (index >= 0)
	{
		in_force = true;
		policy = rsl_experiments->experiments[index].policy;
		runs = rsl_experiments->experiments[index].state == RSL_EXPERIMENT_RUNNING;
	}
	LWLockRelease(rsl_config_lock);
	if (!in_force && !rsl_experiment_is_defined(name))
		rsl_raise_unknown_experiment(name);
	if (!in_force && !rsl_will_publish())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("experiment \"%s\" cannot be started: it is not in force", name),
				 errdetail("A role, database, foreign server or relation that it names is gone, or shared memory had no room for it."),
				 errhint("Give it others with resilience.alter_experiment(), or drop it.")));

	obstacle = rsl_experiment_obstacle(in_force ? &policy : NULL, &hint);
	if (obstacle)
		ereport(ERROR,
				(errcode(strncmp(obstacle, "too many", 8) == 0 ?
						 ERRCODE_CONFIGURATION_LIMIT_EXCEEDED :
						 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("experiment \"%s\" cannot be started: %s", name, obstacle),
				 errhint("%s", hint)));
	if (runs)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("experiment \"%s\" is running", name),
				 errhint("Stop it first: SELECT resilience.stop_experiment(%s);",
						 quote_literal_cstr(name))));

	if (!callback_registered)
	{
		RegisterSubXactCallback(subtransaction_over, NULL);
		callback_registered = true;
	}
	forget_start(name);
	old = MemoryContextSwitchTo(TopTransactionContext);
	start = palloc0(sizeof(pending_start));
	strlcpy(start->name, name, sizeof(start->name));
	start->baseline_ms = (int64) baseline_ms;
	start->subid = GetCurrentSubTransactionId();
	pending_starts = lappend(pending_starts, start);
	MemoryContextSwitchTo(old);
	rsl_at_commit(transaction_over);
	PG_RETURN_VOID();
}

/*
 * Stop by hand.
 */

/* Config lock held shared.  Returns false if it did not run. */
static bool
stop(int index, const char *reason)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];
	uint32		injections = 0;
	bool		runs;

	LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
	runs = experiment->state == RSL_EXPERIMENT_RUNNING;
	if (runs)
	{
		injections = pg_atomic_read_u32(&rsl_experiments->runs[experiment->run].injections);
		rsl_run_end(index, RSL_EXPERIMENT_STOPPED, reason);
	}
	LWLockRelease(rsl_experiments_lock);
	if (runs)
		rsl_event(RSL_EVENT_EXPERIMENT, experiment->policy.home_database,
				  experiment->policy.name, "running", "stopped",
				  "role=\"%s\" injections=%u reason=\"%s\"", role_name(),
				  injections, reason);
	return runs;
}

/*
 * stop_experiment(name text, reason text = NULL) returns void
 *
 * At once, whatever becomes of the transaction.  One that does not run stays
 * as it is (NOTICE).  Errors: 42704 when there is no such experiment.
 */
Datum
stop_experiment(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, "chaos experiment");
	char	   *reason = PG_ARGISNULL(1) ? pstrdup("stop_experiment()") :
		rsl_without_quotes(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	bool		stopped = false;
	int			index;

	rsl_require_shmem();
	reason[pg_mbcliplen(reason, (int) strlen(reason), RSL_STOP_REASON_LEN - 1)] = '\0';
	forget_start(name);
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	index = rsl_experiment_by_name(name);
	if (index >= 0)
		stopped = stop(index, reason);
	LWLockRelease(rsl_config_lock);
	if (index < 0 && !rsl_experiment_is_defined(name))
		rsl_raise_unknown_experiment(name);
	if (!stopped)
		ereport(NOTICE,
				(errmsg("experiment \"%s\" is not running", name)));
	PG_RETURN_VOID();
}

/*
 * stop_all_experiments() returns int
 *
 * At once, in all databases.  Returns how many did run.
 */
Datum
stop_all_experiments(PG_FUNCTION_ARGS)
{
	int32		stopped = 0;

	rsl_require_shmem();
	pending_starts = NIL;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_experiments->max_experiments; i++)
	{
		if (rsl_experiments->experiments[i].published &&
			stop(i, "stop_all_experiments()"))
			stopped++;
	}
	LWLockRelease(rsl_config_lock);
	PG_RETURN_INT32(stopped);
}
