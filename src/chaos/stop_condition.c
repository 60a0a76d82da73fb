/*-------------------------------------------------------------------------
 *
 * stop_condition.c
 *		The queries that stop a chaos experiment.
 *
 * A worker that is connected to the experiment's database, as its owner,
 * evaluates the query each second, in a read-only transaction with a time-out
 * of a second.  Only a plain "false" lets the experiment go on: true, NULL, no
 * row, an error, a time-out stop it, and so does silence (control_tick.c).
 *
 * A query may call a function that catches the cancel and goes on.  One worker
 * at a time evaluates a condition, so that it holds up no more than that one,
 * and the launcher terminates who has not come back in time.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "chaos/stop_condition.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "policy/experiment_policy.h"
#include "policy/publish.h"
#include "policy/read_query.h"
#include "shared/events.h"
#include "shared/pool.h"
#include "shared/workers.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#define EVERY_US		INT64CONST(1000000)
#define TIMEOUT_MS		1000

/* whoever evaluates it for longer was terminated, or will be */
#define ABANDONED_US	((RSL_HEARTBEAT_LATE_MS + 1000) * INT64CONST(1000))

#define TIMED_OUT		"its stop condition timed out after %d ms"

typedef enum verdict
{
	GO_ON,
	STOP,
	NOT_NOW						/* the definition is just being changed */
} verdict;

/* when this worker has tried last, by run */
static int64 tried_us[RSL_MAX_RUNS];

static bool
is_wanted(const rsl_run *run)
{
	uint32		phase = pg_atomic_read_u32(&unconstify(rsl_run *, run)->phase);

	return (phase == RSL_RUN_BEFORE || phase == RSL_RUN_DURING) &&
		run->experiment >= 0 &&
		rsl_experiments->experiments[run->experiment].policy.has_stop_condition;
}

static int64
due_of(rsl_run *run)
{
	int64		last = (int64) pg_atomic_read_u64(&run->condition_us);
	int64		runner = (int64) pg_atomic_read_u64(&run->condition_runner_us);
	int64		due = last == 0 ? run->condition_since_us : last + EVERY_US;

	return runner == 0 ? due : Max(due, runner + ABANDONED_US);
}

bool
rsl_stop_conditions_due(Oid database, Oid owner, int64 patience_us, int64 *due_us)
{
	bool		found = false;

	*due_us = INT64_MAX;
	if (pg_atomic_read_u32(&rsl_shmem->chaos_armed) == 0)
		return false;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_SHARED);
	for (int r = 0; r < RSL_MAX_RUNS; r++)
	{
		rsl_run    *run = &rsl_experiments->runs[r];
		const rsl_experiment_policy *policy;

		if (!is_wanted(run))
			continue;
		policy = &rsl_experiments->experiments[run->experiment].policy;
		if (policy->home_database != database || policy->owner != owner)
			continue;
		found = true;
		*due_us = Min(*due_us, Max(due_of(run) + patience_us, tried_us[r] + EVERY_US / 2));
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
	return found;
}

void
rsl_each_stop_condition(void (*each) (Oid database, Oid owner, int64 due_us))
{
	if (pg_atomic_read_u32(&rsl_shmem->chaos_armed) == 0)
		return;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_SHARED);
	for (int r = 0; r < RSL_MAX_RUNS; r++)
	{
		rsl_run    *run = &rsl_experiments->runs[r];
		const rsl_experiment_policy *policy;

		if (!is_wanted(run))
			continue;
		policy = &rsl_experiments->experiments[run->experiment].policy;
		each(policy->home_database, policy->owner, due_of(run));
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
}

/* The text of the condition; NULL if it is not what is published. */
static char *
read_condition(const rsl_experiment_policy *policy)
{
	Oid			relid = rsl_extension_relation(RSL_EXPERIMENTS_NAME);
	Relation	relation;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;
	char	   *condition = NULL;

	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	relation = try_relation_open(relid, NoLock);
	if (relation == NULL)
		return NULL;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = rsl_table_beginscan(relation, snapshot);
	while (condition == NULL && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		TupleDesc	desc = RelationGetDescr(relation);

		if (strcmp(rsl_text_column(tuple, desc, RSL_COL_NAME), policy->name) != 0)
			continue;
		condition = rsl_text_column(tuple, desc, RSL_ECOL_STOP_CONDITION);
		if (condition == NULL ||
			hash_bytes((const unsigned char *) condition, (int) strlen(condition)) != policy->stop_hash)
			break;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	relation_close(relation, AccessShareLock);
	if (condition != NULL &&
		hash_bytes((const unsigned char *) condition, (int) strlen(condition)) != policy->stop_hash)
		condition = NULL;
	return condition;
}

static verdict
judge_row(char *reason)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	HeapTuple	row = SPI_tuptable->vals[0];
	char	   *message = desc->natts > 1 ? SPI_getvalue(row, desc, 2) : NULL;
	bool		isnull;
	Datum		datum;

	if (getBaseType(TupleDescAttr(desc, 0)->atttypid) != BOOLOID)
	{
		strlcpy(reason, "its stop condition did not return a boolean", RSL_STOP_REASON_LEN);
		return STOP;
	}
	datum = SPI_getbinval(row, desc, 1, &isnull);
	if (!isnull && !DatumGetBool(datum))
		return GO_ON;
	snprintf(reason, RSL_STOP_REASON_LEN, "its stop condition %s%s%s",
			 isnull ? "returned NULL" : "holds", message ? ": " : "",
			 message ? message : "");
	return STOP;
}

