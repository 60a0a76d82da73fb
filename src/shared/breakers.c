/*-------------------------------------------------------------------------
 *
 * breakers.c
 *		Circuit breakers in shared memory, and calls that pass them.
 *
 * See breakers.h.  Nothing here throws or allocates: calls end in error paths and
 * at exit, too.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "shared/breaker_change.h"
#include "shared/errcodes.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/timestamp.h"

rsl_breakers_shared *rsl_breakers_shmem = NULL;
rsl_breaker *rsl_breakers = NULL;
rsl_call_board *rsl_call_boards = NULL;

/*
 * A prober that has not looked for so long does not work: it never started
 * (max_worker_processes), or a name server holds it up.
 */
#define PROBER_GONE_US		INT64CONST(10000000)

#define PHYSICAL_BREAKERS	(rsl_max_breakers + RSL_DRAINING_BREAKERS)

static Size
entries_size(void)
{
	return CACHELINEALIGN(mul_size(sizeof(rsl_breaker), PHYSICAL_BREAKERS));
}

Size
rsl_breakers_shmem_size(void)
{
	Size		size = CACHELINEALIGN(sizeof(rsl_breakers_shared));

	size = add_size(size, entries_size());
	return add_size(size, CACHELINEALIGN(mul_size(sizeof(rsl_call_board),
												  MaxBackends)));
}

void
rsl_breakers_shmem_place(void *where)
{
	rsl_breakers_shmem = where;
	rsl_breakers = (rsl_breaker *)
		((char *) where + CACHELINEALIGN(sizeof(rsl_breakers_shared)));
	rsl_call_boards = (rsl_call_board *) ((char *) rsl_breakers + entries_size());
}

static void
clear_totals(rsl_breaker *breaker)
{
	pg_atomic_write_u64(&breaker->successes, 0);
	pg_atomic_write_u64(&breaker->failures, 0);
	pg_atomic_write_u64(&breaker->slow, 0);
	pg_atomic_write_u64(&breaker->ignored, 0);
	pg_atomic_write_u64(&breaker->superseded, 0);
	pg_atomic_write_u64(&breaker->timed_out, 0);
	pg_atomic_write_u64(&breaker->rejected, 0);
	pg_atomic_write_u64(&breaker->rejected_full, 0);
	pg_atomic_write_u64(&breaker->fallbacks, 0);
	pg_atomic_write_u64(&breaker->probes, 0);
	pg_atomic_write_u64(&breaker->failed_probes, 0);
}

/* The memory is zero already. */
void
rsl_breakers_shmem_init(void)
{
	rsl_breakers_shmem->nbreakers = PHYSICAL_BREAKERS;
	rsl_breakers_shmem->max_breakers = rsl_max_breakers;
	pg_atomic_init_u64(&rsl_breakers_shmem->generation, 1);
	pg_atomic_init_u32(&rsl_breakers_shmem->npublished, 0);
	pg_atomic_init_u32(&rsl_breakers_shmem->prober, 0);
	pg_atomic_init_u64(&rsl_breakers_shmem->prober_looked, 0);
	for (int i = 0; i < PHYSICAL_BREAKERS; i++)
	{
		rsl_breaker *breaker = &rsl_breakers[i];

		SpinLockInit(&breaker->mutex);
		pg_atomic_init_u64(&breaker->gate, 0);
		pg_atomic_init_u32(&breaker->in_flight, 0);
		pg_atomic_init_u64(&breaker->successes, 0);
		pg_atomic_init_u64(&breaker->failures, 0);
		pg_atomic_init_u64(&breaker->slow, 0);
		pg_atomic_init_u64(&breaker->ignored, 0);
		pg_atomic_init_u64(&breaker->superseded, 0);
		pg_atomic_init_u64(&breaker->timed_out, 0);
		pg_atomic_init_u64(&breaker->rejected, 0);
		pg_atomic_init_u64(&breaker->rejected_full, 0);
		pg_atomic_init_u64(&breaker->fallbacks, 0);
		pg_atomic_init_u64(&breaker->probes, 0);
		pg_atomic_init_u64(&breaker->failed_probes, 0);
	}
}

