/*-------------------------------------------------------------------------
 *
 * looks.c
 *		One look at one component: how is it?
 *
 * Everything is in shared memory.  A look costs some dozens of nanoseconds,
 * its message more: the launcher looks at everything ten times a second, and
 * asks for a message only when it has something to tell.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "core/breaker_state.h"
#include "core/health_state.h"
#include "health/looks.h"
#include "shared/breakers.h"
#include "shared/endpoint.h"
#include "shared/features.h"
#include "shared/pool.h"
#include "shared/runaway.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "utils/elog.h"

/* for so long after it was seen a long queue is trouble */
#define LONG_QUEUE_US		INT64CONST(1000000)

/* a feature that is dimmed further than this is degraded */
#define DIMMED_BELOW		(RSL_DIMMER_ALL * 9 / 10)

static const char *const kind_names[RSL_NUM_COMPONENT_KINDS] = {
	"load_shedder", "worker", "health_check", "breaker", "bulkhead", "feature",
	"degradation", "runaway_rule"
};

const char *
rsl_component_kind_name(rsl_component_kind kind)
{
	return kind_names[kind];
}

static void
describe(rsl_component *details, const char *name, Oid database)
{
	if (details == NULL)
		return;
	strlcpy(details->name, name, sizeof(details->name));
	details->database = database;
	details->message[0] = '\0';
}

#define SAY(details, ...) \
	do { \
		if (details) \
			snprintf((details)->message, sizeof((details)->message), \
					 __VA_ARGS__); \
	} while (0)

int64
rsl_longest_wait_us(TimestampTz now)
{
	int64		longest = 0;

	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];
		TimestampTz start;

		if (session->pid == 0 ||
			(int32) pg_atomic_read_u32(&session->waiting_for) != RSL_SERVER_POOL)
			continue;
		start = session->wait_start;
		if (start != 0)
			longest = Max(longest, now - start);
	}
	return longest;
}

static bool
look_at_load_shedder(int index, rsl_look *look, rsl_component *details)
{
	rsl_mode	mode = pg_atomic_read_u32(&rsl_health_board->mode);
	int64		long_queue_us = (int64) pg_atomic_read_u64(&rsl_health_board->long_queue_us);
	uint32		shed = pg_atomic_read_u32(&rsl_health_board->shed);
	rsl_pool_numbers numbers;

	look->uid = 1;
	look->status = RSL_HEALTHY;
	if (mode == RSL_MODE_ENFORCE &&
		(pg_atomic_read_u64(&rsl_shmem->shedding_since) != 0 ||
		 (long_queue_us != 0 && look->now_us - long_queue_us < LONG_QUEUE_US)))
		look->status = RSL_DEGRADED;
	if (details == NULL)
		return true;

	describe(details, "load_shedder", InvalidOid);
	if (mode == RSL_MODE_OFF)
	{
		SAY(details, "resilience.mode is off: nothing is limited");
		return true;
	}
	rsl_pool_get_numbers(&rsl_shmem->server, RSL_PRIORITY_LOW, &numbers);
	if (mode == RSL_MODE_OBSERVE)
		SAY(details, "resilience.mode is observe: would have refused %u in the last second",
			shed);
	else if (pg_atomic_read_u64(&rsl_shmem->shedding_since) != 0)
		SAY(details, "refused in the last second: %u; waiting=%d limit=%d minimum_priority=%s",
			shed, numbers.waiting, numbers.limit,
			rsl_priority_name(pg_atomic_read_u32(&rsl_shmem->minimum_priority)));
	else if (look->status != RSL_HEALTHY)
		SAY(details, "long queue: waiting=%d limit=%d, the longest wait is %lld ms",
			numbers.waiting, numbers.limit,
			(long long) (rsl_longest_wait_us(look->now) / 1000));
	else if (pg_atomic_read_u64(&rsl_shmem->unmatched) > 0)
		SAY(details, "%llu times a session matched more bulkheads than the %d that are enforced",
			(unsigned long long) pg_atomic_read_u64(&rsl_shmem->unmatched),
			RSL_MAX_MATCHES);
	else if (rsl_server_is_loaded())
		SAY(details, "loaded: waiting=%d limit=%d", numbers.waiting,
			numbers.limit);
	return true;
}

