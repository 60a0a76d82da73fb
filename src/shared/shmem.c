/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Size, request and start-up of the shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "core/token_bucket.h"
#include "fmgr.h"
#include "funcapi.h"
#include "shared/arrivals.h"
#include "shared/breakers.h"
#include "shared/budget.h"
#include "shared/endpoint.h"
#include "shared/events.h"
#include "shared/experiments.h"
#include "shared/features.h"
#include "shared/health.h"
#include "shared/health_board.h"
#include "shared/layout.h"
#include "shared/measures.h"
#include "shared/overload.h"
#include "shared/retry_budget.h"
#include "shared/runaway.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "shared/workers.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(shared_memory_parts);

rsl_shared *rsl_shmem = NULL;
rsl_bulkhead *rsl_bulkheads = NULL;
rsl_session *rsl_sessions = NULL;
rsl_wait_node *rsl_nodes = NULL;
pg_atomic_uint32 *rsl_connection_bits = NULL;
pg_atomic_uint64 *rsl_admitted_rows = NULL;
rsl_compartment *rsl_compartments = NULL;
pg_atomic_uint32 *rsl_compartment_buckets = NULL;
LWLockPadded *rsl_locks = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
static void (*load_policies) (void) = NULL;

#define PHYSICAL_BULKHEADS	(rsl_max_bulkheads + RSL_DRAINING_BULKHEADS)
#define BITMAP_WORDS		((PHYSICAL_BULKHEADS + 31) / 32)

/* Offsets of the parts, each on a cache line of its own. */
typedef struct shmem_parts
{
	Size		bulkheads;
	Size		sessions;
	Size		nodes;
	Size		connection_bits;
	Size		admitted;
	Size		breakers;
	Size		retry;
	Size		arrivals;
	Size		budget;
	Size		compartments;
	Size		buckets;
	Size		runaway;
	Size		events;
	Size		health;
	Size		features;
	Size		degradations;
	Size		experiments;
	Size		measures;
	Size		workers;
	Size		endpoint;
	Size		health_board;
	Size		total;
} shmem_parts;

static shmem_parts
shmem_layout(void)
{
	shmem_parts parts;
	Size		size = CACHELINEALIGN(sizeof(rsl_shared));

	parts.bulkheads = size;
	size = add_size(size, CACHELINEALIGN(mul_size(sizeof(rsl_bulkhead),
												  PHYSICAL_BULKHEADS)));
	parts.sessions = size;
	size = add_size(size, CACHELINEALIGN(mul_size(sizeof(rsl_session),
												  MaxBackends)));
	parts.nodes = size;
	size = add_size(size, CACHELINEALIGN(mul_size(sizeof(rsl_wait_node),
												  MaxBackends)));
	parts.connection_bits = size;
	size = add_size(size, CACHELINEALIGN(mul_size(sizeof(pg_atomic_uint32) * BITMAP_WORDS,
												  MaxBackends)));
	parts.admitted = size;
	size = add_size(size, mul_size(rsl_admitted_row_length(PHYSICAL_BULKHEADS),
								   sizeof(pg_atomic_uint64) * RSL_ADMITTED_ROWS));
	parts.breakers = size;
	size = add_size(size, rsl_breakers_shmem_size());
	parts.retry = size;
	size = add_size(size, CACHELINEALIGN(rsl_retry_shmem_size()));
	parts.arrivals = size;
	size = add_size(size, CACHELINEALIGN(rsl_arrivals_shmem_size()));
	parts.budget = size;
	size = add_size(size, CACHELINEALIGN(rsl_budget_shmem_size()));
	parts.compartments = size;
	size = add_size(size, mul_size(sizeof(rsl_compartment),
								   rsl_max_compartments));
	parts.buckets = size;
	size = add_size(size, CACHELINEALIGN(mul_size(sizeof(pg_atomic_uint32),
												  rsl_max_compartments)));
	parts.runaway = size;
	size = add_size(size, rsl_runaway_shmem_size());
	parts.events = size;
	size = add_size(size, rsl_events_shmem_size());
	parts.health = size;
	size = add_size(size, rsl_health_shmem_size());
	parts.features = size;
	size = add_size(size, rsl_features_shmem_size());
	parts.degradations = size;
	size = add_size(size, rsl_degradations_shmem_size());
	parts.experiments = size;
	size = add_size(size, rsl_experiments_shmem_size());
	parts.measures = size;
	size = add_size(size, rsl_measures_shmem_size());
	parts.workers = size;
	size = add_size(size, rsl_workers_shmem_size());
	parts.endpoint = size;
	size = add_size(size, rsl_endpoint_shmem_size());
	parts.health_board = size;
	size = add_size(size, rsl_board_shmem_size());
	parts.total = size;
	return parts;
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(shmem_layout().total);
	RequestNamedLWLockTranche("resilience",
							  RSL_FIXED_LOCKS + PHYSICAL_BULKHEADS +
							  RSL_COMPARTMENT_LOCKS);
}

