/*-------------------------------------------------------------------------
 *
 * record.c
 *		What statements are like before, during and after an experiment.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/record.h"
#include "chaos/target.h"

void
rsl_record_start(uint32 targets)
{
}

void
rsl_record_end(void)
{
}

void
rsl_record_init(void)
{
}
