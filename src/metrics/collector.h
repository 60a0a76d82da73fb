/*-------------------------------------------------------------------------
 *
 * collector.h
 *		For those who collect metrics: how a number is handed on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_METRICS_COLLECTOR_H
#define RSL_METRICS_COLLECTOR_H

#include "core/buckets.h"
#include "datatype/timestamp.h"
#include "metrics/metrics.h"

/* combinations of the labels that are not names, of one family */
#define RSL_MAX_OTHERS		8

typedef struct rsl_collector
{
	void		(*each) (const rsl_metric *metric, void *arg);
	void	   *arg;

	/* fold.c: of the family that is being collected */
	const rsl_metric_family *family;
	int			nseries;
	int			nothers;
	rsl_metric	others[RSL_MAX_OTHERS];

	int			nhidden;		/* series that were folded, in all families */
} rsl_collector;

/* fold.c: hand on a number, or fold it; what was folded comes at the end. */
extern void rsl_fold_metric(rsl_collector *c, const rsl_metric *metric);
extern void rsl_fold_finish(rsl_collector *c);

/* Then, for each label, its name and its value. */
extern void rsl_collect(rsl_collector *c, const rsl_metric_family *family,
						double value, int nlabels,...);

/* The series of a histogram; counts are those of each bucket alone. */
extern void rsl_collect_histogram(rsl_collector *c,
								  const rsl_metric_family *family,
								  const rsl_buckets *buckets,
								  const uint64 *counts, double sum,
								  const char *label, const char *value);

extern double rsl_unix_time(TimestampTz at);

/* objects.c */
extern void rsl_collect_checks(rsl_collector *c);
extern void rsl_collect_breakers(rsl_collector *c);
extern void rsl_collect_bulkheads(rsl_collector *c);
extern void rsl_collect_features(rsl_collector *c);
extern void rsl_collect_degradations(rsl_collector *c);
extern void rsl_collect_experiments(rsl_collector *c);

/* measured.c */
extern void rsl_collect_retries(rsl_collector *c);
extern void rsl_collect_measures(rsl_collector *c);

#endif							/* RSL_METRICS_COLLECTOR_H */
