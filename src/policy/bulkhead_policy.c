/*-------------------------------------------------------------------------
 *
 * bulkhead_policy.c
 *		Bulkheads: from the extension's table to shared memory.
 *
 * See publish.c for when this happens.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/bulkhead_policy.h"
#include "policy/definitions.h"
#include "policy/query_ids.h"
#include "policy/snapshot_file.h"
#include "shared/budget.h"
#include "shared/compartments.h"
#include "shared/overload.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "shared/statistics.h"
#include "utils/timestamp.h"

/*
 * An rsl_policy_maker.  A row cannot match anything if its role or database
 * does not exist any more.
 */
bool
rsl_bulkhead_from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_bulkhead_policy *policy = result;
	char	   *value;
	bool		isnull;
	Datum		datum;
	bool		alive;

	value = rsl_text_column(tuple, desc, RSL_COL_NAME);
	strlcpy(policy->name, value ? value : "", sizeof(policy->name));

	alive = rsl_conditions_from_tuple(tuple, desc, &policy->conditions);

	policy->max_connections = rsl_int_column(tuple, desc,
											 RSL_COL_MAX_CONNECTIONS, -1);
	policy->max_running = rsl_int_column(tuple, desc, RSL_COL_MAX_RUNNING, -1);
	policy->max_waiting = rsl_int_column(tuple, desc, RSL_COL_MAX_WAITING, 0);
	datum = heap_getattr(tuple, RSL_COL_MAX_WAIT, desc, &isnull);
	policy->max_wait_ms = isnull ? 1000 :
		(int32) rsl_interval_ms(DatumGetIntervalP(datum));

	value = rsl_text_column(tuple, desc, RSL_COL_PRIORITY);
	policy->priority = value ? rsl_parse_priority(value) : -1;
	value = rsl_text_column(tuple, desc, RSL_COL_MODE);
	policy->mode = value ? rsl_parse_mode(value) : RSL_MODE_ENFORCE;
	datum = heap_getattr(tuple, RSL_COL_EXPIRES_AT, desc, &isnull);
	policy->expires_at = isnull ? DT_NOEND : DatumGetTimestampTz(datum);

	policy->max_connection_rate =
		rsl_float_column(tuple, desc, RSL_COL_MAX_CONNECTION_RATE, -1);
	policy->cpu_share = rsl_float_column(tuple, desc, RSL_COL_CPU_SHARE, -1);
	policy->cpu_burst_ms =
		rsl_interval_column_ms(tuple, desc, RSL_COL_CPU_BURST, 10000);
	policy->max_statement_cost =
		rsl_float_column(tuple, desc, RSL_COL_MAX_STATEMENT_COST, -1);
	policy->max_rate = rsl_float_column(tuple, desc, RSL_COL_MAX_RATE, -1);
	datum = heap_getattr(tuple, RSL_COL_ONLY_UNDER_LOAD, desc, &isnull);
	policy->only_under_load = !isnull && DatumGetBool(datum);
	policy->auto_revert_refusal_rate =
		rsl_float_column(tuple, desc, RSL_COL_AUTO_REVERT_REFUSAL_RATE, -1);

	return alive;
}

/*
 * Which of the present sessions match the conditions on connections?  Asked
 * before the commit, since memberships are in catalogs.  A session that
 * comes later brings itself up to date.
 */
void
rsl_match_bulkhead_connections(rsl_bulkhead_set *set)
{
	int			nsessions = rsl_shmem->nsessions;

	set->nsessions = nsessions;
	set->pids = palloc0(nsessions * sizeof(pid_t));
	set->connects = palloc0((Size) nsessions *
							set->npolicies + 1);
	for (int s = 0; s < nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];

		CHECK_FOR_INTERRUPTS();
		set->pids[s] = session->pid;

		if (session->pid == 0)
			continue;
		for (int p = 0; p < set->npolicies; p++)
		{
			rsl_bulkhead_policy *policy = &set->policies[p];

			set->connects[s * set->npolicies + p] =
				!rsl_conditions_judge_statements(&policy->conditions) &&
				rsl_conditions_match_session(&policy->conditions, session->role,
											 rsl_conditions_is_member(&policy->conditions,
																	  session->role),
											 session->database,
											 &session->address,
											 session->application_name);
		}
	}
}

/* Is an entry free for another bulkhead?  Config lock held. */
static bool
entry_is_free(rsl_bulkhead *bulkhead)
{
	return !bulkhead->published &&
		(pg_atomic_read_u64(&bulkhead->pool.word) == 0) &&
		pg_atomic_read_u32(&bulkhead->connections) == 0 &&
		!rsl_compartments_in_use((int) (bulkhead - rsl_bulkheads));
}

