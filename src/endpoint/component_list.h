/*-------------------------------------------------------------------------
 *
 * component_list.h
 *		The components of the server's health in an array, worst first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_ENDPOINT_COMPONENT_LIST_H
#define RSL_ENDPOINT_COMPONENT_LIST_H

#include "health/components.h"

typedef struct rsl_component_list
{
	int			count;
	int			room;
	rsl_component *components;
} rsl_component_list;

/* In the current memory context.  In the order of the view "health". */
extern void rsl_component_list_make(rsl_component_list *list);

#endif							/* RSL_ENDPOINT_COMPONENT_LIST_H */
