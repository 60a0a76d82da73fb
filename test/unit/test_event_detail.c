/*-------------------------------------------------------------------------
 *
 * test_event_detail.c
 *		"key=value" pairs: finding, bringing to a size, and as JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "core/event_detail.h"
#include "tap.h"

static void
json_is(const char *pairs, const char *expected, const char *name)
{
	char		json[1024];
	size_t		length = rsl_detail_json(pairs, false, json, sizeof(json));

	if (!ok(strcmp(json, expected) == 0 && length == strlen(json), "%s", name))
		printf("#      got: %s\n# expected: %s\n", json, expected);
}

static void
copy_is(const char *pairs, size_t room, bool whole, const char *expected,
		const char *name)
{
	char		out[256];
	bool		result;

	memset(out, 'X', sizeof(out));
	result = rsl_detail_copy(pairs, out, room);
	if (!ok(strcmp(out, expected) == 0 && result == whole &&
			strlen(out) < room && out[room] == 'X', "%s", name))
		printf("#      got: %s (%d)\n# expected: %s (%d)\n", out, result,
			   expected, whole);
}

static void
test_json(void)
{
	json_is("", "{}", "no pairs");
	json_is("a=1", "{\"a\": 1}", "a number");
	json_is("a=1 b=-2 c=0 d=0.25 e=-0.5 f=1e+06 g=2.5E-3",
			"{\"a\": 1, \"b\": -2, \"c\": 0, \"d\": 0.25, \"e\": -0.5, \"f\": 1e+06, \"g\": 2.5E-3}",
			"numbers of all forms");
	json_is("query_id=-2835399305386018931", "{\"query_id\": -2835399305386018931}",
			"64 bits");
	json_is("a=007 b=1. c=.5 d=+1 e=- f=1e g=0x10 h=1e1000 i=1,5",
			"{\"a\": \"007\", \"b\": \"1.\", \"c\": \".5\", \"d\": \"+1\", \"e\": \"-\", \"f\": \"1e\", \"g\": \"0x10\", \"h\": \"1e1000\", \"i\": \"1,5\"}",
			"what only looks like a number is a string");
	json_is("a=inf b=nan c=-inf", "{\"a\": \"inf\", \"b\": \"nan\", \"c\": \"-inf\"}",
			"so is what is none");
	json_is("a=true b=false c=True d=truely",
			"{\"a\": true, \"b\": false, \"c\": \"True\", \"d\": \"truely\"}",
			"true and false");
	json_is("last_sqlstate=57014 sqlstate=22012 x=08006 sqlstates=1",
			"{\"last_sqlstate\": \"57014\", \"sqlstate\": \"22012\", \"x\": \"08006\", \"sqlstates\": 1}",
			"an SQLSTATE is a string");
	json_is("a=\"1\" b=\"true\"", "{\"a\": \"1\", \"b\": \"true\"}",
			"in quotes everything is a string");
	json_is("reason=\"consecutive failures\" n=5",
			"{\"reason\": \"consecutive failures\", \"n\": 5}", "a text");
	json_is("a=\"\" b= c=1", "{\"a\": \"\", \"b\": \"\", \"c\": 1}", "nothing");
	json_is("a=\"x=1 y=2\" b=3", "{\"a\": \"x=1 y=2\", \"b\": 3}",
			"pairs within a text");
	json_is("m=\"no \"b\" here\" n=1", "{\"m\": \"no \\\"b\\\" here\", \"n\": 1}",
			"quotes within a text");
	json_is("m=\"open end", "{\"m\": \"open end\"}", "a text without an end");
	json_is("m=\"ends with \"x\"\"", "{\"m\": \"ends with \\\"x\\\"\"}",
			"a quote at the end");
	json_is("m=\"a\\b\" n=C:\\d", "{\"m\": \"a\\\\b\", \"n\": \"C:\\\\d\"}", "backslashes");
	json_is("m=\"a\tb\nc\001\"", "{\"m\": \"a\\u0009b\\u000ac\\u0001\"}",
			"control characters");
	json_is("m=\"gr\xc3\xbc\xc3\x9f\"", "{\"m\": \"gr\xc3\xbc\xc3\x9f\"}", "other characters");
	json_is("  a=1   words that are no pairs b=2 ", "{\"a\": 1, \"b\": 2}",
			"what is no pair is left out");
	json_is("=1 a-b=2 c=3", "{\"c\": 3}", "keys are plain");
	json_is("at=2026-11-25T16:22:31.4+00", "{\"at\": \"2026-11-25T16:22:31.4+00\"}", "a time");
}

static void
test_truncated(void)
{
	char		json[256];

	rsl_detail_json("a=1", true, json, sizeof(json));
	ok(strcmp(json, "{\"a\": 1, \"truncated\": true}") == 0, "truncated");
	rsl_detail_json("", true, json, sizeof(json));
	ok(strcmp(json, "{\"truncated\": true}") == 0, "truncated to nothing");
}

static void
test_copy(void)
{
	copy_is("a=1 b=2", 8, true, "a=1 b=2", "it just fits");
	copy_is("a=1 b=2", 7, false, "a=1", "a pair that does not fit is left out");
	copy_is("a=1 b=22 c=3", 8, false, "a=1 c=3", "one after it that fits is not");
	copy_is("a=1", 1, false, "", "no room");
	copy_is("", 1, true, "", "nothing to copy");
	copy_is("  a=1 nonsense   b=2 ", 100, true, "a=1 b=2", "spaces and words");
	copy_is("m=\"say \"no\" to\t\n\x7f it\" n=1", 100, true, "m=\"say 'no' to    it\" n=1",
			"quotes and control characters");
	copy_is("a=1 m=\"0123456789012345678901234567890123456789\"", 40, false,
			"a=1 m=\"0123456789012345678901234567...\"", "a text is cut");
	copy_is("m=\"0123456789012345678901234567890123456789\" a=1", 24, false,
			"m=\"0123456789012345...\"", "not to less than 16 bytes");
	copy_is("m=\"0123456789012345678901234567890123456789\" a=1", 23, false,
			"a=1", "but left out then");
	copy_is("m=\"0123456789012345\xc3\xa4 and more of it\"", 25, false,
			"m=\"0123456789012345...\"", "not within a character");
	copy_is("word=0123456789012345678901234567890123456789 a=1", 24, false,
			"a=1", "a word is not cut");
}

static void
test_find(void)
{
	char		value[8];

	ok(rsl_detail_find("a=1 server=far b=2", "server", value, sizeof(value)) &&
	   strcmp(value, "far") == 0, "found");
	ok(rsl_detail_find("server=\"so far away\"", "server", value, sizeof(value)) &&
	   strcmp(value, "so far ") == 0, "cut");
	ok(rsl_detail_find("server=\"abcde\303\251\303\251\"", "server", value, sizeof(value)) &&
	   strcmp(value, "abcde\303\251") == 0 &&
	   rsl_detail_find("server=\"abcdef\303\251\"", "server", value, sizeof(value)) &&
	   strcmp(value, "abcdef") == 0, "not within a character");
	ok(!rsl_detail_find("servers=far x=\"server=1\"", "server", value, sizeof(value)),
	   "not found");
}

/*
 * Whatever comes in: nothing is written beyond the room, what is copied is
 * copied again as it is, and its JSON has its quotes and braces in order.
 */