static int
find_entry(Oid home_database, const char *name)
{
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published &&
			rsl_bulkheads[i].policy.home_database == home_database &&
			strcmp(rsl_bulkheads[i].policy.name, name) == 0)
			return i;
	}
	return -1;
}

/* Without what other databases have in force. */
rsl_room
rsl_bulkhead_room(void)
{
	rsl_room	room = {.singular = "bulkhead",.plural = "bulkheads",
		.setting = "resilience.max_bulkheads",
	.limit = rsl_shmem->max_bulkheads};

	return room;
}

/* Read this database's definitions. */
void
rsl_read_bulkheads(rsl_bulkhead_set *set)
{
	rsl_policy_rows rows;

	rsl_read_rows(RSL_DEFINITIONS_NAME, sizeof(rsl_bulkhead_policy),
				  rsl_bulkhead_from_tuple, &rows);
	set->npolicies = rows.n;
	set->policies = rows.policies;
	set->written = rows.written;
}

/* Leave out those that there is no room for. */
void
rsl_fit_bulkheads(rsl_bulkhead_set *set)
{
	rsl_room	room = rsl_bulkhead_room();
	bool	   *in_force = palloc(set->npolicies * sizeof(bool) + 1);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (!rsl_bulkheads[i].published)
			room.free += entry_is_free(&rsl_bulkheads[i]) ? 1 : 0;
		else if (rsl_bulkheads[i].policy.home_database != set->home_database)
			room.others++;
	}
	for (int p = 0; p < set->npolicies; p++)
		in_force[p] = find_entry(set->home_database, set->policies[p].name) >= 0;
	LWLockRelease(rsl_config_lock);
	set->npolicies = rsl_fit_rows(&room, set->npolicies, set->policies,
								  sizeof(rsl_bulkhead_policy), in_force,
								  set->written, &set->left_out);
}

/*
 * Put a policy into force.  Config lock held exclusively, or nobody else is
 * there yet.  A bulkhead that was reverted stays so unless it has changed, or
 * "anew" says that somebody has written it.
 */
static void
enforce_policy(rsl_bulkhead *bulkhead, const rsl_bulkhead_policy *policy,
			   bool anew)
{
	bool		expired = policy->expires_at <= GetCurrentTimestamp();
	bool		limits = !expired && policy->mode != RSL_MODE_OFF;

	if (anew || memcmp(&bulkhead->policy, policy, sizeof(*policy)) != 0)
		bulkhead->reverted_at = 0;
	bulkhead->policy = *policy;
	bulkhead->published = true;
	bulkhead->expired = expired;
	pg_atomic_write_u32(&bulkhead->mode, bulkhead->reverted_at != 0 ?
						RSL_MODE_OBSERVE : policy->mode);
	pg_atomic_write_u32(&bulkhead->max_wait_ms, policy->max_wait_ms);
	rsl_budget_publish(&bulkhead->budget, limits ? policy : NULL);
	pg_atomic_write_u32(&bulkhead->pool.max_waiting,
						policy->max_waiting < 0 ? (uint32) RSL_LANE_MASK :
						(uint32) policy->max_waiting);
	pg_atomic_write_u32(&bulkhead->pool.max_running,
						(uint32) (limits ? policy->max_running : RSL_UNLIMITED));
	rsl_compartments_apply_limits((int) (bulkhead - rsl_bulkheads));
	if (!expired && policy->expires_at < rsl_shmem->next_expiry)
		rsl_shmem->next_expiry = policy->expires_at;
}

/* Take a free entry for a new bulkhead.  Returns -1 when there is none. */
static int
occupy_entry(const rsl_bulkhead_policy *policy)
{
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];

		if (!entry_is_free(bulkhead))
			continue;
		LWLockAcquire(rsl_stats_lock, LW_EXCLUSIVE);
		bulkhead->uid = ++rsl_shmem->last_uid;
		pg_atomic_write_u64(&bulkhead->connection_word, 0);
		pg_atomic_write_u64(&bulkhead->refused_connections, 0);
		pg_atomic_write_u64(&bulkhead->refused_statements, 0);
		pg_atomic_write_u64(&bulkhead->timed_out, 0);
		pg_atomic_write_u64(&bulkhead->preempted, 0);
		rsl_overload_reset(&bulkhead->overload);
		pg_atomic_write_u64(&bulkhead->wait_us, 0);
		pg_atomic_write_u64(&bulkhead->no_compartment, 0);
		pg_atomic_write_u32(&bulkhead->last_logged, 0);
		bulkhead->admitted_before_reset = rsl_bulkhead_admitted(i);
		LWLockRelease(rsl_stats_lock);
		bulkhead->pool.last_grant = 0;
		bulkhead->pool.grant_interval = 0;
		rsl_budget_init(&bulkhead->budget);
		enforce_policy(bulkhead, policy, true);
		return i;
	}
	return -1;
}