static bool
look_at_launcher(rsl_look *look, rsl_component *details)
{
	int64		looked_us = (int64) pg_atomic_read_u64(&rsl_health_board->looked_us);
	int64		age_us = look->now_us - looked_us;

	look->uid = 1;
	look->critical = true;
	look->status = RSL_HEALTHY;
	describe(details, "launcher", InvalidOid);
	if (looked_us == 0 || age_us > RSL_LAUNCHER_DEAD_MS * INT64CONST(1000))
	{
		look->status = RSL_UNHEALTHY;
		look->since = (TimestampTz) pg_atomic_read_u64(&rsl_health_board->looked_at);
		if (looked_us == 0)
			SAY(details, "has never looked: is max_worker_processes too low?");
		else
			SAY(details, "has not looked for %lld s: what others have here may be as old",
				(long long) (age_us / 1000000));
	}
	else if (rsl_shmem->snapshot_stale)
	{
		look->status = RSL_DEGRADED;
		SAY(details, "the snapshot file of limits cannot be written: see the server log");
	}
	else
		SAY(details, "a look at everything takes %.3f ms",
			pg_atomic_read_u32(&rsl_health_board->look_ns) / 1e6);
	return true;
}

/*
 * A worker that ought to be there, and is not?  It may be on its way: workers
 * come some time after a start, and again a second after they died.
 */
static bool
is_missing(rsl_worker *worker, const rsl_look *look)
{
	TimestampTz last = (TimestampTz) Max(pg_atomic_read_u64(&worker->heartbeat),
										 pg_atomic_read_u64(&rsl_health_board->first_look_at));

	return worker->pid == 0 && last != 0 &&
		look->now - last > RSL_LAUNCHER_DEAD_MS * INT64CONST(1000);
}

static long long
seconds_since(TimestampTz then, const rsl_look *look)
{
	return (look->now - then) / USECS_PER_SEC;
}

/* While there are breakers the prober looks ten times a second. */
static bool
look_at_prober(rsl_look *look, rsl_component *details)
{
	rsl_worker *worker = &rsl_workers->entries[RSL_WORKER_PROBER];
	int64		age_us = look->now_us -
		(int64) pg_atomic_read_u64(&rsl_breakers_shmem->prober_looked);
	bool		breakers = pg_atomic_read_u32(&rsl_breakers_shmem->npublished) > 0;

	look->uid = 1;
	look->status = RSL_DEGRADED;
	describe(details, "prober", InvalidOid);
	if (is_missing(worker, look))
		SAY(details, "does not run: servers of open breakers are not asked");
	else if (rsl_worker_is_late(worker, look->now) ||
			 (worker->pid != 0 && breakers &&
			  age_us > RSL_LAUNCHER_DEAD_MS * INT64CONST(1000)))
		SAY(details, "not heard of for %lld s: servers of open breakers are not asked",
			(long long) (age_us / 1000000));
	else
		look->status = RSL_HEALTHY;
	return true;
}

static bool
look_at_endpoint(rsl_look *look, rsl_component *details)
{
	rsl_worker *worker = &rsl_workers->entries[RSL_WORKER_ENDPOINT];
	char		address[RSL_ENDPOINT_ADDRESS_LEN];
	char		message[RSL_ENDPOINT_MESSAGE_LEN];

	if (worker->pid == 0 &&
		(rsl_http_listen == NULL || rsl_http_listen[0] == '\0'))
		return false;
	look->uid = 1;
	look->status = RSL_DEGRADED;
	describe(details, "endpoint", InvalidOid);
	if (rsl_endpoint_get(address, message, NULL) == RSL_ENDPOINT_FAILED)
		SAY(details, "nobody answers at %s: %s", address, message);
	else if (is_missing(worker, look))
		SAY(details, "does not run: nobody answers at %s", address);
	else if (rsl_worker_is_late(worker, look->now))
		SAY(details, "not heard of for %lld s",
			seconds_since((TimestampTz) pg_atomic_read_u64(&worker->heartbeat), look));
	else
	{
		look->status = RSL_HEALTHY;
		SAY(details, "listens at %s", address);
	}
	return true;
}

