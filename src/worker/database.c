/*-------------------------------------------------------------------------
 *
 * database.c
 *		A worker that is connected to a database: runs its health checks, and
 *		tells its listeners of events.
 *
 * The launcher starts it for the checks of one owner, and sees to it that
 * there are as many as needed (health_schedule.c).  It takes one check at a
 * time, whichever has been due for the longest, and runs it
 *
 * - in a transaction of its own, which is read-only,
 * - as the check's owner, in a security-restricted operation,
 * - until the check's timeout, by the means of statement_timeout.
 *
 * Whatever goes wrong there is the check's result.  The text of a query comes
 * from the table: shared memory may be behind it, and then the run does not
 * count.
 *
 * It can always be told to go: at once by SIGTERM, or by the board, when it
 * has ended its run.  It must not be in the way of DROP DATABASE, and the rest
 * of the server must not notice that it is gone.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "chaos/stop_condition.h"
#include "common/hashfn.h"
#include "health/kinds.h"
#include "policy/definitions.h"
#include "policy/health_policy.h"
#include "policy/read_query.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared/check_runs.h"
#include "shared/pool.h"
#include "shared/workers.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "worker/launcher.h"
#include "worker/notify.h"

/* one that is not the only one leaves after so long without work */
#define EXTRA_LEAVES_MS		5000

/* and leaves work for so long to those who were here before, if they have none */
#define PATIENCE_US			INT64CONST(20000)

/* it looks around at least this often */
#define LOOK_EVERY_MS		1000

/* it looks for events to tell this often at most */
#define TELL_EVERY_US		INT64CONST(100000)

/* a run that did not count is tried again after this time */
#define TRY_AGAIN_US		INT64CONST(1000000)

static rsl_check_claim my_claim;
static volatile bool claimed = false;

/* SIGTERM ends whatever is interruptible at once, and waits for nothing */
static volatile bool at_rest = false;

static void
handle_sigterm(SIGNAL_ARGS)
{
	if (at_rest)
		SignalHandlerForShutdownRequest(RSL_SIGNAL_PASSED_ON);
	else
		die(RSL_SIGNAL_PASSED_ON);
}

/* Ended in the middle of a run for somebody else's sake: it does not count. */
static void
give_claim_back(int code, Datum arg)
{
	if (claimed && rsl_my_worker && rsl_my_worker->asked_to_leave)
		rsl_check_release(&my_claim, 0);
	claimed = false;
}

/*
 * Read the row of a check.  Returns false if it is not what is published: it
 * is gone, or about to be published, or the table is locked.  The result is
 * in the current memory context.
 */
static bool
read_query(const rsl_check_policy *policy, char **query)
{
	Oid			relid = rsl_extension_relation(RSL_HEALTH_CHECKS_NAME);
	Relation	relation;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	*query = NULL;
	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	relation = try_relation_open(relid, NoLock);
	if (relation == NULL)
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = rsl_table_beginscan(relation, snapshot);
	while (!found && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		TupleDesc	desc = RelationGetDescr(relation);
		char	   *name = rsl_text_column(tuple, desc, RSL_HCOL_NAME);

		if (strcmp(name, policy->name) != 0)
			continue;
		*query = rsl_text_column(tuple, desc, RSL_HCOL_QUERY);
		found = (*query ? hash_bytes((const unsigned char *) *query,
									 (int) strlen(*query)) : 0) == policy->query_hash;
		break;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	relation_close(relation, AccessShareLock);
	return found;
}

/*
 * The transaction of a run.  Returns false if it is not to count.
 */
static bool
look(const rsl_check_policy *policy, rsl_check_result *result)
{
	rsl_identity before;
	char	   *query;
	bool		found;

	StartTransactionCommand();
	/* neither is what the database's settings may say */
	XactReadOnly = true;
	XactIsoLevel = XACT_READ_COMMITTED;
	XactDeferrable = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	enable_timeout_after(STATEMENT_TIMEOUT, policy->timeout_ms);
	found = read_query(policy, &query);
	if (found)
	{
		rsl_become(policy->owner, &before);
		rsl_run_check(policy, query, result);
		rsl_become_again(&before);
	}
	disable_timeout(STATEMENT_TIMEOUT, false);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return found;
}

/*
 * The result of a run that ended with an error.  Returns false if it says
 * nothing of what was looked at.
 */
static bool
judge_error(const rsl_check_claim *claim, ErrorData *error,
			rsl_check_result *result)
{
	memset(result, 0, sizeof(*result));

	/* replay was in the way: a standby's own business */
	if (RecoveryInProgress() &&
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE)
		return false;

	result->status = RSL_UNHEALTHY;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		rsl_now_us() - claim->started >= claim->policy.timeout_ms * INT64CONST(1000))
	{
		result->timed_out = true;
		snprintf(result->message, sizeof(result->message),
				 "timed out after %d ms", claim->policy.timeout_ms);
	}
	else
		rsl_check_message(result->message, error->message ? error->message : "");
	return true;
}

