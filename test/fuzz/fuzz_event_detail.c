/*
 * The numbers of an event: any text, cut to any room, is pairs again, and JSON.
 * The first byte says how much room there is.
 */
#include "core/event_detail.h"
#include "fuzz.h"

/* As much of JSON's grammar as shows that nothing ends too early or too late. */
static void
require_json(const char *json, size_t length)
{
	bool		in_string = false;

	require(length == strlen(json));
	require(length >= 2 && json[0] == '{' && json[length - 1] == '}');
	for (size_t i = 1; i < length - 1; i++)
	{
		require((unsigned char) json[i] >= ' ');
		if (in_string && json[i] == '\\')
		{
			i++;
			require(i < length - 1 && strchr("\"\\u", json[i]) != NULL);
		}
		else if (json[i] == '"')
			in_string = !in_string;
		else if (!in_string)
			require(strchr(" :,+-.0123456789eEtrufalse", json[i]) != NULL);
	}
	require(!in_string);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text;
	char	   *copy;
	char	   *json;
	char		value[20];
	size_t		room;
	size_t		json_size;
	bool		whole;

	if (size < 1)
		return 0;
	text = text_of(data + 1, size - 1);
	room = data[0] + 1;
	copy = malloc(room);
	whole = rsl_detail_copy(text, copy, room);
	require(memchr(copy, '\0', room) != NULL);
	if (is_utf8(text, strlen(text)))
		require(is_utf8(copy, strlen(copy)));

	json_size = RSL_DETAIL_JSON_SIZE(strlen(copy));
	json = malloc(json_size);
	require_json(json, rsl_detail_json(copy, !whole, json, json_size));
	free(json);

	/* what was copied once is copied as it is */
	if (strlen(copy) + 1 < room)
	{
		char	   *again = malloc(room);

		require(rsl_detail_copy(copy, again, room) && strcmp(copy, again) == 0);
		free(again);
	}

	if (rsl_detail_find(copy, "server", value, sizeof(value)) && is_utf8(copy, strlen(copy)))
		require(is_utf8(value, strlen(value)));
	free(copy);
	free(text);
	return 0;
}
