/*-------------------------------------------------------------------------
 *
 * priority.h
 *		The four priority classes of a statement.
 *
 * Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_PRIORITY_H
#define RSL_CORE_PRIORITY_H

typedef enum rsl_priority
{
	RSL_PRIORITY_LOW = 0,
	RSL_PRIORITY_NORMAL,
	RSL_PRIORITY_HIGH,
	RSL_PRIORITY_CRITICAL
} rsl_priority;

#define RSL_NUM_PRIORITIES	4

#endif							/* RSL_CORE_PRIORITY_H */
