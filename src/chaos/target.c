/*-------------------------------------------------------------------------
 *
 * target.c
 *		Which runs of experiments is a session, or a statement, a target of?
 *
 * Each backend that meets an armed run keeps a copy of all runs, as of some
 * generation, and judges their conditions on sessions once.  Then a statement
 * is judged without a lock.  What ends a run (its deadline, its injections,
 * the lever, the launcher's silence) is looked at in shared memory each time.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "chaos/target.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "policy/conditions.h"
#include "policy/publish.h"
#include "shared/health_board.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static rsl_target *targets = NULL;

/* what the copies were made for */
static uint64 generation = 0;
static Oid	session_user = InvalidOid;
static bool is_superuser = false;
static char application[NAMEDATALEN];

/* Copy what is published; no catalogs are read while a lock is held. */
static void
copy_runs(void)
{
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_experiments_lock, LW_SHARED);
	generation = pg_atomic_read_u64(&rsl_experiments->generation);
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_run    *run = &rsl_experiments->runs[i];
		rsl_target *target = &targets[i];

		target->phase = pg_atomic_read_u32(&run->phase);
		target->uid = 0;
		target->session = false;
		if (run->experiment < 0 || target->phase == RSL_RUN_FREE ||
			target->phase == RSL_RUN_OVER)
			continue;
		target->uid = pg_atomic_read_u32(&run->uid);
		target->experiment = run->experiment;
		target->policy = rsl_experiments->experiments[run->experiment].policy;
	}
	LWLockRelease(rsl_experiments_lock);
	LWLockRelease(rsl_config_lock);
}

static void
make_room(void)
{
	if (targets == NULL)
		targets = MemoryContextAllocZero(TopMemoryContext,
										 RSL_MAX_RUNS * sizeof(rsl_target));
}

void
rsl_targets_refresh(void)
{
	const char *name = application_name ? application_name : "";
	Oid			user = GetSessionUserId();

	if (likely(generation == pg_atomic_read_u64(&rsl_experiments->generation) &&
			   session_user == user && strcmp(application, name) == 0))
		return;

	make_room();
	/* an error below leaves nothing that looks valid */
	generation = 0;
	session_user = InvalidOid;
	copy_runs();
	is_superuser = superuser_arg(user);
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_target *target = &targets[i];
		rsl_conditions *conditions = &target->policy.conditions;

		target->session = target->uid != 0 &&
			rsl_conditions_match_session(conditions, user,
										 rsl_conditions_is_member(conditions, user),
										 MyDatabaseId, &rsl_me->address, name);
	}
	strlcpy(application, name, sizeof(application));
	session_user = user;
}

const rsl_target *
rsl_target_of_run(int run)
{
	return &targets[run];
}

bool
rsl_session_is_spared(void)
{
	return is_superuser || rsl_me == NULL || rsl_me->superuser ||
		RecoveryInProgress();
}

static bool
is_in_range_table(List *rtable, Oid relation)
{
	ListCell   *lc;

	foreach(lc, rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->relid == relation)
			return true;
	}
	return false;
}

/*
 * Statements that use what is in our schema: a view or table, a function in
 * the select list of a plain SELECT, or in its FROM, a procedure.
 */

static bool
uses_schema_walker(Node *node, Oid *schema)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) &&
		get_func_namespace(((FuncExpr *) node)->funcid) == *schema)
		return true;
	if (IsA(node, RangeTblFunction))
		return uses_schema_walker(((RangeTblFunction *) node)->funcexpr, schema);
	return expression_tree_walker(node, uses_schema_walker, schema);
}

bool
rsl_statement_is_spared(const PlannedStmt *stmt)
{
	Oid			schema = get_namespace_oid(RSL_SCHEMA_NAME, true);
	ListCell   *lc;

	if (!OidIsValid(schema))
		return false;
	if (stmt->utilityStmt)
		return IsA(stmt->utilityStmt, CallStmt) &&
			uses_schema_walker((Node *) ((CallStmt *) stmt->utilityStmt)->funcexpr,
							   &schema);
	foreach(lc, stmt->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (OidIsValid(rte->relid) && get_rel_namespace(rte->relid) == schema)
			return true;
	}
	for (Plan *plan = stmt->planTree; plan != NULL; plan = outerPlan(plan))
	{
		if (uses_schema_walker((Node *) plan->targetlist, &schema))
			return true;
		if (IsA(plan, FunctionScan))
		{
			foreach(lc, ((FunctionScan *) plan)->functions)
			{
				if (uses_schema_walker(lfirst(lc), &schema))
					return true;
			}
		}
	}
	return false;
}

