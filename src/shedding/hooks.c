/*-------------------------------------------------------------------------
 *
 * hooks.c
 *		Where statements pass by.
 *
 * ExecutorStart sees every plan, ProcessUtility everything else.  The first
 * of them in a transaction that does work admits the transaction; the
 * transaction's end gives the slot back.
 *
 * A utility statement may consist of several transactions (CALL of a
 * procedure that commits, VACUUM, CREATE INDEX CONCURRENTLY).  It was
 * admitted as a whole and keeps its slot from one to the next.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "policy/match.h"
#include "shared/budget.h"
#include "shared/cancel.h"
#include "shared/errcodes.h"
#include "shared/experiments.h"
#include "shared/features.h"
#include "shared/refusal_log.h"
#include "shared/settings.h"
#include "shedding/admission.h"
#include "shedding/hooks.h"
#include "shedding/runaway.h"
#include "tcop/utility.h"
#include "utils/elog.h"
#include "utils/guc.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static emit_log_hook_type prev_emit_log = NULL;

/*
 * rsl_utility_depth is the depth of utility statements that may contain
 * transactions, rsl_executor_depth that of executor runs: within them
 * statements are not top-level ones.  The latter is only counted while
 * something needs to know: a condition on statements, somebody who may cancel
 * statements, an experiment.
 */
static inline bool
needs_depth(void)
{
	return rsl_matches.uses_statement || rsl_cancel_armed() || rsl_chaos_armed();
}

/* A later statement of an admitted transaction, while there are rules. */
static void
runaway_statement_starts(const PlannedStmt *stmt, const char *source_text,
						 QueryDesc *queryDesc)
{
	rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};

	(void) rsl_runaway_statement_starts(&statement);
}

/* A statement of a transaction that was admitted, not its first one. */
static pg_noinline void
statement_goes_on(const PlannedStmt *stmt, const char *source_text,
				  QueryDesc *queryDesc)
{
	rsl_session_resume();
	rsl_degradation_going_on(rsl_me->priority);
	if (unlikely(rsl_matches.uses_statement) &&
		rsl_executor_depth == 0 && rsl_utility_depth == 0)
		rsl_charge_statement(stmt, source_text, queryDesc);
	if (unlikely(rsl_runaway_active()) &&
		rsl_executor_depth == 0 && rsl_utility_depth == 0)
		runaway_statement_starts(stmt, source_text, queryDesc);
}

static pg_attribute_always_inline void
admit_or_go_on(const PlannedStmt *stmt, const char *source_text,
			   QueryDesc *queryDesc)
{
	if (likely(!rsl_admitted))
		rsl_admit_transaction(stmt, source_text, queryDesc);
	else
		statement_goes_on(stmt, source_text, queryDesc);
}

/*
 * A statement while there are experiments.  Faults hold what was taken, as
 * what they stand for would; those who are refused are measured, too.
 */
static pg_noinline void
statement_starts_armed(const PlannedStmt *stmt, const char *source_text,
					   QueryDesc *queryDesc)
{
	bool		counts = rsl_is_attempt_depth();

	if (counts)
		rsl_chaos.statement_arrives(stmt, source_text, queryDesc);
	admit_or_go_on(stmt, source_text, queryDesc);
	if (counts)
		rsl_chaos.statement_starts(stmt, source_text, queryDesc);
}

/*
 * Something is about to run.  Everything that is not to be counted has no
 * rsl_me.
 */
static pg_attribute_always_inline void
statement_starts(const PlannedStmt *stmt, const char *source_text,
				 QueryDesc *queryDesc)
{
	if (likely(!rsl_chaos_armed()))
		admit_or_go_on(stmt, source_text, queryDesc);
	else
		statement_starts_armed(stmt, source_text, queryDesc);
}

/* It has done its work, without an error. */
static inline void
statement_ends(void)
{
	if (unlikely(rsl_chaos_armed()) && rsl_me != NULL && rsl_is_attempt_depth())
		rsl_chaos.statement_ends();
}

