/*-------------------------------------------------------------------------
 *
 * breakers.h
 *		Circuit breakers in shared memory, and calls that pass them.
 *
 * The state machine (core/breaker_state.h) lies behind a spinlock of its own
 * for each breaker.  The gate is a copy of what a call has to know, read
 * without the lock: while the breaker is closed, that one read is all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_BREAKERS_H
#define RSL_SHARED_BREAKERS_H

#include "compat.h"

#include "core/breaker_state.h"
#include "core/state_clock.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "shared/layout.h"
#include "storage/latch.h"
#include "storage/spin.h"

/* elements of ignored_sqlstates and recorded_sqlstates */
#define RSL_MAX_SQLSTATES		16

/* bytes of the conninfo string for the prober, with the final zero */
#define RSL_PROBE_TARGET_LEN	320

/* bytes kept of an error message, with the final zero */
#define RSL_LAST_ERROR_LEN		128

typedef enum rsl_on_open
{
	RSL_ON_OPEN_ERROR = 0,
	RSL_ON_OPEN_FALLBACK,
	RSL_ON_OPEN_EMPTY
} rsl_on_open;

/*
 * A class is written with two characters, a condition with five.  Elements
 * are encoded as by MAKE_SQLSTATE, which leaves the upper two bits free; a
 * class has zeroes ('0') in the other three places and RSL_SQLSTATE_CLASS set.
 */
#define RSL_SQLSTATE_CLASS		(1 << 30)

typedef struct rsl_sqlstate_list
{
	int32		count;			/* -1 = not given (NULL) */
	int32		elements[RSL_MAX_SQLSTATES];
} rsl_sqlstate_list;

/*
 * One row of the extension's table with its names resolved.  Also a unit of
 * the snapshot file: change RSL_SNAPSHOT_FORMAT when this changes.  All
 * bytes count in comparisons: start from zeroes.
 */
typedef struct rsl_breaker_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* where the table with the row lives */
	Oid			server;			/* InvalidOid = a generic breaker */
	char		server_name[NAMEDATALEN];	/* "" = generic */
	uint32		server_hash;	/* of its syscache entry, for invalidations */
	int32		mode;			/* rsl_mode */
	int32		force;			/* rsl_breaker_force */
	int32		on_open;		/* rsl_on_open */
	int32		call_timeout_ms;	/* 0 = none */
	int32		max_concurrent_calls;	/* -1 = any number */
	rsl_breaker_config config;	/* config.probe: wanted, and can be done */
	bool		probe_wanted;	/* as given by the user */
	rsl_sqlstate_list ignored;
	rsl_sqlstate_list recorded;
	char		probe_target[RSL_PROBE_TARGET_LEN]; /* conninfo; "" = none */
} rsl_breaker_policy;

/* The gate's word: the generation above, flags and position below. */
#define RSL_GATE_POSITION(w)	((rsl_breaker_position) ((w) & 3))
#define RSL_GATE_FORCE(w)		((rsl_breaker_force) (((w) >> 2) & 3))
#define RSL_GATE_GENERATION(w)	((uint32) ((w) >> 32))
#define RSL_GATE_MODE(w)		((rsl_mode) (((w) >> 4) & 3))

typedef struct rsl_breaker
{
	/*
	 * Atomic: generation, mode, force and effective position.  Written under
	 * the mutex.
	 */
	pg_atomic_uint64 gate;

	/* atomics: copies of policy fields that calls read */
	pg_atomic_uint32 max_concurrent_calls;	/* int32 inside; -1 = any */
	pg_atomic_uint32 call_timeout_ms;	/* 0 = none */
	pg_atomic_uint32 on_open;	/* rsl_on_open */
	pg_atomic_uint32 uid;		/* names this use of the entry; 0 = free */

	/* atomic: calls that are under way */
	pg_atomic_uint32 in_flight;

	slock_t		mutex;

	/* mutex, held for some dozens of instructions */
	rsl_breaker_state state;
	rsl_state_clock clock;		/* of effective positions */
	int64		not_closed_us;	/* since when it is not closed; 0 = it is */
	TimestampTz last_failure_at;	/* 0 = none yet */
	TimestampTz last_probe_at;	/* 0 = none yet */
	char		last_probe_result[32];
	char		last_error[RSL_LAST_ERROR_LEN];
	int32		last_sqlstate;

	/* config lock */
	bool		published;		/* false while free or draining */

	/* config lock and mutex, both to change it: either is enough to read */
	rsl_breaker_policy policy;

	/* atomics: totals since the last reset_statistics() */
	pg_atomic_uint64 successes;
	pg_atomic_uint64 failures;
	pg_atomic_uint64 slow;
	pg_atomic_uint64 ignored;	/* calls that ended with neither */
	pg_atomic_uint64 superseded;	/* results of an older generation */
	pg_atomic_uint64 timed_out; /* by call_timeout; failures as well */
	pg_atomic_uint64 rejected;	/* breaker open (also: would have been) */
	pg_atomic_uint64 rejected_full; /* max_concurrent_calls */
	pg_atomic_uint64 fallbacks; /* statements planned with the fallback, or
								 * answered with no rows */
	pg_atomic_uint64 probes;
	pg_atomic_uint64 failed_probes;

	/* atomic: when a rejection was last logged, in ticks */
	pg_atomic_uint32 last_logged;

	/* the prober's own: what it has announced, and of whom */
	uint64		announced_gate;
	uint32		announced_uid;
	Oid			announced_database; /* InvalidOid = there is no server */
	uint32		announced_hash;
}			pg_attribute_aligned(64)
rsl_breaker;

