/*-------------------------------------------------------------------------
 *
 * objects.c
 *		Metrics of what users define: checks, breakers, bulkheads ...
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <stdarg.h>

#include "metrics/collector.h"
#include "metrics/figures.h"
#include "shared/experiments.h"
#include "utils/timestamp.h"

static void
read_labels(rsl_metric *metric, int nlabels, va_list args)
{
	Assert(nlabels <= RSL_MAX_LABELS);
	for (int i = 0; i < nlabels; i++)
	{
		metric->labels[i] = va_arg(args, const char *);
		metric->values[i] = va_arg(args, const char *);
	}
	metric->nlabels = nlabels;
}

void
rsl_collect(rsl_collector *c, const rsl_metric_family *family, double value,
			int nlabels,...)
{
	rsl_metric	metric = {.family = family,.suffix = "",.value = value};
	va_list		args;

	va_start(args, nlabels);
	read_labels(&metric, nlabels, args);
	va_end(args);
	rsl_pass_metric(c, &metric);
}

void
rsl_collect_of(rsl_collector *c, const rsl_metric_family *family, int slot,
			   int per_object, double value, int nnames, int nlabels,...)
{
	rsl_metric	metric = {.family = family,.suffix = "",.value = value};
	va_list		args;

	va_start(args, nlabels);
	read_labels(&metric, nlabels, args);
	va_end(args);
	rsl_fold_metric(c, &metric, slot, per_object,
					nnames == RSL_ALL_LABELS ? nlabels : nnames);
}

void
rsl_collect_histogram(rsl_collector *c, const rsl_metric_family *family,
					  const rsl_buckets *buckets, const uint64 *counts,
					  double sum, const char *label, const char *value)
{
	rsl_metric	metric = {.family = family,.labels = {label, "le"},.values = {value, NULL}};
	uint64		total = 0;
	char		bound[32];

	for (int b = 0; b <= RSL_BUCKET_BOUNDS; b++)
	{
		total += counts[b];
		if (b < RSL_BUCKET_BOUNDS)
			snprintf(bound, sizeof(bound), "%g", buckets->seconds[b]);
		else
			strlcpy(bound, "+Inf", sizeof(bound));
		metric.suffix = "_bucket";
		metric.nlabels = 2;
		metric.values[1] = bound;
		metric.value = (double) total;
		rsl_pass_metric(c, &metric);
	}
	metric.nlabels = 1;
	metric.suffix = "_sum";
	metric.value = sum;
	rsl_pass_metric(c, &metric);
	metric.suffix = "_count";
	metric.value = (double) total;
	rsl_pass_metric(c, &metric);
}

double
rsl_unix_time(TimestampTz at)
{
	return at / 1e6 +
		(double) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

/* A family with one number of each of n objects. */
#define COLLECT_EACH(objects, n, family, value, ...) \
	do { \
		static const rsl_metric_family the_family = family; \
		for (int i = 0; i < (n); i++) \
			rsl_collect_of(c, &the_family, (objects)[i].slot, 1, (value), \
						   RSL_ALL_LABELS, __VA_ARGS__); \
	} while (0)

#define FAMILY(...)		{__VA_ARGS__}

/*
 * Health checks
 */

