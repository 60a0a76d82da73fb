/*-------------------------------------------------------------------------
 *
 * listen_address.c
 *		Where the health endpoint listens, as it is written in the setting.
 *
 * See listen_address.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/listen_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The longest numeric address, with a scope ("fe80::1%eth0") and some room. */
#define MAX_HOST	80

static int
parse_port(const char *text)
{
	long		port = 0;

	if (*text == '\0')
		return 0;
	for (; *text; text++)
	{
		if (*text < '0' || *text > '9')
			return 0;
		port = port * 10 + (*text - '0');
		if (port > 65535)
			return 0;
	}
	return (int) port;
}

static const char *
parse_path(const char *text, rsl_listen_address *address)
{
	size_t		length = strlen(text);

	if (length >= sizeof(address->socket.path.sun_path))
		return "The path of a unix socket has at most 107 bytes.";
	if (text[length - 1] == '/')
		return "The path must name a socket, not a directory.";
	address->kind = RSL_LISTEN_UNIX;
	address->socket.path.sun_family = AF_UNIX;
	memcpy(address->socket.path.sun_path, text, length + 1);
	address->length = sizeof(address->socket.path);
	return NULL;
}

const char *
rsl_parse_listen_address(const char *text, rsl_listen_address *address)
{
	char		host[MAX_HOST];
	const char *colon;
	size_t		length;
	int			family = AF_INET;
	struct addrinfo hints;
	struct addrinfo *found;

	memset(address, 0, sizeof(*address));
	if (*text == '\0')
		return NULL;
	if (*text == '/')
		return parse_path(text, address);

	/* an address with colons stands in brackets */
	colon = strrchr(text, ':');
	if (colon == NULL)
		return "There is no port.";
	length = (size_t) (colon - text);
	if (length >= MAX_HOST)
		return "The address is too long.";
	memcpy(host, text, length);
	host[length] = '\0';
	address->port = parse_port(colon + 1);
	if (address->port == 0)
		return "The port must be a number from 1 to 65535.";

	if (strcmp(host, "*") == 0)
	{
		address->kind = RSL_LISTEN_ALL;
		return NULL;
	}
	if (host[0] == '[' && length > 2 && host[length - 1] == ']')
	{
		family = AF_INET6;
		host[length - 1] = '\0';
		memmove(host, host + 1, length - 1);
	}
	else if (strchr(host, ':') != NULL)
		return "An IPv6 address stands in brackets.";

	/* AI_NUMERICHOST: no name server is asked, so this does not block */
	memset(&hints, 0, sizeof(hints));
	hints.ai_family = family;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
	if (host[0] == '\0' ||
		getaddrinfo(host, colon + 1, &hints, &found) != 0)
		return "The address must be numeric: names of hosts are not looked up.";
	address->kind = RSL_LISTEN_TCP;
	memcpy(&address->socket, found->ai_addr, found->ai_addrlen);
	address->length = found->ai_addrlen;
	freeaddrinfo(found);
	return NULL;
}

bool
rsl_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_UNIX)
		return true;
	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) address;

		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6)
	{
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *) address)->sin6_addr;

		/* 127.x.y.z that comes to a socket of both families */
		if (IN6_IS_ADDR_V4MAPPED(in6))
			return in6->s6_addr[12] == 127;
		return IN6_IS_ADDR_LOOPBACK(in6);
	}
	return false;
}

bool
rsl_listen_is_local(const rsl_listen_address *address)
{
	return address->kind == RSL_LISTEN_UNIX ||
		(address->kind == RSL_LISTEN_TCP &&
		 rsl_is_loopback(&address->socket.any));
}

bool
rsl_host_is_loopback(const char *host)
{
	static const char name[] = "localhost";
	const size_t name_length = sizeof(name) - 1;
	rsl_listen_address address;
	char		text[MAX_HOST + 8];
	size_t		length = strlen(host);
	bool		has_port;

	if (length >= MAX_HOST)
		return false;

	/* an address with a zone, which no client sends: any text may be one */
	if (strchr(host, '%') != NULL)
		return false;
	if (strncasecmp(host, name, name_length) == 0)
		return host[name_length] == '\0' ||
			(host[name_length] == ':' && parse_port(host + name_length + 1) > 0);

	/* any port will do: it is the address that is asked for */
	has_port = host[0] == '[' ? length > 0 && host[length - 1] != ']' :
		strchr(host, ':') != NULL;
	snprintf(text, sizeof(text), "%s%s", host, has_port ? "" : ":80");
	return rsl_parse_listen_address(text, &address) == NULL &&
		address.kind == RSL_LISTEN_TCP && rsl_listen_is_local(&address);
}
