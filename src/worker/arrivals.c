/*-------------------------------------------------------------------------
 *
 * arrivals.c
 *		The launcher's part in the history of arrivals.
 *
 * At each tick it looks at all sessions: who runs or waits, and how many
 * transactions each has been admitted for since the last tick.  The sessions
 * do nothing for it but store what kind of command a transaction began with.
 *
 * What a session did between the last tick and its end is in the totals, but
 * nobody can say whose it was: it is counted as such.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/arrivals.h"
#include "shared/pool.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/arrivals.h"

/* A session as it was at the last tick. */
typedef struct seen_session
{
	pid_t		pid;			/* 0 = none */
	uint8		connected_as;	/* numbers of identities */
	uint8		works_as;
	uint8		query;			/* number of query_id */
	uint64		query_id;
	uint64		admitted;		/* its own counters, summed */
	char		application_name[NAMEDATALEN];	/* of works_as */
} seen_session;

static seen_session *seen_sessions = NULL;
static TimestampTz last_look;

/* all that was admitted, and what of it is in the history, since the start */
static uint64 admitted_before;
static uint64 in_history;

static uint64
admitted_by(rsl_session *session)
{
	uint64		admitted = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		admitted += pg_atomic_read_u64(&session->admitted[c]);
	return admitted;
}

/* application_name as it is now. */
static void
current_application_name(rsl_session *session, char *name)
{
	volatile PgBackendStatus *status = session->status;

	for (int tries = 0; status != NULL && tries < 10; tries++)
	{
		int			before;
		int			after;

		pgstat_begin_read_activity(status, before);
		strlcpy(name, status->st_appname, NAMEDATALEN);
		pgstat_end_read_activity(status, after);
		if (pgstat_read_activity_complete(before, after))
			return;
	}
	strlcpy(name, session->application_name, NAMEDATALEN);
}

static int
find_identity(rsl_history *history, rsl_session *session, const char *name)
{
	rsl_history_identity identity;

	rsl_arrivals_identity(&identity, session->role, session->database,
						  &session->address, session->superuser, name);
	return rsl_history_find_identity(history, &identity);
}

static void
look_at_session(rsl_history *history, rsl_history_tick *tick,
				rsl_session *session, seen_session *seen, bool first_look)
{
	uint64		admitted = admitted_by(session);
	uint64		arrivals;
	bool		running;
	rsl_history_record *record;

	if (seen->pid != session->pid)
	{
		memset(seen, 0, sizeof(*seen));
		seen->pid = session->pid;

		seen->admitted = first_look ? admitted : 0;
		strlcpy(seen->application_name, session->application_name, NAMEDATALEN);
		seen->connected_as = seen->works_as =
			find_identity(history, session, session->application_name);
		record = rsl_history_group(tick, seen->connected_as,
								   RSL_HISTORY_CONNECTIONS, 0);

		if (!first_look)
			record->arrivals++;
	}
	else
	{
		rsl_history_use_identity(history, seen->connected_as);
		record = rsl_history_group(tick, seen->connected_as,
								   RSL_HISTORY_CONNECTIONS, 0);
	}
	record->running++;

	/* they restart at zero when the session's bulkheads change */
	arrivals = admitted >= seen->admitted ? admitted - seen->admitted : admitted;
	seen->admitted = admitted;
	in_history += arrivals;

	running = RSL_SLOT_STATE(pg_atomic_read_u32(&session->slot)) == RSL_SLOT_HELD ||
		(int32) pg_atomic_read_u32(&session->waiting_for) != RSL_NO_POOL;
	if (arrivals == 0 && !running)
		return;

	{
		char		name[NAMEDATALEN];
		uint64		query_id = session->query_id;

		current_application_name(session, name);
		if (strcmp(name, seen->application_name) != 0)
		{
			strlcpy(seen->application_name, name, NAMEDATALEN);
			seen->works_as = find_identity(history, session, name);
		}
		else if (seen->works_as == RSL_HISTORY_OTHER)
			seen->works_as = find_identity(history, session, name);
		else
			rsl_history_use_identity(history, seen->works_as);
		seen->query = rsl_history_find_query(history, query_id);
	}
	record = rsl_history_group(tick, seen->works_as, session->command,
							   seen->query);
	record->arrivals += arrivals;
	record->running += running ? 1 : 0;
}

/* All that was admitted since the start. */
static uint64
admitted_by_all(void)
{
	uint64		admitted = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		admitted += pg_atomic_read_u64(&rsl_shmem->admitted[c]);
	for (int i = 0; i < rsl_shmem->nsessions; i++)
		admitted += admitted_by(&rsl_sessions[i]);
	return admitted - admitted_before;
}

/* Called at each tick. */
void
rsl_look_at_arrivals(void)
{
	static rsl_history_tick tick;
	TimestampTz now = GetCurrentTimestamp();
	bool		first_look = seen_sessions == NULL;
	rsl_history *history;
	uint64		all;

	if (rsl_arrivals_shmem == NULL)
		return;
	history = &rsl_arrivals_shmem->history;
	if (first_look)
	{
		seen_sessions = MemoryContextAllocZero(TopMemoryContext,
											   rsl_shmem->nsessions * sizeof(seen_session));
		admitted_before = admitted_by_all();
	}

	memset(&tick, 0, offsetof(rsl_history_tick, records));
	LWLockAcquire(&rsl_arrivals_shmem->lock, LW_EXCLUSIVE);
	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];

		if (session->pid == 0 || GetPGProcByNumber(i)->pid != session->pid)
			seen_sessions[i].pid = 0;
		else
			look_at_session(history, &tick, session, &seen_sessions[i],
							first_look);
	}

	/* what is double while a session ends is missing the next time */
	all = admitted_by_all();
	if (all > in_history)
	{
		tick.unattributed = (uint32) Min(all - in_history, PG_UINT32_MAX);
		in_history = all;
	}

	/* a clock that was set makes no tick that lasts for hours, or for ever */
	if (last_look > now || now - last_look > USECS_PER_MINUTE)
		last_look = now - RSL_TICK_MS * INT64CONST(1000);
	if (!first_look)
		rsl_history_add(history, last_look, now, &tick);
	LWLockRelease(&rsl_arrivals_shmem->lock);
	last_look = now;
}
