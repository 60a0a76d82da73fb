/*-------------------------------------------------------------------------
 *
 * layout.h
 *		What lies in shared memory, and which lock or atomic guards it.
 *
 * Sizes are fixed at server start from max_connections,
 * resilience.max_bulkheads and resilience.max_compartments.  Arrays follow the
 * header: bulkheads, sessions, the words of the sessions' connection bitmaps,
 * and the counters of what bulkheads have admitted; then what breakers.h,
 * retry_budget.h and arrivals.h describe; then compartments (256 bytes each,
 * and 4 for its place in the hash table).
 *
 * Locks (all in the named tranche "resilience"), in the order in which they
 * may be taken together:
 *	rsl_config_lock		definitions of bulkheads (exclusive to publish)
 *	rsl_compartments_lock	which compartment belongs to which value
 *	rsl_stats_lock		folding of per-session counters into the totals
 *	rsl_pool_lock(p)	the wait queue of pool p; those of compartments share
 *						a few
 *	rsl_cancel_lock		the pids of sessions: shared to send a signal,
 *						exclusive to clear a pid at exit
 *	rsl_workers_lock	the extension's processes, see workers.h
 *	rsl_experiments_lock	states and runs of experiments, see experiments.h
 * Whoever holds a pool's lock, or one of the last three, takes no other lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_LAYOUT_H
#define RSL_SHARED_LAYOUT_H

#include "compat.h"

#include "core/codel.h"
#include "core/histogram.h"
#include "core/pool_state.h"
#include "core/sqlcommenter.h"
#include "core/wait_queue.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "utils/backend_status.h"

/*
 * A dropped bulkhead keeps its entry until the last slot taken from it is
 * back.  This many entries beyond resilience.max_bulkheads wait for that.
 */
#define RSL_DRAINING_BULKHEADS	8

/* how many bulkheads one session may have to pass; more are not enforced */
#define RSL_MAX_MATCHES			16

/* length of LIKE patterns on application_name, with the final zero */
#define RSL_PATTERN_LEN			128

/* the launcher's tick, in milliseconds */
#define RSL_TICK_MS				100

/* a class counts as active for this many ticks after its last transaction */
#define RSL_ACTIVE_TICKS		10

/* an idle transaction's slot is lent after this long, in milliseconds */
#define RSL_LEND_AFTER_MS		100

/* a signal that this machine does not give */
#define RSL_NOT_KNOWN			PG_UINT32_MAX

/* how many sessions at most may be in a turn at once */
#define RSL_MAX_TURNS			64

/* how many running statements may be preempted in a row (preempt.c) */
#define RSL_PREEMPT_BURST		10

/* what is kept of the value of a compartment's tag, with the final zero */
#define RSL_COMPARTMENT_VALUE_LEN	36

/*
 * What bulkheads have admitted is counted in so many rows of counters, each in
 * cache lines of its own and written by every 16th session: 256 busy cores do
 * not wait for each other's line, and a session needs no counters of its own.
 */
#define RSL_ADMITTED_ROWS		16

/* how many locks the pools of compartments share */
#define RSL_COMPARTMENT_LOCKS	16

/*
 * Numbers of pools: those of bulkheads first, then those of compartments, and
 * the one that is neither's, the server-wide limit.
 */
#define RSL_SERVER_POOL			(-1)
#define RSL_NO_POOL				(-2)

typedef enum rsl_mode
{
	RSL_MODE_OFF = 0,
	RSL_MODE_OBSERVE,
	RSL_MODE_ENFORCE
} rsl_mode;

/*
 * A limited number of running slots with a queue before it: one for each
 * bulkhead and one for the whole server.
 */
typedef struct rsl_pool
{
	/* atomic: counts and flags, see core/pool_state.h */
	pg_atomic_uint64 word;

	/*
	 * Atomics, written by whoever publishes (config lock exclusive, or the
	 * launcher for the server's pool), read by everybody.  int32 inside.
	 */
	pg_atomic_uint32 max_running;
	pg_atomic_uint32 low_cap;
	pg_atomic_uint32 normal_cap;
	pg_atomic_uint32 max_waiting;

	/* atomic: when a victim was last looked for in vain, see preempt.c */
	pg_atomic_uint32 no_victim;

	int			number;			/* never changes */

	/* all that follows: pool's lock */
	rsl_wait_queue queue;
	rsl_codel	codel[RSL_NUM_PRIORITIES];
	int64		last_grant;		/* microseconds, monotonic; 0 = never */
	int64		grant_interval; /* moving average between grants, us */
} rsl_pool;

