/*-------------------------------------------------------------------------
 *
 * listen_address.h
 *		Where the health endpoint listens, as it is written in the setting.
 *
 * Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_LISTEN_ADDRESS_H
#define RSL_CORE_LISTEN_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef enum rsl_listen_kind
{
	RSL_LISTEN_NOWHERE = 0,		/* the setting is empty */
	RSL_LISTEN_TCP,
	RSL_LISTEN_ALL,				/* TCP, all addresses of both families */
	RSL_LISTEN_UNIX
} rsl_listen_kind;

typedef struct rsl_listen_address
{
	rsl_listen_kind kind;
	int			port;			/* of TCP, 1 .. 65535 */
	union
	{
		struct sockaddr any;
		struct sockaddr_storage tcp;	/* not of RSL_LISTEN_ALL */
		struct sockaddr_un path;
	}			socket;
	socklen_t	length;			/* of what is used of "socket" */
} rsl_listen_address;

/*
 * Read "127.0.0.1:8009", "[::1]:8009", "*:8009", "/path/of/a/socket", or "".
 * Names of hosts are refused: nothing is looked up.  Returns NULL, or what is
 * wrong, as a sentence.
 */
extern const char *rsl_parse_listen_address(const char *text,
											rsl_listen_address *address);

/* Can only this machine's processes come there? */
extern bool rsl_listen_is_local(const rsl_listen_address *address);

/* Does an address belong to this machine's loopback, or to a unix socket? */
extern bool rsl_is_loopback(const struct sockaddr *address);

/* Does the Host of a request name this machine's loopback? */
extern bool rsl_host_is_loopback(const char *host);

#endif							/* RSL_CORE_LISTEN_ADDRESS_H */
