/*-------------------------------------------------------------------------
 *
 * metrics.c
 *		All numbers of the extension, for Prometheus and its like.
 *
 * A family's numbers must stand together, so that objects with more than one
 * number are copied first.  That also keeps locks short.  States are numbers,
 * whose meaning is in the help text.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "health/components.h"
#include "metrics/collector.h"
#include "shared/endpoint.h"
#include "shared/events.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "shared/workers.h"
#include "utils/timestamp.h"

/*
 * The server
 */

static void
collect_server(rsl_collector *c)
{
	static const rsl_metric_family info = {
		"resilience_info", "gauge",
		"Always 1; the version of the server is in the label."
	};
	static const rsl_metric_family recovery = {
		"resilience_in_recovery", "gauge", "1 on a standby, 0 on a primary."
	};
	static const rsl_metric_family health = {
		"resilience_health_status", "gauge",
		"Health of the whole: 0 unknown, 1 healthy, 2 degraded, 3 unhealthy."
	};
	static const rsl_metric_family since = {
		"resilience_health_since_timestamp_seconds", "gauge",
		"When the health of the whole changed last, as Unix time."
	};
	static const rsl_metric_family events = {
		"resilience_events_total", "counter",
		"Transitions of anything since the server started."
	};
	TimestampTz at;
	rsl_health_status status = rsl_health_whole(&at);

	rsl_collect(c, &info, 1, 1, "server_version", PG_VERSION);
	rsl_collect(c, &recovery, RecoveryInProgress(), 0);
	rsl_collect(c, &health, status, 0);
	if (at != 0)
		rsl_collect(c, &since, rsl_unix_time(at), 0);
	rsl_collect(c, &events, rsl_event_last_id(), 0);
}

/* How many components of each kind are in which status? */
typedef struct component_counts
{
	int			nkinds;
	const char *kinds[16];
	int			counts[16][RSL_UNHEALTHY + 1];
} component_counts;

static void
count_component(const rsl_component *component, void *arg)
{
	component_counts *counts = arg;
	int			k = 0;

	/* names of kinds are constants */
	while (k < counts->nkinds && counts->kinds[k] != component->kind)
		k++;
	if (k == lengthof(counts->kinds))
		return;
	if (k == counts->nkinds)
		counts->kinds[counts->nkinds++] = component->kind;
	counts->counts[k][component->status]++;
}

static void
collect_components(rsl_collector *c)
{
	static const rsl_metric_family family = {
		"resilience_health_components", "gauge",
		"Components of the server's health by kind and status."
	};
	component_counts counts = {0};

	rsl_each_component(count_component, &counts);
	for (int k = 0; k < counts.nkinds; k++)
	{
		for (rsl_health_status s = RSL_HEALTH_UNKNOWN; s <= RSL_UNHEALTHY; s++)
			rsl_collect(c, &family, counts.counts[k][s], 2,
						"kind", counts.kinds[k],
						"status", rsl_health_status_name(s));
	}
}

/*
 * The load
 */

static void
collect_load(rsl_collector *c)
{
	static const rsl_metric_family limit = {
		"resilience_load_limit", "gauge",
		"Transactions that may run at once, as the limit is now."
	};
	static const rsl_metric_family loaded = {
		"resilience_load_loaded", "gauge",
		"1 while the server has more to do than it can."
	};
	static const rsl_metric_family running = {
		"resilience_load_running", "gauge", "Transactions that run."
	};
	static const rsl_metric_family waiting = {
		"resilience_load_waiting", "gauge",
		"Transactions that wait for the server-wide limit."
	};
	static const rsl_metric_family admitted = {
		"resilience_load_admitted_total", "counter",
		"Transactions that were admitted."
	};
	static const rsl_metric_family shed = {
		"resilience_load_shed_total", "counter",
		"Statements that the server-wide limit refused: refused at once, timed out while waiting, pushed out by a higher priority."
	};
	static const rsl_metric_family wait = {
		"resilience_load_wait_seconds_total", "counter",
		"Time that transactions have waited for the server-wide limit."
	};
	static const rsl_metric_family connections = {
		"resilience_connections_refused_total", "counter",
		"Connections that the server-wide rate has refused."
	};
	rsl_priority_counts counts[RSL_NUM_PRIORITIES];
	int			in_force = (int32) pg_atomic_read_u32(&rsl_shmem->server.max_running);

	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_priorities(counts);
	LWLockRelease(rsl_stats_lock);

	/* a pool that is only there for its caps has room for everybody */
	if (in_force >= 0 && in_force != (int) RSL_LANE_MASK)
		rsl_collect(c, &limit, in_force, 0);
	rsl_collect(c, &loaded, rsl_server_is_loaded(), 0);
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
		rsl_collect(c, &running, counts[p].running, 1,
					"priority", rsl_priority_name(p));
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
		rsl_collect(c, &waiting, counts[p].waiting, 1,
					"priority", rsl_priority_name(p));
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
		rsl_collect(c, &admitted, counts[p].admitted, 1,
					"priority", rsl_priority_name(p));
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
	{
		const char *priority = rsl_priority_name(p);

		rsl_collect(c, &shed, pg_atomic_read_u64(&rsl_shmem->shed[p]), 2,
					"reason", "refused", "priority", priority);
		rsl_collect(c, &shed, pg_atomic_read_u64(&rsl_shmem->timed_out[p]), 2,
					"reason", "timed_out", "priority", priority);
		rsl_collect(c, &shed, pg_atomic_read_u64(&rsl_shmem->preempted[p]), 2,
					"reason", "preempted", "priority", priority);
	}
	for (int p = 0; p < RSL_NUM_PRIORITIES; p++)
		rsl_collect(c, &wait, pg_atomic_read_u64(&rsl_shmem->wait_us[p]) / 1e6,
					1, "priority", rsl_priority_name(p));
	rsl_collect(c, &connections,
				pg_atomic_read_u64(&rsl_shmem->refused_connections), 0);
}

