/*-------------------------------------------------------------------------
 *
 * figures.h
 *		Copies of what is known of objects, for metrics and the status page.
 *
 * From shared memory only.  Each function returns an array in the current
 * memory context, and its length; of at most RSL_MAX_COLLECTED objects.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_METRICS_FIGURES_H
#define RSL_METRICS_FIGURES_H

#include "core/breaker_state.h"
#include "shared/features.h"
#include "shared/health.h"
#include "shared/statistics.h"

/* so many objects of a kind have numbers of their own */
#define RSL_MAX_COLLECTED	1000

typedef struct rsl_check_figures
{
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	Oid			database;
	rsl_check_kind kind;
	bool		critical;
	rsl_health_status status;
	bool		has_value;
	double		value;
	double		age;
	double		duration;
	bool		has_run;
	uint64		runs;
	uint64		failures;
	uint64		timeouts;
	char		message[RSL_CHECK_MESSAGE_LEN];
} rsl_check_figures;

typedef struct rsl_breaker_figures
{
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	char		server[NAMEDATALEN];
	Oid			database;
	rsl_breaker_position position;
	uint32		in_flight;
	uint64		openings;
	double		time_open;
	uint64		successes;
	uint64		failures;
	uint64		ignored;
	uint64		slow;
	uint64		rejected;
	uint64		fallbacks;
} rsl_breaker_figures;

typedef struct rsl_bulkhead_figures
{
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	Oid			database;
	int32		max_running;
	int32		max_connections;
	uint32		connections;
	rsl_bulkhead_counts counts;
	uint64		refused_connections;
	uint64		refused_statements;
	uint64		timed_out;
	uint64		preempted;
	double		wait_seconds;
} rsl_bulkhead_figures;

typedef struct rsl_feature_figures
{
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	Oid			database;
	rsl_feature_state state;
	double		dimmer;
	uint64		evaluations;
	uint64		degraded;
	uint64		fallbacks;
} rsl_feature_figures;

extern rsl_check_figures *rsl_check_figures_get(int *count);
extern rsl_breaker_figures *rsl_breaker_figures_get(int *count);
extern rsl_bulkhead_figures *rsl_bulkhead_figures_get(int *count);
extern rsl_feature_figures *rsl_feature_figures_get(int *count);

#endif							/* RSL_METRICS_FIGURES_H */
