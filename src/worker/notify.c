/*-------------------------------------------------------------------------
 *
 * notify.c
 *		Events as notifications, for the listeners of each database.
 *
 * A worker of the database (database.c) sends them on the channel
 * "resilience": events of the database's own objects, and those of the server
 * as a whole.  At most once a second, so that of each object there is at most
 * one: the newest of its events, with the count of those that it stands for.
 * The first event after a second's rest is told at once.
 *
 * How far the listeners have been told is in shared memory, and moves when the
 * transaction has committed: if the worker dies in between they may be told
 * twice, never not at all.  Nothing is told on a standby, which cannot notify.
 *
 * Anybody may listen.  So messages, which may quote errors of queries and what
 * they read, are left out: the view has them, for those who may see it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "core/event_detail.h"
#include "lib/stringinfo.h"
#include "shared/events.h"
#include "shared/pool.h"
#include "storage/ipc.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "worker/notify.h"

#define CHANNEL			"resilience"

/* between two times that a database's listeners are told */
#define TELL_EVERY_US	INT64CONST(1000000)

/* after an error: the queue of notifications may be full */
#define RETRY_US		INT64CONST(10000000)

/* so many objects at once; the rest the next time */
#define MAX_OBJECTS		1000

/* how many events the launcher looks at in one go */
#define MAX_LOOK		1000

/* All that is told of an object at once; the key comes first. */
typedef struct object_news
{
	uint64		object;			/* rsl_event_object_hash() */
	uint32		count;
	rsl_event_record newest;
} object_news;

/* The database whose listeners this process is telling. */
static rsl_database *telling = NULL;

static bool
concerns(const rsl_event_record *event, Oid database)
{
	return event->database == database || !OidIsValid(event->database);
}

bool
rsl_notify_is_due(rsl_database *database, int64 now_us)
{
	uint64		last_id = rsl_event_last_id();
	uint64		told = pg_atomic_read_u64(&database->notified);
	uint64		id = Max(told + 1, rsl_event_first_id(last_id));
	uint64		end = Min(last_id, id + MAX_LOOK - 1);

	if (told >= last_id ||
		(int64) pg_atomic_read_u64(&database->tell_after) > now_us)
		return false;
	for (; id <= end; id++)
	{
		rsl_event_record event;

		if (rsl_event_get(id, &event) && concerns(&event, database->oid))
			return true;
	}

	/* nothing for this database: nobody has to look at that again */
	(void) pg_atomic_compare_exchange_u64(&database->notified, &told, end);
	return false;
}

static void
append_string(StringInfo payload, const char *key, const char *value)
{
	appendStringInfo(payload, ", \"%s\": ", key);
	if (value[0] == '\0')
		appendStringInfoString(payload, "null");
	else
		escape_json(payload, value);
}

/*
 * At most four strings from a record's text, each byte of which becomes six at
 * worst, and some numbers: far less than the 8000 bytes that there are.
 */
static void
make_payload(StringInfo payload, object_news *news)
{
	rsl_event_record *event = &news->newest;
	char		at[MAXDATELEN + 1];
	char		json[RSL_DETAIL_JSON_SIZE(RSL_EVENT_TEXT_LEN)];
	const char *object;
	const char *from;
	const char *to;
	const char *detail;
	char		told[RSL_EVENT_TEXT_LEN];

	rsl_event_clean(event);
	rsl_event_texts(event, &object, &from, &to, &detail);
	rsl_detail_without(detail, "message", told);
	JsonEncodeDateTime(at, TimestampTzGetDatum(event->at), TIMESTAMPTZOID, NULL);
	rsl_detail_json(told, event->truncated, json, sizeof(json));

	resetStringInfo(payload);
	appendStringInfo(payload, "{\"id\": " UINT64_FORMAT ", \"at\": \"%s\", \"kind\": \"%s\"",
					 event->id, at, rsl_event_kind_name(event->kind));
	append_string(payload, "object", object);
	append_string(payload, "from", from);
	append_string(payload, "to", to);
	appendStringInfo(payload, ", \"pid\": %d, \"count\": %u, \"detail\": %s}",
					 (int) event->pid, news->count, json);
}

