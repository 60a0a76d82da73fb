/*-------------------------------------------------------------------------
 *
 * token_bucket.c
 *		The budget for retries: a bucket of tokens in one 64-bit word.
 *
 * The upper half of the word counts thousandths of tokens, the lower half is
 * the time of the last look in milliseconds, modulo 2^32: seven weeks.  A
 * bucket that nobody looked at for longer may get less than it is due, never
 * more than its capacity.
 *
 *-------------------------------------------------------------------------
 */
#include "core/token_bucket.h"

static uint64_t
pack(uint64_t milli, int64_t now_ms)
{
	return milli << 32 | (uint32_t) now_ms;
}

/* thousandths of tokens, with those that time has brought since */
static uint64_t
refilled(const rsl_bucket_config *config, uint64_t word, int64_t now_ms)
{
	uint64_t	milli = word >> 32;
	uint32_t	elapsed = (uint32_t) now_ms - (uint32_t) word;
	uint64_t	capacity = (uint64_t) config->capacity * 1000;

	/* another process was faster and has seen a later time */
	if (elapsed > UINT32_MAX - 1000)
		elapsed = 0;
	milli += (uint64_t) elapsed * config->per_second;
	return milli < capacity ? milli : capacity;
}

uint64_t
rsl_bucket_full(const rsl_bucket_config *config, int64_t now_ms)
{
	return pack((uint64_t) config->capacity * 1000, now_ms);
}

uint64_t
rsl_bucket_deposit(const rsl_bucket_config *config, uint64_t word,
				   int64_t now_ms)
{
	uint64_t	capacity = (uint64_t) config->capacity * 1000;
	uint64_t	milli = refilled(config, word, now_ms) + config->deposit_milli;

	return pack(milli < capacity ? milli : capacity, now_ms);
}

bool
rsl_bucket_take(const rsl_bucket_config *config, uint64_t word,
				int64_t now_ms, uint64_t *next)
{
	uint64_t	milli = refilled(config, word, now_ms);

	if (milli < 1000)
		return false;
	*next = pack(milli - 1000, now_ms);
	return true;
}

double
rsl_bucket_tokens(const rsl_bucket_config *config, uint64_t word,
				  int64_t now_ms)
{
	return (double) refilled(config, word, now_ms) / 1000;
}