static void
run_check(void)
{
	MemoryContext caller = CurrentMemoryContext;
	rsl_check_result result;
	char		activity[NAMEDATALEN + 20];
	volatile bool counts = false;

	memset(&result, 0, sizeof(result));
	rsl_worker_beat(my_claim.policy.timeout_ms + RSL_GIVE_UP_AFTER_MS +
					RSL_TERMINATE_AFTER_MS + RSL_HEARTBEAT_LATE_MS);
	snprintf(activity, sizeof(activity), "health check \"%s\"",
			 my_claim.policy.name);
	pgstat_report_activity(STATE_RUNNING, activity);
	PG_TRY();
	{
		counts = look(&my_claim.policy, &result);
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
		counts = judge_error(&my_claim, error, &result);
		FreeErrorData(error);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	rsl_check_thresholds(&my_claim.policy, &result.warning_threshold,
						 &result.critical_threshold);

	/* before its result: nothing must be left when it is known */
	LockReleaseAll(USER_LOCKMETHOD, true);
	if (counts)
		rsl_check_finish(&my_claim, &result);
	else
		rsl_check_release(&my_claim, TRY_AGAIN_US);
	claimed = false;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Is there somebody else before us on the board who would go on with the same
 * checks, and who has nothing else to do if that is asked for, too?
 */
static bool
has_senior(bool idle)
{
	bool		found = false;

	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES && !found; i++)
	{
		rsl_worker *worker = &rsl_workers->entries[i];

		if (worker == rsl_my_worker)
			break;
		found = worker->pid != 0 && worker->connected &&
			(!idle || pg_atomic_read_u64(&worker->idle_since) != 0) &&
			worker->database == rsl_my_worker->database &&
			worker->owner == rsl_my_worker->owner &&
			!worker->asked_to_leave && !worker->terminated;
	}
	LWLockRelease(rsl_workers_lock);
	return found;
}

/* Does this owner have checks here at all? */
static bool
has_checks(void)
{
	bool		found = false;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_health->max_checks && !found; i++)
	{
		rsl_check  *check = &rsl_health->checks[i];

		found = check->published && check->policy.enabled &&
			check->policy.home_database == rsl_my_worker->database &&
			check->policy.owner == rsl_my_worker->owner;
	}
	LWLockRelease(rsl_config_lock);
	return found;
}

/* Has it to go, or nothing to stay for? */
static bool
shall_leave(int64 idle_us)
{
	rsl_database *database = rsl_database_find(MyDatabaseId);
	int64		due;

	if (ShutdownRequestPending || rsl_my_worker->asked_to_leave ||
		database == NULL || database->closed)
		return true;
	return idle_us > EXTRA_LEAVES_MS * INT64CONST(1000) &&
		(has_senior(false) ||
		 (!has_checks() &&
		  !rsl_stop_conditions_due(MyDatabaseId, rsl_my_worker->owner, 0, &due)));
}

/* Sleep until there may be something to do. */
static void
rest(int64 next_due)
{
	int64		wait_us = next_due == INT64_MAX ? INT64_MAX : next_due - rsl_now_us();
	long		wait_ms = LOOK_EVERY_MS;

	if (wait_us < LOOK_EVERY_MS * INT64CONST(1000))
		wait_ms = wait_us <= 0 ? 0 : (long) ((wait_us + 999) / 1000);
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  wait_ms, PG_WAIT_EXTENSION) & WL_LATCH_SET)
		ResetLatch(MyLatch);
}

static void
connect_to_database(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);

	/* nothing that the database's settings say may change how it works */
	SetConfigOption("search_path", RSL_CHECK_SEARCH_PATH, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	/* notifications are not to wait for disks and standbys */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("resilience worker");
}

void
rsl_database_worker_main(Datum arg)
{
	int			index = DatumGetInt32(arg);
	uint32		generation;
	MemoryContext context;
	int64		idle_since = 0;
	int64		next_tell = 0;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	BackgroundWorkerUnblockSignals();

	if (!rsl_worker_arrive(index, generation))
		proc_exit(0);
	before_shmem_exit(give_claim_back, (Datum) 0);
	rsl_worker_beat(10 * RSL_HEARTBEAT_LATE_MS);
	connect_to_database(rsl_my_worker->database);
	rsl_my_worker->connected = true;

	context = AllocSetContextCreate(TopMemoryContext, "resilience worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, NULL);

	for (;;)
	{
		int64		now = rsl_now_us();
		int64		next_due;
		int64		next_condition;
		int64		patience = has_senior(true) ? PATIENCE_US : 0;

		rsl_worker_beat(LOOK_EVERY_MS + RSL_HEARTBEAT_LATE_MS);
		at_rest = true;
		if (idle_since == 0)
			idle_since = now;
		if (shall_leave(now - idle_since))
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		at_rest = false;
		CHECK_FOR_INTERRUPTS();

		if (now >= next_tell)
		{
			rsl_notify_listeners();
			next_tell = now + TELL_EVERY_US;
		}

		/* what stops an experiment comes before all else */
		if (rsl_stop_conditions_due(MyDatabaseId, rsl_my_worker->owner, patience,
									&next_condition) &&
			next_condition <= now)
		{
			pg_atomic_write_u64(&rsl_my_worker->idle_since, 0);
			pgstat_report_activity(STATE_RUNNING, "stop conditions of experiments");
			rsl_evaluate_stop_conditions(rsl_my_worker->owner, patience);
			pgstat_report_stat(false);
			pgstat_report_activity(STATE_IDLE, NULL);
			idle_since = 0;
			MemoryContextSwitchTo(context);
			MemoryContextReset(context);
		}

		claimed = rsl_check_claim_due(MyDatabaseId, rsl_my_worker->owner,
									  patience, &my_claim, &next_due);
		if (claimed)
		{
			pg_atomic_write_u64(&rsl_my_worker->idle_since, 0);
			idle_since = 0;
			run_check();
		}
		else
		{
			at_rest = true;
			pg_atomic_write_u64(&rsl_my_worker->idle_since, (uint64) GetCurrentTimestamp());
			if (!ShutdownRequestPending)
				rest(Min(next_due, next_condition));
			CHECK_FOR_INTERRUPTS();
		}
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
	}
	proc_exit(0);
}
