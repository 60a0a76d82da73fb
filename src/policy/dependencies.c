/*-------------------------------------------------------------------------
 *
 * dependencies.c
 *		Features, health checks and breakers that depend on each other.
 *
 * A feature that is coupled to a check depends on it, and a check depends on
 * the features that its query asks for.  A circle would keep a feature
 * degraded because it is degraded.  Found are the calls that stand in a
 * check's query itself, with the feature's name as a constant; what functions
 * and views ask for within is not looked into.
 *
 * The functions that change definitions hold a lock on them until their
 * transaction ends (rsl_begin_change), so what is found here stays so.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "parser/parser.h"
#include "policy/definitions.h"
#include "policy/dependencies.h"
#include "policy/health_policy.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A row: its name, and what it depends on. */
typedef struct dependent
{
	char	   *name;
	char	   *on;				/* of a feature: its check; of a check: its
								 * query; or NULL */
	List	   *features;		/* of a check: names its query asks for */
	bool		seen;			/* of a feature: all that it leads to is known */
} dependent;

/* Returns a list of dependents. */
static List *
read_dependents(const char *relname, int name_column, int on_column)
{
	Oid			relid = rsl_extension_relation(relname);
	List	   *result = NIL;
	Relation	relation;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(relid))
		return NIL;
	relation = table_open(relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = rsl_table_beginscan(relation, snapshot);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		dependent  *row = palloc0(sizeof(dependent));

		row->name = rsl_text_column(tuple, RelationGetDescr(relation), name_column);
		row->on = rsl_text_column(tuple, RelationGetDescr(relation), on_column);
		result = lappend(result, row);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, NoLock);
	return result;
}

static dependent *
find_dependent(List *rows, const char *name)
{
	ListCell   *lc;

	foreach(lc, rows)
	{
		dependent  *row = lfirst(lc);

		if (strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

/* The constant that the argument "name" of a call is, or NULL. */
static char *
constant_name(FuncCall *call)
{
	ListCell   *lc;

	foreach(lc, call->args)
	{
		Node	   *argument = lfirst(lc);

		if (IsA(argument, NamedArgExpr))
		{
			if (strcmp(((NamedArgExpr *) argument)->name, "name") != 0)
				continue;
			argument = (Node *) ((NamedArgExpr *) argument)->arg;
		}
		else if (foreach_current_index(lc) > 0)
			continue;
		while (IsA(argument, TypeCast))
			argument = ((TypeCast *) argument)->arg;
		if (IsA(argument, A_Const) && !((A_Const *) argument)->isnull &&
			IsA(&((A_Const *) argument)->val, String))
			return strVal(&((A_Const *) argument)->val);
	}
	return NULL;
}

static bool
collect_features(Node *node, void *context)
{
	List	  **features = context;

	if (node == NULL)
		return false;
	if (IsA(node, FuncCall))
	{
		FuncCall   *call = (FuncCall *) node;
		char	   *function = strVal(llast(call->funcname));
		char	   *name;

		if ((strcmp(function, "feature_enabled") == 0 ||
			 strcmp(function, "run_feature") == 0) &&
			(name = constant_name(call)) != NULL)
			*features = lappend(*features, name);
	}
	return raw_expression_tree_walker(node, collect_features, context);
}

/*
 * Which features does a query ask for?  Of one that is no SQL, any more or in
 * this version, nothing is known.
 */
static List *
features_of_query(const char *query)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *volatile features = NIL;

	if (query == NULL || strstr(query, "feature") == NULL)
		return NIL;
	PG_TRY();
	{
		List	   *found = NIL;
		ListCell   *lc;

		foreach(lc, raw_parser(query, RAW_PARSE_DEFAULT))
			(void) collect_features(lfirst_node(RawStmt, lc)->stmt, &found);
		features = found;
	}
	PG_CATCH();
	{
		/* the parser holds nothing that an abort would have to give back */
		MemoryContextSwitchTo(context);
		FlushErrorState();
		features = NIL;
	}
	PG_END_TRY();
	return features;
}

/* Follow what a feature depends on; "path" are the features that lead here. */
static void
follow(List *features, List *checks, dependent *feature, List *path)
{
	dependent  *check;
	ListCell   *lc;

	if (list_member_ptr(path, feature))
	{
		StringInfoData circle;
		bool		within = false;

		initStringInfo(&circle);
		foreach(lc, path)
		{
			dependent  *step = lfirst(lc);

			within |= step == feature;
			if (within)
				appendStringInfo(&circle, "feature \"%s\" -> health check \"%s\" -> ",
								 step->name, step->on);
		}
		appendStringInfo(&circle, "feature \"%s\"", feature->name);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("feature \"%s\" would depend on itself", feature->name),
				 errdetail("%s", circle.data),
				 errhint("A health check that a feature is coupled to must not ask whether that feature is enabled.")));
	}
	if (feature->seen || feature->on == NULL)
		return;
	check = find_dependent(checks, feature->on);
	if (check == NULL)
		return;
	path = lappend(list_copy(path), feature);
	foreach(lc, check->features)
	{
		dependent  *next = find_dependent(features, lfirst(lc));

		if (next)
			follow(features, checks, next, path);
	}
	feature->seen = true;
}

/*
 * Called when a feature or a check has been written: does any feature depend
 * on itself now?
 *
 * Errors: 22023 with the circle in DETAIL.
 */
void
rsl_refuse_coupling_cycle(void)
{
	List	   *features;
	List	   *checks;
	ListCell   *lc;

	CommandCounterIncrement();
	features = read_dependents(RSL_FEATURES_NAME, RSL_FCOL_NAME,
							   RSL_FCOL_HEALTH_CHECK);
	checks = read_dependents(RSL_HEALTH_CHECKS_NAME, RSL_HCOL_NAME,
							 RSL_HCOL_QUERY);
	foreach(lc, checks)
	{
		dependent  *check = lfirst(lc);

		check->features = features_of_query(check->on);
	}
	foreach(lc, features)
		follow(features, checks, lfirst(lc), NIL);
}

/*
 * Called before a check or a breaker ("kind") is dropped: a feature that is
 * coupled to it would stay as it is for ever, without a word.
 *
 * Errors: 2BP01 when there is such a feature.
 */
void
rsl_refuse_drop_while_coupled(const char *kind, enum rsl_feature_column column,
							  const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	HeapTuple	first;
	Relation	relation;
	char	   *feature;

	if (rsl_execute_as_owner(RSL_FEATURES_NAME,
							 psprintf("SELECT * FROM resilience.feature_definitions "
									  "WHERE %s OPERATOR(pg_catalog.=) $1 "
									  "ORDER BY name LIMIT 1",
									  column == RSL_FCOL_BREAKER ? "breaker" : "health_check"),
							 1, types, values, NULL, &first) == 0)
		return;
	relation = table_open(rsl_extension_relation(RSL_FEATURES_NAME), AccessShareLock);
	feature = rsl_text_column(first, RelationGetDescr(relation), RSL_FCOL_NAME);
	table_close(relation, NoLock);
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop %s \"%s\" because a feature is coupled to it",
					kind, name),
			 errdetail("feature \"%s\"", feature),
			 errhint("Uncouple it first: SELECT resilience.alter_feature(%s, %s => '');",
					 quote_literal_cstr(feature),
					 column == RSL_FCOL_BREAKER ? "breaker" : "health_check")));
}
