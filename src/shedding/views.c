/*-------------------------------------------------------------------------
 *
 * views.c
 *		Functions behind the views "load_shedder", "load_by_priority" and
 *		"activity", my_priority() and reset_statistics().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "core/limit_controller.h"
#include "fmgr.h"
#include "funcapi.h"
#include "policy/match.h"
#include "shared/compartments.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(load_shedder_statistics);
PG_FUNCTION_INFO_V1(priority_statistics);
PG_FUNCTION_INFO_V1(session_activity);
PG_FUNCTION_INFO_V1(my_priority);
PG_FUNCTION_INFO_V1(reset_statistics);

#define SHEDDER_COLUMNS		15
#define PRIORITY_COLUMNS	14
#define ACTIVITY_COLUMNS	8

/*
 * load_shedder_statistics() returns setof record (one row)
 *
 * mode, max_running, current_limit, running, waiting, min_admitted_priority,
 * admitted_total, unmatched_total (how often a session matched more bulkheads
 * than are enforced for one), loaded, refused_connections_total,
 * delayed_connections_total (the last two of resilience.max_connection_rate),
 * limit_reason (NULL while the limit does not adapt itself), blocked_share,
 * cpu_idle, cpu_pressure (0 .. 1 in the last tick; NULL where the system does
 * not tell).
 */
Datum
load_shedder_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	rsl_priority_counts counts[RSL_NUM_PRIORITIES];
	Datum		values[SHEDDER_COLUMNS];
	bool		nulls[SHEDDER_COLUMNS] = {0};
	int			limit;
	int			running = 0;
	int			waiting = 0;
	int64		admitted = 0;
	pg_atomic_uint32 *signals[3];

	rsl_require_shmem();
	signals[0] = &rsl_shmem->blocked_share;
	signals[1] = &rsl_shmem->cpu_idle;
	signals[2] = &rsl_shmem->cpu_pressure;
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_priorities(counts);
	LWLockRelease(rsl_stats_lock);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		running += counts[c].running;
		waiting += counts[c].waiting;
		admitted += counts[c].admitted;
	}

	/* a pool that is only there for its caps has room for everybody */
	limit = (int32) pg_atomic_read_u32(&rsl_shmem->server.max_running);
	if (limit == (int32) RSL_LANE_MASK && rsl_max_running < 0)
		limit = RSL_UNLIMITED;

	values[0] = CStringGetTextDatum(rsl_mode_name(rsl_mode_setting));
	values[1] = Int32GetDatum(rsl_max_running);
	values[2] = Int32GetDatum(limit);
	values[3] = Int32GetDatum(running);
	values[4] = Int32GetDatum(waiting);
	values[5] = CStringGetTextDatum(rsl_priority_name(pg_atomic_read_u32(&rsl_shmem->minimum_priority)));
	values[6] = Int64GetDatum(admitted);
	values[7] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->unmatched));
	values[8] = BoolGetDatum(rsl_server_is_loaded());
	values[9] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->refused_connections));
	values[10] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->delayed_connections));
	/* as is in force: this session may not have re-read the setting yet */
	nulls[11] = pg_atomic_read_u32(&rsl_shmem->adaptive_limit) == 0;
	if (!nulls[11])
		values[11] = CStringGetTextDatum(rsl_limit_reason_name(pg_atomic_read_u32(&rsl_shmem->limit_reason)));
	for (int i = 0; i < lengthof(signals); i++)
	{
		uint32		signal = pg_atomic_read_u32(signals[i]);

		nulls[12 + i] = signal == RSL_NOT_KNOWN;
		values[12 + i] = Float8GetDatum(signal / 1000.0);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

/*
 * priority_statistics() returns setof record
 *
 * A row for each priority: priority, running, waiting, admitted_total,
 * shed_total, timed_out_total, preempted_total, wait_seconds_total,
 * wait_p50_ms, wait_p99_ms, client_gone_total, dropped_total (how many of
 * timed_out_total were too late), retried_total, preempted_running_total (how
 * many of preempted_total were running).  The percentiles are over all that
 * were admitted or timed out, those that did not wait included.
 */
Datum
priority_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	rsl_priority_counts counts[RSL_NUM_PRIORITIES];

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_priorities(counts);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		Datum		values[PRIORITY_COLUMNS];
		bool		nulls[PRIORITY_COLUMNS] = {0};
		uint64		waits[RSL_HISTOGRAM_BUCKETS];
		uint64		waited = 0;
		uint64		at_once;

		for (int b = 0; b < RSL_HISTOGRAM_BUCKETS; b++)
		{
			waits[b] = pg_atomic_read_u64(&rsl_shmem->waits[c][b]);
			waited += waits[b];
		}
		at_once = counts[c].admitted > (int64) waited ?
			counts[c].admitted - waited : 0;

		values[0] = CStringGetTextDatum(rsl_priority_name(c));
		values[1] = Int32GetDatum(counts[c].running);
		values[2] = Int32GetDatum(counts[c].waiting);
		values[3] = Int64GetDatum(counts[c].admitted);
		values[4] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->shed[c]));
		values[5] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->timed_out[c]));
		values[6] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->preempted[c]));
		values[7] = Float8GetDatum(pg_atomic_read_u64(&rsl_shmem->wait_us[c]) / 1e6);
		values[8] = Float8GetDatum(rsl_histogram_quantile(waits, at_once, 0.5) / 1000);
		values[9] = Float8GetDatum(rsl_histogram_quantile(waits, at_once, 0.99) / 1000);
		values[10] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->overload[c].client_gone));
		values[11] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->overload[c].dropped));
		values[12] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->overload[c].retried));
		values[13] = Int64GetDatum(pg_atomic_read_u64(&rsl_shmem->preempted_running[c]));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_stats_lock);
	return (Datum) 0;
}

