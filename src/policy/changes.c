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
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "policy/definitions.h"
#include "policy/publish.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* What this transaction has to publish when it commits. */
static bool definitions_changed = false;
static Oid	dropped_database = InvalidOid;
static bool databases_changed = false;
static rsl_publication *pending = NULL;

/* A guarded foreign server that this transaction has altered. */
typedef struct altered_server
{
	Oid			server;
	char		name[NAMEDATALEN];	/* before that */
} altered_server;

static List *altered_servers = NIL; /* in TopTransactionContext */

static bool callback_registered = false;
static object_access_hook_type prev_object_access_hook = NULL;

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
	dropped_database = InvalidOid;
	databases_changed = false;
	pending = NULL;
	altered_servers = NIL;
}

/*
 * Definitions name the server that they are about, so that a dump can be
 * restored anywhere.  When servers have got other names, so do they there.
 */
static void
follow_renamed_servers(void)
{
	ListCell   *cell;
	ArrayBuildState *old_names = NULL;
	ArrayBuildState *new_names = NULL;
	Oid			types[2] = {TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[2];

	if (altered_servers == NIL ||
		!OidIsValid(rsl_extension_relation(RSL_BREAKERS_NAME)))
		return;
	CommandCounterIncrement();
	foreach(cell, altered_servers)
	{
		altered_server *altered = lfirst(cell);
		ForeignServer *server = GetForeignServerExtended(altered->server,
														 FSV_MISSING_OK);

		if (server == NULL || strcmp(server->servername, altered->name) == 0)
			continue;
		old_names = accumArrayResult(old_names,
									 CStringGetTextDatum(altered->name), false,
									 TEXTOID, CurrentMemoryContext);
		new_names = accumArrayResult(new_names,
									 CStringGetTextDatum(server->servername),
									 false, TEXTOID, CurrentMemoryContext);
	}
	if (old_names == NULL)
		return;
	values[0] = makeArrayResult(old_names, CurrentMemoryContext);
	values[1] = makeArrayResult(new_names, CurrentMemoryContext);
	PushActiveSnapshot(GetTransactionSnapshot());
	rsl_execute_as_owner(RSL_BREAKERS_NAME,
						 "UPDATE resilience.breaker_definitions d SET server = n.new_name "
						 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n(old_name, new_name) "
						 "WHERE d.server OPERATOR(pg_catalog.=) n.old_name",
						 2, types, values, NULL, NULL);
	PopActiveSnapshot();
}

static void
publish_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (!definitions_changed)
				break;
			rsl_lock_definitions();
			follow_renamed_servers();
			/* the rows of the transaction's last statement too */
			CommandCounterIncrement();
			pending = rsl_prepare_publication(MyDatabaseId);
			break;

		case XACT_EVENT_COMMIT:
			if (pending)
				rsl_publish(pending);
			if (OidIsValid(dropped_database))
				rsl_forget_database(dropped_database);
			if (databases_changed)
				pg_atomic_fetch_add_u32(&rsl_shmem->visit_requests, 1);
			forget_pending();
			break;

		case XACT_EVENT_PRE_PREPARE:
			if (definitions_changed)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has changed bulkheads or circuit breakers"),
						 errdetail("Changes take effect when the session that made them commits."),
						 errhint("Use COMMIT.")));
			break;

		case XACT_EVENT_ABORT:
			forget_pending();
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
 * AFTER each statement on a table of definitions: publish when this transaction commits.
 * Harmless in a restore into a server that has not preloaded the library.
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

/*
 * A role that a bulkhead names cannot be dropped, like one that a row
 * security policy names: otherwise the bulkhead would limit nobody without a
 * word, or, after a restore, somebody else.
 */