/*
 * The configuration to decide by about a call: without a prober that works
 * callers make the trials, or the breaker would stay open for ever.  Mutex
 * held.
 */
static rsl_breaker_config
config_for_calls(const rsl_breaker *breaker, int64 now)
{
	rsl_breaker_config config = breaker->policy.config;
	int64		looked = pg_atomic_read_u64(&rsl_breakers_shmem->prober_looked);

	if (now - looked >= PROBER_GONE_US)
		config.probe = false;
	return config;
}

static int
find_breaker(Oid server, const char *name)
{
	int			found = -1;

	if (rsl_breakers_shmem == NULL)
		return -1;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers && found < 0; i++)
	{
		const rsl_breaker_policy *policy = &rsl_breakers[i].policy;

		if (rsl_breakers[i].published &&
			policy->home_database == MyDatabaseId &&
			(name ? strcmp(policy->name, name) == 0 :
			 OidIsValid(server) && policy->server == server))
			found = i;
	}
	LWLockRelease(rsl_config_lock);
	return found;
}

int
rsl_breaker_of_server(Oid server)
{
	return find_breaker(server, NULL);
}

int
rsl_breaker_by_name(const char *name)
{
	return find_breaker(InvalidOid, name);
}

/*
 * Does a breaker let nothing through?  For the planner, which chooses between
 * the server and what stands in for it.  Half-open without a prober there is
 * room for some, and who is let through is decided later.
 */
bool
rsl_breaker_blocks(int index)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	uint64		gate = pg_atomic_read_u64(&breaker->gate);
	int64		now = rsl_now_us();
	rsl_breaker_config config;
	bool		blocks;

	if (RSL_GATE_MODE(gate) != RSL_MODE_ENFORCE ||
		rsl_mode_setting != RSL_MODE_ENFORCE ||
		RSL_GATE_POSITION(gate) == RSL_BREAKER_CLOSED)
		return false;

	SpinLockAcquire(&breaker->mutex);
	config = config_for_calls(breaker, now);
	if (breaker->state.force == RSL_FORCE_OPEN || config.probe)
		blocks = true;
	else if (breaker->state.position == RSL_BREAKER_HALF_OPEN)
		blocks = breaker->state.trials >= config.half_open_calls;
	else
		blocks = rsl_breaker_retry_after(&breaker->state, now) > 0;
	SpinLockRelease(&breaker->mutex);
	return blocks;
}

static bool
take_in_flight(rsl_breaker *breaker, bool force)
{
	int32		max = (int32) pg_atomic_read_u32(&breaker->max_concurrent_calls);
	uint32		n;

	if (max < 0 || force)
	{
		pg_atomic_fetch_add_u32(&breaker->in_flight, 1);
		return true;
	}
	n = pg_atomic_read_u32(&breaker->in_flight);
	do
	{
		if (n >= (uint32) max)
			return false;
	} while (!pg_atomic_compare_exchange_u32(&breaker->in_flight, &n, n + 1));
	return true;
}

/*
 * Ask a breaker for permission to call.  When it says yes the call has to be
 * ended with rsl_call_leave(), in whatever way.  "nested": the session is in
 * a call already and must not be kept out by itself.  "in_trial": that one is
 * a trial of the present state, and this call a part of it.
 */
