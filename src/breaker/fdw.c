/*-------------------------------------------------------------------------
 *
 * fdw.c
 *		Guarding the functions of foreign data wrappers.
 *
 * In the copy of the functions that handler.c hands out only those are
 * replaced with which everything begins.  They look up the server: if no
 * breaker guards it, the node gets the wrapper's own functions, and we are out
 * of the way.  Else the node gets a table of functions of its own, which is the
 * first member of a struct with all that the later calls have to know.
 *
 * While the breaker is closed the wrapper's Begin function is called when the
 * executor asks for it.  Otherwise nothing is done until the first row is
 * wanted: the executor starts plans that it never runs, such as those of
 * partitions that are pruned later, and those must not fail.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "breaker/fdw.h"
#include "breaker/guard.h"
#include "breaker/rejection.h"
#include "breaker/remote.h"
#include "breaker/servers.h"
#include "executor/execAsync.h"
#include "executor/executor.h"
#include "foreign/foreign.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "policy/settings.h"
#include "shared/experiments.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* What all nodes that belong to a guarded server have in common. */
typedef struct guarded_node
{
	FdwRoutine	routine;		/* first: the node points here */
	const FdwRoutine *fdw;		/* the wrapper's own functions */
	rsl_server *server;
	rsl_guard  *guard;			/* NULL until it has begun */
	Oid			user;			/* whose user mapping counts */
	bool		begun;			/* the wrapper's Begin has returned */
} guarded_node;

typedef struct guarded_scan
{
	guarded_node base;
	int			eflags;
	bool		fresh;			/* the next row may mean a remote query */
	bool		empty;			/* answer with no rows */
	bool		pending;		/* an asynchronous answer is awaited */
	bool		in_worker;		/* to be rejected in a parallel worker */
	bool		direct;			/* a remote UPDATE or DELETE */
} guarded_scan;

typedef struct guarded_modify
{
	guarded_node base;
	ModifyTableState *mtstate;
	List	   *fdw_private;
	int			subplan_index;
	int			eflags;
} guarded_modify;

/* A guard that lives as long as a query does. */
typedef struct query_guard
{
	rsl_guard	guard;
	MemoryContextCallback callback;
} query_guard;

#define FLAGS_BEGIN		(RSL_SECTION_TIMED | RSL_SECTION_CONNECTS)

/*
 * The server is about to be called: here chaos experiments strike, where the
 * breaker sees it.
 */
static inline void
call_begins(const rsl_server *server)
{
	rsl_chaos_foreign_call(server->serverid);
}

/* Is there anything to do for calls to this server? */
static inline bool
is_guarded(const rsl_server *server)
{
	/* the leader of a parallel query speaks for its workers */
	return server->breaker >= 0 && rsl_mode_setting != RSL_MODE_OFF &&
		server->policy.mode != RSL_MODE_OFF && !IsParallelWorker();
}

static inline bool
is_closed(const rsl_server *server)
{
	return RSL_GATE_POSITION(pg_atomic_read_u64(&rsl_breakers[server->breaker].gate)) ==
		RSL_BREAKER_CLOSED;
}

static void
query_ends(void *arg)
{
	rsl_guard_close((rsl_guard *) arg);
}

/*
 * The guard of this query's call to a server: one for all its nodes.  Raises
 * 08R01 or 53R01.
 */
static rsl_guard *
guard_of_query(rsl_server *server, EState *estate, const char *phase)
{
	rsl_guard  *guard = rsl_guard_find(server->breaker, estate);
	query_guard *mine;

	if (guard)
		return guard;
	mine = MemoryContextAllocZero(estate->es_query_cxt, sizeof(query_guard));
	rsl_guard_open(&mine->guard, server->breaker, &server->policy, estate, phase);
	mine->callback.func = query_ends;
	mine->callback.arg = &mine->guard;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &mine->callback);
	return &mine->guard;
}

static void
set_up(guarded_node *node, rsl_server *server, const FdwRoutine *routine)
{
	node->routine = *routine;
	node->fdw = server->fdw;
	node->server = server;
}