/* Workers of databases come and go: they are one component together. */
static bool
look_at_database_workers(rsl_look *look, rsl_component *details)
{
	TimestampTz none_since = (TimestampTz) pg_atomic_read_u64(&rsl_workers->no_worker_since);
	uint32		no_room = pg_atomic_read_u32(&rsl_workers->no_room);
	int			here = 0;
	int			late = 0;

	for (int i = RSL_WORKER_DATABASE; i < RSL_BOARD_ENTRIES; i++)
	{
		rsl_worker *worker = &rsl_workers->entries[i];

		if (worker->pid == 0)
			continue;
		here++;
		if (rsl_worker_is_late(worker, look->now))
			late++;
	}
	look->uid = 1;
	look->status = none_since != 0 || no_room > 0 || late > 0 ?
		RSL_DEGRADED : RSL_HEALTHY;
	describe(details, "database workers", InvalidOid);
	if (none_since != 0)
		SAY(details, "no background worker was free for %lld s: raise max_worker_processes",
			seconds_since(none_since, look));
	else if (late > 0)
		SAY(details, "%d of %d have not been heard of for longer than they may take",
			late, here);
	else if (no_room > 0)
		SAY(details, "%u databases have the extension and no workers: there is room for %d",
			no_room, RSL_MAX_DATABASES);
	else if (rsl_max_health_check_workers == 0)
		SAY(details, "running: %d; resilience.max_health_check_workers is 0: no health checks are run",
			here);
	else
		SAY(details, "running: %d", here);
	return true;
}

static bool
look_at_worker(int index, rsl_look *look, rsl_component *details)
{
	switch ((rsl_worker_component) index)
	{
		case RSL_COMPONENT_LAUNCHER:
			return look_at_launcher(look, details);
		case RSL_COMPONENT_PROBER:
			return look_at_prober(look, details);
		case RSL_COMPONENT_ENDPOINT:
			return look_at_endpoint(look, details);
		case RSL_COMPONENT_DATABASE_WORKERS:
			return look_at_database_workers(look, details);
		case RSL_NUM_WORKER_COMPONENTS:
			break;
	}
	return false;
}

/* Should a check that has never run have run long ago? */
static bool
is_overdue(int index, const rsl_look *look, const rsl_health_config *config)
{
	rsl_board_entry *entry = rsl_board_entry_of(RSL_COMPONENT_HEALTH_CHECK, index);
	uint64		word = pg_atomic_read_u64(&entry->word);
	int64		known_us = look->now -
		(TimestampTz) pg_atomic_read_u64(&entry->since);

	return RSL_ENTRY_UID(word) == look->uid &&
		RSL_ENTRY_STATUS(word) == RSL_HEALTH_UNKNOWN &&
		rsl_health_is_stale(config, look->now_us - known_us, look->now_us);
}

/*
 * A check that has never run, or whose first runs were bad but fewer than its
 * failure_threshold, says nothing of the server, until it should have run long
 * ago.  A result that is too old is nobody's: then the one who checks
 * is in trouble, which is no reason to send clients away.
 */
static bool
look_at_check(int index, rsl_look *look, rsl_component *details)
{
	rsl_check  *check = &rsl_health->checks[index];
	const rsl_check_policy *policy = &check->policy;
	rsl_health_config config = {.interval_us = policy->interval_ms * INT64CONST(1000)};
	int64		last_run_us;

	if (!check->published || !policy->enabled)
		return false;
	look->uid = pg_atomic_read_u32(&check->uid);
	look->critical = policy->critical;
	look->status = pg_atomic_read_u32(&check->status);
	describe(details, policy->name, policy->home_database);

	SpinLockAcquire(&check->mutex);
	last_run_us = check->last_run_us;
	look->cut_off = check->cut_off;
	if (details)
		memcpy(details->message, check->message, sizeof(check->message));
	SpinLockRelease(&check->mutex);
	look->has_run = last_run_us != 0;

	if (last_run_us == 0)
	{
		look->status = RSL_HEALTH_UNKNOWN;
		look->ignored = !is_overdue(index, look, &config);
		SAY(details, "has not run yet");
	}
	else if (rsl_health_is_stale(&config, last_run_us, look->now_us))
	{
		look->status = RSL_HEALTH_UNKNOWN;
		SAY(details, "stale: last run %lld s ago",
			(long long) ((look->now_us - last_run_us) / 1000000));
	}
	else if (look->status == RSL_HEALTH_UNKNOWN)
	{
		/* its first runs were bad, but not enough of them yet */
		look->ignored = true;
	}
	return true;
}

