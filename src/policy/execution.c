/*-------------------------------------------------------------------------
 *
 * execution.c
 *		Running SQL that was given as text, for a function that was called
 *		with it: retry(), run_feature() and the like.
 *
 * The text is parsed before anything runs, so that what can't be run is
 * refused as a whole.  Rows go into the tuplestore of a function that returns
 * setof record, and must have the columns that its caller has named.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "parser/scansup.h"
#include "policy/execution.h"
#include "shared/experiments.h"
#include "shared/pool.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* A syntax error's position lies in the text, not in the calling statement. */
static void
parse_error_callback(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
}

/* The statements of a text, not analyzed yet.  Errors: 42601. */
List *
rsl_parse_text(const char *sql)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = parse_error_callback,
		.arg = unconstify(char *, sql)
	};
	List	   *parsed;

	error_context_stack = &callback;
	parsed = raw_parser(sql, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
	return parsed;
}

/*
 * Split a text into its statements (a list of char *), and refuse those that
 * cannot run there, before anything runs.
 *
 * Errors: 22023, 0A000, 42601.
 */
List *
rsl_split_statements(const char *sql, const rsl_sql_rules *rules)
{
	List	   *statements = NIL;
	ListCell   *lc;

	foreach(lc, rsl_parse_text(sql))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);
		const char *start = sql + Max(raw->stmt_location, 0);
		int			length = raw->stmt_len > 0 ? raw->stmt_len : strlen(start);
		Node	   *stmt = raw->stmt;

		if (IsA(stmt, TransactionStmt))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain transaction control", rules->what),
					 errdetail("%s", rules->no_transaction_control),
					 errhint("Leave BEGIN, COMMIT, ROLLBACK, SAVEPOINT and the like out.")));
		if (rules->no_set_transaction && IsA(stmt, VariableSetStmt) &&
			((VariableSetStmt *) stmt)->kind == VAR_SET_MULTI &&
			strcmp(((VariableSetStmt *) stmt)->name, "TRANSACTION") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain SET TRANSACTION", rules->what),
					 errdetail("The transaction has begun when the first statement runs."),
					 errhint("Use the argument isolation, or SET default_transaction_isolation before the CALL.")));
		if (IsA(stmt, CopyStmt) && ((CopyStmt *) stmt)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s must not contain COPY from or to the client", rules->what),
					 errdetail("%s", rules->no_client_copy),
					 errhint("%s", rules->no_client_copy_hint)));

		for (; length > 0 && scanner_isspace(*start); length--)
			start++;
		statements = lappend(statements, pnstrdup(start, length));
	}
	return statements;
}

/*
 * Does this transaction hold what others may wait for, or what would be lost
 * if it were rolled back?
 */
bool
rsl_transaction_has_worked(void)
{
	return TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
		(rsl_lock_state(MyProc) & RSL_LOCKS_STRONG) != 0;
}

/*
 * Statement by statement; what counts are the rows of the last one.  They go
 * to the receiver, if there is one.
 */
uint64
rsl_execute_statements(List *statements, rsl_row_receiver *rows)
{
	volatile uint64 processed = 0;
	int			depth = rsl_attempt_depth;
	ListCell   *lc;

	SPI_connect();
	rsl_attempt_depth = rsl_executor_depth + rsl_utility_depth;
	PG_TRY();
	{
		foreach(lc, statements)
		{
			SPIExecuteOptions options = {0};
			int			rc;

			options.dest = None_Receiver;
			if (rows != NULL && lnext(statements, lc) == NULL)
			{
				options.dest = &rows->pub;
				options.must_return_tuples = true;
			}
			rc = SPI_execute_extended((const char *) lfirst(lc), &options);
			if (rc < 0)
				elog(ERROR, "SPI_execute_extended failed: %s",
					 SPI_result_code_string(rc));
			processed = SPI_processed;
		}
	}
	PG_FINALLY();
	{
		rsl_attempt_depth = depth;
	}
	PG_END_TRY();
	SPI_finish();
	return processed;
}

/*
 * The same in a subtransaction.  Returns the error, in error_context, or NULL.
 */
ErrorData *
rsl_execute_in_subtransaction(List *statements, rsl_row_receiver *rows,
							  MemoryContext context,
							  MemoryContext error_context, uint64 *processed)
{
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);

	PG_TRY();
	{
		*processed = rsl_execute_statements(statements, rows);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(error_context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * Rows of a function that returns setof record.
 */

/* They must be what the caller's column definition list says. */
static void
check_columns(TupleDesc expected, TupleDesc returned)
{
	if (returned->natts != expected->natts)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("columns of the query do not match the column definition list"),
				 errdetail("Number of returned columns (%d) does not match expected column count (%d).",
						   returned->natts, expected->natts)));
	for (int i = 0; i < expected->natts; i++)
	{
		Form_pg_attribute want = TupleDescAttr(expected, i);
		Form_pg_attribute have = TupleDescAttr(returned, i);

		if (have->atttypid == want->atttypid &&
			(have->atttypmod == want->atttypmod || want->atttypmod < 0))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("columns of the query do not match the column definition list"),
				 errdetail("Returned type %s does not match expected type %s in column %d.",
						   format_type_with_typemod(have->atttypid, have->atttypmod),
						   format_type_with_typemod(want->atttypid, want->atttypmod),
						   i + 1),
				 errhint("Change the list after AS, or cast the column in the query.")));
	}
}

static void
rows_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
	rsl_row_receiver *rows = (rsl_row_receiver *) self;

	rows->mismatch = true;
	check_columns(rows->expected, typeinfo);
	rows->mismatch = false;
	tuplestore_clear(rows->store);
}

static bool
rows_receive(TupleTableSlot *slot, DestReceiver *self)
{
	tuplestore_puttupleslot(((rsl_row_receiver *) self)->store, slot);
	return true;
}

static void
rows_end(DestReceiver *self)
{
}

/*
 * Prepare a function's result.  Errors: 0A000 unless it was called in FROM
 * with a column definition list.
 */
void
rsl_rows_begin(rsl_row_receiver *rows, FunctionCallInfo fcinfo,
			   const char *function, const char *example)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0 ||
		rsinfo->expectedDesc == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s must be called in FROM, with a column definition list",
						function),
				 errhint("%s", example)));

	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	memset(rows, 0, sizeof(*rows));
	rows->pub.receiveSlot = rows_receive;
	rows->pub.rStartup = rows_startup;
	rows->pub.rShutdown = rows_end;
	rows->pub.rDestroy = rows_end;
	rows->pub.mydest = DestTuplestore;
	rows->expected = CreateTupleDescCopy(rsinfo->expectedDesc);
	rows->store = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
										false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setDesc = rows->expected;
	rsinfo->setResult = rows->store;
	MemoryContextSwitchTo(old);
}
