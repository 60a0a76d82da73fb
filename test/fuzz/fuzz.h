/*
 * fuzz.h - what the fuzz targets share: properties that must hold, by abort().
 *
 * See test/hardening/fuzz.sh, which compiles each fuzz_*.c with all of src/core
 * for libFuzzer, and runs it from the inputs of corpus/NAME.
 */
#ifndef RSL_FUZZ_H
#define RSL_FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define require(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* A zero-terminated copy in a block of just that size, for the sanitizer. */
static inline char *
text_of(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

/* Lead bytes with as many continuation bytes as they say; no more than that. */
static inline bool
is_utf8(const char *text, size_t length)
{
	for (size_t i = 0; i < length;)
	{
		unsigned char c = (unsigned char) text[i++];
		int			more = c < 0x80 ? 0 : c >= 0xC2 && c < 0xE0 ? 1 :
			c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xF0 && c < 0xF5 ? 3 : -1;

		if (more < 0)
			return false;
		for (; more > 0; more--)
		{
			if (i == length || ((unsigned char) text[i++] & 0xC0) != 0x80)
				return false;
		}
	}
	return true;
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif							/* RSL_FUZZ_H */
