/*-------------------------------------------------------------------------
 *
 * http_server.c
 *		The HTTP server of the health endpoint, within the worker's own loop.
 *
 * libmicrohttpd speaks HTTP; it makes no thread, and does something only when
 * rsl_http_run() is called.  It is loaded by the worker when there is an
 * address to listen at, and not linked: every session would otherwise carry
 * it and the TLS library that comes with it.
 *
 * Whoever reaches the address may send anything.  So there are at most
 * RSL_ENDPOINT_CONNECTIONS connections (more wait in the kernel), each with
 * MEMORY_LIMIT bytes for what it sends before it is answered, and MAX_AGE_MS
 * to send it and to take the answer.  While all connections are in use, those
 * that have been idle for CROWDED_AGE_MS make place.
 *
 * Which page a request asks for, if any, is decided in core/http_route.c.
 *
 * Errors do not pass through the library: they become an answer, 500.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "endpoint/http_server.h"

#ifdef RSL_HAVE_MICROHTTPD

#include <dlfcn.h>
#include <microhttpd.h>
#include <sys/socket.h>

#include "core/listen_address.h"
#include "shared/endpoint.h"
#include "shared/pool.h"
#include "utils/memutils.h"

/* the same since 0.9.5x; the functions used here have not changed since */
#define LIBRARY				"libmicrohttpd.so.12"

/* of a connection: the line and headers of a request, and the answer's */
#define MEMORY_LIMIT		10240

/* between two answers, or from the beginning to the first one */
#define MAX_AGE_MS			10000

/* the same, while others wait for a connection */
#define CROWDED_AGE_MS		500

bool		rsl_http_built = true;

/* What is used of the library: its functions, by their names there. */
static struct
{
	void	   *handle;
				__typeof__(MHD_start_daemon) * start_daemon;
				__typeof__(MHD_stop_daemon) * stop_daemon;
				__typeof__(MHD_run) * run;
				__typeof__(MHD_get_timeout) * get_timeout;
				__typeof__(MHD_get_daemon_info) * get_daemon_info;
				__typeof__(MHD_get_connection_info) * get_connection_info;
				__typeof__(MHD_lookup_connection_value) * lookup_connection_value;
				__typeof__(MHD_lookup_connection_value_n) * lookup_connection_value_n;
				__typeof__(MHD_create_response_from_buffer) * create_response;
				__typeof__(MHD_add_response_header) * add_response_header;
				__typeof__(MHD_queue_response) * queue_response;
				__typeof__(MHD_destroy_response) * destroy_response;
				__typeof__(MHD_set_panic_func) * set_panic_func;
}			library;

/* One connection. */
typedef struct connection
{
	bool		in_use;
	bool		is_local;
	bool		is_unix;
	int			socket;
	int64		since;			/* it began, or was answered last; us */
} connection;

static struct MHD_Daemon *server = NULL;
static connection connections[RSL_ENDPOINT_CONNECTIONS];
static int	nconnections = 0;
static MemoryContext request_context = NULL;

/*
 * The library
 */

/* Its own way is abort(), which would take the whole server down. */
static void
panic(void *cls, const char *file, unsigned int line, const char *reason)
{
	server = NULL;				/* not to be touched any more */
	ereport(FATAL,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("libmicrohttpd gave up: %s", reason ? reason : "no reason given")));
}

static const char *
load_library(void)
{
	static const struct
	{
		const char *name;
		void	  **function;
	}			functions[] =
	{
		{"MHD_start_daemon", (void **) &library.start_daemon},
		{"MHD_stop_daemon", (void **) &library.stop_daemon},
		{"MHD_run", (void **) &library.run},
		{"MHD_get_timeout", (void **) &library.get_timeout},
		{"MHD_get_daemon_info", (void **) &library.get_daemon_info},
		{"MHD_get_connection_info", (void **) &library.get_connection_info},
		{"MHD_lookup_connection_value", (void **) &library.lookup_connection_value},
		{"MHD_lookup_connection_value_n", (void **) &library.lookup_connection_value_n},
		{"MHD_create_response_from_buffer", (void **) &library.create_response},
		{"MHD_add_response_header", (void **) &library.add_response_header},
		{"MHD_queue_response", (void **) &library.queue_response},
		{"MHD_destroy_response", (void **) &library.destroy_response},
		{"MHD_set_panic_func", (void **) &library.set_panic_func},
	};
	void	   *handle;

	if (library.handle != NULL)
		return NULL;
	handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL)
		return "the library " LIBRARY " cannot be loaded";
	for (int i = 0; i < lengthof(functions); i++)
	{
		*functions[i].function = dlsym(handle, functions[i].name);
		if (*functions[i].function == NULL)
		{
			dlclose(handle);
			return "the library " LIBRARY " is of an unknown version";
		}
	}
	library.handle = handle;
	library.set_panic_func(panic, NULL);
	return NULL;
}

