/*-------------------------------------------------------------------------
 *
 * fold.c
 *		Bounded labels: what is beyond RSL_MAX_SERIES becomes "other".
 *
 * Labels that are names of objects would have no bound; those that are words
 * of ours (a result, a state) have few values and are kept.  The objects that
 * have series of their own are those that come first in shared memory, and
 * they stay so for as long as they exist.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "metrics/collector.h"

#define OTHER	"other"

/* so many series fit for certain with those that follow for the others */
#define OWN_SERIES	(RSL_MAX_SERIES - RSL_MAX_OTHERS)

static bool
is_name(const char *label)
{
	static const char *const names[] = {
		"database", "bulkhead", "breaker", "server", "check", "feature",
		"name", "experiment", "budget", "sqlstate"
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(label, names[i]) == 0)
			return true;
	}
	return false;
}

static bool
same_words(const rsl_metric *a, const rsl_metric *b)
{
	for (int i = 0; i < a->nlabels; i++)
	{
		if (!is_name(a->labels[i]) && strcmp(a->values[i], b->values[i]) != 0)
			return false;
	}
	return true;
}

static void
fold(rsl_collector *c, const rsl_metric *metric)
{
	rsl_metric_fold how = metric->family->fold;
	rsl_metric *other;

	c->nhidden++;
	if (how == RSL_FOLD_BY_TYPE)
	{
		if (strcmp(metric->family->type, "counter") != 0)
			return;
		how = RSL_FOLD_SUM;
	}
	for (int o = 0; o < c->nothers; o++)
	{
		other = &c->others[o];
		if (!same_words(other, metric))
			continue;
		other->value = how == RSL_FOLD_SUM ? other->value + metric->value :
			Max(other->value, metric->value);
		return;
	}
	if (c->nothers == RSL_MAX_OTHERS)
		return;
	other = &c->others[c->nothers++];
	*other = *metric;
	for (int i = 0; i < other->nlabels; i++)
	{
		if (is_name(other->labels[i]))
			other->values[i] = OTHER;
	}
}

void
rsl_fold_finish(rsl_collector *c)
{
	for (int o = 0; o < c->nothers; o++)
		c->each(&c->others[o], c->arg);
	c->nothers = 0;
	c->nseries = 0;
	c->family = NULL;
}

void
rsl_fold_metric(rsl_collector *c, const rsl_metric *metric)
{
	if (metric->family != c->family)
	{
		rsl_fold_finish(c);
		c->family = metric->family;
	}
	if (c->nseries >= OWN_SERIES && metric->nlabels > 0)
	{
		fold(c, metric);
		return;
	}
	c->nseries++;
	c->each(metric, c->arg);
}
