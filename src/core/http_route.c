/*-------------------------------------------------------------------------
 *
 * http_route.c
 *		Which page of the health endpoint a request asks for, if any.
 *
 * HTTP itself is the library's: what comes here are texts that it has cut out
 * of a request, and decoded.  They may be anything.
 *
 *-------------------------------------------------------------------------
 */
#include "core/http_route.h"

#include <string.h>

#include "core/listen_address.h"

#define OK					200
#define BAD_REQUEST			400
#define NOT_FOUND			404
#define METHOD_NOT_ALLOWED	405

const char *const rsl_http_paths[RSL_NUM_PAGES] = {
	[RSL_PAGE_HOME] = "/",
	[RSL_PAGE_HEALTH] = "/health",
	[RSL_PAGE_READY] = "/ready",
	[RSL_PAGE_REPLICA] = "/replica",
	[RSL_PAGE_LIVE] = "/live",
	[RSL_PAGE_METRICS] = "/metrics",
	[RSL_PAGE_STATUS] = "/status",
};

const char *
rsl_http_refusal(const rsl_http_head *head, int *status)
{
	if (strcmp(head->method, "GET") != 0 && strcmp(head->method, "HEAD") != 0)
	{
		*status = METHOD_NOT_ALLOWED;
		return "only GET and HEAD are served";
	}
	if (head->transfer_encoding != NULL ||
		(head->content_length != NULL && strcmp(head->content_length, "0") != 0))
	{
		*status = BAD_REQUEST;
		return "a request has no body here";
	}
	return NULL;
}

void
rsl_http_find_page(const char *path, const rsl_http_argument *lag,
				   rsl_http_route *route)
{
	memset(route, 0, sizeof(*route));
	route->status = NOT_FOUND;
	for (int i = 0; i < RSL_NUM_PAGES; i++)
	{
		if (strcmp(path, rsl_http_paths[i]) == 0)
		{
			route->page = (rsl_http_page) i;
			route->status = OK;
		}
	}

	/* other pages have no arguments; what is given is not looked at */
	if (route->status != OK || route->page != RSL_PAGE_REPLICA || !lag->is_there)
		return;
	/* one with a zero in it is as bad as an empty one */
	if (lag->value == NULL || strlen(lag->value) != lag->length ||
		!rsl_parse_lag_limit(lag->value, &route->lag))
		route->status = BAD_REQUEST;
	else
		route->has_lag = true;
}

/*
 * What comes from this machine need not be asked by somebody on it: a proxy
 * hands on what others ask, and a page of anywhere, open in a browser here, can
 * have its name resolved to 127.0.0.1.  Both say so in the headers.
 */
bool
rsl_http_asks_locally(const rsl_http_peer *peer)
{
	if (!peer->is_loopback || peer->has_proxy)
		return false;
	/* no browser gets to a unix socket */
	return peer->is_unix || peer->host == NULL || rsl_host_is_loopback(peer->host);
}
