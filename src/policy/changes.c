/*-------------------------------------------------------------------------
 *
 * changes.c
 *		What a transaction does to definitions, until it commits.
 *
 * A trigger on the table and a hook on objects only note what is concerned.
 * Before the commit the publication is prepared, and may fail; after it, it is
 * put into force, and may not (see publish.c).
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "policy/definitions.h"
#include "policy/experiment_policy.h"
#include "policy/feature_policy.h"
#include "policy/health_policy.h"
#include "policy/publish.h"
#include "shared/workers.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* What this transaction has to publish when it commits. */
static bool definitions_changed = false;
static bool extension_created = false;
static Oid	dropped_database = InvalidOid;
static bool databases_changed = false;
static bool relation_gone = false;
static rsl_publication *pending = NULL;

/* What else is to be done when it commits, or does not. */
static void (*commit_action) (bool committed) = NULL;

static bool callback_registered = false;
static object_access_hook_type prev_object_access_hook = NULL;

void		(*rsl_relation_dropped) (Oid relation) = NULL;

static void publish_callback(XactEvent event, void *arg);

static void
register_callback(void)
{
	if (!callback_registered)
	{
		RegisterXactCallback(publish_callback, NULL);
		callback_registered = true;
	}
}

static void
forget_pending(void)
{
	definitions_changed = false;
	extension_created = false;
	dropped_database = InvalidOid;
	databases_changed = false;
	relation_gone = false;
	pending = NULL;
	commit_action = NULL;
}

/*
 * Call this when the transaction has committed, after its definitions are in
 * force, or has been rolled back.  It must not fail.
 */
void
rsl_at_commit(void (*action) (bool committed))
{
	register_callback();
	commit_action = action;
}

bool
rsl_will_publish(void)
{
	return definitions_changed;
}

static void
act(bool committed)
{
	void		(*action) (bool) = commit_action;

	forget_pending();
	if (action)
		action(committed);
}

/*
 * Experiments name a relation by its OID, which will be given to another one
 * some day, and is another one in the server that a dump is restored in.  So
 * what is gone becomes 0, which is not in force.
 */
static void
forget_relations(void)
{
	if (rsl_execute_as_owner(RSL_EXPERIMENTS_NAME,
							 "UPDATE resilience.experiment_definitions SET relation = 0 "
							 "WHERE relation OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND NOT EXISTS "
							 "(SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) relation::pg_catalog.oid)",
							 0, NULL, NULL, NULL, NULL) > 0)
		CommandCounterIncrement();
}

static void
publish_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			/* was it this one?  Then workers are to come to this database. */
			if (extension_created &&
				OidIsValid(rsl_definitions_relation()) &&
				rsl_database_find(MyDatabaseId) == NULL)
				definitions_changed = true;
			if (!definitions_changed)
				break;
			rsl_lock_definitions();
			/* the rows of the transaction's last statement too */
			CommandCounterIncrement();
			if (relation_gone && OidIsValid(rsl_extension_relation(RSL_EXPERIMENTS_NAME)))
				forget_relations();
			pending = rsl_prepare_publication(MyDatabaseId);
			break;

		case XACT_EVENT_COMMIT:
			if (pending)
				rsl_publish(pending);
			if (OidIsValid(dropped_database))
				rsl_forget_database(dropped_database);
			if (databases_changed)
				pg_atomic_fetch_add_u32(&rsl_shmem->visit_requests, 1);
			act(true);
			break;

		case XACT_EVENT_PRE_PREPARE:
			if (definitions_changed)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has changed definitions of resilience"),
						 errdetail("Changes take effect when the session that made them commits."),
						 errhint("Use COMMIT.")));
			if (commit_action)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that starts an experiment"),
						 errdetail("It would start when the session commits that asked for it."),
						 errhint("Use COMMIT.")));
			break;

		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			act(false);
			break;

		default:
			break;
	}
}

static void
mark_changed(void)
{
	if (rsl_shmem == NULL)
		return;
	register_callback();
	definitions_changed = true;
}

PG_FUNCTION_INFO_V1(bulkhead_definitions_changed);