/* Take a bulkhead out of force; its entry is free when all slots are back. */
static void
retire_entry(int index)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];

	bulkhead->published = false;
	pg_atomic_write_u32(&bulkhead->pool.max_running, (uint32) RSL_UNLIMITED);
	rsl_budget_publish(&bulkhead->budget, NULL);
	rsl_compartments_apply_limits(index);
	for (int s = 0; s < rsl_shmem->nsessions; s++)
		rsl_connection_give(&rsl_sessions[s], index);
}

/* Config lock held exclusively: tell all sessions to match anew. */
void
rsl_announce_policies(void)
{
	uint32		n = 0;
	bool		query_ids = false;
	bool		budgets = false;

	rsl_shmem->next_expiry = DT_NOEND;
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];

		if (!bulkhead->published)
			continue;
		n++;
		query_ids |= !bulkhead->expired &&
			bulkhead->policy.mode != RSL_MODE_OFF &&
			bulkhead->policy.conditions.query_id != 0;
		budgets |= (pg_atomic_read_u32(&bulkhead->budget.flags) &
					RSL_BUDGET_CPU) != 0;
		if (!bulkhead->expired &&
			bulkhead->policy.expires_at < rsl_shmem->next_expiry)
			rsl_shmem->next_expiry = bulkhead->policy.expires_at;
	}
	rsl_want_query_ids(RSL_QUERY_IDS_BULKHEADS, query_ids);
	rsl_want_query_ids(RSL_QUERY_IDS_BUDGETS, budgets);
	pg_atomic_write_u32(&rsl_shmem->nmatchable, n);
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&rsl_shmem->generation, 1);
}

/* Limits may have been raised, or be gone: let waiters run. */
void
rsl_dispatch_waiters(void)
{
	for (int i = 0; i < rsl_npools(); i++)
	{
		rsl_pool   *pool = rsl_pool_by_number(i);

		if (pg_atomic_read_u64(&pool->word) & RSL_WAIT_MASK)
			rsl_pool_dispatch(pool);
	}
}

static void
note_definition(const rsl_bulkhead_policy *policy, const char *what)
{
	char		numbers[128];

	snprintf(numbers, sizeof(numbers),
			 "mode=%s max_connections=%d max_running=%d max_waiting=%d",
			 rsl_mode_name(policy->mode), policy->max_connections,
			 policy->max_running, policy->max_waiting);
	rsl_definition_event(RSL_EVENT_BULKHEAD, policy->home_database,
						 policy->name, what, numbers);
}

/* The definition of a bulkhead that is in force was written. */
static void
rewrite_policy(rsl_bulkhead *bulkhead, const rsl_bulkhead_policy *policy,
			   bool anew)
{
	bool		was_reverted = bulkhead->reverted_at != 0;

	if (memcmp(&bulkhead->policy, policy, sizeof(*policy)) != 0)
		note_definition(policy, "changed");
	enforce_policy(bulkhead, policy, anew);
	if (was_reverted && bulkhead->reverted_at == 0)
		rsl_event(RSL_EVENT_BULKHEAD, policy->home_database, policy->name,
				  "reverted", rsl_mode_name(policy->mode), NULL);
}

/*
 * Replace what is in force of one database.  Config lock held exclusively;
 * must not fail.
 */
void
rsl_publish_bulkheads(const rsl_bulkhead_set *set)
{
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		bool		kept = false;

		if (!rsl_bulkheads[i].published ||
			rsl_bulkheads[i].policy.home_database != set->home_database)
			continue;
		for (int p = 0; p < set->npolicies && !kept; p++)
			kept = strcmp(set->policies[p].name,
						  rsl_bulkheads[i].policy.name) == 0;
		if (kept)
			continue;
		rsl_definition_event(RSL_EVENT_BULKHEAD, set->home_database,
							 rsl_bulkheads[i].policy.name, "dropped", "");
		retire_entry(i);
	}

	for (int p = 0; p < set->npolicies; p++)
	{
		const rsl_bulkhead_policy *policy = &set->policies[p];
		int			index = find_entry(set->home_database, policy->name);

		if (index >= 0)
			rewrite_policy(&rsl_bulkheads[index], policy,
						   set->written[p]);
		else
		{
			note_definition(policy, "created");
			index = occupy_entry(policy);
		}
		if (index < 0)
		{
			/* cannot be: rsl_fit_bulkheads() saw to it */
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("bulkhead \"%s\" is not in force: no room in shared memory",
							policy->name)));
			continue;
		}

		for (int s = 0; s < set->nsessions; s++)
		{
			rsl_session *session = &rsl_sessions[s];

			if (session->pid == 0 || session->pid != set->pids[s])
				continue;
			if (set->connects[s * set->npolicies + p] &&
				!rsl_bulkheads[index].expired)
				rsl_connection_take(session, index, true);
			else
				rsl_connection_give(session, index);
		}
	}
}

