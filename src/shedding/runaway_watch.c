/*-------------------------------------------------------------------------
 *
 * runaway_watch.c
 *		Runaway rules: the launcher watches what runs.
 *
 * At each tick, as long as there is a rule, it looks at each session that runs
 * a statement, compares what it has used with the limits of the rules that it
 * matches, and acts.  The statement itself takes no part in that.
 *
 * A statement is known by its number (shared/cancel.c).  Time and CPU time
 * count from when it was first seen, which is at most a tick after it began:
 * neither what it waited for admission counts, nor other statements that were
 * sent in the same message.  If the launcher did not watch when it began (there
 * was no rule), the time counts from when the client sent it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/runaway_policy.h"
#include "port/pg_bitutils.h"
#include "shared/cancel.h"
#include "shared/events.h"
#include "shared/pool.h"
#include "shared/process_cpu.h"
#include "shared/refusal_log.h"
#include "shared/temp_files.h"
#include "shedding/runaway.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* What we know of the statement of a session. */
typedef struct watched
{
	uint32		statement;
	uint32		hits;			/* bit i: it has hit rule i */
	TimestampTz since;
	int64		cpu_before_us;	/* -1 = not known yet */
	int64		cpu_us;
} watched;

/* The rules in force, as of some generation of them. */
static struct
{
	uint32		generation;
	uint32		in_force;		/* bit i: there is rule i */
	uint32		want_cpu;
	uint32		want_temp;
	uint32		uids[RSL_MAX_RUNAWAY_RULES];
	rsl_runaway_policy policies[RSL_MAX_RUNAWAY_RULES];
}			rules;

static watched *sessions = NULL;
static int64 *temp_bytes;
static int64 *workers_cpu_us;
static bool watching = false;

static void
read_rules(void)
{
	rules.in_force = rules.want_cpu = rules.want_temp = 0;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	rules.generation = pg_atomic_read_u32(&rsl_runaway->generation);

	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];
		uint32		bit = UINT32_C(1) << i;

		if (!rule->published || rule->expired ||
			rule->policy.mode == RSL_MODE_OFF)
			continue;
		/* another rule has not been hit by what runs */
		if (rules.uids[i] != rule->uid)
		{
			for (int s = 0; s < rsl_shmem->nsessions; s++)
				sessions[s].hits &= ~bit;
		}
		rules.in_force |= bit;
		rules.uids[i] = rule->uid;
		rules.policies[i] = rule->policy;

		if (rule->policy.limits.cpu_ms >= 0)
			rules.want_cpu |= bit;

		if (rule->policy.limits.temp_bytes >= 0)
			rules.want_temp |= bit;
	}
	LWLockRelease(rsl_config_lock);
}

/* What parallel workers have used, for their leaders. */
static void
read_workers(void)
{
	memset(workers_cpu_us, 0, rsl_shmem->nsessions * sizeof(int64));
	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		volatile PGPROC *proc = GetPGProcByNumber(i);
		PGPROC	   *leader = proc->lockGroupLeader;

		if (leader == NULL || leader == proc || proc->pid == 0)
			continue;
		workers_cpu_us[rsl_slot_number(leader)] +=
			Max(rsl_process_cpu_us(proc->pid), 0);
	}
}

/*
 * CPU time of a session's statement, with the workers that it has now.  Those
 * that have ended are not forgotten: it never becomes less.
 */
static int64
cpu_ms(int number, rsl_session *session, watched *w)
{
	int64		now_us = rsl_process_cpu_us(session->pid);

	if (now_us < 0)
		return -1;
	if (w->cpu_before_us < 0)
		w->cpu_before_us = now_us;
	w->cpu_us = Max(w->cpu_us,
					now_us - w->cpu_before_us + workers_cpu_us[number]);
	return w->cpu_us / 1000;
}

/* Have the statement cancelled, with numbers to tell its client. */
static void
cancel(rsl_session *session, uint32 statement, int rule, uint64 query_id,
	   TimestampTz until, const rsl_runaway_usage *usage)
{
	const rsl_runaway_policy *policy = &rules.policies[rule];
	uint32		number;
	rsl_runaway_note *note;

	number = (pg_atomic_read_u32(&rsl_runaway->notes) + 1) & RSL_CANCEL_DETAIL_MAX;
	if (number == 0)
		number = RSL_RUNAWAY_NOTES;
	pg_atomic_write_u32(&rsl_runaway->notes, number);
	note = &rsl_runaway->noted[number % RSL_RUNAWAY_NOTES];

	pg_atomic_write_u32(&note->number, 0);
	pg_write_barrier();
	note->rule_uid = rules.uids[rule];

	note->rule = rule;
	note->action = policy->action;
	strlcpy(note->rule_name, policy->name, NAMEDATALEN);
	note->query_id = query_id;
	note->until = until;
	note->usage = *usage;
	note->limits = policy->limits;
	pg_write_barrier();
	pg_atomic_write_u32(&note->number, number);

	rsl_cancel_statement(session, statement, RSL_CANCEL_RUNAWAY, (int) number);
}

