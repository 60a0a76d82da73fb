/*-------------------------------------------------------------------------
 *
 * tick.c
 *		The launcher's look at the health of everything.
 *
 * Ten times a second it looks at every component, notes since when each has
 * its status, and makes the whole of them.  Once a second it takes a sample of
 * what the server does.
 *
 * The whole gets worse at once and better after a second, so that it cannot
 * flap faster than once a second.
 *
 * What is counted between two looks is in the launcher's own memory: after its
 * restart it begins anew.  What it has found is in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "health/looks.h"
#include "shared/events.h"
#include "shared/measures.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "utils/timestamp.h"

/* the whole is better only after it has been so for this long */
#define BETTER_AFTER_US		INT64CONST(1000000)

#define SAMPLE_EVERY_US		INT64CONST(1000000)

/* so many checks that are cut off at once may be no accident */
#define SUSPECT_CHECKS		4

/* Who has made the whole what it is. */
typedef struct cause
{
	rsl_component_kind kind;
	int			index;
	uint32		uid;			/* 0 = nobody */
} cause;

/* what the load shedder has refused, by tick of the last second */
static uint32 shed_by_tick[1000 / RSL_TICK_MS];
static uint32 shed_place = 0;
static uint64 shed_before;
static bool shed_known = false;

static cause recovered;			/* the last one that has become healthy */
static int64 better_since_us = 0;	/* 0 = the whole is not better */
static int64 absence_us;		/* before this look, if that was long */

static int64 last_sample_us = 0;
static uint64 last_admitted;
static uint64 last_refused;

/*
 * The load shedder
 */

static uint64
refused_by_bulkhead(rsl_bulkhead *bulkhead)
{
	return pg_atomic_read_u64(&bulkhead->refused_statements) +
		pg_atomic_read_u64(&bulkhead->refused_connections) +
		pg_atomic_read_u64(&bulkhead->timed_out) +
		pg_atomic_read_u64(&bulkhead->preempted);
}

static uint64
refused_by_shedder(void)
{
	uint64		refused = pg_atomic_read_u64(&rsl_shmem->refused_connections);

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		refused += pg_atomic_read_u64(&rsl_shmem->shed[c]) +
			pg_atomic_read_u64(&rsl_shmem->timed_out[c]) +
			pg_atomic_read_u64(&rsl_shmem->preempted[c]);
	return refused;
}

/* A queue is long when somebody has waited for half of the longest wait. */
static bool
queue_is_long(TimestampTz now)
{
	int64		longest_us;

	if ((pg_atomic_read_u64(&rsl_shmem->server.word) & RSL_WAIT_MASK) == 0)
		return false;
	longest_us = rsl_longest_wait_us(now);
	return longest_us > 0 && longest_us > rsl_max_wait * INT64CONST(500);
}

static void
look_at_shedder(const rsl_look *look)
{
	uint64		refused = refused_by_shedder();
	uint32		sum = 0;

	/* reset_statistics() lets counters begin anew */
	shed_by_tick[shed_place++ % lengthof(shed_by_tick)] =
		shed_known && refused > shed_before ? (uint32) (refused - shed_before) : 0;
	shed_before = refused;
	shed_known = true;
	for (int i = 0; i < lengthof(shed_by_tick); i++)
		sum += shed_by_tick[i];
	pg_atomic_write_u32(&rsl_health_board->shed, sum);
	if (queue_is_long(look->now))
		pg_atomic_write_u64(&rsl_health_board->long_queue_us, (uint64) look->now_us);
}

/*
 * The whole
 */

/* Which of two is worse, of what counts?  Unknown is not healthy, no more. */
static rsl_health_status
weight_of(const rsl_look *look)
{
	if (look->ignored || look->status == RSL_HEALTHY)
		return RSL_HEALTHY;
	if (look->status == RSL_UNHEALTHY && look->critical)
		return RSL_UNHEALTHY;
	return RSL_DEGRADED;
}

/* Note the status of a component.  Returns whether it has changed. */
static bool
note_status(rsl_board_entry *entry, const rsl_look *look)
{
	uint64		word = pg_atomic_read_u64(&entry->word);
	bool		known = RSL_ENTRY_UID(word) == look->uid &&
		pg_atomic_read_u64(&entry->since) != 0;

	if (known && RSL_ENTRY_STATUS(word) == look->status)
		return false;
	pg_atomic_write_u64(&entry->since, (uint64) look->now);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->word, (uint64) look->uid << 32 | look->status);
	return known;
}

