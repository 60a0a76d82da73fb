/*-------------------------------------------------------------------------
 *
 * test_sqlcommenter.c
 *		Unit tests of core/sqlcommenter: the format, what is no comment, the
 *		statement within a string of several, bounds, time, random texts.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/sqlcommenter.h"

/* The text in memory of just its size, so that the sanitizer sees more. */
static int
find_within(const char *text, size_t length, size_t from, size_t start,
			size_t end, rsl_tag *tags, int ntags)
{
	char	   *exact = malloc(length + (length == 0));
	rsl_statement_text statement = {exact, from, start, end, length};
	int			n;

	memcpy(exact, text, length);
	n = rsl_tags_find(&statement, tags, ntags);
	free(exact);
	return n;
}

static const char *
find_in(const char *text, size_t length, const char *key)
{
	static rsl_tag tag;

	tag.key = key;
	return find_within(text, length, 0, 0, length, &tag, 1) == 1 &&
		tag.found ? tag.value : NULL;
}

static const char *
find(const char *text, const char *key)
{
	return find_in(text, strlen(text), key);
}

/* on one line, as TAP wants it */
static const char *
line(const char *text)
{
	static char copy[200];

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *c = copy; *c != '\0'; c++)
	{
		if (*c == '\n' || *c == '\r')
			*c = '~';
	}
	return copy;
}

static void
is_tag(const char *text, const char *key, const char *expected)
{
	const char *got = find(text, key);

	if (!ok(expected ? got != NULL && strcmp(got, expected) == 0 : got == NULL,
			"%s -> %s", line(text), expected ? expected : "(none)"))
		diag("got: %s", got ? got : "(none)");
}

static void
test_format(void)
{
	is_tag("SELECT 1", "k", NULL);
	is_tag("", "k", NULL);
	is_tag("SELECT 1 /*k='v'*/", "k", "v");
	is_tag("/*k='v'*/ SELECT 1", "k", "v");
	is_tag("SELECT /*k='v'*/ 1", "k", "v");
	is_tag("SELECT 1/*k='v'*/", "k", "v");
	is_tag("SELECT 1+/*k='v'*/1", "k", "v");
	is_tag("SELECT 1 /*k='v'*/;", "k", "v");
	is_tag("SELECT 1 /* k = 'v' , l='w' */", "l", "w");
	is_tag("SELECT 1 /*a='1',k='v',z='2'*/", "k", "v");
	is_tag("SELECT 1 /*a='1',k='v',*/", "k", "v");
	is_tag("SELECT 1 /*k=''*/", "k", "");
	is_tag("SELECT 1 /*kk='v'*/", "k", NULL);
	is_tag("SELECT 1 /*k='v'*/", "kk", NULL);
	is_tag("SELECT 1 /*K='v'*/", "k", NULL);
	is_tag("SELECT 1 /*k='first',k='second'*/", "k", "first");
	is_tag("SELECT /*k='first'*/ 1 /*k='second'*/", "k", "first");
	is_tag("SELECT /* words */ 1 /*k='v'*/", "k", "v");
	is_tag("SELECT /*+ SeqScan(a) */ 1 /*k='v'*/", "k", "v");

	/* encoding */
	is_tag("/*k='a%20b'*/", "k", "a b");
	is_tag("/*k='%2Fa%2fb'*/", "k", "/a/b");
	is_tag("/*route='%2Fapi%2F*'*/", "route", "/api/*");
	is_tag("/*my%20key='v'*/", "my key", "v");
	is_tag("/*k='it\\'s'*/", "k", "it's");
	is_tag("/*k='it%27s'*/", "k", "it's");
	is_tag("/*k='a\\b'*/", "k", "a\\b");
	is_tag("/*k='a\\'*/", "k", NULL);
	is_tag("/*k='a%5C'*/", "k", "a\\");
	is_tag("/*k='a+b'*/", "k", "a+b");
	is_tag("/*k='%zz'*/", "k", "%zz");
	is_tag("/*k='100%'*/", "k", "100%");
	is_tag("/*k='%4'*/", "k", "%4");
	is_tag("/*k='%'*/", "k", "%");
	is_tag("/*k='a%00b'*/", "k", "a%00b");
	is_tag("/*k='%2525'*/", "k", "%25");
	is_tag("/*k='%C3%A4'*/", "k", "\xC3\xA4");
	is_tag("/*k='\xC3\xA4'*/", "k", "\xC3\xA4");
	is_tag("/*k='%ff'*/", "k", "\xFF");
	is_tag("/*\xC3\xA4='v'*/", "\xC3\xA4", "v");

	/* not the format */
	is_tag("/*k=v*/", "k", NULL);
	is_tag("/*k*/", "k", NULL);
	is_tag("/*k=*/", "k", NULL);
	is_tag("/*='v'*/", "k", NULL);
	is_tag("/*k=\"v\"*/", "k", NULL);
	is_tag("/*k='v*/", "k", NULL);
	is_tag("/*k='v' l='w'*/", "k", NULL);
	is_tag("/*k='v', and words*/", "k", NULL);
	is_tag("/*words k='v'*/", "k", NULL);
	is_tag("/*k='it''s'*/", "k", NULL);
	is_tag("/**/", "k", NULL);
	is_tag("/*,k='v'*/", "k", NULL);
	is_tag("/*k='v'", "k", NULL);
	is_tag("/*k='v'*", "k", NULL);
	is_tag("/*/k='v'*/", "k", NULL);
}

