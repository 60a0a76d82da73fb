/*-------------------------------------------------------------------------
 *
 * retry.c
 *		retry(), retry_query(), retry_transaction(): run statements, and run
 *		them again when they fail with an error that may pass.
 *
 * An attempt of retry() and retry_query() is a subtransaction, as the block of
 * a PL/pgSQL function with EXCEPTION is.  It can redo only what it has done
 * itself: a serialization failure or a deadlock that involves the rest of the
 * transaction is not retried.  retry_transaction() is for those.
 *
 * An attempt of retry_transaction() is a transaction, with a subtransaction
 * in it: an error is caught by rolling back the subtransaction, which
 * leaves a transaction that SPI_rollback() can end.  What fails in the commit
 * itself (serialization, deferred constraints) SPI_commit() has cleaned up
 * when it raises the error.  While we sleep there is a transaction that has
 * done nothing: no locks, no snapshot.
 *
 * While we sleep the session's running slot is lent to others, as that of
 * an idle transaction is.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "policy/execution.h"
#include "retry/retry.h"
#include "shared/errcodes.h"
#include "shared/pool.h"
#include "shared/retry_budget.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(retry);
PG_FUNCTION_INFO_V1(retry_query);
PG_FUNCTION_INFO_V1(retry_transaction);

/*
 * A refusal's retry_after_ms is obeyed, up to this: a server that wants to be
 * left alone for longer gets no retry.
 */
#define MAX_RETRY_AFTER_US		(60 * USECS_PER_SEC)

/* For shorter delays the slot is not lent: it would only change hands. */
#define LEND_FROM_US			1000

#define REDO_HINT \
	"Use CALL resilience.retry_transaction(), or retry the whole transaction in the client."

typedef struct retry_call
{
	const char *function;
	rsl_retry_options options;
	rsl_retry_budget *budget;	/* NULL = none */
	MemoryContext context;		/* of the call: outlives transactions */
	MemoryContext error_context;	/* of the last error */
	rsl_row_receiver *rows;		/* retry_query() */
	bool		transaction;	/* retry_transaction() */
	SavedTransactionCharacteristics characteristics;
	bool		worked_before;	/* before the first attempt */

	int64		start_us;
	int			attempts;
	int64		previous_delay_us;
	int64		delay_us;		/* slept so far */
	uint64		processed;
	bool		failed_at_commit;
} retry_call;

/*
 * The call ends with the error of its last attempt, as it was, and a line
 * of context that says why there is no other attempt.
 */
RSL_NORETURN static void
give_up(retry_call *call, ErrorData *error, rsl_retry_result result,
		const char *reason)
{
	char	   *line;

	rsl_retry_count(error->sqlerrcode, result, call->attempts, call->delay_us);
	if (result == RSL_RETRY_EXHAUSTED && call->options.max_retries > 0)
		line = psprintf("%s: %s", call->function, reason);
	else if (call->attempts > 1)
		line = psprintf("%s: not retried after %d %s: %s", call->function,
						call->attempts - 1,
						call->attempts == 2 ? "retry" : "retries", reason);
	else
		line = psprintf("%s: not retried: %s", call->function, reason);
	error->context = error->context ?
		psprintf("%s\n%s", error->context, line) : line;
	ReThrowError(error);
}

RSL_NORETURN static void
give_up_for_budget(retry_call *call, ErrorData *error)
{
	rsl_retry_count(error->sqlerrcode, RSL_RETRY_BUDGET, call->attempts,
					call->delay_us);
	ereport(ERROR,
			(errcode(ERRCODE_RETRY_BUDGET_EXHAUSTED),
			 errmsg("retry budget \"%s\" is exhausted", call->options.budget),
			 errdetail("sqlstate=%s attempts=%d message=\"%s\"",
					   unpack_sql_state(error->sqlerrcode), call->attempts,
					   error->message),
			 errhint("Too many calls fail for retries to help: they are limited to 20 %% of first attempts and 10 per second, all sessions together. Find the cause in \"message\", or try again later.")));
}

