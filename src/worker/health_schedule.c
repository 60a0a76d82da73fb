/*-------------------------------------------------------------------------
 *
 * health_schedule.c
 *		Which workers there are to be, in which databases.
 *
 * The launcher looks at each tick, and whenever a worker has come or gone.
 * Checks of one owner in one database are a group: a worker serves one group
 * all its life, since what a query leaves behind in its session (an open
 * connection of dblink, say) is nothing for another owner's.  A group with
 * enabled checks has a worker; while its checks are due and nobody takes them
 * it gets more.  A database with events to tell, and no worker, gets one for
 * that.
 *
 * All together are at most resilience.max_health_check_workers.  When that is
 * not enough for all groups, or no background worker is free, workers that
 * have nothing to do make room for groups whose checks are due, and in the end
 * those that have been at work for a second.  Workers that were terminated
 * because they do not come back from a run are not counted, up to the same
 * number again: one check that cannot be cut off makes no other one late.
 *
 * The board (shared/workers.h) is the truth, so that a launcher which was
 * started anew goes on with the workers that are there.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "chaos/stop_condition.h"
#include "postmaster/bgworker.h"
#include "shared/check_runs.h"
#include "shared/events.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/health_schedule.h"
#include "worker/launcher.h"
#include "worker/notify.h"

/* checks that nobody has taken for so long ask for one more worker */
#define OVERDUE_US			INT64CONST(100000)

/* a worker at work makes room for a group without any after this time */
#define TURN_US				INT64CONST(1000000)

/* a worker is started for events this often at most in each database */
#define TELL_EVERY_US		INT64CONST(1000000)

/* after a worker could not connect, or could not be had */
#define RETRY_MIN_US		INT64CONST(1000000)
#define RETRY_MAX_US		INT64CONST(60000000)

/* a lack of background workers is over when there was none for so long */
#define SETTLED_US			INT64CONST(10000000)

/* an entry whose launcher is gone and to which nobody comes */
#define ORPHAN_MS			10000

typedef struct check_group
{
	Oid			database;
	Oid			owner;			/* InvalidOid: only events are to be told */
	int64		oldest_due;		/* of its checks that nobody runs */
	int			overdue;		/* how many of them are due for too long */
	int			workers;		/* that serve it, and will go on */
	int			idle;
	int			starting;
} check_group;

/* A worker that can be asked to leave. */
typedef struct candidate
{
	int			index;
	uint32		generation;
	bool		idle;
	TimestampTz started;
	check_group *group;			/* NULL = none any more */
} candidate;

/* What the launcher remembers of the databases, by their entry. */
typedef struct database_memory
{
	Oid			oid;
	int64		retry_at;
	int64		retry_delay;
	int64		tell_at;
} database_memory;

static database_memory memories[RSL_MAX_DATABASES];
static BackgroundWorkerHandle *handles[RSL_BOARD_ENTRIES];
static uint32 generations[RSL_BOARD_ENTRIES];

static check_group *groups = NULL;
static int	ngroups;
static int	groups_room = 0;

/* when no background worker was free: until when that is taken for granted */
static int64 no_worker_until = 0;
static int64 last_refusal = 0;

static database_memory *
memory_of(const rsl_database *database)
{
	database_memory *memory = &memories[database - rsl_workers->databases];

	if (memory->oid != database->oid)
	{
		memset(memory, 0, sizeof(*memory));
		memory->oid = database->oid;
	}
	return memory;
}

static check_group *
find_group(Oid database, Oid owner)
{
	for (int g = 0; g < ngroups; g++)
	{
		if (groups[g].database == database && groups[g].owner == owner)
			return &groups[g];
	}
	return NULL;
}

