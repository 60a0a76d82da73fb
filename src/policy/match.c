/*-------------------------------------------------------------------------
 *
 * match.c
 *		Which bulkheads must a session or a statement pass?
 *
 * The conditions on role, database, address and application_name are judged
 * once; the list is made anew when a bulkhead was published, the session
 * user or a role's members changed, or, if a condition reads it, when
 * application_name changed.  That work reads catalogs and happens at the
 * beginning of a transaction, never within an admitted one.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/conditions.h"
#include "policy/match.h"
#include "policy/runaway_policy.h"
#include "port/pg_bitutils.h"
#include "shared/budget.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

rsl_match_list rsl_matches;

static const char *const command_names[RSL_NUM_COMMANDS] = {
	"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CALL", "DDL",
	"MAINTENANCE"
};

const char *
rsl_command_name(int command)
{
	return command_names[command];
}

/* Returns -1 when there is no such command. */
int
rsl_parse_command(const char *name)
{
	for (int i = 0; i < RSL_NUM_COMMANDS; i++)
	{
		if (pg_strcasecmp(command_names[i], name) == 0)
			return i;
	}
	return -1;
}

/* What kind of command is a statement? */
int
rsl_command_of(const PlannedStmt *stmt)
{
	switch (stmt->commandType)
	{
		case CMD_SELECT:
			return RSL_COMMAND_SELECT;
		case CMD_INSERT:
			return RSL_COMMAND_INSERT;
		case CMD_UPDATE:
			return RSL_COMMAND_UPDATE;
		case CMD_DELETE:
			return RSL_COMMAND_DELETE;
		case CMD_MERGE:
			return RSL_COMMAND_MERGE;
		default:
			break;
	}

	switch (nodeTag(stmt->utilityStmt))
	{
		case T_CopyStmt:
			return RSL_COMMAND_COPY;
		case T_CallStmt:
		case T_DoStmt:
			return RSL_COMMAND_CALL;
		case T_VacuumStmt:		/* and ANALYZE */
		case RSL_T_ClusterStmt:
		case T_ReindexStmt:
		case T_CheckPointStmt:
		case T_RefreshMatViewStmt:
			return RSL_COMMAND_MAINTENANCE;
		default:
			return RSL_COMMAND_DDL;
	}
}

static void
invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	rsl_matches.generation = 0;
}

/* At attach: notice GRANT and REVOKE of roles, and changes of superusers. */
void
rsl_match_init(void)
{
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, invalidate, (Datum) 0);
}

/*
 * Must the list be made anew?  A handful of comparisons: this runs in each
 * transaction.
 */
bool
rsl_match_stale(void)
{
	if (unlikely(rsl_matches.generation !=
				 pg_atomic_read_u64(&rsl_shmem->generation) ||
				 !rsl_matches.complete))
		return true;
	if (unlikely(rsl_matches.role != GetSessionUserId()))
		return true;
	return rsl_matches.uses_application_name &&
		strcmp(rsl_matches.application_name, application_name) != 0;
}

/*
 * Copy the bulkheads in force that concern a database, since nobody should
 * read catalogs, or match patterns, while holding an LWLock.  Returns how
 * many; the array is palloc'd.
 */
int
rsl_match_candidates(Oid database, rsl_candidate **candidates)
{
	int			n = 0;

	*candidates = NULL;
	if (pg_atomic_read_u32(&rsl_shmem->nmatchable) == 0)
		return 0;

	*candidates = palloc(rsl_shmem->nbulkheads * sizeof(rsl_candidate));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];

		if (!bulkhead->published || bulkhead->expired ||
			(OidIsValid(bulkhead->policy.conditions.database) &&
			 bulkhead->policy.conditions.database != database))
			continue;
		(*candidates)[n].index = i;
		(*candidates)[n].uid = bulkhead->uid;
		(*candidates)[n].policy = bulkhead->policy;
		if (bulkhead->reverted_at != 0)
			(*candidates)[n].policy.mode = RSL_MODE_OBSERVE;
		n++;
	}
	LWLockRelease(rsl_config_lock);
	return n;
}

