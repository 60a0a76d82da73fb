/*-------------------------------------------------------------------------
 *
 * workers.c
 *		The extension's processes in shared memory, and which databases have
 *		the extension.
 *
 * See workers.h.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <signal.h>

#include "shared/events.h"
#include "shared/layout.h"
#include "shared/workers.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

rsl_workers_shared *rsl_workers = NULL;
rsl_worker *rsl_my_worker = NULL;

Size
rsl_workers_shmem_size(void)
{
	return CACHELINEALIGN(sizeof(rsl_workers_shared));
}

void
rsl_workers_shmem_place(void *memory)
{
	rsl_workers = memory;
}

/* The memory is zero. */
void
rsl_workers_shmem_init(void)
{
	pg_atomic_init_u64(&rsl_workers->no_worker_since, 0);
	for (int i = 0; i < RSL_BOARD_ENTRIES; i++)
	{
		pg_atomic_init_u64(&rsl_workers->entries[i].heartbeat, 0);
		pg_atomic_init_u64(&rsl_workers->entries[i].next_heartbeat, 0);
		pg_atomic_init_u64(&rsl_workers->entries[i].idle_since, 0);
	}
	for (int i = 0; i < RSL_MAX_DATABASES; i++)
	{
		pg_atomic_init_u64(&rsl_workers->databases[i].notified, 0);
		pg_atomic_init_u64(&rsl_workers->databases[i].tell_after, 0);
	}
}

/*
 * Processes
 */

/*
 * Runs after the process has left the list of those that are connected to a
 * database, since it was registered before the process was put there.
 */
static void
leave_board(int code, Datum arg)
{
	rsl_worker *worker = rsl_my_worker;

	rsl_my_worker = NULL;
	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	worker->pid = 0;
	worker->reserved = false;
	LWLockRelease(rsl_workers_lock);
}

/* Workers lock held exclusively. */
static void
occupy(rsl_worker *worker)
{
	worker->pid = MyProcPid;
	worker->slot = rsl_my_slot_number();
	worker->started = GetCurrentTimestamp();
	pg_atomic_write_u64(&worker->idle_since, 0);
	rsl_my_worker = worker;
	rsl_worker_beat(RSL_HEARTBEAT_LATE_MS);
}

void
rsl_worker_attach(rsl_worker_kind kind)
{
	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	occupy(&rsl_workers->entries[kind]);
	LWLockRelease(rsl_workers_lock);
	on_shmem_exit(leave_board, (Datum) 0);
}

void
rsl_worker_beat(int64 within_ms)
{
	TimestampTz now = GetCurrentTimestamp();

	if (rsl_my_worker == NULL)
		return;
	pg_atomic_write_u64(&rsl_my_worker->heartbeat, (uint64) now);
	pg_atomic_write_u64(&rsl_my_worker->next_heartbeat,
						(uint64) TimestampTzPlusMilliseconds(now, within_ms));
}

bool
rsl_worker_is_late(rsl_worker *worker, TimestampTz now)
{
	return worker->pid != 0 &&
		now > (TimestampTz) pg_atomic_read_u64(&worker->next_heartbeat);
}

/* Workers lock held. */
static bool
is_barred(Oid database)
{
	for (int i = 0; i < RSL_MAX_BARS; i++)
	{
		if (rsl_workers->bars[i].pid != 0 &&
			rsl_workers->bars[i].database == database)
			return true;
	}
	return false;
}

int
rsl_worker_reserve(Oid database, Oid owner, uint32 *generation)
{
	int			index = -1;

	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES && index < 0; i++)
	{
		if (!rsl_workers->entries[i].reserved)
			index = i;
	}
	if (index >= 0 && is_barred(database))
		index = -1;
	if (index >= 0)
	{
		rsl_worker *worker = &rsl_workers->entries[index];

		*generation = ++worker->generation;
		worker->pid = 0;
		worker->reserved = true;
		worker->asked_to_leave = worker->terminated = false;
		worker->connected = false;
		worker->database = database;
		worker->owner = owner;
		worker->started = GetCurrentTimestamp();
	}
	LWLockRelease(rsl_workers_lock);
	return index;
}

/* The worker did not come, or went before it arrived. */
void
rsl_worker_unreserve(int index, uint32 generation)
{
	rsl_worker *worker = &rsl_workers->entries[index];

	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	if (worker->generation == generation && worker->pid == 0)
		worker->reserved = false;
	LWLockRelease(rsl_workers_lock);
}

bool
rsl_worker_arrive(int index, uint32 generation)
{
	rsl_worker *worker = &rsl_workers->entries[index];
	bool		welcome;

	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	welcome = worker->reserved && worker->generation == generation &&
		worker->pid == 0 && !worker->asked_to_leave &&
		!is_barred(worker->database);
	if (welcome)
		occupy(worker);
	LWLockRelease(rsl_workers_lock);
	if (welcome)
		on_shmem_exit(leave_board, (Datum) 0);
	return welcome;
}

