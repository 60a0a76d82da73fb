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

#include "policy/kinds.h"
#include "shared/layout.h"

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

/* Without what other databases have in force. */
rsl_room
rsl_kind_room(const rsl_kind *kind)
{
	rsl_room	room = {.singular = kind->singular,.plural = kind->plural,
	.setting = kind->setting,.limit = kind->capacity(),.free = -1};

	return room;
}

/* Read this database's definitions. */
void
rsl_read_set(const rsl_kind *kind, rsl_definition_set *set)
{
	rsl_policy_rows rows;

	rsl_read_rows(kind->relname, kind->policy_size, kind->from_tuple, &rows);
	set->npolicies = rows.n;
	set->policies = rows.policies;
	set->written = rows.written;
}

/* Leave out those that there is no room for. */
void
rsl_fit_set(const rsl_kind *kind, Oid home_database, rsl_definition_set *set)
{
	rsl_room	room = rsl_kind_room(kind);
	bool	   *in_force = palloc(set->npolicies * sizeof(bool) + 1);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < room.limit; i++)
	{
		const rsl_policy_head *head = kind->published(i);

		if (head && head->home_database != home_database)
			room.others++;
	}
	for (int p = 0; p < set->npolicies; p++)
		in_force[p] = find_entry(kind, nth_policy(kind, set, p)) >= 0;
	LWLockRelease(rsl_config_lock);
	set->npolicies = rsl_fit_rows(&room, set->npolicies, set->policies,
								  kind->policy_size, in_force, set->written,
								  &set->left_out);
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
			/* cannot be: rsl_fit_set() saw to it */
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