/* Who is it, and what does it say?  Config lock held. */
static bool
describe_cause(const cause *why, rsl_component *component)
{
	rsl_look	look;

	look.now_us = rsl_now_us();
	look.now = GetCurrentTimestamp();
	if (why->uid == 0 || !rsl_look_at(why->kind, why->index, &look, component) ||
		look.uid != why->uid)
		return false;
	component->status = look.status;
	(void) rsl_without_quotes(component->name);
	(void) rsl_without_quotes(component->message);
	return true;
}

/*
 * When most checks are cut off at once it is rather the one who checks that is
 * in trouble.
 */
static void
judge_checks(uint32 checks, uint32 cut_off)
{
	bool		suspect = checks >= SUSPECT_CHECKS && 2 * cut_off > checks;

	pg_atomic_write_u32(&rsl_health_board->checks, checks);
	pg_atomic_write_u32(&rsl_health_board->cut_off, cut_off);
	if (suspect == rsl_health_is_suspect())
		return;
	pg_atomic_write_u32(&rsl_health_board->suspect, suspect);
	rsl_event(RSL_EVENT_SERVER, InvalidOid, "health checks",
			  suspect ? "trusted" : "suspect", suspect ? "suspect" : "trusted",
			  "cut_off=%u checks=%u", cut_off, checks);
}

/*
 * Look at everything.  Returns what the whole would be; "worst" is who makes
 * it so, of several the one that has changed last.  Config lock held.
 */
static rsl_health_status
look_at_components(rsl_look *look, cause *worst)
{
	rsl_health_status whole = RSL_HEALTHY;
	TimestampTz newest = 0;
	rsl_board_entry *entry = rsl_health_board->entries;
	uint32		checks = 0;
	uint32		cut_off = 0;

	worst->uid = 0;
	for (rsl_component_kind kind = 0; kind < RSL_NUM_COMPONENT_KINDS; kind++)
	{
		for (int i = 0; i < rsl_health_board->counts[kind]; i++, entry++)
		{
			cause		me = {kind, i};
			rsl_health_status weight;
			TimestampTz since;

			if (!rsl_look_at(kind, i, look, NULL))
				continue;
			me.uid = look->uid;
			checks += look->has_run ? 1 : 0;
			cut_off += look->cut_off ? 1 : 0;
			if (note_status(entry, look) && look->status == RSL_HEALTHY)
				recovered = me;
			weight = weight_of(look);
			if (weight == RSL_HEALTHY || weight < whole)
				continue;
			since = (TimestampTz) pg_atomic_read_u64(&entry->since);
			if (weight > whole || since > newest)
			{
				whole = weight;
				newest = since;
				*worst = me;
			}
		}
	}
	judge_checks(checks, cut_off);
	return whole;
}

static void
tell_change_of_whole(rsl_health_status from, rsl_health_status to,
					 const cause *why)
{
	rsl_component component;
	bool		found;

	if (from == RSL_HEALTH_UNKNOWN && to == RSL_HEALTHY)
	{
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "health",
				  rsl_health_status_name(from), rsl_health_status_name(to),
				  "component=launcher kind=worker message=\"had not looked for %.1f s\"",
				  absence_us / 1e6);
		return;
	}
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	found = describe_cause(why, &component);
	LWLockRelease(rsl_config_lock);
	if (found)
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "health",
				  rsl_health_status_name(from), rsl_health_status_name(to),
				  "component=\"%s\" kind=%s message=\"%s\"",
				  component.name, rsl_component_kind_name(why->kind),
				  component.message[0] ? component.message :
				  rsl_health_status_name(component.status));
	else
		rsl_event(RSL_EVENT_SERVER, InvalidOid, "health",
				  rsl_health_status_name(from), rsl_health_status_name(to),
				  "message=\"what was not healthy is gone\"");
}

/* Publish the whole: worse at once, better when it has been so for a while. */
static void
judge_whole(rsl_health_status found, const cause *worst, const rsl_look *look)
{
	rsl_health_status before = pg_atomic_read_u32(&rsl_health->status);

	if (found >= before || before == RSL_HEALTH_UNKNOWN)
		better_since_us = 0;
	else if (better_since_us == 0)
		better_since_us = look->now_us;
	if (found == before ||
		(better_since_us != 0 &&
		 look->now_us - better_since_us < BETTER_AFTER_US))
		return;
	better_since_us = 0;
	pg_atomic_write_u64(&rsl_health->status_since, (uint64) look->now);
	pg_write_barrier();
	pg_atomic_write_u32(&rsl_health->status, found);
	rsl_measure_health(found);

	/* that a server which has just started is well is no news */
	if (before != RSL_HEALTH_UNKNOWN || found != RSL_HEALTHY || absence_us > 0)
		tell_change_of_whole(before, found,
							 found == RSL_HEALTHY ? &recovered : worst);
	recovered.uid = 0;
}

