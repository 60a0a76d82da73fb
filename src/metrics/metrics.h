/*-------------------------------------------------------------------------
 *
 * metrics.h
 *		All numbers of the extension, for Prometheus and its like.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_METRICS_METRICS_H
#define RSL_METRICS_METRICS_H

#include "compat.h"

#define RSL_MAX_LABELS		5


/* How the series of objects without their own become one. */
typedef enum rsl_metric_fold
{
	RSL_FOLD_BY_TYPE = 0,		/* counters: the sum; gauges: left out */
	RSL_FOLD_SUM,
	RSL_FOLD_WORST				/* the highest state */
} rsl_metric_fold;

typedef struct rsl_metric_family
{
	const char *name;
	const char *type;			/* "gauge", "counter" or "histogram" */
	const char *help;
	rsl_metric_fold fold;
	int			reserved;		/* series that are never folded */
} rsl_metric_family;

typedef struct rsl_metric
{
	const rsl_metric_family *family;
	const char *suffix;			/* "", or what a histogram's series end with */
	int			nlabels;
	const char *labels[RSL_MAX_LABELS]; /* names */
	const char *values[RSL_MAX_LABELS];
	double		value;
} rsl_metric;

/*
 * Call "each" for every number; those of a family come one after the other.
 * From shared memory only.  Allocates in the current memory context; holds no
 * lock while it calls.
 */
extern void rsl_each_metric(void (*each) (const rsl_metric *metric, void *arg),
							void *arg);

#endif							/* RSL_METRICS_METRICS_H */
