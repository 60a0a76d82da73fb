/*-------------------------------------------------------------------------
 *
 * features.h
 *		Features and degradations in shared memory.
 *
 * Features are read without a lock by everybody who asks whether one is
 * enabled; the launcher moves their states ten times a second.  768 bytes for
 * each feature, about 600 for each degradation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_FEATURES_H
#define RSL_SHARED_FEATURES_H

#include "compat.h"

#include "core/dimmer.h"
#include "core/hysteresis.h"
#include "core/state_clock.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "shared/layout.h"
#include "storage/spin.h"

/* bytes kept of a reason, with the final zero */
#define RSL_FEATURE_REASON_LEN		128

typedef enum rsl_feature_state
{
	RSL_FEATURE_ON = 0,
	RSL_FEATURE_DEGRADED,		/* by its check, breaker, or the load */
	RSL_FEATURE_OFF				/* by command, or expired */
} rsl_feature_state;

/* As other policies: one row of the table, and a unit of the snapshot file. */
typedef struct rsl_feature_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;
	Oid			owner;			/* as whom its fallback_sql runs */
	char		health_check[NAMEDATALEN];	/* "" = none */
	char		breaker[NAMEDATALEN];	/* "" = none */
	char		reason[RSL_FEATURE_REASON_LEN]; /* of set_feature() */
	int32		minimum_priority;	/* rsl_priority under load; -1 = none */
	int32		failure_threshold;	/* bad looks to leave "on" */
	int32		success_threshold;	/* good ones to return */
	int32		min_degraded_ms;	/* and this long at least */
	int32		dimmer_target_ms;	/* set-point of the queue wait */
	bool		enabled;
	bool		dimmable;
	bool		has_fallback;
	bool		fallback_on_error;
	TimestampTz expires_at;		/* or DT_NOEND */
} rsl_feature_policy;

typedef struct rsl_feature
{
	/*
	 * Read by every call, so that nothing which is written often is in the
	 * same cache line.  Atomics, written by whoever publishes and by the
	 * launcher: names this use of the entry, 0 = free; the state
	 * (rsl_feature_state); the priority that the load asks for, -1 = none;
	 * the share of calls that is served in full, of RSL_DIMMER_ALL.
	 */
	pg_atomic_uint32 uid;
	pg_atomic_uint32 state;
	pg_atomic_uint32 minimum_priority;
	pg_atomic_uint32 dimmer;

	/*
	 * Atomic: how many calls may still pass although the feature is degraded,
	 * so that the breaker it is coupled to gets its trials.  Set by the
	 * launcher, counted down by who passes.
	 */
	pg_atomic_uint32 trials;

	/* config lock */
	rsl_feature_policy policy;
	bool		published;

	/*
	 * What the launcher has seen; it writes this under the config lock
	 * shared, publishers under the same lock exclusive.
	 */
	rsl_hysteresis by_check;
	rsl_hysteresis by_breaker;
	TimestampTz last_look;		/* end of the check's run that was seen last */
	int64		next_look;		/* at the breaker; us, monotonic */
	TimestampTz by_load;		/* since when an event has told that the load
								 * limits it; 0 = it does not */
	int64		loaded_us;		/* when it was last seen to; us, monotonic */

	slock_t		mutex;

	/* mutex */
	TimestampTz since;			/* of the state */
	int64		since_us;		/* monotonic */
	rsl_state_clock clock;
	int64		not_on_us;		/* since when it is not on; 0 = it is */
	char		reason[RSL_FEATURE_REASON_LEN]; /* of the state; "" = none */

	/* atomics: totals since the last reset_statistics() */
	pg_atomic_uint64 evaluations;
	pg_atomic_uint64 degraded;	/* evaluations that said no */
	pg_atomic_uint64 fallbacks;
	pg_atomic_uint64 fallback_failures;
	pg_atomic_uint64 primary_failures;
}			pg_attribute_aligned(64)
rsl_feature;

/*
 * The dimmer's decision about one call: "hash" is that of a key, which makes
 * it the same for all calls with that key, or any random number.  Who was
 * served with a smaller share is served with a larger one.
 */
static inline bool
rsl_feature_serves(const rsl_feature *feature, uint32 hash)
{
	return rsl_dimmer_serves(pg_atomic_read_u32((pg_atomic_uint32 *) &feature->dimmer),
							 hash);
}

typedef struct rsl_features_shared
{
	int			max_features;	/* resilience.max_features; constant */
	uint32		last_uid;		/* config lock */
	pg_atomic_uint64 generation;	/* of the published features */
	pg_atomic_uint32 npublished;
	rsl_feature features[FLEXIBLE_ARRAY_MEMBER];
} rsl_features_shared;