static check_group *
need_group(Oid database, Oid owner)
{
	check_group *group = find_group(database, owner);

	if (group)
		return group;
	if (ngroups == groups_room)
	{
		groups_room = groups_room == 0 ? 16 : groups_room * 2;
		groups = groups ?
			repalloc(groups, groups_room * sizeof(check_group)) :
			MemoryContextAlloc(TopMemoryContext,
							   groups_room * sizeof(check_group));
	}
	group = &groups[ngroups++];
	memset(group, 0, sizeof(*group));
	group->database = database;
	group->owner = owner;
	group->oldest_due = INT64_MAX;
	return group;
}

/* Which groups are there, and how late are their checks? */
static void
look_at_checks(int64 now)
{
	check_group *group = NULL;

	if (pg_atomic_read_u32(&rsl_health->npublished) == 0)
		return;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_health->max_checks; i++)
	{
		rsl_check  *check = &rsl_health->checks[i];

		if (!check->published || !check->policy.enabled)
			continue;
		if (group == NULL || group->database != check->policy.home_database ||
			group->owner != check->policy.owner)
			group = need_group(check->policy.home_database, check->policy.owner);
		SpinLockAcquire(&check->mutex);
		if (check->runner == 0)
		{
			group->oldest_due = Min(group->oldest_due, check->next_run);
			group->overdue += now - check->next_run > OVERDUE_US ? 1 : 0;
		}
		SpinLockRelease(&check->mutex);
	}
	LWLockRelease(rsl_config_lock);
}

/* Stop conditions of experiments are like checks that are due each second. */
static void
look_at_stop_condition(Oid database, Oid owner, int64 due_us)
{
	check_group *group = need_group(database, owner);

	group->oldest_due = Min(group->oldest_due, due_us);
	group->overdue += rsl_now_us() - due_us > OVERDUE_US ? 1 : 0;
}

/*
 * Workers that have gone, or never came.  Those that could not connect are
 * not started again at once.
 */
static void
reap(int index)
{
	rsl_worker *worker = &rsl_workers->entries[index];
	pid_t		pid;

	if (handles[index] == NULL)
	{
		/* whose launcher is gone; nobody comes any more */
		if (worker->reserved && worker->pid == 0 &&
			TimestampDifferenceExceeds(worker->started, GetCurrentTimestamp(),
									   ORPHAN_MS))
			rsl_worker_unreserve(index, worker->generation);
		return;
	}
	if (GetBackgroundWorkerPid(handles[index], &pid) != BGWH_STOPPED)
		return;
	pfree(handles[index]);
	handles[index] = NULL;
	no_worker_until = 0;

	if (worker->generation == generations[index])
	{
		rsl_database *database = rsl_database_find(worker->database);

		if (database)
		{
			database_memory *memory = memory_of(database);

			memory->retry_delay = worker->connected || worker->asked_to_leave ? 0 :
				Min(Max(2 * memory->retry_delay, RETRY_MIN_US), RETRY_MAX_US);
			memory->retry_at = rsl_now_us() + memory->retry_delay;
		}
	}
	rsl_worker_unreserve(index, generations[index]);
}

/*
 * Who is there?  Returns how many count, and those of them that could be asked
 * to leave.
 */
static int
look_at_workers(candidate *candidates, int *ncandidates, int *nreserved,
				int *nleaving)
{
	TimestampTz now = GetCurrentTimestamp();
	pid_t		late = 0;
	int			counted = 0;

	*ncandidates = *nreserved = *nleaving = 0;
	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES; i++)
	{
		rsl_worker *worker = &rsl_workers->entries[i];
		check_group *group;
		bool		idle;

		if (!worker->reserved)
			continue;
		(*nreserved)++;
		if (worker->terminated)
			continue;
		if (rsl_worker_is_late(worker, now))
			late = worker->pid;
		counted++;
		if (worker->asked_to_leave)
		{
			(*nleaving)++;
			continue;
		}
		idle = worker->pid != 0 &&
			pg_atomic_read_u64(&worker->idle_since) != 0;
		group = find_group(worker->database, worker->owner);
		if (group)
		{
			group->workers++;
			group->idle += idle ? 1 : 0;
			group->starting += worker->connected ? 0 : 1;
			/* also one that nobody has told of a new check */
			if (idle && group->oldest_due <= rsl_now_us())
				SetLatch(&GetPGProcByNumber(worker->slot)->procLatch);
		}
		candidates[*ncandidates].index = i;
		candidates[*ncandidates].generation = worker->generation;
		candidates[*ncandidates].idle = idle;
		candidates[*ncandidates].started = worker->started;
		candidates[(*ncandidates)++].group = group;
	}
	LWLockRelease(rsl_workers_lock);

	/* it should have come back long ago, whatever it does */
	if (late != 0)
		rsl_worker_terminate(late);
	return counted;
}

