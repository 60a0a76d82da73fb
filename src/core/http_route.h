/*-------------------------------------------------------------------------
 *
 * http_route.h
 *		Which page of the health endpoint a request asks for, if any.
 *
 * Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_HTTP_ROUTE_H
#define RSL_CORE_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/lag_limit.h"

typedef enum rsl_http_page
{
	RSL_PAGE_HOME = 0,
	RSL_PAGE_HEALTH,
	RSL_PAGE_READY,
	RSL_PAGE_REPLICA,
	RSL_PAGE_LIVE,
	RSL_PAGE_METRICS,
	RSL_PAGE_STATUS,
	RSL_NUM_PAGES
} rsl_http_page;

extern const char *const rsl_http_paths[RSL_NUM_PAGES];

/* The headers of a request, NULL = there is none. */
typedef struct rsl_http_head
{
	const char *method;
	const char *content_length;
	const char *transfer_encoding;
} rsl_http_head;

/* Of whom a request comes. */
typedef struct rsl_http_peer
{
	bool		is_loopback;	/* the connection's other end is this machine */
	bool		is_unix;		/* the same, by a unix socket */
	bool		has_proxy;		/* a header that a proxy writes is there */
	const char *host;			/* the header of that name, NULL = none */
} rsl_http_peer;

/* An argument of a request: what stands behind its name, any bytes. */
typedef struct rsl_http_argument
{
	bool		is_there;
	const char *value;			/* ends with a zero; NULL = there is no "=" */
	size_t		length;
} rsl_http_argument;

typedef struct rsl_http_route
{
	int			status;			/* 200; 404: no such page; 400: bad argument */
	rsl_http_page page;			/* not of 404 */
	bool		has_lag;		/* may a standby be behind by so much only? */
	rsl_lag_limit lag;
} rsl_http_route;

/*
 * Is a request to be refused when no more than its head is known?  Returns
 * NULL, or why, and sets the status.
 */
extern const char *rsl_http_refusal(const rsl_http_head *head, int *status);

/* Find the page of a path, which is decoded and has no arguments any more. */
extern void rsl_http_find_page(const char *path, const rsl_http_argument *lag,
							   rsl_http_route *route);

/* Is it this machine that asks, as far as one can tell? */
extern bool rsl_http_asks_locally(const rsl_http_peer *peer);

#endif							/* RSL_CORE_HTTP_ROUTE_H */