static void
executor_start(QueryDesc *queryDesc, int eflags)
{
	if (rsl_me != NULL && (eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
		statement_starts(queryDesc->plannedstmt, queryDesc->sourceText,
						 queryDesc);
	else if (unlikely(IsParallelWorker()))
		rsl_budget_worker_starts();

	if (prev_executor_start)
		prev_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

static void
call_executor_run(RSL_EXECUTOR_RUN_PARAMS)
{
	if (prev_executor_run)
		prev_executor_run(RSL_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(RSL_EXECUTOR_RUN_ARGS);
}

/*
 * A statement that others may cancel begins, if this is a top-level one.
 */
static bool
begin_cancellable(uint8 flags, const PlannedStmt *stmt, const char *source_text,
				  QueryDesc *queryDesc)
{
	if (rsl_executor_depth > 0 || rsl_utility_depth > 0 || !rsl_cancel_armed() ||
		!rsl_cancel_outermost())
		return false;

	if (rsl_matches.superuser)
		flags |= RSL_STATEMENT_SUPERUSER;
	if (rsl_mode_setting == RSL_MODE_OBSERVE)
		flags |= RSL_STATEMENT_OBSERVED;
	if (unlikely(rsl_runaway_active()))
	{
		rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};

		rsl_runaway_describe_statement(&statement);
	}
	rsl_cancel_begin(flags);
	return true;
}

/* Out of line, so that what a catch needs is not set up for each statement. */
static pg_noinline void
executor_run_watched(RSL_EXECUTOR_RUN_PARAMS)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		cancellable;

	cancellable = begin_cancellable(0, queryDesc->plannedstmt,
									queryDesc->sourceText, queryDesc);
	rsl_executor_depth++;
	PG_TRY();
	{
		call_executor_run(RSL_EXECUTOR_RUN_ARGS);
		if (cancellable)
			rsl_cancel_insist();
	}
	PG_CATCH();
	{
		rsl_executor_depth--;
		if (cancellable)
			rsl_cancel_failed(caller);
		PG_RE_THROW();
	}
	PG_END_TRY();
	rsl_executor_depth--;
	if (cancellable)
		rsl_cancel_end();
}

static void
executor_run(RSL_EXECUTOR_RUN_PARAMS)
{
	/* a FETCH, or an Execute of a suspended portal, after an idle time */
	if (rsl_admitted)
		rsl_session_resume();

	if (likely(!needs_depth()))
		call_executor_run(RSL_EXECUTOR_RUN_ARGS);
	else
		executor_run_watched(RSL_EXECUTOR_RUN_ARGS);
}

static void
call_executor_finish(QueryDesc *queryDesc)
{
	if (prev_executor_finish)
		prev_executor_finish(queryDesc);
	else
		standard_ExecutorFinish(queryDesc);
}

static pg_noinline void
executor_finish_watched(QueryDesc *queryDesc)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		cancellable;

	cancellable = begin_cancellable(0, queryDesc->plannedstmt,
									queryDesc->sourceText, queryDesc);
	rsl_executor_depth++;
	PG_TRY();
	{
		call_executor_finish(queryDesc);
		if (cancellable)
			rsl_cancel_insist();
	}
	PG_CATCH();
	{
		rsl_executor_depth--;
		if (cancellable)
			rsl_cancel_failed(caller);
		PG_RE_THROW();
	}
	PG_END_TRY();
	rsl_executor_depth--;
	if (cancellable)
		rsl_cancel_end();
}

static void
executor_finish(QueryDesc *queryDesc)
{
	/* AFTER triggers run here; a query that only reads has none */
	if (likely(!needs_depth()) ||
		(queryDesc->operation == CMD_SELECT &&
		 !queryDesc->plannedstmt->hasModifyingCTE))
		call_executor_finish(queryDesc);
	else
		executor_finish_watched(queryDesc);
	statement_ends();
}

/*
 * Is this a statement that is never refused, queued or counted?  Those that
 * run a query (EXECUTE, EXPLAIN ANALYZE, DECLARE CURSOR) are seen again in
 * ExecutorStart.
 */
static bool
is_exempt(const Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_TransactionStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
		case T_ConstraintsSetStmt:
		case T_DiscardStmt:
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_ExecuteStmt:
		case T_ExplainStmt:
		case T_DeclareCursorStmt:
		case T_FetchStmt:
		case T_ClosePortalStmt:
			return true;
		default:
			return false;
	}
}

