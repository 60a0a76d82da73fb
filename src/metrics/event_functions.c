/*-------------------------------------------------------------------------
 *
 * event_functions.c
 *		Function behind the view "events".
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "core/event_detail.h"
#include "fmgr.h"
#include "funcapi.h"
#include "shared/events.h"
#include "shared/layout.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(recent_events);

#define EVENT_COLUMNS	9

static Datum
detail_datum(const rsl_event_record *event, const char *detail)
{
	char		json[RSL_DETAIL_JSON_SIZE(RSL_EVENT_TEXT_LEN)];

	rsl_detail_json(detail, event->truncated, json, sizeof(json));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

/*
 * recent_events() returns setof record
 *
 * A row for each of the events that are kept, oldest first: id, at, kind,
 * object, from_state (NULL = there was none), to_state, pid, detail, database
 * (NULL = of the server as a whole).  Details of other databases' objects are
 * NULL for roles without the privileges of pg_read_all_stats.
 */
Datum
recent_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		reads_all;
	uint64		last_id;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);
	reads_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);

	last_id = rsl_event_last_id();
	for (uint64 id = rsl_event_first_id(last_id); id <= last_id; id++)
	{
		rsl_event_record event;
		Datum		values[EVENT_COLUMNS];
		bool		nulls[EVENT_COLUMNS] = {0};
		const char *object;
		const char *from;
		const char *to;
		const char *detail;

		CHECK_FOR_INTERRUPTS();
		if (!rsl_event_get(id, &event))
			continue;			/* overwritten since we began */
		rsl_event_clean(&event);
		rsl_event_texts(&event, &object, &from, &to, &detail);

		values[0] = Int64GetDatum((int64) event.id);
		values[1] = TimestampTzGetDatum(event.at);
		values[2] = CStringGetTextDatum(rsl_event_kind_name(event.kind));
		values[3] = CStringGetTextDatum(object);
		values[4] = CStringGetTextDatum(from);
		nulls[4] = from[0] == '\0';
		values[5] = CStringGetTextDatum(to);
		values[6] = Int32GetDatum(event.pid);
		nulls[7] = !reads_all && OidIsValid(event.database) &&
			event.database != MyDatabaseId;
		values[7] = nulls[7] ? (Datum) 0 : detail_datum(&event, detail);
		values[8] = ObjectIdGetDatum(event.database);
		nulls[8] = !OidIsValid(event.database);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
