/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The background worker that does what no session can.
 *
 * Ten times a second it lends the slots of idle transactions, lets waiters
 * through that block somebody, hands over what a cap that opened lets run,
 * ends what has expired, has runaway statements stopped, charges what runs to
 * its budgets, notes who runs for the history of arrivals, sweeps up after
 * sessions that are gone, measures how loaded the server is, and moves the
 * adaptive limit.  It starts the workers that run health checks, and watches
 * their runs (health_schedule.c).  After a reload it publishes the settings.
 * And it sends readers to the databases to compare what is published with the
 * tables: on a standby all the time, elsewhere at start and now and then.
 *
 * Nothing is lost when it dies: it keeps no state but the round of visits,
 * and is started again after a second.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "chaos/control.h"
#include "chaos/record_tick.h"
#include "degradation/coupling.h"
#include "degradation/degrade.h"
#include "degradation/dimmer_tick.h"
#include "endpoint/endpoint.h"
#include "health/components.h"
#include "policy/publish.h"
#include "policy/snapshot_file.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared/budget.h"
#include "shared/compartments.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "shedding/adaptive.h"
#include "shedding/preempt.h"
#include "shedding/runaway.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/arrivals.h"
#include "worker/auto_revert.h"
#include "worker/database_names.h"
#include "worker/event_log.h"
#include "worker/health_schedule.h"
#include "worker/launcher.h"
#include "worker/watch.h"

/* between two rounds of visits on a primary, and at least on a standby */
#define ROUND_PRIMARY_MS	(600 * 1000)
#define ROUND_STANDBY_MS	(5 * 1000)

/* a standby's round takes at least this long for each database */
#define VISIT_EVERY_MS		250

/* a round that was asked for begins after this time */
#define REQUESTED_MS		500

/* a round that could not be finished is tried again after this time */
#define RETRY_MS			1000

/* The round of visits to the databases. */
typedef struct visits
{
	List	   *databases;		/* still to visit in this round, as OIDs */
	TimestampTz next_round;
	uint32		requests;		/* of visit_requests, as seen last */
	BackgroundWorkerHandle *handle; /* the reader that is under way */
	bool		was_standby;
	bool		complained;
} visits;

static bool *gone_before;		/* sessions whose process was gone last time */

/* An own transaction's list of the databases that can be visited. */
static List *
list_databases(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		rsl_database *entry;
		MemoryContext old;

		entry = rsl_database_find(database->oid);
		if (entry)
			entry->closed = !database->datallowconn;
		if (!database->datallowconn)
			continue;
		old = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

/* Forget what belongs to databases that are gone: replay has no callbacks. */
static void
forget_gone_databases(void)
{
	MemoryContext caller = CurrentMemoryContext;
	int			room = rsl_shmem->nbulkheads + rsl_breakers_shmem->nbreakers +
		rsl_runaway->max_rules + RSL_MAX_DATABASES;
	Oid		   *homes;
	int			n = 0;

	for (int k = 0; k < RSL_NUM_KINDS; k++)
		room += rsl_kinds[k]->capacity();
	homes = palloc(room * sizeof(Oid));

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		Oid			home = rsl_bulkheads[i].policy.home_database;

		if (rsl_bulkheads[i].published && (n == 0 || homes[n - 1] != home))
			homes[n++] = home;
	}
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		Oid			home = rsl_breakers[i].policy.home_database;

		if (rsl_breakers[i].published && (n == 0 || homes[n - 1] != home))
			homes[n++] = home;
	}
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		Oid			home = rsl_runaway->rules[i].policy.home_database;

		if (rsl_runaway->rules[i].published && (n == 0 || homes[n - 1] != home))
			homes[n++] = home;
	}
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		for (int i = 0; i < rsl_kinds[k]->capacity(); i++)
		{
			const rsl_policy_head *head = rsl_kinds[k]->published(i);

			if (head && (n == 0 || homes[n - 1] != head->home_database))
				homes[n++] = head->home_database;
		}
	}
	for (int i = 0; i < RSL_MAX_DATABASES; i++)
	{
		if (OidIsValid(rsl_workers->databases[i].oid))
			homes[n++] = rsl_workers->databases[i].oid;
	}
	LWLockRelease(rsl_config_lock);

	if (n > 0)
	{
		StartTransactionCommand();
		for (int i = 0; i < n; i++)
		{
			if (!SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(homes[i])))
				rsl_forget_database(homes[i]);
		}
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
	pfree(homes);
}

static bool
start_reader(visits *v, Oid database)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "resilience reader of database %u",
			 database);
	strlcpy(worker.bgw_type, "resilience reader", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "resilience",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "rsl_reader_main", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;

	if (RegisterDynamicBackgroundWorker(&worker, &v->handle))
	{
		v->complained = false;
		return true;
	}
	v->handle = NULL;
	if (!v->complained)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("resilience cannot compare its bulkheads with the tables: no background worker is free"),
				 errhint("Raise \"max_worker_processes\". Bulkheads that are in force stay so.")));
	v->complained = true;
	return false;
}

