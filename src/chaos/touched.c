/*-------------------------------------------------------------------------
 *
 * touched.c
 *		Which relations does a statement touch?
 *
 * A plan lists them.  COPY of a query and CREATE TABLE AS have none yet when
 * they begin: their query is analyzed and rewritten once more, so that what is
 * behind a view is found.  Other utility statements say it by name.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "chaos/touched.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"

static List *
of_range_table(List *relations, List *rtable)
{
	ListCell   *lc;

	foreach(lc, rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (OidIsValid(rte->relid))
			relations = lappend_oid(relations, rte->relid);
	}
	return relations;
}

static bool
query_walker(Node *node, List **relations)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		*relations = of_range_table(*relations, ((Query *) node)->rtable);
		return query_tree_walker((Query *) node, query_walker, relations, 0);
	}
	return expression_tree_walker(node, query_walker, relations);
}

/* COPY (query) TO */
static List *
of_copied_query(const rsl_statement *statement, Node *query)
{
	RawStmt    *raw = makeNode(RawStmt);
	List	   *relations = NIL;
	ListCell   *lc;

	raw->stmt = copyObject(query);
	raw->stmt_location = statement->stmt->stmt_location;
	raw->stmt_len = statement->stmt->stmt_len;
	foreach(lc, pg_analyze_and_rewrite_fixedparams(raw,
												   statement->source_text ? statement->source_text : "",
												   NULL, 0, NULL))
		(void) query_walker(lfirst(lc), &relations);
	return relations;
}

/* CREATE TABLE AS: analyzed, and not rewritten yet. */
static List *
of_created_as(Node *query)
{
	List	   *relations = NIL;
	ListCell   *lc;

	if (!IsA(query, Query) || ((Query *) query)->commandType == CMD_UTILITY)
		return NIL;
	foreach(lc, QueryRewrite(copyObject((Query *) query)))
		(void) query_walker(lfirst(lc), &relations);
	return relations;
}

static List *
append_name(List *relations, const RangeVar *name)
{
	Oid			relation;

	if (name == NULL)
		return relations;
	relation = RangeVarGetRelid(name, NoLock, true);
	return OidIsValid(relation) ? lappend_oid(relations, relation) : relations;
}

static List *
append_names(List *relations, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (IsA(lfirst(lc), RangeVar))
			relations = append_name(relations, lfirst_node(RangeVar, lc));
	}
	return relations;
}

static List *
of_drop(const DropStmt *drop)
{
	List	   *relations = NIL;
	ListCell   *lc;

	switch (drop->removeType)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
			foreach(lc, drop->objects)
				relations = append_name(relations,
										makeRangeVarFromNameList(lfirst_node(List, lc)));
			break;
		default:
			break;
	}
	return relations;
}

static List *
of_vacuum(const VacuumStmt *vacuum)
{
	List	   *relations = NIL;
	ListCell   *lc;

	foreach(lc, vacuum->rels)
	{
		VacuumRelation *entry = lfirst_node(VacuumRelation, lc);

		if (OidIsValid(entry->oid))
			relations = lappend_oid(relations, entry->oid);
		else
			relations = append_name(relations, entry->relation);
	}
	return relations;
}

static List *
of_utility(const rsl_statement *statement, Node *node)
{
	switch (nodeTag(node))
	{
		case T_CopyStmt:
			if (((CopyStmt *) node)->query)
				return of_copied_query(statement, ((CopyStmt *) node)->query);
			return append_name(NIL, ((CopyStmt *) node)->relation);
		case T_CreateTableAsStmt:
			return of_created_as(((CreateTableAsStmt *) node)->query);
		case T_RefreshMatViewStmt:
			return append_name(NIL, ((RefreshMatViewStmt *) node)->relation);
		case T_TruncateStmt:
			return append_names(NIL, ((TruncateStmt *) node)->relations);
		case T_LockStmt:
			return append_names(NIL, ((LockStmt *) node)->relations);
		case T_CreateStmt:
			return append_names(NIL, ((CreateStmt *) node)->inhRelations);
		case T_AlterTableStmt:
			return append_name(NIL, ((AlterTableStmt *) node)->relation);
		case T_IndexStmt:
			return append_name(NIL, ((IndexStmt *) node)->relation);
		case T_RenameStmt:
			return append_name(NIL, ((RenameStmt *) node)->relation);
		case T_CreateTrigStmt:
			return append_name(NIL, ((CreateTrigStmt *) node)->relation);
		case T_RuleStmt:
			return append_name(NIL, ((RuleStmt *) node)->relation);
		case T_ReindexStmt:
			return append_name(NIL, ((ReindexStmt *) node)->relation);
		case RSL_T_ClusterStmt:
			return append_name(NIL, rsl_clustered_relation(node));
		case T_VacuumStmt:
			return of_vacuum((VacuumStmt *) node);
		case T_DropStmt:
			return of_drop((DropStmt *) node);
		default:
			return NIL;
	}
}

List *
rsl_touched_relations(const rsl_statement *statement)
{
	const PlannedStmt *stmt = statement->stmt;

	if (stmt->utilityStmt)
		return of_utility(statement, stmt->utilityStmt);
	return of_range_table(NIL, stmt->rtable);
}

bool
rsl_statement_locks(const PlannedStmt *stmt)
{
	ListCell   *lc;

	if (stmt->utilityStmt)
	{
		switch (nodeTag(stmt->utilityStmt))
		{
			case T_CallStmt:
			case T_DoStmt:
			case T_NotifyStmt:
			case T_ListenStmt:
			case T_UnlistenStmt:
			case T_CheckPointStmt:
			case T_LoadStmt:

				/* those that end their transactions themselves */
			case T_VacuumStmt:
			case T_ReindexStmt:
				return false;
			default:
				return true;
		}
	}
	foreach(lc, stmt->rtable)
	{
		if (OidIsValid(lfirst_node(RangeTblEntry, lc)->relid))
			return true;
	}
	return false;
}
