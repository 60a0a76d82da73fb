/*-------------------------------------------------------------------------
 *
 * runaway.h
 *		Runaway rules and the quarantine in shared memory.
 *
 * About 22 kB with the default of 16 rules: 512 bytes for a rule, 14 kB for
 * the quarantine and the notes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_RUNAWAY_H
#define RSL_SHARED_RUNAWAY_H

#include "shared/layout.h"

/* A session has a bit for each rule. */
#define RSL_MAX_RUNAWAY_RULES	32

/* how many queries may be in quarantine at once, in the whole server */
#define RSL_QUARANTINE_SIZE		64

/* how many statements may be on their way out with numbers to tell */
#define RSL_RUNAWAY_NOTES		64

typedef enum rsl_runaway_action
{
	RSL_RUNAWAY_OBSERVE = 0,
	RSL_RUNAWAY_LOWER_PRIORITY,
	RSL_RUNAWAY_CANCEL,
	RSL_RUNAWAY_QUARANTINE
} rsl_runaway_action;

/* What a statement has used, or what it may use; in a limit -1 = any. */
typedef struct rsl_runaway_usage
{
	int64		duration_ms;
	int64		cpu_ms;
	int64		temp_bytes;
	double		rows_estimate;
} rsl_runaway_usage;

/*
 * One row of the extension's table with its names resolved.  Also the unit of
 * the snapshot file: change RSL_SNAPSHOT_FORMAT when this changes.
 */
typedef struct rsl_runaway_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* where the table with the row lives */
	rsl_conditions conditions;
	rsl_runaway_usage limits;
	int32		action;			/* rsl_runaway_action */
	int32		mode;			/* rsl_mode */
	int64		quarantine_ms;
	int32		quarantine_max_running;
	TimestampTz expires_at;		/* or DT_NOEND */
} rsl_runaway_policy;

typedef struct rsl_runaway_rule
{
	/* config lock */
	rsl_runaway_policy policy;
	uint32		uid;			/* names this use of the entry; 0 = unused */
	bool		published;
	bool		expired;

	/* atomics: totals since the rule was made, and its last hit */
	pg_atomic_uint64 hits;
	pg_atomic_uint64 cancelled; /* statements, running or about to begin */
	pg_atomic_uint64 refused;	/* by the quarantine */
	pg_atomic_uint64 quarantined;	/* queries */
	pg_atomic_uint64 evicted;	/* of those: to make room for another */
	pg_atomic_uint64 last_hit;	/* TimestampTz; 0 = never */
	pg_atomic_uint64 last_query_id;

	/* atomic: when a hit was last logged, in ticks */
	pg_atomic_uint32 last_logged;
} rsl_runaway_rule;

/*
 * A query in quarantine, for the sessions that its rule matches.  Written
 * under the config lock (exclusive); read without a lock by who is about to
 * run a statement.  The word changes whenever the entry gets another use, so
 * that what was read before belongs together if the word's upper half is the
 * same afterwards.
 */
typedef struct rsl_quarantined
{
	pg_atomic_uint64 query_id;	/* 0 = free */
	pg_atomic_uint64 word;		/* use << 32 | transactions that run it */
	pg_atomic_uint64 since;		/* TimestampTz */
	pg_atomic_uint64 until;		/* TimestampTz */
	pg_atomic_uint64 refused;
	pg_atomic_uint32 rule;		/* its index */
	pg_atomic_uint32 action;	/* QUARANTINE, or LOWER_PRIORITY */
	pg_atomic_uint32 max_running;
	pg_atomic_uint32 has_tag;	/* 1 = its rule has a condition on a tag */
} rsl_quarantined;

/*
 * What the launcher has to tell the client of a statement that it has
 * cancelled.  Written by the launcher only, and used in turn; the number
 * tells whether it is still the one.
 */
typedef struct rsl_runaway_note
{
	pg_atomic_uint32 number;
	uint32		rule_uid;
	int32		rule;
	int32		action;
	char		rule_name[NAMEDATALEN];
	uint64		query_id;
	TimestampTz until;			/* 0 = not in quarantine */
	rsl_runaway_usage usage;
	rsl_runaway_usage limits;
} rsl_runaway_note;

typedef struct rsl_runaway_shared
{
	/* constant after start */
	int			max_rules;		/* resilience.max_runaway_rules */

	/* config lock */
	uint32		last_uid;
	uint32		last_use;		/* of a quarantine entry */

	/* atomics, read by each statement while there are rules */
	pg_atomic_uint32 generation;	/* of the rules in force */
	pg_atomic_uint64 rows_limit;	/* bits of a double: the lowest estimate
									 * that may stop a statement from starting */
	pg_atomic_uint32 notes;		/* the last number that was given */

	rsl_quarantined quarantine[RSL_QUARANTINE_SIZE];
	rsl_runaway_note noted[RSL_RUNAWAY_NOTES];
	rsl_runaway_rule rules[FLEXIBLE_ARRAY_MEMBER];
} rsl_runaway_shared;

extern rsl_runaway_shared *rsl_runaway;

extern Size rsl_runaway_shmem_size(void);
extern void rsl_runaway_shmem_place(void *memory);
extern void rsl_runaway_shmem_init(void);

/* Are there rules?  Then statements tell what they are. */
static inline bool
rsl_runaway_active(void)
{
	return pg_atomic_read_u32(&rsl_shmem->nrunaway_rules) != 0;
}

extern void rsl_runaway_reset_statistics(int rule);

/* The quarantine: config lock held exclusively ... */
extern TimestampTz rsl_quarantine_put(int rule, uint64 query_id,
									  TimestampTz now);
extern void rsl_quarantine_drop_rule(int rule);
extern int	rsl_quarantine_release(Oid home_database, uint64 query_id);
extern void rsl_quarantine_expire(TimestampTz now);

/* ... and without a lock, by who is about to run a statement. */
extern rsl_quarantined *rsl_quarantine_find(uint64 query_id, uint32 rules,
											uint32 tag_rules, TimestampTz now,
											uint32 *use);
extern bool rsl_quarantine_enter(rsl_session *session,
								 rsl_quarantined *entry, uint32 use);
extern void rsl_quarantine_leave(rsl_session *session);

#endif							/* RSL_SHARED_RUNAWAY_H */