static void
pool_init(rsl_pool *pool, int number)
{
	pg_atomic_init_u64(&pool->word, 0);
	pg_atomic_init_u32(&pool->max_running, (uint32) RSL_UNLIMITED);
	pg_atomic_init_u32(&pool->low_cap, (uint32) RSL_UNLIMITED);
	pg_atomic_init_u32(&pool->normal_cap, (uint32) RSL_UNLIMITED);
	pg_atomic_init_u32(&pool->max_waiting, 0);
	pg_atomic_init_u32(&pool->no_victim, 0);
	pool->number = number;
	rsl_wait_queue_init(&pool->queue);
}

static void
shmem_fill(void)
{
	rsl_shared *shared = rsl_shmem;
	static const rsl_bucket_config preempt_budget = {.capacity = RSL_PREEMPT_BURST};

	memset(shared, 0, shmem_layout().total);
	shared->nsessions = MaxBackends;
	shared->nbulkheads = PHYSICAL_BULKHEADS;
	shared->max_bulkheads = rsl_max_bulkheads;
	shared->bitmap_words = BITMAP_WORDS;
	shared->ncompartments = rsl_max_compartments;
	shared->admitted_row_length = rsl_admitted_row_length(PHYSICAL_BULKHEADS);
	pg_atomic_init_u32(&shared->ncompartments_used, 0);

	/*
	 * Atomics of zero value are initialized by the memset on all platforms
	 * but those that simulate 64-bit atomics with spinlocks, hence the loops.
	 */
	pg_atomic_init_u64(&shared->generation, 1);
	/* starts past the memory of activity, so that no class seems active */
	pg_atomic_init_u32(&shared->tick, 2 * RSL_ACTIVE_TICKS);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		pg_atomic_init_u32(&shared->last_active[c], 0);
	pg_atomic_init_u32(&shared->query_ids_wanted, 0);
	pg_atomic_init_u32(&shared->query_ids_since, 0);
	pg_atomic_init_u32(&shared->loaded, 0);
	pg_atomic_init_u32(&shared->cancellers, 0);
	pg_atomic_init_u32(&shared->nrunaway_rules, 0);
	pg_atomic_init_u32(&shared->nquarantined, 0);
	pg_atomic_init_u32(&shared->chaos_armed, 0);
	pg_atomic_init_u64(&shared->cancels_requested, 0);
	pg_atomic_init_u64(&shared->cancels_delivered, 0);
	pg_atomic_init_u64(&shared->cancels_missed, 0);
	pg_atomic_init_u64(&shared->preempt_tokens,
					   rsl_bucket_full(&preempt_budget, 0));
	pg_atomic_init_u64(&shared->shedding_since, 0);
	pg_atomic_init_u32(&shared->adaptive_limit, 0);
	pg_atomic_init_u32(&shared->limit_reason, 0);
	pg_atomic_init_u32(&shared->blocked_share, 0);
	pg_atomic_init_u32(&shared->cpu_idle, RSL_NOT_KNOWN);
	pg_atomic_init_u32(&shared->cpu_pressure, RSL_NOT_KNOWN);
	pg_atomic_init_u64(&shared->unmatched, 0);
	pg_atomic_init_u64(&shared->connection_word, 0);
	pg_atomic_init_u64(&shared->refused_connections, 0);
	pg_atomic_init_u64(&shared->delayed_connections, 0);
	shared->next_expiry = DT_NOEND;
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		pg_atomic_init_u64(&shared->admitted[c], 0);
		pg_atomic_init_u64(&shared->shed[c], 0);
		pg_atomic_init_u64(&shared->timed_out[c], 0);
		pg_atomic_init_u64(&shared->preempted[c], 0);
		pg_atomic_init_u64(&shared->preempted_running[c], 0);
		pg_atomic_init_u64(&shared->wait_us[c], 0);
		rsl_overload_init(&shared->overload[c]);
		for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
			pg_atomic_init_u64(&shared->waits[c][b], 0);
	}
	pool_init(&shared->server, RSL_SERVER_POOL);
	for (int i = 0; i < RSL_MAX_TURNS; i++)
		pg_atomic_init_u64(&shared->turns.in_turn[i], 0);
	pg_atomic_init_u32(&shared->turns.nturns, 0);
	pg_atomic_init_u32(&shared->turns.watchman, 0);
	pg_atomic_init_u32(&shared->turns.patience_ms, 0);

	for (int i = 0; i < shared->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];

		pool_init(&bulkhead->pool, i);
		pg_atomic_init_u64(&bulkhead->saturated_since, 0);
		pg_atomic_init_u64(&bulkhead->connection_word, 0);
		pg_atomic_init_u64(&bulkhead->refused_connections, 0);
		pg_atomic_init_u64(&bulkhead->refused_statements, 0);
		pg_atomic_init_u64(&bulkhead->timed_out, 0);
		pg_atomic_init_u64(&bulkhead->preempted, 0);
		pg_atomic_init_u64(&bulkhead->preempted_running, 0);
		pg_atomic_init_u64(&bulkhead->wait_us, 0);
		pg_atomic_init_u64(&bulkhead->no_compartment, 0);
		rsl_overload_init(&bulkhead->overload);
		rsl_budget_init(&bulkhead->budget);
	}
	for (int i = 0; i < RSL_ADMITTED_ROWS * shared->admitted_row_length; i++)
		pg_atomic_init_u64(&rsl_admitted_rows[i], 0);
	for (int i = 0; i < shared->ncompartments; i++)
	{
		rsl_compartment *compartment = &rsl_compartments[i];

		pool_init(&compartment->pool, shared->nbulkheads + i);
		pg_atomic_init_u64(&compartment->hash, 0);
		pg_atomic_init_u64(&compartment->last_used, 0);
		pg_atomic_init_u64(&compartment->admitted, 0);
		pg_atomic_init_u64(&compartment->wait_us, 0);
	}
	for (int i = 0; i < shared->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];

		pg_atomic_init_u64(&session->doom, 0);
		pg_atomic_init_u64(&session->cpu_charged, 0);
		pg_atomic_init_u64(&session->worker_cpu_us, 0);
		pg_atomic_init_u32(&session->waiting_for, (uint32) RSL_NO_POOL);
		for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
			pg_atomic_init_u64(&session->admitted[c], 0);
		rsl_nodes[i].next = rsl_nodes[i].prev = RSL_NO_WAITER;
	}

	rsl_breakers_shmem_init();
	rsl_retry_shmem_init((char *) shared + shmem_layout().retry);
	rsl_arrivals_shmem_init();
	rsl_budget_shmem_init();
	rsl_runaway_shmem_init();
	rsl_events_shmem_init();
	rsl_health_shmem_init();
	rsl_features_shmem_init();
	rsl_degradations_shmem_init();
	rsl_experiments_shmem_init();
	rsl_measures_shmem_init();
	rsl_workers_shmem_init();
	rsl_endpoint_shmem_init();
	rsl_board_shmem_init();

	/* limits hold from the first connection, also after a crash */
	rsl_publish_settings();
	load_policies();
}

