/*-------------------------------------------------------------------------
 *
 * workers.h
 *		The extension's processes in shared memory, and which databases have
 *		the extension.
 *
 * The board has an entry for each process: launcher, prober and endpoint have
 * one of their own, the others are those of workers that are connected to a
 * database (see worker/database.c).  The launcher reserves such an entry
 * before it starts a worker; the worker leaves it when it has left the
 * database, so that nobody is there any more whom the board does not show.
 *
 * Less than 28 kB.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_WORKERS_H
#define RSL_SHARED_WORKERS_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"

/* the most that resilience.max_health_check_workers may be */
#define RSL_MAX_DATABASE_WORKERS	64

/* room for databases that have the extension; more get no workers */
#define RSL_MAX_DATABASES			256

/* commands that need a database for themselves, at once */
#define RSL_MAX_BARS				16

/* who has not been heard of for so long is late */
#define RSL_HEARTBEAT_LATE_MS		3000

typedef enum rsl_worker_kind
{
	RSL_WORKER_LAUNCHER = 0,
	RSL_WORKER_PROBER,
	RSL_WORKER_ENDPOINT,
	RSL_WORKER_DATABASE			/* this entry and all after it */
} rsl_worker_kind;

/*
 * Twice as many as may run checks: those that hang beyond all limits are not
 * counted, see worker/health_schedule.c.
 */
#define RSL_BOARD_ENTRIES	(RSL_WORKER_DATABASE + 2 * RSL_MAX_DATABASE_WORKERS)

/* 64 bytes. */
typedef struct rsl_worker
{
	/* workers lock */
	pid_t		pid;			/* 0 = nobody is here */
	uint32		generation;		/* names this use of the entry */
	bool		reserved;		/* somebody is here, or is about to come */
	bool		asked_to_leave; /* for another's sake: not its fault */
	bool		terminated;		/* was sent SIGTERM, as it does not come back */
	bool		connected;		/* has been; stays so when it has left */
	Oid			database;		/* InvalidOid = none */
	Oid			owner;			/* of the checks that it runs */
	int			slot;			/* of its PGPROC */
	TimestampTz started;

	/*
	 * Atomics, written by the process itself, TimestampTz: when it was last
	 * heard of, and when at the latest it will be again.
	 */
	pg_atomic_uint64 heartbeat;
	pg_atomic_uint64 next_heartbeat;

	/* atomic, the process itself: since when it has nothing to do; 0 = it has */
	pg_atomic_uint64 idle_since;
} rsl_worker;

/* A database that has the extension.  96 bytes. */
typedef struct rsl_database
{
	Oid			oid;			/* config lock; InvalidOid = free entry */
	char		name[NAMEDATALEN];	/* config lock; "" until the launcher, who
									 * writes it, has looked */
	bool		closed;			/* does not allow connections; launcher only */

	/*
	 * Atomics (worker/notify.c): which process tells its listeners, 0 = none;
	 * the last event that they were told of; and when they may be told again,
	 * microseconds, monotonic.
	 */
	pg_atomic_uint32 teller;
	pg_atomic_uint64 notified;
	pg_atomic_uint64 tell_after;
} rsl_database;

/* A command that needs a database for itself: workers stay away. */
typedef struct rsl_bar
{
	Oid			database;
	pid_t		pid;			/* who runs the command; 0 = free */
} rsl_bar;

typedef struct rsl_workers_shared
{
	/*
	 * Atomic, TimestampTz: since when workers are wanted in vain because
	 * max_worker_processes is used up; 0 = none was for 10 s.
	 */
	pg_atomic_uint64 no_worker_since;

	/* atomic: counts the databases for which there was no room */
	pg_atomic_uint32 no_room;

	rsl_worker	entries[RSL_BOARD_ENTRIES];
	rsl_bar		bars[RSL_MAX_BARS]; /* workers lock */
	rsl_database databases[RSL_MAX_DATABASES];
} rsl_workers_shared;

extern rsl_workers_shared *rsl_workers;

extern Size rsl_workers_shmem_size(void);
extern void rsl_workers_shmem_place(void *memory);
extern void rsl_workers_shmem_init(void);

/* The process is at work from now on, until it exits.  Not for databases'. */
extern void rsl_worker_attach(rsl_worker_kind kind);

/*
 * The process that has attached or arrived lives, and will be heard of again
 * within so many milliseconds from now.
 */
extern void rsl_worker_beat(int64 within_ms);

/* Is somebody there who has not been heard of for too long? */
extern bool rsl_worker_is_late(rsl_worker *worker, TimestampTz now);

/*
 * Workers of databases.  The launcher reserves an entry (-1: there is none, or
 * the database is barred) and starts a worker with the entry's number and
 * generation.  The worker arrives (false: it has to go).  Nothing of it is in
 * the database any more when its entry is free again.
 */
extern int	rsl_worker_reserve(Oid database, Oid owner, uint32 *generation);
extern void rsl_worker_unreserve(int index, uint32 generation);
extern bool rsl_worker_arrive(int index, uint32 generation);

/* Whose entry is it?  The process's own; NULL before it has arrived. */
extern rsl_worker *rsl_my_worker;

/* Ask a worker to leave, at once if it is "now": what it runs is cut off. */
extern void rsl_worker_ask_to_leave(int index, uint32 generation, bool now);

/* End a worker that does not end its run. */
extern void rsl_worker_terminate(pid_t pid);

/* Is there a worker of this process id? */
extern bool rsl_worker_is_here(pid_t pid);

/*
 * A command needs a database for itself: no worker comes to it until the bars
 * of this process are lifted, or the process is gone.  Returns how many
 * workers are still there; they were told to go at once.
 */
extern int	rsl_bar_database(Oid database);
extern int	rsl_count_workers(Oid database);
extern void rsl_lift_bars(void);
extern void rsl_lift_orphaned_bars(void);
extern bool rsl_database_is_barred(Oid database);

/* Databases that have the extension; config lock held exclusively. */
extern void rsl_database_put(Oid database);
extern void rsl_database_remove(Oid database);

/*
 * Its name, for those without a connection to a database: its OID when it is
 * not known yet.  "name" has NAMEDATALEN bytes.  Takes the config lock shared.
 */
extern void rsl_database_name(Oid database, char *name);

/* NULL when it has none, or there was no room.  Needs no lock. */
extern rsl_database *rsl_database_find(Oid database);

#endif							/* RSL_SHARED_WORKERS_H */
