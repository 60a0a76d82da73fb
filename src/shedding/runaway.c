/*-------------------------------------------------------------------------
 *
 * runaway.c
 *		Runaway rules: what a statement tells and is told.
 *
 * The launcher watches what runs (runaway_watch.c).  The statement itself only
 * leaves in its session's entry what can't be seen from outside: its kind, its
 * query id, the planner's estimate of its rows, and which conditions on tags it
 * meets.  That, and all else here, happens only while there are rules.
 *
 * What is known before a statement runs is judged before it runs: an estimate
 * beyond the limit, a query that is in quarantine.  Then nothing is started.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/match.h"
#include "policy/runaway_policy.h"
#include "port/pg_bitutils.h"
#include "shared/cancel.h"
#include "shared/refusal_log.h"
#include "shared/settings.h"
#include "shedding/admission.h"
#include "shedding/runaway.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* who is refused because others run the query is to come back after this */
#define LIMITED_RETRY_MS	1000

/*
 * The conditions on statements, by what our entry, or another one, has of the
 * statement; "tag" tells whether the one on tags holds.
 */
bool
rsl_runaway_meets_conditions(const rsl_conditions *conditions, int command,
							 uint64 query_id, bool tag)
{
	return (conditions->commands == 0 ||
			(conditions->commands & (UINT32_C(1) << command)) != 0) &&
		(conditions->query_id == 0 ||
		 (uint64) conditions->query_id == query_id) &&
		(conditions->tag_key[0] == '\0' || tag);
}

/* Is one of the limits exceeded?  What is not known (-1) exceeds none. */
bool
rsl_runaway_exceeds(const rsl_runaway_usage *usage,
					const rsl_runaway_usage *limits)
{
	return (limits->duration_ms >= 0 && usage->duration_ms > limits->duration_ms) ||
		(limits->cpu_ms >= 0 && usage->cpu_ms > limits->cpu_ms) ||
		(limits->temp_bytes >= 0 && usage->temp_bytes > limits->temp_bytes) ||
		(limits->rows_estimate >= 0 && usage->rows_estimate > limits->rows_estimate);
}

void
rsl_runaway_append_usage(StringInfo buf, const char *prefix,
						 const rsl_runaway_usage *usage)
{
	if (usage->duration_ms >= 0)
		appendStringInfo(buf, "%sduration_ms=" INT64_FORMAT " ", prefix,
						 usage->duration_ms);
	if (usage->cpu_ms >= 0)
		appendStringInfo(buf, "%scpu_ms=" INT64_FORMAT " ", prefix,
						 usage->cpu_ms);
	if (usage->temp_bytes >= 0)
		appendStringInfo(buf, "%stemp_bytes=" INT64_FORMAT " ", prefix,
						 usage->temp_bytes);
	if (usage->rows_estimate >= 0)
		appendStringInfo(buf, "%srows_estimate=%.0f ", prefix,
						 usage->rows_estimate);
}

/*
 * A statement has hit a rule: count it and, if wanted and possible, put its
 * query into quarantine.  Returns until when it is there; 0 = it is not.
 */
TimestampTz
rsl_runaway_hit(int index, uint32 uid, uint64 query_id, bool quarantine)
{
	rsl_runaway_rule *rule = &rsl_runaway->rules[index];
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = 0;

	pg_atomic_fetch_add_u64(&rule->hits, 1);
	pg_atomic_write_u64(&rule->last_hit, (uint64) now);
	pg_atomic_write_u64(&rule->last_query_id, query_id);
	if (!quarantine || query_id == 0)
		return 0;

	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
	if (rule->published && !rule->expired && rule->uid == uid)
		until = rsl_quarantine_put(index, query_id, now);
	LWLockRelease(rsl_config_lock);
	return until;
}

/* How many rows does the planner expect a statement to return or to change? */
static double
rows_estimate(const PlannedStmt *stmt)
{
	Plan	   *plan = stmt->planTree;

	if (plan == NULL)
		return 0;
	/* without RETURNING it returns none */
	if (IsA(plan, ModifyTable) && outerPlan(plan) != NULL)
		return Max(plan->plan_rows, outerPlan(plan)->plan_rows);
	return plan->plan_rows;
}

/*
 * Which rules' conditions on tags does a statement meet?  What they are is
 * kept here, as of some generation of the rules.
 */
