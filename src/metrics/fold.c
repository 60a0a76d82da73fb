/*-------------------------------------------------------------------------
 *
 * fold.c
 *		Bounded labels: what has no series of its own becomes "other".
 *
 * Labels that name objects, or say how they are, would have no bound; those
 * that are words of ours (a result, a state) have few values and are kept.
 * See core/series_cap.h for who has series of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "metrics/collector.h"

#define OTHER	"other"

static void
begin_family(rsl_collector *c, const rsl_metric_family *family)
{
	if (family == c->family)
		return;
	rsl_fold_finish(c);
	c->family = family;
}

/* What the others' series have in common. */
static bool
same_words(const rsl_metric *a, const rsl_metric *b, int nnames)
{
	for (int i = nnames; i < a->nlabels; i++)
	{
		if (strcmp(a->values[i], b->values[i]) != 0)
			return false;
	}
	return true;
}

static void
fold(rsl_collector *c, const rsl_metric *metric, int nnames)
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
		if (!same_words(other, metric, nnames))
			continue;
		other->value = how == RSL_FOLD_SUM ? other->value + metric->value :
			Max(other->value, metric->value);
		return;
	}
	Assert(c->nothers < RSL_MAX_OTHERS);
	other = &c->others[c->nothers++];
	*other = *metric;
	for (int i = 0; i < nnames; i++)
		other->values[i] = OTHER;
}

void
rsl_fold_finish(rsl_collector *c)
{
	for (int o = 0; o < c->nothers; o++)
		c->each(&c->others[o], c->arg);
	c->nothers = 0;
	c->family = NULL;
}

void
rsl_pass_metric(rsl_collector *c, const rsl_metric *metric)
{
	begin_family(c, metric->family);
	c->each(metric, c->arg);
}

void
rsl_fold_metric(rsl_collector *c, const rsl_metric *metric, int slot,
				int per_object, int nnames)
{
	Assert(per_object <= RSL_MAX_OTHERS);
	if (rsl_has_own_series(slot, metric->family->reserved, per_object))
	{
		rsl_pass_metric(c, metric);
		return;
	}
	begin_family(c, metric->family);
	fold(c, metric, nnames);
}
