/*-------------------------------------------------------------------------
 *
 * watch.c
 *		What the launcher sees change, and notes as events.
 *
 * Sessions only count whom they refuse and who waits.  The launcher compares
 * these counts at each tick:
 *
 * - A bulkhead is saturated when somebody was refused by it, or when its slots
 *	 are full and somebody waits at three ticks in a row (that somebody waits
 *	 for a moment is nothing to speak of).
 * - The load shedder sheds when the server-wide limit, the minimum priority or
 *	 the connection rate has refused somebody.
 *
 * Either is over when it has not been so for a second.  That it is so is in
 * shared memory, for others to see, and for a launcher that is started again.
 *
 * Here, too, are comings and goings of the extension's own processes, changes
 * of settings that are levers, and promotion.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/compartments.h"
#include "shared/events.h"
#include "shared/measures.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/watch.h"

/* for so long it must not have been so */
#define QUIET_US		INT64CONST(1000000)

/* somebody must have waited at so many looks in a row */
#define WAITING_LOOKS	3

/* Counters that only grow, until they are reset. */
typedef struct watched_counter
{
	uint64		last;
	uint64		grown;			/* since the last look */
	uint64		total;			/* since it is so */
} watched_counter;

/* What is so for a while: saturated, or shedding. */
typedef struct watched_condition
{
	pg_atomic_uint64 *since;	/* in shared memory; 0 = it is not so */
	int64		last_us;		/* when it was so last */
} watched_condition;

typedef struct watched_bulkhead
{
	uint32		uid;
	watched_condition saturated;
	int			waits;			/* so many looks in a row */
	watched_counter statements; /* refused, preempted */
	watched_counter timed_out;
	watched_counter budget;
	watched_counter connections;
} watched_bulkhead;

static watched_bulkhead *bulkheads = NULL;
static bool *compartments_wait; /* by index of the bulkhead */
static bool first_look = true;	/* of this process */

static struct
{
	bool		known;
	watched_condition shedding;
	watched_counter shed;
	watched_counter timed_out;
	watched_counter preempted;
	watched_counter connections;
}			shedder;

static void
count(watched_counter *c, uint64 now)
{
	c->grown = now >= c->last ? now - c->last : now;
	c->total += c->grown;
	c->last = now;
}

/* What was before is nobody's concern. */
static void
begin(watched_counter *c, uint64 now)
{
	c->last = now;
	c->grown = c->total = 0;
}

/*
 * Is a condition met at this look?  Returns +1 when it has begun, -1 when it
 * has ended, and since when it was so.
 */
static int
follow(watched_condition *condition, bool met, int64 now_us, TimestampTz *since)
{
	*since = (TimestampTz) pg_atomic_read_u64(condition->since);
	if (met)
		condition->last_us = now_us;
	if (met && *since == 0)
	{
		*since = GetCurrentTimestamp();
		pg_atomic_write_u64(condition->since, (uint64) *since);
		return 1;
	}
	if (!met && *since != 0 && now_us - condition->last_us >= QUIET_US)
	{
		pg_atomic_write_u64(condition->since, 0);
		return -1;
	}
	return 0;
}

/* How long was it so, the quiet time at its end left out? */
static long
lasted_ms(TimestampTz since)
{
	return Max(TimestampDifferenceMilliseconds(since, GetCurrentTimestamp()) -
			   (long) (QUIET_US / 1000), 0);
}

/*
 * Bulkheads
 */

static void
note_saturated(int index, const watched_bulkhead *w, bool waits)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];
	rsl_pool_numbers numbers;
	rsl_bulkhead_policy policy;
	uint32		mode;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	policy = bulkhead->policy;
	LWLockRelease(rsl_config_lock);
	rsl_pool_get_numbers(&bulkhead->pool, RSL_PRIORITY_NORMAL, &numbers);
	mode = pg_atomic_read_u32(&bulkhead->mode);

	if (w->connections.grown > 0 && w->statements.grown == 0 && !waits)
		rsl_event(RSL_EVENT_BULKHEAD, policy.home_database, policy.name,
				  "available", "saturated",
				  "reason=connections limit=%d connections=%u max_connection_rate=%g refused=" UINT64_FORMAT "%s",
				  policy.max_connections,
				  pg_atomic_read_u32(&bulkhead->connections),
				  policy.max_connection_rate, w->connections.grown,
				  mode == RSL_MODE_OBSERVE ? " mode=observe" : "");
	else
		rsl_event(RSL_EVENT_BULKHEAD, policy.home_database, policy.name,
				  "available", "saturated",
				  "reason=%s limit=%d running=%d waiting=%d refused=" UINT64_FORMAT " timed_out=" UINT64_FORMAT "%s",
				  w->budget.grown > 0 ? "budget" : "running",
				  policy.max_running, numbers.running, numbers.waiting,
				  w->statements.grown, w->timed_out.grown,
				  mode == RSL_MODE_OBSERVE ? " mode=observe" : "");
}