/*
 * Which call is a session in at this moment?  One for each session, written
 * by it alone without a lock: the sequence number is odd while it is inside
 * the foreign data wrapper, and changes with each row.  The prober, looking
 * ten times a second, sees who has been in there for too long, and counts
 * the call as slow before it has ended: calls that hang would otherwise never
 * be noticed.
 */
typedef struct rsl_call_board
{
	pg_atomic_uint32 sequence;
	pg_atomic_uint32 breaker;	/* index + 1; 0 = none */
	pg_atomic_uint32 generation;	/* of the call's permit */

	/* the prober's: sequence number that it has counted as slow */
	pg_atomic_uint32 counted;
} rsl_call_board;

typedef struct rsl_breakers_shared
{
	int			nbreakers;		/* physical entries */
	int			max_breakers;	/* resilience.max_breakers */
	pg_atomic_uint64 generation;	/* of the published breakers */
	pg_atomic_uint32 npublished;
	uint32		last_uid;		/* config lock */

	/* atomic: prober's process number + 1, to set its latch; 0 = none */
	pg_atomic_uint32 prober;

	/* atomic: when it has looked at the breakers last, us, monotonic */
	pg_atomic_uint64 prober_looked;
} rsl_breakers_shared;

extern rsl_breakers_shared *rsl_breakers_shmem; /* NULL: not preloaded */
extern rsl_breaker *rsl_breakers;
extern rsl_call_board *rsl_call_boards;

/* Entries beyond resilience.max_breakers, for dropped ones still in use. */
#define RSL_DRAINING_BREAKERS	8

/* shmem.c calls these */
extern Size rsl_breakers_shmem_size(void);
extern void rsl_breakers_shmem_place(void *where);
extern void rsl_breakers_shmem_init(void);

/*
 * A call, in the memory of the backend that makes it.
 */
typedef struct rsl_call
{
	int			breaker;		/* index */
	uint32		uid;
	rsl_breaker_permit permit;
	rsl_mode	mode;			/* as at the start of the call */
	bool		in_flight;		/* counted there */
} rsl_call;

typedef enum rsl_admittance
{
	RSL_ADMITTED = 0,
	RSL_REJECTED_OPEN,
	RSL_REJECTED_FULL
} rsl_admittance;

/* What the error of a rejected call says. */
typedef struct rsl_breaker_numbers
{
	char		name[NAMEDATALEN];
	char		server_name[NAMEDATALEN];
	rsl_breaker_position position;
	rsl_breaker_force force;
	uint32		consecutive_failures;
	int32		last_sqlstate;	/* 0 = none */
	int32		in_flight;
	int32		max_concurrent_calls;
	int64		retry_after_ms; /* 0 = by command only */
} rsl_breaker_numbers;

/* Look-ups: -1 when there is none.  Take the config lock shared. */
extern int	rsl_breaker_of_server(Oid server);
extern int	rsl_breaker_by_name(const char *name);

/* Does this breaker let calls through at the moment, as far as one can see? */
extern bool rsl_breaker_blocks(int breaker);

extern rsl_admittance rsl_call_enter(rsl_call *call, int breaker, bool nested,
									 bool in_trial);
extern void rsl_call_leave(rsl_call *call, rsl_call_outcome outcome, bool slow,
						   int sqlstate, const char *message);
extern void rsl_call_rejected(int breaker, rsl_breaker_numbers *numbers);

/* Commands, and the prober's entries. */
extern void rsl_breaker_command_reset(int breaker);
extern void rsl_breaker_count_hanging(int breaker, uint32 generation);
extern void rsl_breaker_probe_done(int breaker, uint32 uid, uint32 generation,
								   bool alive, const char *result);
extern void rsl_breaker_reset_statistics(int breaker);

/* Publishing: config lock held exclusively. */
extern void rsl_breaker_put(rsl_breaker *breaker, const rsl_breaker_policy *policy,
							bool is_new);
extern void rsl_breaker_retire(rsl_breaker *breaker);

#endif							/* RSL_SHARED_BREAKERS_H */
