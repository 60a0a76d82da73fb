/*-------------------------------------------------------------------------
 *
 * text.c
 *		Strings of unknown origin, for those who read JSON, HTML or metrics.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <time.h>

#include "mb/pg_wchar.h"
#include "shared/text.h"
#include "utils/timestamp.h"

#define REPLACEMENT		"\xef\xbf\xbd"	/* U+FFFD in UTF-8 */

/* How long is the UTF-8 character that a string begins with?  0 = it is none. */
static int
legal_length(const char *string)
{
	int			length = pg_utf_mblen((const unsigned char *) string);

	return strnlen(string, length) == length &&
		pg_utf8_islegal((const unsigned char *) string, length) ? length : 0;
}

/*
 * Append one character that is not ASCII, or what stands for it.  Returns the
 * length of what was read.
 */
static int
append_wide(StringInfo out, const char *string)
{
	int			length = legal_length(string);

	if (length > 0)
	{
		appendBinaryStringInfo(out, string, length);
		return length;
	}
	appendBinaryStringInfo(out, REPLACEMENT, 3);
	return 1;
}

void
rsl_append_json_string(StringInfo out, const char *string)
{
	appendStringInfoChar(out, '"');
	while (*string)
	{
		unsigned char c = (unsigned char) *string;

		if (c >= 0x80)
		{
			string += append_wide(out, string);
			continue;
		}
		if (c == '"' || c == '\\')
			appendStringInfoChar(out, '\\');
		if (c < ' ' || c == 0x7f)
			appendStringInfo(out, "\\u%04x", c);
		else
			appendStringInfoChar(out, c);
		string++;
	}
	appendStringInfoChar(out, '"');
}

void
rsl_append_html(StringInfo out, const char *string)
{
	while (*string)
	{
		unsigned char c = (unsigned char) *string;

		if (c >= 0x80)
		{
			string += append_wide(out, string);
			continue;
		}
		switch (c)
		{
			case '&':
				appendStringInfoString(out, "&amp;");
				break;
			case '<':
				appendStringInfoString(out, "&lt;");
				break;
			case '>':
				appendStringInfoString(out, "&gt;");
				break;
			case '"':
				appendStringInfoString(out, "&quot;");
				break;
			case '\'':
				appendStringInfoString(out, "&#39;");
				break;
			default:
				/* HTML has no way to write the others */
				if (c < ' ' || c == 0x7f)
					appendStringInfoString(out, REPLACEMENT);
				else
					appendStringInfoChar(out, c);
		}
		string++;
	}
}

void
rsl_append_label_value(StringInfo out, const char *string, bool ascii)
{
	while (*string)
	{
		const char *plain = string;
		int			length;

		while (*string && !IS_HIGHBIT_SET(*string) && *string != '\n' &&
			   *string != '"' && *string != '\\')
			string++;
		appendBinaryStringInfo(out, plain, string - plain);
		if (*string == '\0')
			return;

		if (*string == '\n')
			appendStringInfoString(out, "\\n");
		else if (!IS_HIGHBIT_SET(*string))
		{
			appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, *string);
		}
		else if (!ascii && (length = legal_length(string)) > 0)
		{
			appendBinaryStringInfo(out, string, length);
			string += length;
			continue;
		}
		else
		{
			/* not one replacement for all: names must stay apart */
			appendStringInfo(out, "\\\\x%02X", (unsigned char) *string);
		}
		string++;
	}
}

void
rsl_append_time(StringInfo out, TimestampTz at)
{
	/* rounds down also before 2000 */
	int64		fraction = ((at % USECS_PER_SEC) + USECS_PER_SEC) % USECS_PER_SEC;
	time_t		seconds = (time_t) ((at - fraction) / USECS_PER_SEC) +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	struct tm	tm;
	char		string[32];

	if (gmtime_r(&seconds, &tm) == NULL ||
		strftime(string, sizeof(string), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
	{
		appendStringInfoString(out, "9999-12-31T23:59:59.999Z");
		return;
	}
	appendStringInfo(out, "%s.%03dZ", string, (int) (fraction / 1000));
}