/* Are there events that a database's listeners have not been told of? */
static void
look_at_events(int64 now)
{
	uint64		last = rsl_event_last_id();
	bool		standby = RecoveryInProgress();

	for (int i = 0; i < RSL_MAX_DATABASES; i++)
	{
		rsl_database *database = &rsl_workers->databases[i];
		bool		has_worker = false;

		if (!OidIsValid(database->oid) || database->closed)
			continue;
		if (standby)
		{
			/* nobody can listen here */
			pg_atomic_write_u64(&database->notified, last);
			continue;
		}
		if (!rsl_notify_is_due(database, now))
			continue;
		LWLockAcquire(rsl_workers_lock, LW_SHARED);
		for (int w = RSL_WORKER_DATABASE; w < RSL_BOARD_ENTRIES; w++)
		{
			rsl_worker *worker = &rsl_workers->entries[w];

			if (!worker->reserved || worker->database != database->oid ||
				worker->asked_to_leave || worker->terminated)
				continue;
			has_worker = true;
			if (worker->pid != 0 &&
				pg_atomic_read_u64(&worker->idle_since) != 0)
				SetLatch(&GetPGProcByNumber(worker->slot)->procLatch);
		}
		LWLockRelease(rsl_workers_lock);
		/* one that comes for checks tells them, too */
		for (int g = 0; g < ngroups; g++)
			has_worker |= groups[g].database == database->oid;
		if (!has_worker && memory_of(database)->tell_at <= now)
			need_group(database->oid, InvalidOid)->oldest_due = now;
	}
}

static bool
start_worker(check_group *group, int64 now)
{
	BackgroundWorker worker = {0};
	uint32		generation;
	int			index = rsl_worker_reserve(group->database, group->owner,
										   &generation);

	if (index < 0)
		return false;
	snprintf(worker.bgw_name, BGW_MAXLEN, "resilience worker of database %u",
			 group->database);
	strlcpy(worker.bgw_type, "resilience worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "resilience",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "rsl_database_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(index);
	memcpy(worker.bgw_extra, &generation, sizeof(generation));
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handles[index]))
	{
		handles[index] = NULL;
		rsl_worker_unreserve(index, generation);
		no_worker_until = now + RETRY_MIN_US;
		last_refusal = now;
		if (pg_atomic_read_u64(&rsl_workers->no_worker_since) == 0)
		{
			pg_atomic_write_u64(&rsl_workers->no_worker_since,
								(uint64) GetCurrentTimestamp());
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("resilience cannot start a worker for health checks: no background worker is free"),
					 errhint("Raise \"max_worker_processes\". Checks that are not run become \"unknown\".")));
		}
		return false;
	}
	generations[index] = generation;
	group->workers++;
	group->starting++;
	if (!OidIsValid(group->owner))
		memory_of(rsl_database_find(group->database))->tell_at = now + TELL_EVERY_US;
	return true;
}

/* May a worker be started for this group now? */
static bool
may_start(const check_group *group, int64 now)
{
	rsl_database *database = rsl_database_find(group->database);

	return database != NULL && !database->closed &&
		memory_of(database)->retry_at <= now &&
		!rsl_database_is_barred(group->database);
}

/*
 * The group that needs a worker most: one that has none and whose checks are
 * due, then one whose checks nobody takes, then one that has none.
 */
