/*-------------------------------------------------------------------------
 *
 * component_list.c
 *		The components of the server's health in an array, worst first.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "endpoint/component_list.h"

static void
append(const rsl_component *component, void *arg)
{
	rsl_component_list *list = arg;

	if (list->count == list->room)
	{
		list->room *= 2;
		list->components = repalloc(list->components,
									list->room * sizeof(rsl_component));
	}
	list->components[list->count++] = *component;
}

/* What is not known is worse than what is degraded: nobody looks after it. */
static int
badness(rsl_health_status status)
{
	return status == RSL_HEALTH_UNKNOWN ? RSL_DEGRADED * 2 + 1 : status * 2;
}

static int
compare(const void *left, const void *right)
{
	const rsl_component *a = left;
	const rsl_component *b = right;
	int			result = badness(b->status) - badness(a->status);

	if (result == 0)
		result = (int) b->critical - (int) a->critical;
	if (result == 0)
		result = strcmp(a->kind, b->kind);
	if (result == 0)
		result = strcmp(a->name, b->name);
	return result != 0 ? result : a->database < b->database ? -1 : 1;
}

void
rsl_component_list_make(rsl_component_list *list)
{
	list->count = 0;
	list->room = 32;
	list->components = palloc(list->room * sizeof(rsl_component));
	rsl_each_component(append, list);
	qsort(list->components, list->count, sizeof(rsl_component), compare);
}