/*
 * bulkhead_definitions_changed() returns trigger
 *
 * AFTER each row of a table of definitions, and TRUNCATE: publish when this
 * transaction commits.  Not for each statement: logical replication fires
 * such triggers for TRUNCATE only.  Harmless in a restore into a server that
 * has not preloaded the library.
 */
Datum
bulkhead_definitions_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"bulkhead_definitions_changed")));
	mark_changed();
	return PointerGetDatum(NULL);
}

/* A definition that a role has to be kept for. */
typedef struct role_use
{
	Oid			home_database;	/* InvalidOid = none was found */
	const char *as;				/* "condition" or "owner" */
	const char *kind;			/* "bulkhead" */
	char		name[NAMEDATALEN];
} role_use;

static void
note_use(role_use *use, Oid home_database, const char *as, const char *kind,
		 const char *name)
{
	use->home_database = home_database;
	use->as = as;
	use->kind = kind;
	strlcpy(use->name, name, NAMEDATALEN);
}

/* Is this Oid of a policy the role?  Those of some kinds have it. */
static bool
names_role(const void *policy, Size offset, Oid role)
{
	return offset > 0 && *(const Oid *) ((const char *) policy + offset) == role;
}

static void
note_use_by_kind(role_use *use, const rsl_kind *kind, const void *policy, Oid role)
{
	const rsl_policy_head *head = policy;

	if (names_role(policy, kind->owner_offset, role))
		note_use(use, head->home_database, "owner", kind->singular, head->name);
	if (names_role(policy, kind->role_offset, role))
		note_use(use, head->home_database, "condition", kind->singular, head->name);
}

/* What this transaction has done to its own database's definitions. */
static void
find_use_in_tables(Oid role, role_use *use)
{
	rsl_publication *mine = rsl_empty_publication(MyDatabaseId);

	rsl_read_bulkheads(&mine->bulkheads);
	for (int p = 0; p < mine->bulkheads.npolicies; p++)
	{
		if (mine->bulkheads.policies[p].conditions.role == role)
			note_use(use, MyDatabaseId, "condition", "bulkhead",
					 mine->bulkheads.policies[p].name);
	}
	rsl_read_runaway_rules(&mine->runaway);
	for (int p = 0; p < mine->runaway.npolicies; p++)
	{
		if (mine->runaway.policies[p].conditions.role == role)
			note_use(use, MyDatabaseId, "condition", "runaway rule",
					 mine->runaway.policies[p].name);
	}
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		rsl_definition_set set;

		rsl_read_set(rsl_kinds[k], &set);
		for (int p = 0; p < set.npolicies; p++)
		{
			const void *policy = set.policies + p * rsl_kinds[k]->policy_size;

			note_use_by_kind(use, rsl_kinds[k], policy, role);
		}
	}
}

/* What is in force, but for a database whose tables were looked at. */
static void
find_use_in_force(Oid role, Oid but, role_use *use)
{
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead_policy *policy = &rsl_bulkheads[i].policy;

		if (rsl_bulkheads[i].published && policy->conditions.role == role &&
			policy->home_database != but)
			note_use(use, policy->home_database, "condition", "bulkhead",
					 policy->name);
	}
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_policy *policy = &rsl_runaway->rules[i].policy;

		if (rsl_runaway->rules[i].published &&
			policy->conditions.role == role && policy->home_database != but)
			note_use(use, policy->home_database, "condition", "runaway rule",
					 policy->name);
	}
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		int			capacity = rsl_kinds[k]->capacity();

		for (int i = 0; i < capacity; i++)
		{
			const rsl_policy_head *policy = rsl_kinds[k]->published(i);

			if (policy && policy->home_database != but)
				note_use_by_kind(use, rsl_kinds[k], policy, role);
		}
	}
	LWLockRelease(rsl_config_lock);
}

/*
 * Names of another database's objects are for those who may see them all, as
 * in the views; others learn no more than of any object that depends on a role.
 */
