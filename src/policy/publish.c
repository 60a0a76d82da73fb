/*-------------------------------------------------------------------------
 *
 * publish.c
 *		From the extension's tables to shared memory.
 *
 * The tables of definitions in each database are the truth: transactional,
 * dumped, replicated.  A trigger on them only notes that they were changed.
 * Before the transaction commits, the tables are read whole (what a
 * savepoint rolled back is not in it any more), names are resolved, room is
 * reserved, and whatever can fail has failed.  After the commit, but before
 * the client hears of it, the result replaces what is in force of this
 * database in shared memory.
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

#include "policy/publish.h"
#include "policy/snapshot_file.h"
#include "shared/workers.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The table of the bulkheads' definitions in this database, if any. */
Oid
rsl_definitions_relation(void)
{
	return rsl_extension_relation(RSL_DEFINITIONS_NAME);
}

/* Nothing: what is left of a database that has no definitions any more. */
rsl_publication *
rsl_empty_publication(Oid home_database)
{
	rsl_publication *publication;

	publication = MemoryContextAllocZero(TopTransactionContext,
										 sizeof(rsl_publication));
	publication->home_database = home_database;
	publication->bulkheads.home_database = home_database;
	publication->breakers.home_database = home_database;
	publication->runaway.home_database = home_database;
	return publication;
}

static bool
leaves_out(const rsl_publication *publication)
{
	int			n = publication->bulkheads.left_out.n +
		publication->breakers.left_out.n + publication->runaway.left_out.n;

	for (int k = 0; k < RSL_NUM_KINDS; k++)
		n += publication->sets[k].left_out.n;
	return n > 0;
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

	publication->has_extension = OidIsValid(rsl_definitions_relation());
	rsl_read_bulkheads(&publication->bulkheads);
	rsl_fit_bulkheads(&publication->bulkheads);
	rsl_match_bulkhead_connections(&publication->bulkheads);
	rsl_read_breakers(&publication->breakers);
	rsl_fit_breakers(&publication->breakers);
	rsl_read_runaway_rules(&publication->runaway);
	rsl_fit_runaway_rules(&publication->runaway);
	rsl_match_runaway_sessions(&publication->runaway);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		rsl_read_set(rsl_kinds[k], &publication->sets[k]);
		rsl_fit_set(rsl_kinds[k], home_database, &publication->sets[k]);
	}
	if (leaves_out(publication))
		pg_atomic_write_u32(&rsl_shmem->some_left_out, 1);
	MemoryContextSwitchTo(old);
	return publication;
}

/* Replace what is in force of one database.  Must not fail. */
void
rsl_publish(const rsl_publication *publication)
{
	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);

	rsl_publish_bulkheads(&publication->bulkheads);
	rsl_publish_breakers(&publication->breakers);
	rsl_publish_runaway_rules(&publication->runaway);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
		rsl_publish_set(rsl_kinds[k], publication->home_database,
						&publication->sets[k]);
	if (publication->has_extension)
		rsl_database_put(publication->home_database);
	else
		rsl_database_remove(publication->home_database);
	rsl_announce_policies();
	rsl_snapshot_save();
	LWLockRelease(rsl_config_lock);

	rsl_dispatch_waiters();

	/*
	 * Another database's definitions may have been waiting for room that is
	 * here now.  Its reader says so again if it was not enough.
	 */
	if (pg_atomic_exchange_u32(&rsl_shmem->some_left_out, 0) != 0)
		pg_atomic_fetch_add_u32(&rsl_shmem->visit_requests, 1);

	rsl_report_left_out(WARNING, &publication->bulkheads.left_out);
	rsl_report_left_out(WARNING, &publication->breakers.left_out);
	rsl_report_left_out(WARNING, &publication->runaway.left_out);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
		rsl_report_left_out(WARNING, &publication->sets[k].left_out);
}

/* Does what is in force differ from this? */
bool
rsl_publication_differs(const rsl_publication *publication)
{
	bool		differs;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	differs = rsl_bulkheads_differ(&publication->bulkheads);
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
	return differs;
}

/* A database is gone: so are its definitions.  Must not fail. */
void
rsl_forget_database(Oid home_database)
{
	rsl_publication nothing = {.home_database = home_database,
		.bulkheads.home_database = home_database,
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
	rsl_expire_bulkheads(now);
}
