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

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "health/kinds.h"
#include "policy/read_query.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/* more digits than anybody reads */
#define NUMBER_FORMAT	"%.6g"

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

static rsl_read_query
check_query(const char *text)
{
	rsl_read_query query = {
		.text = text,
		.what = "query of a health check",
		.select_hint = "Write one SELECT that returns a boolean or a number.",
		.columns_hint = "It should return one row with a boolean, or a number to be held against the thresholds; a second column of type text is shown as the message.",
		.may_be_number = true
	};

	return query;
}

/* As rsl_parse_read_query(). */
void
rsl_parse_check_query(const char *text)
{
	rsl_read_query query = check_query(text);

	rsl_parse_read_query(&query);
}

/* As rsl_analyze_read_query(). */
rsl_query_result
rsl_analyze_check_query(const char *text)
{
	rsl_read_query query = check_query(text);

	return rsl_analyze_read_query(&query);
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
	else if (rsl_is_number_type(type))
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
