/*-------------------------------------------------------------------------
 *
 * http_pages.c
 *		What the health endpoint answers at which path.
 *
 * Everything comes from shared memory.  Health in doubt is no reason to take a
 * server out of service: while it is "unknown", /health says so with 503, but
 * /ready and /replica go by what they know of the server itself.
 *
 * Messages of components may quote errors of queries, and figures.  They are
 * for this machine only; whoever comes from another one sees names and
 * statuses.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "core/http_route.h"
#include "endpoint/component_list.h"
#include "endpoint/http_server.h"
#include "endpoint/status_page.h"
#include "health/standby_lag.h"
#include "metrics/exposition.h"
#include "shared/text.h"
#include "shared/workers.h"

/* more are counted, but not listed: the worst come first */
#define MAX_LISTED		1000

#define OK				200
#define BAD_REQUEST		400
#define NOT_FOUND		404
#define UNAVAILABLE		503

static const char *
role_name(void)
{
	return RecoveryInProgress() ? "standby" : "primary";
}

static void
append_since(StringInfo out, TimestampTz since)
{
	appendStringInfoString(out, ", \"since\": ");
	if (since == 0)
		appendStringInfoString(out, "null");
	else
	{
		appendStringInfoChar(out, '"');
		rsl_append_time(out, since);
		appendStringInfoChar(out, '"');
	}
}

static void
append_component(StringInfo out, const rsl_component *component, bool tell_all)
{
	char		database[NAMEDATALEN];

	appendStringInfo(out, "{\"kind\": \"%s\", \"name\": ", component->kind);
	rsl_append_json_string(out, component->name);
	appendStringInfoString(out, ", \"database\": ");
	if (!OidIsValid(component->database))
		appendStringInfoString(out, "null");
	else
	{
		rsl_database_name(component->database, database);
		rsl_append_json_string(out, database);
	}
	appendStringInfo(out, ", \"status\": \"%s\", \"critical\": %s",
					 rsl_health_status_name(component->status),
					 component->critical ? "true" : "false");
	append_since(out, component->since);
	if (tell_all)
	{
		appendStringInfoString(out, ", \"message\": ");
		if (component->message[0] == '\0')
			appendStringInfoString(out, "null");
		else
			rsl_append_json_string(out, component->message);
	}
	appendStringInfoChar(out, '}');
}

static void
health_page(const rsl_http_request *request, rsl_http_answer *answer)
{
	StringInfo	out = &answer->body;
	rsl_component_list list;
	TimestampTz since;
	rsl_health_status status;

	rsl_component_list_make(&list);
	status = rsl_health_whole(&since);
	answer->status = status == RSL_HEALTHY || status == RSL_DEGRADED ?
		OK : UNAVAILABLE;

	appendStringInfo(out, "{\"status\": \"%s\"", rsl_health_status_name(status));
	append_since(out, since);
	appendStringInfo(out, ", \"role\": \"%s\", \"checks_suspect\": %s, \"components_total\": %d, \"components\": [",
					 role_name(), rsl_health_is_suspect() ? "true" : "false",
					 list.count);
	for (int i = 0; i < Min(list.count, MAX_LISTED); i++)
	{
		appendStringInfoString(out, i == 0 ? "\n" : ",\n");
		append_component(out, &list.components[i], request->is_local);
	}
	appendStringInfoString(out, "]}\n");
}

/*
 * The answer of those who only decide: true or false, and why not (NULL: true).
 * Without the final bracket.
 */
static void
begin_verdict(rsl_http_answer *answer, const char *question, const char *why_not)
{
	answer->status = why_not == NULL ? OK : UNAVAILABLE;
	appendStringInfo(&answer->body,
					 "{\"%s\": %s, \"role\": \"%s\", \"status\": \"%s\"",
					 question, why_not == NULL ? "true" : "false", role_name(),
					 rsl_health_status_name(rsl_health_whole(NULL)));
	if (why_not)
		appendStringInfo(&answer->body, ", \"reason\": \"%s\"", why_not);
}

static void
ready_page(const rsl_http_request *request, rsl_http_answer *answer)
{
	const char *why_not = NULL;

	if (RecoveryInProgress())
		why_not = "standby";
	else if (DefaultXactReadOnly)
		why_not = "read-only: default_transaction_read_only is on";
	else if (rsl_health_whole(NULL) == RSL_UNHEALTHY)
		why_not = "unhealthy";
	begin_verdict(answer, "ready", why_not);
	appendStringInfoString(&answer->body, "}\n");
}

