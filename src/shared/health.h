/*-------------------------------------------------------------------------
 *
 * health.h
 *		Health checks in shared memory, and what is known of the whole.
 *
 * 544 bytes for each check.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_HEALTH_H
#define RSL_SHARED_HEALTH_H

#include "compat.h"

#include "core/health_state.h"
#include "core/state_clock.h"
#include "core/xid_clock.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "shared/layout.h"
#include "storage/spin.h"

typedef enum rsl_check_kind
{
	RSL_CHECK_SQL = 0,
	RSL_CHECK_FOREIGN_SERVER,
	RSL_CHECK_CONNECTIONS,
	RSL_CHECK_REPLICATION_LAG,
	RSL_CHECK_REPLICATION_SLOTS,
	RSL_CHECK_XID_AGE,
	RSL_CHECK_LONG_TRANSACTIONS,
	RSL_CHECK_LOCK_WAITS,
	RSL_CHECK_ARCHIVER,
	RSL_CHECK_DISK_FREE,
	RSL_CHECK_LOAD,
	RSL_NUM_CHECK_KINDS
} rsl_check_kind;

/* bytes kept of a check's message, with the final zero */
#define RSL_CHECK_MESSAGE_LEN	128

/*
 * One row of the extension's table with its names resolved.  Also a unit of
 * the snapshot file: change RSL_SNAPSHOT_FORMAT when this changes.  All bytes
 * count in comparisons: start from zeroes.  The text of a query stays in the
 * table: whoever runs it reads it there.
 */
typedef struct rsl_check_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* where the table with the row lives */
	int32		kind;			/* rsl_check_kind */
	Oid			owner;			/* as whom a query runs */
	uint32		query_hash;		/* another query is another policy */
	char		target[NAMEDATALEN];	/* what kinds but "sql" look at; "" */
	double		warning_threshold;	/* NaN = the kind's own default */
	double		critical_threshold; /* NaN = the kind's own default */
	int32		interval_ms;
	int32		timeout_ms;
	int32		failure_threshold;
	int32		success_threshold;
	bool		critical;
	bool		enabled;
} rsl_check_policy;

/* What one run of a check has found. */
typedef struct rsl_check_result
{
	rsl_health_status status;	/* never UNKNOWN */
	bool		has_value;
	bool		timed_out;
	double		value;
	double		warning_threshold;	/* in force; NaN = none */
	double		critical_threshold;
	char		message[RSL_CHECK_MESSAGE_LEN];
} rsl_check_result;

typedef struct rsl_check
{
	/* config lock */
	rsl_check_policy policy;
	bool		published;

	/*
	 * Atomics: names this use of the entry, 0 = free; and a copy of the
	 * status (rsl_health_status) for those who only want to know that.
	 */
	pg_atomic_uint32 uid;
	pg_atomic_uint32 status;

	slock_t		mutex;

	/* mutex: what was found */
	uint32		consecutive_failures;	/* runs that were not healthy */
	uint32		consecutive_successes;
	uint32		consecutive_unhealthy;
	uint32		not_unhealthy;	/* runs since the last unhealthy one */
	TimestampTz last_run;		/* end of the last run; 0 = never ran */
	TimestampTz last_change;	/* of the status; 0 = never */
	int64		last_run_us;	/* the same as last_run; monotonic */
	int64		duration_us;	/* of the last run */
	bool		has_value;
	double		value;
	uint8		last_result;	/* rsl_health_status of the last run alone */
	bool		cut_off;		/* that run timed out, or its worker died */
	char		message[RSL_CHECK_MESSAGE_LEN];

	/* mutex: times in each status; since when it is not healthy, 0 = it is */
	rsl_state_clock clock;
	int64		ill_since_us;

	/* mutex: when it is due, and who runs it; microseconds, monotonic */
	int64		next_run;		/* due from then on */
	int64		started;
	int64		deadline;		/* of the run that is under way */
	pid_t		runner;			/* 0 = nobody runs it */
	bool		given_up;		/* its run was counted as timed out already */
	int64		late_us;		/* how late the last run began */
	int64		max_late_us;	/* since the last reset_statistics() */

	/* mutex: totals since the last reset_statistics() */
	uint64		runs;
	uint64		failures;
	uint64		timeouts;
} rsl_check;

typedef struct rsl_health_shared
{
	int			max_checks;		/* resilience.max_health_checks; constant */
	uint32		last_uid;		/* config lock */

	/* atomics */
	pg_atomic_uint64 generation;	/* of the published checks */
	pg_atomic_uint32 npublished;
	pg_atomic_uint32 status;	/* rsl_health_status of the whole */
	pg_atomic_uint64 status_since;	/* TimestampTz */

	/* of long_transactions */
	slock_t		xid_clock_mutex;
	rsl_xid_clock xid_clock;	/* xid_clock_mutex */

	rsl_check	checks[FLEXIBLE_ARRAY_MEMBER];
} rsl_health_shared;

extern rsl_health_shared *rsl_health;

extern Size rsl_health_shmem_size(void);
extern void rsl_health_shmem_place(void *memory);
extern void rsl_health_shmem_init(void);

extern const char *rsl_health_status_name(rsl_health_status status);
extern const char *rsl_check_kind_name(rsl_check_kind kind);
extern int	rsl_parse_check_kind(const char *word);

/* Publishing: config lock held exclusively, or nobody else is there yet. */
extern void rsl_check_put(int index, const rsl_check_policy *policy);
extern void rsl_check_retire(int index);

extern void rsl_check_reset_statistics(int index);

#endif							/* RSL_SHARED_HEALTH_H */
