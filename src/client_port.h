/*-------------------------------------------------------------------------
 *
 * client_port.h
 *		The one place that includes PostgreSQL's headers of the client's
 *		connection.
 *
 * Debian builds the server with GSSAPI, and then libpq-be.h wants the headers
 * of libkrb5, which postgresql-server-dev does not bring along.  The struct
 * Port keeps its layout without them, by design (see its comment), so we do
 * without.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CLIENT_PORT_H
#define RSL_CLIENT_PORT_H

#include "postgres.h"

#undef ENABLE_GSS
#undef ENABLE_SSPI

#include "libpq/auth.h"
#include "libpq/libpq-be.h"

#endif							/* RSL_CLIENT_PORT_H */
