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
#include "shared/experiments.h"
#include "shared/features.h"
#include "shared/health.h"
#include "shared/statistics.h"

/* so many objects of a kind are looked at: the most that there can be */
#define RSL_MAX_COLLECTED	10000

typedef struct rsl_check_figures
{
	int			slot;			/* in shared memory, as long as it exists */
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
	double		state_seconds[RSL_UNHEALTHY + 1];
	uint32		transitions[RSL_UNHEALTHY + 1];
	char		message[RSL_CHECK_MESSAGE_LEN];
} rsl_check_figures;

typedef struct rsl_breaker_figures
{
	int			slot;			/* in shared memory, as long as it exists */
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
	double		state_seconds[RSL_BREAKER_OPEN + 1];
	uint32		transitions[RSL_BREAKER_OPEN + 1];
} rsl_breaker_figures;

typedef struct rsl_bulkhead_figures
{
	int			slot;			/* in shared memory, as long as it exists */
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
	int			slot;			/* in shared memory, as long as it exists */
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	Oid			database;
	rsl_feature_state state;
	double		dimmer;
	uint64		evaluations;
	uint64		degraded;
	uint64		fallbacks;
	double		state_seconds[RSL_FEATURE_OFF + 1];
	uint32		transitions[RSL_FEATURE_OFF + 1];
} rsl_feature_figures;

typedef struct rsl_degradation_figures
{
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	Oid			database;
	uint32		began;
	uint32		ended;
} rsl_degradation_figures;

typedef struct rsl_experiment_figures
{
	int			slot;			/* in shared memory, as long as it exists */
	char		name[NAMEDATALEN];
	char		database_name[NAMEDATALEN];
	Oid			database;
	rsl_impact	impact;
	rsl_experiment_state state;
	uint64		injections;
} rsl_experiment_figures;

extern rsl_check_figures *rsl_check_figures_get(int *count);
extern rsl_breaker_figures *rsl_breaker_figures_get(int *count);
extern rsl_bulkhead_figures *rsl_bulkhead_figures_get(int *count);
extern rsl_feature_figures *rsl_feature_figures_get(int *count);
extern rsl_degradation_figures *rsl_degradation_figures_get(int *count);
extern rsl_experiment_figures *rsl_experiment_figures_get(int *count);

#endif							/* RSL_METRICS_FIGURES_H */
