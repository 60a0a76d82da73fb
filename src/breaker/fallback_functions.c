/*-------------------------------------------------------------------------
 *
 * fallback_functions.c
 *		SQL functions that say what stands in for a foreign table.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "breaker/fallback.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "nodes/nodeFuncs.h"
#include "policy/definitions.h"
#include "policy/publish.h"
#include "rewrite/rewriteHandler.h"
#include "shared/breakers.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(set_fallback);
PG_FUNCTION_INFO_V1(drop_fallback);
PG_FUNCTION_INFO_V1(fallback_definitions_check);

static bool definitions_orphaned = false;
static bool callback_registered = false;

static char *
relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	return name ? quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name) :
		psprintf("%u", relid);
}

/*
 * Which foreign table that must not be reached is reached from a relation?
 * InvalidOid if there is none.  The table that is to be replaced must not be,
 * nor one of a guarded server: the fallback would fail with it.
 */
static Oid	find_foreign_table(Oid relid, Oid replaced, int depth);

typedef struct reach
{
	Oid			replaced;
	int			depth;
	Oid			found;
} reach;

static bool
reach_walker(Node *node, reach *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION)
			context->found = find_foreign_table(rte->relid, context->replaced,
												context->depth + 1);
		return OidIsValid(context->found);
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reach_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reach_walker, context);
}

static Oid
find_foreign_table(Oid relid, Oid replaced, int depth)
{
	char		relkind = get_rel_relkind(relid);

	if (relkind == RELKIND_FOREIGN_TABLE)
		return relid == replaced ||
			rsl_breaker_of_server(GetForeignServerIdByRelId(relid)) >= 0 ?
			relid : InvalidOid;

	if (relkind == RELKIND_PARTITIONED_TABLE || relkind == RELKIND_RELATION)
	{
		ListCell   *cell;

		if (!has_subclass(relid))
			return InvalidOid;
		foreach(cell, find_all_inheritors(relid, AccessShareLock, NULL))
		{
			Oid			child = lfirst_oid(cell);
			Oid			found = child == relid ||
				get_rel_relkind(child) != RELKIND_FOREIGN_TABLE ? InvalidOid :
				find_foreign_table(child, replaced, depth + 1);

			if (OidIsValid(found))
				return found;
		}
	}

	/* a view's rule entries for itself would lead in circles */
	if (relkind == RELKIND_VIEW && depth < 64)
	{
		Relation	view = table_open(relid, AccessShareLock);
		reach		context = {.replaced = replaced,.depth = depth};
		Query	   *query = copyObject(get_view_query(view));
		ListCell   *cell;

		foreach(cell, query->rtable)
		{
			RangeTblEntry *rte = lfirst(cell);

			if (rte->rtekind == RTE_RELATION && rte->relid == relid)
				rte->relid = InvalidOid;
		}
		(void) reach_walker((Node *) query, &context);
		table_close(view, NoLock);
		return context.found;
	}
	return InvalidOid;
}

static void
check_pair(Oid foreign_table, Oid fallback)
{
	char		relkind = get_rel_relkind(fallback);
	char	   *differences;
	Oid			reached;

	if (get_rel_relkind(foreign_table) != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a foreign table", relation_name(foreign_table)),
				 errhint("Only a foreign table can have a fallback.")));
	if (foreign_table == fallback)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("foreign table \"%s\" cannot be its own fallback",
						relation_name(foreign_table)),
				 errhint("Name a table, a view or a materialized view of this server.")));
	if (relkind == RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("foreign table \"%s\" cannot be a fallback",
						relation_name(fallback)),
				 errdetail("It may be out of reach at the same time."),
				 errhint("Name a table, a view or a materialized view of this server.")));
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE &&
		relkind != RELKIND_VIEW && relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" cannot be a fallback", relation_name(fallback)),
				 errhint("Name a table, a view or a materialized view of this server.")));
	if (get_rel_persistence(fallback) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("temporary relation \"%s\" cannot be a fallback",
						get_rel_name(fallback)),
				 errdetail("Other sessions cannot read it.")));
	reached = find_foreign_table(fallback, foreign_table, 0);
	if (OidIsValid(reached))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be the fallback of \"%s\"",
						relation_name(fallback), relation_name(foreign_table)),
				 errdetail("It reads foreign table \"%s\", which may be out of reach itself.",
						   relation_name(reached)),
				 errhint("A fallback must not depend on a server that a circuit breaker guards.")));
	differences = rsl_fallback_differences(foreign_table, fallback);
	if (differences)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the columns of \"%s\" do not match those of foreign table \"%s\"",
						relation_name(fallback), relation_name(foreign_table)),
				 errdetail("%s.", differences),
				 errhint("A fallback has every column of the foreign table, with the same name and type; it may have more.")));
}