/* The lower of two priorities of which each may be absent (-1). */
static int
lower_priority(int a, int b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

/* What match n wants of a statement. */
static void
add_statement_conditions(int n, const rsl_conditions *conditions)
{
	rsl_match_list *list = &rsl_matches;
	int			tag = -1;

	list->commands[n] = conditions->commands;
	list->query_ids[n] = conditions->query_id;
	list->compartment[n] = -1;
	if (conditions->tag_key[0] != '\0')
	{
		strlcpy(list->tag_values[n], conditions->tag_value, RSL_TAG_LEN);
		for (tag = 0; tag < list->ntags; tag++)
		{
			if (strcmp(list->tag_keys[tag], conditions->tag_key) == 0)
				break;
		}
		if (tag == list->ntags)
		{
			strlcpy(list->tag_keys[tag], conditions->tag_key, RSL_TAG_LEN);
			list->tags[tag].key = list->tag_keys[tag];
			list->ntags++;
		}
	}
	list->tag_of[n] = tag;
	if (tag >= 0 && conditions->tag_any_value)
		list->by_value |= UINT32_C(1) << n;

	if (rsl_conditions_judge_statements(conditions))
		list->uses_statement = true;
	else
		list->unconditional |= UINT32_C(1) << n;
}

/*
 * Make the list of this session's bulkheads, and bring its connection slots
 * up to date with them.  Not within an admitted transaction.
 */
void
rsl_match_session(void)
{
	rsl_match_list *list = &rsl_matches;
	rsl_session *me = rsl_me;
	rsl_candidate *candidates;
	bool	   *connects;
	bool	   *passes;
	bool		overflow = false;
	int			ncandidates;
	int			n = 0;
	uint64		generation;

	Assert(!rsl_admitted);

	/*
	 * Read the generation first: what changes meanwhile is noticed next time.
	 * An invalidation during the catalog look-ups resets it to 0, with the
	 * same effect; an error on the way leaves the list incomplete.
	 */
	list->complete = false;
	generation = pg_atomic_read_u64(&rsl_shmem->generation);
	list->role = GetSessionUserId();
	list->superuser = superuser_arg(list->role);
	list->uses_application_name = false;
	list->uses_statement = false;
	list->ntags = 0;
	strlcpy(list->application_name, application_name,
			sizeof(list->application_name));
	list->default_priority = -1;
	list->unconditional = 0;
	list->budgets = 0;
	list->by_value = 0;

	ncandidates = rsl_match_candidates(me->database, &candidates);
	connects = palloc0(ncandidates + 1);
	passes = palloc0(ncandidates + 1);
	list->generation = generation;
	for (int i = 0; i < ncandidates; i++)
	{
		rsl_bulkhead_policy *policy = &candidates[i].policy;
		bool		is_member;

		/* the connection: by what was known at authentication */
		is_member = rsl_conditions_is_member(&policy->conditions, me->role);
		connects[i] = !rsl_conditions_judge_statements(&policy->conditions) &&
			rsl_conditions_match_session(&policy->conditions, me->role, is_member,
										 me->database, &me->address,
										 me->application_name);

		/* its statements: by session user and application_name of now */
		if (list->role != me->role)
			is_member = rsl_conditions_is_member(&policy->conditions, list->role);
		if (policy->mode == RSL_MODE_OFF)
			continue;
		if (policy->conditions.application_name[0] != '\0' && is_member)
			list->uses_application_name = true;
		passes[i] = rsl_conditions_match_session(&policy->conditions, list->role, is_member,
												 me->database, &me->address,
												 application_name);
	}

	if (rsl_match_runaway_session())
		list->uses_application_name = true;

	/* from here on the list is another one, for whoever looks */
	me->nmatches = 0;
	pg_write_barrier();
	rsl_budget_lose_clock();
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < ncandidates; i++)
	{
		rsl_bulkhead_policy *policy = &candidates[i].policy;
		int			index = candidates[i].index;

		/* dropped while we looked at catalogs? */
		if (!rsl_bulkheads[index].published ||
			rsl_bulkheads[index].uid != candidates[i].uid)
			continue;

		if (connects[i])
			rsl_connection_take(me, index, true);
		else
			rsl_connection_give(me, index);

		if (!passes[i])
			continue;
		if (n >= RSL_MAX_MATCHES)
		{
			overflow = true;
			continue;
		}
		me->matches[n].index = me->matches[n].pool = index;
		me->matches[n].uid = candidates[i].uid;
		add_statement_conditions(n, &policy->conditions);

		if (rsl_policy_has_budget(policy))
			list->budgets |= UINT32_C(1) << n;
		list->priorities[n] = policy->mode == RSL_MODE_ENFORCE ?
			policy->priority : -1;
		if ((list->unconditional & (UINT32_C(1) << n)) != 0)
			list->default_priority = lower_priority(list->default_priority,
													list->priorities[n]);
		n++;
	}
	LWLockRelease(rsl_config_lock);
	pg_write_barrier();
	me->nmatches = n;
	list->complete = true;

	if (candidates)
		pfree(candidates);
	pfree(connects);
	pfree(passes);

	if (overflow)
	{
		pg_atomic_fetch_add_u64(&rsl_shmem->unmatched, 1);
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("session matches more than %d bulkheads",
						RSL_MAX_MATCHES),
				 errdetail("Those after the first %d are not enforced for it.",
						   RSL_MAX_MATCHES)));
	}
}

