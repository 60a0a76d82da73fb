/*-------------------------------------------------------------------------
 *
 * http_server.h
 *		The HTTP server of the health endpoint, within the worker's own loop.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_ENDPOINT_HTTP_SERVER_H
#define RSL_ENDPOINT_HTTP_SERVER_H

#include "compat.h"

#include "core/http_route.h"
#include "lib/stringinfo.h"

/* What is asked. */
typedef struct rsl_http_request
{
	rsl_http_route route;
	bool		is_local;		/* comes from this machine */
} rsl_http_request;

/* What is answered; the answer's memory lives as long as the request. */
typedef struct rsl_http_answer
{
	int			status;
	const char *content_type;
	const char *security_policy;	/* NULL: nothing may be loaded */
	StringInfoData body;
} rsl_http_answer;

/* Makes the answer to a GET; may raise errors.  See http_pages.c. */
extern void rsl_http_respond(const rsl_http_request *request,
							 rsl_http_answer *answer);

/* Was the library there when this was compiled? */
extern bool rsl_http_built;

/*
 * Serve a socket that listens; the server owns it from then on.  At most half
 * of the connections come from one address, if "fair".  Returns NULL, or what
 * is wrong.
 */
extern const char *rsl_http_open(int listen_socket, bool fair);
extern void rsl_http_close(void);

/* Readable when there is something to do. */
extern int	rsl_http_epoll(void);

/*
 * Do what there is to do, without waiting.  Returns after how many
 * milliseconds it is to be called again at the latest; -1 = whenever there is
 * something to do.
 */
extern long rsl_http_run(void);

#endif							/* RSL_ENDPOINT_HTTP_SERVER_H */