static void
say_why_open(int index, rsl_component *details, const char *word)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	uint32		failures;
	int64		retry_after;
	int			sqlstate;

	if (details == NULL)
		return;
	SpinLockAcquire(&breaker->mutex);
	failures = breaker->state.consecutive_failures;
	retry_after = rsl_breaker_retry_after(&breaker->state, rsl_now_us());
	sqlstate = breaker->last_sqlstate;
	SpinLockRelease(&breaker->mutex);
	SAY(details, "%s: failures=%u last_sqlstate=%s retry_after_ms=%lld", word,
		failures, sqlstate ? unpack_sql_state(sqlstate) : "none",
		(long long) (retry_after / 1000));
}

static bool
look_at_breaker(int index, rsl_look *look, rsl_component *details)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	uint64		gate = pg_atomic_read_u64(&breaker->gate);
	rsl_breaker_position position = RSL_GATE_POSITION(gate);
	bool		enforced = RSL_GATE_MODE(gate) == RSL_MODE_ENFORCE;

	look->uid = pg_atomic_read_u32(&breaker->uid);
	if (!breaker->published || look->uid == 0)
		return false;
	look->status = position != RSL_BREAKER_CLOSED && enforced ?
		RSL_DEGRADED : RSL_HEALTHY;
	describe(details, breaker->policy.name, breaker->policy.home_database);

	if (RSL_GATE_FORCE(gate) == RSL_FORCE_OPEN)
		SAY(details, enforced ? "open by force_breaker()" :
			"open by force_breaker(), but only observed");
	else if (RSL_GATE_FORCE(gate) == RSL_FORCE_CLOSED)
		SAY(details, "closed by force_breaker()");
	else if (position == RSL_BREAKER_OPEN)
		say_why_open(index, details,
					 enforced ? "open" : "open, but only observed");
	else if (position == RSL_BREAKER_HALF_OPEN)
		say_why_open(index, details,
					 enforced ? "half-open" : "half-open, but only observed");
	return true;
}

/* A limit of 0 is a command, not a shortage. */
static bool
admits_none(const rsl_bulkhead_policy *policy)
{
	return policy->max_running == 0 || policy->max_connections == 0;
}

static bool
look_at_bulkhead(int index, rsl_look *look, rsl_component *details)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];
	const rsl_bulkhead_policy *policy = &bulkhead->policy;
	bool		enforced = pg_atomic_read_u32(&bulkhead->mode) == RSL_MODE_ENFORCE &&
		pg_atomic_read_u32(&rsl_health_board->mode) == RSL_MODE_ENFORCE;
	bool		pressed;
	rsl_pool_numbers numbers;
	char		connections[64] = "";

	look->uid = bulkhead->uid;
	if (!bulkhead->published || bulkhead->expired)
		return false;
	pressed = pg_atomic_read_u64(&bulkhead->saturated_since) != 0;
	look->status = pressed && enforced && !admits_none(policy) ?
		RSL_DEGRADED : RSL_HEALTHY;
	if (details == NULL)
		return true;

	describe(details, policy->name, policy->home_database);
	if (bulkhead->reverted_at != 0)
		SAY(details, "only observes: it refused too much");
	if (!pressed)
		return true;
	if (admits_none(policy))
	{
		SAY(details, "admits none, as it was told");
		return true;
	}
	if (policy->max_connections >= 0)
		snprintf(connections, sizeof(connections), " connections=%u of %d",
				 pg_atomic_read_u32(&bulkhead->connections),
				 policy->max_connections);
	if (policy->conditions.tag_any_value)
		SAY(details, "%s: a compartment refuses, or lets wait; see resilience.compartments%s",
			enforced ? "saturated" : "only observes", connections);
	else
	{
		rsl_pool_get_numbers(&bulkhead->pool, RSL_PRIORITY_LOW, &numbers);
		SAY(details, "%s: limit=%d running=%d waiting=%d%s",
			enforced ? "saturated" : "only observes", numbers.limit,
			numbers.running, numbers.waiting, connections);
	}
	return true;
}