static void
test_lexer(void)
{
	/* what is no comment */
	is_tag("SELECT '/*k=''v''*/'", "k", NULL);
	is_tag("SELECT '/*k=', v, '*/'", "k", NULL);
	is_tag("SELECT \"/*k='v'*/\"", "k", NULL);
	is_tag("SELECT \"a\"\"/*k='v'*/\"", "k", NULL);
	is_tag("SELECT $$/*k='v'*/$$", "k", NULL);
	is_tag("SELECT $a$/*k='v'*/$$ $b$ $a $a$", "k", NULL);
	is_tag("SELECT 1 -- /*k='v'*/", "k", NULL);
	is_tag("SELECT E'\\'/*k=', 'v'", "k", NULL);
	is_tag("SELECT e'\\'/*k=\\'v\\'*/'", "k", NULL);
	is_tag("SELECT E'a'\n'\\'/*k=\\'v\\'*/'", "k", NULL);
	is_tag("SELECT E'a' -- b\n  '\\'/*k=\\'v\\'*/'", "k", NULL);
	is_tag("SELECT U&'/*k=''v''*/'", "k", NULL);
	is_tag("SELECT N'/*k=''v''*/'", "k", NULL);
	is_tag("SELECT 1 /* /*k='v'*/ */", "k", NULL);
	is_tag("SELECT 1 /* a /* b */ /*k='v'*/ c */", "k", NULL);
	is_tag("SELECT '/*k=''v''*/", "k", NULL);
	is_tag("SELECT $$ /*k='v'*/", "k", NULL);

	/* what only looks as if it swallowed the comment */
	is_tag("SELECT 'a\\' /*k='v'*/", "k", "v");
	is_tag("SELECT 'it''s' /*k='v'*/", "k", "v");
	is_tag("SELECT '--' /*k='v'*/", "k", "v");
	is_tag("SELECT '$$' /*k='v'*/", "k", "v");
	is_tag("SELECT '\"' /*k='v'*/", "k", "v");
	is_tag("SELECT \"'\" /*k='v'*/", "k", "v");
	is_tag("SELECT \"a\\\" /*k='v'*/", "k", "v");
	is_tag("SELECT $1 /*k='v'*/", "k", "v");
	is_tag("SELECT $1, $2 /*k='v'*/", "k", "v");
	is_tag("SELECT a$b$ /*k='v'*/, $b$", "k", "v");
	is_tag("SELECT $a /*k='v'*/", "k", "v");
	is_tag("SELECT $a$ ' $a$ /*k='v'*/", "k", "v");
	is_tag("SELECT $a$ $a$a$ /*k='v'*/", "k", "v");
	is_tag("SELECT $a$ $a$ /*k='v'*/", "k", "v");
	is_tag("SELECT $a$ $$a$ /*k='v'*/", "k", "v");
	is_tag("SELECT $a$ $b$a$ /*k='v'*/", "k", "v");
	is_tag("SELECT $\xC3\xA4$ ' $\xC3\xA4$ /*k='v'*/", "k", "v");
	is_tag("SELECT $1$a$ '$a$ /*k='v'*/", "k", "v");
	is_tag("SELECT E'a' '\\' /*k='v'*/", "k", "v");
	is_tag("SELECT E'a''b\\'' /*k='v'*/", "k", "v");
	is_tag("SELECT E'\\\\' /*k='v'*/", "k", "v");
	is_tag("SELECT me'\\' /*k='v'*/", "k", "v");
	is_tag("SELECT \xC3\xA4" "e'\\' /*k='v'*/", "k", "v");
	is_tag("SELECT $$x$$E'\\'' /*k='v'*/", "k", "v");
	is_tag("SELECT 1 --\n/*k='v'*/", "k", "v");
	is_tag("SELECT 1 --\r/*k='v'*/", "k", "v");
	is_tag("SELECT 1 - 1 /*k='v'*/", "k", "v");
	is_tag("SELECT 4 / 2 /*k='v'*/", "k", "v");
	is_tag("SELECT 1 /* /* */ */ /*k='v'*/", "k", "v");
	is_tag("SELECT 1 /* -- */ /*k='v'*/", "k", "v");
	is_tag("SELECT 1 /* ' */ /*k='v'*/", "k", "v");
	is_tag("SELECT 1 /* $$ */ /*k='v'*/", "k", "v");
	is_tag("SELECT '\xC3\xA4' /*k='v'*/", "k", "v");
}