static void
test_random(void)
{
	static const char bytes[] = "ab=\"\"\\  1-.e\t\xc3\xa4";

	for (int n = 0; n < 200000; n++)
	{
		char		pairs[64];
		char		copy[80];
		char		again[80];
		char		json[RSL_DETAIL_JSON_SIZE(80)];
		int			length = rand() % sizeof(pairs);
		size_t		room = 1 + rand() % 70;
		size_t		end;
		bool		in_string = false;
		bool		good = true;

		for (int i = 0; i < length; i++)
			pairs[i] = bytes[rand() % (sizeof(bytes) - 1)];
		pairs[length > 0 ? length - 1 : 0] = '\0';
		memset(copy, 'X', sizeof(copy));
		(void) rsl_detail_copy(pairs, copy, room);
		check(strlen(copy) < room && copy[room] == 'X', "<%s> in %zu", pairs, room);
		check(rsl_detail_copy(copy, again, sizeof(again)) &&
			  strcmp(copy, again) == 0, "<%s> <%s>", copy, again);
		end = rsl_detail_json(pairs, rand() % 2, json, sizeof(json));
		for (size_t i = 0; i < end; i++)
		{
			if ((unsigned char) json[i] < ' ')
				good = false;
			if (in_string && json[i] == '\\')
				i++;
			else if (json[i] == '"')
				in_string = !in_string;
			else if (!in_string && (json[i] == '{') != (i == 0))
				good = false;
			else if (!in_string && (json[i] == '}') != (i == end - 1))
				good = false;
		}
		check(good && !in_string && strlen(json) == end, "<%s> <%s>", pairs, json);
	}
	check_done("random texts");
}

static void
test_without(void)
{
	static const struct
	{
		const char *text;
		const char *rest;
	}			cases[] = {
		{"", ""},
		{"a=1", "a=1"},
		{"message=\"x\"", ""},
		{"a=1 message=\"x y=2\" b=\"3 4\"", "a=1 b=\"3 4\""},
		{"message=x  a=\"open", "a=\"open"},
		{"no_message=1 messages=2 message=", "no_message=1 messages=2"},
		{"message=1 message=2", ""},
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		char		out[64];

		rsl_detail_without(cases[i].text, "message", out);
		ok(strcmp(out, cases[i].rest) == 0, "<%s> <%s>", cases[i].text, out);
	}
}

int
main(void)
{
	test_json();
	test_truncated();
	test_copy();
	test_find();
	test_without();
	test_random();
	return done_testing();
}