/*
 * Turns (see turns.c), of the server's pool only.  Atomics: who may keep a
 * slot between transactions (marks, 0 = nobody), how many they are, and which
 * waiter looks after them (number + 1, 0 = nobody).
 */
typedef struct rsl_turns
{
	pg_atomic_uint64 in_turn[RSL_MAX_TURNS];
	pg_atomic_uint32 nturns;
	pg_atomic_uint32 watchman;	/* written under the pool's lock */

	/*
	 * Atomic, written under the pool's lock: the shortest patience (queue
	 * target, or half of max_wait) of those who have queued since the queue
	 * was empty
	 */
	pg_atomic_uint32 patience_ms;
} rsl_turns;

typedef struct rsl_address
{
	uint8		family;			/* 0 = none or any; PGSQL_AF_INET[6] */
	uint8		bits;
	uint8		bytes[16];
} rsl_address;

/*
 * Which sessions and statements a definition is about: all that are given
 * must hold.  Names are resolved.  See policy/conditions.c.
 */
typedef struct rsl_conditions
{
	Oid			role;			/* InvalidOid = any */
	Oid			database;		/* InvalidOid = any */
	char		application_name[RSL_PATTERN_LEN];	/* LIKE; "" = any */
	rsl_address client_address;
	char		tag_key[RSL_TAG_LEN];	/* of a sqlcommenter tag; "" = none */
	char		tag_value[RSL_TAG_LEN];
	bool		tag_any_value;	/* a compartment for each value */
	int64		query_id;		/* 0 = any */
	uint32		commands;		/* bits of rsl_command; 0 = any */
} rsl_conditions;

/*
 * What a bulkhead matches and limits: one row of the extension's table with
 * its names resolved.  Also the unit of the snapshot file: change
 * RSL_SNAPSHOT_FORMAT when this changes.
 */
typedef struct rsl_bulkhead_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* where the table with the row lives */
	rsl_conditions conditions;
	int32		max_connections;
	int32		max_running;
	int32		max_waiting;
	int32		max_wait_ms;
	int32		priority;		/* rsl_priority, or -1 */
	int32		mode;			/* rsl_mode */
	bool		only_under_load;	/* budgets act only while the server is */
	TimestampTz expires_at;		/* or DT_NOEND */

	/* budgets and rates; each -1 = none */
	double		max_connection_rate;	/* per second */
	double		cpu_share;		/* of all processors, 0 .. 1 */
	double		cpu_burst_ms;	/* CPU time */
	double		max_statement_cost; /* the planner's unit */
	double		max_rate;		/* transactions per second */
	double		auto_revert_refusal_rate;	/* 0 .. 1 */
} rsl_bulkhead_policy;

/* Does it judge what transactions cost, or how many come? */
static inline bool
rsl_policy_has_budget(const rsl_bulkhead_policy *policy)
{
	return policy->cpu_share >= 0 || policy->max_statement_cost >= 0 ||
		policy->max_rate >= 0;
}

/* Does it judge statements, rather than sessions?  Then connections are not. */
static inline bool
rsl_conditions_judge_statements(const rsl_conditions *conditions)
{
	return conditions->commands != 0 || conditions->query_id != 0 ||
		conditions->tag_key[0] != '\0';
}

/* See overload.c.  32 bytes for each bulkhead and class. */
typedef struct rsl_overload
{
	/* atomics: totals */
	pg_atomic_uint64 client_gone;	/* waiters whose client had gone */
	pg_atomic_uint64 dropped;	/* waiters that were too late */
	pg_atomic_uint64 retried;	/* see shedding/retry_storm.c */

	/* atomic: the budget for retries, see core/token_bucket.h */
	pg_atomic_uint64 retry_word;
} rsl_overload;

/* rsl_budget.flags: which budgets a bulkhead has */
#define RSL_BUDGET_CPU				0x01
#define RSL_BUDGET_COST				0x02
#define RSL_BUDGET_RATE				0x04
#define RSL_BUDGET_ONLY_UNDER_LOAD	0x08

