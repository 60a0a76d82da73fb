/*-------------------------------------------------------------------------
 *
 * compartments.c
 *		One compartment for each value of a tag.
 *
 * A bulkhead with a tag but no value has a pool for each value, with the
 * limits of the bulkhead.  Values come and go, so there is a fixed array of
 * compartments, and one that nobody uses any more is given to another value,
 * the least recently used first.  If none is free the value shares the
 * bulkhead's own pool.
 *
 * What must hold:
 *
 * 1. The key of a compartment (uid, hash, value) does not change while it is
 *	  pinned.  A transaction pins its compartment before it touches the pool,
 *	  and unpins it after it has given everything back and waits for nothing.
 *	  So no slot is ever given back to a pool that has become another value's.
 *
 * 2. Pinning is an atomic addition and then a look at the key; if it is
 *	  another one by now, the pin is taken back.  Whoever wants to change the
 *	  key claims the compartment by a compare-and-swap of pins from 0, so that
 *	  a pinner either comes before, and the claim fails, or sees the claim.
 *
 * 3. A compartment is given away only when, once claimed, its pool's word is
 *	  0: the launcher, which lends the slots of an idle transaction, may still
 *	  be about to give back a unit when that transaction has already ended and
 *	  unpinned, and until it has done so the word is not 0.
 *
 * 4. Entries of the array are never freed, and pool numbers never change
 *	  their meaning.  A wake-up or a dispatch that comes too late finds a pool
 *	  in a consistent state and does no harm.
 *
 * 5. Compartments get new keys, and with them their limits, under the config
 *	  lock (shared) and the compartments lock (exclusive); whoever publishes
 *	  holds the config lock exclusively and changes the limits of all
 *	  compartments of a bulkhead.  So none keeps old limits.
 *
 * Finding a value that has a compartment takes no lock.  The chains of the
 * hash table change under the compartments lock only; who follows them
 * without it may be led astray and find nothing, and then looks again with
 * the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "shared/compartments.h"
#include "utils/timestamp.h"

static inline uint32
bucket_of(uint64 hash)
{
	return (uint32) (hash % (uint32) rsl_shmem->ncompartments);
}

static bool
key_matches(rsl_compartment *c, uint32 uid, const rsl_tag *tag)
{
	return pg_atomic_read_u64(&c->hash) == tag->hash &&
		pg_atomic_read_u32(&c->uid) == uid;
}

/* The value too, as far as there is room for it. */
static bool
value_matches(rsl_compartment *c, const rsl_tag *tag)
{
	return strncmp(c->value, tag->value, RSL_COMPARTMENT_VALUE_LEN - 1) == 0;
}

/* Pin a compartment if it has this key. */
static bool
pin_if(int i, uint32 uid, const rsl_tag *tag)
{
	rsl_compartment *c = &rsl_compartments[i];

	if (!key_matches(c, uid, tag))
		return false;
	if ((pg_atomic_fetch_add_u32(&c->pins, 1) & RSL_COMPARTMENT_CLAIMED) == 0 &&
		key_matches(c, uid, tag) && value_matches(c, tag))
		return true;
	pg_atomic_fetch_sub_u32(&c->pins, 1);
	return false;
}

/* Find and pin the compartment of a key; -1 if it is not found. */
static int
find(uint32 uid, const rsl_tag *tag)
{
	uint32		next = pg_atomic_read_u32(&rsl_compartment_buckets[bucket_of(tag->hash)]);

	/* a chain that changes might go round in circles */
	for (int steps = 0; next != 0 && steps < rsl_shmem->ncompartments; steps++)
	{
		if (pin_if((int) next - 1, uid, tag))
			return (int) next - 1;
		next = pg_atomic_read_u32(&rsl_compartments[next - 1].next);
	}
	return -1;
}

static bool
is_dead(rsl_compartment *c)
{
	rsl_bulkhead *bulkhead = &rsl_bulkheads[c->bulkhead];

	return !bulkhead->published ||
		bulkhead->uid != pg_atomic_read_u32(&c->uid);
}

/* Take a compartment for ourselves if nobody uses it. */
static bool
claim(rsl_compartment *c)
{
	uint32		nobody = 0;

	if (pg_atomic_read_u32(&c->pins) != 0 ||
		pg_atomic_read_u64(&c->pool.word) != 0 ||
		!pg_atomic_compare_exchange_u32(&c->pins, &nobody,
										RSL_COMPARTMENT_CLAIMED))
		return false;
	if (pg_atomic_read_u64(&c->pool.word) == 0)
		return true;
	pg_atomic_fetch_sub_u32(&c->pins, RSL_COMPARTMENT_CLAIMED);
	return false;
}

