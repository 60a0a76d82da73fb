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
#include "utils/json.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(prometheus_metrics);
PG_FUNCTION_INFO_V1(metric_rows);

typedef struct exposition
{
	StringInfo	out;
	bool		ascii;			/* in labels */
	const rsl_metric_family *family;	/* the one that was begun last */
} exposition;

static void
append_value(StringInfo out, double value)
{
	char		text[DOUBLE_SHORTEST_DECIMAL_LEN];

	if (isnan(value))
		appendStringInfoString(out, "NaN");
	else if (isinf(value))
		appendStringInfoString(out, value > 0 ? "+Inf" : "-Inf");
	else
	{
		double_to_shortest_decimal_buf(value, text);
		appendStringInfoString(out, text);
	}
}

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
	appendStringInfoString(out, metric->family->name);
	appendStringInfoString(out, metric->suffix);
	for (int i = 0; i < metric->nlabels; i++)
	{
		appendStringInfo(out, "%c%s=\"", i == 0 ? '{' : ',', metric->labels[i]);
		rsl_append_label_value(out, metric->values[i], e->ascii);
		appendStringInfoChar(out, '"');
	}
	appendStringInfoString(out, metric->nlabels > 0 ? "} " : " ");
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
append_name(StringInfo json, const char *name)
{
	StringInfoData text;

	if (pg_verifymbstr(name, strlen(name), true))
	{
		escape_json(json, name);
		return;
	}
	initStringInfo(&text);
	for (const char *c = name; *c; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			appendStringInfo(&text, "\\x%02X", (unsigned char) *c);
		else
			appendStringInfoChar(&text, *c);
	}
	escape_json(json, text.data);
}

/* The labels as a JSON object. */
static Datum
labels_of(const rsl_metric *metric)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < metric->nlabels; i++)
	{
		appendStringInfo(&json, "%s\"%s\": ", i > 0 ? ", " : "", metric->labels[i]);
		append_name(&json, metric->values[i]);
	}
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

typedef struct metric_table
{
	ReturnSetInfo *rsinfo;
	MemoryContext per_row;
} metric_table;

static void
put_metric(const rsl_metric *metric, void *arg)
{
	metric_table *table = arg;
	MemoryContext before = MemoryContextSwitchTo(table->per_row);
	Datum		values[METRIC_COLUMNS];
	bool		nulls[METRIC_COLUMNS] = {0};

	values[0] = CStringGetTextDatum(psprintf("%s%s", metric->family->name,
											 metric->suffix));
	values[1] = CStringGetTextDatum(metric->family->type);
	values[2] = CStringGetTextDatum(metric->family->help);
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
	metric_table table;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);
	table.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	table.per_row = AllocSetContextCreate(CurrentMemoryContext, "row of metrics",
										  ALLOCSET_SMALL_SIZES);
	rsl_each_metric(put_metric, &table);
	MemoryContextDelete(table.per_row);
	return (Datum) 0;
}