static check_group *
neediest(int64 now, bool only_due)
{
	check_group *found = NULL;
	int			found_rank = 0;

	for (int g = 0; g < ngroups; g++)
	{
		check_group *group = &groups[g];
		int			rank = 0;

		if (group->workers == 0)
			rank = group->oldest_due <= now ? 3 : 1;
		else if (group->overdue > group->starting)
			rank = 2;
		if (rank == 0 || rank < found_rank || (only_due && rank == 1) ||
			(rank == found_rank && group->oldest_due >= found->oldest_due) ||
			!may_start(group, now))
			continue;
		found = group;
		found_rank = rank;
	}
	return found;
}

/*
 * Whoever is to leave for another group's sake: somebody who has nothing to
 * do, or, for a group that has waited for its turn without having any, who has
 * been here for the longest.  What it runs it ends first.
 */
static candidate *
choose_leaver(candidate *candidates, int ncandidates, const check_group *for_group,
			  int64 now)
{
	candidate  *found = NULL;
	bool		starving = for_group->workers == 0 &&
		now - for_group->oldest_due > TURN_US;

	for (int c = 0; c < ncandidates; c++)
	{
		candidate  *who = &candidates[c];

		if (who->index < 0 || who->group == for_group)
			continue;
		if (who->idle && (who->group == NULL || who->group->oldest_due > now))
			return who;
		if (starving &&
			TimestampDifferenceExceeds(who->started, GetCurrentTimestamp(),
									   TURN_US / 1000) &&
			(found == NULL || who->started < found->started))
			found = who;
	}
	return found;
}

static void
ask_to_leave(candidate *who)
{
	rsl_worker_ask_to_leave(who->index, who->generation, false);
	who->index = -1;
	if (who->group)
		who->group->workers--;
}

/* More databases have the extension than there is room for. */
static void
look_at_room(void)
{
	static uint32 told = 0;
	uint32		now = pg_atomic_read_u32(&rsl_workers->no_room);

	if (now != 0 && told == 0)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("resilience runs health checks and notifies of events in at most %d databases",
						RSL_MAX_DATABASES),
				 errhint("Drop the extension in databases that do not need it.")));
	told = now;
}

void
rsl_health_schedule_tick(void)
{
	candidate	candidates[RSL_BOARD_ENTRIES];
	int64		now = rsl_now_us();
	int			most = rsl_max_health_check_workers;
	int			ncandidates;
	int			nreserved;
	int			nleaving;
	int			counted;
	check_group *group;

	rsl_lift_orphaned_bars();
	look_at_room();
	rsl_check_runs_watch();
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES; i++)
		reap(i);

	ngroups = 0;
	look_at_checks(now);
	rsl_each_stop_condition(look_at_stop_condition);
	look_at_events(now);
	counted = look_at_workers(candidates, &ncandidates, &nreserved, &nleaving);

	/* the setting was lowered */
	for (int pass = 0; pass < 2; pass++)
	{
		for (int c = 0; c < ncandidates && counted - nleaving > most; c++)
		{
			if (candidates[c].index < 0 || (pass == 0 && !candidates[c].idle))
				continue;
			ask_to_leave(&candidates[c]);
			nleaving++;
		}
	}

	while (now >= no_worker_until && counted < most && nreserved < 2 * most &&
		   (group = neediest(now, false)) != NULL)
	{
		if (!start_worker(group, now))
			break;
		counted++;
		nreserved++;
	}
	if (counted < most && now >= no_worker_until)
	{
		/* all have what they need, and not only for a moment */
		if (now - last_refusal > SETTLED_US)
			pg_atomic_write_u64(&rsl_workers->no_worker_since, 0);
		return;
	}

	/* those who leave already make room */
	while ((group = neediest(now, true)) != NULL)
	{
		candidate  *who;

		if (nleaving > 0)
			nleaving--;
		else if ((who = choose_leaver(candidates, ncandidates, group, now)) != NULL)
			ask_to_leave(who);
		else
			break;
		/* it will have one */
		group->workers++;
		group->starting++;
	}
}