/* Does the error concern what the transaction has done before the call? */
static void
check_surroundings(retry_call *call, ErrorData *error)
{
	const char *reason;
	const char *hint;

	if (error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE &&
		IsolationUsesXactSnapshot())
	{
		reason = "the transaction keeps its snapshot";
		hint = "Not retried: at this isolation level the transaction keeps its snapshot, and would fail again. " REDO_HINT;
	}
	else if ((error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
			  error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) &&
			 call->worked_before)
	{
		reason = "the transaction has done work before";
		hint = "Not retried: the transaction holds locks or changes from before that a retry cannot undo. " REDO_HINT;
	}
	else
		return;

	/* a retry within a retry has said it already */
	if (error->hint == NULL)
		error->hint = pstrdup(hint);
	else if (strstr(error->hint, REDO_HINT) == NULL)
		error->hint = psprintf("%s %s", error->hint, hint);
	give_up(call, error, RSL_RETRY_NOT_RETRYABLE, reason);
}

/* In an error's DETAIL: for how long the server wants to be left alone. */
static int64
retry_after_us(ErrorData *error)
{
	static const char key[] = "retry_after_ms=";
	const char *found = error->detail ? strstr(error->detail, key) : NULL;
	long		ms;

	if (found == NULL ||
		(found > error->detail && found[-1] != ' ' && found[-1] != '\n'))
		return 0;
	ms = strtol(found + strlen(key), NULL, 10);
	return Min(Max(ms, 0), MAX_RETRY_AFTER_US / 1000 + 1) * INT64CONST(1000);
}

/* Which limit of time would pass during a delay?  NULL: none. */
static const char *
passed_deadline(retry_call *call, int64 delay_us)
{
	TimestampTz then;

	if (call->options.total_timeout_us > 0 &&
		rsl_now_us() - call->start_us + delay_us >= call->options.total_timeout_us)
		return "total_timeout";

	then = GetCurrentTimestamp() + delay_us;
	if (get_timeout_active(STATEMENT_TIMEOUT) &&
		then >= get_timeout_finish_time(STATEMENT_TIMEOUT))
		return "statement_timeout";
	if (then >= rsl_transaction_timeout_at())
		return "transaction_timeout";
	if (rsl_deadline > 0 &&
		then >= GetCurrentStatementStartTimestamp() + rsl_deadline * INT64CONST(1000))
		return "resilience.deadline";
	return NULL;
}

/*
 * An attempt has failed.  Returns how long to wait before the next one, or
 * raises an error if there is to be none.
 */
static int64
decide(retry_call *call, ErrorData *error)
{
	int			retries = call->attempts - 1;
	int			sqlstate = error->sqlerrcode;
	int64		after;
	int64		delay;
	const char *deadline;

	if (sqlstate == ERRCODE_BREAKER_OPEN)
		give_up(call, error, RSL_RETRY_BREAKER_OPEN, "the circuit breaker is open");
	if (sqlstate == ERRCODE_RETRY_BUDGET_EXHAUSTED)
		give_up(call, error, RSL_RETRY_BUDGET, "a retry budget is exhausted");
	if (rsl_retry_is_never(sqlstate))
		give_up(call, error, RSL_RETRY_NOT_RETRYABLE,
				psprintf("SQLSTATE %s never is", unpack_sql_state(sqlstate)));
	if (!rsl_retry_is_retryable(&call->options, sqlstate))
		give_up(call, error, RSL_RETRY_NOT_RETRYABLE,
				psprintf("SQLSTATE %s is not in the list", unpack_sql_state(sqlstate)));

	/*
	 * A connection that breaks in the commit is one to a foreign server,
	 * which may have committed.
	 */
	if (call->failed_at_commit &&
		ERRCODE_TO_CATEGORY(sqlstate) != ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK))
		give_up(call, error, RSL_RETRY_NOT_RETRYABLE,
				psprintf("SQLSTATE %s at COMMIT", unpack_sql_state(sqlstate)));
	if (!call->transaction)
		check_surroundings(call, error);

	if (retries >= call->options.max_retries)
		give_up(call, error, RSL_RETRY_EXHAUSTED,
				call->options.max_retries == 0 ? "max_retries is 0" :
				psprintf("%d of %d retries failed", retries,
						 call->options.max_retries));

	delay = rsl_backoff_delay(&call->options.backoff, retries + 1,
							  call->previous_delay_us, rsl_retry_random());
	call->previous_delay_us = delay;

	/* not all at once at the moment that the server has named */
	after = retry_after_us(error);
	delay += after;
	if (after > MAX_RETRY_AFTER_US)
		give_up(call, error, RSL_RETRY_DEADLINE,
				"retry_after_ms is more than a minute");
	deadline = passed_deadline(call, delay);
	if (deadline != NULL)
		give_up(call, error, RSL_RETRY_DEADLINE,
				psprintf("waiting %.3f s would pass %s", delay / 1e6, deadline));

	if (call->budget != NULL && rsl_mode_setting != RSL_MODE_OFF &&
		!rsl_retry_budget_take(call->budget) &&
		rsl_mode_setting == RSL_MODE_ENFORCE)
		give_up_for_budget(call, error);

	ereport(DEBUG1,
			(errmsg_internal("%s: retry %d of %d in %g ms after SQLSTATE %s: %s",
							 call->function, retries + 1,
							 call->options.max_retries, delay / 1000.0,
							 unpack_sql_state(sqlstate), error->message)));
	return delay;
}