rsl_admittance
rsl_call_enter(rsl_call *call, int index, bool nested, bool in_trial)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	uint64		gate = pg_atomic_read_u64(&breaker->gate);

	call->breaker = index;
	call->uid = pg_atomic_read_u32(&breaker->uid);
	call->mode = Min(RSL_GATE_MODE(gate), (rsl_mode) rsl_mode_setting);
	call->in_flight = false;
	call->permit.generation = RSL_GATE_GENERATION(gate);
	call->permit.trial = false;

	if (call->mode == RSL_MODE_OFF)
		return RSL_ADMITTED;

	if (unlikely(RSL_GATE_POSITION(gate) != RSL_BREAKER_CLOSED) && !in_trial)
	{
		int64		now = rsl_now_us();
		rsl_breaker_config config;
		bool		admitted;
		rsl_breaker_change change;

		SpinLockAcquire(&breaker->mutex);
		config = config_for_calls(breaker, now);
		admitted = rsl_breaker_admit(&breaker->state, &config, now,
									 &call->permit);
		rsl_breaker_update_gate(breaker, now, &change);
		SpinLockRelease(&breaker->mutex);
		if (change.any)
		{
			rsl_breaker_tell_change(&change, RSL_CAUSE_CALL);
			rsl_breaker_wake_prober();
		}
		if (!admitted)
		{
			if (call->mode == RSL_MODE_ENFORCE)
				return RSL_REJECTED_OPEN;

			/* observing: count what would have been, and let it go */
			pg_atomic_fetch_add_u64(&breaker->rejected, 1);
			call->permit.generation = RSL_GATE_GENERATION(pg_atomic_read_u64(&breaker->gate));
			call->permit.trial = false;
		}
	}

	call->in_flight = take_in_flight(breaker, nested);
	if (unlikely(!call->in_flight))
	{
		if (call->mode == RSL_MODE_ENFORCE)
		{
			/* a trial that does not take place */
			rsl_call_leave(call, RSL_CALL_NEITHER, false, 0, NULL);
			return RSL_REJECTED_FULL;
		}
		pg_atomic_fetch_add_u64(&breaker->rejected_full, 1);
		pg_atomic_fetch_add_u32(&breaker->in_flight, 1);
		call->in_flight = true;
	}
	return RSL_ADMITTED;
}

/*
 * A call has ended.  "message" is kept with a failure; it may be NULL.  May
 * be called where nothing may fail.
 */
void
rsl_call_leave(rsl_call *call, rsl_call_outcome outcome, bool slow,
			   int sqlstate, const char *message)
{
	rsl_breaker *breaker = &rsl_breakers[call->breaker];
	TimestampTz now = 0;
	int64		now_us;
	bool		counted;
	rsl_breaker_change change;
	double		random;
	int			length = 0;

	if (call->mode == RSL_MODE_OFF ||
		call->uid != pg_atomic_read_u32(&breaker->uid))
		return;

	if (call->in_flight)
	{
		pg_atomic_fetch_sub_u32(&breaker->in_flight, 1);
		call->in_flight = false;
	}
	else if (!call->permit.trial)
		return;					/* it never began */

	if (outcome == RSL_CALL_FAILURE)
	{
		now = GetCurrentTimestamp();
		/* only whole characters are kept */
		if (message)
			length = pg_mbcliplen(message, strlen(message),
								  RSL_LAST_ERROR_LEN - 1);
	}
	random = pg_prng_double(&pg_global_prng_state);

	SpinLockAcquire(&breaker->mutex);
	now_us = rsl_now_us();
	counted = rsl_breaker_record(&breaker->state, &breaker->policy.config,
								 now_us, &call->permit, outcome, slow,
								 random);
	if (outcome == RSL_CALL_FAILURE)
	{
		breaker->last_failure_at = now;
		breaker->last_sqlstate = sqlstate;
		if (length > 0)
			memcpy(breaker->last_error, message, length);
		breaker->last_error[length] = '\0';
	}
	rsl_breaker_update_gate(breaker, now_us, &change);
	SpinLockRelease(&breaker->mutex);

	switch (outcome)
	{
		case RSL_CALL_SUCCESS:
			pg_atomic_fetch_add_u64(&breaker->successes, 1);
			break;
		case RSL_CALL_FAILURE:
			pg_atomic_fetch_add_u64(&breaker->failures, 1);
			break;
		case RSL_CALL_NEITHER:
			pg_atomic_fetch_add_u64(&breaker->ignored, 1);
			break;
	}
	if (slow)
		pg_atomic_fetch_add_u64(&breaker->slow, 1);
	if (sqlstate == ERRCODE_CALL_TIMED_OUT)
		pg_atomic_fetch_add_u64(&breaker->timed_out, 1);
	if (!counted && outcome != RSL_CALL_NEITHER)
		pg_atomic_fetch_add_u64(&breaker->superseded, 1);
	if (change.any)
	{
		rsl_breaker_tell_change(&change, RSL_CAUSE_CALL);
		rsl_breaker_wake_prober();
	}
}