/*
 * The launcher has not looked for so long that all said "unknown".  Nobody was
 * there to note that as an event then.
 */
static void
come_back(const rsl_look *look)
{
	pg_atomic_write_u32(&rsl_health->status, RSL_HEALTH_UNKNOWN);
	rsl_measure_health(RSL_HEALTH_UNKNOWN);
	pg_atomic_write_u64(&rsl_board_entry_of(RSL_COMPONENT_WORKER,
											RSL_COMPONENT_LAUNCHER)->since,
						(uint64) look->now);
}

/*
 * Samples
 */

static uint32
rate(uint64 *last, uint64 now, int64 span_us)
{
	uint64		grown = now >= *last ? now - *last : now;

	*last = now;
	return (uint32) (grown * 1000000.0 / span_us + 0.5);
}

static void
take_sample(const rsl_look *look)
{
	rsl_sample	sample = {0};
	rsl_priority_counts counts[RSL_NUM_PRIORITIES];
	int64		span_us = look->now_us - last_sample_us;
	uint64		refused = refused_by_shedder();
	uint64		admitted = 0;
	uint32		idle = pg_atomic_read_u32(&rsl_shmem->cpu_idle);

	sample.at = look->now;
	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_priorities(counts);
	LWLockRelease(rsl_stats_lock);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		sample.running += counts[c].running;
		admitted += counts[c].admitted;
	}
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		if (rsl_sessions[s].pid != 0 &&
			(int32) pg_atomic_read_u32(&rsl_sessions[s].waiting_for) != RSL_NO_POOL)
			sample.waiting++;
	}
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published)
			refused += refused_by_bulkhead(&rsl_bulkheads[i]);
	}
	sample.limit = (int32) pg_atomic_read_u32(&rsl_shmem->server.max_running);
	if (sample.limit == (int32) RSL_LANE_MASK && rsl_max_running < 0)
		sample.limit = RSL_UNLIMITED;
	sample.cpu_idle = idle == RSL_NOT_KNOWN ? RSL_SAMPLE_NO_IDLE : (uint16) idle;
	sample.status = (uint8) pg_atomic_read_u32(&rsl_health->status);
	sample.admitted = rate(&last_admitted, admitted, span_us);
	sample.refused = rate(&last_refused, refused, span_us);

	/* the first one has nothing to compare with */
	if (last_sample_us != 0)
		rsl_sample_put(&sample);
	last_sample_us = look->now_us;
}

/* The moving average of the last ten looks or so. */
static void
note_duration(instr_time begin)
{
	uint32		average = pg_atomic_read_u32(&rsl_health_board->look_ns);
	instr_time	duration;

	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, begin);
	pg_atomic_write_u32(&rsl_health_board->look_ns, (uint32)
						(0.9 * average + 0.1 * INSTR_TIME_GET_DOUBLE(duration) * 1e9));
}

/* Called at each tick. */
void
rsl_health_tick(void)
{
	rsl_look	look;
	rsl_health_status found;
	cause		worst;
	instr_time	begin;
	int64		before;

	look.now_us = rsl_now_us();
	look.now = GetCurrentTimestamp();
	INSTR_TIME_SET_CURRENT(begin);
	pg_atomic_write_u32(&rsl_health_board->mode, rsl_mode_setting);
	if (pg_atomic_read_u64(&rsl_health_board->first_look_at) == 0)
		pg_atomic_write_u64(&rsl_health_board->first_look_at, (uint64) look.now);
	before = (int64) pg_atomic_read_u64(&rsl_health_board->looked_us);
	absence_us = before == 0 ? 0 : look.now_us - before;
	if (absence_us > RSL_LAUNCHER_DEAD_MS * INT64CONST(1000))
		come_back(&look);
	else
		absence_us = 0;
	pg_atomic_write_u64(&rsl_health_board->looked_at, (uint64) look.now);
	pg_atomic_write_u64(&rsl_health_board->looked_us, (uint64) look.now_us);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	look_at_shedder(&look);
	found = look_at_components(&look, &worst);
	LWLockRelease(rsl_config_lock);
	judge_whole(found, &worst, &look);
	note_duration(begin);

	if (look.now_us - last_sample_us >= SAMPLE_EVERY_US)
		take_sample(&look);
}