void
rsl_collect_checks(rsl_collector *c)
{
	int			n;
	rsl_check_figures *checks = rsl_check_figures_get(&n);

#define LABELS	2, "database", checks[i].database_name, "check", checks[i].name
	COLLECT_EACH(checks, n,
				 FAMILY("resilience_health_check_status", "gauge",
						"Result of a health check: 0 unknown, 1 healthy, 2 degraded, 3 unhealthy.", RSL_FOLD_WORST),
				 checks[i].status, 4, "database", checks[i].database_name,
				 "check", checks[i].name,
				 "kind", rsl_check_kind_name(checks[i].kind),
				 "critical", checks[i].critical ? "true" : "false");
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family value = {
			"resilience_health_check_value", "gauge",
			"The number that a health check has found last."
		};

		if (checks[i].has_value)
			rsl_collect_of(c, &value, checks[i].slot, 1, checks[i].value,
						   RSL_ALL_LABELS, LABELS);
	}
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family age = {
			"resilience_health_check_age_seconds", "gauge",
			"Time since a health check ran last."
		};

		if (checks[i].has_run)
			rsl_collect_of(c, &age, checks[i].slot, 1, checks[i].age,
						   RSL_ALL_LABELS, LABELS);
	}
	COLLECT_EACH(checks, n,
				 FAMILY("resilience_health_check_duration_seconds", "gauge",
						"How long a health check ran last."),
				 checks[i].duration, LABELS);
	COLLECT_EACH(checks, n,
				 FAMILY("resilience_health_check_runs_total", "counter",
						"Runs of a health check."),
				 checks[i].runs, LABELS);
	COLLECT_EACH(checks, n,
				 FAMILY("resilience_health_check_failures_total", "counter",
						"Runs of a health check that were not healthy."),
				 checks[i].failures, LABELS);
	COLLECT_EACH(checks, n,
				 FAMILY("resilience_health_check_timeouts_total", "counter",
						"Runs of a health check that were cut off."),
				 checks[i].timeouts, LABELS);
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family seconds = {
			"resilience_health_check_state_seconds_total", "counter",
			"How long a health check was in each status."
		};

		for (int state = RSL_HEALTH_UNKNOWN; state <= RSL_UNHEALTHY; state++)
			rsl_collect_of(c, &seconds, checks[i].slot, RSL_UNHEALTHY + 1,
						   checks[i].state_seconds[state], 2, 3, "database",
						   checks[i].database_name, "check", checks[i].name,
						   "status", rsl_health_status_name(state));
	}
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family transitions = {
			"resilience_health_check_transitions_total", "counter",
			"How often a health check came into each status."
		};

		for (int state = RSL_HEALTH_UNKNOWN; state <= RSL_UNHEALTHY; state++)
			rsl_collect_of(c, &transitions, checks[i].slot, RSL_UNHEALTHY + 1,
						   checks[i].transitions[state], 2, 3, "database",
						   checks[i].database_name, "check", checks[i].name,
						   "to", rsl_health_status_name(state));
	}
#undef LABELS
}

/*
 * Breakers
 */

/* in the order of rsl_breaker_position, which is that of the metric's values */
static const char *const breaker_states[] = {"closed", "half_open", "open"};

void
rsl_collect_breakers(rsl_collector *c)
{
	int			n;
	rsl_breaker_figures *breakers = rsl_breaker_figures_get(&n);

#define LABELS	2, "database", breakers[i].database_name, "breaker", breakers[i].name
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_state", "gauge",
						"State of a circuit breaker: 0 closed, 1 half-open, 2 open.", RSL_FOLD_WORST),
				 breakers[i].position == RSL_BREAKER_CLOSED ? 0 :
				 breakers[i].position == RSL_BREAKER_HALF_OPEN ? 1 : 2,
				 3, "database", breakers[i].database_name,
				 "breaker", breakers[i].name, "server", breakers[i].server);
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_calls_in_flight", "gauge",
						"Calls through a circuit breaker that are under way.", RSL_FOLD_SUM),
				 breakers[i].in_flight, LABELS);
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family calls = {
			"resilience_circuit_breaker_calls_total", "counter",
			"Calls through a circuit breaker that have ended; ignored: neither success nor the server's fault."
		};
		const char *database = breakers[i].database_name;

		rsl_collect_of(c, &calls, breakers[i].slot, 3, breakers[i].successes,
					   2, 3, "database", database, "breaker", breakers[i].name,
					   "result", "success");
		rsl_collect_of(c, &calls, breakers[i].slot, 3, breakers[i].failures, 2,
					   3, "database", database, "breaker", breakers[i].name,
					   "result", "failure");
		rsl_collect_of(c, &calls, breakers[i].slot, 3, breakers[i].ignored, 2,
					   3, "database", database, "breaker", breakers[i].name,
					   "result", "ignored");
	}
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_slow_calls_total", "counter",
						"Calls through a circuit breaker that were slow."),
				 breakers[i].slow, LABELS);
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_rejected_total", "counter",
						"Calls that a circuit breaker has not let through."),
				 breakers[i].rejected, LABELS);
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_fallbacks_total", "counter",
						"Statements that were answered from a fallback, or with no rows."),
				 breakers[i].fallbacks, LABELS);
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_opened_total", "counter",
						"How often a circuit breaker has opened."),
				 breakers[i].openings, LABELS);
	COLLECT_EACH(breakers, n,
				 FAMILY("resilience_circuit_breaker_open_seconds_total", "counter",
						"How long a circuit breaker was not closed."),
				 breakers[i].time_open, LABELS);
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family seconds = {
			"resilience_circuit_breaker_state_seconds_total", "counter",
			"How long a circuit breaker was in each state."
		};

		for (int state = 0; state < lengthof(breaker_states); state++)
			rsl_collect_of(c, &seconds, breakers[i].slot,
						   lengthof(breaker_states),
						   breakers[i].state_seconds[state], 2, 3, "database",
						   breakers[i].database_name, "breaker",
						   breakers[i].name, "state", breaker_states[state]);
	}
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family transitions = {
			"resilience_circuit_breaker_transitions_total", "counter",
			"How often a circuit breaker came into each state."
		};

		for (int state = 0; state < lengthof(breaker_states); state++)
			rsl_collect_of(c, &transitions, breakers[i].slot,
						   lengthof(breaker_states),
						   breakers[i].transitions[state], 2, 3, "database",
						   breakers[i].database_name, "breaker",
						   breakers[i].name, "to", breaker_states[state]);
	}
