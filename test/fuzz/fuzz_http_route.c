/*
 * Which page a request asks for: any method, path, argument and headers, one in
 * a line.  The first byte says which of them there are, and where it comes from.
 */
#include "core/http_route.h"
#include "fuzz.h"

typedef struct piece
{
	char	   *text;
	size_t		length;			/* may be more than that of the text: zeros */
} piece;

/* The next line, and what is left behind it. */
static piece
next_line(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	size_t		length = end ? (size_t) (end - *data) : *size;
	piece		line = {text_of(*data, length), length};

	*data += end ? length + 1 : length;
	*size -= end ? length + 1 : length;
	return line;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t		flags = size > 0 ? data[0] : 0;
	const uint8_t *rest = data + 1;
	size_t		left = size > 0 ? size - 1 : 0;
	piece		method = next_line(&rest, &left);
	piece		path = next_line(&rest, &left);
	piece		value = next_line(&rest, &left);
	piece		content_length = next_line(&rest, &left);
	piece		host = next_line(&rest, &left);
	rsl_http_head head = {method.text, flags & 1 ? content_length.text : NULL,
	flags & 2 ? "chunked" : NULL};
	rsl_http_argument lag = {(flags & 4) != 0, flags & 8 ? value.text : NULL,
	flags & 8 ? value.length : 0};
	rsl_http_peer peer = {(flags & 16) != 0, (flags & 32) != 0, (flags & 64) != 0,
	flags & 128 ? host.text : NULL};
	rsl_http_route route;
	int			status = 0;
	int			pages = 0;
	const char *why = rsl_http_refusal(&head, &status);

	/* nothing but GET and HEAD without a body comes further */
	if (why == NULL)
	{
		require(strcmp(method.text, "GET") == 0 || strcmp(method.text, "HEAD") == 0);
		require(!(flags & 2) && (!(flags & 1) || strcmp(content_length.text, "0") == 0));
	}
	else
	{
		require(status == 400 || status == 405);
		/* it goes into JSON as it is */
		require(strpbrk(why, "\"\\\n") == NULL);
	}

	/* a page is that of its path, of one only, and of nothing like it */
	memset(&route, 0xFF, sizeof(route));
	rsl_http_find_page(path.text, &lag, &route);
	for (int i = 0; i < RSL_NUM_PAGES; i++)
		pages += strcmp(path.text, rsl_http_paths[i]) == 0 ? 1 : 0;
	require(pages == (route.status == 404 ? 0 : 1));
	require(route.status == 200 || route.status == 400 || route.status == 404);
	if (route.status != 404)
		require(route.page < RSL_NUM_PAGES && strcmp(path.text, rsl_http_paths[route.page]) == 0);

	/* an argument counts where there is one, and is never half understood */
	if (route.status == 400 || route.has_lag)
		require(route.page == RSL_PAGE_REPLICA && lag.is_there);
	if (route.status == 200 && route.page == RSL_PAGE_REPLICA)
		require(route.has_lag == lag.is_there);
	if (route.has_lag)
	{
		require(route.status == 200 && strlen(value.text) == value.length);
		require(route.lag.is_time ? route.lag.us >= 0 : route.lag.bytes >= 0);
	}

	/* messages are for this machine only */
	if (rsl_http_asks_locally(&peer))
		require(peer.is_loopback && !peer.has_proxy);

	free(method.text);
	free(path.text);
	free(value.text);
	free(content_length.text);
	free(host.text);
	return 0;
}