static bool
tells_name(Oid home_database)
{
	return home_database == MyDatabaseId ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

/*
 * A role that a bulkhead or runaway rule names cannot be dropped, like one
 * that a row security policy names: otherwise the bulkhead would limit nobody
 * without a word, or, after a restore, somebody else.  Nor can one that owns a
 * health check or a feature: their SQL would run as nobody, or as whoever gets
 * that OID.
 */
static void
check_role_unused(Oid role)
{
	role_use	use = {InvalidOid};
	char	   *database;
	char		function[NAMEDATALEN];

	if (definitions_changed)
		find_use_in_tables(role, &use);
	find_use_in_force(role, definitions_changed ? MyDatabaseId : InvalidOid, &use);
	if (!OidIsValid(use.home_database))
		return;

	/* "runaway rule": drop_runaway_rule() */
	strlcpy(function, use.kind, sizeof(function));
	for (char *c = function; *c; c++)
	{
		if (*c == ' ')
			*c = '_';
	}
	database = get_database_name(use.home_database);
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("role \"%s\" cannot be dropped because %s %s depends on it",
					GetUserNameFromId(role, false),
					strchr("aeiou", use.kind[0]) ? "an" : "a", use.kind),
			 tells_name(use.home_database) ?
			 errdetail("%s of %s \"%s\" in database \"%s\"",
					   use.as, use.kind, use.name, database ? database : "?") :
			 errdetail("%s of %s %s in database \"%s\"",
					   use.as, strchr("aeiou", use.kind[0]) ? "an" : "a",
					   use.kind, database ? database : "?"),
			 strcmp(use.as, "owner") == 0 ?
			 errhint("Drop the %s there with resilience.drop_%s(); or let another role give it its SQL again with resilience.alter_%s(), and become its owner.",
					 use.kind, function, function) :
			 errhint("Drop the %s there with resilience.drop_%s(), or alter it.",
					 use.kind, function)));
}

/*
 * The breaker that guards a server.  Asked of the table, which has this
 * transaction's own changes, and those for which shared memory has no room.
 * What others have not committed cannot concern the server: they have locked
 * it (see breaker_definitions_check()).
 */
static bool
find_guard(Oid server, char *breaker_name)
{
	rsl_breaker_set set = {.home_database = MyDatabaseId};

	rsl_read_breakers(&set);
	for (int p = 0; p < set.npolicies; p++)
	{
		if (set.policies[p].server == server)
		{
			strlcpy(breaker_name, set.policies[p].name, NAMEDATALEN);
			return true;
		}
	}
	return false;
}

/*
 * A server that is guarded cannot be dropped: its breaker would guard nothing
 * without a word, or, after a restore, another server of that name.
 */
static void
check_server_unused(Oid server)
{
	char		name[NAMEDATALEN];

	if (!find_guard(server, name))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop foreign server \"%s\" because a circuit breaker guards it",
					GetForeignServer(server)->servername),
			 errdetail("circuit breaker \"%s\"", name),
			 errhint("Drop the circuit breaker first: SELECT resilience.drop_breaker(%s);",
					 quote_literal_cstr(name))));
}

/*
 * pg_restore --disable-triggers copies rows that the triggers do not see, and
 * enables the triggers when it has done so.
 */
static bool
is_definitions_trigger(Oid trigger)
{
	static const char *const tables[] = {RSL_DEFINITIONS_NAME, RSL_BREAKERS_NAME,
		RSL_RUNAWAY_RULES_NAME, RSL_HEALTH_CHECKS_NAME, RSL_FEATURES_NAME,
	RSL_DEGRADATIONS_NAME, RSL_EXPERIMENTS_NAME};

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid			relid = rsl_extension_relation(tables[i]);

		if (OidIsValid(relid) &&
			(trigger == get_trigger_oid(relid, "publish_rows", true) ||
			 trigger == get_trigger_oid(relid, "publish_truncate", true) ||
			 trigger == get_trigger_oid(relid, "check_row", true)))
			return true;
	}
	return false;
}

/* When this transaction commits, let the launcher look at all databases. */
static void
request_visits(void)
{
	register_callback();
	databases_changed = true;
}

/*
 * ALTER SERVER: the prober's way to it may be another one, or its name.
 *
 * Definitions name their server, so that a dump can be restored anywhere.
 * When a server gets another name it gets it there, too, and at once: later
 * statements of the transaction find it, and a rollback takes both back.
 * This is called before the command's end, when the catalog caches still have
 * the server as it was; the commands that come here do nothing more to it.
 */
