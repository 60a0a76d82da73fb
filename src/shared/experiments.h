/*-------------------------------------------------------------------------
 *
 * experiments.h
 *		Chaos experiments in shared memory: what may be injected, and where.
 *
 * A fault lives here only: it ends with its deadline, with the server, with
 * the launcher's heartbeat and with the lever, whatever else happens.  What
 * statements look at while experiments are under way are a few "runs"; an
 * experiment that is started, or about to be measured, has one of them.
 *
 * About 135 kB with the default of 128 experiments: 672 bytes for each, 3.2 kB
 * for each of the 16 runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_EXPERIMENTS_H
#define RSL_SHARED_EXPERIMENTS_H

#include "core/fault_draw.h"
#include "core/histogram.h"
#include "executor/execdesc.h"
#include "nodes/plannodes.h"
#include "shared/layout.h"

/* so many experiments run, or are measured, at once */
#define RSL_MAX_RUNS			16

/* no faults when the launcher has not been heard of for so long */
#define RSL_CHAOS_DEAD_MAN_MS	3000

/* why an experiment was stopped, with the final zero */
#define RSL_STOP_REASON_LEN		128

typedef enum rsl_impact
{
	RSL_IMPACT_LATENCY = 0,		/* before the statement does its work */
	RSL_IMPACT_ERROR,
	RSL_IMPACT_CANCEL,
	RSL_IMPACT_TERMINATE,
	RSL_IMPACT_FOREIGN_ERROR,	/* below the breaker */
	RSL_IMPACT_FOREIGN_LATENCY,
	RSL_IMPACT_CONNECTION_REFUSED,
	RSL_IMPACT_LOCK_DELAY,		/* after its work, while it holds its locks */
	RSL_NUM_IMPACTS
} rsl_impact;

/* The numbers are those of the metric resilience_experiment_state. */
typedef enum rsl_experiment_state
{
	RSL_EXPERIMENT_DEFINED = 0,
	RSL_EXPERIMENT_SCHEDULED,
	RSL_EXPERIMENT_RUNNING,
	RSL_EXPERIMENT_STOPPED,		/* by somebody */
	RSL_EXPERIMENT_FINISHED,	/* its time was over, or its injections */
	RSL_EXPERIMENT_ABORTED,		/* for safety's sake */
	RSL_NUM_EXPERIMENT_STATES
} rsl_experiment_state;

/*
 * One row of the extension's table with its names resolved.  Also the unit of
 * the snapshot file: change RSL_SNAPSHOT_FORMAT when this changes.
 */
typedef struct rsl_experiment_policy
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* where the table with the row lives */
	int32		impact;			/* rsl_impact */
	rsl_conditions conditions;
	Oid			server;			/* foreign server; InvalidOid = any */
	Oid			relation;		/* InvalidOid = any */
	double		probability;	/* 0 .. 1, of each statement, call, connection */
	int64		delay_us;
	int64		variance_us;
	int32		distribution;	/* rsl_distribution */
	int32		sqlstate;		/* as errcode(); 0 = the impact's own */
	int32		max_injections; /* of one run */
	int32		max_concurrent; /* faults at the same time */
	int64		max_duration_ms;
	TimestampTz schedule_start; /* DT_NOBEGIN = no schedule */
	TimestampTz schedule_end;	/* DT_NOEND = none */
	int64		schedule_interval_ms;	/* 0 = once */
	Oid			owner;			/* as whom the stop condition runs */
	uint32		stop_hash;		/* another condition is another policy */
	bool		has_stop_condition;
	bool		stop_when_unhealthy;
} rsl_experiment_policy;

typedef struct rsl_experiment
{
	/* config lock */
	rsl_experiment_policy policy;
	bool		published;

	/* atomic: names this use of the entry; 0 = free */
	pg_atomic_uint32 uid;

	/* atomics: totals */
	pg_atomic_uint64 injections;	/* faults */
	pg_atomic_uint64 overflowed;	/* not injected: max_concurrent */

	/* experiments lock */
	rsl_experiment_state state;
	int			run;			/* its place in runs, or -1 */
	int			warm;			/* the place where it is measured for its next
								 * start, or -1 */
	uint32		started;		/* how often */
	TimestampTz started_at;		/* 0 = never */
	TimestampTz ended_at;		/* of the last run; 0 = not yet */
	TimestampTz scheduled_at;	/* start that was dealt with last; 0 = none */
	int64		told_skip_us;	/* last event of one that was left out;
								 * monotonic */
	char		stop_reason[RSL_STOP_REASON_LEN];
} rsl_experiment;

/*
 * Phases of a run.  Statements are measured in all of them but the first and
 * the last; faults are injected in one.
 *
 * While it is warm two halves of a window that rolls are counted into in turn:
 * those of the times "before" and "after".
 */
