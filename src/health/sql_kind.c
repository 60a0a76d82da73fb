/*-------------------------------------------------------------------------
 *
 * sql_kind.c
 *		Health checks by a query.
 *
 * The query is one SELECT (or VALUES, TABLE) that only reads, and returns one
 * row.  Its first column decides: a boolean, or a number that is held against
 * the thresholds.  A second column, of a text type, is the message.
 *
 * It is looked at when the check is made, as its owner and with the same
 * search_path as later; what has changed since is found when it runs.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "health/kinds.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/* more digits than anybody reads */
#define NUMBER_FORMAT	"%.6g"

static bool
is_number_type(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			return true;
		default:
			return false;
	}
}

static double
number_value(Oid type, Datum datum)
{
	switch (getBaseType(type))
	{
		case INT2OID:
			return DatumGetInt16(datum);
		case INT4OID:
			return DatumGetInt32(datum);
		case INT8OID:
			return (double) DatumGetInt64(datum);
		case FLOAT4OID:
			return DatumGetFloat4(datum);
		case FLOAT8OID:
			return DatumGetFloat8(datum);
		default:
			return DatumGetFloat8(DirectFunctionCall1(numeric_float8,
													  datum));
	}
}

static bool
is_text_type(Oid type)
{
	Oid			base = getBaseType(type);

	return base == TEXTOID || base == VARCHAROID || base == BPCHAROID ||
		base == NAMEOID || base == UNKNOWNOID;
}

RSL_NORETURN static void raise_columns(const char *detail);

static void
raise_columns(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the query of a health check returns something else than it should"),
			 errdetail("%s", detail),
			 errhint("It should return one row with a boolean, or a number to be held against the thresholds; a second column of type text is shown as the message.")));
}

/* The position of an error is one in the query, not in what calls us. */
static void
query_error_callback(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(arg);
	}
	errcontext("query of the health check");
}

static RawStmt *
parse(const char *query)
{
	List	   *statements = raw_parser(query, RAW_PARSE_DEFAULT);
	RawStmt    *raw;

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of a health check must be one statement"),
				 errdetail("statements=%d", list_length(statements)),
				 errhint("Write one SELECT.")));
	raw = linitial_node(RawStmt, statements);
	if (!IsA(raw->stmt, SelectStmt) ||
		((SelectStmt *) raw->stmt)->intoClause != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of a health check must be a SELECT"),
				 errdetail("It runs in a read-only transaction."),
				 errhint("Write one SELECT that returns a boolean or a number.")));
	return raw;
}

/*
 * Is it one SELECT?  Without a look at the catalogs: in a restore the tables
 * that it names may still be missing.  Errors: 42601, 22023.
 */
void
rsl_parse_check_query(const char *query)
{
	ErrorContextCallback callback;

	callback.callback = query_error_callback;
	callback.arg = unconstify(char *, query);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	(void) parse(query);
	error_context_stack = callback.previous;
}

/* Does it, or any part of it, do more than read? */
static bool
locks_rows_or_writes(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		return query->commandType != CMD_SELECT || query->utilityStmt != NULL ||
			query->rowMarks != NIL ||
			query_tree_walker(query, locks_rows_or_writes, context, 0);
	}
	return expression_tree_walker(node, locks_rows_or_writes, context);
}

/*
 * Does it use a temporary table, or a function in a temporary schema?  Those
 * names mean something else in another session: whoever calls
 * run_health_check() could have his own code run as the check's owner.
 */
static bool
uses_temporary(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		ListCell   *cell;

		foreach(cell, ((Query *) node)->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

			if (rte->rtekind == RTE_RELATION &&
				get_rel_persistence(rte->relid) == RELPERSISTENCE_TEMP)
				return true;
		}
		return query_tree_walker((Query *) node, uses_temporary, context, 0);
	}
	if ((IsA(node, FuncExpr) &&
		 isAnyTempNamespace(get_func_namespace(((FuncExpr *) node)->funcid))) ||
		(IsA(node, Aggref) &&
		 isAnyTempNamespace(get_func_namespace(((Aggref *) node)->aggfnoid))) ||
		(IsA(node, WindowFunc) &&
		 isAnyTempNamespace(get_func_namespace(((WindowFunc *) node)->winfnoid))) ||
		(IsA(node, OpExpr) &&
		 isAnyTempNamespace(get_func_namespace(get_opcode(((OpExpr *) node)->opno)))))
		return true;
	return expression_tree_walker(node, uses_temporary, context);
}