#define UTILITY_PARAMS \
	PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, \
	ProcessUtilityContext context, ParamListInfo params, \
	QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc
#define UTILITY_ARGS \
	pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc

static void
call_process_utility(UTILITY_PARAMS)
{
	if (prev_process_utility)
		prev_process_utility(UTILITY_ARGS);
	else
		standard_ProcessUtility(UTILITY_ARGS);
}

static void
process_utility(UTILITY_PARAMS)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		cancellable;

	if (rsl_me == NULL || is_exempt(pstmt->utilityStmt))
	{
		call_process_utility(UTILITY_ARGS);
		return;
	}

	statement_starts(pstmt, queryString, NULL);

	/* pstmt may be gone when this returns */
	cancellable = begin_cancellable(IsA(pstmt->utilityStmt, CopyStmt) ?
									RSL_STATEMENT_COPY : RSL_STATEMENT_UTILITY,
									pstmt, queryString, NULL);
	rsl_utility_depth++;
	PG_TRY();
	{
		call_process_utility(UTILITY_ARGS);
		if (cancellable)
			rsl_cancel_insist();
	}
	PG_CATCH();
	{
		rsl_utility_depth--;
		if (cancellable)
			rsl_cancel_failed(caller);
		PG_RE_THROW();
	}
	PG_END_TRY();
	rsl_utility_depth--;
	if (cancellable)
		rsl_cancel_end();
	statement_ends();
}

static void
transaction_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			rsl_degradation_over();

			/* of a refusal that somebody caught: no later error is meant */
			rsl_refusal_unlogged = false;
			if (rsl_admitted && rsl_utility_depth == 0)
			{
				if (unlikely(rsl_budget_is_open))
					rsl_budget_settle(event != XACT_EVENT_ABORT);
				rsl_session_end_transaction();
			}

			/* an error in the middle of admission that nobody there expected */
			else if (unlikely(event == XACT_EVENT_ABORT && !rsl_admitted &&
							  rsl_me != NULL &&
							  (rsl_me->units != 0 || rsl_me->quarantine != 0 ||
							   rsl_budget_is_open)))
				rsl_session_release();
			break;
		default:
			break;
	}
}

/*
 * Keep refusals of the same object from flooding the server's log.  With
 * log_min_messages at a debug level all of them are logged.
 */
static void
emit_log(ErrorData *edata)
{
	if (rsl_refusal_unlogged &&
		(edata->sqlerrcode == ERRCODE_BULKHEAD_FULL ||
		 edata->sqlerrcode == ERRCODE_STATEMENT_SHED ||
		 edata->sqlerrcode == ERRCODE_WAIT_TIMED_OUT ||
		 edata->sqlerrcode == ERRCODE_PREEMPTED ||
		 edata->sqlerrcode == ERRCODE_TOO_MANY_CONNECTIONS ||
		 edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		 edata->sqlerrcode == ERRCODE_BREAKER_OPEN))
	{
		rsl_refusal_unlogged = false;
		if (rsl_log_min_messages() > DEBUG1)
			edata->output_to_server = false;
	}
	if (rsl_me != NULL && edata->elevel >= ERROR && rsl_chaos_armed())
		rsl_chaos.error_reported(edata->sqlerrcode);
	if (prev_emit_log)
		prev_emit_log(edata);
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_shedding_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_emit_log = emit_log_hook;
	emit_log_hook = emit_log;
	RegisterXactCallback(transaction_callback, NULL);
}