static void
act(rsl_session *session, uint32 statement, int rule, bool observed,
	uint64 query_id, const rsl_runaway_usage *usage)
{
	const rsl_runaway_policy *policy = &rules.policies[rule];
	int			action = observed || policy->mode != RSL_MODE_ENFORCE ?
		RSL_RUNAWAY_OBSERVE : policy->action;
	pid_t		pid = session->pid;
	TimestampTz until;

	until = rsl_runaway_hit(rule, rules.uids[rule], query_id,
							action == RSL_RUNAWAY_QUARANTINE ||
							action == RSL_RUNAWAY_LOWER_PRIORITY);
	if (action == RSL_RUNAWAY_LOWER_PRIORITY)
		pg_atomic_write_u32(&session->demoted, statement);
	else if (action >= RSL_RUNAWAY_CANCEL)
		cancel(session, statement, rule, query_id, until, usage);

	if (rsl_time_to_log(&rsl_runaway->rules[rule].last_logged))
	{
		StringInfoData detail;

		initStringInfo(&detail);
		rsl_runaway_append_usage(&detail, "", usage);
		rsl_runaway_append_usage(&detail, "max_", &policy->limits);
		appendStringInfo(&detail, "action=%s query_id=" INT64_FORMAT,
						 rsl_runaway_action_name(policy->action),
						 (int64) query_id);
		if (until != 0)
			appendStringInfo(&detail, " until=\"%s\"", timestamptz_to_str(until));
		else if (action == RSL_RUNAWAY_QUARANTINE)
			appendStringInfoString(&detail, " (without a query identifier nothing can be in quarantine)");
		if (observed || policy->mode != RSL_MODE_ENFORCE)
			appendStringInfoString(&detail, " mode=observe");
		rsl_event_logged(RSL_EVENT_RUNAWAY_RULE, policy->home_database,
						 policy->name, NULL, "hit", "pid=%d hits_total=" UINT64_FORMAT " %s",
						 (int) pid,
						 pg_atomic_read_u64(&rsl_runaway->rules[rule].hits),
						 detail.data);
		ereport(LOG,
				(errmsg("process %d has hit runaway rule \"%s\"", (int) pid,
						policy->name),
				 errdetail_internal("%s", detail.data)));
		pfree(detail.data);
	}
}

static void
look_at(int number, TimestampTz now)
{
	rsl_session *session = &rsl_sessions[number];
	watched    *w = &sessions[number];
	uint32		statement = pg_atomic_read_u32(&session->statement);
	rsl_runaway_usage usage = {-1, -1, -1, -1};
	uint32		candidates;
	uint32		tags;
	uint8		flags;
	int			command;
	uint64		query_id;
	TimestampTz started;

	if ((statement & 1) == 0 || session->pid == 0)
		return;
	pg_read_barrier();
	flags = session->statement_flags;
	command = session->statement_command;
	query_id = session->query_id;
	usage.rows_estimate = session->rows_estimate;
	started = session->statement_start;
	candidates = session->runaway_rules & rules.in_force;
	tags = session->tag_rules;

	pg_read_barrier();
	if (pg_atomic_read_u32(&session->statement) != statement)
		return;

	if (w->statement != statement)
	{
		w->statement = statement;
		w->hits = 0;
		w->since = watching ? now : started;
		w->cpu_before_us = -1;
		w->cpu_us = 0;
	}
	if ((flags & RSL_STATEMENT_SUPERUSER) != 0)
		return;
	usage.duration_ms = Max((now - w->since) / 1000, 0);
	if (candidates & rules.want_cpu)
		usage.cpu_ms = cpu_ms(number, session, w);
	if (candidates & rules.want_temp)
		usage.temp_bytes = temp_bytes[number];

	for (candidates &= ~w->hits; candidates != 0; candidates &= candidates - 1)
	{
		int			i = pg_rightmost_one_pos32(candidates);
		const rsl_runaway_policy *policy = &rules.policies[i];

		if (!rsl_runaway_exceeds(&usage, &policy->limits) ||
			!rsl_runaway_meets_conditions(&policy->conditions, command,
										  query_id,
										  (tags & (UINT32_C(1) << i)) != 0))
			continue;

		/* its bits may be of other rules than those that we have read */
		if (pg_atomic_read_u32(&rsl_runaway->generation) != rules.generation ||
			pg_atomic_read_u32(&session->statement) != statement)
			return;
		w->hits |= UINT32_C(1) << i;
		act(session, statement, i, (flags & RSL_STATEMENT_OBSERVED) != 0,
			query_id, &usage);
	}
}

static void
end_quarantines(TimestampTz now)
{
	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];

		if (pg_atomic_read_u64(&entry->query_id) == 0 ||
			(TimestampTz) pg_atomic_read_u64(&entry->until) > now)
			continue;
		LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
		rsl_quarantine_expire(now);
		LWLockRelease(rsl_config_lock);
		return;
	}
}

/* Called by the launcher at each tick. */
void
rsl_runaway_watch(void)
{
	TimestampTz now;

	if (!rsl_runaway_active())
	{
		watching = false;
		return;
	}
	now = GetCurrentTimestamp();
	if (sessions == NULL)
	{
		int			n = rsl_shmem->nsessions;

		sessions = MemoryContextAllocZero(TopMemoryContext, n * sizeof(watched));
		temp_bytes = MemoryContextAllocZero(TopMemoryContext, n * sizeof(int64));
		workers_cpu_us = MemoryContextAllocZero(TopMemoryContext, n * sizeof(int64));
		read_rules();
	}
	if (pg_atomic_read_u32(&rsl_shmem->nquarantined) != 0)
		end_quarantines(now);
	if (pg_atomic_read_u32(&rsl_runaway->generation) != rules.generation)
		read_rules();

	if (rules.want_cpu != 0)
		read_workers();
	if (rules.want_temp != 0)
		rsl_temp_files_read(temp_bytes);
	for (int i = 0; i < rsl_shmem->nsessions; i++)
		look_at(i, now);
	watching = true;
}