/*
 * Read what is new.  Returns the news, one for each object; *told is the last
 * event in it.
 */
static HTAB *
collect_news(uint64 *told)
{
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(object_news),
	.hcxt = CurrentMemoryContext};
	HTAB	   *news = hash_create("resilience news", 64, &control,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	uint64		last_id = rsl_event_last_id();
	uint64		id = Max(*told + 1, rsl_event_first_id(last_id));

	for (; id <= last_id && hash_get_num_entries(news) < MAX_OBJECTS; id++)
	{
		rsl_event_record event;
		uint64		object;
		object_news *entry;
		bool		found;

		if (!rsl_event_get(id, &event) || !concerns(&event, MyDatabaseId))
			continue;
		object = rsl_event_object_hash(&event);
		entry = hash_search(news, &object, HASH_ENTER, &found);
		entry->count = found ? entry->count + 1 : 1;
		entry->newest = event;
	}
	*told = id - 1;
	return news;
}

static int
compare_news(const void *a, const void *b)
{
	uint64		id_a = (*(object_news *const *) a)->newest.id;
	uint64		id_b = (*(object_news *const *) b)->newest.id;

	return id_a < id_b ? -1 : id_a > id_b ? 1 : 0;
}

/* In a transaction of its own.  Returns the last event that was told. */
static uint64
tell(uint64 told)
{
	HTAB	   *news;
	HASH_SEQ_STATUS status;
	object_news *entry;
	object_news **in_order;
	StringInfoData payload;
	int			n = 0;

	StartTransactionCommand();
	news = collect_news(&told);
	in_order = palloc(Max(hash_get_num_entries(news), 1) * sizeof(object_news *));
	hash_seq_init(&status, news);
	while ((entry = hash_seq_search(&status)) != NULL)
		in_order[n++] = entry;
	qsort(in_order, n, sizeof(object_news *), compare_news);

	initStringInfo(&payload);
	for (int i = 0; i < n; i++)
	{
		make_payload(&payload, in_order[i]);
		Async_Notify(CHANNEL, payload.data);
	}
	CommitTransactionCommand();
	return told;
}

/* The entry may be another database's by now: then nothing of it is ours. */
static void
end_telling(void)
{
	uint32		mine = (uint32) MyProcPid;

	if (telling)
		(void) pg_atomic_compare_exchange_u32(&telling->teller, &mine, 0);
	telling = NULL;
}

static void
end_telling_at_exit(int code, Datum arg)
{
	end_telling();
}

void
rsl_notify_listeners(void)
{
	static bool registered = false;
	MemoryContext caller = CurrentMemoryContext;
	rsl_database *database = rsl_database_find(MyDatabaseId);
	volatile int64 pause = TELL_EVERY_US;
	volatile uint64 told;
	uint32		nobody = 0;

	if (database == NULL || RecoveryInProgress() ||
		!rsl_notify_is_due(database, rsl_now_us()))
		return;
	if (!registered)
	{
		before_shmem_exit(end_telling_at_exit, (Datum) 0);
		registered = true;
	}

	/* one worker of the database at a time */
	telling = database;
	if (!pg_atomic_compare_exchange_u32(&database->teller, &nobody,
										(uint32) MyProcPid))
	{
		telling = NULL;
		return;
	}
	told = pg_atomic_read_u64(&database->notified);
	PG_TRY();
	{
		told = tell(told);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		pause = RETRY_US;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);

	if (database->oid == MyDatabaseId)
	{
		pg_atomic_write_u64(&database->notified, told);
		pg_atomic_write_u64(&database->tell_after, (uint64) (rsl_now_us() + pause));
	}
	end_telling();
}
