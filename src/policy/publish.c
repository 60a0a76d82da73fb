/*-------------------------------------------------------------------------
 *
 * publish.c
 *		From the extension's table to shared memory.
 *
 * The tables of definitions in each database are the truth: transactional,
 * dumped, replicated.  A trigger on them only notes that they were changed.
 * Before the transaction commits, the tables are read whole (what a
 * savepoint rolled back is not in it any more), names are resolved, room is
 * reserved, and whatever can fail has failed.  After the commit, but before
 * the client hears of it, the result replaces this database's bulkheads in
 * shared memory.
 *
 * Publishers are serialized by a lock that they hold until their transaction
 * ends, so room that was seen before the commit is there after it.
 *
 * Standbys have no commits and prepared transactions no callback: the
 * former are served by the launcher's regular visits, the latter are refused.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "policy/conditions.h"
#include "policy/definitions.h"
#include "policy/match.h"
#include "policy/publish.h"
#include "policy/query_ids.h"
#include "policy/snapshot_file.h"
#include "shared/compartments.h"
#include "shared/overload.h"
#include "shared/budget.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * Serialize everybody who changes bulkheads, in any database, until the end
 * of the transaction.  No object has this identity: only we take this lock.
 */
void
rsl_lock_definitions(void)
{
	LockSharedObject(ExtensionRelationId, InvalidOid, 0, ExclusiveLock);
}

/* The table of the bulkheads' definitions in this database, if any. */
Oid
rsl_definitions_relation(void)
{
	return rsl_extension_relation(RSL_DEFINITIONS_NAME);
}

/* The length of an interval in milliseconds; a month has 30 days. */
double
rsl_interval_ms(const Interval *interval)
{
	return (interval->month * 30.0 + interval->day) * SECS_PER_DAY * 1000.0 +
		interval->time / 1000.0;
}

/*
 * Make a policy from a row.  Values are taken as they are: the table's
 * trigger has checked them.  Returns false for a row that cannot match
 * anything, because its role or database does not exist any more.
 */
bool
rsl_policy_from_tuple(HeapTuple tuple, TupleDesc desc,
					  rsl_bulkhead_policy *policy)
{
	char	   *value;
	bool		isnull;
	Datum		datum;
	bool		alive;

	/* all of it: the padding too is part of the snapshot's checksum */
	memset(policy, 0, sizeof(*policy));
	policy->home_database = MyDatabaseId;

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

/* Nothing: what is left of a database that has no bulkheads any more. */
rsl_publication *
rsl_empty_publication(Oid home_database)
{
	rsl_publication *publication;

	publication = MemoryContextAllocZero(TopTransactionContext,
										 sizeof(rsl_publication));
	publication->home_database = home_database;
	publication->breakers.home_database = home_database;
	publication->runaway.home_database = home_database;
	return publication;
}

/* Read the table of this database into a publication. */
void
rsl_read_definitions(rsl_publication *publication, Oid relid)
{
	Relation	relation = table_open(relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = rsl_table_beginscan(relation, snapshot);
	HeapTuple	tuple;
	int			room = 0;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		if (publication->npolicies == room)
		{
			room = room == 0 ? 16 : room * 2;
			publication->policies = publication->policies ?
				repalloc(publication->policies,
						 room * sizeof(rsl_bulkhead_policy)) :
				palloc(room * sizeof(rsl_bulkhead_policy));
			publication->rewritten = publication->rewritten ?
				repalloc(publication->rewritten, room * sizeof(bool)) :
				palloc(room * sizeof(bool));
		}
		publication->rewritten[publication->npolicies] =
			TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		if (rsl_policy_from_tuple(tuple, RelationGetDescr(relation),
								  &publication->policies[publication->npolicies]))
			publication->npolicies++;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, NoLock);
}

/*
 * Which of the present sessions match the conditions on connections?  Asked
 * before the commit, since memberships are in catalogs.  A session that
 * comes later brings itself up to date.
 */
static void
match_connections(rsl_publication *publication)
{
	int			nsessions = rsl_shmem->nsessions;

	publication->nsessions = nsessions;
	publication->pids = palloc0(nsessions * sizeof(pid_t));
	publication->connects = palloc0((Size) nsessions *
									publication->npolicies + 1);
	for (int s = 0; s < nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];

		CHECK_FOR_INTERRUPTS();
		publication->pids[s] = session->pid;

		if (session->pid == 0)
			continue;
		for (int p = 0; p < publication->npolicies; p++)
		{
			rsl_bulkhead_policy *policy = &publication->policies[p];

			publication->connects[s * publication->npolicies + p] =
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

/* Is there room?  The publishers' lock is held, so it stays that way. */
static void
check_room(const rsl_publication *publication)
{
	int			others = 0;
	int			mine = 0;
	int			free_entries = 0;
	int			wanted = 0;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (!rsl_bulkheads[i].published)
			free_entries += entry_is_free(&rsl_bulkheads[i]) ? 1 : 0;
		else if (rsl_bulkheads[i].policy.home_database == publication->home_database)
			mine++;
		else
			others++;
	}
	for (int p = 0; p < publication->npolicies; p++)
	{
		if (find_entry(publication->home_database,
					   publication->policies[p].name) < 0)
			wanted++;
	}
	LWLockRelease(rsl_config_lock);

	/* already over: a restart with a smaller setting; let it shrink */
	if (publication->npolicies <= mine && wanted == 0)
		return;
	if (others + publication->npolicies > rsl_shmem->max_bulkheads)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many bulkheads"),
				 errdetail("limit=%d this_database=%d other_databases=%d",
						   rsl_shmem->max_bulkheads, publication->npolicies,
						   others),
				 errhint("Drop some, or raise \"resilience.max_bulkheads\" and restart the server.")));
	if (wanted > free_entries)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no room for bulkheads at the moment"),
				 errdetail("Dropped bulkheads keep their room until the transactions that they admitted have ended."),
				 errhint("Wait for these transactions, or raise \"resilience.max_bulkheads\" and restart the server.")));
}

