/*-------------------------------------------------------------------------
 *
 * read_query.c
 *		Queries that are kept in a definition, and run by others later.
 *
 * One SELECT (or VALUES, TABLE) that only reads, and returns one row: a health
 * check's, or the stop condition of an experiment.  It is looked at when it is
 * defined, as its owner and with the same search_path as later.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "policy/read_query.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/*
 * Become another user until rsl_become_again(), or until the transaction or
 * subtransaction is rolled back.  No way back for what runs as that user, and
 * nothing that outlives it; names mean what they mean everywhere.
 */
void
rsl_become(Oid role, rsl_identity *before)
{
	GetUserIdAndSecContext(&before->user, &before->context);
	SetUserIdAndSecContext(role, before->context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	before->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", RSL_CHECK_SEARCH_PATH,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

void
rsl_become_again(const rsl_identity *before)
{
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->user, before->context);
}

bool
rsl_is_number_type(Oid type)
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

static bool
is_text_type(Oid type)
{
	Oid			base = getBaseType(type);

	return base == TEXTOID || base == VARCHAROID || base == BPCHAROID ||
		base == NAMEOID || base == UNKNOWNOID;
}

RSL_NORETURN static void raise_columns(const rsl_read_query *query, const char *detail);

static void
raise_columns(const rsl_read_query *query, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the %s returns something else than it should", query->what),
			 errdetail("%s", detail),
			 errhint("%s", query->columns_hint)));
}

/* The position of an error is one in the query, not in what calls us. */
static void
query_error_callback(void *arg)
{
	const rsl_read_query *query = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(query->text);
	}
	errcontext("%s", query->what);
}

static RawStmt *
parse(const rsl_read_query *query)
{
	List	   *statements = raw_parser(query->text, RAW_PARSE_DEFAULT);
	RawStmt    *raw;

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s must be one statement", query->what),
				 errdetail("statements=%d", list_length(statements)),
				 errhint("Write one SELECT.")));
	raw = linitial_node(RawStmt, statements);
	if (!IsA(raw->stmt, SelectStmt) ||
		((SelectStmt *) raw->stmt)->intoClause != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s must be a SELECT", query->what),
				 errdetail("It runs in a read-only transaction."),
				 errhint("%s", query->select_hint)));
	return raw;
}

/*
 * Is it one SELECT?  Without a look at the catalogs: in a restore the tables
 * that it names may still be missing.  Errors: 42601, 22023.
 */
void
rsl_parse_read_query(const rsl_read_query *query)
{
	ErrorContextCallback callback;

	callback.callback = query_error_callback;
	callback.arg = unconstify(rsl_read_query *, query);
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

static bool
is_temporary_function(Oid function, void *context)
{
	return isAnyTempNamespace(get_func_namespace(function));
}

static bool
is_temporary_operator(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = isAnyTempNamespace(((Form_pg_operator) GETSTRUCT(tuple))->oprnamespace);
	ReleaseSysCache(tuple);
	return result;
}

/* A domain's constraints are code, too. */
static bool
is_temporary_type(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = isAnyTempNamespace(((Form_pg_type) GETSTRUCT(tuple))->typnamespace);
	ReleaseSysCache(tuple);
	return result;
}

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
	if (check_functions_in_node(node, is_temporary_function, context))
		return true;
	switch (nodeTag(node))
	{
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			if (is_temporary_operator(((OpExpr *) node)->opno))
				return true;
			break;
		case T_ScalarArrayOpExpr:
			if (is_temporary_operator(((ScalarArrayOpExpr *) node)->opno))
				return true;
			break;
		case T_CoerceToDomain:
			if (is_temporary_type(((CoerceToDomain *) node)->resulttype))
				return true;
			break;
		default:
			break;
	}
	return expression_tree_walker(node, uses_temporary, context);
}

/*
 * For SQL that runs as its owner in the session of whoever calls: refuse
 * temporary relations, and functions, operators and domains in a temporary
 * schema.
 * Those names mean something else in another session: the caller could have
 * his own code run as the owner.  Errors: 22023.
 */
void
rsl_refuse_temporary(Query *query, const char *what)
{
	if (uses_temporary((Node *) query, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s must not use temporary objects", what),
				 errdetail("They are of this session only; it runs in others."),
				 errhint("Use tables, views and functions that stay.")));
}

static rsl_query_result
analyze(const rsl_read_query *query)
{
	Query	   *analyzed = parse_analyze_fixedparams(parse(query), query->text, NULL,
													 0, NULL);
	Oid			types[2];
	int			ncolumns = 0;
	ListCell   *cell;

	if (locks_rows_or_writes((Node *) analyzed, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s must only read", query->what),
				 errdetail("It runs in a read-only transaction."),
				 errhint("Leave out what writes or locks rows.")));
	rsl_refuse_temporary(analyzed, query->what);
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
		raise_columns(query, psprintf("columns=%d", ncolumns));
	if (getBaseType(types[0]) != BOOLOID &&
		!(query->may_be_number && rsl_is_number_type(types[0])))
		raise_columns(query, psprintf("column=1 type=%s", format_type_be(types[0])));
	if (ncolumns == 2 && !is_text_type(types[1]))
		raise_columns(query, psprintf("column=2 type=%s", format_type_be(types[1])));
	return rsl_is_number_type(types[0]) ? RSL_QUERY_NUMBER : RSL_QUERY_BOOLEAN;
}

/*
 * What does it return?  As the present user and by the present search_path:
 * the caller has become the owner.  Errors: 22023, and whatever the parser
 * says.
 */
rsl_query_result
rsl_analyze_read_query(const rsl_read_query *query)
{
	ErrorContextCallback callback;
	rsl_query_result result;

	callback.callback = query_error_callback;
	callback.arg = unconstify(rsl_read_query *, query);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	result = analyze(query);
	error_context_stack = callback.previous;
	return result;
}
