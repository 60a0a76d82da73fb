/*-------------------------------------------------------------------------
 *
 * xid_clock.c
 *		When was a transaction id the next one?
 *
 * See xid_clock.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/xid_clock.h"

void
rsl_xid_clock_note(rsl_xid_clock *clock, int64_t now, uint64_t next_xid)
{
	int64_t		spacing = RSL_XID_CLOCK_SPACING_US;

	for (int level = 0; level < RSL_XID_CLOCK_LEVELS; level++)
	{
		rsl_xid_clock_entry *entries = clock->entries[level];
		int			newest = clock->newest[level];

		if (entries[newest].at == 0 || now - entries[newest].at >= spacing)
		{
			if (entries[newest].at != 0)
				newest = (newest + 1) % RSL_XID_CLOCK_ENTRIES;
			entries[newest].at = now;
			entries[newest].next_xid = next_xid;
			clock->newest[level] = newest;
		}
		spacing *= RSL_XID_CLOCK_RATIO;
	}
}

/* An id below what was the next one had been given out by then. */
int64_t
rsl_xid_clock_age(const rsl_xid_clock *clock, int64_t now, uint64_t xid)
{
	int64_t		age = 0;

	for (int level = 0; level < RSL_XID_CLOCK_LEVELS; level++)
	{
		for (int i = 0; i < RSL_XID_CLOCK_ENTRIES; i++)
		{
			const rsl_xid_clock_entry *entry = &clock->entries[level][i];

			if (entry->at != 0 && xid < entry->next_xid &&
				now - entry->at > age)
				age = now - entry->at;
		}
	}
	return age;
}
