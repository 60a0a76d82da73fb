/*-------------------------------------------------------------------------
 *
 * statement.c
 *		What a statement tells about itself: command, query id, tags.
 *
 * The text is that of the query string; for a prepared statement the string
 * that prepared it, whatever the protocol.  Of a string of several statements
 * only the statement's own part counts (its comments before and behind it
 * included); for EXPLAIN ANALYZE and DECLARE CURSOR, whose inner query does
 * not know its place, the whole string.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/match.h"
#include "policy/query_ids.h"
#include "policy/statement.h"

/* how far behind the semicolon a comment is looked for */
#define MAX_BEHIND		8192

/* Is there a comment mark?  One pass over the text, and most end here. */
static bool
has_comment(const char *text, int length)
{
	const char *end = length > 0 ? text + length : NULL;

	for (;;)
	{
		text = end ? memchr(text, '/', end - text) : strchr(text, '/');

		if (text == NULL)
			return false;
		text++;

		if (text == end)
			return false;
		if (*text == '*')
			return true;
	}
}

/*
 * Look for tags in the comments of a statement.  Sets tags[i].found, and the
 * rest if it was found; returns how many were.  At most 32.
 */
int
rsl_statement_tags(const rsl_statement *statement, rsl_tag *tags, int ntags)
{
	const char *text = statement->source_text;
	int			location = Max(statement->stmt->stmt_location, 0);
	int			length = statement->stmt->stmt_len;
	rsl_statement_text part;
	bool		maybe;

	for (int i = 0; i < ntags; i++)
		tags[i].found = false;
	if (text == NULL || ntags == 0)
		return 0;

	part.text = text;

	part.from = rsl_statement_scan_start(location);
	part.start = location;
	maybe = has_comment(text + part.from,
						length > 0 ? location - (int) part.from + length : 0);
	if (length > 0)
	{
		size_t		end = (size_t) location + length;

		part.end = end;
		part.length = end;
		if (text[end] != '\0')
		{
			part.length += strnlen(text + end, MAX_BEHIND);
			/* only if there is no other statement, but the lexer sees to it */
			maybe = maybe || memchr(text + end, '*', part.length - end) != NULL;
		}
	}
	else if (maybe)
		part.end = part.length = part.from + strlen(text + part.from);
	if (!maybe)
		return 0;
	return rsl_tags_find(&part, tags, ntags);
}

/* The same for a single tag; whether it is there. */
static bool
find_tag(const rsl_statement *statement, const char *key, rsl_tag *tag)
{
	tag->key = key;
	return rsl_statement_tags(statement, tag, 1) == 1;
}

/* The query identifier, 0 if there is none; see rsl_query_id_of(). */
uint64
rsl_statement_query_id(const rsl_statement *statement)
{
	return rsl_query_id_of(statement->stmt, statement->source_text,
						   statement->queryDesc);
}

/*
 * The conditions that are about statements.  A condition on a tag without a
 * value holds when the tag is there.
 */
bool
rsl_conditions_match_statement(const rsl_conditions *conditions,
							   const rsl_statement *statement)
{
	rsl_tag		tag;

	if (conditions->commands != 0 &&
		(conditions->commands &
		 (UINT32_C(1) << rsl_command_of(statement->stmt))) == 0)
		return false;
	if (conditions->query_id != 0 &&
		(uint64) conditions->query_id != rsl_statement_query_id(statement))
		return false;
	if (conditions->tag_key[0] == '\0')
		return true;
	if (!find_tag(statement, conditions->tag_key, &tag))
		return false;
	return conditions->tag_any_value ||
		(!tag.cut && strcmp(tag.value, conditions->tag_value) == 0);
}