/* In a transaction of its own; may raise an error. */
static verdict
look(const rsl_experiment_policy *policy, char *reason)
{
	verdict		result = NOT_NOW;
	char	   *condition;

	StartTransactionCommand();
	XactReadOnly = true;
	XactIsoLevel = XACT_READ_COMMITTED;
	XactDeferrable = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	enable_timeout_after(STATEMENT_TIMEOUT, TIMEOUT_MS);
	condition = read_condition(policy);
	if (condition)
	{
		rsl_identity before;
		int			rc;

		rsl_become(policy->owner, &before);
		SPI_connect();
		rc = SPI_execute(condition, true, 2);
		if (rc != SPI_OK_SELECT || SPI_processed != 1)
		{
			strlcpy(reason, rc == SPI_OK_SELECT && SPI_processed == 0 ?
					"its stop condition returned no row" :
					"its stop condition is not one SELECT of one row",
					RSL_STOP_REASON_LEN);
			result = STOP;
		}
		else
			result = judge_row(reason);
		SPI_finish();
		rsl_become_again(&before);
	}
	disable_timeout(STATEMENT_TIMEOUT, false);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return result;
}

/* Only one of several workers gets it. */
static bool
claim(rsl_run *run, int64 now)
{
	uint64		runner = pg_atomic_read_u64(&run->condition_runner_us);

	if (runner != 0 && now - (int64) runner < ABANDONED_US)
		return false;
	return pg_atomic_compare_exchange_u64(&run->condition_runner_us, &runner,
										  (uint64) now);
}

static void
conclude(int r, uint32 uid, uint32 stop_hash, verdict result, const char *reason)
{
	rsl_run    *run = &rsl_experiments->runs[r];
	bool		stopped = false;
	uint32		injections = 0;
	Oid			database = InvalidOid;
	char		name[NAMEDATALEN];
	const char *quotes = strstr(reason, ": ");

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_EXCLUSIVE);
	/* nor does it say anything of a condition that has replaced it */
	if (is_wanted(run) && pg_atomic_read_u32(&run->uid) == uid &&
		rsl_experiments->experiments[run->experiment].policy.stop_hash == stop_hash)
	{
		if (result == GO_ON)
			pg_atomic_write_u64(&run->condition_us, (uint64) rsl_now_us());
		else
		{
			strlcpy(name, rsl_experiments->experiments[run->experiment].policy.name,
					sizeof(name));
			database = rsl_experiments->experiments[run->experiment].policy.home_database;
			injections = pg_atomic_read_u32(&run->injections);
			rsl_run_end(run->experiment, RSL_EXPERIMENT_ABORTED, reason);
			stopped = true;
		}
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
	if (stopped)
		rsl_event(RSL_EVENT_EXPERIMENT, database, name, "running", "aborted",
				  "injections=%u reason=\"%.*s\"%s%s%s", injections,
				  quotes ? (int) (quotes - reason) : (int) strlen(reason), reason,
				  quotes ? " message=\"" : "", quotes ? quotes + 2 : "",
				  quotes ? "\"" : "");
}

static void
evaluate(int r, uint32 uid, uint64 claimed, const rsl_experiment_policy *policy)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile verdict result = NOT_NOW;
	char		reason[RSL_STOP_REASON_LEN] = "";
	int64		started = rsl_now_us();

	PG_TRY();
	{
		result = look(policy, reason);
		/* whoever caught the cancel may not pass for a quick one */
		if (result == GO_ON && rsl_now_us() - started >= TIMEOUT_MS * INT64CONST(1000))
		{
			snprintf(reason, sizeof(reason), TIMED_OUT, TIMEOUT_MS);
			result = STOP;
		}
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(caller);
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
			rsl_now_us() - started >= TIMEOUT_MS * INT64CONST(1000))
			snprintf(reason, sizeof(reason), TIMED_OUT, TIMEOUT_MS);
		else
			snprintf(reason, sizeof(reason), "its stop condition failed: %s",
					 error->message ? error->message : "");
		result = STOP;
		FreeErrorData(error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	LockReleaseAll(USER_LOCKMETHOD, true);
	/* it may have been cut off within a character */
	reason[pg_mbcliplen(reason, (int) strlen(reason), RSL_STOP_REASON_LEN - 1)] = '\0';
	if (result != NOT_NOW)
		conclude(r, uid, policy->stop_hash, result, rsl_without_quotes(reason));

	/* the run may be another one's by now, and have a claim of its own */
	pg_atomic_compare_exchange_u64(&rsl_experiments->runs[r].condition_runner_us,
								   &claimed, 0);
}

void
rsl_evaluate_stop_conditions(Oid owner, int64 patience_us)
{
	for (int r = 0; r < RSL_MAX_RUNS; r++)
	{
		rsl_run    *run = &rsl_experiments->runs[r];
		rsl_experiment_policy policy;
		uint32		uid = 0;
		int64		now = rsl_now_us();

		LWLockAcquire(rsl_config_lock, LW_SHARED);
		LWLockAcquire(rsl_experiments_lock, LW_SHARED);
		if (is_wanted(run))
		{
			policy = rsl_experiments->experiments[run->experiment].policy;
			if (policy.home_database == MyDatabaseId && policy.owner == owner &&
				now >= due_of(run) + patience_us && now >= tried_us[r] + EVERY_US / 2 &&
				claim(run, now))
				uid = pg_atomic_read_u32(&run->uid);
		}
		LWLockRelease(rsl_experiments_lock);
		LWLockRelease(rsl_config_lock);
		if (uid == 0)
			continue;
		tried_us[r] = now;
		rsl_worker_beat(RSL_HEARTBEAT_LATE_MS);
		evaluate(r, uid, (uint64) now, &policy);
	}
}