/* See budget.c.  Atomics all; 80 bytes for each bulkhead. */
typedef struct rsl_budget
{
	/*
	 * What the policy says, as the statement path reads it: written by
	 * whoever publishes.  Doubles, by their bits.
	 */
	pg_atomic_uint32 flags;		/* RSL_BUDGET_*; 0 = none */
	pg_atomic_uint64 rate;		/* CPU time that is paid off per time */
	pg_atomic_uint64 burst_us;
	pg_atomic_uint64 max_cost;
	pg_atomic_uint64 max_rate;	/* per second */

	pg_atomic_uint64 debt;		/* core/cpu_budget.h */
	pg_atomic_uint64 arrivals;	/* core/arrival_rate.h */
	pg_atomic_uint64 typical;	/* cost of its queries, core/cpu_budget.h */

	/* totals */
	pg_atomic_uint64 cpu_us;
	pg_atomic_uint64 refused;
} rsl_budget;

typedef struct rsl_bulkhead
{
	rsl_pool	pool;

	/* config lock */
	rsl_bulkhead_policy policy;
	uint32		uid;			/* names this use of the entry; 0 = free */
	bool		published;		/* false while free or draining */
	bool		expired;

	/*
	 * Since when it only observes because it refused too much; 0 = it does
	 * not.  Config lock; the launcher, who sets it, reads it without.
	 */
	TimestampTz reverted_at;

	/* atomics: copies of policy fields that the statement path reads */
	pg_atomic_uint32 mode;
	pg_atomic_uint32 max_wait_ms;

	/*
	 * Atomic, launcher (worker/watch.c): since when it is saturated, a
	 * TimestampTz; 0 = it is not.
	 */
	pg_atomic_uint64 saturated_since;

	/* atomic: sessions that hold a connection slot */
	pg_atomic_uint32 connections;

	/* atomic: when a refusal in observe mode was last logged, in ticks */
	pg_atomic_uint32 last_logged;

	/* atomic: its connections per second, see core/arrival_rate.h */
	pg_atomic_uint64 connection_word;

	/* atomics: totals, and what reset_statistics() subtracts (stats lock) */
	pg_atomic_uint64 refused_connections;
	pg_atomic_uint64 refused_statements;
	pg_atomic_uint64 timed_out;
	pg_atomic_uint64 preempted;
	pg_atomic_uint64 preempted_running; /* those of them that were running */
	pg_atomic_uint64 wait_us;
	pg_atomic_uint64 no_compartment;	/* values that found none free */
	uint64		admitted_before_reset;	/* of rsl_bulkhead_admitted(), also
										 * when the entry was free */
	rsl_overload overload;
	rsl_budget	budget;
}			pg_attribute_aligned(64)
rsl_bulkhead;

/*
 * One value of a tag, of a bulkhead that has a compartment for each; see
 * compartments.c.  256 bytes.
 */
typedef struct rsl_compartment
{
	/* atomic: transactions that use it, or RSL_COMPARTMENT_CLAIMED */
	pg_atomic_uint32 pins;

	/*
	 * The key.  Written by who has claimed it (compartments lock), read by
	 * who has pinned it; atomics, because pinning looks at them before.
	 */
	pg_atomic_uint32 uid;		/* the bulkhead's; 0 = none yet */
	pg_atomic_uint64 hash;
	pg_atomic_uint32 next;		/* in its chain, index + 1; 0 = none */
	int16		bulkhead;		/* index */
	bool		cut;			/* the value was longer */

	/* atomic: when a transaction last used it, a TimestampTz */
	pg_atomic_uint64 last_used;

	rsl_pool	pool;
	char		value[RSL_COMPARTMENT_VALUE_LEN];	/* as the key */

	/* atomics: totals since it has this value */
	pg_atomic_uint32 refused;
	pg_atomic_uint32 timed_out;
	pg_atomic_uint32 preempted;
	pg_atomic_uint64 admitted;
	pg_atomic_uint64 wait_us;
}			pg_attribute_aligned(64)
rsl_compartment;

/* State of a session's slot: the low bits of rsl_session.slot. */
#define RSL_SLOT_FREE		0
#define RSL_SLOT_HELD		1
#define RSL_SLOT_LENT		2	/* idle in transaction; taken back on use */
#define RSL_SLOT_KEPT		3	/* server's slot kept for the next transaction */
#define RSL_SLOT_STATE(s)	((s) & 3)
#define RSL_SLOT_NEXT(s, state)	((((s) | 3) + 1) | (state))