/*
 * Planning
 */

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
	rsl_guard	guard;

	if (!is_guarded(server) || !rsl_table_estimates_remotely(server, relid))
	{
		if (unlikely(rsl_chaos_armed()) &&
			rsl_table_estimates_remotely(server, relid))
			call_begins(server);
		server->fdw->GetForeignRelSize(root, baserel, relid);
		return;
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "planning");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "planning",
				call_begins(server),
				server->fdw->GetForeignRelSize(root, baserel, relid));
	rsl_guard_close(&guard);
}

static void
guarded_paths(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	rsl_server *server = rsl_server_lookup(baserel->serverid);
	rsl_guard	guard;

	if (!is_guarded(server) || !rsl_table_estimates_remotely(server, relid))
	{
		server->fdw->GetForeignPaths(root, baserel, relid);
		return;
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "planning");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "planning",
				call_begins(server),
				server->fdw->GetForeignPaths(root, baserel, relid));
	rsl_guard_close(&guard);
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
	rsl_guard	guard;

	if (is_guarded(server) && answers_empty(server))
		return;
	if (!is_guarded(server) ||
		!relids_estimate_remotely(root, server, joinrel->relids))
	{
		server->fdw->GetForeignJoinPaths(root, joinrel, outerrel, innerrel,
										 jointype, extra);
		return;
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "planning");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "planning",
				call_begins(server),
				server->fdw->GetForeignJoinPaths(root, joinrel, outerrel,
												 innerrel, jointype, extra));
	rsl_guard_close(&guard);
}

static void
guarded_upper_paths(PlannerInfo *root, UpperRelationKind stage,
					RelOptInfo *input_rel, RelOptInfo *output_rel, void *extra)
{
	rsl_server *server = rsl_server_lookup(input_rel->serverid);
	rsl_guard	guard;

	if (is_guarded(server) && answers_empty(server))
		return;
	if (!is_guarded(server) ||
		!relids_estimate_remotely(root, server, root->all_baserels))
	{
		server->fdw->GetForeignUpperPaths(root, stage, input_rel, output_rel,
										  extra);
		return;
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "planning");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "planning",
				call_begins(server),
				server->fdw->GetForeignUpperPaths(root, stage, input_rel,
												  output_rel, extra));
	rsl_guard_close(&guard);
}

/*
 * Scans
 */

/* May this scan answer with no rows in place of its server? */
static bool
may_be_empty(ForeignScanState *node, guarded_scan *scan)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	EState	   *estate = node->ss.ps.state;

	if (scan->base.server->policy.on_open != RSL_ON_OPEN_EMPTY ||
		scan->direct || plan->operation != CMD_SELECT)
		return false;

	/* planned while the breaker was closed: its aggregates are remote ones */
	if (plan->scan.scanrelid == 0)
		return !contain_agg_clause((Node *) plan->fdw_scan_tlist);

	/* a row of a table that is to be changed or locked */
	if (rsl_is_result_relation(estate->es_plannedstmt, plan->scan.scanrelid))
		return false;
	return estate->es_rowmarks == NULL ||
		plan->scan.scanrelid > estate->es_range_table_size ||
		estate->es_rowmarks[plan->scan.scanrelid - 1] == NULL ||
		estate->es_rowmarks[plan->scan.scanrelid - 1]->strength == LCS_NONE;
}

static void
begin_scan(ForeignScanState *node, guarded_scan *scan)
{
	guarded_node *base = &scan->base;
	EState	   *estate = node->ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	base->guard = guard_of_query(base->server, estate, "begin");
	if (scan->direct)
		RSL_GUARDED(base->guard, FLAGS_BEGIN, "begin",
					call_begins(base->server),
					base->fdw->BeginDirectModify(node, scan->eflags));
	else
		RSL_GUARDED(base->guard, FLAGS_BEGIN, "begin",
					call_begins(base->server),
					base->fdw->BeginForeignScan(node, scan->eflags));
	base->begun = true;
	if (base->server->is_postgres_fdw)
		rsl_remote_used(base->server, base->guard, base->user);
	MemoryContextSwitchTo(old);
}

/*
 * Workers are not guarded, but must not get through what their leader would
 * not: it may have put its scan off, or not take part.
 */
