/*-------------------------------------------------------------------------
 *
 * sqlcommenter.h
 *		Tags in the comments of a statement: key='value',key2='value2'.
 *
 * Part of the cores: plain C, no backend headers, no allocation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_SQLCOMMENTER_H
#define RSL_CORE_SQLCOMMENTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* length of a decoded key, and of a value that is kept, with the final zero */
#define RSL_TAG_LEN		64

/*
 * A tag to look for, and what was found.  The hash is over the key and the
 * whole decoded value, so that two values that are cut to the same text
 * still differ.
 */
typedef struct rsl_tag
{
	const char *key;			/* decoded, as in the condition; the caller's */
	bool		found;
	bool		cut;			/* the value has RSL_TAG_LEN bytes or more */
	uint64_t	hash;
	char		value[RSL_TAG_LEN]; /* decoded, with the final zero */
} rsl_tag;

/*
 * A statement within the text of a query string.  "start" is where its first
 * token is, or any place between the end of the statement before it and that;
 * "from" is 0, or the same as "start" if that is the end of the statement
 * before it.  "end" is behind its last token, before the semicolon.
 */
typedef struct rsl_statement_text
{
	const char *text;
	size_t		from;
	size_t		start;
	size_t		end;
	size_t		length;			/* of the whole text */
} rsl_statement_text;

extern int	rsl_tags_find(const rsl_statement_text *statement, rsl_tag *tags,
						  int ntags);
extern uint64_t rsl_tag_hash(const char *key, const char *value, size_t length);

#endif							/* RSL_CORE_SQLCOMMENTER_H */