/* A statement within a string of several, by what its text is. */
static void
is_tag_of(const char *text, const char *statement, bool from_zero,
		  const char *expected)
{
	const char *at = strstr(text, statement);
	size_t		start = (size_t) (at - text);
	rsl_tag		tag = {.key = "k"};
	int			n;

	n = find_within(text, strlen(text), from_zero ? 0 : start, start,
					start + strlen(statement), &tag, 1);
	if (!ok(expected ? n == 1 && strcmp(tag.value, expected) == 0 :
			n == 0 && !tag.found,
			"\"%.20s\" in %s%s -> %s", statement, line(text),
			from_zero ? ", from its beginning" : "",
			expected ? expected : "(none)"))
		diag("got: %s", n == 1 ? tag.value : "(none)");
}

static void
test_segments(void)
{
	const char *two = "SELECT 1 /*k='a'*/; SELECT 2 /*k='b'*/";

	is_tag_of(two, "SELECT 1 /*k='a'*/", false, "a");
	is_tag_of(two, " SELECT 2 /*k='b'*/", false, "b");
	is_tag_of(two, "SELECT 2 /*k='b'*/", true, "b");
	two = "/*k='a'*/ SELECT 1; /*k='b'*/ SELECT 2";
	is_tag_of(two, "/*k='a'*/ SELECT 1", false, "a");
	is_tag_of(two, "SELECT 1", true, "a");
	is_tag_of(two, " /*k='b'*/ SELECT 2", false, "b");
	is_tag_of(two, "SELECT 2", true, "b");
	two = "SELECT 1; SELECT 2 /*k='b'*/";
	is_tag_of(two, "SELECT 1", false, NULL);
	is_tag_of("SELECT 1 /*k='a'*/; SELECT 2; SELECT 3", "SELECT 2", true, NULL);
	is_tag_of("SELECT ';' /*k='a'*/; SELECT ';'; SELECT 3", "SELECT 3", true, NULL);
	is_tag_of("/*k='a'*/ SELECT 'a;b'", "SELECT 'a;b'", true, "a");

	/* behind the last semicolon */
	is_tag_of("SELECT 1; /*k='a'*/", "SELECT 1", false, "a");
	is_tag_of("SELECT 1 ; ; -- x\n /*k='a'*/ ; ", "SELECT 1 ", false, "a");
	is_tag_of("SELECT 1; --x\n/*k='a'*/", "SELECT 1", false, "a");
	is_tag_of("SELECT 1; /*k='a'*/ SELECT 2", "SELECT 1", false, NULL);
	is_tag_of("SELECT 1; /*k='a'*/ /*k='b'*/ 'x'", "SELECT 1", false, NULL);
	is_tag_of("SELECT 1 /*k='a'*/; /*k='b'*/", "SELECT 1 /*k='a'*/", false, "a");
	is_tag_of("SELECT 1 /*k='a'*/; /*k='b'*/ SELECT 2", "SELECT 1 /*k='a'*/", false, "a");
}

static void
test_several(void)
{
	const char *text = "SELECT /*b='2',a='1'*/ 1 /*c='3',a='x'*/";
	rsl_tag		tags[] = {{.key = "a"}, {.key = "c"}, {.key = "d"}, {.key = "b"}};

	is(find_within(text, strlen(text), 0, 0, strlen(text), tags, 4), 3,
	   "several keys in several comments");
	ok(strcmp(tags[0].value, "1") == 0 && strcmp(tags[1].value, "3") == 0 &&
	   !tags[2].found && strcmp(tags[3].value, "2") == 0, "each its own");
	is(find_within("", 0, 0, 0, 0, tags, 4), 0, "and none again");
	ok(!tags[0].found && !tags[1].found, "they are forgotten");
	is(find_within("/*a='1'*/", 9, 0, 0, 9, tags, 0), 0, "no key");
}