static void
note_available(int index, const watched_bulkhead *w, TimestampTz since)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];
	char		name[NAMEDATALEN];
	Oid			database;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	strlcpy(name, bulkhead->policy.name, sizeof(name));
	database = bulkhead->policy.home_database;
	LWLockRelease(rsl_config_lock);
	rsl_event(RSL_EVENT_BULKHEAD, database, name, "saturated", "available",
			  "lasted_ms=%ld refused=" UINT64_FORMAT " timed_out=" UINT64_FORMAT " refused_connections=" UINT64_FORMAT,
			  lasted_ms(since), w->statements.total, w->timed_out.total,
			  w->connections.total);
}

/* Which bulkheads have a compartment that is full, with somebody waiting? */
static void
look_at_compartments(void)
{
	int			n = (int) pg_atomic_read_u32(&rsl_shmem->ncompartments_used);

	memset(compartments_wait, 0, rsl_shmem->nbulkheads * sizeof(bool));
	for (int i = 0; i < n; i++)
	{
		rsl_compartment *compartment = &rsl_compartments[i];
		int			bulkhead = compartment->bulkhead;

		if ((pg_atomic_read_u64(&compartment->pool.word) & RSL_WAIT_MASK) != 0 &&
			bulkhead >= 0 && bulkhead < rsl_shmem->nbulkheads)
			compartments_wait[bulkhead] = true;
	}
}

static void
look_at_bulkhead(int index, int64 now_us)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];
	watched_bulkhead *w = &bulkheads[index];
	uint64		statements = pg_atomic_read_u64(&bulkhead->refused_statements) +
		pg_atomic_read_u64(&bulkhead->preempted);
	uint64		timed_out = pg_atomic_read_u64(&bulkhead->timed_out);
	uint64		budget = pg_atomic_read_u64(&bulkhead->budget.refused);
	uint64		connections = pg_atomic_read_u64(&bulkhead->refused_connections);
	uint64		word = pg_atomic_read_u64(&bulkhead->pool.word);
	int32		limit = (int32) pg_atomic_read_u32(&bulkhead->pool.max_running);
	bool		waits;
	TimestampTz since;

	if (!bulkhead->published)
	{
		if (w->uid != 0)
			pg_atomic_write_u64(&bulkhead->saturated_since, 0);
		w->uid = 0;
		return;
	}
	if (w->uid != bulkhead->uid)
	{
		/* its counters began at zero, but for a launcher that is new */
		if (!first_look)
			pg_atomic_write_u64(&bulkhead->saturated_since, 0);
		w->uid = bulkhead->uid;
		w->saturated.since = &bulkhead->saturated_since;
		w->saturated.last_us = now_us;
		w->waits = 0;
		begin(&w->statements, first_look ? statements : 0);
		begin(&w->timed_out, first_look ? timed_out : 0);
		begin(&w->budget, first_look ? budget : 0);
		begin(&w->connections, first_look ? connections : 0);
	}

	count(&w->statements, statements);
	count(&w->timed_out, timed_out);
	count(&w->budget, budget);
	count(&w->connections, connections);
	waits = compartments_wait[index] ||
		((word & RSL_WAIT_MASK) != 0 && limit >= 0 &&
		 rsl_pool_running(word) >= limit);
	w->waits = waits ? Min(w->waits + 1, WAITING_LOOKS) : 0;
	switch (follow(&w->saturated, w->waits == WAITING_LOOKS || w->statements.grown > 0 ||
				   w->timed_out.grown > 0 || w->connections.grown > 0,
				   now_us, &since))
	{
		case 1:
			note_saturated(index, w, waits);
			break;
		case -1:
			note_available(index, w, since);
			break;
	}
	if (since == 0)
		w->statements.total = w->timed_out.total = w->connections.total = 0;
}