#undef LABELS
}

/*
 * Bulkheads
 */

void
rsl_collect_bulkheads(rsl_collector *c)
{
	int			n;
	rsl_bulkhead_figures *bulkheads = rsl_bulkhead_figures_get(&n);

#define LABELS	2, "database", bulkheads[i].database_name, "bulkhead", bulkheads[i].name
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_running", "gauge",
						"Transactions that run in a bulkhead.", RSL_FOLD_SUM),
				 bulkheads[i].counts.running, LABELS);
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_waiting", "gauge",
						"Transactions that wait for a bulkhead.", RSL_FOLD_SUM),
				 bulkheads[i].counts.waiting, LABELS);
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_max_running", "gauge",
						"Transactions that may run in a bulkhead at once; -1 is no limit."),
				 bulkheads[i].max_running, LABELS);
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_connections", "gauge",
						"Connections that a bulkhead counts.", RSL_FOLD_SUM),
				 bulkheads[i].connections, LABELS);
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_max_connections", "gauge",
						"Connections that a bulkhead lets in; -1 is no limit."),
				 bulkheads[i].max_connections, LABELS);
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_admitted_total", "counter",
						"Transactions that a bulkhead has admitted."),
				 bulkheads[i].counts.admitted, LABELS);
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family refused = {
			"resilience_bulkhead_refused_total", "counter",
			"What a bulkhead has refused: connections and statements at once, waiters that timed out or were pushed out."
		};
		const char *database = bulkheads[i].database_name;

		rsl_collect_of(c, &refused, bulkheads[i].slot, 4,
					   bulkheads[i].refused_connections, 2, 3, "database",
					   database, "bulkhead", bulkheads[i].name, "reason",
					   "connection");
		rsl_collect_of(c, &refused, bulkheads[i].slot, 4,
					   bulkheads[i].refused_statements, 2, 3, "database",
					   database, "bulkhead", bulkheads[i].name, "reason",
					   "statement");
		rsl_collect_of(c, &refused, bulkheads[i].slot, 4,
					   bulkheads[i].timed_out, 2, 3, "database", database,
					   "bulkhead", bulkheads[i].name, "reason", "timed_out");
		rsl_collect_of(c, &refused, bulkheads[i].slot, 4,
					   bulkheads[i].preempted, 2, 3, "database", database,
					   "bulkhead", bulkheads[i].name, "reason", "preempted");
	}
	COLLECT_EACH(bulkheads, n,
				 FAMILY("resilience_bulkhead_wait_seconds_total", "counter",
						"Time that transactions have waited for a bulkhead."),
				 bulkheads[i].wait_seconds, LABELS);
#undef LABELS
}

/*
 * Features
 */