static bool
rejects_worker(const rsl_server *server)
{
	uint64		gate;

	if (!IsParallelWorker() || server->breaker < 0 ||
		rsl_mode_setting != RSL_MODE_ENFORCE)
		return false;
	gate = pg_atomic_read_u64(&rsl_breakers[server->breaker].gate);
	return RSL_GATE_POSITION(gate) == RSL_BREAKER_OPEN &&
		RSL_GATE_MODE(gate) == RSL_MODE_ENFORCE;
}

/*
 * A scan that was put off: begin it now, or find that it has to be without
 * rows.  Raises 08R01 if it can be neither.
 */
static void
begin_late(ForeignScanState *node, guarded_scan *scan)
{
	rsl_server *server = scan->base.server;

	if (scan->in_worker)
	{
		if (!may_be_empty(node, scan))
			rsl_raise_rejection(server->breaker, RSL_REJECTED_OPEN, "begin");
		scan->empty = true;
		return;
	}
	if (!rsl_breaker_blocks(server->breaker) || !may_be_empty(node, scan))
	{
		begin_scan(node, scan);
		return;
	}

	scan->empty = true;
	pg_atomic_fetch_add_u64(&rsl_breakers[server->breaker].fallbacks, 1);
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("circuit breaker \"%s\" is open: foreign server \"%s\" is answered for with no rows",
					server->policy.name, server->policy.server_name),
			 errhint("Its on_open is \"empty\". The result of this statement is incomplete.")));
}

static TupleTableSlot *
scan_iterate_fresh(ForeignScanState *node, guarded_scan *scan)
{
	const FdwRoutine *fdw = scan->base.fdw;
	TupleTableSlot *slot;

	if (!scan->base.begun && !scan->empty)
		begin_late(node, scan);
	if (scan->empty)
		return ExecClearTuple(node->ss.ss_ScanTupleSlot);
	scan->fresh = false;
	RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "execution",
				slot = scan->direct ? fdw->IterateDirectModify(node) :
				fdw->IterateForeignScan(node));
	if (unlikely(rsl_current_guard == scan->base.guard))
		rsl_guard_local(scan->base.guard);
	return slot;
}

static TupleTableSlot *
scan_iterate(ForeignScanState *node)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;
	TupleTableSlot *slot;

	if (unlikely(scan->fresh))
		return scan_iterate_fresh(node, scan);
	RSL_GUARDED(scan->base.guard, 0, "fetch",
				slot = scan->base.fdw->IterateForeignScan(node));
	if (unlikely(rsl_current_guard == scan->base.guard))
		rsl_guard_local(scan->base.guard);
	return slot;
}

static TupleTableSlot *
direct_iterate(ForeignScanState *node)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;
	TupleTableSlot *slot;

	if (unlikely(scan->fresh))
		return scan_iterate_fresh(node, scan);
	RSL_GUARDED(scan->base.guard, 0, "fetch",
				slot = scan->base.fdw->IterateDirectModify(node));
	return slot;
}

static void
scan_rescan(ForeignScanState *node)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;

	if (!scan->base.begun)
		return;
	scan->fresh = true;
	RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "rescan",
				scan->base.fdw->ReScanForeignScan(node));
}

static void
scan_end(ForeignScanState *node)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;
	const FdwRoutine *fdw = scan->base.fdw;

	if (scan->eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		if (!scan->direct)
			fdw->EndForeignScan(node);
		else if (fdw->EndDirectModify)
			fdw->EndDirectModify(node);
		return;
	}
	if (!scan->base.begun)
		return;
	if (!scan->direct)
		RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "end",
					fdw->EndForeignScan(node));
	else if (fdw->EndDirectModify)
		RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "end",
					fdw->EndDirectModify(node));
}

static bool
scan_recheck(ForeignScanState *node, TupleTableSlot *slot)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;
	bool		result;

	if (!scan->base.begun)
		begin_scan(node, scan);
	RSL_GUARDED(scan->base.guard, 0, "recheck",
				result = scan->base.fdw->RecheckForeignScan(node, slot));
	return result;
}

