/*-------------------------------------------------------------------------
 *
 * token_bucket.c
 *		The budget for retries: a bucket of tokens in one 64-bit word.
 *
 * The upper 28 bits of the word count thousandths of tokens: a capacity above
 * 268 435 tokens is taken for that.  The lower 36 bits are the time of the
 * last look in milliseconds, modulo 2.2 years.
 *
 * A process may come with a time that is older than the word's: it looked at
 * the clock, was put aside by the scheduler, and others were faster.  Then no
 * time has passed, and the word keeps its time; were it set back, the same
 * milliseconds would bring tokens twice.  Up to an hour back is such a
 * straggler, anything else is a time ahead.  So a bucket that nobody touched
 * for some multiple of 2.2 years gets less than it is due, for at most an
 * hour; nothing ever gets more than its capacity.
 *
 *-------------------------------------------------------------------------
 */
#include "core/token_bucket.h"

#define TIME_BITS		36
#define TIME_MASK		((UINT64_C(1) << TIME_BITS) - 1)
#define MAX_MILLI		((UINT64_C(1) << (64 - TIME_BITS)) - 1)
#define STRAGGLER_MS	UINT64_C(3600000)

static uint64_t
capacity_milli(const rsl_bucket_config *config)
{
	uint64_t	milli = (uint64_t) config->capacity * 1000;

	return milli < MAX_MILLI ? milli : MAX_MILLI;
}

static uint64_t
pack(uint64_t milli, uint64_t time)
{
	return milli << TIME_BITS | (time & TIME_MASK);
}

/*
 * Thousandths of tokens, with those that time has brought since the last
 * look, and the time up to which they are reckoned.
 */
static uint64_t
refilled(const rsl_bucket_config *config, uint64_t word, int64_t now_ms,
		 uint64_t *time)
{
	uint64_t	milli = word >> TIME_BITS;
	uint64_t	elapsed = ((uint64_t) now_ms - word) & TIME_MASK;
	uint64_t	capacity = capacity_milli(config);

	if (elapsed > TIME_MASK - STRAGGLER_MS)
	{
		elapsed = 0;
		*time = word;
	}
	else
		*time = (uint64_t) now_ms;

	/* tokens per second are thousandths per millisecond; nothing overflows */
	if (elapsed > MAX_MILLI)
		elapsed = MAX_MILLI;
	milli += elapsed * config->per_second;
	return milli < capacity ? milli : capacity;
}

uint64_t
rsl_bucket_full(const rsl_bucket_config *config, int64_t now_ms)
{
	return pack(capacity_milli(config), (uint64_t) now_ms);
}

uint64_t
rsl_bucket_deposit(const rsl_bucket_config *config, uint64_t word,
				   int64_t now_ms)
{
	uint64_t	capacity = capacity_milli(config);
	uint64_t	time;
	uint64_t	milli = refilled(config, word, now_ms, &time) +
		config->deposit_milli;

	return pack(milli < capacity ? milli : capacity, time);
}

bool
rsl_bucket_take(const rsl_bucket_config *config, uint64_t word,
				int64_t now_ms, uint64_t *next)
{
	uint64_t	time;
	uint64_t	milli = refilled(config, word, now_ms, &time);

	if (milli < 1000)
		return false;
	*next = pack(milli - 1000, time);
	return true;
}

double
rsl_bucket_tokens(const rsl_bucket_config *config, uint64_t word,
				  int64_t now_ms)
{
	uint64_t	time;

	return (double) refilled(config, word, now_ms, &time) / 1000;
}