/*
 * Read this database's definitions and prepare to publish them.  Everything
 * that can fail does so here.  The result lives as long as the transaction.
 */
rsl_publication *
rsl_prepare_publication(Oid home_database)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	rsl_publication *publication = rsl_empty_publication(home_database);
	Oid			relid = rsl_definitions_relation();

	publication->has_extension = OidIsValid(relid);
	if (OidIsValid(relid))
		rsl_read_definitions(publication, relid);
	check_room(publication);
	match_connections(publication);
	rsl_read_breakers(&publication->breakers);
	rsl_check_breaker_room(&publication->breakers);
	rsl_read_runaway_rules(&publication->runaway);
	rsl_check_runaway_room(&publication->runaway);
	rsl_match_runaway_sessions(&publication->runaway);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		rsl_read_set(rsl_kinds[k], &publication->sets[k]);
		rsl_check_set_room(rsl_kinds[k], home_database, &publication->sets[k]);
	}
	MemoryContextSwitchTo(old);
	return publication;
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
		pg_atomic_write_u64(&bulkhead->admitted, 0);
		pg_atomic_write_u64(&bulkhead->connection_word, 0);
		pg_atomic_write_u64(&bulkhead->refused_connections, 0);
		pg_atomic_write_u64(&bulkhead->refused_statements, 0);
		pg_atomic_write_u64(&bulkhead->timed_out, 0);
		pg_atomic_write_u64(&bulkhead->preempted, 0);
		rsl_overload_reset(&bulkhead->overload);
		pg_atomic_write_u64(&bulkhead->wait_us, 0);
		pg_atomic_write_u64(&bulkhead->no_compartment, 0);
		pg_atomic_write_u32(&bulkhead->last_logged, 0);
		bulkhead->admitted_before_reset = 0;
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
static void
announce(void)
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
static void
dispatch_all(void)
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

