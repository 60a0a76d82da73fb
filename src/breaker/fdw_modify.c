/*-------------------------------------------------------------------------
 *
 * fdw_modify.c
 *		INSERT, UPDATE, DELETE and COPY to foreign tables, row by row.
 *
 * As with scans, nothing begins before the first row unless the breaker is
 * closed.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/fdw_node.h"
#include "breaker/remote.h"
#include "foreign/foreign.h"
#include "utils/rel.h"

typedef struct guarded_modify
{
	rsl_fdw_node base;
	ModifyTableState *mtstate;
	List	   *fdw_private;
	int			subplan_index;
	int			eflags;
} guarded_modify;

static void
begin_modify(ResultRelInfo *rinfo, guarded_modify *modify)
{
	rsl_fdw_node *base = &modify->base;
	EState	   *estate = modify->mtstate->ps.state;
	MemoryContext old;

	if (base->begun)
		return;
	old = MemoryContextSwitchTo(estate->es_query_cxt);
	base->guard = rsl_fdw_guard_of_query(base->server, estate);
	if (base->fdw->BeginForeignModify)
		RSL_GUARDED(base->guard, RSL_FDW_BEGIN, "begin",
					rsl_fdw_call_begins(base->server),
					base->fdw->BeginForeignModify(modify->mtstate, rinfo,
												  modify->fdw_private,
												  modify->subplan_index,
												  modify->eflags));
	base->begun = true;
	if (base->server->is_postgres_fdw)
		rsl_remote_used(base->server, base->guard, base->user);
	MemoryContextSwitchTo(old);
}

static TupleTableSlot *
modify_insert(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot,
			  TupleTableSlot *planSlot)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;
	TupleTableSlot *result;

	begin_modify(rinfo, modify);
	RSL_GUARDED(modify->base.guard, RSL_SECTION_TIMED, "insert",
				result = modify->base.fdw->ExecForeignInsert(estate, rinfo,
															 slot, planSlot));
	return result;
}

static TupleTableSlot **
modify_batch_insert(EState *estate, ResultRelInfo *rinfo,
					TupleTableSlot **slots, TupleTableSlot **planSlots,
					int *numSlots)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;
	TupleTableSlot **result;

	begin_modify(rinfo, modify);
	RSL_GUARDED(modify->base.guard, RSL_SECTION_TIMED, "insert",
				result = modify->base.fdw->ExecForeignBatchInsert(estate, rinfo,
																  slots, planSlots,
																  numSlots));
	return result;
}

static int
modify_batch_size(ResultRelInfo *rinfo)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;

	if (!modify->base.begun && !(modify->eflags & EXEC_FLAG_EXPLAIN_ONLY))
		return 1;
	return modify->base.fdw->GetForeignModifyBatchSize(rinfo);
}

static TupleTableSlot *
modify_update(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot,
			  TupleTableSlot *planSlot)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;
	TupleTableSlot *result;

	begin_modify(rinfo, modify);
	RSL_GUARDED(modify->base.guard, RSL_SECTION_TIMED, "update",
				result = modify->base.fdw->ExecForeignUpdate(estate, rinfo,
															 slot, planSlot));
	return result;
}

static TupleTableSlot *
modify_delete(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot,
			  TupleTableSlot *planSlot)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;
	TupleTableSlot *result;

	begin_modify(rinfo, modify);
	RSL_GUARDED(modify->base.guard, RSL_SECTION_TIMED, "delete",
				result = modify->base.fdw->ExecForeignDelete(estate, rinfo,
															 slot, planSlot));
	return result;
}

static void
modify_end(EState *estate, ResultRelInfo *rinfo)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;

	if (modify->eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		if (modify->base.fdw->EndForeignModify)
			modify->base.fdw->EndForeignModify(estate, rinfo);
		return;
	}
	if (modify->base.begun && modify->base.fdw->EndForeignModify)
		RSL_GUARDED(modify->base.guard, RSL_SECTION_TIMED, "end",
					modify->base.fdw->EndForeignModify(estate, rinfo));
}

static void
modify_end_insert(EState *estate, ResultRelInfo *rinfo)
{
	guarded_modify *modify = (guarded_modify *) rinfo->ri_FdwRoutine;

	if (modify->base.begun && modify->base.fdw->EndForeignInsert)
		RSL_GUARDED(modify->base.guard, RSL_SECTION_TIMED, "end",
					modify->base.fdw->EndForeignInsert(estate, rinfo));
}

static void guarded_begin_insert(ModifyTableState *mtstate,
								 ResultRelInfo *rinfo);

static guarded_modify *
make_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo, rsl_server *server)
{
	EState	   *estate = mtstate->ps.state;
	guarded_modify *modify = MemoryContextAllocZero(estate->es_query_cxt,
													sizeof(guarded_modify));
	FdwRoutine *routine = &modify->base.routine;

	rsl_fdw_node_init(&modify->base, server, rsl_result_user(rinfo, estate));
	modify->mtstate = mtstate;

	if (routine->ExecForeignInsert)
		routine->ExecForeignInsert = modify_insert;
	if (routine->ExecForeignBatchInsert)
		routine->ExecForeignBatchInsert = modify_batch_insert;
	if (routine->GetForeignModifyBatchSize)
		routine->GetForeignModifyBatchSize = modify_batch_size;
	if (routine->ExecForeignUpdate)
		routine->ExecForeignUpdate = modify_update;
	if (routine->ExecForeignDelete)
		routine->ExecForeignDelete = modify_delete;
	routine->BeginForeignInsert = guarded_begin_insert;
	routine->EndForeignModify = modify_end;
	routine->EndForeignInsert = modify_end_insert;
	rinfo->ri_FdwRoutine = routine;
	return modify;
}

static void
guarded_begin_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo,
					 List *fdw_private, int subplan_index, int eflags)
{
	Oid			relid = RelationGetRelid(rinfo->ri_RelationDesc);
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	guarded_modify *modify;

	if (!rsl_fdw_is_guarded(server))
	{
		rinfo->ri_FdwRoutine = unconstify(FdwRoutine *, server->fdw);
		if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
			rsl_fdw_call_begins(server);
		if (server->fdw->BeginForeignModify)
			server->fdw->BeginForeignModify(mtstate, rinfo, fdw_private,
											subplan_index, eflags);
		return;
	}

	modify = make_modify(mtstate, rinfo, server);
	modify->fdw_private = fdw_private;
	modify->subplan_index = subplan_index;
	modify->eflags = eflags;
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		if (server->fdw->BeginForeignModify)
			server->fdw->BeginForeignModify(mtstate, rinfo, fdw_private,
											subplan_index, eflags);
	}
	else if (rsl_fdw_is_closed(server))
		begin_modify(rinfo, modify);
}

/* COPY, and a row that is on its way to a foreign partition. */
static void
guarded_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo)
{
	Oid			relid = RelationGetRelid(rinfo->ri_RelationDesc);
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	EState	   *estate = mtstate->ps.state;
	guarded_modify *modify;

	if (!rsl_fdw_is_guarded(server))
	{
		rinfo->ri_FdwRoutine = unconstify(FdwRoutine *, server->fdw);
		rsl_fdw_call_begins(server);
		if (server->fdw->BeginForeignInsert)
			server->fdw->BeginForeignInsert(mtstate, rinfo);
		return;
	}

	/* an UPDATE may move rows to a partition that it changes itself as well */
	if (rinfo->ri_FdwRoutine->EndForeignInsert == modify_end_insert)
	{
		modify = (guarded_modify *) rinfo->ri_FdwRoutine;
		begin_modify(rinfo, modify);
	}
	else
		modify = make_modify(mtstate, rinfo, server);

	modify->base.guard = rsl_fdw_guard_of_query(server, estate);
	if (server->fdw->BeginForeignInsert)
		RSL_GUARDED(modify->base.guard, RSL_FDW_BEGIN, "begin",
					rsl_fdw_call_begins(server),
					server->fdw->BeginForeignInsert(mtstate, rinfo));
	modify->base.begun = true;
	if (server->is_postgres_fdw)
		rsl_remote_used(server, modify->base.guard, modify->base.user);
}

void
rsl_wrap_modifications(FdwRoutine *routine)
{
	/* they only exist to be called, so they may be there without a reason */
	routine->BeginForeignModify = guarded_begin_modify;
	routine->BeginForeignInsert = guarded_begin_insert;
}
