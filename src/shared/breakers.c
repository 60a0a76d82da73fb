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
#include "shared/breakers.h"
#include "shared/errcodes.h"
#include "shared/events.h"
#include "shared/measures.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "storage/proc.h"
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
 * The prober makes changes of state known to cached plans, and asks open
 * servers.  Waking it only sets a latch, so error paths may do that.
 */
static void
wake_prober(void)
{
	uint32		prober = pg_atomic_read_u32(&rsl_breakers_shmem->prober);

	if (prober != 0)
		SetLatch(&GetPGProcByNumber(prober - 1)->procLatch);
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

/*
 * What has changed about a breaker, taken under its mutex and told when that
 * is free again.
 */
typedef struct breaker_change
{
	bool		any;			/* the prober has something to do */
	bool		to_tell;		/* its position or force is another one */
	rsl_breaker_position from;
	rsl_breaker_position to;
	rsl_breaker_force old_force;
	rsl_breaker_force force;
	rsl_mode	mode;
	rsl_trip_reason reason;
	uint32		consecutive_failures;
	rsl_window_counts window;
	int32		last_sqlstate;
	int64		retry_after_us;
	int64		open_us;		/* for how long it was open; -1 = it was not */
	Oid			database;
	char		name[NAMEDATALEN];
	char		server_name[NAMEDATALEN];
} breaker_change;

/*
 * Copy what calls have to know to the gate, and note in *change what is
 * another than before.  Mutex held.
 */
static void
update_gate(rsl_breaker *breaker, int64 now, breaker_change *change)
{
	const rsl_breaker_state *state = &breaker->state;
	uint64		old = pg_atomic_read_u64(&breaker->gate);
	uint64		word;

	word = (uint64) state->generation << 32 |
		(uint64) RSL_GATE_MODE(old) << 4 |
		(uint64) state->force << 2 |
		(uint64) rsl_breaker_effective(state);
	change->any = word != old;
	change->to_tell = false;
	if (!change->any)
		return;
	pg_atomic_write_u64(&breaker->gate, word);

	rsl_state_clock_move(&breaker->clock, RSL_GATE_POSITION(word), now);
	if (RSL_GATE_POSITION(word) != RSL_BREAKER_CLOSED)
	{
		if (breaker->not_closed_us == 0)
			breaker->not_closed_us = now;
	}
	else if (breaker->not_closed_us != 0)
	{
		rsl_measure_recovery(RSL_RECOVERY_BREAKER, now - breaker->not_closed_us);
		breaker->not_closed_us = 0;
	}

	if (RSL_GATE_POSITION(old) == RSL_GATE_POSITION(word) &&
		RSL_GATE_FORCE(old) == RSL_GATE_FORCE(word))
		return;
	change->to_tell = true;
	change->from = RSL_GATE_POSITION(old);
	change->to = RSL_GATE_POSITION(word);
	change->old_force = RSL_GATE_FORCE(old);
	change->force = state->force;
	change->mode = RSL_GATE_MODE(word);
	change->reason = state->reason;
	change->consecutive_failures = state->consecutive_failures;
	rsl_window_sum(&breaker->state.window, now, &change->window);
	change->last_sqlstate = breaker->last_sqlstate;
	change->retry_after_us = rsl_breaker_retry_after(state, now);
	change->open_us = RSL_GATE_POSITION(old) == RSL_BREAKER_CLOSED ? -1 :
		now - state->opened_at;
	change->database = breaker->policy.home_database;
	strlcpy(change->name, breaker->policy.name, NAMEDATALEN);
	strlcpy(change->server_name, breaker->policy.server_name, NAMEDATALEN);
}

/* Who, or what, has changed a breaker. */
typedef enum change_cause
{
	CAUSE_CALL,
	CAUSE_PROBE,
	CAUSE_COMMAND
} change_cause;

static const char *
change_reason(const breaker_change *change, change_cause cause)
{
	static const char *const trips[] = {"none", "consecutive failures", "failure rate",
	"slow call rate", "failed trial", "forced"};

	if (change->force != change->old_force)
		return change->force == RSL_FORCE_AUTO ? "no longer forced" : "forced";
	switch (change->to)
	{
		case RSL_BREAKER_OPEN:
			return cause == CAUSE_PROBE ? "failed probe" : trips[change->reason];
		case RSL_BREAKER_HALF_OPEN:
			return cause == CAUSE_PROBE ? "probe answered" : "time is up";
		case RSL_BREAKER_CLOSED:
			break;
	}
	return cause == CAUSE_COMMAND ? "reset" :
		cause == CAUSE_PROBE ? "probes answered" : "trials succeeded";
}

/* Mutex not held. */
static void
tell_change(const breaker_change *change, change_cause cause)
{
	static const char *const positions[] = {"closed", "half_open", "open"};
	static const char *const forces[] = {"", " forced=open", " forced=closed"};
	const char *mode;
	const char *server_key;
	const char *server_end;
	char		open_ms[32] = "";
	uint32		calls;

	if (!change->to_tell)
		return;					/* and nothing else of it is set */
	mode = change->mode == RSL_MODE_OBSERVE ? " mode=observe" : "";
	server_key = change->server_name[0] ? " server=\"" : "";
	server_end = change->server_name[0] ? "\"" : "";
	calls = Max(change->window.calls, 1);
	if (change->to == RSL_BREAKER_OPEN && change->force == RSL_FORCE_AUTO)
		rsl_event(RSL_EVENT_BREAKER, change->database, change->name,
				  positions[change->from], positions[change->to],
				  "reason=\"%s\" consecutive_failures=%u %s=%.2f last_sqlstate=%s retry_after_ms=" INT64_FORMAT "%s%s%s%s",
				  change_reason(change, cause), change->consecutive_failures,
				  change->reason == RSL_TRIP_SLOW_RATE ?
				  "slow_call_rate" : "failure_rate",
				  (double) (change->reason == RSL_TRIP_SLOW_RATE ?
							change->window.slow : change->window.failures) / calls,
				  change->last_sqlstate ?
				  unpack_sql_state(change->last_sqlstate) : "none",
				  change->retry_after_us / 1000, mode,
				  server_key, change->server_name, server_end);
	else
	{
		if (change->open_us >= 0)
			snprintf(open_ms, sizeof(open_ms), " open_ms=" INT64_FORMAT,
					 change->open_us / 1000);
		rsl_event(RSL_EVENT_BREAKER, change->database, change->name,
				  positions[change->from], positions[change->to],
				  "reason=\"%s\"%s%s%s%s%s%s",
				  change_reason(change, cause), forces[change->force], open_ms,
				  mode, server_key, change->server_name, server_end);
	}
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
		breaker_change change;

		SpinLockAcquire(&breaker->mutex);
		config = config_for_calls(breaker, now);
		admitted = rsl_breaker_admit(&breaker->state, &config, now,
									 &call->permit);
		update_gate(breaker, now, &change);
		SpinLockRelease(&breaker->mutex);
		if (change.any)
		{
			tell_change(&change, CAUSE_CALL);
			wake_prober();
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
	breaker_change change;
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
	update_gate(breaker, now_us, &change);
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
		tell_change(&change, CAUSE_CALL);
		wake_prober();
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
	breaker_change change;

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
	update_gate(breaker, now, &change);
	SpinLockRelease(&breaker->mutex);
	tell_change(&change, CAUSE_COMMAND);

	pg_atomic_write_u32(&breaker->max_concurrent_calls,
						(uint32) policy->max_concurrent_calls);
	pg_atomic_write_u32(&breaker->call_timeout_ms, policy->call_timeout_ms);
	pg_atomic_write_u32(&breaker->on_open, policy->on_open);
	if (is_new)
		pg_atomic_write_u32(&breaker->uid, ++rsl_breakers_shmem->last_uid);
	if (change.any || is_new)
		wake_prober();
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
	wake_prober();
}

void
rsl_breaker_command_reset(int index)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	int64		now = rsl_now_us();
	breaker_change change;

	SpinLockAcquire(&breaker->mutex);
	rsl_breaker_reset(&breaker->state, &breaker->policy.config, now);
	update_gate(breaker, now, &change);
	SpinLockRelease(&breaker->mutex);
	tell_change(&change, CAUSE_COMMAND);
	wake_prober();
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
	breaker_change change;
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
	update_gate(breaker, now, &change);
	SpinLockRelease(&breaker->mutex);
	tell_change(&change, CAUSE_CALL);
}

/* The prober has an answer, or waited for one in vain. */
void
rsl_breaker_probe_done(int index, uint32 uid, uint32 generation, bool alive,
					   const char *result)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	TimestampTz now = GetCurrentTimestamp();
	double		random = pg_prng_double(&pg_global_prng_state);
	breaker_change change;
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
	update_gate(breaker, now_us, &change);
	SpinLockRelease(&breaker->mutex);
	tell_change(&change, CAUSE_PROBE);
}

