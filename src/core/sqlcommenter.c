/*-------------------------------------------------------------------------
 *
 * sqlcommenter.c
 *		Tags in the comments of a statement: key='value',key2='value2'.
 *
 * The format is that of sqlcommenter (google.github.io/sqlcommenter/spec): a
 * comment that consists of nothing but pairs, key and value URL-encoded, the
 * value in single quotes, a single quote within it as \'.  Blanks around keys,
 * commas and values are allowed.  A comment that is anything else (a planner
 * hint, plain words, a pair that does not end) has no tags.
 *
 * Comments are found as PostgreSQL's lexer finds them: they nest, and neither
 * string literals (also E'' with its backslashes, and continued on the next
 * line), dollar quotes, quoted identifiers nor -- comments begin one.
 * standard_conforming_strings is taken to be on.
 *
 * Rules where the format is silent:
 *	- of several tags of the same key the first counts
 *	- + stays a plus sign: blanks come as %20
 *	- what is no encoding (%zz, % at the end), and %00, is taken literally
 *	- of a value of RSL_TAG_LEN bytes or more the beginning is kept; the hash
 *	  is over all of it
 *	- a comment behind the semicolon of the last statement belongs to it
 *
 * The text comes from the client: whatever it is, the time is linear in its
 * length, and nothing is read or written out of bounds.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "core/sqlcommenter.h"

#define FNV_OFFSET		UINT64_C(14695981039346656037)
#define FNV_PRIME		UINT64_C(1099511628211)

static inline bool
is_blank(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool
is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

/* the first character of an identifier, or of a dollar quote's tag */
static inline bool
is_identifier_start(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
		c >= 0x80;
}

