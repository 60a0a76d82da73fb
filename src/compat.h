/*-------------------------------------------------------------------------
 *
 * compat.h
 *		Everything that differs between PostgreSQL versions.
 *
 * PostgreSQL 15 is the base; 16, 17, 18 and 19 are told apart here and
 * nowhere else, so that each function elsewhere has one body.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_COMPAT_H
#define RSL_COMPAT_H

#include "postgres.h"

#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/queryjumble.h"
#else
#include "utils/queryjumble.h"
#endif
#include "nodes/pathnodes.h"
#include "optimizer/pathnode.h"
#include "optimizer/plancat.h"
#include "parser/parse_relation.h"
#include "pgstat.h"
#include "postmaster/postmaster.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/jsonb.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "resilience needs PostgreSQL 15 or newer"
#endif

/* module name and version, shown by pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define RSL_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "resilience", .version = RSL_VERSION)
#else
#define RSL_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* for functions that do not return; goes before everything else */
#if PG_VERSION_NUM >= 180000
#define RSL_NORETURN pg_noreturn
#else
#define RSL_NORETURN pg_attribute_noreturn()
#endif

/* ExecutorRun lost execute_once in 18 */
#if PG_VERSION_NUM >= 180000
#define RSL_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define RSL_EXECUTOR_RUN_ARGS	queryDesc, direction, count
#else
#define RSL_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define RSL_EXECUTOR_RUN_ARGS	queryDesc, direction, count, execute_once
#endif

/* planner() got the state of EXPLAIN in 19 */
#if PG_VERSION_NUM >= 190000
#define RSL_PLANNER_PARAMS \
	Query *parse, const char *query_string, int cursorOptions, \
	ParamListInfo boundParams, ExplainState *es
#define RSL_PLANNER_ARGS	parse, query_string, cursorOptions, boundParams, es
#else
#define RSL_PLANNER_PARAMS \
	Query *parse, const char *query_string, int cursorOptions, \
	ParamListInfo boundParams
#define RSL_PLANNER_ARGS	parse, query_string, cursorOptions, boundParams
#endif

/*
 * Called by the planner when it has looked up the properties of a relation;
 * from 19 on at the same place for what is no relation, too.
 */
#if PG_VERSION_NUM >= 190000
typedef build_simple_rel_hook_type rsl_relation_hook_type;
#define rsl_relation_hook	build_simple_rel_hook
#define RSL_RELATION_HOOK_PARAMS \
	PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte
#define RSL_RELATION_HOOK_ARGS	root, rel, rte
#else
typedef get_relation_info_hook_type rsl_relation_hook_type;
#define rsl_relation_hook	get_relation_info_hook
#define RSL_RELATION_HOOK_PARAMS \
	PlannerInfo *root, Oid relationObjectId, bool inhparent, RelOptInfo *rel
#define RSL_RELATION_HOOK_ARGS	root, relationObjectId, inhparent, rel
#endif

/* post_parse_analyze_hook may no longer change it from 19 on */
#if PG_VERSION_NUM >= 190000
typedef const JumbleState rsl_jumble_state;
#else
typedef JumbleState rsl_jumble_state;
#endif

/* what a signal handler hands on to another one */
#if PG_VERSION_NUM >= 190000
#define RSL_SIGNAL_PASSED_ON	postgres_signal_arg, pg_siginfo
#else
#define RSL_SIGNAL_PASSED_ON	postgres_signal_arg
#endif

/* CLUSTER; from 19 on REPACK, too */
#if PG_VERSION_NUM >= 190000
#define RSL_T_ClusterStmt	T_RepackStmt
#else
#define RSL_T_ClusterStmt	T_ClusterStmt
#endif

/* its table; NULL: all that were clustered before */
static inline RangeVar *
rsl_clustered_relation(Node *stmt)
{
#if PG_VERSION_NUM >= 190000
	VacuumRelation *relation = castNode(RepackStmt, stmt)->relation;

	return relation ? relation->relation : NULL;
#else
	return castNode(ClusterStmt, stmt)->relation;
#endif
}

