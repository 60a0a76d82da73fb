/*-------------------------------------------------------------------------
 *
 * exposition.c
 *		The metrics as text, in Prometheus' exposition format 0.0.4.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "fmgr.h"
#include "funcapi.h"
#include "metrics/exposition.h"
#include "metrics/metrics.h"
#include "mb/pg_wchar.h"
#include "shared/layout.h"
#include "shared/text.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(prometheus_metrics);
PG_FUNCTION_INFO_V1(metric_rows);

typedef struct exposition
{
	StringInfo	out;
	bool		ascii;			/* in labels */
	const rsl_metric_family *family;	/* the one that was begun last */
} exposition;

static void
append_string(StringInfo out, const char *string)
{
	appendBinaryStringInfo(out, string, strlen(string));
}

/* Most values are whole numbers, which are written faster. */
static void
append_value(StringInfo out, double value)
{
	char		text[Max(DOUBLE_SHORTEST_DECIMAL_LEN, MAXINT8LEN + 1)];

	if (isnan(value))
		append_string(out, "NaN");
	else if (isinf(value))
		append_string(out, value > 0 ? "+Inf" : "-Inf");
	else if (fabs(value) < 1e15 && value == (double) (int64) value)
		appendBinaryStringInfo(out, text, pg_lltoa((int64) value, text));
	else
		appendBinaryStringInfo(out, text,
							   double_to_shortest_decimal_buf(value, text));
}

/* Thousands of lines: without format strings. */
static void
append_metric(const rsl_metric *metric, void *arg)
{
	exposition *e = arg;
	StringInfo	out = e->out;

	if (metric->family != e->family)
	{
		e->family = metric->family;
		appendStringInfo(out, "# HELP %s %s\n# TYPE %s %s\n",
						 metric->family->name, metric->family->help,
						 metric->family->name, metric->family->type);
	}
	append_string(out, metric->family->name);
	append_string(out, metric->suffix);
	for (int i = 0; i < metric->nlabels; i++)
	{
		appendStringInfoChar(out, i == 0 ? '{' : ',');
		append_string(out, metric->labels[i]);
		appendBinaryStringInfo(out, "=\"", 2);
		rsl_append_label_value(out, metric->values[i], e->ascii);
		appendStringInfoChar(out, '"');
	}
	if (metric->nlabels > 0)
		appendStringInfoChar(out, '}');
	appendStringInfoChar(out, ' ');
	append_value(out, metric->value);
	appendStringInfoChar(out, '\n');
}

static void
append_metrics(StringInfo out, bool ascii)
{
	exposition	e = {.out = out,.ascii = ascii};

	rsl_each_metric(append_metric, &e);
}

void
rsl_append_metrics(StringInfo out)
{
	append_metrics(out, false);
}

/*
 * prometheus_metrics() returns text
 *
 * What the health endpoint answers at /metrics, for those who scrape by SQL.
 * In databases that are not in UTF-8 names are in ASCII: there may be some
 * that their encoding has no characters for.
 */
Datum
prometheus_metrics(PG_FUNCTION_ARGS)
{
	StringInfoData text;

	rsl_require_shmem();
	initStringInfo(&text);
	append_metrics(&text, GetDatabaseEncoding() != PG_UTF8);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

#define METRIC_COLUMNS		5

/*
 * A name as text of this database: names of others may be in another encoding,
 * and what is no text here becomes \xHH.
 */
static void
set_name(JsonbValue *json, const char *name)
{
	int			length = strlen(name);
	StringInfoData text;

	json->type = jbvString;
	json->val.string.val = unconstify(char *, name);
	json->val.string.len = length;
	if (pg_verifymbstr(name, length, true))
		return;
	initStringInfo(&text);
	for (const char *c = name; *c; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			appendStringInfo(&text, "\\x%02X", (unsigned char) *c);
		else
			appendStringInfoChar(&text, *c);
	}
	json->val.string.val = text.data;
	json->val.string.len = text.len;
}

/* The labels as a JSON object. */
static Datum
labels_of(const rsl_metric *metric)
{
	rsl_jsonb_builder builder = {0};
	JsonbValue	json;

	rsl_jsonb_push(&builder, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < metric->nlabels; i++)
	{
		set_name(&json, metric->labels[i]);
		rsl_jsonb_push(&builder, WJB_KEY, &json);
		set_name(&json, metric->values[i]);
		rsl_jsonb_push(&builder, WJB_VALUE, &json);
	}
	rsl_jsonb_push(&builder, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(builder.result));
}

typedef struct metric_table
{
	ReturnSetInfo *rsinfo;
	MemoryContext per_family;
	MemoryContext per_row;
	const rsl_metric_family *family;	/* what the texts are of */
	const char *suffix;
	Datum		name;
	Datum		type;
	Datum		help;
} metric_table;

static void
begin_family(metric_table *table, const rsl_metric *metric)
{
	MemoryContextReset(table->per_family);
	MemoryContextSwitchTo(table->per_family);
	table->family = metric->family;
	table->suffix = metric->suffix;
	table->name = CStringGetTextDatum(psprintf("%s%s", metric->family->name,
											   metric->suffix));
	table->type = CStringGetTextDatum(metric->family->type);
	table->help = CStringGetTextDatum(metric->family->help);
}

static void
put_metric(const rsl_metric *metric, void *arg)
{
	metric_table *table = arg;
	MemoryContext before = CurrentMemoryContext;
	Datum		values[METRIC_COLUMNS];
	bool		nulls[METRIC_COLUMNS] = {0};

	if (metric->family != table->family || metric->suffix != table->suffix)
		begin_family(table, metric);
	MemoryContextSwitchTo(table->per_row);
	values[0] = table->name;
	values[1] = table->type;
	values[2] = table->help;
	values[3] = labels_of(metric);
	values[4] = Float8GetDatum(metric->value);
	tuplestore_putvalues(table->rsinfo->setResult, table->rsinfo->setDesc,
						 values, nulls);
	MemoryContextSwitchTo(before);
	MemoryContextReset(table->per_row);
}

/*
 * metric_rows() returns setof record
 *
 * Behind the view metrics: name, type, help, labels, value.  The series of a
 * histogram are rows whose names end with _bucket, _sum and _count.
 */
Datum
metric_rows(PG_FUNCTION_ARGS)
{
	metric_table table = {0};

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);
	table.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	table.per_family = AllocSetContextCreate(CurrentMemoryContext,
											 "family of metrics",
											 ALLOCSET_SMALL_SIZES);
	table.per_row = AllocSetContextCreate(CurrentMemoryContext, "row of metrics",
										  ALLOCSET_SMALL_SIZES);
	rsl_each_metric(put_metric, &table);
	MemoryContextDelete(table.per_row);
	MemoryContextDelete(table.per_family);
	return (Datum) 0;
}