/* Say in EXPLAIN what stands between the query and the server. */
static void
explain_breaker(const rsl_server *server, bool empty, ExplainState *es)
{
	static const char *const words[] = {"closed", "half-open", "open"};
	uint64		gate = pg_atomic_read_u64(&rsl_breakers[server->breaker].gate);
	const char *action = "";

	if (RSL_GATE_POSITION(gate) == RSL_BREAKER_CLOSED && !empty)
		return;
	if (empty)
		action = ", no rows";
	else if (server->policy.mode == RSL_MODE_OBSERVE)
		action = ", observed only";
	ExplainPropertyText("Breaker",
						psprintf("\"%s\" of server \"%s\" is %s%s",
								 server->policy.name, server->policy.server_name,
								 words[RSL_GATE_POSITION(gate)], action),
						es);
}

static void
scan_explain(ForeignScanState *node, ExplainState *es)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;
	bool		begun = scan->base.begun || (scan->eflags & EXEC_FLAG_EXPLAIN_ONLY);

	if (begun && scan->direct && scan->base.fdw->ExplainDirectModify)
		scan->base.fdw->ExplainDirectModify(node, es);
	if (begun && !scan->direct && scan->base.fdw->ExplainForeignScan)
		scan->base.fdw->ExplainForeignScan(node, es);
	explain_breaker(scan->base.server, scan->empty, es);
}

static void
scan_shutdown(ForeignScanState *node)
{
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;

	if (scan->base.begun)
		RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "end",
					scan->base.fdw->ShutdownForeignScan(node));
}

/*
 * Asynchronous scans: the executor asks, waits for the sockets of all servers
 * itself, and notifies the one that has something.
 */

static void
async_request(AsyncRequest *areq)
{
	ForeignScanState *node = (ForeignScanState *) areq->requestee;
	guarded_scan *scan = (guarded_scan *) node->fdwroutine;

	if (unlikely(!scan->base.begun && !scan->empty))
		begin_late(node, scan);
	if (scan->empty)
	{
		ExecAsyncRequestDone(areq, NULL);
		return;
	}
	RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "request",
				scan->base.fdw->ForeignAsyncRequest(areq));
	rsl_guard_await(scan->base.guard, &scan->pending, areq->callback_pending);
}

static void
async_configure_wait(AsyncRequest *areq)
{
	guarded_scan *scan = (guarded_scan *)
		((ForeignScanState *) areq->requestee)->fdwroutine;

	RSL_GUARDED(scan->base.guard, 0, "wait",
				scan->base.fdw->ForeignAsyncConfigureWait(areq));
}

static void
async_notify(AsyncRequest *areq)
{
	guarded_scan *scan = (guarded_scan *)
		((ForeignScanState *) areq->requestee)->fdwroutine;

	rsl_guard_await(scan->base.guard, &scan->pending, false);
	RSL_GUARDED(scan->base.guard, RSL_SECTION_TIMED, "fetch",
				scan->base.fdw->ForeignAsyncNotify(areq));
	rsl_guard_await(scan->base.guard, &scan->pending, areq->callback_pending);
}

static guarded_scan *
make_scan(ForeignScanState *node, rsl_server *server, int eflags, bool direct)
{
	EState	   *estate = node->ss.ps.state;
	guarded_scan *scan = MemoryContextAllocZero(estate->es_query_cxt,
												sizeof(guarded_scan));
	FdwRoutine *routine = &scan->base.routine;

	set_up(&scan->base, server, server->fdw);
	scan->base.user = rsl_scan_user(node);
	scan->eflags = eflags;
	scan->fresh = true;
	scan->direct = direct;

	routine->IterateForeignScan = scan_iterate;
	routine->ReScanForeignScan = scan_rescan;
	routine->EndForeignScan = scan_end;
	routine->IterateDirectModify = direct_iterate;
	routine->EndDirectModify = scan_end;
	routine->ExplainForeignScan = scan_explain;
	routine->ExplainDirectModify = scan_explain;
	if (routine->RecheckForeignScan)
		routine->RecheckForeignScan = scan_recheck;
	if (routine->ShutdownForeignScan)
		routine->ShutdownForeignScan = scan_shutdown;
	if (routine->ForeignAsyncRequest)
		routine->ForeignAsyncRequest = async_request;
	if (routine->ForeignAsyncConfigureWait)
		routine->ForeignAsyncConfigureWait = async_configure_wait;
	if (routine->ForeignAsyncNotify)
		routine->ForeignAsyncNotify = async_notify;
	node->fdwroutine = routine;
	return scan;
}