/* While the server starts: put one policy of the snapshot file into force. */
bool
rsl_publish_bulkhead_at_start(const rsl_bulkhead_policy *policy,
							  TimestampTz reverted_at)
{
	bool		done;

	if (rsl_shmem->max_bulkheads <=
		(int) pg_atomic_read_u32(&rsl_shmem->nmatchable))
		return false;

	/* the same work without locks: this process cannot take any yet */
	done = false;
	for (int i = 0; i < rsl_shmem->nbulkheads && !done; i++)
	{
		if (rsl_bulkheads[i].published)
			continue;
		rsl_bulkheads[i].uid = ++rsl_shmem->last_uid;
		rsl_bulkheads[i].policy = *policy;
		rsl_bulkheads[i].reverted_at = reverted_at;
		enforce_policy(&rsl_bulkheads[i], policy, false);
		done = true;
	}
	rsl_announce_policies();
	return done;
}

/* Does what is in force differ from this?  Config lock held. */
bool
rsl_bulkheads_differ(const rsl_bulkhead_set *set)
{
	int			in_force = 0;
	bool		differs = false;

	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published &&
			rsl_bulkheads[i].policy.home_database == set->home_database)
			in_force++;
	}
	for (int p = 0; p < set->npolicies && !differs; p++)
	{
		int			index = find_entry(set->home_database,
									   set->policies[p].name);

		differs = index < 0 ||
			memcmp(&rsl_bulkheads[index].policy, &set->policies[p],
				   sizeof(rsl_bulkhead_policy)) != 0;
	}
	return differs || in_force != set->npolicies;
}

/* Called by the launcher: end those that have expired. */
void
rsl_expire_bulkheads(TimestampTz now)
{
	if (now < rsl_shmem->next_expiry)
		return;

	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];

		if (!bulkhead->published || bulkhead->expired ||
			bulkhead->policy.expires_at > now)
			continue;
		bulkhead->expired = true;
		rsl_budget_publish(&bulkhead->budget, NULL);
		pg_atomic_write_u32(&bulkhead->pool.max_running,
							(uint32) RSL_UNLIMITED);
		rsl_compartments_apply_limits(i);
		for (int s = 0; s < rsl_shmem->nsessions; s++)
			rsl_connection_give(&rsl_sessions[s], i);
		rsl_event(RSL_EVENT_BULKHEAD, bulkhead->policy.home_database,
				  bulkhead->policy.name, rsl_mode_name(bulkhead->policy.mode),
				  "expired", "expires_at=\"%s\"",
				  timestamptz_to_str(bulkhead->policy.expires_at));
	}
	rsl_announce_policies();
	LWLockRelease(rsl_config_lock);

	rsl_dispatch_waiters();
}

/*
 * Called by the launcher: a bulkhead refuses too much.  From now on it only
 * observes, for all sessions at once, until somebody writes its definition.
 */
void
rsl_revert_bulkhead(int index, uint32 uid, const char *what, uint32 refused,
					uint32 decisions)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[index];
	char		name[NAMEDATALEN];
	Oid			database;
	double		rate;

	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
	if (!bulkhead->published || bulkhead->uid != uid ||
		bulkhead->policy.mode != RSL_MODE_ENFORCE ||
		bulkhead->policy.auto_revert_refusal_rate < 0)
	{
		/* changed meanwhile */
		LWLockRelease(rsl_config_lock);
		return;
	}
	strlcpy(name, bulkhead->policy.name, sizeof(name));
	database = bulkhead->policy.home_database;
	rate = bulkhead->policy.auto_revert_refusal_rate;
	bulkhead->reverted_at = GetCurrentTimestamp();
	pg_atomic_write_u32(&bulkhead->mode, RSL_MODE_OBSERVE);
	/* its priority does not hold any more */
	rsl_announce_policies();
	rsl_snapshot_save();
	LWLockRelease(rsl_config_lock);

	rsl_event_logged(RSL_EVENT_BULKHEAD, database, name, "enforce", "reverted",
					 "%s_refused=%u decisions=%u window_ms=10000 refusal_rate=%.3f auto_revert_refusal_rate=%g",
					 what, refused, decisions,
					 (double) refused / Max(decisions, 1), rate);
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("bulkhead \"%s\" refuses too much: it only observes from now on",
					name),
			 errdetail("%s_refused=%u decisions=%u window_ms=10000 refusal_rate=%.3f auto_revert_refusal_rate=%g",
					   what, refused, decisions,
					   (double) refused / Max(decisions, 1), rate),
			 errhint("It is enforced again when its definition is written: use resilience.alter_bulkhead().")));
}
