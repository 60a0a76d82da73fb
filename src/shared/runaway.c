/*-------------------------------------------------------------------------
 *
 * runaway.c
 *		Runaway rules and the quarantine in shared memory.
 *
 * A query is in quarantine by its query id, for the sessions that the rule
 * matches.  It is put there by the launcher, when a statement has hit the
 * rule, and looked up by each transaction at its statements, as long as there
 * is any.  It ends by time (each reader sees that for itself), by release,
 * and with its rule.  The table is small and has a fixed size; when it is full
 * the oldest query makes room.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/events.h"
#include "shared/runaway.h"
#include "shared/settings.h"
#include "utils/timestamp.h"

rsl_runaway_shared *rsl_runaway = NULL;

#define USE(word)		((uint32) ((word) >> 32))
#define RUNNING(word)	((uint32) (word))

Size
rsl_runaway_shmem_size(void)
{
	return CACHELINEALIGN(add_size(offsetof(rsl_runaway_shared, rules),
								   mul_size(sizeof(rsl_runaway_rule),
											rsl_max_runaway_rules)));
}

void
rsl_runaway_shmem_place(void *memory)
{
	rsl_runaway = memory;
}

/* The memory is zero. */
void
rsl_runaway_shmem_init(void)
{
	rsl_runaway->max_rules = rsl_max_runaway_rules;
	pg_atomic_init_u64(&rsl_runaway->rows_limit, 0);
	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];

		pg_atomic_init_u64(&entry->query_id, 0);
		pg_atomic_init_u64(&entry->word, 0);
		pg_atomic_init_u64(&entry->since, 0);
		pg_atomic_init_u64(&entry->until, 0);
		pg_atomic_init_u64(&entry->refused, 0);
	}
	for (int i = 0; i < rsl_runaway->max_rules; i++)
	{
		rsl_runaway_rule *rule = &rsl_runaway->rules[i];

		pg_atomic_init_u64(&rule->hits, 0);
		pg_atomic_init_u64(&rule->cancelled, 0);
		pg_atomic_init_u64(&rule->refused, 0);
		pg_atomic_init_u64(&rule->quarantined, 0);
		pg_atomic_init_u64(&rule->evicted, 0);
		pg_atomic_init_u64(&rule->last_hit, 0);
		pg_atomic_init_u64(&rule->last_query_id, 0);
	}
}

/* The totals of a rule. */
void
rsl_runaway_reset_statistics(int index)
{
	rsl_runaway_rule *rule = &rsl_runaway->rules[index];

	pg_atomic_write_u64(&rule->hits, 0);
	pg_atomic_write_u64(&rule->cancelled, 0);
	pg_atomic_write_u64(&rule->refused, 0);
	pg_atomic_write_u64(&rule->quarantined, 0);
	pg_atomic_write_u64(&rule->evicted, 0);
}

static void
count_quarantined(void)
{
	uint32		n = 0;

	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
		n += pg_atomic_read_u64(&rsl_runaway->quarantine[i].query_id) != 0;
	pg_atomic_write_u32(&rsl_shmem->nquarantined, n);
}

/*
 * A query is in quarantine no more.  Those that still run it give back
 * nothing: the use is over.
 */
static void
end_entry(rsl_quarantined *entry, const char *reason)
{
	uint64		query_id = pg_atomic_read_u64(&entry->query_id);
	const rsl_runaway_policy *policy =
		&rsl_runaway->rules[pg_atomic_read_u32(&entry->rule)].policy;

	if (query_id != 0)
		rsl_event(RSL_EVENT_RUNAWAY_RULE, policy->home_database, policy->name,
				  "quarantined", "released",
				  "query_id=" INT64_FORMAT " reason=\"%s\" refused=" UINT64_FORMAT,
				  (int64) query_id, reason,
				  pg_atomic_read_u64(&entry->refused));
	pg_atomic_write_u64(&entry->query_id, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&entry->word, (uint64) ++rsl_runaway->last_use << 32);
}

/*
 * Put a query into quarantine, or lengthen its stay.  Returns until when.
 */
TimestampTz
rsl_quarantine_put(int rule, uint64 query_id, TimestampTz now)
{
	const rsl_runaway_policy *policy = &rsl_runaway->rules[rule].policy;
	TimestampTz until = TimestampTzPlusMilliseconds(now, policy->quarantine_ms);
	rsl_quarantined *entry = NULL;

	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *candidate = &rsl_runaway->quarantine[i];

		if (pg_atomic_read_u64(&candidate->query_id) == query_id &&
			pg_atomic_read_u32(&candidate->rule) == rule)
		{
			pg_atomic_write_u64(&candidate->until, (uint64) until);
			return until;
		}
		if (entry == NULL ||
			(pg_atomic_read_u64(&entry->query_id) != 0 &&
			 (pg_atomic_read_u64(&candidate->query_id) == 0 ||
			  pg_atomic_read_u64(&candidate->since) <
			  pg_atomic_read_u64(&entry->since))))
			entry = candidate;
	}
	if (pg_atomic_read_u64(&entry->query_id) != 0)
		pg_atomic_fetch_add_u64(&rsl_runaway->rules[pg_atomic_read_u32(&entry->rule)].evicted, 1);

	end_entry(entry, "made room for another");
	pg_atomic_write_u64(&entry->since, (uint64) now);
	pg_atomic_write_u64(&entry->until, (uint64) until);
	pg_atomic_write_u64(&entry->refused, 0);
	pg_atomic_write_u32(&entry->rule, rule);
	pg_atomic_write_u32(&entry->action, policy->action);
	pg_atomic_write_u32(&entry->max_running, policy->quarantine_max_running);
	pg_atomic_write_u32(&entry->has_tag,
						policy->conditions.tag_key[0] != '\0');
	pg_write_barrier();
	pg_atomic_write_u64(&entry->query_id, query_id);
	pg_atomic_fetch_add_u64(&rsl_runaway->rules[rule].quarantined, 1);
	count_quarantined();
	rsl_event(RSL_EVENT_RUNAWAY_RULE, policy->home_database, policy->name,
			  NULL, "quarantined",
			  "query_id=" INT64_FORMAT " quarantine_ms=" INT64_FORMAT " max_running=%d",
			  (int64) query_id, policy->quarantine_ms,
			  policy->quarantine_max_running);
	return until;
}