/* What there is to say about a breaker. */
void
rsl_call_rejected(int index, rsl_breaker_numbers *numbers)
{
	rsl_breaker *breaker = &rsl_breakers[index];

	memset(numbers, 0, sizeof(*numbers));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	strlcpy(numbers->name, breaker->policy.name, NAMEDATALEN);
	strlcpy(numbers->server_name, breaker->policy.server_name, NAMEDATALEN);
	LWLockRelease(rsl_config_lock);

	SpinLockAcquire(&breaker->mutex);
	numbers->position = rsl_breaker_effective(&breaker->state);
	numbers->force = breaker->state.force;
	numbers->consecutive_failures = breaker->state.consecutive_failures;
	numbers->last_sqlstate = breaker->last_sqlstate;
	numbers->retry_after_ms =
		(rsl_breaker_retry_after(&breaker->state, rsl_now_us()) + 999) / 1000;
	SpinLockRelease(&breaker->mutex);
	numbers->in_flight = pg_atomic_read_u32(&breaker->in_flight);
	numbers->max_concurrent_calls =
		(int32) pg_atomic_read_u32(&breaker->max_concurrent_calls);
}

/* Config lock held exclusively: put a policy into force. */
void
rsl_breaker_put(rsl_breaker *breaker, const rsl_breaker_policy *policy,
				bool is_new)
{
	int64		now = rsl_now_us();
	uint64		mode = (uint64) policy->mode << 4;
	rsl_breaker_change change;

	breaker->published = true;
	if (is_new)
	{
		pg_atomic_write_u32(&breaker->in_flight, 0);
		clear_totals(breaker);
		pg_atomic_write_u32(&breaker->last_logged, 0);
	}

	SpinLockAcquire(&breaker->mutex);
	breaker->policy = *policy;
	if (is_new)
	{
		/* generations go on, so that no old permit fits */
		uint32		generation = breaker->state.generation;

		rsl_breaker_init(&breaker->state, &policy->config, now);
		breaker->state.generation = generation + 1;
		breaker->not_closed_us = 0;
		breaker->last_failure_at = 0;
		breaker->last_sqlstate = 0;
		breaker->last_error[0] = '\0';
		breaker->last_probe_at = 0;
		breaker->last_probe_result[0] = '\0';
	}
	else
		rsl_breaker_reconfigure(&breaker->state, &policy->config);
	if (breaker->state.force != policy->force)
		rsl_breaker_force_to(&breaker->state, policy->force, now);

	/* one that was forced open has been so: a restart is no transition */
	if (is_new)
		rsl_state_clock_begin(&breaker->clock,
							  rsl_breaker_effective(&breaker->state), now);
	pg_atomic_write_u64(&breaker->gate,
						(pg_atomic_read_u64(&breaker->gate) & ~UINT64CONST(0x30)) | mode);
	rsl_breaker_update_gate(breaker, now, &change);
	SpinLockRelease(&breaker->mutex);
	rsl_breaker_tell_change(&change, RSL_CAUSE_COMMAND);

	pg_atomic_write_u32(&breaker->max_concurrent_calls,
						(uint32) policy->max_concurrent_calls);
	pg_atomic_write_u32(&breaker->call_timeout_ms, policy->call_timeout_ms);
	pg_atomic_write_u32(&breaker->on_open, policy->on_open);
	if (is_new)
		pg_atomic_write_u32(&breaker->uid, ++rsl_breakers_shmem->last_uid);
	if (change.any || is_new)
		rsl_breaker_wake_prober();
}