void
rsl_collect_features(rsl_collector *c)
{
	int			n;
	rsl_feature_figures *features = rsl_feature_figures_get(&n);

#define LABELS	2, "database", features[i].database_name, "feature", features[i].name
	COLLECT_EACH(features, n,
				 FAMILY("resilience_feature_state", "gauge",
						"State of a feature: 0 on, 1 degraded, 2 off.", RSL_FOLD_WORST),
				 features[i].state, LABELS);
	COLLECT_EACH(features, n,
				 FAMILY("resilience_feature_dimmer_ratio", "gauge",
						"Share of the calls of a feature that are served in full."),
				 features[i].dimmer, LABELS);
	COLLECT_EACH(features, n,
				 FAMILY("resilience_feature_evaluations_total", "counter",
						"How often it was asked whether a feature is enabled."),
				 features[i].evaluations, LABELS);
	COLLECT_EACH(features, n,
				 FAMILY("resilience_feature_degraded_total", "counter",
						"How often the answer was no."),
				 features[i].degraded, LABELS);
	COLLECT_EACH(features, n,
				 FAMILY("resilience_feature_fallbacks_total", "counter",
						"How often a fallback ran in place of a feature."),
				 features[i].fallbacks, LABELS);
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family seconds = {
			"resilience_feature_state_seconds_total", "counter",
			"How long a feature was in each state."
		};

		for (int state = RSL_FEATURE_ON; state <= RSL_FEATURE_OFF; state++)
			rsl_collect_of(c, &seconds, features[i].slot, RSL_FEATURE_OFF + 1,
						   features[i].state_seconds[state], 2, 3, "database",
						   features[i].database_name, "feature",
						   features[i].name, "state",
						   rsl_feature_state_name(state));
	}
	for (int i = 0; i < n; i++)
	{
		static const rsl_metric_family transitions = {
			"resilience_feature_transitions_total", "counter",
			"How often a feature came into each state."
		};

		for (int state = RSL_FEATURE_ON; state <= RSL_FEATURE_OFF; state++)
			rsl_collect_of(c, &transitions, features[i].slot,
						   RSL_FEATURE_OFF + 1, features[i].transitions[state],
						   2, 3, "database", features[i].database_name,
						   "feature", features[i].name, "to",
						   rsl_feature_state_name(state));
	}
#undef LABELS
}

/*
 * What is done without: features and degradations in one family
 */

void
rsl_collect_degradations(rsl_collector *c)
{
	static const rsl_metric_family events = {
		"resilience_degradation_events_total", "counter",
		"How often a feature was degraded, switched off or came back, and a degradation began or ended.",
		.reserved = 2 * RSL_MOST_DEGRADATIONS
	};
	int			nfeatures;
	int			ndegradations;
	rsl_feature_figures *features = rsl_feature_figures_get(&nfeatures);
	rsl_degradation_figures *degradations = rsl_degradation_figures_get(&ndegradations);

	for (int i = 0; i < ndegradations; i++)
	{
		rsl_collect(c, &events, degradations[i].began, 4,
					"database", degradations[i].database_name,
					"name", degradations[i].name, "kind", "degradation",
					"to", "active");
		rsl_collect(c, &events, degradations[i].ended, 4,
					"database", degradations[i].database_name,
					"name", degradations[i].name, "kind", "degradation",
					"to", "inactive");
	}
	for (int i = 0; i < nfeatures; i++)
	{
		for (int state = RSL_FEATURE_ON; state <= RSL_FEATURE_OFF; state++)
			rsl_collect_of(c, &events, features[i].slot, RSL_FEATURE_OFF + 1,
						   features[i].transitions[state], 2, 4, "database",
						   features[i].database_name, "name", features[i].name,
						   "kind", "feature", "to",
						   rsl_feature_state_name(state));
	}
}

/*
 * Chaos experiments
 */

void
rsl_collect_experiments(rsl_collector *c)
{
	static const rsl_metric_family enabled = {
		"resilience_chaos_enabled", "gauge",
		"1 while the safety lever resilience.chaos is on."
	};
	static const rsl_metric_family running = {
		"resilience_experiments_running", "gauge",
		"Chaos experiments that run."
	};
	int			n;
	rsl_experiment_figures *experiments = rsl_experiment_figures_get(&n);
	int			nrunning = 0;

	for (int i = 0; i < n; i++)
		nrunning += experiments[i].state == RSL_EXPERIMENT_RUNNING ? 1 : 0;
	rsl_collect(c, &enabled, pg_atomic_read_u32(&rsl_experiments->lever), 0);
	rsl_collect(c, &running, nrunning, 0);
#define LABELS	3, "database", experiments[i].database_name, \
	"experiment", experiments[i].name, "impact", rsl_impact_name(experiments[i].impact)
	COLLECT_EACH(experiments, n,
				 FAMILY("resilience_experiment_state", "gauge",
						"State of a chaos experiment: 0 defined, 1 scheduled, 2 running, 3 stopped, 4 finished, 5 aborted."),
				 experiments[i].state, LABELS);
	COLLECT_EACH(experiments, n,
				 FAMILY("resilience_experiment_injections_total", "counter",
						"Faults that a chaos experiment has injected."),
				 (double) experiments[i].injections, LABELS);
#undef LABELS
}