/* COPY, TRUNCATE, LOCK and the like say what they are about by name. */
static bool
utility_touches(const Node *statement, Oid relation)
{
	List	   *names = NIL;
	ListCell   *lc;

	switch (nodeTag(statement))
	{
		case T_CopyStmt:
			if (((const CopyStmt *) statement)->relation)
				names = list_make1(((const CopyStmt *) statement)->relation);
			break;
		case T_TruncateStmt:
			names = ((const TruncateStmt *) statement)->relations;
			break;
		case T_LockStmt:
			names = ((const LockStmt *) statement)->relations;
			break;
		case T_AlterTableStmt:
			names = list_make1(((const AlterTableStmt *) statement)->relation);
			break;
		case T_IndexStmt:
			names = list_make1(((const IndexStmt *) statement)->relation);
			break;
		default:
			break;
	}
	foreach(lc, names)
	{
		if (RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true) == relation)
			return true;
	}
	return false;
}

static bool
touches(const rsl_statement *statement, Oid relation)
{
	const PlannedStmt *stmt = statement->stmt;

	if (stmt->utilityStmt)
		return utility_touches(stmt->utilityStmt, relation);
	return is_in_range_table(stmt->rtable, relation);
}

uint32
rsl_targets_of_statement(const rsl_statement *statement)
{
	uint32		armed = pg_atomic_read_u32(&rsl_shmem->chaos_armed);
	uint32		found = 0;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		const rsl_target *target = &targets[i];

		if ((armed & (UINT32_C(1) << i)) != 0 && target->session &&
			(!OidIsValid(target->policy.relation) ||
			 touches(statement, target->policy.relation)) &&
			rsl_conditions_match_statement(&target->policy.conditions, statement))
			found |= UINT32_C(1) << i;
	}
	return found;
}

static bool
judges_statements(const rsl_experiment_policy *policy)
{
	return OidIsValid(policy->relation) ||
		rsl_conditions_judge_statements(&policy->conditions);
}

uint32
rsl_targets_of_session(void)
{
	uint32		armed = pg_atomic_read_u32(&rsl_shmem->chaos_armed);
	uint32		found = 0;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		if ((armed & (UINT32_C(1) << i)) != 0 && targets[i].session &&
			!judges_statements(&targets[i].policy))
			found |= UINT32_C(1) << i;
	}
	return found;
}

uint32
rsl_targets_of_connection(void)
{
	uint32		found = 0;

	if (rsl_me->superuser)
		return 0;
	make_room();
	/* the session's own copies are made later, for its session user */
	session_user = InvalidOid;
	copy_runs();
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_target *target = &targets[i];
		rsl_conditions *conditions = &target->policy.conditions;

		if (target->uid != 0 &&
			target->policy.impact == RSL_IMPACT_CONNECTION_REFUSED &&
			!judges_statements(&target->policy) &&
			rsl_conditions_match_session(conditions, rsl_me->role,
										 rsl_conditions_is_member(conditions, rsl_me->role),
										 rsl_me->database, &rsl_me->address,
										 rsl_me->application_name))
			found |= UINT32_C(1) << i;
	}
	return found;
}

bool
rsl_run_may_inject(int i)
{
	rsl_run    *run = &rsl_experiments->runs[i];
	const rsl_target *target = &targets[i];
	int64		now = rsl_now_us();
	int64		looked = (int64) pg_atomic_read_u64(&rsl_health_board->looked_us);

	if (pg_atomic_read_u32(&run->phase) != RSL_RUN_DURING ||
		pg_atomic_read_u32(&run->uid) != target->uid ||
		pg_atomic_read_u32(&rsl_experiments->lever) == 0 ||
		now >= (int64) pg_atomic_read_u64(&run->ends_us))
		return false;

	/* the dead man's switch: who would stop it? */
	if (now - looked > RSL_CHAOS_DEAD_MAN_MS * INT64CONST(1000))
		return false;
	if (target->policy.has_stop_condition &&
		now - (int64) pg_atomic_read_u64(&run->condition_us) >
		RSL_CHAOS_DEAD_MAN_MS * INT64CONST(1000))
		return false;
	return !RecoveryInProgress();
}
