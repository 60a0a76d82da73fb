/*-------------------------------------------------------------------------
 *
 * figures.c
 *		Copies of what is known of objects, for metrics and the status page.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "health/looks.h"
#include "metrics/figures.h"
#include "shared/breakers.h"
#include "shared/pool.h"
#include "shared/workers.h"
#include "utils/timestamp.h"

static void
read_clock(const rsl_state_clock *clock, int nstates, int64 now_us,
		   double *seconds, uint32 *transitions)
{
	for (int state = 0; state < nstates; state++)
	{
		seconds[state] = rsl_state_clock_total(clock, state, now_us) / 1e6;
		transitions[state] = clock->entered[state];
	}
}

rsl_check_figures *
rsl_check_figures_get(int *count)
{
	rsl_check_figures *checks;
	int			n = 0;
	rsl_look	look;

	*count = 0;
	look.now_us = rsl_now_us();
	look.now = GetCurrentTimestamp();
	if (pg_atomic_read_u32(&rsl_health->npublished) == 0)
		return NULL;
	checks = palloc0(Min(rsl_health->max_checks, RSL_MAX_COLLECTED) *
					 sizeof(rsl_check_figures));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_health->max_checks && n < RSL_MAX_COLLECTED; i++)
	{
		rsl_check  *check = &rsl_health->checks[i];
		rsl_check_figures *to = &checks[n];
		rsl_component component;

		/* as a component, so that a result which is too old is unknown */
		if (!rsl_look_at(RSL_COMPONENT_HEALTH_CHECK, i, &look, &component))
			continue;
		n++;
		to->slot = i;
		to->status = look.status;
		strlcpy(to->message, component.message, sizeof(to->message));
		strlcpy(to->name, check->policy.name, NAMEDATALEN);
		to->database = check->policy.home_database;
		to->kind = check->policy.kind;
		to->critical = check->policy.critical;
		SpinLockAcquire(&check->mutex);
		to->has_value = check->has_value;
		to->value = check->value;
		to->has_run = check->last_run_us != 0;
		to->age = (look.now_us - check->last_run_us) / 1e6;
		to->duration = check->duration_us / 1e6;
		to->runs = check->runs;
		to->failures = check->failures;
		to->timeouts = check->timeouts;
		read_clock(&check->clock, RSL_UNHEALTHY + 1, look.now_us,
				   to->state_seconds, to->transitions);
		SpinLockRelease(&check->mutex);
	}
	LWLockRelease(rsl_config_lock);
	/* takes the same lock */
	for (int i = 0; i < n; i++)
		rsl_database_name(checks[i].database, checks[i].database_name);
	*count = n;
	return checks;
}

rsl_breaker_figures *
rsl_breaker_figures_get(int *count)
{
	rsl_breaker_figures *breakers;
	int			n = 0;
	int64		now = rsl_now_us();

	*count = 0;
	if (pg_atomic_read_u32(&rsl_breakers_shmem->npublished) == 0)
		return NULL;
	breakers = palloc0(Min(rsl_breakers_shmem->nbreakers, RSL_MAX_COLLECTED) *
					   sizeof(rsl_breaker_figures));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers && n < RSL_MAX_COLLECTED; i++)
	{
		rsl_breaker *breaker = &rsl_breakers[i];
		rsl_breaker_figures *to = &breakers[n];
		rsl_breaker_state state;

		if (!breaker->published)
			continue;
		n++;
		to->slot = i;
		strlcpy(to->name, breaker->policy.name, NAMEDATALEN);
		strlcpy(to->server, breaker->policy.server_name, NAMEDATALEN);
		to->database = breaker->policy.home_database;
		SpinLockAcquire(&breaker->mutex);
		state = breaker->state;
		read_clock(&breaker->clock, RSL_BREAKER_OPEN + 1, now,
				   to->state_seconds, to->transitions);
		SpinLockRelease(&breaker->mutex);
		to->position = rsl_breaker_effective(&state);
		to->openings = state.open_count;
		to->time_open = rsl_breaker_time_open(&state, now) / 1e6;
		to->in_flight = pg_atomic_read_u32(&breaker->in_flight);
		to->successes = pg_atomic_read_u64(&breaker->successes);
		to->failures = pg_atomic_read_u64(&breaker->failures);
		to->ignored = pg_atomic_read_u64(&breaker->ignored);
		to->slow = pg_atomic_read_u64(&breaker->slow);
		to->rejected = pg_atomic_read_u64(&breaker->rejected) +
			pg_atomic_read_u64(&breaker->rejected_full);
		to->fallbacks = pg_atomic_read_u64(&breaker->fallbacks);
	}
	LWLockRelease(rsl_config_lock);
	/* takes the same lock */
	for (int i = 0; i < n; i++)
		rsl_database_name(breakers[i].database, breakers[i].database_name);
	*count = n;
	return breakers;
}

