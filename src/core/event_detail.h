/*-------------------------------------------------------------------------
 *
 * event_detail.h
 *		The numbers of an event: "key=value" pairs, and the same as JSON.
 *
 * Pairs are separated by spaces.  A key consists of letters, digits and
 * underscores.  A value is a word, or any text in double quotes; such a text
 * ends at the quote behind which another pair begins, or nothing more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_EVENT_DETAIL_H
#define RSL_CORE_EVENT_DETAIL_H

#include <stdbool.h>
#include <stddef.h>

/* room for the JSON of pairs that take so many bytes, with the final zero */
#define RSL_DETAIL_JSON_SIZE(bytes)		(6 * (bytes) + 32)

/* One pair, within the text that it was found in. */
typedef struct rsl_detail_pair
{
	const char *key;
	const char *value;			/* without the quotes */
	size_t		key_length;
	size_t		value_length;
	bool		quoted;
} rsl_detail_pair;

/*
 * The next pair; moves *text behind it.  What is no pair is left out.  False
 * when there is none any more.
 */
extern bool rsl_detail_next(const char **text, rsl_detail_pair *pair);

/* Copy the value of a key, cut if need be; false when there is no such key. */
extern bool rsl_detail_find(const char *text, const char *key, char *value,
							size_t size);

/*
 * Copy all pairs but those of a key; "out" has as much room as the text takes.
 */
extern void rsl_detail_without(const char *text, const char *key, char *out);

/*
 * Copy pairs into "room" bytes, final zero included.  A pair that does not fit
 * is left out, and those after it that do are taken; of a text in quotes as
 * much is taken as fits, with "..." at its end, if that is worth it.  Double
 * quotes within a value become single ones, control characters spaces (in a
 * word "_").
 * Returns false when something is missing.
 */
extern bool rsl_detail_copy(const char *text, char *out, size_t room);

/*
 * Pairs as a JSON object: numbers, true and false as such, all else as
 * strings, as are the SQLSTATEs (keys that end in "sqlstate") and whatever was
 * in quotes.  "truncated" adds the key of that name.  Returns the length;
 * "size" has to be RSL_DETAIL_JSON_SIZE() of the text's length.
 */
extern size_t rsl_detail_json(const char *text, bool truncated, char *out,
							  size_t size);

#endif							/* RSL_CORE_EVENT_DETAIL_H */
