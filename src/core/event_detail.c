/*-------------------------------------------------------------------------
 *
 * event_detail.c
 *		The numbers of an event: "key=value" pairs, and the same as JSON.
 *
 * See event_detail.h.  Nothing here allocates or fails: it is used where an
 * event is noted, which may be in an error path.
 *
 *-------------------------------------------------------------------------
 */
#include "core/event_detail.h"

#include <stdio.h>
#include <string.h>

/* a text in quotes is not cut to less than this */
#define WORTH_IT	16

#define ELLIPSIS	"..."

/* By hand: those of ctype.h depend on the locale. */
static bool
is_key_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '_';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Does a pair begin here?  Returns the length of its key, or 0. */
static size_t
key_at(const char *text)
{
	size_t		length = 0;

	while (is_key_byte(text[length]))
		length++;
	return text[length] == '=' ? length : 0;
}

/* Does a quote here end a text? */
static bool
ends_text(const char *quote)
{
	const char *next = quote + 1;

	if (*next == '\0')
		return true;
	if (*next != ' ')
		return false;
	while (*next == ' ')
		next++;
	return *next == '\0' || key_at(next) > 0;
}

bool
rsl_detail_next(const char **text, rsl_detail_pair *pair)
{
	const char *here = *text;

	for (;;)
	{
		while (*here == ' ')
			here++;
		if (*here == '\0')
		{
			*text = here;
			return false;
		}
		pair->key_length = key_at(here);
		if (pair->key_length > 0)
			break;
		while (*here != '\0' && *here != ' ')
			here++;
	}
	pair->key = here;
	here += pair->key_length + 1;
	pair->quoted = *here == '"';
	if (pair->quoted)
	{
		pair->value = ++here;
		while (*here != '\0' && !(*here == '"' && ends_text(here)))
			here++;
		pair->value_length = here - pair->value;
		if (*here == '"')
			here++;
	}
	else
	{
		pair->value = here;
		while (*here != '\0' && *here != ' ')
			here++;
		pair->value_length = here - pair->value;
	}
	*text = here;
	return true;
}

/* Not within a character, as far as UTF-8 can tell. */
static size_t
clip(const char *text, size_t length)
{
	while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
		length--;
	return length;
}

bool
rsl_detail_find(const char *text, const char *key, char *value, size_t size)
{
	rsl_detail_pair pair;
	size_t		length = strlen(key);

	while (rsl_detail_next(&text, &pair))
	{
		if (pair.key_length != length || memcmp(pair.key, key, length) != 0)
			continue;
		if (pair.value_length >= size)
			pair.value_length = clip(pair.value, size - 1);
		memcpy(value, pair.value, pair.value_length);
		value[pair.value_length] = '\0';
		return true;
	}
	return false;
}

void
rsl_detail_without(const char *text, const char *key, char *out)
{
	rsl_detail_pair pair;
	size_t		length = strlen(key);
	char	   *here = out;

	while (rsl_detail_next(&text, &pair))
	{
		if (pair.key_length == length && memcmp(pair.key, key, length) == 0)
			continue;
		if (here > out)
			*here++ = ' ';
		memcpy(here, pair.key, text - pair.key);
		here += text - pair.key;
	}
	*here = '\0';
}

/* What may stand in a value.  Returns where it ends. */
static char *
copy_value(char *out, const char *text, size_t length, char blank)
{
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];

		*out++ = c == '"' ? '\'' : c < ' ' || c == 0x7F ? blank : (char) c;
	}
	return out;
}