typedef enum rsl_run_phase
{
	RSL_RUN_FREE = 0,
	RSL_RUN_WARM,				/* defined, not started: how is it without? */
	RSL_RUN_BEFORE,				/* started, with a baseline to be measured */
	RSL_RUN_DURING,				/* faults */
	RSL_RUN_AFTER,				/* until all is well again */
	RSL_RUN_OVER				/* kept for its report; may be taken */
} rsl_run_phase;

/* Whose statements: those that the experiment is about, and all others. */
typedef enum rsl_run_group
{
	RSL_GROUP_TARGET = 0,
	RSL_GROUP_REST,
	RSL_NUM_GROUPS
} rsl_run_group;

/* Which time. */
typedef enum rsl_run_time
{
	RSL_TIME_BEFORE = 0,
	RSL_TIME_DURING,
	RSL_TIME_AFTER,
	RSL_NUM_TIMES
} rsl_run_time;

/* What was measured of some statements.  Atomics. */
typedef struct rsl_run_counts
{
	pg_atomic_uint32 statements;	/* that ended, well or not */
	pg_atomic_uint32 errors;	/* of them */
	pg_atomic_uint32 refused;	/* of the errors: a protection's answer */
	pg_atomic_uint32 fallbacks; /* of the others: the server that the
								 * experiment is about was not called */
	pg_atomic_uint32 latencies[RSL_HISTOGRAM_BUCKETS];	/* of those without */
} rsl_run_counts;

/* What is noted of a run's time: which of them have been seen so. */
typedef enum rsl_noted
{
	RSL_NOTED_BREAKERS = 0,		/* opened */
	RSL_NOTED_FEATURES,			/* degraded */
	RSL_NOTED_BULKHEADS,		/* saturated */
	RSL_NUM_NOTED
} rsl_noted;

typedef struct rsl_run
{
	/* atomics; changed under the experiments lock */
	pg_atomic_uint32 phase;		/* rsl_run_phase */
	pg_atomic_uint32 uid;		/* the experiment's; 0 = free */

	/* atomics: no fault before, and from then on; microseconds, monotonic */
	pg_atomic_uint64 begins_us;
	pg_atomic_uint64 ends_us;

	/*
	 * Atomic: when the stop condition was last found not to hold;
	 * microseconds, monotonic, 0 = never.
	 */
	pg_atomic_uint64 condition_us;
	pg_atomic_uint64 condition_runner_us;	/* somebody evaluates it since */

	/* atomic: faults so far */
	pg_atomic_uint32 injections;

	/* atomic: faults that are going on, also of an earlier use of this place */
	pg_atomic_uint32 active;

	/*
	 * Atomics: whose counts those are, + 1 whenever they begin anew or what
	 * was warm is started; and while it is warm, which rsl_run_time is
	 * counted into.
	 */
	pg_atomic_uint32 serial;
	pg_atomic_uint32 warm_time;

	/* experiments lock */
	int			experiment;		/* index */
	int64		began_us;		/* start; microseconds, monotonic */
	int64		condition_since_us; /* the stop condition's first look is due */
	TimestampTz started_at;
	TimestampTz faults_at;		/* begin of the time "during"; 0 = not yet */
	TimestampTz faults_end_at;	/* its end; 0 = not yet */
	TimestampTz recovered_at;	/* 0 = not yet */
	TimestampTz after_end_at;	/* end of the time "after"; 0 = not yet */
	int64		faults_us;		/* the same as faults_at; monotonic */
	int64		faults_end_us;
	int64		before_us;		/* length of the time "before" */
	int64		half_us;		/* warm: length of the half that is full */
	int64		half_began_us;	/* warm: begin of the one that is counted into */
	uint64		overflowed_before;	/* the experiment's total at the start */
	uint8		health_before;	/* rsl_health_status of the whole */
	uint8		ill;			/* rsl_ill: why it has not recovered */
	bool		overlapped;		/* others had faults at the same time */
	uint32		last_uids[RSL_NUM_NOTED];	/* younger ones are not those
											 * noted */

	rsl_run_counts counts[RSL_NUM_TIMES][RSL_NUM_GROUPS];
} rsl_run;

typedef struct rsl_experiments_shared
{
	int			max_experiments;	/* resilience.max_experiments; constant */
	uint32		last_uid;		/* config lock */

	/* atomics */
	pg_atomic_uint32 npublished;
	pg_atomic_uint32 lever;		/* resilience.chaos as the launcher has it */
	pg_atomic_uint64 generation;	/* of runs and of what they inject */

	/* launcher: when it looked last; microseconds, monotonic; 0 = never */
	int64		looked_us;
	pg_atomic_uint64 armed_at;	/* TimestampTz: since when chaos_armed != 0 */

	rsl_run		runs[RSL_MAX_RUNS];
	rsl_experiment experiments[FLEXIBLE_ARRAY_MEMBER];
} rsl_experiments_shared;

