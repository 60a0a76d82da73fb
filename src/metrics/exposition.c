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
#include "metrics/exposition.h"
#include "metrics/metrics.h"
#include "mb/pg_wchar.h"
#include "shared/layout.h"
#include "shared/text.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(prometheus_metrics);

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
