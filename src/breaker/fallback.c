/*-------------------------------------------------------------------------
 *
 * fallback.c
 *		Local relations that stand in for foreign tables.
 *
 * While the breaker of a server is open, the planner does not get to see its
 * foreign tables where something else can stand in for them:
 *
 * - A foreign table that a query names is replaced by a subquery on the
 *	 fallback before planning starts, as the rewriter does with views.  So the
 *	 fallback may be a view and have its columns in any order, and its
 *	 privileges and row security apply to the same user.
 *
 * - Partitions and what stands in a function that is inlined turn up later.
 *	 There the relation is exchanged for another one when the planner asks for
 *	 its properties; that works with tables of the same layout and without row
 *	 security only, even where that does not concern the present user: the plan
 *	 may be kept for others.
 *
 * Privileges on the foreign table are checked as ever.  What cannot be
 * replaced (a table to be changed or locked, a query for a system column)
 * meets the breaker when it is executed.  The prober invalidates cached plans
 * when a breaker opens or closes.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "breaker/fallback.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "policy/definitions.h"
#include "rewrite/rewriteDefine.h"
#include "rewrite/rewriteHandler.h"
#include "shared/breakers.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

/* One planner run in which something may have to be replaced. */
typedef struct planning
{
	struct planning *outer;
	List	   *originals;		/* RTEs of exchanged relations, to be checked */
	bool		row_security;	/* of a fallback: the plan is for this user
								 * only */
} planning;

static planning *current_planning = NULL;

/* the breakers of this database with on_open = fallback */
static int *candidates = NULL;
static int	ncandidates = 0;
static uint64 candidates_generation = 0;

static planner_hook_type prev_planner_hook = NULL;
static rsl_relation_hook_type prev_relation_hook = NULL;

static void
find_candidates(void)
{
	uint64		generation = pg_atomic_read_u64(&rsl_breakers_shmem->generation);

	if (generation == candidates_generation)
		return;
	if (candidates == NULL)
		candidates = MemoryContextAlloc(TopMemoryContext,
										rsl_breakers_shmem->nbreakers * sizeof(int));
	ncandidates = 0;
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (rsl_breakers[i].published &&
			rsl_breakers[i].policy.home_database == MyDatabaseId &&
			rsl_breakers[i].policy.on_open == RSL_ON_OPEN_FALLBACK)
			candidates[ncandidates++] = i;
	}
	LWLockRelease(rsl_config_lock);
	candidates_generation = generation;
}

static bool
any_fallback_needed(void)
{
	if (rsl_breakers_shmem == NULL ||
		pg_atomic_read_u32(&rsl_breakers_shmem->npublished) == 0)
		return false;
	find_candidates();
	for (int i = 0; i < ncandidates; i++)
	{
		if (rsl_breaker_blocks(candidates[i]))
			return true;
	}
	return false;
}

/* The row of the table of definitions; InvalidOid if there is none. */
static Oid
fallback_of(Oid foreign_table)
{
	Oid			relid = rsl_extension_relation(RSL_FALLBACKS_NAME);
	Relation	relation;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	if (!OidIsValid(relid))
		return InvalidOid;
	relation = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, RSL_FCOL_FOREIGN_TABLE, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(foreign_table));
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		result = DatumGetObjectId(heap_getattr(tuple, RSL_FCOL_FALLBACK,
											   RelationGetDescr(relation),
											   &isnull));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return result;
}

char *
rsl_fallback_differences(Oid foreign_table, Oid fallback)
{
	Relation	relation = table_open(foreign_table, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	StringInfoData differences;

	initStringInfo(&differences);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute wanted = TupleDescAttr(desc, i);
		Form_pg_attribute found;
		HeapTuple	tuple;

		if (wanted->attisdropped)
			continue;
		tuple = SearchSysCacheAttName(fallback, NameStr(wanted->attname));
		if (!HeapTupleIsValid(tuple))
		{
			appendStringInfo(&differences, "%scolumn \"%s\" is missing",
							 differences.len > 0 ? "; " : "",
							 NameStr(wanted->attname));
			continue;
		}
		found = (Form_pg_attribute) GETSTRUCT(tuple);
		if (found->atttypid != wanted->atttypid ||
			found->atttypmod != wanted->atttypmod)
			appendStringInfo(&differences, "%scolumn \"%s\" is of type %s, not %s",
							 differences.len > 0 ? "; " : "",
							 NameStr(wanted->attname),
							 format_type_with_typemod(found->atttypid, found->atttypmod),
							 format_type_with_typemod(wanted->atttypid, wanted->atttypmod));
		else if (found->attcollation != wanted->attcollation)
			appendStringInfo(&differences, "%scolumn \"%s\" has another collation",
							 differences.len > 0 ? "; " : "",
							 NameStr(wanted->attname));
		ReleaseSysCache(tuple);
	}
	table_close(relation, AccessShareLock);
	return differences.len > 0 ? differences.data : NULL;
}

