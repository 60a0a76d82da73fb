/*-------------------------------------------------------------------------
 *
 * views.c
 *		health_status() and the functions behind the views "health" and
 *		"load_samples".
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "health/components.h"
#include "health/samples.h"
#include "shared/health_board.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(health_components);
PG_FUNCTION_INFO_V1(health_status);
PG_FUNCTION_INFO_V1(load_sample_rows);

#define HEALTH_COLUMNS	7
#define SAMPLE_COLUMNS	8

/* The rows, and what to say of the whole. */
typedef struct rows
{
	ReturnSetInfo *rsinfo;
	int			ncomponents;
	int			nwell;
} rows;

static void
put_row(rows *r, const rsl_component *component)
{
	Datum		values[HEALTH_COLUMNS];
	bool		nulls[HEALTH_COLUMNS] = {0};

	values[0] = CStringGetTextDatum(component->name);
	values[1] = CStringGetTextDatum(component->kind);
	values[2] = CStringGetTextDatum(rsl_health_status_name(component->status));
	values[3] = BoolGetDatum(component->critical);
	nulls[4] = component->since == 0;
	values[4] = TimestampTzGetDatum(component->since);
	nulls[5] = component->message[0] == '\0';
	if (!nulls[5])
		values[5] = CStringGetTextDatum(component->message);
	nulls[6] = !OidIsValid(component->database);
	values[6] = ObjectIdGetDatum(component->database);
	tuplestore_putvalues(r->rsinfo->setResult, r->rsinfo->setDesc, values, nulls);
}

static void
put_component(const rsl_component *component, void *arg)
{
	rows	   *r = arg;

	put_row(r, component);
	r->ncomponents++;
	if (component->status == RSL_HEALTHY)
		r->nwell++;
}

/*
 * health_components() returns setof record
 *
 * The server as a whole and each component: component, kind, status, critical,
 * since, message, database (OID; NULL = the server's).  Of all databases.
 */
Datum
health_components(PG_FUNCTION_ARGS)
{
	rows		r = {(ReturnSetInfo *) fcinfo->resultinfo};
	rsl_component whole = {.kind = "server",.name = "server",.critical = true};

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	rsl_each_component(put_component, &r);
	whole.status = rsl_health_whole(&whole.since);
	if (whole.status == RSL_HEALTH_UNKNOWN)
		strlcpy(whole.message, "the launcher has not looked for 3 s",
				sizeof(whole.message));
	else
	{
		int			n = snprintf(whole.message, sizeof(whole.message),
								 "%d of %d components are healthy", r.nwell,
								 r.ncomponents);

		if (rsl_health_is_suspect())
			snprintf(whole.message + n, sizeof(whole.message) - n,
					 "; %u of %u health checks were cut off: suspect their workers",
					 pg_atomic_read_u32(&rsl_health_board->cut_off),
					 pg_atomic_read_u32(&rsl_health_board->checks));
	}
	put_row(&r, &whole);
	return (Datum) 0;
}

/*
 * health_status() returns text
 *
 * How the server is, as the launcher has seen it last: healthy, degraded,
 * unhealthy, or unknown when it has not looked for 3 s, which is also the
 * answer where the library was not preloaded.  Reads four words of shared
 * memory and takes no lock.
 */
Datum
health_status(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(rsl_health_status_name(rsl_health_whole(NULL))));
}

/*
 * load_sample_rows() returns setof record
 *
 * What the server did in the last two minutes, a row for each second, oldest
 * first: at, status (of the whole), running, waiting, current_limit (-1 =
 * none), admitted_per_second, refused_per_second, cpu_idle (0 .. 1; NULL where
 * the system does not tell).
 */
Datum
load_sample_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	rsl_sample	samples[RSL_NUM_SAMPLES];
	int			n;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	n = rsl_samples_copy(samples, RSL_NUM_SAMPLES);
	for (int i = 0; i < n; i++)
	{
		Datum		values[SAMPLE_COLUMNS];
		bool		nulls[SAMPLE_COLUMNS] = {0};

		values[0] = TimestampTzGetDatum(samples[i].at);
		values[1] = CStringGetTextDatum(rsl_health_status_name(samples[i].status));
		values[2] = Int32GetDatum(samples[i].running);
		values[3] = Int32GetDatum(samples[i].waiting);
		values[4] = Int32GetDatum(samples[i].limit);
		values[5] = Int64GetDatum(samples[i].admitted);
		values[6] = Int64GetDatum(samples[i].refused);
		nulls[7] = samples[i].cpu_idle == RSL_SAMPLE_NO_IDLE;
		values[7] = Float8GetDatum(samples[i].cpu_idle / 1000.0);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
