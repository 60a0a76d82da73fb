/*-------------------------------------------------------------------------
 *
 * health_board.h
 *		What the launcher has seen of each component's health.
 *
 * A component's status can be read from the component itself at any time; since
 * when it has that status, only somebody knows who looks all the time.  That is
 * the launcher, and nobody else writes here.  Readers take no lock, but for the
 * samples.
 *
 * 14 kB with the default settings: 16 bytes for each bulkhead, breaker, health
 * check, feature, degradation, runaway rule and worker, and 4 kB of samples.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_HEALTH_BOARD_H
#define RSL_SHARED_HEALTH_BOARD_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "shared/health.h"
#include "storage/spin.h"

/* the launcher is taken for dead when it has not looked for so long */
#define RSL_LAUNCHER_DEAD_MS	3000

/* what components there are, in the order of the view "health" */
typedef enum rsl_component_kind
{
	RSL_COMPONENT_LOAD_SHEDDER = 0,
	RSL_COMPONENT_WORKER,
	RSL_COMPONENT_HEALTH_CHECK,
	RSL_COMPONENT_BREAKER,
	RSL_COMPONENT_BULKHEAD,
	RSL_COMPONENT_FEATURE,
	RSL_COMPONENT_DEGRADATION,
	RSL_COMPONENT_RUNAWAY_RULE,
	RSL_NUM_COMPONENT_KINDS
} rsl_component_kind;

/* components of the kind "worker"; those of databases are one together */
typedef enum rsl_worker_component
{
	RSL_COMPONENT_LAUNCHER = 0,
	RSL_COMPONENT_PROBER,
	RSL_COMPONENT_ENDPOINT,
	RSL_COMPONENT_DATABASE_WORKERS,
	RSL_NUM_WORKER_COMPONENTS
} rsl_worker_component;

/* What was seen of one component.  Atomics. */
typedef struct rsl_board_entry
{
	/*
	 * uid << 32 | rsl_health_status; 0 = never seen.  Written after "since",
	 * and read before it.
	 */
	pg_atomic_uint64 word;
	pg_atomic_uint64 since;		/* TimestampTz, of the status */
} rsl_board_entry;

#define RSL_ENTRY_UID(w)		((uint32) ((w) >> 32))
#define RSL_ENTRY_STATUS(w)		((rsl_health_status) ((w) & 3))

#define RSL_NUM_SAMPLES			128

/* rsl_sample.cpu_idle: this machine does not tell */
#define RSL_SAMPLE_NO_IDLE		PG_UINT16_MAX

/*
 * One second of the server's life.  Rates are of the time since the sample
 * before.  There is none of the seconds in which the launcher did not run.
 */
typedef struct rsl_sample
{
	TimestampTz at;
	int32		running;		/* transactions */
	int32		waiting;		/* for the server-wide limit or a bulkhead */
	int32		limit;			/* the server-wide limit in force; -1 = none */
	uint32		admitted;		/* transactions per second */
	uint32		refused;		/* statements and connections per second, by
								 * whatever limit */
	uint16		cpu_idle;		/* thousandths of all cores' time */
	uint8		status;			/* rsl_health_status of the whole */
} rsl_sample;

typedef struct rsl_board
{
	/*
	 * Atomics: when the launcher has looked last, first since the server's
	 * start or crash, and how long that takes on average.
	 */
	pg_atomic_uint64 looked_us; /* microseconds, monotonic; 0 = never */
	pg_atomic_uint64 looked_at; /* TimestampTz */
	pg_atomic_uint64 first_look_at; /* TimestampTz */
	pg_atomic_uint32 look_ns;

	/* atomic: resilience.mode (rsl_mode) as the launcher has it */
	pg_atomic_uint32 mode;

	/*
	 * Atomics, of the load shedder: how many it has refused in the last
	 * second, and when its queue was long last (microseconds, monotonic).
	 */
	pg_atomic_uint32 shed;
	pg_atomic_uint64 long_queue_us;

	/*
	 * Atomics, for the panic rule: how many health checks have run, how many
	 * of them were cut off in their last run, and whether those are so many
	 * that the one who checks is suspected (0 or 1).
	 */
	pg_atomic_uint32 checks;
	pg_atomic_uint32 cut_off;
	pg_atomic_uint32 suspect;

	/* mutex, held to copy samples */
	slock_t		mutex;
	uint32		nsamples;		/* ever taken; modulo: the next one's place */
	rsl_sample	samples[RSL_NUM_SAMPLES];

	/* constant: how many entries each kind has */
	int			counts[RSL_NUM_COMPONENT_KINDS];
	rsl_board_entry entries[FLEXIBLE_ARRAY_MEMBER];
} rsl_board;

extern rsl_board *rsl_health_board;

extern Size rsl_board_shmem_size(void);
extern void rsl_board_shmem_place(void *memory);
extern void rsl_board_shmem_init(void);

extern rsl_board_entry *rsl_board_entry_of(rsl_component_kind kind, int index);

/* The launcher. */
extern void rsl_sample_put(const rsl_sample *sample);

#endif							/* RSL_SHARED_HEALTH_BOARD_H */