/* Keep one reader at a time on its way. */
static void
visit_databases(visits *v)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		standby = RecoveryInProgress();
	uint32		requests;
	Oid			database;

	if (v->handle)
	{
		pid_t		pid;
		BgwHandleStatus status = GetBackgroundWorkerPid(v->handle, &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			return;
		pfree(v->handle);
		v->handle = NULL;
	}

	/* a database was made, or a reader found the definitions locked */
	requests = pg_atomic_read_u32(&rsl_shmem->visit_requests);
	if (requests != v->requests)
	{
		TimestampTz soon = TimestampTzPlusMilliseconds(now, REQUESTED_MS);

		v->next_round = Min(v->next_round, soon);
		v->requests = requests;
	}

	if (v->was_standby && !standby)
	{
		rsl_watch_promoted();
		v->next_round = now;
	}
	v->was_standby = standby;

	if (v->databases == NIL && now >= v->next_round)
	{
		int			pause = standby ? ROUND_STANDBY_MS : ROUND_PRIMARY_MS;

		forget_gone_databases();
		v->databases = list_databases();
		pause = Max(pause, VISIT_EVERY_MS * list_length(v->databases));
		v->next_round = TimestampTzPlusMilliseconds(now, pause);
	}
	if (v->databases == NIL)
		return;

	database = linitial_oid(v->databases);
	if (start_reader(v, database))
		v->databases = list_delete_first(v->databases);
	else
	{
		list_free(v->databases);
		v->databases = NIL;
		v->next_round = TimestampTzPlusMilliseconds(now, RETRY_MS);
	}
}

/* Look at each session: lend, let through, sweep. */
static void
look_at_sessions(void)
{
	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];
		PGPROC	   *proc = GetPGProcByNumber(i);
		int			waiting_for;

		if (session->pid == 0)
		{
			gone_before[i] = false;
			continue;
		}

		/*
		 * An entry whose process left without its exit callback; seen twice,
		 * so that an exit that is under way is not disturbed.
		 */
		if (proc->pid != session->pid)
		{
			if (gone_before[i] && proc->pid == 0)
			{
				ereport(LOG,
						(errmsg("resilience gives back what process %d left behind",
								(int) session->pid)));
				rsl_session_clean(session);
			}
			gone_before[i] = true;
			continue;
		}
		gone_before[i] = false;

		waiting_for = (int32) pg_atomic_read_u32(&session->waiting_for);
		if (waiting_for != RSL_NO_POOL)
		{
			if (rsl_lock_state(proc) & RSL_LOCKS_BLOCKING)
				rsl_pool_let_through(session, waiting_for);
		}
		else
			rsl_session_lend(session);
	}
}

static void
hand_over(rsl_pool *pool)
{
	if (pg_atomic_read_u64(&pool->word) & RSL_WAIT_MASK)
		rsl_pool_dispatch(pool);
}

/* How loaded is the server, and what is the right limit then? */
static void
look_at_load(void)
{
	rsl_load_signals signals;

	rsl_load_signals_read(&signals);
	rsl_load_publish(&signals);
	rsl_preempt_deposit(signals.admitted);
	rsl_adaptive_tick(&signals);
	rsl_dimmer_tick(signals.now, signals.cores, signals.on_cpu, signals.admitted);
}

static void
tick(void)
{
	pg_atomic_fetch_add_u32(&rsl_shmem->tick, 1);
	rsl_worker_beat(RSL_HEARTBEAT_LATE_MS);
	look_at_load();

	rsl_publish_expiries();
	look_at_sessions();
	rsl_budget_charge_running();
	rsl_runaway_watch();
	rsl_look_at_arrivals();
	rsl_look_at_refusals();
	rsl_watch_tick();
	rsl_health_tick();
	rsl_features_tick();
	rsl_degradations_tick();
	rsl_experiments_tick();
	rsl_record_tick();
	rsl_log_events();

	/* caps open when the higher classes have been quiet for a while */
	hand_over(&rsl_shmem->server);
	for (int i = 0; i < rsl_npools(); i++)
		hand_over(rsl_pool_by_number(i));

	if (rsl_shmem->snapshot_stale &&
		pg_atomic_read_u32(&rsl_shmem->tick) % 100 == 0)
	{
		LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
		rsl_snapshot_save();
		LWLockRelease(rsl_config_lock);
	}
}

/* The configuration was re-read: all sessions learn of it at once. */
static void
settings_changed(void)
{
	rsl_priority minimum = rsl_minimum_priority;

	rsl_watch_settings();
	rsl_publish_settings();
	rsl_pool_shed_below(&rsl_shmem->server, minimum);
	for (int i = 0; i < rsl_npools(); i++)
	{
		rsl_pool   *pool = rsl_pool_by_number(i);

		if (pg_atomic_read_u64(&pool->word) & RSL_WAIT_MASK)
			rsl_pool_shed_below(pool, minimum);
	}
	hand_over(&rsl_shmem->server);
}

void
rsl_launcher_main(Datum arg)
{
	visits		v = {0};
	TimestampTz next_tick;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	rsl_worker_attach(RSL_WORKER_LAUNCHER);

	/* shared catalogs only: the list of databases */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	gone_before = MemoryContextAllocZero(TopMemoryContext,
										 rsl_shmem->nsessions * sizeof(bool));
	MemoryContextSwitchTo(TopMemoryContext);
	pgstat_report_appname("resilience launcher");

	rsl_watch_begin();

	/* it may have been reloaded between the start and now */
	settings_changed();

	next_tick = GetCurrentTimestamp();
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		long		timeout = TimestampDifferenceMilliseconds(now, next_tick);
		int			rc;

		rc = WaitLatch(MyLatch,
					   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   timeout, PG_WAIT_EXTENSION);
		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			settings_changed();
		}

		now = GetCurrentTimestamp();
		if (now >= next_tick)
		{
			tick();
			next_tick = TimestampTzPlusMilliseconds(now, RSL_TICK_MS);
		}
		/* not only at ticks: a worker may have come, or gone */
		rsl_health_schedule_tick();
		visit_databases(&v);
		rsl_name_databases();
		rsl_keep_endpoint();
	}
}

void
rsl_launcher_register(void)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, "resilience launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "resilience launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "resilience",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "rsl_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
