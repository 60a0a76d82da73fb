/*-------------------------------------------------------------------------
 *
 * target.h
 *		Which runs of experiments is a session, or a statement, a target of?
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_TARGET_H
#define RSL_CHAOS_TARGET_H

#include "policy/statement.h"
#include "shared/experiments.h"

/* A run as this backend has copied it. */
typedef struct rsl_target
{
	uint32		uid;			/* the experiment's; 0 = no run */
	int			experiment;		/* index */
	rsl_run_phase phase;
	bool		session;		/* this session is one of those concerned */
	Oid		   *relations;		/* sorted: policy.relation and its parts */
	int			nrelations;
	rsl_experiment_policy policy;
} rsl_target;

/* Bring the copies up to date.  Reads catalogs if anything has changed. */
extern void rsl_targets_refresh(void);

/* The copy of a run; valid until the next refresh. */
extern const rsl_target *rsl_target_of_run(int run);

/*
 * Bit i: all conditions of run i on the session and on the statement hold, but
 * for the foreign server of what is injected into its calls.  After
 * rsl_targets_refresh().
 */
extern uint32 rsl_targets_of_statement(const rsl_statement *statement);

/* Those whose conditions are on sessions only; they may concern this one. */
extern uint32 rsl_targets_of_session(void);

/*
 * While a connection is being authenticated: bit i = it is a target of run i,
 * whose impact is connection_refused.  Superusers are not.  Refreshes by
 * itself.
 */
extern uint32 rsl_targets_of_connection(void);

/* Is this session never hit?  Superusers, and everybody in recovery. */
extern bool rsl_session_is_spared(void);

/*
 * Is this a statement about resilience itself, or one that only has it run
 * others?  Nobody must be kept from looking, or from stopping an experiment.
 */
extern bool rsl_statement_is_spared(const PlannedStmt *stmt);

/* May a fault of this run be injected now?  Everything that can end it. */
extern bool rsl_run_may_inject(int run);

#endif							/* RSL_CHAOS_TARGET_H */
