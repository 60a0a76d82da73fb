/*-------------------------------------------------------------------------
 *
 * exposition.h
 *		The metrics as text, in Prometheus' exposition format 0.0.4.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_METRICS_EXPOSITION_H
#define RSL_METRICS_EXPOSITION_H

#include "compat.h"

#include "lib/stringinfo.h"

/* As rsl_each_metric(). */
extern void rsl_append_metrics(StringInfo out);

#endif							/* RSL_METRICS_EXPOSITION_H */
