/*-------------------------------------------------------------------------
 *
 * events.c
 *		What has changed, when, and why: the newest events in a ring.
 *
 * Writers are rare (a transition each) and hold a spinlock while they copy one
 * record of 192 bytes, so that an event can be noted where no lightweight lock
 * may be taken.  Nothing here waits for readers: one who is too slow finds
 * that the next ids are gone.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/hashfn.h"
#include "core/event_detail.h"
#include "mb/pg_wchar.h"
#include "shared/events.h"
#include "shared/settings.h"
#include "utils/timestamp.h"

rsl_events_shared *rsl_events = NULL;

static const char *const kind_names[RSL_NUM_EVENT_KINDS] = {
	"server", "bulkhead", "load_shedder", "breaker", "health_check", "feature",
	"degradation", "runaway_rule", "experiment", "worker"
};

/* what the caller's format may make, before it is brought to its size */
#define FORMATTED_LEN	512

char *
rsl_without_quotes(char *text)
{
	for (char *c = text; *c; c++)
	{
		if (*c == '"')
			*c = '\'';
	}
	return text;
}

const char *
rsl_event_kind_name(rsl_event_kind kind)
{
	return kind_names[kind];
}

Size
rsl_events_shmem_size(void)
{
	return CACHELINEALIGN(add_size(offsetof(rsl_events_shared, records),
								   mul_size(sizeof(rsl_event_record),
											rsl_event_buffer)));
}

void
rsl_events_shmem_place(void *memory)
{
	rsl_events = memory;
}

/* The memory is zero. */
void
rsl_events_shmem_init(void)
{
	rsl_events->size = rsl_event_buffer;
	rsl_events->begun = GetCurrentTimestamp();
	SpinLockInit(&rsl_events->mutex);
	pg_atomic_init_u64(&rsl_events->logged, 0);
}

/* Append a string and its zero, cut if need be.  Returns where it ends. */
static int
append_text(char *texts, int used, const char *word)
{
	int			room = RSL_EVENT_TEXT_LEN - used;
	int			length = word ? (int) strlen(word) : 0;

	if (length >= room)
		length = room - 1;
	if (length > 0)
		memcpy(texts + used, word, length);
	texts[used + length] = '\0';

	return Min(used + length + 1, RSL_EVENT_TEXT_LEN - 1);
}

static void note(rsl_event_kind kind, Oid database, const char *object,
				 const char *from, const char *to, bool logged,
				 const char *format, va_list args) pg_attribute_printf(7, 0);

static void
note(rsl_event_kind kind, Oid database, const char *object,
	 const char *from, const char *to, bool logged,
	 const char *format, va_list args)
{
	rsl_event_record event;
	int			used;

	memset(&event, 0, sizeof(event));
	event.at = GetCurrentTimestamp();
	event.pid = MyProcPid;
	event.database = database;
	event.kind = (uint8) kind;
	event.logged = logged;

	used = append_text(event.text, 0, object);
	used = append_text(event.text, used, from);
	used = append_text(event.text, used, to);
	if (format)
	{
		char		formatted[FORMATTED_LEN];
		int			length = vsnprintf(formatted, sizeof(formatted), format,
									   args);

		event.truncated = !rsl_detail_copy(formatted, event.text + used,
										   RSL_EVENT_TEXT_LEN - used) ||
			length >= (int) sizeof(formatted);
	}

	SpinLockAcquire(&rsl_events->mutex);
	event.id = ++rsl_events->last_id;
	rsl_events->records[(event.id - 1) % rsl_events->size] = event;
	SpinLockRelease(&rsl_events->mutex);
}

void
rsl_event(rsl_event_kind kind, Oid database, const char *object,
		  const char *from, const char *to, const char *format,...)
{
	va_list		args;

	if (rsl_events == NULL)
		return;
	va_start(args, format);
	note(kind, database, object, from, to, false, format, args);
	va_end(args);
}

void
rsl_event_logged(rsl_event_kind kind, Oid database, const char *object,
				 const char *from, const char *to, const char *format,...)
{
	va_list		args;

	if (rsl_events == NULL)
		return;
	va_start(args, format);
	note(kind, database, object, from, to, true, format, args);
	va_end(args);
}

bool
rsl_event_get(uint64 id, rsl_event_record *event)
{
	SpinLockAcquire(&rsl_events->mutex);
	*event = rsl_events->records[(id - 1) % rsl_events->size];
	SpinLockRelease(&rsl_events->mutex);
	return event->id == id;
}

uint64
rsl_event_last_id(void)
{
	uint64		id;

	SpinLockAcquire(&rsl_events->mutex);
	id = rsl_events->last_id;
	SpinLockRelease(&rsl_events->mutex);
	return id;
}

uint64
rsl_event_first_id(uint64 last_id)
{
	return last_id > (uint64) rsl_events->size ?
		last_id - rsl_events->size + 1 : 1;
}

void
rsl_event_texts(const rsl_event_record *event, const char **object,
				const char **from, const char **to, const char **detail)
{
	const char **texts[] = {object, from, to, detail};
	const char *next = event->text;

	for (int i = 0; i < lengthof(texts); i++)
	{
		*texts[i] = next;
		next += strlen(next);
		if (next < event->text + RSL_EVENT_TEXT_LEN - 1)
			next++;
	}
}

uint64
rsl_event_object_hash(const rsl_event_record *event)
{
	const char *object = event->text;

	return hash_bytes_extended((const unsigned char *) object, strlen(object),
							   ((uint64) event->database << 8) | event->kind);
}

/*
 * Names and messages are in the encoding of the database that they come from,
 * which need not be ours.
 */
void
rsl_event_clean(rsl_event_record *event)
{
	const char *texts[4];

	rsl_event_texts(event, &texts[0], &texts[1], &texts[2], &texts[3]);
	for (int i = 0; i < lengthof(texts); i++)
	{
		if (pg_verifymbstr(texts[i], strlen(texts[i]), true))
			continue;
		for (char *c = event->text + (texts[i] - event->text); *c; c++)
		{
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
		}
	}
}