/* Replace what is in force of one database.  Must not fail. */
void
rsl_publish(const rsl_publication *publication)
{
	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);

	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		bool		kept = false;

		if (!rsl_bulkheads[i].published ||
			rsl_bulkheads[i].policy.home_database != publication->home_database)
			continue;
		for (int p = 0; p < publication->npolicies && !kept; p++)
			kept = strcmp(publication->policies[p].name,
						  rsl_bulkheads[i].policy.name) == 0;
		if (kept)
			continue;
		rsl_definition_event(RSL_EVENT_BULKHEAD, publication->home_database,
							 rsl_bulkheads[i].policy.name, "dropped", "");
		retire_entry(i);
	}

	for (int p = 0; p < publication->npolicies; p++)
	{
		const rsl_bulkhead_policy *policy = &publication->policies[p];
		int			index = find_entry(publication->home_database, policy->name);

		if (index >= 0)
			rewrite_policy(&rsl_bulkheads[index], policy,
						   publication->rewritten[p]);
		else
		{
			note_definition(policy, "created");
			index = occupy_entry(policy);
		}
		if (index < 0)
		{
			/* cannot be: check_room() saw to it */
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("bulkhead \"%s\" is not enforced: no room in shared memory",
							policy->name)));
			continue;
		}

		for (int s = 0; s < publication->nsessions; s++)
		{
			rsl_session *session = &rsl_sessions[s];

			if (session->pid == 0 || session->pid != publication->pids[s])
				continue;
			if (publication->connects[s * publication->npolicies + p] &&
				!rsl_bulkheads[index].expired)
				rsl_connection_take(session, index, true);
			else
				rsl_connection_give(session, index);
		}
	}

	rsl_publish_breakers(&publication->breakers);
	rsl_publish_runaway_rules(&publication->runaway);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
		rsl_publish_set(rsl_kinds[k], publication->home_database,
						&publication->sets[k]);
	if (publication->has_extension)
		rsl_database_put(publication->home_database);
	else
		rsl_database_remove(publication->home_database);
	announce();
	rsl_snapshot_save();
	LWLockRelease(rsl_config_lock);

	dispatch_all();
}

/* While the server starts: put one policy of the snapshot file into force. */
bool
rsl_publish_at_start(const rsl_bulkhead_policy *policy,
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
	announce();
	return done;
}

/* Does what is in force differ from this? */
bool
rsl_publication_differs(const rsl_publication *publication)
{
	int			in_force = 0;
	bool		differs = false;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published &&
			rsl_bulkheads[i].policy.home_database == publication->home_database)
			in_force++;
	}
	for (int p = 0; p < publication->npolicies && !differs; p++)
	{
		int			index = find_entry(publication->home_database,
									   publication->policies[p].name);

		differs = index < 0 ||
			memcmp(&rsl_bulkheads[index].policy, &publication->policies[p],
				   sizeof(rsl_bulkhead_policy)) != 0;
	}
	if (publication->has_extension)
		differs |= rsl_database_find(publication->home_database) == NULL &&
			rsl_database_find(InvalidOid) != NULL;
	else
		differs |= rsl_database_find(publication->home_database) != NULL;
	differs |= rsl_breakers_differ(&publication->breakers);
	differs |= rsl_runaway_rules_differ(&publication->runaway);
	for (int k = 0; k < RSL_NUM_KINDS && !differs; k++)
		differs = rsl_set_differs(rsl_kinds[k], publication->home_database,
								  &publication->sets[k]);
	LWLockRelease(rsl_config_lock);
	return differs || in_force != publication->npolicies;
}

/* A database is gone: so are its definitions.  Must not fail. */
void
rsl_forget_database(Oid home_database)
{
	rsl_publication nothing = {.home_database = home_database,
		.breakers.home_database = home_database,
	.runaway.home_database = home_database};

	if (rsl_publication_differs(&nothing))
		rsl_publish(&nothing);
}

/* Called by the launcher: end what has expired. */
void
rsl_publish_expiries(void)
{
	TimestampTz now = GetCurrentTimestamp();

	rsl_expire_runaway_rules(now);
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
	announce();
	LWLockRelease(rsl_config_lock);

	dispatch_all();
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
	announce();
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
