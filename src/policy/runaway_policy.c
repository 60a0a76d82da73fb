/*-------------------------------------------------------------------------
 *
 * runaway_policy.c
 *		Runaway rules: from the extension's table to shared memory.
 *
 * The same way as bulkheads: see publish.c.  A rule is about sessions and
 * about statements.  Conditions on sessions need catalogs, so each session
 * judges itself by them, at the same moments as by the bulkheads' conditions,
 * and keeps a bit for each rule in its entry.  A new rule must also hold for
 * what runs already: whoever publishes it sets the bits of the sessions that
 * are there.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "policy/match.h"
#include "policy/publish.h"
#include "policy/query_ids.h"
#include "policy/runaway_policy.h"
#include "shared/cancel.h"
#include "shared/settings.h"
#include "utils/backend_status.h"

static const char *const action_names[] = {
	"observe", "lower_priority", "cancel", "quarantine"
};

const char *
rsl_runaway_action_name(int action)
{
	return action_names[action];
}

/* Returns -1 when there is no such action. */
int
rsl_parse_runaway_action(const char *word)
{
	for (int i = 0; i < lengthof(action_names); i++)
	{
		if (pg_strcasecmp(action_names[i], word) == 0)
			return i;
	}
	return -1;
}

/* An interval as a limit in milliseconds: 0 in the table means none. */
static int64
limit_ms(HeapTuple tuple, TupleDesc desc, int column)
{
	double		ms = rsl_interval_column_ms(tuple, desc, column, 0);

	return ms <= 0 ? -1 : Max((int64) ms, 1);
}

static bool
from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_runaway_policy *policy = result;
	bool		isnull;
	Datum		datum;

	strlcpy(policy->name, rsl_text_column(tuple, desc, RSL_COL_NAME),
			NAMEDATALEN);
	policy->limits.duration_ms = limit_ms(tuple, desc, RSL_RCOL_MAX_DURATION);
	policy->limits.cpu_ms = limit_ms(tuple, desc, RSL_RCOL_MAX_CPU);
	datum = heap_getattr(tuple, RSL_RCOL_MAX_TEMP_BYTES, desc, &isnull);
	policy->limits.temp_bytes = isnull ? -1 : DatumGetInt64(datum);
	policy->limits.rows_estimate =
		rsl_float_column(tuple, desc, RSL_RCOL_MAX_ROWS_ESTIMATE, -1);
	policy->action = rsl_parse_runaway_action(rsl_text_column(tuple, desc, RSL_RCOL_ACTION));
	policy->quarantine_ms = (int64)
		rsl_interval_column_ms(tuple, desc, RSL_RCOL_QUARANTINE_DURATION, 600000);
	policy->quarantine_max_running =
		rsl_int_column(tuple, desc, RSL_RCOL_QUARANTINE_MAX_RUNNING, 0);
	policy->mode = rsl_parse_mode(rsl_text_column(tuple, desc, RSL_RCOL_MODE));
	datum = heap_getattr(tuple, RSL_RCOL_EXPIRES_AT, desc, &isnull);
	policy->expires_at = isnull ? DT_NOEND : DatumGetTimestampTz(datum);
	return rsl_conditions_from_tuple(tuple, desc, &policy->conditions);
}

static int
find_rule(Oid home_database, const char *name)
{
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];

		if (rule->published && rule->policy.home_database == home_database &&
			strcmp(rule->policy.name, name) == 0)
			return i;
	}
	return -1;
}

/* Without what other databases have in force. */
rsl_room
rsl_runaway_room(void)
{
	rsl_room	room = {.singular = "runaway rule",.plural = "runaway rules",
	.limit = rsl_runaway->max_rules,.free = -1};

	if (room.limit < RSL_MAX_RUNAWAY_RULES)
		room.setting = "resilience.max_runaway_rules";
	return room;
}

