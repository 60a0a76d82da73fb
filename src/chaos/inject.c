/*-------------------------------------------------------------------------
 *
 * inject.c
 *		Faults.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/inject.h"
#include "chaos/target.h"

void
rsl_inject_at_start(uint32 targets)
{
}

void
rsl_inject_at_end(uint32 targets)
{
}

void
rsl_inject_at_connection(void)
{
}
