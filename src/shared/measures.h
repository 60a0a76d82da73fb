/*-------------------------------------------------------------------------
 *
 * measures.h
 *		Counts that only metrics need: histograms, and times of the whole.
 *
 * About 1.2 kB.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_MEASURES_H
#define RSL_SHARED_MEASURES_H

#include "core/buckets.h"
#include "core/state_clock.h"
#include "shared/layout.h"
#include "storage/spin.h"

/* What comes back to its good state. */
typedef enum rsl_recovery_kind
{
	RSL_RECOVERY_BREAKER = 0,
	RSL_RECOVERY_CHECK,
	RSL_RECOVERY_FEATURE,
	RSL_RECOVERY_SHEDDING,
	RSL_RECOVERY_SERVER,
	RSL_NUM_RECOVERIES
} rsl_recovery_kind;

/* Atomics. */
typedef struct rsl_measured
{
	pg_atomic_uint64 buckets[RSL_BUCKET_BOUNDS + 1];	/* not cumulative */
	pg_atomic_uint64 sum_us;
} rsl_measured;

typedef struct rsl_measures_shared
{
	rsl_measured recovery[RSL_NUM_RECOVERIES];

	/* of those that had to wait for the server-wide limit */
	rsl_measured waits[RSL_NUM_PRIORITIES];

	/* atomics: how many of them were admitted in the end */
	pg_atomic_uint64 admitted_waits[RSL_NUM_PRIORITIES];

	/*
	 * Atomics, written while the statistics lock is held: the most that
	 * anybody was told of those who were admitted at once, so that nobody is
	 * told less.
	 */
	pg_atomic_uint64 told_at_once[RSL_NUM_PRIORITIES];

	slock_t		mutex;			/* of what follows; held for some instructions */
	rsl_state_clock health;		/* of the whole, by rsl_health_status */
	rsl_state_clock shedding;	/* 0 = not, 1 = shedding */
	int64		ill_since_us;	/* the whole is not healthy; 0 = it is */
} rsl_measures_shared;

extern rsl_measures_shared *rsl_measures;

extern Size rsl_measures_shmem_size(void);
extern void rsl_measures_shmem_place(void *memory);
extern void rsl_measures_shmem_init(void);

/*
 * Something was not well for so long, and is well again.  Takes no lock: also
 * while a spinlock is held.
 */
extern void rsl_measure_recovery(rsl_recovery_kind kind, int64 us);
extern void rsl_measure_wait(int priority, int64 us, bool admitted);

/* The launcher. */
extern void rsl_measure_health(int status);
extern void rsl_measure_shedding(bool shedding);

/*
 * How many transactions were admitted at once, of so many that were admitted
 * at all.  "admitted" was read while the statistics lock is held, which still
 * is.  Never less than before.
 */
extern uint64 rsl_measures_at_once(int priority, int64 admitted);

/* Statistics lock held exclusively. */
extern void rsl_measures_reset(void);

#endif							/* RSL_SHARED_MEASURES_H */