static const char *
why_lag_is_too_large(const rsl_lag_limit *limit, const rsl_standby_lag *lag)
{
	int64		is = limit->is_time ? lag->us : lag->bytes;
	int64		may_be = limit->is_time ? limit->us : limit->bytes;

	if (is < 0)
		return lag->streams ? "lag is not known: nothing was replayed yet" :
			"lag is not known: nothing is received";
	return is > may_be ? "lag" : NULL;
}

static void
replica_page(const rsl_http_request *request, rsl_http_answer *answer)
{
	const char *why_not = NULL;
	const rsl_http_route *route = &request->route;
	rsl_standby_lag lag;

	if (route->status == BAD_REQUEST)
	{
		answer->status = BAD_REQUEST;
		appendStringInfoString(&answer->body,
							   "{\"error\": \"lag must be an amount of WAL (16MB; B, kB, MB, GB, TB) or a time (10s; ms, s, min, h)\"}\n");
		return;
	}
	if (!RecoveryInProgress())
	{
		begin_verdict(answer, "replica", "primary");
		appendStringInfoString(&answer->body, "}\n");
		return;
	}

	rsl_standby_lag_get(&lag);
	if (rsl_health_whole(NULL) == RSL_UNHEALTHY)
		why_not = "unhealthy";
	else if (route->has_lag)
		why_not = why_lag_is_too_large(&route->lag, &lag);
	begin_verdict(answer, "replica", why_not);
	appendStringInfo(&answer->body, ", \"streaming\": %s, \"lag_bytes\": ",
					 lag.streams ? "true" : "false");
	if (lag.bytes < 0)
		appendStringInfoString(&answer->body, "null, \"lag_seconds\": ");
	else
		appendStringInfo(&answer->body, INT64_FORMAT ", \"lag_seconds\": ",
						 lag.bytes);
	if (lag.us < 0)
		appendStringInfoString(&answer->body, "null}\n");
	else
		appendStringInfo(&answer->body, "%.3f}\n", lag.us / 1e6);
}

/*
 * Says only that this process runs, and so that the server does: who restarts
 * what is not alive must not do so because something else fails.
 */
static void
live_page(const rsl_http_request *request, rsl_http_answer *answer)
{
	appendStringInfoString(&answer->body, "{\"live\": true}\n");
}

static void
metrics_page(const rsl_http_request *request, rsl_http_answer *answer)
{
	answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
	rsl_append_metrics(&answer->body);
}

static void
home_page(const rsl_http_request *request, rsl_http_answer *answer)
{
	answer->content_type = "text/html; charset=utf-8";
	answer->security_policy = rsl_append_status_page(&answer->body,
													 request->is_local, true);
}

/* The part of the page that changes: it is fetched again each second. */
static void
home_fragment(const rsl_http_request *request, rsl_http_answer *answer)
{
	answer->content_type = "text/html; charset=utf-8";
	(void) rsl_append_status_page(&answer->body, request->is_local, false);
}

typedef void (*page_maker) (const rsl_http_request *request,
							rsl_http_answer *answer);

static const page_maker pages[RSL_NUM_PAGES] = {
	[RSL_PAGE_HOME] = home_page,
	[RSL_PAGE_HEALTH] = health_page,
	[RSL_PAGE_READY] = ready_page,
	[RSL_PAGE_REPLICA] = replica_page,
	[RSL_PAGE_LIVE] = live_page,
	[RSL_PAGE_METRICS] = metrics_page,
	[RSL_PAGE_STATUS] = home_fragment,
};

void
rsl_http_respond(const rsl_http_request *request, rsl_http_answer *answer)
{
	answer->status = OK;
	answer->content_type = "application/json; charset=utf-8";
	if (request->route.status != NOT_FOUND)
	{
		pages[request->route.page] (request, answer);
		return;
	}

	answer->status = NOT_FOUND;
	appendStringInfoString(&answer->body,
						   "{\"error\": \"there is no such page\", \"pages\": [");
	for (int i = 0; i < RSL_NUM_PAGES; i++)
		appendStringInfo(&answer->body, "%s\"%s\"", i == 0 ? "" : ", ",
						 rsl_http_paths[i]);
	appendStringInfoString(&answer->body, "]}\n");
}