/* rsl_session.units: bit i = pool of match i, this bit = the server's pool */
#define RSL_SERVER_UNIT		(UINT32_C(1) << 31)

/* no unit, but in the same word: some match has pinned a compartment */
#define RSL_PINNED_UNIT		(UINT32_C(1) << 30)

/* What a session runs: rsl_session.statement_flags. */
#define RSL_STATEMENT_COPY		0x01
#define RSL_STATEMENT_UTILITY	0x02	/* any other utility statement */
#define RSL_STATEMENT_SUPERUSER	0x04	/* the session user is one */
#define RSL_STATEMENT_OBSERVED	0x08	/* the session's mode is "observe" */

/* What became of a waiter. */
typedef enum rsl_verdict
{
	RSL_WAITING = 0,
	RSL_GRANTED,
	RSL_PREEMPTED,				/* pushed out by a higher priority */
	RSL_SHED,					/* below the minimum priority */
	RSL_TIMED_OUT,
	RSL_QUEUE_FULL,
	RSL_DROPPED,				/* was too late when its turn came */
	RSL_TOO_SOON				/* a retry beyond the budget for retries */
} rsl_verdict;

typedef struct rsl_match
{
	uint32		uid;			/* config lock; the bulkhead's at matching */
	int16		index;			/* config lock */

	/*
	 * The pool that the transaction is charged to, or waits for: the
	 * bulkhead's own, or that of a compartment which is pinned.  Written by
	 * the owner under the same rules as "units".
	 */
	int16		pool;
} rsl_match;

/*
 * A session's entry.  There are as many as backends: the order of the fields
 * leaves no holes, so that it is 384 bytes.
 */
typedef struct rsl_session
{
	/*
	 * Atomic: a sequence number and the slot's state.  The owner moves it
	 * between FREE and HELD, the launcher from HELD to LENT by
	 * compare-and-swap, the owner back.  KEPT is set by the owner and ended
	 * by it or by whoever reclaims the slot, by compare-and-swap.  Each
	 * transaction has a new sequence number, so that the launcher cannot lend
	 * the slot of the next one.
	 */
	pg_atomic_uint32 slot;

	/*
	 * Written by the owner while it does not hold the slot or right after
	 * bumping the sequence number; read by the launcher before its
	 * compare-and-swap, and by views.
	 */
	uint32		held;			/* bit i: charged to match i */
	uint32		units;			/* bit i: a slot of its pool was taken */
	uint8		priority;		/* rsl_priority of this transaction */
	uint8		kept_priority;	/* rsl_priority of the slot that is KEPT */
	uint8		nmatches;
	uint8		command;		/* rsl_command that this transaction began
								 * with */
	pid_t		pid;			/* 0 = unused; owner, or sweep when it is dead */

	/*
	 * The top-level statement, while something may cancel it (cancel.c).
	 * Atomic, written by the owner: odd while one runs.  The flags and the
	 * start are the owner's, set before the number becomes odd.
	 */
	uint8		statement_flags;	/* RSL_STATEMENT_* */
	uint8		statement_command;	/* rsl_command */
	uint8		quarantine;		/* owner: place in it that is taken, from 1 */
	pg_atomic_uint32 statement;
	uint32		budget_bits;	/* bit i: match i is charged */
	TimestampTz statement_start;

	/*
	 * Atomic: the request to cancel a statement, 0 = none.  Set by others by
	 * compare-and-swap from 0; the owner takes it out.
	 */
	pg_atomic_uint64 doom;

	/*
	 * CPU time that was charged to bulkheads with a budget (budget.c).
	 * cpu_charged is atomic, 0 = this transaction is not charged; the owner
	 * sets budget_bits while it is 0.  Parallel workers add to worker_cpu_us.
	 */
	pg_atomic_uint64 cpu_charged;
	pg_atomic_uint64 worker_cpu_us;

	/*
	 * What runaway rules ask of the statement (see shedding/runaway.c), with
	 * statement_command and quarantine above; set like the flags, while there
	 * are rules.
	 */
	uint32		quarantine_use; /* owner: of that place */
	float		rows_estimate;	/* the planner's */
	uint32		tag_rules;		/* bit i: rule i's condition on a tag holds */

	/*
	 * Bit i: rule i's conditions on the session hold.  Config lock exclusive
	 * to change, or the owner under config lock shared.
	 */
	uint32		runaway_rules;

	/* atomic, written by the launcher: this statement is preempted first */
	pg_atomic_uint32 demoted;

	/*
	 * Waiting: the node is linked under the lock of the pool waiting_for; the
	 * verdict is written under that lock and read by the owner.
	 */
	pg_atomic_uint32 waiting_for;	/* pool number (int32) */
	pg_atomic_uint32 verdict;	/* rsl_verdict */

	/* identity at authentication: owner at attach, then read-only */
	Oid			role;
	Oid			database;
	rsl_address address;
	bool		superuser;
	char		application_name[NAMEDATALEN];

	TimestampTz run_start;		/* owner */
	TimestampTz wait_start;		/* owner; 0 = does not wait */
	uint64		query_id;		/* owner */

	/* atomic, owner: until when the slot is kept; microseconds, monotonic */
	pg_atomic_uint64 kept_until;

	/* owner only: transactions admitted, by priority */
	pg_atomic_uint64 admitted[RSL_NUM_PRIORITIES];

	PgBackendStatus *status;	/* owner at attach: what it does */

	/* config lock exclusive to change, or the owner under config lock shared */
	rsl_match	matches[RSL_MAX_MATCHES];
}			pg_attribute_aligned(64)
rsl_session;

