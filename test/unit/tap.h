/*-------------------------------------------------------------------------
 *
 * tap.h
 *		TAP output and a random number generator for the unit tests.
 *
 * Each test program includes this once.  ok() prints one line; check() is
 * for conditions that are looked at thousands of times: it counts, prints
 * the first few failures, and check_done() turns them into one line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_TEST_TAP_H
#define RSL_TEST_TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int	tap_tests = 0;
static int	tap_failed = 0;
static long tap_checks = 0;
static long tap_bad_checks = 0;

__attribute__((format(printf, 2, 3), unused))
static bool
ok(bool passed, const char *format,...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	if (!passed)
		tap_failed++;
	return passed;
}

__attribute__((unused))
static bool
is(long long got, long long expected, const char *name)
{
	bool		passed = ok(got == expected, "%s", name);

	if (!passed)
		printf("#      got: %lld\n# expected: %lld\n", got, expected);
	return passed;
}

__attribute__((format(printf, 1, 2), unused))
static void
diag(const char *format,...)
{
	va_list		args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* One of many conditions that make up a test; tells the first failures. */
#define check(condition, ...) \
	do { \
		tap_checks++; \
		if (!(condition) && ++tap_bad_checks <= 5) \
		{ \
			printf("# line %d: %s: ", __LINE__, #condition); \
			printf(__VA_ARGS__); \
			printf("\n"); \
		} \
	} while (0)

/* All checks since the last call, as one test. */
__attribute__((unused))
static bool
check_done(const char *name)
{
	bool		passed = ok(tap_bad_checks == 0 && tap_checks > 0,
							"%s (%ld checks)", name, tap_checks);

	if (tap_bad_checks > 5)
		diag("%ld checks failed", tap_bad_checks);
	tap_checks = tap_bad_checks = 0;
	return passed;
}

static int
done_testing(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failed == 0 ? 0 : 1;
}

/* xorshift64*: the same sequence on every machine. */
typedef struct
{
	uint64_t	state;
} random_source;

__attribute__((unused))
static uint64_t
random_bits(random_source *source)
{
	uint64_t	x = source->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	source->state = x;
	return x * UINT64_C(2685821657736338717);
}

/* 0 <= result < limit */
__attribute__((unused))
static uint32_t
random_below(random_source *source, uint32_t limit)
{
	return (uint32_t) (((random_bits(source) >> 32) * limit) >> 32);
}

/* 0 <= result < 1 */
__attribute__((unused))
static double
random_double(random_source *source)
{
	return (double) (random_bits(source) >> 11) / (double) (UINT64_C(1) << 53);
}

/* exponentially distributed, at least 1 */
__attribute__((unused))
static int64_t
random_duration(random_source *source, double mean)
{
	return 1 + (int64_t) (-log(1.0 - random_double(source)) * mean);
}

/* CPU time of this process in nanoseconds: blind to who else uses the machine */
__attribute__((unused))
static int64_t
cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif							/* RSL_TEST_TAP_H */
