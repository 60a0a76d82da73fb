/*-------------------------------------------------------------------------
 *
 * connect_time.c
 *		How long a foreign data wrapper may take to connect.
 *
 * Before PostgreSQL 16 a connection is made by a blocking call of libpq, which
 * no signal interrupts: neither a timeout nor pg_terminate_backend().  libpq's
 * own connect_timeout ends it, in whole seconds of which it allows no fewer
 * than two, and the environment is where it takes the default from, for any
 * foreign data wrapper that uses libpq.  A connect_timeout among the server's
 * options wins over it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <stdlib.h>

#include "breaker/guard_parts.h"

static bool
limits_connect_time(const rsl_section *section)
{
	return RSL_BLOCKING_CONNECT &&
		(section->flags & RSL_SECTION_CONNECTS) != 0 &&
		section->guard->timeout_us > 0;
}

void
rsl_limit_connect_time(rsl_section *section)
{
	const char *present = getenv("PGCONNECT_TIMEOUT");
	int			seconds = Max((section->guard->timeout_us + 999999) / 1000000, 2);
	char		value[16];

	if (!limits_connect_time(section))
		return;
	section->saved_connect_timeout = present ? strdup(present) : NULL;
	if (present && atoi(present) > 0 && atoi(present) <= seconds)
		return;
	snprintf(value, sizeof(value), "%d", seconds);
	setenv("PGCONNECT_TIMEOUT", value, 1);
}

void
rsl_restore_connect_time(rsl_section *section)
{
	if (!limits_connect_time(section))
		return;
	if (section->saved_connect_timeout)
	{
		setenv("PGCONNECT_TIMEOUT", section->saved_connect_timeout, 1);
		free(section->saved_connect_timeout);
		section->saved_connect_timeout = NULL;
	}
	else
		unsetenv("PGCONNECT_TIMEOUT");
}