/*
 * Connections
 */

static void
note_connection(void *cls, struct MHD_Connection *handle,
				void **context, enum MHD_ConnectionNotificationCode code)
{
	connection *mine = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED)
	{
		if (mine == NULL)
			return;
		mine->in_use = false;
		nconnections--;
	}
	else
	{
		const struct sockaddr *peer =
			library.get_connection_info(handle, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;

		for (int i = 0; i < lengthof(connections) && mine == NULL; i++)
		{
			if (!connections[i].in_use)
				mine = &connections[i];
		}
		*context = mine;
		if (mine == NULL)
			return;				/* cannot be: the library has the same limit */
		mine->in_use = true;
		mine->is_local = peer == NULL || rsl_is_loopback(peer);
		mine->is_unix = peer == NULL || peer->sa_family == AF_UNIX;
		mine->socket = library.get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		mine->since = rsl_now_us();
		nconnections++;
		pg_atomic_fetch_add_u64(&rsl_endpoint->connections_total, 1);
	}
	pg_atomic_write_u32(&rsl_endpoint->connections, (uint32) nconnections);
}

static connection *
connection_of(struct MHD_Connection *handle)
{
	return library.get_connection_info(handle, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void
note_completed(void *cls, struct MHD_Connection *handle, void **context,
			   enum MHD_RequestTerminationCode code)
{
	connection *mine = connection_of(handle);

	if (mine != NULL)
		mine->since = rsl_now_us();
}

/*
 * End connections that have taken too long: the library closes a socket that
 * was shut down.  Its own time-out would start anew with each byte.  Returns
 * when the next one is due in milliseconds, -1 = there is none.
 */
static long
end_old_connections(void)
{
	bool		crowded = nconnections >= RSL_ENDPOINT_CONNECTIONS;
	int64		max_age = (crowded ? CROWDED_AGE_MS : MAX_AGE_MS) * INT64CONST(1000);
	int64		now = rsl_now_us();
	int64		next = -1;

	for (int i = 0; i < lengthof(connections); i++)
	{
		int64		left = connections[i].since + max_age - now;

		if (!connections[i].in_use)
			continue;
		if (left <= 0)
		{
			shutdown(connections[i].socket, SHUT_RDWR);
			connections[i].since = now; /* once is enough for a while */
			pg_atomic_fetch_add_u64(&rsl_endpoint->cut_off, 1);
			left = max_age;
		}
		if (next < 0 || left < next)
			next = left;
	}
	return next < 0 ? -1 : (long) (next / 1000 + 1);
}

/*
 * Requests
 */

static enum MHD_Result
answer(struct MHD_Connection *handle, int status, const char *content_type,
	   const char *security_policy, const char *body, size_t length)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	response = library.create_response(length, unconstify(char *, body),
									   MHD_RESPMEM_MUST_COPY);
	if (response == NULL)
		return MHD_NO;
	library.add_response_header(response, "Content-Type", content_type);
	library.add_response_header(response, "Cache-Control", "no-store");
	library.add_response_header(response, "X-Content-Type-Options", "nosniff");
	library.add_response_header(response, "Referrer-Policy", "no-referrer");
	library.add_response_header(response, "Cross-Origin-Resource-Policy",
								"same-origin");
	library.add_response_header(response, "Content-Security-Policy",
								security_policy ? security_policy :
								"default-src 'none'; frame-ancestors 'none'");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		library.add_response_header(response, "Allow", "GET, HEAD");
	result = library.queue_response(handle, status, response);
	library.destroy_response(response);
	return result;
}

static enum MHD_Result
refuse(struct MHD_Connection *handle, int status, const char *reason)
{
	char		body[128];

	snprintf(body, sizeof(body), "{\"error\": \"%s\"}\n", reason);
	return answer(handle, status, "application/json; charset=utf-8", NULL,
				  body, strlen(body));
}

static const char *
header(struct MHD_Connection *handle, const char *name)
{
	return library.lookup_connection_value(handle, MHD_HEADER_KIND, name);
}

static void
find_page(struct MHD_Connection *handle, const char *path, rsl_http_route *route)
{
	rsl_http_argument lag = {0};

	lag.is_there = library.lookup_connection_value_n(handle, MHD_GET_ARGUMENT_KIND, "lag", 3,
													 &lag.value, &lag.length) == MHD_YES;
	rsl_http_find_page(path, &lag, route);
}

static bool
asks_locally(struct MHD_Connection *handle, const connection *mine)
{
	static const char *const of_proxies[] = {"Forwarded", "X-Forwarded-For",
	"X-Forwarded-Host", "X-Real-IP", "Via"};
	rsl_http_peer peer = {.host = header(handle, "Host")};

	if (mine == NULL)
		return false;
	peer.is_loopback = mine->is_local;
	peer.is_unix = mine->is_unix;
	for (int i = 0; i < lengthof(of_proxies); i++)
		peer.has_proxy |= header(handle, of_proxies[i]) != NULL;
	return rsl_http_asks_locally(&peer);
}

static enum MHD_Result
respond(struct MHD_Connection *handle, const char *path)
{
	rsl_http_request request = {0};
	rsl_http_answer page = {0};
	MemoryContext caller = CurrentMemoryContext;
	volatile bool failed = false;
	enum MHD_Result result;

	pg_atomic_fetch_add_u64(&rsl_endpoint->requests, 1);
	request.is_local = asks_locally(handle, connection_of(handle));
	find_page(handle, path, &request.route);
	MemoryContextSwitchTo(request_context);
	PG_TRY();
	{
		initStringInfo(&page.body);
		rsl_http_respond(&request, &page);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(request_context);
		LWLockReleaseAll();
		EmitErrorReport();
		FlushErrorState();
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);

	if (failed)
		result = refuse(handle, MHD_HTTP_INTERNAL_SERVER_ERROR,
						"internal error: see the server log");
	else
		result = answer(handle, page.status, page.content_type,
						page.security_policy, page.body.data, page.body.len);
	MemoryContextReset(request_context);
	return result;
}

/*
 * Called twice for each request: when its headers are there, and when it is
 * complete.  An answer at the first call ends the connection, which is right
 * for requests that nobody should have sent.
 */
static enum MHD_Result
handle_request(void *cls, struct MHD_Connection *handle, const char *path,
			   const char *method, const char *version,
			   const char *data, size_t *length, void **context)
{
	static char seen;
	rsl_http_head head;
	const char *why;
	int			status;

	if (*context != NULL)
		return respond(handle, path);
	*context = &seen;
	head.method = method;
	head.content_length = header(handle, "Content-Length");
	head.transfer_encoding = header(handle, "Transfer-Encoding");
	why = rsl_http_refusal(&head, &status);
	if (why != NULL)
		return refuse(handle, status, why);
	return MHD_YES;
}

/*
 * What the worker calls
 */

const char *
rsl_http_open(int listen_socket, bool fair)
{
	const char *wrong = load_library();

	if (wrong != NULL)
		return wrong;
	if (request_context == NULL)
		request_context = AllocSetContextCreate(TopMemoryContext,
												"resilience HTTP request",
												ALLOCSET_DEFAULT_SIZES);
	memset(connections, 0, sizeof(connections));
	nconnections = 0;
	server = library.start_daemon(MHD_USE_EPOLL, 0, NULL, NULL,
								  handle_request, NULL,
								  MHD_OPTION_LISTEN_SOCKET, listen_socket,
								  MHD_OPTION_CONNECTION_LIMIT,
								  (unsigned int) RSL_ENDPOINT_CONNECTIONS,
								  MHD_OPTION_PER_IP_CONNECTION_LIMIT,
								  (unsigned int) (fair ? RSL_ENDPOINT_CONNECTIONS / 2 : 0),
								  MHD_OPTION_CONNECTION_MEMORY_LIMIT,
								  (size_t) MEMORY_LIMIT,
								  MHD_OPTION_CONNECTION_TIMEOUT,
								  (unsigned int) (MAX_AGE_MS / 1000),
								  MHD_OPTION_NOTIFY_CONNECTION, note_connection, NULL,
								  MHD_OPTION_NOTIFY_COMPLETED, note_completed, NULL,
								  MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
								  MHD_OPTION_END);
	return server == NULL ? "the HTTP server does not start" : NULL;
}

void
rsl_http_close(void)
{
	if (server == NULL)
		return;
	library.stop_daemon(server);
	server = NULL;
	nconnections = 0;
	pg_atomic_write_u32(&rsl_endpoint->connections, 0);
}

int
rsl_http_epoll(void)
{
	return library.get_daemon_info(server, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

long
rsl_http_run(void)
{
	long		next = -1;
	bool		was_full;
	MHD_UNSIGNED_LONG_LONG timeout;

	/*
	 * The library does not look at the listening socket while all connections
	 * are in use; it does so again with the next call after one has ended.
	 */
	do
	{
		was_full = nconnections >= RSL_ENDPOINT_CONNECTIONS;
		library.run(server);
		next = end_old_connections();
	} while (was_full && nconnections < RSL_ENDPOINT_CONNECTIONS);

	if (library.get_timeout(server, &timeout) == MHD_YES &&
		(next < 0 || timeout < (MHD_UNSIGNED_LONG_LONG) next))
		next = (long) timeout;
	return next;
}

#else							/* without the library */

bool		rsl_http_built = false;

const char *
rsl_http_open(int listen_socket, bool fair)
{
	return "this build has no HTTP server";
}

void
rsl_http_close(void)
{
}

int
rsl_http_epoll(void)
{
	return -1;
}

long
rsl_http_run(void)
{
	return -1;
}

#endif