/* Does a statement change this entry of its range table? */
static inline bool
rsl_is_result_relation(PlannedStmt *stmt, Index rtindex)
{
#if PG_VERSION_NUM >= 190000
	return bms_is_member(rtindex, stmt->resultRelationRelids);
#else
	return list_member_int(stmt->resultRelations, rtindex);
#endif
}

static inline TableScanDesc
rsl_table_beginscan(Relation relation, Snapshot snapshot)
{
#if PG_VERSION_NUM >= 190000
	return table_beginscan(relation, snapshot, 0, NULL, SO_NONE);
#else
	return table_beginscan(relation, snapshot, 0, NULL);
#endif
}

/* log_min_messages; from 19 on each kind of process has its own */
static inline int
rsl_log_min_messages(void)
{
#if PG_VERSION_NUM >= 190000
	return log_min_messages[MyBackendType];
#else
	return log_min_messages;
#endif
}

/* A jsonb value in the making; begins as {0}, ends with the result. */
#if PG_VERSION_NUM >= 190000
typedef JsonbInState rsl_jsonb_builder;
#else
typedef struct rsl_jsonb_builder
{
	JsonbParseState *state;
	JsonbValue *result;
} rsl_jsonb_builder;
#endif

static inline void
rsl_jsonb_push(rsl_jsonb_builder *builder, JsonbIteratorToken token, JsonbValue *value)
{
#if PG_VERSION_NUM >= 190000
	pushJsonbValue(builder, token, value);
#else
	builder->result = pushJsonbValue(&builder->state, token, value);
#endif
}

/* extra data of a GUC check hook: malloc'd up to 15, guc_malloc'd since */
static inline void *
rsl_guc_malloc(Size size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

/* May query identifiers be computed?  Only "off" forbids it. */
static inline bool
rsl_may_compute_query_id(void)
{
	return compute_query_id != COMPUTE_QUERY_ID_OFF;
}

/*
 * JumbleQuery() sets the identifier of a query; until 15 it wanted the text.
 * It asserts that a module has asked for identifiers, which EnableQueryId()
 * does for good, and we for one query.  If an error leaves the switch on, the
 * session computes identifiers that it could do without.
 */
static inline JumbleState *
rsl_jumble_query(Query *query, const char *text)
{
	bool		enabled = query_id_enabled;
	JumbleState *state;

	query_id_enabled = true;
#if PG_VERSION_NUM >= 160000
	state = JumbleQuery(query);
#else
	state = JumbleQuery(query, text);
#endif
	query_id_enabled = enabled;
	return state;
}

/*
 * Where the comments before a statement may begin, in a string of several.
 * Until 17 a statement's location is behind the semicolon of the one before
 * it, from 18 on it is that of its first token; then the string is read from
 * its beginning, but not so far that many statements would take long.
 */
static inline int
rsl_statement_scan_start(int location)
{
#if PG_VERSION_NUM >= 180000
	return location <= 65536 ? 0 : location;
#else
	return location;
#endif
}

/* a set of events to wait for, which the caller frees */
static inline WaitEventSet *
rsl_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(CurrentMemoryContext, nevents);
#endif
}

/* our index in the array of PGPROCs: 0 .. MaxBackends - 1 for a backend */
static inline int
rsl_my_slot_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/* the same, of another process */
static inline int
rsl_slot_number(PGPROC *proc)
{
#if PG_VERSION_NUM >= 170000
	return GetNumberFromPGProc(proc);
#else
	return proc->pgprocno;
#endif
}

/*
 * Our wait events have names of their own from 17 on; before, an extension
 * can only say "Extension".
 */
static inline uint32
rsl_admission_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ResilienceAdmission");
	return wait_event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

static inline uint32
rsl_backoff_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ResilienceBackoff");
	return wait_event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

static inline uint32
rsl_connection_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ResilienceConnection");
	return wait_event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