static void
unlink_compartment(int i)
{
	rsl_compartment *c = &rsl_compartments[i];
	pg_atomic_uint32 *link;

	link = &rsl_compartment_buckets[bucket_of(pg_atomic_read_u64(&c->hash))];
	while (pg_atomic_read_u32(link) != (uint32) i + 1)
		link = &rsl_compartments[pg_atomic_read_u32(link) - 1].next;
	pg_atomic_write_u32(link, pg_atomic_read_u32(&c->next));
}

/*
 * A compartment that nobody uses, claimed: one that was never used, else one
 * of a bulkhead that is gone, else the least recently used.  -1 if there is
 * none.  Both locks are held.
 */
static int
claim_any(void)
{
	uint32		used = pg_atomic_read_u32(&rsl_shmem->ncompartments_used);

	if (used < (uint32) rsl_shmem->ncompartments)
	{
		pg_atomic_write_u32(&rsl_compartments[used].pins,
							RSL_COMPARTMENT_CLAIMED);
		pg_write_barrier();
		pg_atomic_write_u32(&rsl_shmem->ncompartments_used, used + 1);
		return (int) used;
	}

	/* the one that was chosen may be taken into use meanwhile */
	for (int tries = 0; tries < 3; tries++)
	{
		int			best = -1;
		uint64		best_used = 0;

		for (uint32 i = 0; i < used; i++)
		{
			rsl_compartment *c = &rsl_compartments[i];
			uint64		last_used;

			if (pg_atomic_read_u32(&c->pins) != 0 ||
				pg_atomic_read_u64(&c->pool.word) != 0)
				continue;
			last_used = is_dead(c) ? 0 : pg_atomic_read_u64(&c->last_used);
			if (best < 0 || last_used < best_used)
			{
				best = (int) i;
				best_used = last_used;
			}
		}
		if (best < 0)
			return -1;
		if (claim(&rsl_compartments[best]))
		{
			unlink_compartment(best);
			return best;
		}
	}
	return -1;
}

/* Limits are the bulkhead's.  Config lock held. */
static void
copy_limits(rsl_compartment *c)
{
	rsl_pool   *from = &rsl_bulkheads[c->bulkhead].pool;

	pg_atomic_write_u32(&c->pool.max_waiting,
						pg_atomic_read_u32(&from->max_waiting));
	pg_atomic_write_u32(&c->pool.max_running,
						pg_atomic_read_u32(&from->max_running));
}

/* Make a compartment for a value, pinned; -1 if none is free. */
static int
make(int index, uint32 uid, const rsl_tag *tag)
{
	rsl_compartment *c;
	pg_atomic_uint32 *bucket;
	int			i;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	if (!rsl_bulkheads[index].published || rsl_bulkheads[index].uid != uid)
	{
		LWLockRelease(rsl_config_lock);
		return -1;
	}
	LWLockAcquire(rsl_compartments_lock, LW_EXCLUSIVE);
	i = find(uid, tag);
	if (i < 0 && (i = claim_any()) >= 0)
	{
		c = &rsl_compartments[i];
		pg_atomic_write_u32(&c->uid, 0);
		pg_write_barrier();
		c->bulkhead = (int16) index;
		c->cut = tag->cut || strlen(tag->value) >= RSL_COMPARTMENT_VALUE_LEN;
		strlcpy(c->value, tag->value, RSL_COMPARTMENT_VALUE_LEN);
		pg_atomic_write_u64(&c->hash, tag->hash);
		pg_atomic_write_u64(&c->admitted, 0);
		pg_atomic_write_u64(&c->wait_us, 0);
		pg_atomic_write_u32(&c->refused, 0);
		pg_atomic_write_u32(&c->timed_out, 0);
		pg_atomic_write_u32(&c->preempted, 0);
		c->pool.last_grant = 0;
		c->pool.grant_interval = 0;
		copy_limits(c);

		bucket = &rsl_compartment_buckets[bucket_of(tag->hash)];
		pg_atomic_write_u32(&c->next, pg_atomic_read_u32(bucket));
		pg_write_barrier();
		pg_atomic_write_u32(bucket, (uint32) i + 1);
		pg_atomic_write_u32(&c->uid, uid);

		/* from here on it can be found; the pin that stays is ours */
		pg_atomic_fetch_sub_u32(&c->pins, RSL_COMPARTMENT_CLAIMED - 1);
	}
	LWLockRelease(rsl_compartments_lock);
	LWLockRelease(rsl_config_lock);
	return i;
}

