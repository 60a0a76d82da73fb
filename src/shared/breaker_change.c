/*-------------------------------------------------------------------------
 *
 * breaker_change.c
 *		What has changed about a circuit breaker, and who is told.
 *
 * Whoever moves a breaker's state machine copies the result to the gate before
 * the mutex is free again, and tells of it afterwards: calls by the gate, the
 * administrator by an event, cached plans by the prober.  Nothing here throws
 * or allocates: calls end in error paths and at exit, too.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/breaker_change.h"
#include "shared/events.h"
#include "shared/measures.h"
#include "storage/proc.h"

/*
 * The prober makes changes of state known to cached plans, and asks open
 * servers.  Waking it only sets a latch, so error paths may do that.
 */
void
rsl_breaker_wake_prober(void)
{
	uint32		prober = pg_atomic_read_u32(&rsl_breakers_shmem->prober);

	if (prober != 0)
		SetLatch(&GetPGProcByNumber(prober - 1)->procLatch);
}

/*
 * Copy what calls have to know to the gate, and note in *change what is
 * another than before.  Mutex held.
 */
void
rsl_breaker_update_gate(rsl_breaker *breaker, int64 now, rsl_breaker_change *change)
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

static const char *
change_reason(const rsl_breaker_change *change, rsl_change_cause cause)
{
	static const char *const trips[] = {"none", "consecutive failures", "failure rate",
	"slow call rate", "failed trial", "forced"};

	if (change->force != change->old_force)
		return change->force == RSL_FORCE_AUTO ? "no longer forced" : "forced";
	switch (change->to)
	{
		case RSL_BREAKER_OPEN:
			return cause == RSL_CAUSE_PROBE ? "failed probe" : trips[change->reason];
		case RSL_BREAKER_HALF_OPEN:
			return cause == RSL_CAUSE_PROBE ? "probe answered" : "time is up";
		case RSL_BREAKER_CLOSED:
			break;
	}
	return cause == RSL_CAUSE_COMMAND ? "reset" :
		cause == RSL_CAUSE_PROBE ? "probes answered" : "trials succeeded";
}

/* Mutex not held. */
void
rsl_breaker_tell_change(const rsl_breaker_change *change, rsl_change_cause cause)
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