/* Read this database's definitions. */
void
rsl_read_runaway_rules(rsl_runaway_set *set)
{
	rsl_policy_rows rows;

	rsl_read_rows(RSL_RUNAWAY_RULES_NAME, sizeof(rsl_runaway_policy), from_tuple, &rows);
	set->npolicies = rows.n;
	set->policies = rows.policies;
	set->written = rows.written;
}

/* Leave out those that there is no room for. */
void
rsl_fit_runaway_rules(rsl_runaway_set *set)
{
	rsl_room	room = rsl_runaway_room();
	bool	   *in_force = palloc(set->npolicies * sizeof(bool) + 1);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		if (rsl_runaway->rules[i].published &&
			rsl_runaway->rules[i].policy.home_database != set->home_database)
			room.others++;
	}
	for (int p = 0; p < set->npolicies; p++)
		in_force[p] = find_rule(set->home_database, set->policies[p].name) >= 0;
	LWLockRelease(rsl_config_lock);
	set->npolicies = rsl_fit_rows(&room, set->npolicies, set->policies,
								  sizeof(rsl_runaway_policy), in_force,
								  set->written, &set->left_out);
}

/* The application_name that a session has now; false if it cannot be read. */
static bool
current_application_name(rsl_session *session, char *name)
{
	volatile PgBackendStatus *status = session->status;

	for (int tries = 0; tries < 10 && status != NULL; tries++)
	{
		int			before;
		int			after;

		pgstat_begin_read_activity(status, before);
		memcpy(name, (char *) status->st_appname, NAMEDATALEN);
		pgstat_end_read_activity(status, after);
		name[NAMEDATALEN - 1] = '\0';
		if (pgstat_read_activity_complete(before, after))
			return true;
	}
	return false;
}

/*
 * Which of the present sessions are the rules about?  Asked before the commit,
 * since memberships are in catalogs; by the role that has logged in.  Each
 * session judges itself again at its next transaction.
 */
void
rsl_match_runaway_sessions(rsl_runaway_set *set)
{
	set->nsessions = set->npolicies > 0 ? rsl_shmem->nsessions : 0;
	set->pids = palloc0(set->nsessions * sizeof(pid_t) + 1);
	set->matches = palloc0(set->nsessions * sizeof(uint32) + 1);
	for (int s = 0; s < set->nsessions; s++)
	{
		rsl_session *session = &rsl_sessions[s];
		char		name[NAMEDATALEN];

		CHECK_FOR_INTERRUPTS();
		set->pids[s] = session->pid;

		if (session->pid == 0)
			continue;
		if (!current_application_name(session, name))
			strlcpy(name, session->application_name, NAMEDATALEN);
		for (int p = 0; p < Min(set->npolicies, RSL_MAX_RUNAWAY_RULES); p++)
		{
			rsl_conditions *conditions = &set->policies[p].conditions;

			if (rsl_conditions_match_session(conditions, session->role,
											 rsl_conditions_is_member(conditions,
																	  session->role),
											 session->database,
											 &session->address, name))
				set->matches[s] |= UINT32_C(1) << p;
		}
	}
}

/*
 * Config lock held exclusively: make known what is in force.  Sessions match
 * themselves anew when the bulkheads' publisher has announced that, too.
 */
static void
announce(void)
{
	uint32		n = 0;
	bool		query_ids = false;
	double		rows_limit = HUGE_VAL;
	uint64		bits;

	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];

		if (!rule->published || rule->expired ||
			rule->policy.mode == RSL_MODE_OFF)
			continue;
		n++;
		query_ids |= rule->policy.conditions.query_id != 0 ||
			rule->policy.action == RSL_RUNAWAY_LOWER_PRIORITY ||
			rule->policy.action == RSL_RUNAWAY_QUARANTINE;
		if (rule->policy.action >= RSL_RUNAWAY_CANCEL &&
			rule->policy.limits.rows_estimate >= 0)
			rows_limit = Min(rows_limit, rule->policy.limits.rows_estimate);
	}
	memcpy(&bits, &rows_limit, sizeof(bits));
	pg_atomic_write_u64(&rsl_runaway->rows_limit, bits);
	pg_atomic_fetch_add_u32(&rsl_runaway->generation, 1);
	pg_write_barrier();
	pg_atomic_write_u32(&rsl_shmem->nrunaway_rules, n);
	rsl_want_query_ids(RSL_QUERY_IDS_RULES, query_ids);
	rsl_cancel_arm(RSL_CANCEL_BY_RUNAWAY, n > 0);
}