/*
 * The extension's processes
 */

static void
collect_workers(rsl_collector *c)
{
	static const rsl_metric_family count = {
		"resilience_workers", "gauge", "Processes of the extension that are there."
	};
	static const rsl_metric_family age = {
		"resilience_worker_heartbeat_age_seconds", "gauge",
		"Time since a process was heard of, the one of each kind that is silent longest."
	};
	static const rsl_metric_family late = {
		"resilience_workers_late", "gauge",
		"Processes that should have been heard of by now."
	};
	static const char *const names[] = {"launcher", "prober", "endpoint", "database"};
	TimestampTz now = GetCurrentTimestamp();
	int			here[lengthof(names)] = {0};
	int			nlate[lengthof(names)] = {0};
	TimestampTz oldest[lengthof(names)] = {0};

	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	for (int i = 0; i < RSL_BOARD_ENTRIES; i++)
	{
		rsl_worker *worker = &rsl_workers->entries[i];
		int			kind = Min(i, RSL_WORKER_DATABASE);
		TimestampTz heartbeat;

		if (worker->pid == 0)
			continue;
		heartbeat = (TimestampTz) pg_atomic_read_u64(&worker->heartbeat);
		here[kind]++;
		if (rsl_worker_is_late(worker, now))
			nlate[kind]++;
		if (oldest[kind] == 0 || heartbeat < oldest[kind])
			oldest[kind] = heartbeat;
	}
	LWLockRelease(rsl_workers_lock);

	for (int i = 0; i < lengthof(names); i++)
		rsl_collect(c, &count, here[i], 1, "worker", names[i]);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (here[i] > 0)
			rsl_collect(c, &age, Max(now - oldest[i], 0) / 1e6, 1,
						"worker", names[i]);
	}
	for (int i = 0; i < lengthof(names); i++)
		rsl_collect(c, &late, nlate[i], 1, "worker", names[i]);
}

static void
collect_endpoint(rsl_collector *c)
{
	static const rsl_metric_family connections = {
		"resilience_endpoint_connections", "gauge",
		"Connections of the health endpoint that are open."
	};
	static const rsl_metric_family requests = {
		"resilience_endpoint_requests_total", "counter",
		"Requests that the health endpoint has answered."
	};
	static const rsl_metric_family cut_off = {
		"resilience_endpoint_cut_off_total", "counter",
		"Connections of the health endpoint that were ended because they took too long."
	};

	if (rsl_endpoint_get(NULL, NULL, NULL) == RSL_ENDPOINT_OFF)
		return;
	rsl_collect(c, &connections,
				pg_atomic_read_u32(&rsl_endpoint->connections), 0);
	rsl_collect(c, &requests, pg_atomic_read_u64(&rsl_endpoint->requests), 0);
	rsl_collect(c, &cut_off, pg_atomic_read_u64(&rsl_endpoint->cut_off), 0);
}

void
rsl_each_metric(void (*each) (const rsl_metric *metric, void *arg), void *arg)
{
	static const rsl_metric_family hidden = {
		"resilience_metrics_series_hidden", "gauge",
		"Series that were summed up as \"other\", or left out, so that no family has more than 200."
	};
	rsl_collector c = {.each = each,.arg = arg};

	collect_server(&c);
	collect_components(&c);
	rsl_collect_checks(&c);
	rsl_collect_breakers(&c);
	rsl_collect_bulkheads(&c);
	collect_load(&c);
	rsl_collect_measures(&c);
	rsl_collect_retries(&c);
	rsl_collect_features(&c);
	rsl_collect_degradations(&c);
	rsl_collect_experiments(&c);
	collect_workers(&c);
	collect_endpoint(&c);
	rsl_fold_finish(&c);
	rsl_collect(&c, &hidden, c.nhidden, 0);
}
