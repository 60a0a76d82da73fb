/*
 * Texts that come from settings, and what is read of HTTP requests: where to
 * listen, how far a standby may be behind, whom a request says it has come to.
 */
#include "core/lag_limit.h"
#include "core/listen_address.h"
#include "fuzz.h"

#include <arpa/inet.h>
#include <strings.h>

/*
 * No name but one, or who owns a name could let browsers in by it: all else is
 * an address, in any of the ways to write one (127.1, 0x7f.0.0.1).
 */
static bool
is_localhost(const char *host)
{
	char	   *address = strdup(host);
	struct in_addr in;
	bool		is;

	if (host[0] == '[')
		is = strspn(host, "[]0123456789abcdefABCDEF.:") == strlen(host);
	else
	{
		address[strcspn(address, ":")] = '\0';
		is = strcasecmp(address, "localhost") == 0 ||
			(inet_aton(address, &in) != 0 && ntohl(in.s_addr) >> 24 == 127);
	}
	free(address);
	return is;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = text_of(data, size);
	rsl_listen_address address;
	rsl_lag_limit limit;
	const char *wrong = rsl_parse_listen_address(text, &address);

	if (wrong == NULL && address.kind != RSL_LISTEN_NOWHERE)
	{
		require(address.kind == RSL_LISTEN_UNIX ||
				(address.port >= 1 && address.port <= 65535));
		require(address.length <= sizeof(address.socket));
		if (address.kind == RSL_LISTEN_UNIX)
			require(rsl_listen_is_local(&address));
	}
	if (rsl_parse_lag_limit(text, &limit))
		require(limit.is_time ? limit.us >= 0 : limit.bytes >= 0);
	if (rsl_host_is_loopback(text))
		require(is_localhost(text));
	free(text);
	return 0;
}