/* The statement has no tags. */
void
rsl_match_no_tags(void)
{
	for (int i = 0; i < rsl_matches.ntags; i++)
		rsl_matches.tags[i].found = false;
}

/*
 * Read the tags of a statement that the conditions ask for, and, if
 * "priority", the one that may lower its priority.
 */
void
rsl_match_read_tags(const rsl_statement *statement, bool priority)
{
	rsl_match_list *list = &rsl_matches;

	list->tags[list->ntags].found = false;
	if (priority)
		list->tags[list->ntags].key = rsl_priority_tag;
	rsl_statement_tags(statement, list->tags, list->ntags + (priority ? 1 : 0));
}

/* What the statement's own tag says; critical, which lowers nothing, if none. */
rsl_priority
rsl_match_tag_priority(void)
{
	rsl_tag    *tag = &rsl_matches.tags[rsl_matches.ntags];
	int			priority = -1;

	if (tag->found && !tag->cut)
		priority = rsl_parse_priority(tag->value);
	return priority < 0 ? RSL_PRIORITY_CRITICAL : priority;
}

/*
 * Which of the bulkheads with conditions on statements does one meet?  Its
 * tags have been read.
 */
uint32
rsl_match_statement(const rsl_statement *statement)
{
	rsl_match_list *list = &rsl_matches;
	uint32		command = UINT32_C(1) << rsl_command_of(statement->stmt);
	uint32		matched = 0;

	for (int i = 0; i < rsl_me->nmatches; i++)
	{
		if ((list->unconditional & (UINT32_C(1) << i)) != 0)
			continue;
		if (list->commands[i] != 0 && (list->commands[i] & command) == 0)
			continue;
		if (list->tag_of[i] >= 0)
		{
			rsl_tag    *tag = &list->tags[list->tag_of[i]];

			if (!tag->found ||
				((list->by_value & (UINT32_C(1) << i)) == 0 &&
				 (tag->cut || strcmp(tag->value, list->tag_values[i]) != 0)))
				continue;
		}
		if (list->query_ids[i] != 0 &&
			(uint64) list->query_ids[i] != rsl_statement_query_id(statement))
			continue;
		matched |= UINT32_C(1) << i;
	}
	return matched;
}

/*
 * The priority of this session's next transaction: the setting, or the
 * lowest of the matching bulkheads' if the setting is only a default; never
 * above what the session itself asks for.  "matched" has the bits of the
 * bulkheads with a condition on statements that this one meets.
 */
rsl_priority
rsl_session_priority(uint32 matched)
{
	int			priority = rsl_priority_setting;

	if (!rsl_priority_is_explicit)
	{
		int			by_bulkhead = rsl_matches.default_priority;

		for (matched &= ~rsl_matches.unconditional; matched != 0;
			 matched &= matched - 1)
			by_bulkhead = lower_priority(by_bulkhead,
										 rsl_matches.priorities[pg_rightmost_one_pos32(matched)]);
		if (by_bulkhead >= 0)
			priority = by_bulkhead;
	}
	return Min(priority, rsl_requested_priority);
}