static rsl_query_result
analyze(const char *query)
{
	Query	   *analyzed = parse_analyze_fixedparams(parse(query), query, NULL,
													 0, NULL);
	Oid			types[2];
	int			ncolumns = 0;
	ListCell   *cell;

	if (locks_rows_or_writes((Node *) analyzed, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of a health check must only read"),
				 errdetail("It runs in a read-only transaction."),
				 errhint("Leave out what writes or locks rows.")));
	if (uses_temporary((Node *) analyzed, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of a health check must not use temporary objects"),
				 errdetail("They are of this session only; the query runs in others."),
				 errhint("Use tables, views and functions that stay.")));
	foreach(cell, analyzed->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->resjunk)
			continue;
		if (ncolumns < 2)
			types[ncolumns] = exprType((Node *) entry->expr);
		ncolumns++;
	}
	if (ncolumns < 1 || ncolumns > 2)
		raise_columns(psprintf("columns=%d", ncolumns));
	if (getBaseType(types[0]) != BOOLOID && !is_number_type(types[0]))
		raise_columns(psprintf("column=1 type=%s", format_type_be(types[0])));
	if (ncolumns == 2 && !is_text_type(types[1]))
		raise_columns(psprintf("column=2 type=%s", format_type_be(types[1])));
	return is_number_type(types[0]) ? RSL_QUERY_NUMBER : RSL_QUERY_BOOLEAN;
}

/*
 * What does it return?  As the present user and by the present search_path:
 * the caller has become the owner.  Errors: 22023, and whatever the parser
 * says.
 */
rsl_query_result
rsl_analyze_check_query(const char *query)
{
	ErrorContextCallback callback;
	rsl_query_result result;

	callback.callback = query_error_callback;
	callback.arg = unconstify(char *, query);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	result = analyze(query);
	error_context_stack = callback.previous;
	return result;
}

/* What one row says. */
static void
judge_row(const rsl_check_policy *policy, HeapTuple row, TupleDesc desc,
		  rsl_check_result *result)
{
	Oid			type;
	bool		isnull;
	Datum		datum;

	/* "SELECT *" of a table that has changed */
	if (desc->natts < 1 || desc->natts > 2)
	{
		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, "the query returned %d columns", desc->natts);
		return;
	}
	type = TupleDescAttr(desc, 0)->atttypid;
	datum = SPI_getbinval(row, desc, 1, &isnull);
	if (isnull)
	{
		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, "the query returned NULL");
	}
	else if (getBaseType(type) == BOOLOID)
	{
		result->status = DatumGetBool(datum) ? RSL_HEALTHY : RSL_UNHEALTHY;
		if (result->status != RSL_HEALTHY)
			rsl_check_say(result, "the query returned false");
	}
	else if (is_number_type(type))
	{
		double		warning;
		double		critical;

		rsl_check_judge(policy, number_value(type, datum), result);
		rsl_check_thresholds(policy, &warning, &critical);
		if (isnan(result->value))
			rsl_check_say(result, "the query returned NaN");
		else if (result->status == RSL_UNHEALTHY)
			rsl_check_say(result, NUMBER_FORMAT " has reached the critical threshold " NUMBER_FORMAT,
						  result->value, critical);
		else if (result->status == RSL_DEGRADED)
			rsl_check_say(result, NUMBER_FORMAT " has reached the warning threshold " NUMBER_FORMAT,
						  result->value, warning);
	}
	else
	{
		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, "the query returned neither a boolean nor a number, but type %s",
					  format_type_be(type));
	}

	if (desc->natts == 2)
	{
		char	   *message = SPI_getvalue(row, desc, 2);

		if (message)
			rsl_check_message(result->message, message);
	}
}

/*
 * Run the query, as the present user.  At most two rows are asked for: the
 * second one is one too many.
 */
void
rsl_check_sql(const rsl_check_policy *policy, const char *query,
			  rsl_check_result *result)
{
	SPIPlanPtr	plan;
	int			rc;

	if (query == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("health check \"%s\" has no query", policy->name)));

	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	if (plan == NULL || !SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of health check \"%s\" is not one SELECT",
						policy->name)));
	PushActiveSnapshot(GetTransactionSnapshot());
	rc = SPI_execute_plan(plan, NULL, NULL, true, 2);
	PopActiveSnapshot();
	if (rc != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of health check \"%s\" is not one SELECT",
						policy->name)));
	if (SPI_processed == 1)
		judge_row(policy, SPI_tuptable->vals[0], SPI_tuptable->tupdesc, result);
	else
	{
		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, SPI_processed == 0 ? "the query returned no row" :
					  "the query returned more than one row");
	}
	SPI_finish();
}
