/*
 * test_snapshot.c - unit tests of core/snapshot.c
 */
#include "core/snapshot.h"

#include <stddef.h>
#include <string.h>

#include "tap.h"

static rsl_snapshot_header ours;
static rsl_snapshot_header file;
static uint64_t size;

/* What is said of "file" when there are so many bytes behind its header. */
static const char *
verdict(uint64_t behind)
{
	const char *reason = rsl_snapshot_check(&file, &ours, sizeof(file) + behind, &size);

	return reason ? reason : "fine";
}

static bool
is_version_error(const char *reason)
{
	return strcmp(reason, "it was written by another version of the library") == 0;
}

int
main(void)
{
	ours.magic = RSL_SNAPSHOT_MAGIC;
	ours.format = 9;
	ours.nparts = 3;
	ours.parts[0].size = 1000;
	ours.parts[1].size = 200;
	ours.parts[2].size = 8;

	file = ours;
	ok(strcmp(verdict(0), "fine") == 0 && size == 0, "an empty one");
	file.parts[0].count = 2;
	file.parts[1].count = 1;
	file.parts[2].count = 2;
	ok(strcmp(verdict(2216), "fine") == 0 && size == 2216, "one with entries");
	ok(rsl_snapshot_offset(&file, 0) == 0 && rsl_snapshot_offset(&file, 1) == 2000 &&
	   rsl_snapshot_offset(&file, 2) == 2200 && rsl_snapshot_offset(&file, 3) == 2216,
	   "the parts follow each other");
	ok(strcmp(verdict(2215), "it is too short") == 0, "a byte is missing");
	ok(strcmp(verdict(2217), "it is too long") == 0, "a byte too much");

	ok(strcmp(rsl_snapshot_check(&file, &ours, sizeof(file) - 1, &size),
			  "it is not a snapshot of resilience") == 0, "not even a header");
	file.magic++;
	ok(strcmp(verdict(2216), "it is not a snapshot of resilience") == 0, "foreign");
	file = ours;
	file.format--;
	ok(is_version_error(verdict(0)), "another format");
	file = ours;
	file.nparts = 4000000000u;
	ok(is_version_error(verdict(0)), "parts that we do not know");
	file = ours;
	file.parts[1].size++;
	ok(is_version_error(verdict(0)), "entries of another size");

	file = ours;
	for (int i = 0; i < 3; i++)
		file.parts[i].count = UINT32_MAX;
	ok(strcmp(verdict(1 << 20), "it is too short") == 0 &&
	   size == (uint64_t) UINT32_MAX * 1208, "counts beyond all reason do not wrap around");

	return done_testing();
}