/*
 * Does something stand in for this foreign table right now?  Sets *breaker.
 */
static Oid
stand_in(Oid foreign_table, int *breaker)
{
	Oid			server = GetForeignServerIdByRelId(foreign_table);

	*breaker = -1;
	for (int i = 0; i < ncandidates; i++)
	{
		/* a stale list is no harm: indexes stay valid */
		if (rsl_breakers[candidates[i]].policy.server == server)
			*breaker = candidates[i];
	}
	if (*breaker < 0 || !rsl_breaker_blocks(*breaker))
		return InvalidOid;
	return fallback_of(foreign_table);
}

/*
 * Named relations
 */

typedef struct system_column_context
{
	int			varno;
	int			levels_up;
} system_column_context;

static bool
system_column_walker(Node *node, system_column_context *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		return var->varno == context->varno && var->varattno < 0 &&
			var->varlevelsup == context->levels_up;
	}
	if (IsA(node, Query))
	{
		bool		result;

		context->levels_up++;
		result = query_tree_walker((Query *) node, system_column_walker,
								   context, 0);
		context->levels_up--;
		return result;
	}
	return expression_tree_walker(node, system_column_walker, context);
}

static bool
uses_system_columns(Query *query, int rtindex)
{
	system_column_context context = {.varno = rtindex};

	return query_tree_walker(query, system_column_walker, &context, 0);
}

/* Is a relation named in the table of definitions, on either side? */
bool
rsl_has_fallback_definition(Oid relid)
{
	Oid			table = rsl_extension_relation(RSL_FALLBACKS_NAME);
	Relation	relation;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (!OidIsValid(table) || table == relid)
		return false;
	relation = table_open(table, AccessShareLock);
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		for (int column = 1; column <= 2; column++)
		{
			bool		isnull;

			found |= relid == DatumGetObjectId(heap_getattr(tuple, column,
															RelationGetDescr(relation),
															&isnull));
		}
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/* How EXPLAIN will call what stands in for a foreign table. */
static char *
fallback_alias(Oid foreign_table, int breaker)
{
	rsl_breaker_numbers numbers;

	rsl_call_rejected(breaker, &numbers);
	return psprintf("%s: breaker %s is %s", get_rel_name(foreign_table),
					numbers.name,
					numbers.position == RSL_BREAKER_HALF_OPEN ? "half-open" : "open");
}

/* SELECT the foreign table's columns FROM the fallback, rewritten. */
static Query *
fallback_query(Oid foreign_table, Oid fallback, Oid user, const char *alias)
{
	Relation	relation = table_open(foreign_table, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	StringInfoData sql;
	List	   *parsed;
	List	   *rewritten;
	Query	   *query;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (i > 0)
			appendStringInfoString(&sql, ", ");
		if (column->attisdropped)
			appendStringInfoString(&sql, "NULL::pg_catalog.int4");
		else
			appendStringInfoString(&sql,
								   quote_identifier(NameStr(column->attname)));
	}
	table_close(relation, NoLock);
	appendStringInfo(&sql, " FROM %s AS %s",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(fallback)),
												get_rel_name(fallback)),
					 quote_identifier(alias));

	parsed = raw_parser(sql.data, RAW_PARSE_DEFAULT);
	query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed), sql.data,
									  NULL, 0, NULL);
	if (OidIsValid(user))
		setRuleCheckAsUser((Node *) query, user);
	rewritten = QueryRewrite(query);
	return list_length(rewritten) == 1 ? linitial_node(Query, rewritten) : NULL;
}

static bool
is_locked(Query *query, int rtindex)
{
	ListCell   *cell;

	foreach(cell, query->rowMarks)
	{
		if (((RowMarkClause *) lfirst(cell))->rti == rtindex)
			return true;
	}
	return false;
}

static void
replace_in_query(Query *query, planning *mine)
{
	int			nentries = list_length(query->rtable);

	for (int rtindex = 1; rtindex <= nentries; rtindex++)
	{
		RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
		Oid			fallback;
		int			breaker;
		Query	   *subquery;

		if (rte->rtekind != RTE_RELATION ||
			rte->relkind != RELKIND_FOREIGN_TABLE ||
			rtindex == query->resultRelation || is_locked(query, rtindex))
			continue;
		fallback = stand_in(rte->relid, &breaker);
		if (!OidIsValid(fallback))
			continue;
		LockRelationOid(fallback, AccessShareLock);
		if (get_rel_name(fallback) == NULL ||
			rsl_fallback_differences(rte->relid, fallback) != NULL ||
			uses_system_columns(query, rtindex))
			continue;
		subquery = fallback_query(rte->relid, fallback,
								  rsl_rte_user(query, rte),
								  fallback_alias(rte->relid, breaker));
		if (subquery == NULL)
			continue;
		mine->row_security |= subquery->hasRowSecurity;
		rsl_rte_becomes_subquery(rte, subquery);
		pg_atomic_fetch_add_u64(&rsl_breakers[breaker].fallbacks, 1);
	}
}

