/*
 * The tags in the comments of a statement: any text, any place of the statement
 * in it.  The first four bytes say where that is.
 */
#include "core/sqlcommenter.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	rsl_tag		tags[] = {{.key = "route"}, {.key = "db user"}, {.key = ""}, {.key = "priority"}};
	rsl_statement_text statement = {0};
	int			found;
	int			counted = 0;
	char	   *text;

	/* no client can send a zero within a text */
	if (size < 4 || memchr(data + 4, '\0', size - 4) != NULL)
		return 0;
	text = text_of(data + 4, size - 4);
	statement.text = text;
	statement.length = size - 4;
	statement.start = statement.length * data[0] / 255;
	statement.end = statement.start + (statement.length - statement.start) * data[1] / 255;
	statement.from = data[2] & 1 ? statement.start : 0;

	found = rsl_tags_find(&statement, tags, 1 + data[3] % 4);
	for (int i = 0; i < 1 + data[3] % 4; i++)
	{
		if (!tags[i].found)
			continue;
		counted++;
		require(memchr(tags[i].value, '\0', RSL_TAG_LEN) != NULL);
		/* a key that is looked for by the name and value of what was found */
		if (!tags[i].cut)
			require(tags[i].hash == rsl_tag_hash(tags[i].key, tags[i].value,
												 strlen(tags[i].value)) ||
					memchr(text, '%', statement.length) != NULL);
		if (is_utf8(text, statement.length) && !memchr(text, '%', statement.length))
			require(is_utf8(tags[i].value, strlen(tags[i].value)));
	}
	require(found == counted);
	free(text);
	return 0;
}