static void
server_altered(Oid server)
{
	char		name[NAMEDATALEN];
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		names[2];
	ForeignServer *before = GetForeignServerExtended(server, FSV_MISSING_OK);
	ForeignServer *after;
	bool		guarded = before != NULL && find_guard(server, name);

	if (before == NULL ||
		(!guarded && !rsl_experiments_name(server, InvalidOid)))
	{
		/* a breaker may have been committed when this is */
		request_visits();
		return;
	}
	mark_changed();
	/* before the row, as the functions that change definitions do */
	rsl_lock_definitions();
	CommandCounterIncrement();
	after = GetForeignServerExtended(server, FSV_MISSING_OK);
	if (after == NULL || strcmp(before->servername, after->servername) == 0)
		return;
	names[0] = CStringGetTextDatum(before->servername);
	names[1] = CStringGetTextDatum(after->servername);
	if (guarded)
		rsl_execute_as_owner(RSL_BREAKERS_NAME,
							 "UPDATE resilience.breaker_definitions SET server = $2 "
							 "WHERE server OPERATOR(pg_catalog.=) $1",
							 2, types, names, NULL, NULL);
	rsl_execute_as_owner(RSL_EXPERIMENTS_NAME,
						 "UPDATE resilience.experiment_definitions SET server = $2 "
						 "WHERE server OPERATOR(pg_catalog.=) $1",
						 2, types, names, NULL, NULL);
}

static pg_noinline void
object_changed(ObjectAccessType access, Oid classId, Oid objectId, int subId)
{
	if (access == OAT_POST_ALTER)
	{
		if (classId == TriggerRelationId && is_definitions_trigger(objectId))
			mark_changed();
		else if (classId == DatabaseRelationId)
			request_visits();	/* bulkheads may name a renamed one */
		else if (classId == ForeignServerRelationId)
			server_altered(objectId);
		else if (classId == ForeignDataWrapperRelationId)
			request_visits();	/* its servers can be probed, or no longer */
	}
	else if (access == OAT_DROP && classId == ForeignServerRelationId)
	{
		check_server_unused(objectId);
		if (rsl_experiments_name(objectId, InvalidOid))
			mark_changed();
	}
	else if (access == OAT_DROP && classId == ExtensionRelationId)
	{
		char	   *name = get_extension_name(objectId);

		if (name && strcmp(name, RSL_EXTENSION_NAME) == 0)
			mark_changed();
	}
	else if (access == OAT_DROP && classId == DatabaseRelationId)
	{
		register_callback();
		dropped_database = objectId;
	}
	else if (access == OAT_POST_CREATE && classId == ExtensionRelationId)
	{
		/* its row cannot be seen yet */
		register_callback();
		extension_created = true;
	}
	else if (access == OAT_POST_CREATE && classId == DatabaseRelationId)
	{
		/* its template may have bulkheads, others may name it */
		request_visits();
	}
	else if (access == OAT_DROP && classId == AuthIdRelationId)
	{
		/* whoever is about to commit a bulkhead for it has locked it */
		LockSharedObject(AuthIdRelationId, objectId, 0, AccessExclusiveLock);
		check_role_unused(objectId);
	}
	else if (access == OAT_DROP && classId == RelationRelationId && subId == 0)
	{
		rsl_relation_dropped(objectId);
		if (definitions_changed || rsl_experiments_name(InvalidOid, objectId))
		{
			mark_changed();
			relation_gone = true;
		}
	}
}

/*
 * Nearly all calls are about functions that statements use, some for each
 * execution: the only hook of its kind here, and short.
 */
static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
			  void *arg)
{
	bool		changes = access == OAT_POST_CREATE || access == OAT_DROP ||
		access == OAT_POST_ALTER;

	if (unlikely(prev_object_access_hook))
		prev_object_access_hook(access, classId, objectId, subId, arg);
	if (unlikely(changes) && rsl_shmem != NULL)
		object_changed(access, classId, objectId, subId);
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_publish_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}