static inline uint32
rsl_chaos_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("ResilienceChaos");
	return wait_event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* when transaction_timeout (17 and later) ends this transaction */
static inline TimestampTz
rsl_transaction_timeout_at(void)
{
#if PG_VERSION_NUM >= 170000
	if (get_timeout_active(TRANSACTION_TIMEOUT))
		return get_timeout_finish_time(TRANSACTION_TIMEOUT);
#endif
	return DT_NOEND;
}

/* The record of a setting; NULL if there is none of that name. */
static inline struct config_generic *
rsl_find_setting(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, true, 0);
#else
	struct config_generic **settings = get_guc_variables();
	int			n = GetNumConfigOptions();

	for (int i = 0; i < n; i++)
	{
		if (pg_strcasecmp(settings[i]->name, name) == 0)
			return settings[i];
	}
	return NULL;
#endif
}

/* Call a function for each lock that a process holds or awaits, by partition */
typedef void (*rsl_proclock_callback) (PROCLOCK *proclock, void *arg);

static inline bool
rsl_proclocks_empty(PGPROC *proc, int partition)
{
#if PG_VERSION_NUM >= 160000
	return dlist_is_empty(&proc->myProcLocks[partition]);
#else
	return SHMQueueEmpty(&proc->myProcLocks[partition]);
#endif
}

static inline void
rsl_foreach_proclock(PGPROC *proc, int partition,
					 rsl_proclock_callback callback, void *arg)
{
#if PG_VERSION_NUM >= 160000
	dlist_iter	iter;

	dlist_foreach(iter, &proc->myProcLocks[partition])
		callback(dlist_container(PROCLOCK, procLink, iter.cur), arg);
#else
	SHM_QUEUE  *list = &proc->myProcLocks[partition];
	PROCLOCK   *proclock;

	proclock = (PROCLOCK *) SHMQueueNext(list, list,
										 offsetof(PROCLOCK, procLink));
	while (proclock != NULL)
	{
		callback(proclock, arg);
		proclock = (PROCLOCK *) SHMQueueNext(list, &proclock->procLink,
											 offsetof(PROCLOCK, procLink));
	}
#endif
}

/*
 * On whose behalf does a foreign scan, or a change of a foreign table, run?
 * That decides whose user mapping is used.
 */
static inline Oid
rsl_scan_user(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	Oid			user = InvalidOid;

#if PG_VERSION_NUM >= 160000
	user = plan->checkAsUser;
#else
	int			rtindex = plan->scan.scanrelid > 0 ? (int) plan->scan.scanrelid :
		bms_next_member(plan->fs_relids, -1);

	if (rtindex > 0)
		user = exec_rt_fetch(rtindex, node->ss.ps.state)->checkAsUser;
#endif
	return OidIsValid(user) ? user : GetUserId();
}

static inline Oid
rsl_result_user(ResultRelInfo *rinfo, EState *estate)
{
	Oid			user = InvalidOid;

#if PG_VERSION_NUM >= 160000
	user = ExecGetResultRelCheckAsUser(rinfo, estate);
#else
	Index		rtindex = rinfo->ri_RangeTableIndex;

	if (rtindex == 0 && rinfo->ri_RootResultRelInfo)
		rtindex = rinfo->ri_RootResultRelInfo->ri_RangeTableIndex;
	if (rtindex > 0 && rtindex <= estate->es_range_table_size)
		user = exec_rt_fetch(rtindex, estate)->checkAsUser;
#endif
	return OidIsValid(user) ? user : GetUserId();
}

/*
 * Range table entries and the privileges to be checked for them went separate
 * ways in 16.
 */

/* On whose behalf is a relation of a query read?  InvalidOid: the user's. */
static inline Oid
rsl_rte_user(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	return rte->perminfoindex == 0 ? InvalidOid :
		getRTEPermissionInfo(query->rteperminfos, rte)->checkAsUser;
#else
	return rte->checkAsUser;
#endif
}