/* bytes of a degradation's settings: name, value, name, value, each with zero */
#define RSL_DEGRADATION_SETTINGS_LEN	400

/* how many settings one degradation may have */
#define RSL_MAX_DEGRADATION_SETTINGS	16

/* When a degradation holds. */
typedef enum rsl_load_state
{
	RSL_WHEN_LOADED = 0,		/* rsl_server_is_loaded() */
	RSL_WHEN_SHEDDING,			/* work was refused within the last second */
	RSL_WHEN_DEGRADED,			/* health of the whole: degraded or worse */
	RSL_WHEN_UNHEALTHY
} rsl_load_state;

typedef struct rsl_degradation_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* whose transactions it is about */
	int32		when_state;		/* rsl_load_state */
	int32		priority;		/* rsl_priority: it and those below */
	int32		nsettings;
	bool		enabled;
	char		settings[RSL_DEGRADATION_SETTINGS_LEN];
} rsl_degradation_policy;

typedef struct rsl_degradation
{
	/* config lock */
	rsl_degradation_policy policy;
	bool		published;

	pg_atomic_uint32 uid;		/* atomic: names this use; 0 = free */

	/* launcher */
	TimestampTz since;			/* that it holds, or does not */
	int64		since_us;
	rsl_state_clock clock;		/* 0 = does not hold, 1 = holds */
	uint32		good;			/* looks in a row without the state */

	/* atomics: totals */
	pg_atomic_uint64 transactions;	/* to which it was applied */
	pg_atomic_uint64 skipped;	/* settings that were not */

	/* atomic: bit i = that setting i is not accepted has been logged */
	pg_atomic_uint32 logged;
} rsl_degradation;

typedef struct rsl_degradations_shared
{
	int			max_degradations;	/* resilience.max_degradations; at most 32 */
	uint32		last_uid;		/* config lock */

	/*
	 * Atomics: bit i = degradation i holds.  Read by each transaction; 0
	 * nearly always.  The generation is that of the published ones.
	 */
	pg_atomic_uint32 active;
	pg_atomic_uint64 generation;
	rsl_degradation degradations[FLEXIBLE_ARRAY_MEMBER];
} rsl_degradations_shared;

/*
 * What this backend's transaction has to do with degradations; see
 * degradation/degrade.c.  Decided: it does not ask again.  Bit i of
 * degraded_by: degradation i was applied to it.  plans_degraded: for which
 * settings this session's cached plans were made; 0 = for its own.
 */
extern bool rsl_degradation_decided;
extern uint32 rsl_degraded_by;
extern uint32 rsl_plans_degraded;

/* Decide for a transaction of this priority; NULL without degradations. */
extern void (*rsl_degrade_transaction) (int priority);

extern rsl_features_shared *rsl_features;
extern rsl_degradations_shared *rsl_degradations;

extern Size rsl_features_shmem_size(void);
extern void rsl_features_shmem_place(void *memory);
extern void rsl_features_shmem_init(void);
extern Size rsl_degradations_shmem_size(void);
extern void rsl_degradations_shmem_place(void *memory);
extern void rsl_degradations_shmem_init(void);

extern const char *rsl_feature_state_name(rsl_feature_state state);
extern void rsl_feature_set_state(rsl_feature *feature, rsl_feature_state state,
								  const char *reason);
extern void rsl_feature_reset_statistics(int index);
extern const char *rsl_load_state_name(rsl_load_state state);
extern int	rsl_parse_load_state(const char *word);

/* Publishing: config lock held exclusively, or nobody else is there yet. */
extern void rsl_feature_put(int index, const rsl_feature_policy *policy);
extern void rsl_feature_retire(int index);
extern void rsl_degradation_put(int index, const rsl_degradation_policy *policy);
extern void rsl_degradation_retire(int index);

/*
 * Is there anything to decide for a transaction?  Does any degradation hold,
 * or have the cached plans been made for one?
 */
static inline bool
rsl_degradation_matters(void)
{
	return (pg_atomic_read_u32(&rsl_degradations->active) |
			rsl_plans_degraded) != 0;
}

/* A transaction is being admitted, before it waits for anything. */
static inline void
rsl_degradation_admitting(int priority)
{
	if (unlikely(rsl_degradation_matters()))
		rsl_degrade_transaction(priority);
	rsl_degradation_decided = true;
}

/* The same, of a transaction that goes on from one that was admitted. */
static inline void
rsl_degradation_going_on(int priority)
{
	if (unlikely(!rsl_degradation_decided))
		rsl_degradation_admitting(priority);
}

/* A transaction has ended. */
static inline void
rsl_degradation_over(void)
{
	rsl_degradation_decided = false;
	rsl_degraded_by = 0;
}

#endif							/* RSL_SHARED_FEATURES_H */