static void
test_long_values(void)
{
	char		text[400];
	rsl_tag		tag = {.key = "k"};
	rsl_tag		other = {.key = "k"};
	char		value[200];

	memset(value, 'x', sizeof(value));
	for (int length = 60; length <= 130; length++)
	{
		bool		cut = length >= RSL_TAG_LEN;

		snprintf(text, sizeof(text), "SELECT 1 /*k='%.*s'*/", length, value);
		check(find_within(text, strlen(text), 0, 0, strlen(text), &tag, 1) == 1,
			  "length %d", length);
		check(tag.cut == cut &&
			  strlen(tag.value) == (cut ? RSL_TAG_LEN - 1 : length),
			  "length %d", length);
		check(tag.hash == rsl_tag_hash("k", value, length), "length %d", length);
	}
	check_done("values of any length: cut where they must be, hashed whole");

	snprintf(text, sizeof(text), "/*k='%.*sa'*/", 100, value);
	find_within(text, strlen(text), 0, 0, strlen(text), &tag, 1);
	snprintf(text, sizeof(text), "/*k='%.*sb'*/", 100, value);
	find_within(text, strlen(text), 0, 0, strlen(text), &other, 1);
	ok(strcmp(tag.value, other.value) == 0 && tag.hash != other.hash,
	   "two long values that begin alike differ in their hashes");
	ok(rsl_tag_hash("a", "b", 1) != rsl_tag_hash("b", "b", 1),
	   "the hash is of the key, too");

	/* the last byte of a character may be what does not fit */
	memset(value, 'x', 62);
	snprintf(text, sizeof(text), "/*k='%.*s%%C3%%A4'*/", 62, value);
	find_within(text, strlen(text), 0, 0, strlen(text), &tag, 1);
	ok(tag.cut && strlen(tag.value) == 63, "half of a character is kept");
}

static void
fill(char *string, size_t size, const char *with)
{
	size_t		length = strlen(with);

	for (size_t i = 0; i < size; i++)
		string[i] = with[i % length];
}

/* Texts that are made to take long: 1 MB against 2 MB. */
static void
test_hostile(void)
{
	static const char *const patterns[] = {
		"x", "/", "/*", "*/", "/*/", "'", "E'", "e'a'\n", "E'' ", "$", "$a", "$a$",
		"$a$b", "a$", "\"", "--", "--\n", ";", "/*k='", "/*k='v',", "k='v',",
		"/*k='v'*/", "/*j='v'*/", "/*%41='%42'*/", "/*a'*/", "\\", "\\'", "$$",
		"/* ", "%", "\xC3\xA4", "1", " ", "/*k='v'*/;", "E'a' --\n"
	};
	size_t		size = 1000000;
	char	   *string = malloc(2 * size);
	rsl_tag		tags[17];

	for (int i = 0; i < 17; i++)
		tags[i].key = "kxx";
	for (int i = 0; i < (int) (sizeof(patterns) / sizeof(patterns[0])); i++)
	{
		int64_t		taken[2];

		fill(string, 2 * size, patterns[i]);
		/* a comment first: nothing is rejected at a glance */
		memcpy(string, "/* */", 5);
		for (int n = 0; n < 2; n++)
		{
			rsl_statement_text statement = {string, 0, 0, (n + 1) * size, (n + 1) * size};
			int64_t		best = INT64_MAX;

			for (int tries = 0; tries < 3; tries++)
			{
				int64_t		begin = cpu_ns();

				rsl_tags_find(&statement, tags, 17);
				begin = cpu_ns() - begin;
				best = begin < best ? begin : best;
			}
			taken[n] = best;
		}
		/* the sanitizers slow it down a lot; quadratic would be hours */
		check(taken[1] < 500000000 && taken[1] < 4 * taken[0] + 5000000,
			  "pattern %s: %lld ns, then %lld ns", patterns[i],
			  (long long) taken[0], (long long) taken[1]);
	}
	check_done("hostile texts take linear time");

	fill(string, 2 * size, "SELECT a, b FROM c ");
	memcpy(string + 2 * size - 9, "/*k='v'*/", 9);
	ok(find_in(string, 2 * size, "k") != NULL, "a tag at the end of 2 MB");
	free(string);
}

