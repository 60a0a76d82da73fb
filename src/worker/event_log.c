/*-------------------------------------------------------------------------
 *
 * event_log.c
 *		Events in the server's log.
 *
 * Whoever notes an event need not be able to log it: it may be in an error
 * path, or after a commit.  So the launcher does, at its tick, with one
 * sentence and the event's pairs as DETAIL.  An object that changes all the
 * time has one line a second, for the newest of its events; the line says how
 * many others it stands for.  What its emitter has logged itself is left out.
 *
 * How far the log has come is in shared memory: a launcher that is started
 * again repeats nothing, but forgets what was held back.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "core/event_detail.h"
#include "core/event_fold.h"
#include "lib/stringinfo.h"
#include "shared/events.h"
#include "shared/pool.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "worker/event_log.h"

/* of one object */
#define LOG_EVERY_US	INT64CONST(1000000)

static const char *const kind_words[RSL_NUM_EVENT_KINDS] = {
	"server", "bulkhead", "load shedder", "circuit breaker", "health check",
	"feature", "degradation", "runaway rule", "experiment", "worker"
};

static rsl_fold *fold = NULL;

/* Events that were overwritten before they could be logged. */
static uint64 lost = 0;
static int64 lost_told_at = 0;

static bool
is_one_of(const char *word, const char *const *words, int nwords)
{
	for (int i = 0; i < nwords; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

static void
append_subject(StringInfo sentence, const rsl_event_record *event,
			   const char *object, const char *detail)
{
	char		server[NAMEDATALEN];

	if (event->kind == RSL_EVENT_SERVER &&
		strncmp(object, "resilience.", strlen("resilience.")) == 0)
		appendStringInfo(sentence, "setting \"%s\"", object);
	else if (strcmp(object, rsl_event_kind_name(event->kind)) == 0)
		appendStringInfoString(sentence, kind_words[event->kind]);
	else
		appendStringInfo(sentence, "%s \"%s\"", kind_words[event->kind], object);
	if (event->kind == RSL_EVENT_BREAKER &&
		rsl_detail_find(detail, "server", server, sizeof(server)))
		appendStringInfo(sentence, " of foreign server \"%s\"", server);
}

static void
append_predicate(StringInfo sentence, const rsl_event_record *event,
				 const char *from, const char *to, const char *detail)
{
	static const char *const done[] = {"created", "changed", "dropped",
	"quarantined", "released"};
	char		word[NAMEDATALEN];

	if (is_one_of(to, done, lengthof(done)))
		appendStringInfo(sentence, " was %s", to);
	else if (strcmp(to, "expired") == 0)
		appendStringInfoString(sentence, " has expired");
	else if (event->kind == RSL_EVENT_BREAKER)
		appendStringInfo(sentence, " is %s%s",
						 rsl_detail_find(detail, "forced", word, sizeof(word)) ?
						 "forced " : "",
						 strcmp(to, "half_open") == 0 ? "half-open" : to);
	else if (from[0] == '\0')
		appendStringInfo(sentence, " is %s", to);
	else
		appendStringInfo(sentence, " changed from %s to %s", from, to);
}

/* Within a transaction, for the database's name and for memory. */
static void
log_event(const rsl_event_record *event, uint32 others)
{
	StringInfoData sentence;
	StringInfoData pairs;
	const char *object;
	const char *from;
	const char *to;
	const char *detail;

	rsl_event_texts(event, &object, &from, &to, &detail);
	initStringInfo(&sentence);
	append_subject(&sentence, event, object, detail);
	append_predicate(&sentence, event, from, to, detail);

	initStringInfo(&pairs);
	appendStringInfoString(&pairs, detail);
	if (event->truncated)
		appendStringInfoString(&pairs, " truncated=true");
	if (OidIsValid(event->database))
	{
		char	   *database = get_database_name(event->database);

		if (database)
			appendStringInfo(&pairs, " database=\"%s\"", database);
	}
	if (others > 0)
		appendStringInfo(&pairs, " suppressed=%u", others);

	ereport(LOG,
			(errmsg_internal("%s", sentence.data),
			 pairs.len > 0 ?
			 errdetail_internal("%s", pairs.data + (pairs.data[0] == ' ')) : 0));
}

static void
tell_lost(int64 now)
{
	if (lost == 0 || now - lost_told_at < LOG_EVERY_US)
		return;
	ereport(LOG,
			(errmsg("more events than can be logged"),
			 errdetail("lost=" UINT64_FORMAT " event_buffer=%d", lost,
					   rsl_events->size),
			 errhint("Raise \"resilience.event_buffer\" and restart the server.")));
	lost = 0;
	lost_told_at = now;
}

/* Is there something to log?  Then begin a transaction, if not done yet. */
static void
begin(bool *begun)
{
	if (!*begun)
		StartTransactionCommand();
	*begun = true;
}

void
rsl_log_events(void)
{
	MemoryContext caller = CurrentMemoryContext;
	int64		now = rsl_now_us();
	uint64		last_id = rsl_event_last_id();
	uint64		id = pg_atomic_read_u64(&rsl_events->logged) + 1;
	uint64		first_id = rsl_event_first_id(last_id);
	bool		begun = false;
	rsl_event_record event;
	uint64		due;
	uint32		others;

	if (fold == NULL)
	{
		fold = MemoryContextAlloc(TopMemoryContext, sizeof(rsl_fold));
		rsl_fold_init(fold, LOG_EVERY_US);
	}
	if (id < first_id)
	{
		lost += first_id - id;
		id = first_id;
	}

	/*
	 * At once, as the log may raise an error, and should not do so again and
	 * again.
	 */
	pg_atomic_write_u64(&rsl_events->logged, last_id);
	for (; id <= last_id; id++)
	{
		if (!rsl_event_get(id, &event))
			lost++;
		else if (!event.logged &&
				 rsl_fold_add(fold, rsl_event_object_hash(&event), id, now))
		{
			begin(&begun);
			log_event(&event, 0);
		}
	}
	while (rsl_fold_due(fold, now, &due, &others))
	{
		if (!rsl_event_get(due, &event))
		{
			lost += others + 1;
			continue;
		}
		begin(&begun);
		log_event(&event, others);
	}
	if (begun)
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
	tell_lost(now);
}
