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
#include "core/series_cap.h"
#include "datatype/timestamp.h"
#include "metrics/metrics.h"

/* series of one object, in one family */
#define RSL_MAX_OTHERS		8

/* resilience.max_degradations is at most so many */
#define RSL_MOST_DEGRADATIONS	32

/* all labels say which object it is, or how it is */
#define RSL_ALL_LABELS		(-1)

typedef struct rsl_collector
{
	void		(*each) (const rsl_metric *metric, void *arg);
	void	   *arg;

	/* fold.c: of the family that is being collected */
	const rsl_metric_family *family;
	int			nothers;
	rsl_metric	others[RSL_MAX_OTHERS];

	int			nhidden;		/* series that were folded, in all families */
} rsl_collector;

/*
 * fold.c: hand on a number; or fold it, if its object has none of its own.
 * What was folded comes at the end of the family.
 */
extern void rsl_pass_metric(rsl_collector *c, const rsl_metric *metric);
extern void rsl_fold_metric(rsl_collector *c, const rsl_metric *metric,
							int slot, int per_object, int nnames);
extern void rsl_fold_finish(rsl_collector *c);

/*
 * A number of which there are few.  Then, for each label, its name and its
 * value.
 */
extern void rsl_collect(rsl_collector *c, const rsl_metric_family *family,
						double value, int nlabels,...);

/*
 * A number of an object, of which there can be many; "slot" is its place in
 * shared memory, "per_object" how many series of the family each object has.
 * The first "nnames" labels are the object's, the others words of ours.
 */
extern void rsl_collect_of(rsl_collector *c, const rsl_metric_family *family,
						   int slot, int per_object, double value, int nnames,
						   int nlabels,...);

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