typedef struct rsl_shared
{
	/* constant after start */
	int			nsessions;
	int			nbulkheads;		/* physical entries */
	int			max_bulkheads;	/* resilience.max_bulkheads */
	int			bitmap_words;	/* words of one session's bitmap */
	int			ncompartments;	/* resilience.max_compartments */
	int			admitted_row_length;	/* counters of rsl_admitted_rows */

	/* atomic: how many were ever used; grows under the compartments lock */
	pg_atomic_uint32 ncompartments_used;

	/* atomics, read by every transaction, rarely written */
	pg_atomic_uint64 generation;	/* of the published bulkheads */
	pg_atomic_uint32 tick;		/* the launcher's */

	/*
	 * The tick at which each class last had work in the server's pool, which
	 * is the only one with caps.
	 */
	pg_atomic_uint32 last_active[RSL_NUM_PRIORITIES];

	pg_atomic_uint32 minimum_priority;
	pg_atomic_uint32 preemption;	/* rsl_preemption */
	pg_atomic_uint32 nmatchable;	/* published bulkheads */
	pg_atomic_uint32 query_ids_wanted;	/* by whom: RSL_QUERY_IDS_* */
	pg_atomic_uint32 query_ids_since;	/* how often that has begun */
	pg_atomic_uint32 cancellers;	/* who may cancel: RSL_CANCEL_BY_* */
	pg_atomic_uint32 nrunaway_rules;	/* published runaway rules */
	pg_atomic_uint32 nquarantined;	/* queries in quarantine */
	pg_atomic_uint32 chaos_armed;	/* runs of experiments, see experiments.h */
	pg_atomic_uint32 loaded;	/* 0 or 1: the server has more to do than it
								 * can; written by the launcher only */

	/*
	 * Atomic, launcher (worker/watch.c): since when work is being shed, a
	 * TimestampTz; 0 = it is not, or not for a second.
	 */
	pg_atomic_uint64 shedding_since;

	/*
	 * Atomics, for resilience.adaptive_limit.  The limit that was found, 0 =
	 * none yet: the launcher writes it, and whoever publishes settings may
	 * start anew (postmaster at start, launcher after a reload).  The rest is
	 * for the view: why (rsl_limit_reason), and what the launcher has seen,
	 * in thousandths, RSL_NOT_KNOWN if it could not.
	 */
	pg_atomic_uint32 adaptive_limit;
	pg_atomic_uint32 limit_reason;
	pg_atomic_uint32 blocked_share;
	pg_atomic_uint32 cpu_idle;
	pg_atomic_uint32 cpu_pressure;

	/* config lock */
	uint32		last_uid;
	TimestampTz next_expiry;
	bool		snapshot_stale; /* the last write of the file failed */

	/*
	 * Atomics: counts requests to the launcher to visit all databases soon;
	 * whether a database had definitions that there was no room for (0 or 1).
	 */
	pg_atomic_uint32 visit_requests;
	pg_atomic_uint32 some_left_out;

	/* atomic: sessions that matched more bulkheads than can be enforced */
	pg_atomic_uint64 unmatched;

	/* atomics: resilience.max_connection_rate, see core/arrival_rate.h */
	pg_atomic_uint64 connection_word;
	pg_atomic_uint64 refused_connections;
	pg_atomic_uint64 delayed_connections;
	pg_atomic_uint32 connection_last_logged;

	/* the server-wide limit, by priority */
	pg_atomic_uint64 admitted[RSL_NUM_PRIORITIES];	/* of sessions gone */
	pg_atomic_uint64 shed[RSL_NUM_PRIORITIES];
	pg_atomic_uint64 timed_out[RSL_NUM_PRIORITIES];
	pg_atomic_uint64 preempted[RSL_NUM_PRIORITIES];
	pg_atomic_uint64 preempted_running[RSL_NUM_PRIORITIES];
	pg_atomic_uint64 wait_us[RSL_NUM_PRIORITIES];
	pg_atomic_uint64 waits[RSL_NUM_PRIORITIES][RSL_HISTOGRAM_BUCKETS];
	uint64		admitted_before_reset[RSL_NUM_PRIORITIES];	/* stats lock */
	rsl_overload overload[RSL_NUM_PRIORITIES];
	pg_atomic_uint32 last_logged;

	/* atomics: requests to cancel a statement, and what became of them */
	pg_atomic_uint64 cancels_requested;
	pg_atomic_uint64 cancels_delivered;
	pg_atomic_uint64 cancels_missed;
	pg_atomic_uint64 preempt_tokens;	/* see core/token_bucket.h */

	/* own cache lines: every limited transaction writes its word */
	char		pad[PG_CACHE_LINE_SIZE];
	rsl_pool	server;
	rsl_turns	turns;
} rsl_shared;