/* The rule is gone, or another one by now. */
void
rsl_quarantine_drop_rule(int rule)
{
	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];

		if (pg_atomic_read_u64(&entry->query_id) != 0 &&
			pg_atomic_read_u32(&entry->rule) == rule)
			end_entry(entry, "the rule was changed");
	}
	count_quarantined();
}

/* Release a query from the rules of a database.  Returns from how many. */
int
rsl_quarantine_release(Oid home_database, uint64 query_id)
{
	int			n = 0;

	for (int i = 0; i < RSL_QUARANTINE_SIZE && query_id != 0; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];
		uint32		rule = pg_atomic_read_u32(&entry->rule);

		if (pg_atomic_read_u64(&entry->query_id) != query_id ||
			rsl_runaway->rules[rule].policy.home_database != home_database)
			continue;
		end_entry(entry, "by command");
		n++;
	}
	count_quarantined();
	return n;
}

void
rsl_quarantine_expire(TimestampTz now)
{
	for (int i = 0; i < RSL_QUARANTINE_SIZE; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];

		if (pg_atomic_read_u64(&entry->query_id) != 0 &&
			(TimestampTz) pg_atomic_read_u64(&entry->until) <= now)
			end_entry(entry, "time is up");
	}
	count_quarantined();
}

/*
 * Is a query in quarantine, by one of the rules that a session matches, and
 * whose condition on a tag, if any, the statement meets?  The
 * strictest entry counts.
 */
rsl_quarantined *
rsl_quarantine_find(uint64 query_id, uint32 rules, uint32 tag_rules,
					TimestampTz now, uint32 *use)
{
	rsl_quarantined *found = NULL;

	for (int i = 0; i < RSL_QUARANTINE_SIZE && query_id != 0; i++)
	{
		rsl_quarantined *entry = &rsl_runaway->quarantine[i];
		uint32		its_use;
		uint32		bit;

		if (likely(pg_atomic_read_u64(&entry->query_id) != query_id))
			continue;
		its_use = USE(pg_atomic_read_u64(&entry->word));
		pg_read_barrier();
		bit = UINT32_C(1) << pg_atomic_read_u32(&entry->rule);
		if ((rules & bit) == 0 ||
			(pg_atomic_read_u32(&entry->has_tag) != 0 && (tag_rules & bit) == 0) ||
			(TimestampTz) pg_atomic_read_u64(&entry->until) <= now)
			continue;
		if (found != NULL &&
			(pg_atomic_read_u32(&entry->action) < pg_atomic_read_u32(&found->action) ||
			 (pg_atomic_read_u32(&entry->action) == pg_atomic_read_u32(&found->action) &&
			  pg_atomic_read_u32(&entry->max_running) >= pg_atomic_read_u32(&found->max_running))))
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u64(&entry->query_id) != query_id ||
			USE(pg_atomic_read_u64(&entry->word)) != its_use)
			continue;
		found = entry;
		*use = its_use;
	}
	return found;
}

/*
 * May this transaction run the query?  Then it is counted until it ends; it
 * has at most one such place.  An entry that has got another use since it was
 * looked up does not hold anybody.
 */
bool
rsl_quarantine_enter(rsl_session *session, rsl_quarantined *entry, uint32 use)
{
	uint64		word = pg_atomic_read_u64(&entry->word);
	int			place = (int) (entry - rsl_runaway->quarantine) + 1;

	if (session->quarantine == place && session->quarantine_use == use)
		return true;
	do
	{
		if (USE(word) != use)
			return true;
		if (RUNNING(word) >= pg_atomic_read_u32(&entry->max_running))
			return false;
	} while (!pg_atomic_compare_exchange_u64(&entry->word, &word, word + 1));

	rsl_quarantine_leave(session);
	session->quarantine_use = use;
	session->quarantine = place;

	return true;
}

void
rsl_quarantine_leave(rsl_session *session)
{
	rsl_quarantined *entry;
	uint64		word;

	if (session->quarantine == 0)
		return;
	entry = &rsl_runaway->quarantine[session->quarantine - 1];
	session->quarantine = 0;

	word = pg_atomic_read_u64(&entry->word);
	do
	{
		if (USE(word) != session->quarantine_use)
			return;
	} while (!pg_atomic_compare_exchange_u64(&entry->word, &word, word - 1));
}
