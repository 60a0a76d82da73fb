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
#include "catalog/pg_inherits.h"
#include "chaos/target.h"
#include "chaos/touched.h"
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
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static rsl_target *targets = NULL;

/* what the copies were made for */
static uint64 generation = 0;
static Oid	session_user = InvalidOid;
static char application[NAMEDATALEN];

/* relations of all targets */
static MemoryContext relations_context = NULL;

/* one of them has changed: it may have got another partition */
static bool relations_changed = false;

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
		target->relations = NULL;
		target->nrelations = 0;
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

static int
compare_oids(const void *a, const void *b)
{
	Oid			x = *(const Oid *) a;
	Oid			y = *(const Oid *) b;

	return x < y ? -1 : x > y;
}

static bool
is_in_set(const rsl_target *target, Oid relation)
{
	return target->nrelations > 0 &&
		bsearch(&relation, target->relations, target->nrelations, sizeof(Oid),
				compare_oids) != NULL;
}

static void
relation_changes(Datum arg, Oid relation)
{
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		if (targets[i].nrelations > 0 &&
			(!OidIsValid(relation) || is_in_set(&targets[i], relation)))
			relations_changed = true;
	}
}

static void
make_room(void)
{
	if (targets != NULL)
		return;
	targets = MemoryContextAllocZero(TopMemoryContext,
									 RSL_MAX_RUNS * sizeof(rsl_target));
	relations_context = AllocSetContextCreate(TopMemoryContext,
											  "resilience relations of experiments",
											  ALLOCSET_SMALL_SIZES);
	CacheRegisterRelcacheCallback(relation_changes, (Datum) 0);
}

/* Whoever touches a part of a relation, a partition say, touches it. */
static void
find_relations(rsl_target *target)
{
	List	   *list = find_all_inheritors(target->policy.relation, NoLock, NULL);
	Oid		   *relations = MemoryContextAlloc(relations_context,
											   list_length(list) * sizeof(Oid));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, list)
		relations[n++] = lfirst_oid(lc);
	qsort(relations, n, sizeof(Oid), compare_oids);
	target->relations = relations;
	target->nrelations = n;
	list_free(list);
}

void
rsl_targets_refresh(void)
{
	const char *name = application_name ? application_name : "";
	Oid			user = GetSessionUserId();

	if (likely(generation == pg_atomic_read_u64(&rsl_experiments->generation) &&
			   session_user == user && !relations_changed &&
			   strcmp(application, name) == 0))
		return;

	make_room();
	/* an error below leaves nothing that looks valid */
	generation = 0;
	session_user = InvalidOid;
	copy_runs();
	relations_changed = false;
	MemoryContextReset(relations_context);
	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		rsl_target *target = &targets[i];
		rsl_conditions *conditions = &target->policy.conditions;

		if (target->uid == 0 ||
			!rsl_conditions_match_session(conditions, user,
										  rsl_conditions_is_member(conditions, user),
										  MyDatabaseId, &rsl_me->address, name))
			continue;

		/* their OIDs mean something in one database only */
		if ((OidIsValid(target->policy.relation) ||
			 OidIsValid(target->policy.server)) &&
			target->policy.home_database != MyDatabaseId)
			continue;
		if (OidIsValid(target->policy.relation))
			find_relations(target);
		target->session = true;
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
	return rsl_me == NULL || rsl_me->superuser ||
		superuser_arg(GetSessionUserId()) || RecoveryInProgress();
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

static bool
plan_uses_schema(const Plan *plan, Oid schema)
{
	for (; plan != NULL; plan = outerPlan(plan))
	{
		if (uses_schema_walker((Node *) plan->targetlist, &schema))
			return true;
		if (IsA(plan, FunctionScan) &&
			uses_schema_walker((Node *) ((const FunctionScan *) plan)->functions,
							   &schema))
			return true;
	}
	return false;
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
	foreach(lc, stmt->subplans)
	{
		if (plan_uses_schema(lfirst(lc), schema))
			return true;
	}
	return plan_uses_schema(stmt->planTree, schema);
}

/* Is the relation that it is about, or a part of it, among those? */
static bool
concerns_relation(const rsl_target *target, List *touched)
{
	ListCell   *lc;

	foreach(lc, touched)
	{
		if (is_in_set(target, lfirst_oid(lc)))
			return true;
	}
	return false;
}

uint32
rsl_targets_of_statement(const rsl_statement *statement)
{
	uint32		armed = pg_atomic_read_u32(&rsl_shmem->chaos_armed);
	uint32		found = 0;
	List	   *touched = NIL;
	bool		looked = false;

	for (int i = 0; i < RSL_MAX_RUNS; i++)
	{
		const rsl_target *target = &targets[i];

		if ((armed & (UINT32_C(1) << i)) == 0 || !target->session ||
			!rsl_conditions_match_statement(&target->policy.conditions, statement))
			continue;
		if (OidIsValid(target->policy.relation))
		{
			if (!looked)
				touched = rsl_touched_relations(statement);
			looked = true;
			if (!concerns_relation(target, touched))
				continue;
		}
		found |= UINT32_C(1) << i;
	}
	list_free(touched);
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