static void
begin_any_scan(ForeignScanState *node, int eflags, bool direct)
{
	Oid			serverid = ((ForeignScan *) node->ss.ps.plan)->fs_server;
	rsl_server *server = rsl_server_lookup(serverid);
	guarded_scan *scan;

	if (unlikely(rejects_worker(server)))
	{
		make_scan(node, server, eflags, direct)->in_worker = true;
		return;
	}
	if (!is_guarded(server))
	{
		node->fdwroutine = unconstify(FdwRoutine *, server->fdw);
		if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
			call_begins(server);
		if (direct)
			server->fdw->BeginDirectModify(node, eflags);
		else
			server->fdw->BeginForeignScan(node, eflags);
		return;
	}

	scan = make_scan(node, server, eflags, direct);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		if (direct)
			server->fdw->BeginDirectModify(node, eflags);
		else
			server->fdw->BeginForeignScan(node, eflags);
	}

	/*
	 * A wrapper that shares its scans among parallel workers sets that up
	 * between Begin and the first row.
	 */
	else if (is_closed(server) || server->fdw->InitializeDSMForeignScan)
		begin_scan(node, scan);

	/* workers would call the server before we do, or without us */
	else if (node->ss.ps.state->es_plannedstmt->parallelModeNeeded &&
			 node->ss.ps.plan->parallel_safe)
		begin_late(node, scan);
}

static void
guarded_begin_scan(ForeignScanState *node, int eflags)
{
	begin_any_scan(node, eflags, false);
}

static void
guarded_begin_direct_modify(ForeignScanState *node, int eflags)
{
	begin_any_scan(node, eflags, true);
}

/*
 * INSERT, UPDATE, DELETE and COPY, row by row
 */

