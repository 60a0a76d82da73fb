/*-------------------------------------------------------------------------
 *
 * collector.h
 *		For those who collect metrics: how a number is handed on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_METRICS_COLLECTOR_H
#define RSL_METRICS_COLLECTOR_H

#include "datatype/timestamp.h"
#include "metrics/metrics.h"

typedef struct rsl_collector
{
	void		(*each) (const rsl_metric *metric, void *arg);
	void	   *arg;
} rsl_collector;

/* Then, for each label, its name and its value. */
extern void rsl_collect(rsl_collector *c, const rsl_metric_family *family,
						double value, int nlabels,...);

extern double rsl_unix_time(TimestampTz at);

/* objects.c */
extern void rsl_collect_checks(rsl_collector *c);
extern void rsl_collect_breakers(rsl_collector *c);
extern void rsl_collect_bulkheads(rsl_collector *c);
extern void rsl_collect_features(rsl_collector *c);

#endif							/* RSL_METRICS_COLLECTOR_H */