/* Config lock held exclusively, or nobody else is there yet. */
static void
put_rule(int index, const rsl_runaway_policy *policy)
{
	rsl_runaway_rule *rule = &rsl_runaway->rules[index];

	if (!rule->published)
	{
		rule->uid = ++rsl_runaway->last_uid;
		rsl_runaway_reset_statistics(index);
		pg_atomic_write_u64(&rule->last_hit, 0);
		pg_atomic_write_u64(&rule->last_query_id, 0);
		pg_atomic_write_u32(&rule->last_logged, 0);
	}
	else if (memcmp(&rule->policy, policy, sizeof(*policy)) != 0)
		rsl_quarantine_drop_rule(index);	/* it was by what the rule said */
	rule->policy = *policy;
	rule->published = true;
	rule->expired = policy->expires_at <= GetCurrentTimestamp();
}

static void
note_definition(const rsl_runaway_policy *policy, const char *what)
{
	char		numbers[96];

	snprintf(numbers, sizeof(numbers), "mode=%s action=%s",
			 rsl_mode_name(policy->mode),
			 rsl_runaway_action_name(policy->action));
	rsl_definition_event(RSL_EVENT_RUNAWAY_RULE, policy->home_database,
						 policy->name, what, numbers);
}

static int
free_rule(void)
{
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		if (!rsl_runaway->rules[i].published)
			return i;
	}
	return -1;
}

/*
 * Replace the rules of one database.  Config lock held exclusively; must not
 * fail.
 */
void
rsl_publish_runaway_rules(const rsl_runaway_set *set)
{
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];
		bool		kept = false;

		if (!rule->published ||
			rule->policy.home_database != set->home_database)
			continue;
		for (int p = 0; p < set->npolicies && !kept; p++)
			kept = strcmp(set->policies[p].name, rule->policy.name) == 0;
		if (kept)
			continue;
		rsl_definition_event(RSL_EVENT_RUNAWAY_RULE, set->home_database,
							 rule->policy.name, "dropped", "");
		rule->published = false;
		rsl_quarantine_drop_rule(i);
		for (int s = 0; s < rsl_shmem->nsessions; s++)
			rsl_sessions[s].runaway_rules &= ~(UINT32_C(1) << i);
	}

	for (int p = 0; p < set->npolicies; p++)
	{
		int			index = find_rule(set->home_database, set->policies[p].name);
		uint32		bit;

		if (index < 0)
		{
			note_definition(&set->policies[p], "created");
			index = free_rule();
		}
		else if (memcmp(&rsl_runaway->rules[index].policy, &set->policies[p],
						sizeof(rsl_runaway_policy)) != 0)
			note_definition(&set->policies[p], "changed");
		if (index < 0)
		{
			/* cannot be: rsl_fit_runaway_rules() saw to it */
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("runaway rule \"%s\" is not in force: no room in shared memory",
							set->policies[p].name)));
			continue;
		}
		put_rule(index, &set->policies[p]);
		bit = UINT32_C(1) << index;
		for (int s = 0; s < set->nsessions; s++)
		{
			rsl_session *session = &rsl_sessions[s];

			if (session->pid == 0 || session->pid != set->pids[s])
				continue;
			if (set->matches[s] & (UINT32_C(1) << p))
				session->runaway_rules |= bit;

			else
				session->runaway_rules &= ~bit;

			/* what it holds of a tag was judged by another rule */
			session->tag_rules &= ~bit;
		}
	}
	announce();
}

