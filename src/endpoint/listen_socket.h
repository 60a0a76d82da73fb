/*-------------------------------------------------------------------------
 *
 * listen_socket.h
 *		The socket at which the health endpoint listens.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_ENDPOINT_LISTEN_SOCKET_H
#define RSL_ENDPOINT_LISTEN_SOCKET_H

#include "core/listen_address.h"

/* Returns -1 and sets errno; ETXTBSY: at the path is something else. */
extern int	rsl_listen_open(const rsl_listen_address *address);

/* The socket was closed: remove its file, unless it is another's by now. */
extern void rsl_listen_forget(void);

#endif							/* RSL_ENDPOINT_LISTEN_SOCKET_H */