static uint32
matching_tags(const rsl_statement *statement)
{
	static uint32 generation = 0;
	static uint32 rules = 0;
	static rsl_conditions *conditions = NULL;
	uint32		now = pg_atomic_read_u32(&rsl_runaway->generation);
	uint32		matching = 0;

	if (unlikely(generation != now))
	{
		if (conditions == NULL)
			conditions = MemoryContextAlloc(TopMemoryContext,
											RSL_MAX_RUNAWAY_RULES * sizeof(rsl_conditions));
		rules = 0;

		LWLockAcquire(rsl_config_lock, LW_SHARED);
		generation = pg_atomic_read_u32(&rsl_runaway->generation);
		for (int i = 0; i < rsl_runaway->max_rules; i++)
		{
			rsl_runaway_rule *rule = &rsl_runaway->rules[i];

			if (!rule->published || rule->policy.conditions.tag_key[0] == '\0')
				continue;
			rules |= UINT32_C(1) << i;

			conditions[i] = rule->policy.conditions;
		}
		LWLockRelease(rsl_config_lock);
	}

	for (uint32 left = rsl_me->runaway_rules & rules; left != 0; left &= left - 1)
	{
		int			i = pg_rightmost_one_pos32(left);

		if (rsl_conditions_match_statement(&conditions[i], statement))
			matching |= UINT32_C(1) << i;
	}
	return matching;
}

/*
 * Leave in our entry what rules want to know of a top-level statement.  Not
 * while its number is odd.
 */
void
rsl_runaway_describe_statement(const rsl_statement *statement)
{
	static const PlannedStmt *last_stmt = NULL;
	static uint64 last_query_id = 0;
	rsl_session *me = rsl_me;

	/* when it starts it may be parsed for this, when it runs it is not again */
	me->query_id = rsl_statement_query_id(statement);
	if (me->query_id == 0 && statement->stmt == last_stmt)
		me->query_id = last_query_id;
	last_stmt = statement->stmt;
	last_query_id = me->query_id;

	me->statement_command = (uint8) rsl_command_of(statement->stmt);
	me->rows_estimate = (float) rows_estimate(statement->stmt);
	me->tag_rules = matching_tags(statement);
}

/* An estimate that exceeds some rule's limit: which one's, if it is ours? */
static bool
find_rows_rule(double rows, int *index, uint32 *uid, rsl_runaway_policy *policy)
{
	rsl_session *me = rsl_me;
	bool		found = false;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];
		uint32		bit = UINT32_C(1) << i;

		if ((me->runaway_rules & bit) == 0 || !rule->published ||
			rule->expired || rule->policy.mode == RSL_MODE_OFF ||
			rule->policy.action < RSL_RUNAWAY_CANCEL ||
			rule->policy.limits.rows_estimate < 0 ||
			rows <= rule->policy.limits.rows_estimate ||
			!rsl_runaway_meets_conditions(&rule->policy.conditions,
										  me->statement_command, me->query_id,
										  (me->tag_rules & bit) != 0))
			continue;
		/* one that is enforced comes before one that observes */
		if (found && rule->policy.mode != RSL_MODE_ENFORCE)
			continue;
		*index = i;
		*uid = rule->uid;
		*policy = rule->policy;
		found = true;
		if (policy->mode == RSL_MODE_ENFORCE)
			break;
	}
	LWLockRelease(rsl_config_lock);
	return found;
}

/* A refusal is on its way: nobody is to come back to what we hold. */
static void
give_up_admission(void)
{
	if (!rsl_admitted)
		rsl_session_release();
}

static void
check_rows(double rows)
{
	rsl_runaway_policy policy;
	rsl_runaway_rule *rule;
	int			index;
	uint32		uid;
	bool		enforce;
	TimestampTz until;

	if (!find_rows_rule(rows, &index, &uid, &policy))
		return;
	enforce = policy.mode == RSL_MODE_ENFORCE &&
		rsl_mode_setting == RSL_MODE_ENFORCE;

	/* the launcher judges what only is to be counted */
	if (!enforce)
		return;
	rule = &rsl_runaway->rules[index];
	until = rsl_runaway_hit(index, uid, rsl_me->query_id,
							policy.action == RSL_RUNAWAY_QUARANTINE);
	pg_atomic_fetch_add_u64(&rule->cancelled, 1);
	rsl_refusal_unlogged = !rsl_time_to_log(&rule->last_logged);
	give_up_admission();
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("canceling statement due to runaway rule \"%s\"",
					policy.name),
			 errdetail("rows_estimate=%.0f max_rows_estimate=%.0f action=%s query_id=" INT64_FORMAT "%s%s started=false",
					   rows, policy.limits.rows_estimate,
					   rsl_runaway_action_name(policy.action),
					   (int64) rsl_me->query_id,
					   until != 0 ? " until=" : "",
					   until != 0 ? timestamptz_to_str(until) : ""),
			 errhint("The planner expects more rows than the rule allows. Narrow the query; SELECT * FROM resilience.runaway_rules shows the rule.")));
}