/* NULL when the library was not preloaded, or in single-user mode */
extern rsl_shared *rsl_shmem;
extern rsl_bulkhead *rsl_bulkheads;
extern rsl_session *rsl_sessions;
extern rsl_wait_node *rsl_nodes;	/* one for each session; pool's lock */
extern pg_atomic_uint32 *rsl_connection_bits;	/* bitmap_words a session */
extern pg_atomic_uint64 *rsl_admitted_rows; /* atomics; see statistics.h */
extern rsl_compartment *rsl_compartments;
extern pg_atomic_uint32 *rsl_compartment_buckets;	/* index + 1; 0 = empty */
extern LWLockPadded *rsl_locks;

#define rsl_config_lock			(&rsl_locks[0].lock)
#define rsl_stats_lock			(&rsl_locks[1].lock)
#define rsl_cancel_lock			(&rsl_locks[2].lock)
#define rsl_compartments_lock	(&rsl_locks[3].lock)
#define rsl_workers_lock		(&rsl_locks[4].lock)
#define rsl_experiments_lock	(&rsl_locks[5].lock)
#define RSL_FIXED_LOCKS			7	/* before those of pools; the server's is
									 * the last of them */

extern void rsl_shmem_init(void (*load) (void));
extern void rsl_require_shmem(void);

static inline rsl_pool *
rsl_pool_by_number(int number)
{
	if (number == RSL_SERVER_POOL)
		return &rsl_shmem->server;
	if (likely(number < rsl_shmem->nbulkheads))
		return &rsl_bulkheads[number].pool;
	return &rsl_compartments[number - rsl_shmem->nbulkheads].pool;
}

static inline LWLock *
rsl_pool_lock(rsl_pool *pool)
{
	int			number = pool->number;

	if (unlikely(number >= rsl_shmem->nbulkheads))
		number = rsl_shmem->nbulkheads +
			(number - rsl_shmem->nbulkheads) % RSL_COMPARTMENT_LOCKS;
	return &rsl_locks[RSL_FIXED_LOCKS + number].lock;
}

/*
 * Is the server loaded now?  Somebody waits for the server-wide limit, or the
 * run queue is long; true until a second has passed without either.  Known to
 * within a tick, whether the limit adapts itself or not.
 */
static inline bool
rsl_server_is_loaded(void)
{
	return pg_atomic_read_u32(&rsl_shmem->loaded) != 0;
}

#endif							/* RSL_SHARED_LAYOUT_H */
