/*-------------------------------------------------------------------------
 *
 * execution.h
 *		Running SQL that was given as text, for a function that was called
 *		with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_EXECUTION_H
#define RSL_POLICY_EXECUTION_H

#include "compat.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "tcop/dest.h"
#include "utils/tuplestore.h"

/* Where the rows of a function that returns setof record go. */
typedef struct rsl_row_receiver
{
	DestReceiver pub;
	TupleDesc	expected;		/* the caller's column definition list */
	Tuplestorestate *store;
	bool		mismatch;		/* rows did not have these columns */
} rsl_row_receiver;

/* What the texts of errors say of an SQL text that cannot be run. */
typedef struct rsl_sql_rules
{
	const char *what;			/* "sql of a retry" */
	const char *no_transaction_control; /* DETAIL */
	const char *no_client_copy; /* DETAIL */
	const char *no_client_copy_hint;
	bool		no_set_transaction; /* not even SET TRANSACTION */
} rsl_sql_rules;

extern List *rsl_parse_text(const char *sql);
extern List *rsl_split_statements(const char *sql, const rsl_sql_rules *rules);

extern void rsl_rows_begin(rsl_row_receiver *rows, FunctionCallInfo fcinfo,
						   const char *function, const char *example);

extern uint64 rsl_execute_statements(List *statements, rsl_row_receiver *rows);
extern ErrorData *rsl_execute_in_subtransaction(List *statements,
												rsl_row_receiver *rows,
												MemoryContext context,
												MemoryContext error_context,
												uint64 *processed);

extern bool rsl_transaction_has_worked(void);

#endif							/* RSL_POLICY_EXECUTION_H */
