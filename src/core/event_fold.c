/*-------------------------------------------------------------------------
 *
 * event_fold.c
 *		At most one of an object's events in each period.
 *
 * See event_fold.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/event_fold.h"

void
rsl_fold_init(rsl_fold *fold, int64_t period)
{
	fold->period = period;
	fold->nentries = 0;
}

bool
rsl_fold_add(rsl_fold *fold, uint64_t object, uint64_t event, int64_t now)
{
	rsl_fold_entry *free_entry = 0;
	rsl_fold_entry *entry = 0;

	for (int i = 0; i < fold->nentries && !entry; i++)
	{
		rsl_fold_entry *candidate = &fold->entries[i];

		if (candidate->object == object)
			entry = candidate;
		else if (candidate->held == 0 &&
				 now - candidate->told_at >= fold->period)
			free_entry = candidate;
	}
	if (entry)
	{
		if (entry->held > 0 || now - entry->told_at < fold->period)
		{
			entry->held++;
			entry->newest = event;
			return false;
		}
	}
	else if (free_entry)
		entry = free_entry;
	else if (fold->nentries < RSL_FOLD_OBJECTS)
		entry = &fold->entries[fold->nentries++];
	else
		return true;

	entry->object = object;
	entry->told_at = now;
	entry->held = 0;
	return true;
}

bool
rsl_fold_due(rsl_fold *fold, int64_t now, uint64_t *event, uint32_t *others)
{
	rsl_fold_entry *first = 0;

	/* in the order of the events */
	for (int i = 0; i < fold->nentries; i++)
	{
		rsl_fold_entry *entry = &fold->entries[i];

		if (entry->held > 0 && now - entry->told_at >= fold->period &&
			(!first || entry->newest < first->newest))
			first = entry;
	}
	if (!first)
		return false;
	*event = first->newest;
	*others = first->held - 1;
	first->held = 0;
	first->told_at = now;
	return true;
}