bool
rsl_detail_copy(const char *text, char *out, size_t room)
{
	rsl_detail_pair pair;
	char	   *begin = out;
	bool		whole = true;

	while (rsl_detail_next(&text, &pair))
	{
		size_t		left = room - (out - begin) - 1;
		size_t		around = (out > begin) + pair.key_length + 1 +
			(pair.quoted ? 2 : 0);
		size_t		length = pair.value_length;
		bool		cut = around + length > left;

		if (cut)
		{
			whole = false;
			if (!pair.quoted ||
				around + WORTH_IT + strlen(ELLIPSIS) > left)
				continue;
			length = clip(pair.value, left - around - strlen(ELLIPSIS));
		}
		if (out > begin)
			*out++ = ' ';
		memcpy(out, pair.key, pair.key_length);
		out += pair.key_length;
		*out++ = '=';
		if (pair.quoted)
			*out++ = '"';
		out = copy_value(out, pair.value, length, pair.quoted ? ' ' : '_');
		if (cut)
		{
			memcpy(out, ELLIPSIS, strlen(ELLIPSIS));
			out += strlen(ELLIPSIS);
		}
		if (pair.quoted)
			*out++ = '"';
	}
	*out = '\0';
	return whole;
}

/*
 * A number, in JSON's grammar.  One with an exponent of more than three digits
 * is more than "numeric" can hold.
 */
static bool
is_number(const char *number, size_t length)
{
	const char *end = number + length;
	const char *exponent;

	if (number < end && *number == '-')
		number++;
	if (number == end || !is_digit(*number))
		return false;
	if (*number++ == '0' && number < end && is_digit(*number))
		return false;
	while (number < end && is_digit(*number))
		number++;
	if (number < end && *number == '.')
	{
		number++;
		if (number == end || !is_digit(*number))
			return false;
		while (number < end && is_digit(*number))
			number++;
	}
	if (number == end)
		return true;
	if (*number != 'e' && *number != 'E')
		return false;
	number++;
	if (number < end && (*number == '+' || *number == '-'))
		number++;
	exponent = number;
	while (number < end && is_digit(*number))
		number++;
	return number == end && number > exponent && number - exponent <= 3;
}

static bool
is_word(const rsl_detail_pair *pair, const char *word)
{
	return pair->value_length == strlen(word) &&
		memcmp(pair->value, word, pair->value_length) == 0;
}

static bool
is_sqlstate(const rsl_detail_pair *pair)
{
	static const char suffix[] = "sqlstate";
	size_t		length = sizeof(suffix) - 1;

	return pair->key_length >= length &&
		memcmp(pair->key + pair->key_length - length, suffix, length) == 0;
}

/* A JSON string, quotes included.  Returns its length; cut if need be. */
static size_t
json_string(const char *text, size_t length, char *out, size_t size)
{
	char	   *here = out;
	char	   *end = out + size - 2;	/* the last quote, and the zero */

	*here++ = '"';
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (end - here < 6)
			break;
		if (c == '"' || c == '\\')
		{
			*here++ = '\\';
			*here++ = (char) c;
		}
		else if (c < ' ')
		{
			snprintf(here, 7, "\\u%04x", c);
			here += 6;
		}
		else
			*here++ = (char) c;
	}
	*here++ = '"';
	*here = '\0';
	return here - out;
}

size_t
rsl_detail_json(const char *text, bool truncated, char *out, size_t size)
{
	rsl_detail_pair pair;
	char	   *here = out;
	char	   *end = out + size;

	*here++ = '{';
	while (rsl_detail_next(&text, &pair))
	{
		if (here > out + 1)
		{
			*here++ = ',';
			*here++ = ' ';
		}
		here += json_string(pair.key, pair.key_length, here, end - here);
		*here++ = ':';
		*here++ = ' ';
		if (!pair.quoted && !is_sqlstate(&pair) &&
			(is_number(pair.value, pair.value_length) ||
			 is_word(&pair, "true") || is_word(&pair, "false")))
		{
			memcpy(here, pair.value, pair.value_length);
			here += pair.value_length;
		}
		else
			here += json_string(pair.value, pair.value_length, here,
								end - here);
	}
	if (truncated)
		here += snprintf(here, end - here, "%s\"truncated\": true",
						 here > out + 1 ? ", " : "");
	*here++ = '}';
	*here = '\0';
	return here - out;
}