/* Totals restart at zero; the state is not touched. */
void
rsl_breaker_reset_statistics(int index)
{
	clear_totals(&rsl_breakers[index]);
}

static bool
in_list(const rsl_sqlstate_list *list, int sqlstate)
{
	for (int i = 0; i < list->count; i++)
	{
		int			wanted = list->elements[i];

		if ((wanted & RSL_SQLSTATE_CLASS) != 0 ?
			ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(wanted) :
			sqlstate == wanted)
			return true;
	}
	return false;
}

/*
 * Is the dependency to blame for an error?  The administrator's lists come
 * first, the errors that the administrator wants ignored before those that
 * are to be recorded.  Else it is for the classes that speak of connections,
 * resources and the system; of a foreign server also HV, of any other
 * dependency also what procedural code and external routines raise.
 */
bool
rsl_breaker_counts_sqlstate(const rsl_breaker_policy *policy, int sqlstate,
							bool generic)
{
	int			class = ERRCODE_TO_CATEGORY(sqlstate);

	if (in_list(&policy->ignored, sqlstate))
		return false;
	if (in_list(&policy->recorded, sqlstate))
		return true;
	if (policy->recorded.count >= 0)
		return false;

	/* another guard's refusal is not the dependency's failure */
	if (sqlstate == ERRCODE_BREAKER_OPEN)
		return false;

	if (class == MAKE_SQLSTATE('0', '8', '0', '0', '0') ||
		class == MAKE_SQLSTATE('5', '3', '0', '0', '0') ||
		class == MAKE_SQLSTATE('5', '8', '0', '0', '0') ||
		class == MAKE_SQLSTATE('2', '8', '0', '0', '0') ||
		class == MAKE_SQLSTATE('H', 'V', '0', '0', '0'))
		return true;
	if (sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '1') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '2') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '3') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '4') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '5'))
		return true;
	return generic &&
		(class == MAKE_SQLSTATE('X', 'X', '0', '0', '0') ||
		 class == MAKE_SQLSTATE('P', '0', '0', '0', '0') ||
		 class == MAKE_SQLSTATE('3', '8', '0', '0', '0') ||
		 class == MAKE_SQLSTATE('3', '9', '0', '0', '0'));
}
