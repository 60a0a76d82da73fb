/*-------------------------------------------------------------------------
 *
 * fdw_planning.c
 *		Foreign data wrappers that ask their server while a query is planned.
 *
 * Only those that estimate remotely do: a wrapper that plans from what it has
 * here is not guarded while it does so.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/fdw_node.h"
#include "nodes/pathnodes.h"

/*
 * Does a breaker that is not closed answer with no rows?  Then nothing but the
 * scan itself may be pushed down: count(*) over no rows is a row.
 */
static bool
answers_empty(const rsl_server *server)
{
	return server->policy.on_open == RSL_ON_OPEN_EMPTY &&
		rsl_breaker_blocks(server->breaker);
}

static void
guarded_rel_size(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	rsl_server *server = rsl_server_lookup(baserel->serverid);

	if (!rsl_fdw_is_guarded(server) || !rsl_table_estimates_remotely(server, relid))
	{
		if (unlikely(rsl_chaos_armed()) &&
			rsl_table_estimates_remotely(server, relid))
			rsl_fdw_call_begins(server);
		server->fdw->GetForeignRelSize(root, baserel, relid);
		return;
	}
	RSL_FDW_CALL(server, "planning",
				 server->fdw->GetForeignRelSize(root, baserel, relid));
}

static void
guarded_paths(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	rsl_server *server = rsl_server_lookup(baserel->serverid);

	if (!rsl_fdw_is_guarded(server) || !rsl_table_estimates_remotely(server, relid))
	{
		server->fdw->GetForeignPaths(root, baserel, relid);
		return;
	}
	RSL_FDW_CALL(server, "planning",
				 server->fdw->GetForeignPaths(root, baserel, relid));
}

/* Does any base relation of a join make the wrapper ask the server? */
static bool
relids_estimate_remotely(PlannerInfo *root, rsl_server *server, Relids relids)
{
	int			i = -1;

	while ((i = bms_next_member(relids, i)) >= 0)
	{
		RangeTblEntry *rte = i < root->simple_rel_array_size ?
			root->simple_rte_array[i] : NULL;

		if (rte && rte->rtekind == RTE_RELATION &&
			rte->relkind == RELKIND_FOREIGN_TABLE &&
			rsl_table_estimates_remotely(server, rte->relid))
			return true;
	}
	return false;
}

static void
guarded_join_paths(PlannerInfo *root, RelOptInfo *joinrel,
				   RelOptInfo *outerrel, RelOptInfo *innerrel,
				   JoinType jointype, JoinPathExtraData *extra)
{
	rsl_server *server = rsl_server_lookup(joinrel->serverid);

	if (rsl_fdw_is_guarded(server) && answers_empty(server))
		return;
	if (!rsl_fdw_is_guarded(server) ||
		!relids_estimate_remotely(root, server, joinrel->relids))
	{
		server->fdw->GetForeignJoinPaths(root, joinrel, outerrel, innerrel,
										 jointype, extra);
		return;
	}
	RSL_FDW_CALL(server, "planning",
				 server->fdw->GetForeignJoinPaths(root, joinrel, outerrel,
												  innerrel, jointype, extra));
}

static void
guarded_upper_paths(PlannerInfo *root, UpperRelationKind stage,
					RelOptInfo *input_rel, RelOptInfo *output_rel, void *extra)
{
	rsl_server *server = rsl_server_lookup(input_rel->serverid);

	if (rsl_fdw_is_guarded(server) && answers_empty(server))
		return;
	if (!rsl_fdw_is_guarded(server) ||
		!relids_estimate_remotely(root, server, root->all_baserels))
	{
		server->fdw->GetForeignUpperPaths(root, stage, input_rel, output_rel,
										  extra);
		return;
	}
	RSL_FDW_CALL(server, "planning",
				 server->fdw->GetForeignUpperPaths(root, stage, input_rel,
												   output_rel, extra));
}

void
rsl_wrap_planning(FdwRoutine *routine)
{
	routine->GetForeignRelSize = guarded_rel_size;
	routine->GetForeignPaths = guarded_paths;
	if (routine->GetForeignJoinPaths)
		routine->GetForeignJoinPaths = guarded_join_paths;
	if (routine->GetForeignUpperPaths)
		routine->GetForeignUpperPaths = guarded_upper_paths;
}
