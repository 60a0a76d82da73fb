/*-------------------------------------------------------------------------
 *
 * kinds.c
 *		Kinds of definitions that go from a table to shared memory alike.
 *
 * See publish.c for when this happens, and kinds.h for what a kind says.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "policy/kinds.h"
#include "shared/layout.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

const rsl_kind *const rsl_kinds[RSL_NUM_KINDS] = {
	&rsl_health_check_kind,
	&rsl_feature_kind,
	&rsl_degradation_kind,
	&rsl_experiment_kind,
};

static const rsl_policy_head *
nth_policy(const rsl_kind *kind, const rsl_definition_set *set, int n)
{
	return (const rsl_policy_head *) (set->policies + n * kind->policy_size);
}

/* Read this database's definitions. */
void
rsl_read_set(const rsl_kind *kind, rsl_definition_set *set)
{
	Oid			relid = rsl_extension_relation(kind->relname);
	Relation	relation;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;
	int			room = 16;

	set->npolicies = 0;
	set->policies = palloc(room * kind->policy_size);
	if (!OidIsValid(relid))
		return;

	relation = table_open(relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = rsl_table_beginscan(relation, snapshot);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		char	   *policy;

		if (set->npolicies == room)
		{
			room *= 2;
			set->policies = repalloc(set->policies, room * kind->policy_size);
		}
		/* all of it: padding too is compared, and part of a checksum */
		policy = set->policies + set->npolicies * kind->policy_size;
		memset(policy, 0, kind->policy_size);
		((rsl_policy_head *) policy)->home_database = MyDatabaseId;
		if (kind->from_tuple(tuple, RelationGetDescr(relation), policy))
			set->npolicies++;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, NoLock);
}

static int
find_entry(const rsl_kind *kind, const rsl_policy_head *wanted)
{
	int			capacity = kind->capacity();

	for (int i = 0; i < capacity; i++)
	{
		const rsl_policy_head *head = kind->published(i);

		if (head && head->home_database == wanted->home_database &&
			strcmp(head->name, wanted->name) == 0)
			return i;
	}
	return -1;
}

static int
free_entry(const rsl_kind *kind)
{
	int			capacity = kind->capacity();

	for (int i = 0; i < capacity; i++)
	{
		if (kind->published(i) == NULL)
			return i;
	}
	return -1;
}

/* Is there room?  The publishers' lock is held, so it stays that way. */
void
rsl_check_set_room(const rsl_kind *kind, Oid home_database,
				   const rsl_definition_set *set)
{
	int			capacity = kind->capacity();
	int			others = 0;
	int			mine = 0;
	int			wanted = 0;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < capacity; i++)
	{
		const rsl_policy_head *head = kind->published(i);

		if (head == NULL)
			continue;
		if (head->home_database == home_database)
			mine++;
		else
			others++;
	}
	for (int p = 0; p < set->npolicies; p++)
	{
		if (find_entry(kind, nth_policy(kind, set, p)) < 0)
			wanted++;
	}
	LWLockRelease(rsl_config_lock);

	/* already over: a restart with a smaller setting; let it shrink */
	if (set->npolicies <= mine && wanted == 0)
		return;
	if (others + set->npolicies > capacity)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many %s", kind->plural),
				 errdetail("limit=%d this_database=%d other_databases=%d",
						   capacity, set->npolicies, others),
				 errhint("Drop some, or raise \"%s\" and restart the server.",
						 kind->setting)));
}

/* Does what is in force differ from this?  Config lock held. */
bool
rsl_set_differs(const rsl_kind *kind, Oid home_database,
				const rsl_definition_set *set)
{
	int			capacity = kind->capacity();
	int			in_force = 0;

	for (int i = 0; i < capacity; i++)
	{
		const rsl_policy_head *head = kind->published(i);

		if (head && head->home_database == home_database)
			in_force++;
	}
	if (in_force != set->npolicies)
		return true;
	for (int p = 0; p < set->npolicies; p++)
	{
		const rsl_policy_head *policy = nth_policy(kind, set, p);
		int			index = find_entry(kind, policy);

		if (index < 0 ||
			memcmp(kind->published(index), policy, kind->policy_size) != 0)
			return true;
	}
	return false;
}

/* Replace what is in force of one database. */
void
rsl_publish_set(const rsl_kind *kind, Oid home_database,
				const rsl_definition_set *set)
{
	int			capacity = kind->capacity();
	bool		changed = false;

	for (int i = 0; i < capacity; i++)
	{
		const rsl_policy_head *head = kind->published(i);
		bool		kept = false;

		if (head == NULL || head->home_database != home_database)
			continue;
		for (int p = 0; p < set->npolicies && !kept; p++)
			kept = strcmp(nth_policy(kind, set, p)->name, head->name) == 0;
		if (!kept)
		{
			rsl_definition_event(kind->event_kind, home_database, head->name,
								 "dropped", "");
			kind->retire(i);
			changed = true;
		}
	}
	for (int p = 0; p < set->npolicies; p++)
	{
		const rsl_policy_head *policy = nth_policy(kind, set, p);
		int			index = find_entry(kind, policy);

		if (index >= 0 &&
			memcmp(kind->published(index), policy, kind->policy_size) == 0)
			continue;
		rsl_definition_event(kind->event_kind, home_database, policy->name,
							 index < 0 ? "created" : "changed", "");
		if (index < 0)
			index = free_entry(kind);
		if (index < 0)
		{
			/* cannot be: rsl_check_set_room() saw to it */
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("%s \"%s\" is not in force: no room in shared memory",
							kind->singular, policy->name)));
			continue;
		}
		kind->put(index, policy);
		changed = true;
	}
	if (changed)
		kind->announce();
}

/*
 * While the server starts: put one policy of the snapshot file into force.
 * Returns false if there is no room.
 */
bool
rsl_publish_kind_at_start(const rsl_kind *kind, const void *policy)
{
	int			index = free_entry(kind);

	if (index < 0)
		return false;
	kind->put(index, policy);
	kind->announce();
	return true;
}
