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

#include "policy/settings.h"
#include "shared/events.h"
#include "utils/timestamp.h"

rsl_events_shared *rsl_events = NULL;

static const char *const kind_names[RSL_NUM_EVENT_KINDS] = {
	"server", "bulkhead", "load_shedder", "breaker", "health_check", "feature",
	"degradation", "runaway_rule", "experiment", "worker"
};

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
	SpinLockInit(&rsl_events->mutex);
	pg_atomic_init_u64(&rsl_events->notified, 0);
}

/* Append a string and its zero, cut if need be.  Returns where it ends. */
static int
append_text(char *text, int used, const char *word)
{
	int			room = RSL_EVENT_TEXT_LEN - used;
	int			length = word ? (int) strlen(word) : 0;

	if (length >= room)
		length = room - 1;
	if (length > 0)
		memcpy(text +used, word, length);
	text[		used + length] = '\0';

	return Min(used + length + 1, RSL_EVENT_TEXT_LEN - 1);
}

void
rsl_event(rsl_event_kind kind, Oid database, const char *object,
		  const char *from, const char *to, const char *format,...)
{
	rsl_event_record record;
	int			used;

	if (rsl_events == NULL)
		return;
	memset(&record, 0, sizeof(record));
	record.		at = GetCurrentTimestamp();
	record.		pid = MyProcPid;
	record.		database = database;
	record.		kind = (uint8) kind;

	used = append_text(record.text, 0, object);
	used = append_text(record.text, used, from);
	used = append_text(record.text, used, to);
	if (format)
	{
		va_list		args;
		int			length;

		va_start(args, format);
		length = vsnprintf(record.text +used, RSL_EVENT_TEXT_LEN - used,
						   format, args);
		va_end(args);
		if (length >= RSL_EVENT_TEXT_LEN - used)
			record.		truncated = true;
	}

	SpinLockAcquire(&rsl_events->mutex);
	record.		id = ++rsl_events->last_id;
	rsl_events->records[(record.id - 1) %rsl_events->size] = record;

	SpinLockRelease(&rsl_events->mutex);
}

bool
rsl_event_get(uint64 id, rsl_event_record *record)
{
	SpinLockAcquire(&rsl_events->mutex);
	*record = rsl_events->records[(id - 1) % rsl_events->size];
	SpinLockRelease(&rsl_events->mutex);
	return record->id == id;
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

void
rsl_event_texts(const rsl_event_record *record, const char **object,
				const char **from, const char **to, const char **detail)
{
	const char **texts[] = {object, from, to, detail};
	const char *next = record->text;

	for (int i = 0; i < lengthof(texts); i++)
	{
		*texts[i] = next;
		next += strlen(next);
		if (next < record->text +RSL_EVENT_TEXT_LEN - 1)
			next++;
	}
}