static void
shmem_startup(void)
{
	shmem_parts parts = shmem_layout();
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	rsl_shmem = ShmemInitStruct("resilience", parts.total, &found);
	rsl_bulkheads = (rsl_bulkhead *) ((char *) rsl_shmem + parts.bulkheads);
	rsl_sessions = (rsl_session *) ((char *) rsl_shmem + parts.sessions);
	rsl_nodes = (rsl_wait_node *) ((char *) rsl_shmem + parts.nodes);
	rsl_connection_bits = (pg_atomic_uint32 *)
		((char *) rsl_shmem + parts.connection_bits);
	rsl_admitted_rows = (pg_atomic_uint64 *) ((char *) rsl_shmem + parts.admitted);
	rsl_breakers_shmem_place((char *) rsl_shmem + parts.breakers);
	rsl_arrivals_shmem_place((char *) rsl_shmem + parts.arrivals);
	rsl_budget_shmem_place((char *) rsl_shmem + parts.budget);
	rsl_compartments = (rsl_compartment *)
		((char *) rsl_shmem + parts.compartments);
	rsl_compartment_buckets = (pg_atomic_uint32 *)
		((char *) rsl_shmem + parts.buckets);
	rsl_runaway_shmem_place((char *) rsl_shmem + parts.runaway);
	rsl_events_shmem_place((char *) rsl_shmem + parts.events);
	rsl_health_shmem_place((char *) rsl_shmem + parts.health);
	rsl_features_shmem_place((char *) rsl_shmem + parts.features);
	rsl_degradations_shmem_place((char *) rsl_shmem + parts.degradations);
	rsl_experiments_shmem_place((char *) rsl_shmem + parts.experiments);
	rsl_measures_shmem_place((char *) rsl_shmem + parts.measures);
	rsl_workers_shmem_place((char *) rsl_shmem + parts.workers);
	rsl_endpoint_shmem_place((char *) rsl_shmem + parts.endpoint);
	rsl_board_shmem_place((char *) rsl_shmem + parts.health_board);
	rsl_locks = GetNamedLWLockTranche("resilience");
	if (!found)
		shmem_fill();
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Called by _PG_init() when the library is being preloaded.  "load" publishes
 * what was in force when the server went down.
 */
void
rsl_shmem_init(void (*load) (void))
{
	load_policies = load;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/*
 * shared_memory_parts() returns setof record
 *
 * For tests: how large the parts are (name, bytes), in the order in which they
 * lie there.
 */
Datum
shared_memory_parts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	shmem_parts parts = shmem_layout();
	const struct
	{
		const char *name;
		Size		begin;
	}			list[] = {
		{"server", 0},
		{"bulkheads", parts.bulkheads},
		{"sessions", parts.sessions},
		{"places in queues", parts.nodes},
		{"connections of bulkheads", parts.connection_bits},
		{"admitted by bulkheads", parts.admitted},
		{"breakers", parts.breakers},
		{"retries", parts.retry},
		{"history of arrivals", parts.arrivals},
		{"budgets", parts.budget},
		{"compartments", parts.compartments},
		{"compartments' hash table", parts.buckets},
		{"runaway rules", parts.runaway},
		{"events", parts.events},
		{"health checks", parts.health},
		{"features", parts.features},
		{"degradations", parts.degradations},
		{"experiments", parts.experiments},
		{"histograms", parts.measures},
		{"workers", parts.workers},
		{"endpoint", parts.endpoint},
		{"health board", parts.health_board},
		{NULL, parts.total}
	};

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; list[i].name != NULL; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {0};

		values[0] = CStringGetTextDatum(list[i].name);
		values[1] = Int64GetDatum((int64) (list[i + 1].begin - list[i].begin));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* For SQL functions: fail with advice when there is no shared memory. */
void
rsl_require_shmem(void)
{
	if (rsl_shmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("resilience must be loaded via \"shared_preload_libraries\""),
				 errdetail("Without it there is no shared memory for limits and counts, and nothing is enforced."),
				 errhint("Add \"resilience\" to shared_preload_libraries in postgresql.conf and restart the server.")));
}