static bool
replace_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		/* what is inside first: what we put there needs no second look */
		query_tree_walker((Query *) node, replace_walker, context, 0);
		replace_in_query((Query *) node, context);
		return false;
	}
	return expression_tree_walker(node, replace_walker, context);
}

/*
 * Relations that turn up during planning
 */

static bool
is_locked_or_changed(PlannerInfo *root, RelOptInfo *rel)
{
	ListCell   *cell;
	Relids		relids = rel->top_parent_relids ? rel->top_parent_relids : rel->relids;

	if (bms_is_member(rel->relid, root->all_result_relids) ||
		bms_overlap(relids, root->all_result_relids))
		return true;
	foreach(cell, root->rowMarks)
	{
		PlanRowMark *mark = lfirst(cell);

		if (mark->strength != LCS_NONE &&
			(mark->rti == rel->relid || bms_is_member(mark->rti, relids)))
			return true;
	}
	return false;
}

/* The same columns at the same places? */
static bool
same_layout(Oid a, Oid b)
{
	Relation	first = table_open(a, NoLock);
	Relation	second = table_open(b, NoLock);
	TupleDesc	x = RelationGetDescr(first);
	TupleDesc	y = RelationGetDescr(second);
	bool		same = x->natts == y->natts;

	for (int i = 0; same && i < x->natts; i++)
	{
		Form_pg_attribute p = TupleDescAttr(x, i);
		Form_pg_attribute q = TupleDescAttr(y, i);

		same = p->attisdropped == q->attisdropped &&
			(p->attisdropped ||
			 (p->atttypid == q->atttypid && p->atttypmod == q->atttypmod &&
			  p->attcollation == q->attcollation &&
			  strcmp(NameStr(p->attname), NameStr(q->attname)) == 0));
	}
	table_close(second, NoLock);
	table_close(first, NoLock);
	return same;
}

static void
relation_info(RSL_RELATION_HOOK_PARAMS)
{
	RangeTblEntry *entry;
	Oid			relid;
	Oid			fallback;
	int			breaker;
	char		relkind;

	if (prev_relation_hook)
		prev_relation_hook(RSL_RELATION_HOOK_ARGS);

	if (current_planning == NULL || rel->fdwroutine == NULL)
		return;
	entry = root->simple_rte_array[rel->relid];
	if (entry == NULL || entry->rtekind != RTE_RELATION || entry->inh ||
		is_locked_or_changed(root, rel))
		return;
	relid = entry->relid;
	fallback = stand_in(relid, &breaker);
	if (!OidIsValid(fallback))
		return;
	LockRelationOid(fallback, entry->rellockmode);
	relkind = get_rel_relkind(fallback);
	if ((relkind != RELKIND_RELATION && relkind != RELKIND_MATVIEW) ||
		check_enable_rls(fallback, InvalidOid, true) != RLS_NONE ||
		!same_layout(relid, fallback))
		return;

	current_planning->originals =
		rsl_rte_changes_relation(root, rel, entry, fallback, relkind,
								 current_planning->originals);
	entry->alias = makeAlias(fallback_alias(relid, breaker), NIL);
	rel->fdwroutine = NULL;
	rel->serverid = InvalidOid;
	rel->indexlist = NIL;
	rel->statlist = NIL;
	get_relation_info(root, fallback, false, rel);
	pg_atomic_fetch_add_u64(&rsl_breakers[breaker].fallbacks, 1);
}

static PlannedStmt *
call_planner(RSL_PLANNER_PARAMS)
{
	if (prev_planner_hook)
		return prev_planner_hook(RSL_PLANNER_ARGS);
	return standard_planner(RSL_PLANNER_ARGS);
}

static PlannedStmt *
plan_with_fallbacks(RSL_PLANNER_PARAMS)
{
	planning	mine = {.outer = current_planning};
	PlannedStmt *result;

	if (likely(!any_fallback_needed()))
	{
		/* a query planned within another one has nothing to do with that */
		if (likely(current_planning == NULL))
			return call_planner(RSL_PLANNER_ARGS);
		current_planning = NULL;
	}
	else
	{
		(void) replace_walker((Node *) parse, &mine);
		current_planning = &mine;
	}

	PG_TRY();
	{
		result = call_planner(RSL_PLANNER_ARGS);
	}
	PG_FINALLY();
	{
		current_planning = mine.outer;
	}
	PG_END_TRY();

	rsl_check_originals(result, mine.originals);
	/* the plan cache has seen the query before the fallback was in it */
	result->dependsOnRole |= mine.row_security;
	return result;
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_fallback_init(void)
{
	prev_planner_hook = planner_hook;
	planner_hook = plan_with_fallbacks;
	prev_relation_hook = rsl_relation_hook;
	rsl_relation_hook = relation_info;
}