/*
 * The load shedder
 */

static uint64
sum(pg_atomic_uint64 *counters)
{
	uint64		total = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		total += pg_atomic_read_u64(&counters[c]);
	return total;
}

static void
note_shedding(void)
{
	rsl_pool_numbers numbers;

	rsl_pool_get_numbers(&rsl_shmem->server, RSL_PRIORITY_NORMAL, &numbers);
	rsl_event(RSL_EVENT_LOAD_SHEDDER, InvalidOid, "load_shedder",
			  "admitting", "shedding",
			  "shed=" UINT64_FORMAT " timed_out=" UINT64_FORMAT " preempted=" UINT64_FORMAT " limit=%d running=%d waiting=%d minimum_priority=%s%s",
			  shedder.shed.grown, shedder.timed_out.grown,
			  shedder.preempted.grown, numbers.limit, numbers.running,
			  numbers.waiting,
			  rsl_priority_name(pg_atomic_read_u32(&rsl_shmem->minimum_priority)),
			  rsl_mode_setting == RSL_MODE_OBSERVE ? " mode=observe" : "");
}

static void
look_at_shedder(int64 now_us)
{
	uint64		shed = sum(rsl_shmem->shed);
	uint64		timed_out = sum(rsl_shmem->timed_out);
	uint64		preempted = sum(rsl_shmem->preempted);
	uint64		connections = pg_atomic_read_u64(&rsl_shmem->refused_connections);
	TimestampTz since;

	if (!shedder.known)
	{
		shedder.known = true;
		shedder.shedding.since = &rsl_shmem->shedding_since;
		shedder.shedding.last_us = now_us;
		begin(&shedder.shed, shed);
		begin(&shedder.timed_out, timed_out);
		begin(&shedder.preempted, preempted);
		begin(&shedder.connections, connections);
		return;
	}

	count(&shedder.shed, shed);
	count(&shedder.timed_out, timed_out);
	count(&shedder.preempted, preempted);
	count(&shedder.connections, connections);
	switch (follow(&shedder.shedding, shedder.shed.grown > 0 ||
				   shedder.timed_out.grown > 0 ||
				   shedder.preempted.grown > 0 ||
				   shedder.connections.grown > 0, now_us, &since))
	{
		case 1:
			rsl_measure_shedding(true);
			note_shedding();
			break;
		case -1:
			rsl_measure_shedding(false);
			rsl_event(RSL_EVENT_LOAD_SHEDDER, InvalidOid, "load_shedder",
					  "shedding", "admitting",
					  "lasted_ms=%ld shed=" UINT64_FORMAT " timed_out=" UINT64_FORMAT " preempted=" UINT64_FORMAT " refused_connections=" UINT64_FORMAT,
					  lasted_ms(since), shedder.shed.total,
					  shedder.timed_out.total, shedder.preempted.total,
					  shedder.connections.total);
			break;
	}
	if (since == 0)
		shedder.shed.total = shedder.timed_out.total =
			shedder.preempted.total = shedder.connections.total = 0;
}

/*
 * The extension's processes
 */

/* Those that are there for good; the launcher is this one itself. */
static const struct
{
	rsl_worker_kind kind;
	const char *name;
}			processes[] = {
	{RSL_WORKER_PROBER, "prober"},
	{RSL_WORKER_ENDPOINT, "endpoint"}
};

/* What is known of them. */
static struct
{
	pid_t		pid;			/* 0 = it is gone */
	bool		seen;			/* it has run */
	bool		late;
}			process_states[lengthof(processes)];

