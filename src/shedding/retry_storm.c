/*-------------------------------------------------------------------------
 *
 * retry_storm.c
 *		Statements that come back soon after they were refused.
 *
 * Clients that retry at once, and without end, keep a queue full by
 * themselves: whoever is refused comes back, the newcomers find no place, and
 * the overload outlives what caused it (Bronson et al., "Metastable Failures
 * in Distributed Systems", 2021).  So retries of that kind have a budget, for
 * each bulkhead, and for each class of the server-wide limit: a fifth of the
 * first attempts, and ten a second.  What exceeds it is refused at once and
 * takes no place in the queue.
 *
 * A retry is a statement with the same query id (without one: the same text)
 * in the same session, within the retry_after_ms that its last refusal told,
 * or within a second if that is longer.  The memory is the session's own, so
 * a client that opens a connection for each attempt is not recognized: that
 * is what connection rates are for.
 *
 * All of this is only looked at when there is no free slot.  Hence "first
 * attempts" are those that found none.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/hashfn.h"
#include "core/token_bucket.h"
#include "shared/pool.h"
#include "shedding/retry_storm.h"

/* a retry within this is one, even if the client was told less */
#define SOON_MS				1000

/* so much of a statement's text, and its length, tell it from others */
#define HASHED_BYTES		16384

/* two seconds' worth are saved up */
static const rsl_bucket_config budget = {
	.per_second = 10,
	.deposit_milli = 200,
	.capacity = 20
};

/* this session's last refusal; until = 0: none */
static uint64 refused_statement;
static int64 refused_until = 0;

static uint64
statement_key(const rsl_statement *statement)
{
	const PlannedStmt *stmt = statement->stmt;
	const char *text = statement->source_text;
	Size		length;

	if (stmt->queryId != 0)
		return (uint64) stmt->queryId;
	if (text == NULL)
		return 0;
	length = strlen(text);
	if (stmt->stmt_location > 0 && (Size) stmt->stmt_location < length)
	{
		text += stmt->stmt_location;

		length -= stmt->stmt_location;
	}
	if (stmt->stmt_len > 0 && (Size) stmt->stmt_len < length)
		length = stmt->stmt_len;
	return hash_bytes_extended((const unsigned char *) text,
							   (int) Min(length, HASHED_BYTES), length);
}

/* The statement is about to be refused. */
void
rsl_note_refusal(const rsl_statement *statement, int64 retry_after_ms)
{
	refused_statement = statement_key(statement);
	refused_until = rsl_now_us() +
		Max(retry_after_ms, SOON_MS) * INT64CONST(1000);
}

/* Is the statement back so soon? */
bool
rsl_is_retry(const rsl_statement *statement)
{
	return refused_until != 0 && rsl_now_us() < refused_until &&
		statement_key(statement) == refused_statement;
}

/*
 * Count a retry, and pay for it.  Returns whether there was a token; a first
 * attempt needs none, and pays in.
 */
bool
rsl_retry_may_queue(rsl_overload *overload, bool retry)
{
	int64		now_ms = rsl_now_us() / 1000;
	uint64		word = pg_atomic_read_u64(&overload->retry_word);
	uint64		next;

	if (retry)
		pg_atomic_fetch_add_u64(&overload->retried, 1);

	/* a full bucket, the usual case, is not written to */
	else if (rsl_bucket_tokens(&budget, word, now_ms) >= budget.capacity)
		return true;

	do
	{
		if (!retry)
			next = rsl_bucket_deposit(&budget, word, now_ms);
		else if (!rsl_bucket_take(&budget, word, now_ms, &next))
			return false;
	} while (!pg_atomic_compare_exchange_u64(&overload->retry_word, &word, next));
	return true;
}