/* While the server starts: put one policy of the snapshot file into force. */
bool
rsl_publish_runaway_rule_at_start(const rsl_runaway_policy *policy)
{
	int			index = free_rule();

	if (index < 0)
		return false;
	put_rule(index, policy);
	announce();
	return true;
}

/* Does what is in force differ from this?  Config lock held. */
bool
rsl_runaway_rules_differ(const rsl_runaway_set *set)
{
	int			in_force = 0;

	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		if (rsl_runaway->rules[i].published &&
			rsl_runaway->rules[i].policy.home_database == set->home_database)
			in_force++;
	}
	if (in_force != set->npolicies)
		return true;
	for (int p = 0; p < set->npolicies; p++)
	{
		int			index = find_rule(set->home_database, set->policies[p].name);

		if (index < 0 ||
			memcmp(&rsl_runaway->rules[index].policy, &set->policies[p],
				   sizeof(rsl_runaway_policy)) != 0)
			return true;
	}
	return false;
}

/* Called by the launcher: end what has expired. */
void
rsl_expire_runaway_rules(TimestampTz now)
{
	bool		changed = false;

	if (!rsl_runaway_active())
		return;
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		/* (read without the lock: it is looked at again below) */
		if (rsl_runaway->rules[i].published && !rsl_runaway->rules[i].expired &&
			rsl_runaway->rules[i].policy.expires_at <= now)
			changed = true;
	}
	if (!changed)
		return;

	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];

		if (!rule->published || rule->expired || rule->policy.expires_at > now)
			continue;
		rule->expired = true;
		rsl_quarantine_drop_rule(i);
		rsl_event(RSL_EVENT_RUNAWAY_RULE, rule->policy.home_database,
				  rule->policy.name, rsl_mode_name(rule->policy.mode), "expired",
				  "expires_at=\"%s\"", timestamptz_to_str(rule->policy.expires_at));
	}
	announce();
	LWLockRelease(rsl_config_lock);
}

/*
 * Judge this session by the rules' conditions on sessions.  Reads catalogs,
 * not within an admitted transaction.  Returns whether application_name counts.
 */
bool
rsl_match_runaway_session(void)
{
	bool		uses_application_name = false;
	uint32		uids[RSL_MAX_RUNAWAY_RULES] = {0};
	uint32		matches = 0;
	rsl_conditions *conditions;

	if (!rsl_runaway_active())
		return false;

	/* a copy: nobody should read catalogs while holding an LWLock */
	conditions = palloc(RSL_MAX_RUNAWAY_RULES * sizeof(rsl_conditions));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		if (!rsl_runaway->rules[i].published)
			continue;
		uids[i] = rsl_runaway->rules[i].uid;
		conditions[i] = rsl_runaway->rules[i].policy.conditions;
	}
	LWLockRelease(rsl_config_lock);

	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		bool		is_member;

		if (uids[i] == 0)
			continue;
		is_member = rsl_conditions_is_member(&conditions[i], rsl_matches.role);
		if (conditions[i].application_name[0] != '\0' && is_member)
			uses_application_name = true;
		if (rsl_conditions_match_session(&conditions[i], rsl_matches.role,
										 is_member, rsl_me->database,
										 &rsl_me->address, application_name))
			matches |= UINT32_C(1) << i;
	}

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		/* dropped while we looked at catalogs?  Then we are asked again */
		if (!rsl_runaway->rules[i].published ||
			rsl_runaway->rules[i].uid != uids[i])
			matches &= ~(UINT32_C(1) << i);
	}
	rsl_me->runaway_rules = matches;
	LWLockRelease(rsl_config_lock);
	pfree(conditions);
	return uses_application_name;
}