/*
 * fallback_definitions_check() returns trigger
 *
 * Before each row: the rules.  Plans that read the foreign table are made anew
 * when this commits.
 */
Datum
fallback_definitions_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	Oid			foreign_table;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a BEFORE trigger for each row",
						"fallback_definitions_check")));
	desc = RelationGetDescr(trigger->tg_relation);
	tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
	foreign_table = DatumGetObjectId(heap_getattr(tuple, RSL_FCOL_FOREIGN_TABLE,
												  desc, &isnull));
	if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		check_pair(foreign_table,
				   DatumGetObjectId(heap_getattr(tuple, RSL_FCOL_FALLBACK,
												 desc, &isnull)));
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(foreign_table)))
		CacheInvalidateRelcacheByRelid(foreign_table);
	return PointerGetDatum(tuple);
}

static void
check_owner(Oid foreign_table)
{
	if (!rsl_owns_relation(foreign_table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_TABLE,
					   relation_name(foreign_table));
}

/*
 * set_fallback(foreign_table regclass, fallback regclass) returns void
 *
 * Errors: 42809 for a relation of the wrong kind, 22023 for one that does not
 * fit, 42501 for somebody who does not own the foreign table or may not read
 * the fallback.
 */
Datum
set_fallback(PG_FUNCTION_ARGS)
{
	Oid			types[2] = {REGCLASSOID, REGCLASSOID};
	Datum		values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	Oid			foreign_table = PG_GETARG_OID(0);
	Oid			fallback = PG_GETARG_OID(1);

	rsl_begin_change("set_fallback()");
	check_pair(foreign_table, fallback);
	check_owner(foreign_table);
	if (pg_class_aclcheck(fallback, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV,
					   get_relkind_objtype(get_rel_relkind(fallback)),
					   relation_name(fallback));
	rsl_execute_as_owner(RSL_FALLBACKS_NAME,
						 "INSERT INTO resilience.fallback_definitions VALUES ($1, $2) "
						 "ON CONFLICT (foreign_table) DO UPDATE SET fallback = excluded.fallback",
						 2, types, values, NULL, NULL);
	PG_RETURN_VOID();
}

/*
 * drop_fallback(foreign_table regclass, if_exists boolean = false)
 *		returns void
 *
 * Errors: 42704 when there is none, unless if_exists (NOTICE); 42501.
 */
Datum
drop_fallback(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {REGCLASSOID};
	Datum		values[1] = {PG_GETARG_DATUM(0)};
	Oid			foreign_table = PG_GETARG_OID(0);

	rsl_begin_change("drop_fallback()");
	if (get_rel_name(foreign_table) != NULL)
		check_owner(foreign_table);
	if (rsl_execute_as_owner(RSL_FALLBACKS_NAME,
							 "DELETE FROM resilience.fallback_definitions "
							 "WHERE foreign_table OPERATOR(pg_catalog.=) $1",
							 1, types, values, NULL, NULL) == 0)
		ereport(PG_GETARG_BOOL(1) ? NOTICE : ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg(PG_GETARG_BOOL(1) ?
						"\"%s\" has no fallback, skipping" :
						"\"%s\" has no fallback", relation_name(foreign_table)),
				 PG_GETARG_BOOL(1) ? 0 :
				 errhint("SELECT * FROM resilience.fallbacks lists the foreign tables that have one.")));
	PG_RETURN_VOID();
}

/*
 * Definitions of relations that are dropped go with them: a dump must not
 * hold what cannot be restored.
 */
static void
fallback_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && definitions_orphaned)
	{
		definitions_orphaned = false;
		if (!OidIsValid(rsl_extension_relation(RSL_FALLBACKS_NAME)))
			return;
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		rsl_execute_as_owner(RSL_FALLBACKS_NAME,
							 "DELETE FROM resilience.fallback_definitions d "
							 "WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.foreign_table) "
							 "OR NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) d.fallback)",
							 0, NULL, NULL, NULL, NULL);
		PopActiveSnapshot();
	}
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		definitions_orphaned = false;
}

static void
relation_dropped(Oid relation)
{
	if (get_rel_relkind(relation) == RELKIND_INDEX ||
		get_rel_persistence(relation) == RELPERSISTENCE_TEMP ||
		!rsl_has_fallback_definition(relation))
		return;
	if (!callback_registered)
	{
		RegisterXactCallback(fallback_xact_callback, NULL);
		callback_registered = true;
	}
	definitions_orphaned = true;
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_fallback_functions_init(void)
{
	rsl_relation_dropped = relation_dropped;
}
