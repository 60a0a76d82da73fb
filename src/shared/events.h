/*-------------------------------------------------------------------------
 *
 * events.h
 *		What has changed, when, and why: the newest events in a ring.
 *
 * Each transition of anything is an event, with the numbers that led to it.
 * An event is told in one sentence and in "key=value" pairs, as errors of this
 * extension are: the server log has them as message and DETAIL, the view
 * "events" and the notifications have the pairs as JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_EVENTS_H
#define RSL_SHARED_EVENTS_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/spin.h"

typedef enum rsl_event_kind
{
	RSL_EVENT_SERVER = 0,		/* health of the whole, promotion */
	RSL_EVENT_BULKHEAD,
	RSL_EVENT_LOAD_SHEDDER,
	RSL_EVENT_BREAKER,
	RSL_EVENT_HEALTH_CHECK,
	RSL_EVENT_FEATURE,
	RSL_EVENT_DEGRADATION,
	RSL_EVENT_RUNAWAY_RULE,
	RSL_EVENT_EXPERIMENT,
	RSL_EVENT_WORKER,
	RSL_NUM_EVENT_KINDS
} rsl_event_kind;

/* Object, states and detail of one event, each with its final zero. */
#define RSL_EVENT_TEXT_LEN	164

/* 192 bytes. */
typedef struct rsl_event_record
{
	uint64		id;				/* from 1; 0 = none yet */
	TimestampTz at;
	pid_t		pid;			/* of the process that saw it */
	Oid			database;		/* of the object; InvalidOid = none */
	uint8		kind;			/* rsl_event_kind */
	bool		truncated;		/* pairs are missing, or cut */
	bool		logged;			/* by whoever noted it */
	char		text[RSL_EVENT_TEXT_LEN];	/* object, from, to, detail */
} rsl_event_record;

/* 192 kB with the default of resilience.event_buffer. */
typedef struct rsl_events_shared
{
	/* constant after start */
	int			size;			/* resilience.event_buffer */
	TimestampTz begun;			/* when this memory was made */

	uint32		launchers;		/* launcher: how many there were */

	/* atomic, launcher: the last id that it has put into the server's log */
	pg_atomic_uint64 logged;

	slock_t		mutex;			/* of all that follows; held to copy one
								 * record */
	uint64		last_id;
	rsl_event_record records[FLEXIBLE_ARRAY_MEMBER];
} rsl_events_shared;

extern rsl_events_shared *rsl_events;

extern Size rsl_events_shmem_size(void);
extern void rsl_events_shmem_place(void *memory);
extern void rsl_events_shmem_init(void);

/*
 * Note an event.  "from" and "to" are states in the words of the views; "from"
 * may be NULL.  The launcher puts it into the server's log, and databases'
 * workers tell listeners: whoever notes it has nothing more to do.
 *
 * The format makes pairs: "failures=%d last_sqlstate=%s message=\"%s\"" (values
 * with other characters than letters, digits and -+.:_ stand in double quotes;
 * quotes within them become single ones).  Names and states included there
 * are 160 bytes: put what matters first and long texts last.  A pair that does
 * not fit is left out, a text in quotes is cut.
 *
 * Allocates nothing, cannot fail, takes a spinlock; so it may be called after
 * a commit and in an error path, but not while a spinlock is held.
 */
extern void rsl_event(rsl_event_kind kind, Oid database, const char *object,
					  const char *from, const char *to,
					  const char *format,...) pg_attribute_printf(6, 7);

/* The same for what the caller puts into the server's log itself. */
extern void rsl_event_logged(rsl_event_kind kind, Oid database,
							 const char *object, const char *from,
							 const char *to,
							 const char *format,...) pg_attribute_printf(6, 7);

/*
 * Make a text fit to stand in double quotes within pairs, of an event or an
 * error's DETAIL: those that it has itself become single ones.  Returns it.
 */
extern char *rsl_without_quotes(char *text);

extern const char *rsl_event_kind_name(rsl_event_kind kind);

/* Copy an event; false if it was lost, or is not there yet. */
extern bool rsl_event_get(uint64 id, rsl_event_record *event);
extern uint64 rsl_event_last_id(void);

/* The oldest that may be there when this is the newest. */
extern uint64 rsl_event_first_id(uint64 last_id);

/* The strings of a copy. */
extern void rsl_event_texts(const rsl_event_record *event,
							const char **object, const char **from,
							const char **to, const char **detail);

/* Names the object of an event: kind, database and name. */
extern uint64 rsl_event_object_hash(const rsl_event_record *event);

/* Make a copy's strings valid in the encoding of this database. */
extern void rsl_event_clean(rsl_event_record *event);

#endif							/* RSL_SHARED_EVENTS_H */