/* What a session does, as far as the database's client can tell. */
static const char *
session_state(rsl_session *session)
{
	PgBackendStatus *status = session->status;
	BackendState state = status ? ((volatile PgBackendStatus *) status)->st_state :
		STATE_UNDEFINED;

	if (session->wait_start != 0)
		return "waiting";
	if (state == STATE_IDLEINTRANSACTION ||
		state == STATE_IDLEINTRANSACTION_ABORTED)
		return "idle in transaction";
	switch (RSL_SLOT_STATE(pg_atomic_read_u32(&session->slot)))
	{
		case RSL_SLOT_HELD:
			return "running";
		case RSL_SLOT_LENT:
			return "idle in transaction";
		default:
			return "idle";
	}
}

/*
 * session_activity() returns setof record
 *
 * A row for each session: pid, priority, state, bulkheads, wait_start,
 * run_start, query_id, compartments.  Of sessions whose details
 * pg_stat_activity hides from the current user, only the first two.
 */
Datum
session_activity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		reads_all;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	/* what follows of its kind has its answer from memory, without a lock */
	reads_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		Datum		values[ACTIVITY_COLUMNS] = {0};
		bool		nulls[ACTIVITY_COLUMNS] = {0};
		Datum		names[RSL_MAX_MATCHES];
		Datum		compartments[RSL_MAX_MATCHES];
		int			ncompartments = 0;
		const char *state;
		TimestampTz wait_start;
		int			n = 0;

		if (session->pid == 0)
			continue;
		values[0] = Int32GetDatum(session->pid);
		values[1] = CStringGetTextDatum(rsl_priority_name(session->priority));
		if (!reads_all &&
			!has_privs_of_role(GetUserId(), GetPGProcByNumber(s)->roleId))
		{
			memset(nulls + 2, true, ACTIVITY_COLUMNS - 2);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
			continue;
		}
		state = session_state(session);
		wait_start = session->wait_start;

		for (int m = 0; m < session->nmatches; m++)
		{
			rsl_bulkhead *bulkhead = &rsl_bulkheads[session->matches[m].index];

			if (bulkhead->published && bulkhead->uid == session->matches[m].uid)
				names[n++] = CStringGetTextDatum(bulkhead->policy.name);
			if (session->matches[m].pool != session->matches[m].index)
			{
				rsl_pool   *pool = rsl_pool_by_number(session->matches[m].pool);
				rsl_compartment *compartment = rsl_compartment_of(pool);
				char		shown[RSL_COMPARTMENT_SHOWN_LEN];

				if (compartment)
					compartments[ncompartments++] =
						CStringGetTextDatum(rsl_compartment_value(compartment, shown));
			}
		}

		values[2] = CStringGetTextDatum(state);
		values[3] = PointerGetDatum(construct_array(names, n, TEXTOID, -1,
													false, TYPALIGN_INT));
		values[4] = TimestampTzGetDatum(wait_start);
		nulls[4] = wait_start == 0;
		values[5] = TimestampTzGetDatum(session->run_start);
		nulls[5] = RSL_SLOT_STATE(pg_atomic_read_u32(&session->slot)) == RSL_SLOT_FREE ||
			session->run_start == 0;

		values[6] = Int64GetDatum((int64) session->query_id);
		nulls[6] = session->query_id == 0;

		values[7] = PointerGetDatum(construct_array(compartments, ncompartments,
													TEXTOID, -1, false,
													TYPALIGN_INT));
		nulls[7] = ncompartments == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}

/*
 * my_priority() returns text
 *
 * The priority of this session's transactions, all settings and bulkheads
 * considered.
 */
Datum
my_priority(PG_FUNCTION_ARGS)
{
	rsl_require_shmem();
	if (rsl_me != NULL && !rsl_admitted && rsl_match_stale())
		rsl_match_session();
	PG_RETURN_TEXT_P(cstring_to_text(rsl_priority_name(rsl_session_priority(0))));
}

/*
 * reset_statistics() returns void
 *
 * Totals restart at zero; what runs and waits is not affected.
 */
Datum
reset_statistics(PG_FUNCTION_ARGS)
{
	rsl_require_shmem();
	rsl_reset_statistics();
	PG_RETURN_VOID();
}