/*
 * Find the compartment of a value, or make it.  "remembered" is where this
 * session keeps the one that it used last, -1 at first.  Returns the number
 * of its pool, which is pinned: rsl_compartment_leave() has to follow.  If
 * there is none to be had, returns the bulkhead's own, with no pin.
 */
int
rsl_compartment_enter(int index, uint32 uid, const rsl_tag *tag,
					  int *remembered)
{
	rsl_compartment *c;
	TimestampTz now = GetCurrentStatementStartTimestamp();
	int			i = *remembered;

	if (i < 0 || !pin_if(i, uid, tag))
	{
		if (rsl_shmem->ncompartments == 0)
			i = -1;
		else if ((i = find(uid, tag)) < 0)
			i = make(index, uid, tag);
		*remembered = i;
		if (i < 0)
		{
			pg_atomic_fetch_add_u64(&rsl_bulkheads[index].no_compartment, 1);
			return index;
		}
	}

	c = &rsl_compartments[i];
	if (pg_atomic_read_u64(&c->last_used) < (uint64) now)
		pg_atomic_write_u64(&c->last_used, (uint64) now);
	return c->pool.number;
}

/* Nothing of the pool is held any more. */
void
rsl_compartment_leave(int number)
{
	pg_atomic_fetch_sub_u32(&rsl_compartments[number - rsl_shmem->nbulkheads].pins, 1);
}

/*
 * The limits of a bulkhead have changed, or it is out of force.  Config lock
 * held exclusively, or nobody else is there yet.
 */
void
rsl_compartments_apply_limits(int index)
{
	uint32		used = pg_atomic_read_u32(&rsl_shmem->ncompartments_used);

	for (uint32 i = 0; i < used; i++)
	{
		rsl_compartment *c = &rsl_compartments[i];

		if (c->bulkhead == index &&
			pg_atomic_read_u32(&c->uid) == rsl_bulkheads[index].uid)
			copy_limits(c);
	}
}

/* Is any compartment of a bulkhead in use, so that its entry cannot be free? */
bool
rsl_compartments_in_use(int index)
{
	uint32		used = pg_atomic_read_u32(&rsl_shmem->ncompartments_used);

	for (uint32 i = 0; i < used; i++)
	{
		rsl_compartment *c = &rsl_compartments[i];

		if (c->bulkhead == index &&
			(pg_atomic_read_u32(&c->pins) != 0 ||
			 pg_atomic_read_u64(&c->pool.word) != 0))
			return true;
	}
	return false;
}

/* Totals restart at zero. */
void
rsl_compartments_reset_statistics(void)
{
	uint32		used = pg_atomic_read_u32(&rsl_shmem->ncompartments_used);

	for (uint32 i = 0; i < used; i++)
	{
		rsl_compartment *c = &rsl_compartments[i];

		pg_atomic_write_u64(&c->admitted, 0);
		pg_atomic_write_u64(&c->wait_us, 0);
		pg_atomic_write_u32(&c->refused, 0);
		pg_atomic_write_u32(&c->timed_out, 0);
		pg_atomic_write_u32(&c->preempted, 0);
	}
}

/*
 * The value for people to read, in "shown" of RSL_COMPARTMENT_SHOWN_LEN
 * bytes: it comes from a client, of whatever database, so that anything may
 * be in it.  What cannot be shown is as \x09.
 */
char *
rsl_compartment_value(rsl_compartment *compartment, char *shown)
{
	char		value[RSL_COMPARTMENT_VALUE_LEN];
	char	   *to = shown;
	int			length;
	bool		valid;

	/* it may get another one while we look, if we have not pinned it */
	memcpy(value, compartment->value, sizeof(value));
	value[sizeof(value) - 1] = '\0';
	length = (int) strlen(value);
	if (compartment->cut)
		length = pg_mbcliplen(value, length, length);
	valid = pg_verify_mbstr(GetDatabaseEncoding(), value, length, true);
	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if (c < ' ' || c == 0x7F || (c >= 0x80 && !valid))
			to += sprintf(to, "\\x%02x", c);
		else
			*to++ = (char) c;
	}
	*to = '\0';
	return shown;
}