static bool
look_at_feature(int index, rsl_look *look, rsl_component *details)
{
	rsl_feature *feature = &rsl_features->features[index];
	uint32		state = pg_atomic_read_u32(&feature->state);
	bool		by_command = !feature->policy.enabled;
	uint32		dimmer;
	char		reason[RSL_FEATURE_REASON_LEN];

	look->uid = pg_atomic_read_u32(&feature->uid);
	if (!feature->published || look->uid == 0)
		return false;
	dimmer = pg_atomic_read_u32(&feature->dimmer);
	look->status = RSL_HEALTHY;
	if (state == RSL_FEATURE_DEGRADED ||
		(state == RSL_FEATURE_OFF && !by_command) ||
		(state == RSL_FEATURE_ON && dimmer < DIMMED_BELOW))
		look->status = RSL_DEGRADED;
	if (details == NULL)
		return true;

	describe(details, feature->policy.name, feature->policy.home_database);
	SpinLockAcquire(&feature->mutex);
	memcpy(reason, feature->reason, sizeof(reason));
	SpinLockRelease(&feature->mutex);
	if (state != RSL_FEATURE_ON)
		SAY(details, "%s%s%s", state == RSL_FEATURE_DEGRADED ? "degraded" :
			by_command ? "off by command" : "off",
			reason[0] ? ": " : "", reason);
	else if (dimmer < RSL_DIMMER_ALL)
		SAY(details, "dimmed: %.0f %% of calls are served in full",
			dimmer * 100.0 / RSL_DIMMER_ALL);
	return true;
}

/*
 * What holds because the server is degraded must not be why it is: it would
 * hold for ever.
 */
static bool
look_at_degradation(int index, rsl_look *look, rsl_component *details)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[index];
	const rsl_degradation_policy *policy = &degradation->policy;
	bool		holds = (pg_atomic_read_u32(&rsl_degradations->active) &
						 (UINT32_C(1) << index)) != 0;

	look->uid = pg_atomic_read_u32(&degradation->uid);
	if (!degradation->published || look->uid == 0 || !policy->enabled)
		return false;
	look->status = holds ? RSL_DEGRADED : RSL_HEALTHY;
	look->ignored = policy->when_state == RSL_WHEN_DEGRADED ||
		policy->when_state == RSL_WHEN_UNHEALTHY;
	describe(details, policy->name, policy->home_database);
	if (holds)
		SAY(details, "holds (%s): %d settings for priority %s and below",
			rsl_load_state_name(policy->when_state), policy->nsettings,
			rsl_priority_name(policy->priority));
	return true;
}

/* A query in quarantine is trouble that is over: worth a word, no more. */
static bool
look_at_runaway_rule(int index, rsl_look *look, rsl_component *details)
{
	rsl_runaway_rule *rule = &rsl_runaway->rules[index];
	int			quarantined = 0;

	look->uid = rule->uid;
	if (!rule->published || rule->expired)
		return false;
	look->status = RSL_HEALTHY;
	if (details == NULL)
		return true;

	describe(details, rule->policy.name, rule->policy.home_database);
	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];

		if (pg_atomic_read_u64(&entry->query_id) != 0 &&
			pg_atomic_read_u32(&entry->rule) == (uint32) index)
			quarantined++;
	}
	if (quarantined > 0)
		SAY(details, "queries in quarantine: %d", quarantined);
	return true;
}

bool
rsl_look_at(rsl_component_kind kind, int index, rsl_look *look,
			rsl_component *details)
{
	static bool (*const looks[RSL_NUM_COMPONENT_KINDS]) (int index,
														 rsl_look *look,
														 rsl_component *details) = {
		look_at_load_shedder, look_at_worker, look_at_check, look_at_breaker,
		look_at_bulkhead, look_at_feature, look_at_degradation,
		look_at_runaway_rule
	};

	look->critical = look->ignored = look->has_run = look->cut_off = false;
	look->since = 0;
	return looks[kind] (index, look, details);
}