static inline int
hex_digit(unsigned char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static inline uint64_t
hash_add(uint64_t hash, unsigned char c)
{
	return (hash ^ c) * FNV_PRIME;
}

/* FNV-1a leaves the low bits of short texts alike: mix them. */
static inline uint64_t
hash_finish(uint64_t hash)
{
	hash ^= hash >> 33;
	hash *= UINT64_C(0xff51afd7ed558ccd);
	hash ^= hash >> 33;
	return hash;
}

static uint64_t
hash_key(const char *key)
{
	uint64_t	hash = FNV_OFFSET;

	for (; *key != '\0'; key++)
		hash = hash_add(hash, (unsigned char) *key);
	return hash_add(hash, '=');
}

/* The hash of a tag, key and value decoded. */
uint64_t
rsl_tag_hash(const char *key, const char *value, size_t length)
{
	uint64_t	hash = hash_key(key);

	for (size_t i = 0; i < length; i++)
		hash = hash_add(hash, (unsigned char) value[i]);
	return hash_finish(hash);
}

/*
 * The next decoded byte of text[*pos .. end), *pos < end.  In a value \' is a
 * quote.
 */
static inline unsigned char
decode(const char *text, size_t *pos, size_t end, bool is_value)
{
	size_t		p = *pos;
	unsigned char c = (unsigned char) text[p];

	if (c == '%' && end - p > 2)
	{
		int			high = hex_digit((unsigned char) text[p + 1]);
		int			low = hex_digit((unsigned char) text[p + 2]);

		if (high >= 0 && low >= 0 && (high | low) != 0)
		{
			*pos = p + 3;
			return (unsigned char) (high << 4 | low);
		}
	}
	else if (c == '\\' && is_value && end - p > 1 && text[p + 1] == '\'')
	{
		*pos = p + 2;
		return '\'';
	}
	*pos = p + 1;
	return c;
}

static bool
key_is(const char *text, size_t pos, size_t end, const char *key)
{
	while (pos < end)
	{
		if (*key == '\0' ||
			decode(text, &pos, end, false) != (unsigned char) *key)
			return false;
		key++;
	}
	return *key == '\0';
}

static void
take_value(const char *text, size_t pos, size_t end, rsl_tag *tag)
{
	uint64_t	hash = hash_key(tag->key);
	size_t		n = 0;

	tag->found = true;
	tag->cut = false;
	while (pos < end)
	{
		unsigned char c = decode(text, &pos, end, true);

		hash = hash_add(hash, c);
		if (n < RSL_TAG_LEN - 1)
			tag->value[n++] = (char) c;
		else
			tag->cut = true;
	}
	tag->value[n] = '\0';
	tag->hash = hash_finish(hash);
}

/*
 * The next pair of a comment, from *pos on.  Returns false at the end, with
 * *valid telling whether all up to there were pairs.
 */
typedef struct tag_pair
{
	size_t		key;
	size_t		key_end;
	size_t		value;
	size_t		value_end;
} tag_pair;

static bool
next_pair(const char *text, size_t *pos, size_t end, tag_pair *pair, bool *valid)
{
	size_t		p = *pos;

	*valid = false;
	while (p < end && is_blank((unsigned char) text[p]))
		p++;
	if (p == end)
	{
		*valid = true;
		return false;
	}

	pair->key = p;
	while (p < end && text[p] != '=' && text[p] != '\'' && text[p] != ',' &&
		   !is_blank((unsigned char) text[p]))
		p++;
	pair->key_end = p;
	while (p < end && is_blank((unsigned char) text[p]))
		p++;
	if (pair->key_end == pair->key || p == end || text[p] != '=')
		return false;
	p++;
	while (p < end && is_blank((unsigned char) text[p]))
		p++;
	if (p == end || text[p] != '\'')
		return false;

	pair->value = ++p;
	while (p < end && text[p] != '\'')
		p += (text[p] == '\\' && p + 1 < end && text[p + 1] == '\'') ? 2 : 1;
	if (p >= end)
		return false;
	pair->value_end = p++;

	while (p < end && is_blank((unsigned char) text[p]))
		p++;
	if (p < end && text[p] != ',')
		return false;
	*pos = p < end ? p + 1 : p;
	*valid = true;
	return true;
}

/*
 * The tags of one comment; text[pos .. end) is what is between its marks.
 * Returns how many of those that are looked for have been found here.
 */
static int
read_comment(const char *text, size_t pos, size_t end, rsl_tag *tags, int ntags)
{
	tag_pair	pair;
	bool		valid;
	size_t		p = pos;
	int			n = 0;

	/* all of it has to be pairs: look before taking one */
	while (next_pair(text, &p, end, &pair, &valid))
		;
	if (!valid)
		return 0;

	while (next_pair(text, &pos, end, &pair, &valid))
	{
		for (int i = 0; i < ntags; i++)
		{
			if (tags[i].found ||
				!key_is(text, pair.key, pair.key_end, tags[i].key))
				continue;
			take_value(text, pair.value, pair.value_end, &tags[i]);
			n++;
		}
	}
	return n;
}

/* text[pos] is behind the mark; returns where the comment's last mark is. */
static size_t
skip_comment(const char *text, size_t pos, size_t end)
{
	int			depth = 1;

	while (end - pos >= 2)
	{
		if (text[pos] == '*' && text[pos + 1] == '/')
		{
			if (--depth == 0)
				return pos;
			pos += 2;
		}
		else if (text[pos] == '/' && text[pos + 1] == '*')
		{
			depth++;
			pos += 2;
		}
		else
			pos++;
	}
	return end;
}

static size_t
skip_line(const char *text, size_t pos, size_t end)
{
	while (pos < end && text[pos] != '\n' && text[pos] != '\r')
		pos++;
	return pos;
}

/* text[pos] is behind the quote; returns what is behind the closing one. */
static size_t
skip_quoted(const char *text, size_t pos, size_t end, char quote)
{
	const char *closing = memchr(text + pos, quote, end - pos);

	/* a doubled quote ends one and begins another: the same to us */
	return closing ? (size_t) (closing - text) + 1 : end;
}

/* The same for E'', which goes on if another literal follows on a new line. */
static size_t
skip_escape_string(const char *text, size_t pos, size_t end)
{
	for (;;)
	{
		bool		newline = false;

		while (pos < end && text[pos] != '\'')
			pos += text[pos] == '\\' ? 2 : 1;

		if (pos >= end)
			return end;
		pos++;
		if (pos < end && text[pos] == '\'')
		{
			pos++;				/* doubled */
			continue;
		}

		for (;;)
		{
			if (pos < end && is_blank((unsigned char) text[pos]))
			{
				newline |= text[pos] == '\n' || text[pos] == '\r';

				pos++;
			}
			else if (end - pos >= 2 && text[pos] == '-' && text[pos + 1] == '-')
				pos = skip_line(text, pos, end);
			else
				break;
		}
		if (!newline || pos >= end || text[pos] != '\'')
			return pos;
		pos++;
	}
}

/*
 * text[pos] is a dollar sign that is not within a word; returns what is
 * behind the dollar quote, or behind the sign if it begins none.
 */
static size_t
skip_dollar(const char *text, size_t pos, size_t end)
{
	size_t		open = pos++;
	size_t		mark;

	if (pos < end && is_identifier_start((unsigned char) text[pos]))
	{
		while (pos < end && (is_identifier_start((unsigned char) text[pos]) ||
							 is_digit((unsigned char) text[pos])))
			pos++;
	}
	if (pos >= end || text[pos] != '$')
		return open + 1;
	mark = ++pos - open;

	/* a part that is alike has no other dollar sign: no need to go back */
	while (end - pos >= mark)
	{
		const char *dollar = memchr(text + pos, '$', end - pos);
		size_t		alike = 1;

		if (dollar == NULL)
			return end;
		pos = (size_t) (dollar - text);
		if (end - pos < mark)
			return end;
		while (alike < mark && text[pos + alike] == text[open + alike])
			alike++;
		if (alike == mark)
			return pos + mark;
		pos += alike;
	}
	return end;
}

/* A word, or a number with whatever is stuck to it. */
static size_t
skip_word(const char *text, size_t pos, size_t end)
{
	bool		identifier = is_identifier_start((unsigned char) text[pos]);

	while (pos < end && (is_identifier_start((unsigned char) text[pos]) ||
						 is_digit((unsigned char) text[pos]) ||
						 (identifier && text[pos] == '$')))
		pos++;
	return pos;
}

/* Is there a comment mark at all?  The only thing that most statements cost. */
static bool
has_comment(const char *text, size_t pos, size_t end)
{
	while (pos < end)
	{
		const char *slash = memchr(text + pos, '/', end - pos);

		if (slash == NULL)
			return false;
		pos = (size_t) (slash - text) + 1;
		if (pos < end && text[pos] == '*')
			return true;
	}
	return false;
}

static void
forget_tags(rsl_tag *tags, int ntags, const bool *but)
{
	for (int i = 0; i < ntags; i++)
	{
		if (but == NULL || !but[i])
			tags[i].found = false;
	}
}

/*
 * Is there a comment behind the semicolon?  Then it may belong to the
 * statement; only the lexer knows.
 */
static bool
comment_follows(const rsl_statement_text *statement)
{
	const char *text = statement->text;
	size_t		pos = statement->end;

	while (pos < statement->length &&
		   (is_blank((unsigned char) text[pos]) || text[pos] == ';'))
		pos++;
	return statement->length - pos >= 2 &&
		((text[pos] == '/' && text[pos + 1] == '*') ||
		 (text[pos] == '-' && text[pos + 1] == '-'));
}

/*
 * Look for tags.  Sets "found" of each, and what else is in it if it was
 * found; returns how many were.  ntags is at most 32.
 */
int
rsl_tags_find(const rsl_statement_text *statement, rsl_tag *tags, int ntags)
{
	const char *text = statement->text;
	size_t		pos = statement->from;
	size_t		end = statement->end;
	bool		inside[32];		/* found before the semicolon */
	bool		behind = false;
	int			n = 0;

	forget_tags(tags, ntags, NULL);
	if (ntags > 32)
		ntags = 32;
	if (end < statement->length && comment_follows(statement))
		end = statement->length;
	if (!has_comment(text, pos, end))
		return 0;

	while (pos < end)
	{
		unsigned char c = (unsigned char) text[pos];
		unsigned char next = pos + 1 < end ? (unsigned char) text[pos + 1] : 0;

		if (pos >= statement->end && !behind)
		{
			behind = true;
			for (int i = 0; i < ntags; i++)
				inside[i] = tags[i].found;
		}

		if (c == '/' && next == '*')
		{
			size_t		close = skip_comment(text, pos + 2, end);

			if (close < end)
				n += read_comment(text, pos + 2, close, tags, ntags);
			if (n == ntags && pos >= statement->start && !behind)
				return n;
			pos = close < end ? close + 2 : end;
		}
		else if (c == '-' && next == '-')
			pos = skip_line(text, pos, end);
		else if (is_blank(c))
			pos++;
		else if (c == ';')
		{
			/* what came before belongs to another statement */
			if (pos < statement->start)
			{
				forget_tags(tags, ntags, NULL);
				n = 0;
			}
			pos++;
		}
		else if (behind)
		{
			/* another statement follows: the comments are that one's */
			forget_tags(tags, ntags, inside);
			break;
		}
		else if ((c == 'e' || c == 'E') && next == '\'')
			pos = skip_escape_string(text, pos + 2, end);
		else if (is_identifier_start(c) || is_digit(c))
			pos = skip_word(text, pos, end);
		else if (c == '\'' || c == '"')
			pos = skip_quoted(text, pos + 1, end, (char) c);
		else if (c == '$')
			pos = skip_dollar(text, pos, end);
		else
			pos++;
	}

	n = 0;
	for (int i = 0; i < ntags; i++)
		n += tags[i].found ? 1 : 0;
	return n;
}