static void
sleep_until(int64 end_us)
{
	for (;;)
	{
		int64		left;

		CHECK_FOR_INTERRUPTS();
		left = end_us - rsl_now_us();
		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) ((left + 999) / 1000), rsl_backoff_wait_event());
		ResetLatch(MyLatch);
	}
}

static void
end_backoff(retry_call *call, int64 start_us)
{
	call->delay_us += Max(rsl_now_us() - start_us, 0);
	if (rsl_me != NULL)
	{
		rsl_me->wait_start = 0;
		rsl_session_take_back();
	}
}

/*
 * Sleep before the next attempt.  Leaves by error on cancel and the like.
 */
static void
backoff(retry_call *call, int64 delay_us)
{
	int64		start_us = rsl_now_us();

	if (rsl_me != NULL && delay_us >= LEND_FROM_US)
	{
		rsl_me->wait_start = GetCurrentTimestamp();
		rsl_session_lend_own();
	}

	PG_TRY();
	{
		sleep_until(start_us + delay_us);
	}
	PG_CATCH();
	{
		end_backoff(call, start_us);
		rsl_retry_count(geterrcode(), RSL_RETRY_NOT_RETRYABLE, call->attempts,
						call->delay_us);
		PG_RE_THROW();
	}
	PG_END_TRY();
	end_backoff(call, start_us);
}

/* Commit, and begin the next transaction.  Returns the error, or NULL. */
static ErrorData *
commit(retry_call *call)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		/* could not even abort? */
		if (!IsTransactionState())
			PG_RE_THROW();
		MemoryContextSwitchTo(call->error_context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(call->context);
	return error;
}

/* One attempt.  Returns its error, or NULL. */
static ErrorData *
attempt(retry_call *call)
{
	ErrorData  *error;

	call->attempts++;
	call->failed_at_commit = false;
	error = rsl_execute_in_subtransaction(call->options.statements, call->rows,
										  call->context, call->error_context,
										  &call->processed);
	if (error == NULL && call->transaction)
	{
		error = commit(call);
		call->failed_at_commit = error != NULL;
	}
	return error;
}

/* Attempts until one succeeds, or an error is raised. */
static void
run(retry_call *call)
{
	ErrorData  *error;
	int			last_sqlstate = 0;

	call->start_us = rsl_now_us();
	call->worked_before = rsl_transaction_has_worked();
	if (call->budget != NULL)
		rsl_retry_budget_deposit(call->budget);

	while ((error = attempt(call)) != NULL)
	{
		int64		delay_us;

		last_sqlstate = error->sqlerrcode;
		MemoryContextSwitchTo(call->error_context);
		delay_us = decide(call, error);
		MemoryContextSwitchTo(call->context);
		MemoryContextReset(call->error_context);

		if (call->rows != NULL)
			tuplestore_clear(call->rows->store);
		if (call->transaction && !call->failed_at_commit)
			SPI_rollback();
		backoff(call, delay_us);
		if (call->transaction)
			RestoreTransactionCharacteristics(&call->characteristics);
	}

	rsl_retry_count(last_sqlstate,
					call->attempts == 1 ? RSL_RETRY_SUCCESS_FIRST : RSL_RETRY_SUCCESS_RETRIED,
					call->attempts, call->delay_us);
}

/*
 * The arguments, and what all three need.  The current memory context
 * becomes the call's.
 */