/* Every beginning of a string, and every part of it. */
static void
test_truncation(void)
{
	const char *string = "SELECT E'\\'' /*k='a%20\\'%4',l='w'*/, $a$ $a$ --\n/* /* */ */ x\"'\"";
	size_t		length = strlen(string);
	rsl_tag		tags[] = {{.key = "k"}, {.key = "l"}};

	for (size_t end = 0; end <= length; end++)
	{
		for (size_t start = 0; start <= end; start++)
		{
			int			n = find_within(string + start, end - start, 0, 0,
										end - start, tags, 2);

			check(n >= 0 && n <= 2, "start %zu end %zu", start, end);
			n = find_within(string, length, start, start, end, tags, 2);
			check(n >= 0 && n <= 2, "start %zu end %zu", start, end);
		}
	}
	check_done("all parts of a text");
}

/* Anything at all: bounds only, which the sanitizer watches. */
static void
test_random_bytes(void)
{
	static const char letters[] = "/*/*'='\\%$\"-;\nEeka1 ,\xC3\xA4" "4\0";
	random_source random = {.state = 20260101};
	char		string[80];
	rsl_tag		tags[] = {{.key = "k"}, {.key = "a"}};

	for (int i = 0; i < 200000; i++)
	{
		size_t		length = random_below(&random, sizeof(string));
		size_t		end = random_below(&random, (uint32_t) length + 1);
		size_t		start = random_below(&random, (uint32_t) end + 1);
		int			n;

		for (size_t c = 0; c < length; c++)
			string[c] = letters[random_below(&random, sizeof(letters) - 1)];
		n = find_within(string, length, random_below(&random, 2) ? 0 : start,
						start, end, tags, 2);
		check(n == (tags[0].found ? 1 : 0) + (tags[1].found ? 1 : 0), "%d", i);
		for (int t = 0; t < 2; t++)
			check(!tags[t].found || strlen(tags[t].value) < RSL_TAG_LEN, "%d", i);
	}
	check_done("random bytes");
}

/* Statements of random parts, of which is known where the tags are. */
static void
test_random_statements(void)
{
	static const char *const decoys[] = {
		"'/*k=''d''*/'", "E'\\'/*k=\\'d\\'*/'", "E'a'\n'\\' /*k=\\'d\\'*/'",
		"$$/*k='d'*/$$", "$t$/*k='d'*/$t $t$", "\"/*k='d'*/\"", "- --/*k='d'*/\n -",
		"/* /*k='d'*/ */", "/*k='d' words*/", "/*k='d*/", "/*+ hint */", "a$b$",
		"$1", "x", "1.5e3", "+", "'a\\'", "''", "/*other='d'*/", "e", "E''", "\"\"",
		"$$$$", "a.b", "(", ")", "::text", "'--'", "/**/", "-", "U&'\\0041'"
	};
	random_source random = {.state = 4711};

	for (int i = 0; i < 50000; i++)
	{
		char		string[2000] = "";
		char		expected[16] = "";
		rsl_tag		tag = {.key = "k"};
		int			parts = (int) random_below(&random, 12);
		size_t		starts[4] = {0};
		size_t		ends[4];
		char		values[4][16] = {"", "", "", ""};
		int			statements = 1 + (int) random_below(&random, 3);

		for (int s = 0; s < statements; s++)
		{
			starts[s] = strlen(string);
			/* a statement has something that is no comment */
			strcat(string, "x ");
			for (int p = 0; p < parts; p++)
			{
				if (random_below(&random, 8) == 0)
				{
					snprintf(expected, sizeof(expected), "%d", i * 10 + p);
					snprintf(string + strlen(string), 40, "/*j='',k='%s'*/", expected);
					if (values[s][0] == '\0')
						strcpy(values[s], expected);
				}
				else
					strcat(string, decoys[random_below(&random, sizeof(decoys) / sizeof(decoys[0]))]);
				/* words must not grow together */
				strcat(string, " ");
			}
			ends[s] = strlen(string);
			strcat(string, ";");
		}
		for (int s = 0; s < statements; s++)
		{
			int			n = find_within(string, strlen(string),
										random_below(&random, 2) ? 0 : starts[s],
										starts[s], ends[s], &tag, 1);

			check(values[s][0] ? n == 1 && strcmp(tag.value, values[s]) == 0 : n == 0,
				  "statement %d of %s: %s, not %s", s, string,
				  n ? tag.value : "none", values[s]);
		}
	}
	check_done("statements of random parts");
}

int
main(void)
{
	test_format();
	test_lexer();
	test_segments();
	test_several();
	test_long_values();
	test_hostile();
	test_truncation();
	test_random_bytes();
	test_random_statements();
	return done_testing();
}
