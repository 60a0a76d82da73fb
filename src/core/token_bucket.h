/*-------------------------------------------------------------------------
 *
 * token_bucket.h
 *		The budget for retries: a bucket of tokens in one 64-bit word.
 *
 * Each first attempt puts a fraction of a token in, time puts some in at a
 * steady rate, and each retry takes one out.  So retries are at most that
 * fraction of the first attempts, and the steady rate on top, whatever
 * happens (Finagle's RetryBudget; gRPC proposal A6).  The word holds the
 * tokens and the time of the last look; callers change it by
 * compare-and-swap: these functions only say what the next word is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_TOKEN_BUCKET_H
#define RSL_CORE_TOKEN_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rsl_bucket_config
{
	uint32_t	per_second;		/* tokens that come by themselves */
	uint32_t	deposit_milli;	/* thousandths of a token per first attempt */
	uint32_t	capacity;		/* tokens at most; also what it starts with */
} rsl_bucket_config;

/* now_ms: a clock that does not go back */
extern uint64_t rsl_bucket_full(const rsl_bucket_config *config, int64_t now_ms);
extern uint64_t rsl_bucket_deposit(const rsl_bucket_config *config,
								   uint64_t word, int64_t now_ms);

/* Returns false, and leaves *next alone, if there is no whole token. */
extern bool rsl_bucket_take(const rsl_bucket_config *config, uint64_t word,
							int64_t now_ms, uint64_t *next);
extern double rsl_bucket_tokens(const rsl_bucket_config *config,
								uint64_t word, int64_t now_ms);

#endif							/* RSL_CORE_TOKEN_BUCKET_H */