static void
check_role_unused(Oid role)
{
	char		name[NAMEDATALEN];
	Oid			home = InvalidOid;

	/* what this transaction has done to its own database's definitions */
	if (definitions_changed)
	{
		rsl_publication *mine = rsl_empty_publication(MyDatabaseId);
		Oid			relid = rsl_definitions_relation();

		if (OidIsValid(relid))
			rsl_read_definitions(mine, relid);
		for (int p = 0; p < mine->npolicies; p++)
		{
			if (mine->policies[p].role == role)
			{
				home = MyDatabaseId;
				strlcpy(name, mine->policies[p].name, sizeof(name));
			}
		}
	}

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published &&
			rsl_bulkheads[i].policy.role == role &&
			!(definitions_changed &&
			  rsl_bulkheads[i].policy.home_database == MyDatabaseId))
		{
			home = rsl_bulkheads[i].policy.home_database;
			strlcpy(name, rsl_bulkheads[i].policy.name, sizeof(name));
			break;
		}
	}
	LWLockRelease(rsl_config_lock);

	if (OidIsValid(home))
	{
		char	   *database = get_database_name(home);

		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("role \"%s\" cannot be dropped because a bulkhead depends on it",
						GetUserNameFromId(role, false)),
				 errdetail("condition of bulkhead \"%s\" in database \"%s\"",
						   name, database ? database : "?"),
				 errhint("Drop the bulkhead there with resilience.drop_bulkhead(), or alter it.")));
	}
}

/* The breaker that guards a server, this transaction's own changes included. */
static bool
find_guard(Oid server, char *breaker_name)
{
	bool		found = false;

	if (definitions_changed)
	{
		rsl_breaker_set mine = {.home_database = MyDatabaseId};

		rsl_read_breakers(&mine);
		for (int p = 0; p < mine.npolicies && !found; p++)
		{
			found = mine.policies[p].server == server;
			if (found)
				strlcpy(breaker_name, mine.policies[p].name, NAMEDATALEN);
		}
		return found;
	}

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers && !found; i++)
	{
		const rsl_breaker_policy *policy = &rsl_breakers[i].policy;

		found = rsl_breakers[i].published && policy->server == server &&
			policy->home_database == MyDatabaseId;
		if (found)
			strlcpy(breaker_name, policy->name, NAMEDATALEN);
	}
	LWLockRelease(rsl_config_lock);
	return found;
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
 * ALTER SERVER: the prober's way to it may be another one, or its name.  The
 * catalog cache still has it as it was.
 */
static void
server_altered(Oid server)
{
	char		name[NAMEDATALEN];
	MemoryContext old;
	altered_server *altered;
	ForeignServer *before;

	if (!find_guard(server, name))
		return;
	mark_changed();
	before = GetForeignServerExtended(server, FSV_MISSING_OK);
	if (before == NULL)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	altered = palloc0(sizeof(altered_server));
	altered->server = server;
	strlcpy(altered->name, before->servername, NAMEDATALEN);
	altered_servers = lappend(altered_servers, altered);
	MemoryContextSwitchTo(old);
}

/*
 * pg_restore --disable-triggers copies rows that the triggers do not see, and
 * enables the triggers when it has done so.
 */
static bool
is_definitions_trigger(Oid trigger)
{
	static const char *const tables[] = {RSL_DEFINITIONS_NAME, RSL_BREAKERS_NAME};

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid			relid = rsl_extension_relation(tables[i]);

		if (OidIsValid(relid) &&
			(trigger == get_trigger_oid(relid, "publish_rows", true) ||
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

static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
			  void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);

	/* most calls are about functions and schemas being looked up */
	if ((access != OAT_DROP && access != OAT_POST_CREATE &&
		 access != OAT_POST_ALTER) || rsl_shmem == NULL)
		return;
	if (access == OAT_POST_ALTER)
	{
		if (classId == TriggerRelationId && is_definitions_trigger(objectId))
			mark_changed();
		else if (classId == DatabaseRelationId)
			request_visits();	/* bulkheads may name a renamed one */
		else if (classId == ForeignServerRelationId)
			server_altered(objectId);
	}
	else if (access == OAT_DROP && classId == ForeignServerRelationId)
		check_server_unused(objectId);
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
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_publish_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}