static void
look_at_process(int i, TimestampTz now)
{
	rsl_worker *worker = &rsl_workers->entries[processes[i].kind];
	const char *name = processes[i].name;
	pid_t		last_pid = process_states[i].pid;
	pid_t		pid = worker->pid;
	bool		late = rsl_worker_is_late(worker, now);

	if (pid != last_pid)
	{
		if (last_pid != 0)
			rsl_event(RSL_EVENT_WORKER, InvalidOid, name, "running", "gone",
					  "pid=%d", (int) last_pid);
		if (pid != 0 && process_states[i].seen)
			rsl_event(RSL_EVENT_WORKER, InvalidOid, name, "gone", "running",
					  "pid=%d", (int) pid);
		late = false;
	}
	else if (late != process_states[i].late)
		rsl_event(RSL_EVENT_WORKER, InvalidOid, name,
				  late ? "running" : "late", late ? "late" : "running",
				  "pid=%d silent_ms=%ld", (int) pid,
				  TimestampDifferenceMilliseconds((TimestampTz) pg_atomic_read_u64(&worker->heartbeat),
												  now));
	process_states[i].pid = pid;
	process_states[i].seen |= pid != 0;
	process_states[i].late = late;
}

/* Nobody but the launcher itself could note that it did not look. */
static void
look_at_launcher(int64 now_us)
{
	static int64 last_us = 0;

	if (last_us != 0 &&
		now_us - last_us > RSL_HEARTBEAT_LATE_MS * INT64CONST(1000))
		rsl_event(RSL_EVENT_WORKER, InvalidOid, "launcher", "late", "running",
				  "pid=%d silent_ms=" INT64_FORMAT, MyProcPid,
				  (now_us - last_us) / 1000);
	last_us = now_us;
}

/*
 * A process that dies from anything but SIGTERM takes all others and the
 * shared memory with it: what is known is that the server was up before.
 */
void
rsl_watch_begin(void)
{
	uint32		before = rsl_events->launchers++;

	if (before > 0)
		rsl_event(RSL_EVENT_WORKER, InvalidOid, "launcher", "gone", "running",
				  "pid=%d restarts=%u", MyProcPid, before);
	else if (rsl_events->begun > PgStartTime)
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "server", "crashed", "running",
				  "reason=\"a process crashed, all were started again\"");
}

/*
 * Settings that are levers
 */

void
rsl_watch_settings(void)
{
	static bool known = false;
	static int	mode;
	static int	minimum_priority;
	static int	max_running;
	static bool adaptive_limit;

	if (known && mode != rsl_mode_setting)
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "resilience.mode",
				  rsl_mode_name(mode), rsl_mode_name(rsl_mode_setting), NULL);
	if (known && minimum_priority != rsl_minimum_priority)
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "resilience.minimum_priority",
				  rsl_priority_name(minimum_priority),
				  rsl_priority_name(rsl_minimum_priority), NULL);
	if (known && max_running != rsl_max_running)
	{
		char		from[12];
		char		to[12];

		snprintf(from, sizeof(from), "%d", max_running);
		snprintf(to, sizeof(to), "%d", rsl_max_running);
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "resilience.max_running",
				  from, to, NULL);
	}
	if (known && adaptive_limit != rsl_adaptive_limit)
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "resilience.adaptive_limit",
				  adaptive_limit ? "on" : "off",
				  rsl_adaptive_limit ? "on" : "off", "limit=%d",
				  (int32) pg_atomic_read_u32(&rsl_shmem->server.max_running));
	known = true;
	mode = rsl_mode_setting;
	minimum_priority = rsl_minimum_priority;
	max_running = rsl_max_running;
	adaptive_limit = rsl_adaptive_limit;
}

void
rsl_watch_promoted(void)
{
	rsl_event(RSL_EVENT_SERVER, InvalidOid, "server", "standby", "primary", NULL);
}

void
rsl_watch_tick(void)
{
	int64		now_us = rsl_now_us();

	if (bulkheads == NULL)
	{
		bulkheads = MemoryContextAllocZero(TopMemoryContext,
										   rsl_shmem->nbulkheads * sizeof(watched_bulkhead));
		compartments_wait = MemoryContextAllocZero(TopMemoryContext,
												   rsl_shmem->nbulkheads * sizeof(bool));
	}
	look_at_compartments();
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
		look_at_bulkhead(i, now_us);
	look_at_shedder(now_us);
	first_look = false;
	for (int i = 0; i < lengthof(processes); i++)
		look_at_process(i, GetCurrentTimestamp());
	look_at_launcher(now_us);
}