/*
 * Put a subquery in the place of a relation, as the rewriter does with views:
 * the privileges on the relation are still checked, and plans depend on it.
 */
static inline void
rsl_rte_becomes_subquery(RangeTblEntry *rte, Query *subquery)
{
#if PG_VERSION_NUM >= 160000
	rte->relkind = RELKIND_VIEW;
#else
	subquery->rtable = lappend(subquery->rtable, copyObject(rte));
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->requiredPerms = 0;
	rte->checkAsUser = InvalidOid;
	rte->selectedCols = NULL;
	rte->insertedCols = NULL;
	rte->updatedCols = NULL;
	rte->extraUpdatedCols = NULL;
#endif
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	rte->security_barrier = false;
	rte->tablesample = NULL;
	rte->inh = false;
}

/*
 * Exchange a relation during planning.  The privilege to read the new one is
 * checked for the same user.  What was to be checked of the old one is added
 * to the list that is returned, for rsl_check_originals().
 */
static inline List *
rsl_rte_changes_relation(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte,
						 Oid relid, char relkind, List *originals)
{
	RangeTblEntry *original = copyObject(rte);

#if PG_VERSION_NUM >= 160000
	RTEPermissionInfo *info;

	if (rte->perminfoindex > 0)
	{
		info = getRTEPermissionInfo(root->parse->rteperminfos, rte);
		originals = lappend(lappend(originals, original), copyObject(info));
		info->relid = relid;
	}
	else
	{
		rte->relid = relid;
		info = addRTEPermissionInfo(&root->parse->rteperminfos, rte);
		info->checkAsUser = rel->userid;
	}
	info->requiredPerms |= ACL_SELECT;
#else
	if (rte->requiredPerms != 0)
		originals = lappend(originals, original);
	rte->requiredPerms |= ACL_SELECT;
#endif
	rte->relid = relid;
	rte->relkind = relkind;
	return originals;
}

/* Let the executor check what the exchanged relations were before. */
static inline void
rsl_check_originals(PlannedStmt *stmt, List *originals)
{
	for (int i = 0; i < list_length(originals); i++)
	{
		RangeTblEntry *rte = list_nth(originals, i);

#if PG_VERSION_NUM >= 160000
		stmt->permInfos = lappend(stmt->permInfos, list_nth(originals, ++i));
		rte->perminfoindex = list_length(stmt->permInfos);
#endif
		stmt->rtable = lappend(stmt->rtable, rte);
		stmt->relationOids = lappend_oid(stmt->relationOids, rte->relid);
	}
}

/* postgres_fdw connects by a blocking call of libpq, without interrupts */
#define RSL_BLOCKING_CONNECT	(PG_VERSION_NUM < 160000)

/* postgres_fdw lets others see its connections: see breaker/remote.c */
#define RSL_HAS_GET_CONNECTION	(PG_VERSION_NUM < 160000)

#if PG_VERSION_NUM >= 160000
#define rsl_owns_relation(relid, role) \
	object_ownercheck(RelationRelationId, relid, role)
#define rsl_owns_database(oid, role) \
	object_ownercheck(DatabaseRelationId, oid, role)
#else
#define rsl_owns_relation(relid, role)	pg_class_ownercheck(relid, role)
#define rsl_owns_database(oid, role)	pg_database_ownercheck(oid, role)
#endif

/* who may use the reserved connections besides superusers */
#if PG_VERSION_NUM >= 160000
#define rsl_may_use_reserved_connections(role) \
	has_privs_of_role(role, ROLE_PG_USE_RESERVED_CONNECTIONS)
#else
#define rsl_may_use_reserved_connections(role) false
#endif

/* connections that ordinary users cannot have */
static inline int
rsl_reserved_connections(void)
{
#if PG_VERSION_NUM >= 160000
	return SuperuserReservedConnections + ReservedConnections;
#else
	return ReservedBackends;
#endif
}

#endif							/* RSL_COMPAT_H */
