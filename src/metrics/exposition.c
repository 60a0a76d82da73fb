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
		rsl_append_label_value(out, metric->values[i]);
		appendStringInfoChar(out, '"');
	}
	appendStringInfoString(out, metric->nlabels > 0 ? "} " : " ");
	append_value(out, metric->value);
	appendStringInfoChar(out, '\n');
}

void
rsl_append_metrics(StringInfo out)
{
	exposition	e = {out};

	rsl_each_metric(append_metric, &e);
}

/*
 * prometheus_metrics() returns text
 *
 * What the health endpoint answers at /metrics, for those who scrape by SQL.
 */
Datum
prometheus_metrics(PG_FUNCTION_ARGS)
{
	StringInfoData text;

	rsl_require_shmem();
	initStringInfo(&text);
	rsl_append_metrics(&text);
	PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(text.data, text.len,
													  PG_UTF8)));
}

#define METRIC_COLUMNS		5

/* The labels as a JSON object. */
static Datum
labels_of(const rsl_metric *metric)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < metric->nlabels; i++)
	{
		char	   *value = pstrdup(metric->values[i]);

		/* names of other databases may be in another encoding */
		if (!pg_verifymbstr(value, strlen(value), true))
		{
			for (char *c = value; *c; c++)
			{
				if (IS_HIGHBIT_SET(*c))
					*c = '?';
			}
		}
		appendStringInfo(&json, "%s\"%s\": ", i > 0 ? ", " : "", metric->labels[i]);
		escape_json(&json, value);
	}
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static void
put_metric(const rsl_metric *metric, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	Datum		values[METRIC_COLUMNS];
	bool		nulls[METRIC_COLUMNS] = {0};

	values[0] = CStringGetTextDatum(psprintf("%s%s", metric->family->name,
											 metric->suffix));
	values[1] = CStringGetTextDatum(metric->family->type);
	values[2] = CStringGetTextDatum(metric->family->help);
	values[3] = labels_of(metric);
	values[4] = Float8GetDatum(metric->value);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
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
	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);
	rsl_each_metric(put_metric, fcinfo->resultinfo);
	return (Datum) 0;
}