rsl_bulkhead_figures *
rsl_bulkhead_figures_get(int *count)
{
	rsl_bulkhead_figures *bulkheads;
	rsl_bulkhead_counts *counts;
	int			n = 0;

	*count = 0;
	if (pg_atomic_read_u32(&rsl_shmem->nmatchable) == 0)
		return NULL;
	bulkheads = palloc0(Min(rsl_shmem->nbulkheads, RSL_MAX_COLLECTED) *
						sizeof(rsl_bulkhead_figures));
	counts = palloc(rsl_shmem->nbulkheads * sizeof(rsl_bulkhead_counts));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_all_bulkheads(counts);
	for (int i = 0; i < rsl_shmem->nbulkheads && n < RSL_MAX_COLLECTED; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];
		rsl_bulkhead_figures *to = &bulkheads[n];

		if (!bulkhead->published)
			continue;
		n++;
		to->slot = i;
		strlcpy(to->name, bulkhead->policy.name, NAMEDATALEN);
		to->database = bulkhead->policy.home_database;
		to->max_running = bulkhead->policy.max_running;
		to->max_connections = bulkhead->policy.max_connections;
		to->connections = pg_atomic_read_u32(&bulkhead->connections);
		to->counts = counts[i];
		to->refused_connections = pg_atomic_read_u64(&bulkhead->refused_connections);
		to->refused_statements = pg_atomic_read_u64(&bulkhead->refused_statements);
		to->timed_out = pg_atomic_read_u64(&bulkhead->timed_out);
		to->preempted = pg_atomic_read_u64(&bulkhead->preempted);
		to->wait_seconds = pg_atomic_read_u64(&bulkhead->wait_us) / 1e6;
	}
	LWLockRelease(rsl_stats_lock);
	LWLockRelease(rsl_config_lock);
	/* takes the same lock */
	for (int i = 0; i < n; i++)
		rsl_database_name(bulkheads[i].database, bulkheads[i].database_name);
	*count = n;
	return bulkheads;
}

rsl_feature_figures *
rsl_feature_figures_get(int *count)
{
	rsl_feature_figures *features;
	int			n = 0;
	int64		now = rsl_now_us();

	*count = 0;
	if (pg_atomic_read_u32(&rsl_features->npublished) == 0)
		return NULL;
	features = palloc0(Min(rsl_features->max_features, RSL_MAX_COLLECTED) *
					   sizeof(rsl_feature_figures));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_features->max_features && n < RSL_MAX_COLLECTED; i++)
	{
		rsl_feature *feature = &rsl_features->features[i];
		rsl_feature_figures *to = &features[n];

		if (!feature->published)
			continue;
		n++;
		to->slot = i;
		strlcpy(to->name, feature->policy.name, NAMEDATALEN);
		to->database = feature->policy.home_database;
		to->state = pg_atomic_read_u32(&feature->state);
		to->dimmer = pg_atomic_read_u32(&feature->dimmer) / (double) RSL_DIMMER_ALL;
		to->evaluations = pg_atomic_read_u64(&feature->evaluations);
		to->degraded = pg_atomic_read_u64(&feature->degraded);
		to->fallbacks = pg_atomic_read_u64(&feature->fallbacks);
		SpinLockAcquire(&feature->mutex);
		read_clock(&feature->clock, RSL_FEATURE_OFF + 1, now,
				   to->state_seconds, to->transitions);
		SpinLockRelease(&feature->mutex);
	}
	LWLockRelease(rsl_config_lock);
	/* takes the same lock */
	for (int i = 0; i < n; i++)
		rsl_database_name(features[i].database, features[i].database_name);
	*count = n;
	return features;
}

rsl_degradation_figures *
rsl_degradation_figures_get(int *count)
{
	rsl_degradation_figures *degradations;
	int			n = 0;

	degradations = palloc0(rsl_degradations->max_degradations *
						   sizeof(rsl_degradation_figures));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_degradations->max_degradations; i++)
	{
		rsl_degradation *degradation = &rsl_degradations->degradations[i];
		rsl_degradation_figures *to = &degradations[n];

		if (!degradation->published)
			continue;
		n++;
		strlcpy(to->name, degradation->policy.name, NAMEDATALEN);
		to->database = degradation->policy.home_database;
		to->began = degradation->clock.entered[1];
		to->ended = degradation->clock.entered[0];
	}
	LWLockRelease(rsl_config_lock);
	/* takes the same lock */
	for (int i = 0; i < n; i++)
		rsl_database_name(degradations[i].database, degradations[i].database_name);
	*count = n;
	return degradations;
}

rsl_experiment_figures *
rsl_experiment_figures_get(int *count)
{
	rsl_experiment_figures *experiments;
	int			n = 0;

	*count = 0;
	if (pg_atomic_read_u32(&rsl_experiments->npublished) == 0)
		return NULL;
	experiments = palloc0(Min(rsl_experiments->max_experiments, RSL_MAX_COLLECTED) *
						  sizeof(rsl_experiment_figures));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_experiments->max_experiments && n < RSL_MAX_COLLECTED; i++)
	{
		rsl_experiment *experiment = &rsl_experiments->experiments[i];
		rsl_experiment_figures *to = &experiments[n];

		if (!experiment->published)
			continue;
		n++;
		to->slot = i;
		strlcpy(to->name, experiment->policy.name, NAMEDATALEN);
		to->database = experiment->policy.home_database;
		to->impact = experiment->policy.impact;
		/* one word, written under a lock of its own */
		to->state = experiment->state;
		to->injections = pg_atomic_read_u64(&experiment->injections);
	}
	LWLockRelease(rsl_config_lock);
	/* takes the same lock */
	for (int i = 0; i < n; i++)
		rsl_database_name(experiments[i].database, experiments[i].database_name);
	*count = n;
	return experiments;
}