extern rsl_experiments_shared *rsl_experiments;

extern Size rsl_experiments_shmem_size(void);
extern void rsl_experiments_shmem_place(void *memory);
extern void rsl_experiments_shmem_init(void);

extern const char *rsl_impact_name(rsl_impact impact);
extern int	rsl_parse_impact(const char *word);
extern int	rsl_parse_distribution(const char *word);
extern const char *rsl_experiment_state_name(rsl_experiment_state state);

/* Publishing: config lock held exclusively, or nobody else is there yet. */
extern void rsl_experiment_put(int index, const rsl_experiment_policy *policy);
extern void rsl_experiment_retire(int index);

/* Does any experiment of this database name this server, or this relation? */
extern bool rsl_experiments_name(Oid server, Oid relation);

/*
 * Runs.  The experiments lock is held exclusively (and the config lock, if
 * also taken, was taken before).
 *
 * Begin: with faults at once, or after so many milliseconds of measuring.
 * Returns false when all runs are taken.  End: faults end now; the state and
 * the reason are what the view shows.
 */
extern bool rsl_run_begin(int index, int64 baseline_ms);
extern void rsl_run_end(int index, rsl_experiment_state state,
						const char *reason);

/* The lever: the launcher, and whoever creates the shared memory. */
extern void rsl_chaos_set_lever(bool on);

/* Its time "before" is over: from now on there are faults. */
extern void rsl_run_faults_begin(rsl_run *run);

/*
 * An experiment that does not run takes a free place, or that of an older
 * one, to be measured for its next start; such a place is given up again.
 * rsl_run_warm() returns false if there is none.  The caller arms.
 */
extern bool rsl_run_warm(int index);
extern void rsl_run_cool(rsl_run *run);

/* A new half of the window begins. */
extern void rsl_run_roll(rsl_run *run);

/* Bit i: seen so of object i.  Experiments lock. */
extern void rsl_run_note(const rsl_run *run, rsl_noted what, int index);
extern bool rsl_run_has_noted(const rsl_run *run, rsl_noted what, int index);

/*
 * Has anything to be done for statements?  Bit i = run i injects or measures;
 * 0 nearly always.
 */
static inline bool
rsl_chaos_armed(void)
{
	return pg_atomic_read_u32(&rsl_shmem->chaos_armed) != 0;
}

extern void rsl_chaos_arm(void);

/*
 * Where faults are injected and statements are measured: set by chaos/.
 * Called only while something is armed.
 *
 * statement_arrives: a top-level statement is to be admitted.
 * statement_starts: it was admitted, and is about to do its
 * work.  May sleep, and raise any error.  statement_ends: the one that started
 * last (if it was seen) has done its work without an error; the same.
 * connection_starts: after authentication, before
 * the connection is admitted; may raise FATAL.
 */
typedef struct rsl_chaos_sites
{
	void		(*statement_arrives) (const PlannedStmt *stmt,
									  const char *source_text,
									  QueryDesc *queryDesc);
	void		(*statement_starts) (const PlannedStmt *stmt,
									 const char *source_text,
									 QueryDesc *queryDesc);
	void		(*statement_ends) (void);
	void		(*connection_starts) (void);

	/* a call to a foreign server, within what its breaker measures */
	void		(*foreign_call) (Oid server);

	/* ... that its breaker does not let through; InvalidOid = no server's */
	void		(*call_refused) (Oid server);

	/* an error is about to be told to the client */
	void		(*error_reported) (int sqlstate);
} rsl_chaos_sites;

extern rsl_chaos_sites rsl_chaos;

/*
 * How deep this backend is in executor runs and in utility statements (kept by
 * shedding/hooks.c, while somebody needs to know), and how deep both together
 * are where statements count as top-level ones.  That is 0, but within
 * retry(), run_feature() and call_with_breaker(): they are there to cope with
 * faults, so that the SQL that was given to them is hit, and not they.
 */
extern int	rsl_executor_depth;
extern int	rsl_utility_depth;
extern int	rsl_attempt_depth;

static inline bool
rsl_is_attempt_depth(void)
{
	return rsl_executor_depth + rsl_utility_depth == rsl_attempt_depth;
}

/* A contact with a foreign server begins. */
static inline void
rsl_chaos_foreign_call(Oid server)
{
	if (unlikely(rsl_chaos_armed()))
		rsl_chaos.foreign_call(server);
}

#endif							/* RSL_SHARED_EXPERIMENTS_H */