static void
begin_modify(ResultRelInfo *rinfo, guarded_modify *modify)
{
	guarded_node *base = &modify->base;
	EState	   *estate = modify->mtstate->ps.state;
	MemoryContext old;

	if (base->begun)
		return;
	old = MemoryContextSwitchTo(estate->es_query_cxt);
	base->guard = guard_of_query(base->server, estate, "begin");
	if (base->fdw->BeginForeignModify)
		RSL_GUARDED(base->guard, FLAGS_BEGIN, "begin",
					call_begins(base->server),
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

	set_up(&modify->base, server, server->fdw);
	modify->base.user = rsl_result_user(rinfo, estate);
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

	if (!is_guarded(server))
	{
		rinfo->ri_FdwRoutine = unconstify(FdwRoutine *, server->fdw);
		if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
			call_begins(server);
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
	else if (is_closed(server))
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

	if (!is_guarded(server))
	{
		rinfo->ri_FdwRoutine = unconstify(FdwRoutine *, server->fdw);
		call_begins(server);
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

	modify->base.guard = guard_of_query(server, estate, "begin");
	if (server->fdw->BeginForeignInsert)
		RSL_GUARDED(modify->base.guard, FLAGS_BEGIN, "begin",
					call_begins(server),
					server->fdw->BeginForeignInsert(mtstate, rinfo));
	modify->base.begun = true;
	if (server->is_postgres_fdw)
		rsl_remote_used(server, modify->base.guard, modify->base.user);
}

/*
 * Commands
 */

/* The functions that sample tables, by table; ANALYZE calls them later. */
typedef struct sampler
{
	Oid			relid;			/* hash key */
	AcquireSampleRowsFunc function;
} sampler;

static HTAB *samplers = NULL;

static int
guarded_sample(Relation relation, int elevel, HeapTuple *rows, int targrows,
			   double *totalrows, double *totaldeadrows)
{
	Oid			relid = RelationGetRelid(relation);
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	sampler    *entry = hash_search(samplers, &relid, HASH_FIND, NULL);
	rsl_guard	guard;
	int			result;

	if (entry == NULL)
		elog(ERROR, "no sampling function for relation %u", relid);
	if (!is_guarded(server))
	{
		call_begins(server);
		return entry->function(relation, elevel, rows, targrows, totalrows,
							   totaldeadrows);
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "analyze");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "analyze",
				call_begins(server),
				result = entry->function(relation, elevel, rows, targrows,
										 totalrows, totaldeadrows));
	rsl_guard_close(&guard);
	return result;
}

/*
 * An ANALYZE of many tables goes on without those that cannot be reached:
 * "false" makes the server skip one with a warning.
 */
static bool
guarded_analyze(Relation relation, AcquireSampleRowsFunc *function,
				BlockNumber *totalpages)
{
	Oid			relid = RelationGetRelid(relation);
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	rsl_guard	guard;
	sampler    *entry;
	bool		result;

	if (!is_guarded(server))
	{
		call_begins(server);
		return server->fdw->AnalyzeForeignTable(relation, function, totalpages);
	}

	if (rsl_breaker_blocks(server->breaker))
	{
		pg_atomic_fetch_add_u64(&rsl_breakers[server->breaker].rejected, 1);
		ereport(WARNING,
				(errcode(ERRCODE_BREAKER_OPEN),
				 errmsg("circuit breaker \"%s\" is open: foreign server \"%s\" is not asked for a sample",
						server->policy.name, server->policy.server_name)));
		return false;
	}

	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "analyze");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "analyze",
				call_begins(server),
				result = server->fdw->AnalyzeForeignTable(relation, function,
														  totalpages));
	rsl_guard_close(&guard);
	if (!result)
		return false;

	if (samplers == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(sampler);
		samplers = hash_create("resilience sampled tables", 16, &ctl,
							   HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(samplers, &relid, HASH_ENTER, NULL);
	entry->function = *function;
	*function = guarded_sample;
	return true;
}

static List *
guarded_import(ImportForeignSchemaStmt *stmt, Oid serverid)
{
	rsl_server *server = rsl_server_lookup(serverid);
	rsl_guard	guard;
	List	   *result;

	if (!is_guarded(server))
	{
		call_begins(server);
		return server->fdw->ImportForeignSchema(stmt, serverid);
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "import");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "import",
				call_begins(server),
				result = server->fdw->ImportForeignSchema(stmt, serverid));
	rsl_guard_close(&guard);
	if (server->is_postgres_fdw)
		rsl_remote_used(server, NULL, GetUserId());
	return result;
}

/* All tables of one call are of one server. */
static void
guarded_truncate(List *rels, DropBehavior behavior, bool restart_seqs)
{
	Oid			relid = RelationGetRelid((Relation) linitial(rels));
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	rsl_guard	guard;

	if (!is_guarded(server))
	{
		call_begins(server);
		server->fdw->ExecForeignTruncate(rels, behavior, restart_seqs);
		return;
	}
	rsl_guard_open(&guard, server->breaker, &server->policy, NULL, "truncate");
	RSL_GUARDED(&guard, FLAGS_BEGIN, "truncate",
				call_begins(server),
				server->fdw->ExecForeignTruncate(rels, behavior, restart_seqs));
	rsl_guard_close(&guard);
	if (server->is_postgres_fdw)
		rsl_remote_used(server, NULL, GetUserId());
}

/*
 * Replace the functions with which everything begins.  What is NULL stays
 * NULL where planner and executor draw conclusions from that.
 */
void
rsl_wrap_routine(FdwRoutine *routine)
{
	rsl_remote_prepare();
	routine->GetForeignRelSize = guarded_rel_size;
	routine->GetForeignPaths = guarded_paths;
	if (routine->GetForeignJoinPaths)
		routine->GetForeignJoinPaths = guarded_join_paths;
	if (routine->GetForeignUpperPaths)
		routine->GetForeignUpperPaths = guarded_upper_paths;
	routine->BeginForeignScan = guarded_begin_scan;
	if (routine->BeginDirectModify)
		routine->BeginDirectModify = guarded_begin_direct_modify;

	/* they only exist to be called, so they may be there without a reason */
	routine->BeginForeignModify = guarded_begin_modify;
	routine->BeginForeignInsert = guarded_begin_insert;

	if (routine->AnalyzeForeignTable)
		routine->AnalyzeForeignTable = guarded_analyze;
	if (routine->ImportForeignSchema)
		routine->ImportForeignSchema = guarded_import;
	if (routine->ExecForeignTruncate)
		routine->ExecForeignTruncate = guarded_truncate;
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_fdw_init(void)
{
	rsl_handler_init();
	rsl_remote_init();
}
