/*-------------------------------------------------------------------------
 *
 * fdw_scan.c
 *		Scans of foreign tables, and UPDATE and DELETE that are pushed down.
 *
 * While the breaker is closed the wrapper's Begin function is called when the
 * executor asks for it.  Otherwise nothing is done until the first row is
 * wanted: the executor starts plans that it never runs, such as those of
 * partitions that are pruned later, and those must not fail.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/fdw_node.h"
#include "breaker/rejection.h"
#include "breaker/remote.h"
#include "executor/execAsync.h"
#include "executor/executor.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"


typedef struct guarded_scan
{
	rsl_fdw_node base;
	int			eflags;
	bool		fresh;			/* the next row may mean a remote query */
	bool		empty;			/* answer with no rows */
	bool		pending;		/* an asynchronous answer is awaited */
	bool		in_worker;		/* to be rejected in a parallel worker */
	bool		direct;			/* a remote UPDATE or DELETE */
} guarded_scan;

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
	rsl_fdw_node *base = &scan->base;
	EState	   *estate = node->ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	base->guard = rsl_fdw_guard_of_query(base->server, estate);
	if (scan->direct)
		RSL_GUARDED(base->guard, RSL_FDW_BEGIN, "begin",
					rsl_fdw_call_begins(base->server),
					base->fdw->BeginDirectModify(node, scan->eflags));
	else
		RSL_GUARDED(base->guard, RSL_FDW_BEGIN, "begin",
					rsl_fdw_call_begins(base->server),
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

	rsl_fdw_node_init(&scan->base, server, rsl_scan_user(node));
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
	if (!rsl_fdw_is_guarded(server))
	{
		node->fdwroutine = unconstify(FdwRoutine *, server->fdw);
		if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
			rsl_fdw_call_begins(server);
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
	else if (rsl_fdw_is_closed(server) || server->fdw->InitializeDSMForeignScan)
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

void
rsl_wrap_scans(FdwRoutine *routine)
{
	routine->BeginForeignScan = guarded_begin_scan;
	if (routine->BeginDirectModify)
		routine->BeginDirectModify = guarded_begin_direct_modify;
}