/* Take a breaker out of force.  Calls under way come back to nobody. */
void
rsl_breaker_retire(rsl_breaker *breaker)
{
	breaker->published = false;
	pg_atomic_write_u32(&breaker->uid, 0);
	SpinLockAcquire(&breaker->mutex);
	breaker->state.generation++;
	pg_atomic_write_u64(&breaker->gate, (uint64) breaker->state.generation << 32);
	SpinLockRelease(&breaker->mutex);
	rsl_breaker_wake_prober();
}

void
rsl_breaker_command_reset(int index)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	int64		now = rsl_now_us();
	rsl_breaker_change change;

	SpinLockAcquire(&breaker->mutex);
	rsl_breaker_reset(&breaker->state, &breaker->policy.config, now);
	rsl_breaker_update_gate(breaker, now, &change);
	SpinLockRelease(&breaker->mutex);
	rsl_breaker_tell_change(&change, RSL_CAUSE_COMMAND);
	rsl_breaker_wake_prober();
}

/*
 * Called by the prober: a call of this generation has been under way for
 * longer than slow_call_duration.  It is counted as a slow one now.  While the
 * breaker is half-open it is a trial, and has failed by that: a trial that
 * hangs must not keep the breaker half-open for ever.
 */
void
rsl_breaker_count_hanging(int index, uint32 generation)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	rsl_breaker_permit permit = {.generation = generation};
	double		random = pg_prng_double(&pg_global_prng_state);
	rsl_breaker_change change;
	uint32		failures;
	int64		now;

	pg_atomic_fetch_add_u64(&breaker->slow, 1);
	SpinLockAcquire(&breaker->mutex);
	now = rsl_now_us();
	permit.trial = breaker->state.position == RSL_BREAKER_HALF_OPEN;
	/* slow, but neither a success nor a failure yet */
	failures = breaker->state.consecutive_failures;
	if (rsl_breaker_record(&breaker->state, &breaker->policy.config, now,
						   &permit, RSL_CALL_SUCCESS, true, random))
		breaker->state.consecutive_failures = failures;
	rsl_breaker_update_gate(breaker, now, &change);
	SpinLockRelease(&breaker->mutex);
	rsl_breaker_tell_change(&change, RSL_CAUSE_CALL);
}

/* The prober has an answer, or waited for one in vain. */
void
rsl_breaker_probe_done(int index, uint32 uid, uint32 generation, bool alive,
					   const char *result)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	TimestampTz now = GetCurrentTimestamp();
	double		random = pg_prng_double(&pg_global_prng_state);
	rsl_breaker_change change;
	int64		now_us;

	if (pg_atomic_read_u32(&breaker->uid) != uid)
		return;
	pg_atomic_fetch_add_u64(&breaker->probes, 1);
	if (!alive)
		pg_atomic_fetch_add_u64(&breaker->failed_probes, 1);
	SpinLockAcquire(&breaker->mutex);
	now_us = rsl_now_us();
	/* who asks before the time is up, and in vain, does not put it off */
	if (alive ||
		rsl_breaker_probe_due(&breaker->state, &breaker->policy.config, now_us))
		rsl_breaker_probed(&breaker->state, &breaker->policy.config, now_us,
						   generation, alive, random);
	breaker->last_probe_at = now;
	strlcpy(breaker->last_probe_result, result,
			sizeof(breaker->last_probe_result));
	rsl_breaker_update_gate(breaker, now_us, &change);
	SpinLockRelease(&breaker->mutex);
	rsl_breaker_tell_change(&change, RSL_CAUSE_PROBE);
}

/* Totals restart at zero; the state is not touched. */
void
rsl_breaker_reset_statistics(int index)
{
	clear_totals(&rsl_breakers[index]);
}