/* Returns true if the statement is to run with low priority. */
static bool
check_quarantine(void)
{
	rsl_session *me = rsl_me;
	TimestampTz now = GetCurrentTimestamp();
	rsl_quarantined *entry;
	rsl_runaway_rule *rule;
	uint32		use;
	TimestampTz until;
	int64		left_ms;
	uint32		max_running;
	uint32		running;
	char		name[NAMEDATALEN];

	entry = rsl_quarantine_find(me->query_id, me->runaway_rules, me->tag_rules,
								now, &use);
	if (entry == NULL || rsl_mode_setting != RSL_MODE_ENFORCE)
		return false;
	if (pg_atomic_read_u32(&entry->action) == RSL_RUNAWAY_LOWER_PRIORITY)
		return true;
	if (rsl_quarantine_enter(me, entry, use))
		return false;

	rule = &rsl_runaway->rules[pg_atomic_read_u32(&entry->rule)];
	until = (TimestampTz) pg_atomic_read_u64(&entry->until);
	max_running = pg_atomic_read_u32(&entry->max_running);
	running = (uint32) pg_atomic_read_u64(&entry->word);
	pg_atomic_fetch_add_u64(&entry->refused, 1);
	pg_atomic_fetch_add_u64(&rule->refused, 1);
	left_ms = Max((until - now) / 1000, 1);
	if (max_running > 0)
		left_ms = Min(left_ms, LIMITED_RETRY_MS);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	strlcpy(name, rule->policy.name, sizeof(name));
	LWLockRelease(rsl_config_lock);
	rsl_refusal_unlogged = !rsl_time_to_log(&rule->last_logged);
	give_up_admission();
	ereport(ERROR,
			(errcode(ERRCODE_STATEMENT_SHED),
			 errmsg("query is in quarantine by runaway rule \"%s\"", name),
			 errdetail("query_id=" INT64_FORMAT " limit=%u running=%u until=%s started=false retry_after_ms=" INT64_FORMAT,
					   (int64) me->query_id, max_running, running,
					   timestamptz_to_str(until), left_ms),
			 errhint("It went beyond a limit of the rule. SELECT resilience.release_quarantine(" INT64_FORMAT ") lets it run again.",
					 (int64) me->query_id)));
	return false;				/* keep compiler quiet */
}

/*
 * A top-level statement is about to start, and there are rules.  Raises an
 * error if it may not; returns true if it is to run with low priority.
 */
bool
rsl_runaway_statement_starts(const rsl_statement *statement)
{
	uint64		bits;
	double		limit;
	double		rows;

	if (rsl_matches.superuser || rsl_me->runaway_rules == 0 ||
		!rsl_cancel_outermost())
		return false;

	rsl_runaway_describe_statement(statement);
	bits = pg_atomic_read_u64(&rsl_runaway->rows_limit);
	memcpy(&limit, &bits, sizeof(limit));
	rows = rows_estimate(statement->stmt);
	if (unlikely(rows > limit))
		check_rows(rows);
	return unlikely(pg_atomic_read_u32(&rsl_shmem->nquarantined) != 0) &&
		check_quarantine();
}

/* What the client of a cancelled statement is told. */
static void
describe_runaway(const rsl_cancel *cancel, ErrorData *edata)
{
	rsl_runaway_note *note = &rsl_runaway->noted[cancel->detail % RSL_RUNAWAY_NOTES];
	rsl_runaway_note copy = {0};
	bool		valid;
	StringInfoData detail;

	valid = pg_atomic_read_u32(&note->number) == (uint32) cancel->detail;
	pg_read_barrier();
	if (valid)
	{
		memcpy((char *) &copy + offsetof(rsl_runaway_note, rule_uid),
			   (char *) note + offsetof(rsl_runaway_note, rule_uid),
			   sizeof(copy) - offsetof(rsl_runaway_note, rule_uid));
		pg_read_barrier();
		valid = pg_atomic_read_u32(&note->number) == (uint32) cancel->detail;
	}

	initStringInfo(&detail);
	if (!valid)
	{
		/* it took so long to end that others have been told since */
		edata->message = pstrdup(_("canceling statement due to a runaway rule"));
		appendStringInfo(&detail, "statement=%u started=true", cancel->statement);
	}
	else
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[copy.rule];

		if (rule->uid == copy.rule_uid)
			pg_atomic_fetch_add_u64(&rule->cancelled, 1);
		edata->message = psprintf(_("canceling statement due to runaway rule \"%s\""),
								  copy.rule_name);
		rsl_runaway_append_usage(&detail, "", &copy.usage);
		rsl_runaway_append_usage(&detail, "max_", &copy.limits);
		appendStringInfo(&detail, "action=%s query_id=" INT64_FORMAT,
						 rsl_runaway_action_name(copy.action),
						 (int64) copy.query_id);
		if (copy.until != 0)
			appendStringInfo(&detail, " until=%s", timestamptz_to_str(copy.until));
		appendStringInfoString(&detail, " started=true");
	}
	edata->detail = detail.data;
	edata->hint = pstrdup(valid && copy.until != 0 ?
						  _("It went beyond a limit of the rule, and its query is in quarantine now.") :
						  _("It went beyond a limit of the rule. SELECT * FROM resilience.runaway_rules shows the rule."));
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_runaway_init(void)
{
	rsl_cancel_register(RSL_CANCEL_RUNAWAY, describe_runaway);
}