static void
begin_call(FunctionCallInfo fcinfo, retry_call *call, const char *function,
		   bool transaction)
{
	memset(call, 0, sizeof(*call));
	call->function = function;
	call->transaction = transaction;
	rsl_require_shmem();

	call->context = AllocSetContextCreate(CurrentMemoryContext,
										  "resilience retry",
										  ALLOCSET_SMALL_SIZES);
	call->error_context = AllocSetContextCreate(call->context,
												"resilience retry error",
												ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(call->context);
	rsl_retry_get_options(fcinfo, transaction, &call->options);

	if (call->options.budget == NULL)
		return;
	call->budget = rsl_retry_budget_find(call->options.budget);
	if (call->budget == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no room for the retry budget \"%s\"", call->options.budget),
				 errdetail("There are %d budgets, in the whole server.",
						   RSL_MAX_RETRY_BUDGETS),
				 errhint("Use one of those in the view resilience.retry_budgets. A restart of the server empties it.")));
}

/*
 * retry(sql text, max_retries int, base_delay interval, max_delay interval,
 *		backoff_factor float8, jitter text, retryable_sqlstates text[],
 *		total_timeout interval, budget text) returns bigint
 *
 * Rows that the last statement has processed.
 *
 * Errors: those of the statements; 53R05 when the budget is exhausted; 22023,
 * 0A000 for bad arguments; 53400 when there are too many budgets.
 */
Datum
retry(PG_FUNCTION_ARGS)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	retry_call	call;

	begin_call(fcinfo, &call, "retry", false);
	run(&call);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(call.context);
	PG_RETURN_INT64((int64) call.processed);
}

/*
 * retry_query(...as retry()) returns setof record
 *
 * The rows of the last statement; never any of an attempt that failed.
 *
 * Errors: as retry(), and 42804 when the rows do not have the columns that
 * the caller's column definition list names, 42601 when there are no rows.
 */
Datum
retry_query(PG_FUNCTION_ARGS)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	retry_call	call;
	rsl_row_receiver rows;

	rsl_rows_begin(&rows, fcinfo, "resilience.retry_query()",
				   "SELECT * FROM resilience.retry_query('...') AS (id int, name text);");
	begin_call(fcinfo, &call, "retry_query", false);
	call.rows = &rows;
	run(&call);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(call.context);
	return (Datum) 0;
}

/*
 * May we end the transaction?  It must not have done work that would be
 * committed, or lost, without having been asked.
 */
static void
check_top_level(FunctionCallInfo fcinfo)
{
	bool		atomic = fcinfo->context == NULL ||
		!IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;

	if (IsTransactionBlock() && !IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block",
						"resilience.retry_transaction()"),
				 errdetail("Each attempt is a transaction of its own."),
				 errhint("CALL it without BEGIN, as the only statement that is sent. In a transaction use resilience.retry().")));
	if (atomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s must be called at top level",
						"resilience.retry_transaction()"),
				 errdetail("Each attempt is a transaction of its own, which a function, or a block with EXCEPTION or SAVEPOINT, cannot begin."),
				 errhint("CALL it by itself, or from a procedure or DO block that may COMMIT. Elsewhere use resilience.retry().")));
	if (rsl_transaction_has_worked())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run in a transaction that has done work",
						"resilience.retry_transaction()"),
				 errdetail("The transaction holds locks or changes from before that a retry could not redo."),
				 errhint("COMMIT or ROLLBACK before the CALL.")));
}

/*
 * retry_transaction(...as retry(), isolation text)
 *
 * Each attempt is a transaction, with the characteristics (isolation level,
 * read only, deferrable) of the one in which it was called.
 *
 * Errors: as retry(); 25001 in a transaction block or a transaction that has
 * done work, 2D000 elsewhere where transactions cannot end.
 */
Datum
retry_transaction(PG_FUNCTION_ARGS)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	retry_call	call;

	begin_call(fcinfo, &call, "retry_transaction", true);
	check_top_level(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	MemoryContextSwitchTo(call.context);

	/* begin with a transaction that has no snapshot, as all others will */
	SaveTransactionCharacteristics(&call.characteristics);
	if (call.options.isolation >= 0)
		call.characteristics.save_XactIsoLevel = call.options.isolation;
	SPI_commit();
	RestoreTransactionCharacteristics(&call.characteristics);

	run(&call);
	SPI_finish();
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(call.context);
	PG_RETURN_VOID();
}