/* Workers lock held, so that the process id is still that of the worker. */
static void
tell_to_go(rsl_worker *worker, bool now)
{
	worker->asked_to_leave = true;
	if (worker->pid == 0)
		return;
	if (now)
		kill(worker->pid, SIGTERM);
	else
		SetLatch(&GetPGProcByNumber(worker->slot)->procLatch);
}

void
rsl_worker_ask_to_leave(int index, uint32 generation, bool now)
{
	rsl_worker *worker = &rsl_workers->entries[index];

	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	if (worker->reserved && worker->generation == generation)
		tell_to_go(worker, now);
	LWLockRelease(rsl_workers_lock);
}

/* Workers lock held. */
static rsl_worker *
find_worker(pid_t pid)
{
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES; i++)
	{
		if (rsl_workers->entries[i].pid == pid)
			return &rsl_workers->entries[i];
	}
	return NULL;
}

void
rsl_worker_terminate(pid_t pid)
{
	rsl_worker *worker;

	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	worker = find_worker(pid);
	if (worker && !worker->terminated)
	{
		worker->terminated = true;
		kill(pid, SIGTERM);
	}
	LWLockRelease(rsl_workers_lock);
}

bool
rsl_worker_is_here(pid_t pid)
{
	bool		found;

	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	found = find_worker(pid) != NULL;
	LWLockRelease(rsl_workers_lock);
	return found;
}

/*
 * Bars
 */

int
rsl_bar_database(Oid database)
{
	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < RSL_MAX_BARS; i++)
	{
		rsl_bar    *bar = &rsl_workers->bars[i];

		if (bar->pid == 0 ||
			(bar->pid == MyProcPid && bar->database == database))
		{
			bar->database = database;
			bar->pid = MyProcPid;
			break;
		}
	}
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES; i++)
	{
		rsl_worker *worker = &rsl_workers->entries[i];

		if (worker->reserved && worker->database == database)
			tell_to_go(worker, true);
	}
	LWLockRelease(rsl_workers_lock);
	return rsl_count_workers(database);
}

int
rsl_count_workers(Oid database)
{
	int			n = 0;

	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES; i++)
	{
		rsl_worker *worker = &rsl_workers->entries[i];

		if (worker->pid != 0 && worker->database == database)
			n++;
	}
	LWLockRelease(rsl_workers_lock);
	return n;
}

void
rsl_lift_bars(void)
{
	LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < RSL_MAX_BARS; i++)
	{
		if (rsl_workers->bars[i].pid == MyProcPid)
			rsl_workers->bars[i].pid = 0;
	}
	LWLockRelease(rsl_workers_lock);
}

/* Called by the launcher: those of processes that are gone. */
void
rsl_lift_orphaned_bars(void)
{
	for (int i = 0; i < RSL_MAX_BARS; i++)
	{
		pid_t		pid = rsl_workers->bars[i].pid;

		if (pid == 0 || BackendPidGetProc(pid) != NULL)
			continue;
		LWLockAcquire(rsl_workers_lock, LW_EXCLUSIVE);
		if (rsl_workers->bars[i].pid == pid)
			rsl_workers->bars[i].pid = 0;
		LWLockRelease(rsl_workers_lock);
	}
}

bool
rsl_database_is_barred(Oid database)
{
	bool		barred;

	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	barred = is_barred(database);
	LWLockRelease(rsl_workers_lock);
	return barred;
}

/*
 * Databases
 */

rsl_database *
rsl_database_find(Oid database)
{
	for (int i = 0; i < RSL_MAX_DATABASES; i++)
	{
		if (rsl_workers->databases[i].oid == database)
			return &rsl_workers->databases[i];
	}
	return NULL;
}

/* Listeners of a database that is new hear of what happens from now on. */
void
rsl_database_put(Oid database)
{
	rsl_database *entry;

	if (rsl_database_find(database) != NULL)
		return;
	entry = rsl_database_find(InvalidOid);
	if (entry == NULL)
	{
		pg_atomic_fetch_add_u32(&rsl_workers->no_room, 1);
		return;
	}
	entry->closed = false;
	entry->name[0] = '\0';
	pg_atomic_write_u32(&entry->teller, 0);
	pg_atomic_write_u64(&entry->notified, rsl_event_last_id());
	pg_atomic_write_u64(&entry->tell_after, 0);
	pg_write_barrier();
	entry->oid = database;
}

void
rsl_database_remove(Oid database)
{
	rsl_database *entry = rsl_database_find(database);

	if (entry != NULL)
		entry->oid = InvalidOid;
}

void
rsl_database_name(Oid database, char *name)
{
	rsl_database *entry;

	name[0] = '\0';
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	entry = rsl_database_find(database);
	if (entry != NULL)
		strlcpy(name, entry->name, NAMEDATALEN);
	LWLockRelease(rsl_config_lock);
	if (name[0] == '\0')
		snprintf(name, NAMEDATALEN, "%u", database);
}
