/*-------------------------------------------------------------------------
 *
 * snapshot_file.c
 *		The published definitions in a file, for the next start.
 *
 * The tables of the extension are the truth, but nobody can read a table
 * before the first connection is let in.  So each publication also writes
 * this file, and the server loads it while it creates its shared memory:
 * at start, after a crash, on a standby made by a base backup.  The launcher
 * then compares with the tables.
 *
 * Saving never fails: it may run after a commit.  A file that cannot be
 * written is a WARNING in the log, and the launcher tries again; one that
 * cannot be read counts as absent.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "core/snapshot.h"
#include "policy/publish.h"
#include "policy/snapshot_file.h"
#include "port/pg_crc32c.h"
#include "shared/layout.h"
#include "storage/fd.h"

#define SNAPSHOT_FILE		"resilience.snapshot"
#define SNAPSHOT_FILE_TMP	SNAPSHOT_FILE ".tmp"
/* change this when one of the structs of policies changes */
#define RSL_SNAPSHOT_FORMAT	9

/* The parts, in the order of the file: policies, and last of all since when
 * the bulkheads of the first part are reverted. */
enum
{
	PART_BULKHEADS,
	PART_BREAKERS,
	PART_RULES,
	PART_KINDS,					/* one for each kind */
	PART_REVERTED = PART_KINDS + RSL_NUM_KINDS,
	NUM_PARTS
};

StaticAssertDecl(NUM_PARTS <= RSL_SNAPSHOT_MAX_PARTS, "too many parts");

/* Like read(), until all is there.  Returns false on any shortage. */
static bool
read_fully(int fd, void *buffer, size_t size)
{
	char	   *to = buffer;

	while (size > 0)
	{
		ssize_t		n = read(fd, to, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		to += n;
		size -= n;
	}
	return true;
}

static bool
write_fully(int fd, const void *buffer, size_t size)
{
	const char *from = buffer;

	while (size > 0)
	{
		ssize_t		n;

		errno = 0;
		n = write(fd, from, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			return false;
		}
		from += n;
		size -= n;
	}
	return true;
}

/*
 * Put policies into force, as many as there is room for.  "publish" returns
 * whether there was.  In the file policies follow each other without padding,
 * so each is copied to where its fields are aligned.
 */
static void
load_part(rsl_room room, const char *policies, Size policy_size, uint32 n,
		  bool (*publish) (const void *policy, uint32 i, const void *arg),
		  const void *arg)
{
	rsl_left_out left_out = {.room = room};
	rsl_policy_head *policy = palloc(policy_size);

	for (uint32 i = 0; i < n; i++)
	{
		memcpy(policy, policies + i * policy_size, policy_size);
		if (!publish(policy, i, arg) && left_out.n++ == 0)
			strlcpy(left_out.name, policy->name, NAMEDATALEN);
	}
	pfree(policy);
	rsl_report_left_out(LOG, &left_out);
}

static bool
load_bulkhead(const void *policy, uint32 i, const void *reverted)
{
	TimestampTz reverted_at;

	memcpy(&reverted_at, (const char *) reverted + i * sizeof(TimestampTz),
		   sizeof(TimestampTz));
	return rsl_publish_bulkhead_at_start(policy, reverted_at);
}

static bool
load_breaker(const void *policy, uint32 i, const void *arg)
{
	return rsl_publish_breaker_at_start(policy);
}

static bool
load_rule(const void *policy, uint32 i, const void *arg)
{
	return rsl_publish_runaway_rule_at_start(policy);
}

static bool
load_of_kind(const void *policy, uint32 i, const void *kind)
{
	return rsl_publish_kind_at_start(kind, policy);
}

/* A header of this version of the library, with nothing in it */
static void
init_header(rsl_snapshot_header *header)
{
	memset(header, 0, sizeof(*header));
	header->magic = RSL_SNAPSHOT_MAGIC;
	header->format = RSL_SNAPSHOT_FORMAT;
	header->nparts = NUM_PARTS;
	header->parts[PART_BULKHEADS].size = sizeof(rsl_bulkhead_policy);
	header->parts[PART_BREAKERS].size = sizeof(rsl_breaker_policy);
	header->parts[PART_RULES].size = sizeof(rsl_runaway_policy);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
		header->parts[PART_KINDS + k].size = rsl_kinds[k]->policy_size;
	header->parts[PART_REVERTED].size = sizeof(TimestampTz);
}

/*
 * Read and check the file.  Sets what follows the header, which the caller
 * frees, or returns why the file is to be ignored.
 */
static const char *
read_file(int fd, rsl_snapshot_header *header, char **body)
{
	rsl_snapshot_header ours;
	const char *damage;
	struct stat file;
	uint64_t	size;
	pg_crc32c	crc;

	if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) ||
		!read_fully(fd, header, sizeof(*header)))
		return "it is not a snapshot of resilience";
	init_header(&ours);
	damage = rsl_snapshot_check(header, &ours, (uint64_t) file.st_size, &size);
	if (damage)
		return damage;
	if (header->parts[PART_REVERTED].count != header->parts[PART_BULKHEADS].count)
		return "its header is damaged";

	*body = malloc(size + 1);
	if (*body == NULL || !read_fully(fd, *body, size))
		return "it cannot be read";
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, *body, size);
	COMP_CRC32C(crc, header->parts, sizeof(header->parts));
	FIN_CRC32C(crc);
	return EQ_CRC32C(crc, header->crc) ? NULL : "its checksum is wrong";
}

/* Load the file into empty shared memory.  Nobody else is there. */
void
rsl_snapshot_load(void)
{
	rsl_snapshot_header header;
	char	   *body = NULL;
	const char *part[NUM_PARTS];
	const char *damage;
	int			fd;

	/* what is no file at all may not keep the server waiting */
	fd = open(SNAPSHOT_FILE, O_RDONLY | O_NONBLOCK | PG_BINARY, 0);
	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", SNAPSHOT_FILE),
					 errdetail("Definitions hold again when the tables have been read.")));
		return;
	}
	damage = read_file(fd, &header, &body);
	close(fd);

	if (damage)
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring file \"%s\": %s", SNAPSHOT_FILE, damage),
				 errdetail("Definitions hold again when the tables have been read.")));
		free(body);
		return;
	}

	for (int i = 0; i < NUM_PARTS; i++)
		part[i] = body + rsl_snapshot_offset(&header, i);
	load_part(rsl_bulkhead_room(), part[PART_BULKHEADS], sizeof(rsl_bulkhead_policy),
			  header.parts[PART_BULKHEADS].count, load_bulkhead, part[PART_REVERTED]);
	load_part(rsl_breaker_room(), part[PART_BREAKERS], sizeof(rsl_breaker_policy),
			  header.parts[PART_BREAKERS].count, load_breaker, NULL);
	load_part(rsl_runaway_room(), part[PART_RULES], sizeof(rsl_runaway_policy),
			  header.parts[PART_RULES].count, load_rule, NULL);
	for (int k = 0; k < RSL_NUM_KINDS; k++)
		load_part(rsl_kind_room(rsl_kinds[k]), part[PART_KINDS + k], rsl_kinds[k]->policy_size,
				  header.parts[PART_KINDS + k].count, load_of_kind, rsl_kinds[k]);
	free(body);
}

/* Where a position among all entries of shared memory is. */
static const void *
policy_at(int part, int index)
{
	switch (part)
	{
		case PART_BULKHEADS:
			return rsl_bulkheads[index].published ? &rsl_bulkheads[index].policy : NULL;
		case PART_BREAKERS:
			return rsl_breakers[index].published ? &rsl_breakers[index].policy : NULL;
		case PART_RULES:
			return rsl_runaway->rules[index].published ? &rsl_runaway->rules[index].policy : NULL;
		default:
			return rsl_kinds[part - PART_KINDS]->published(index);
	}
}

static int
entries_of(int part)
{
	switch (part)
	{
		case PART_BULKHEADS:
			return rsl_shmem->nbulkheads;
		case PART_BREAKERS:
			return rsl_breakers_shmem->nbreakers;
		case PART_RULES:
			return rsl_runaway->max_rules;
		default:
			return rsl_kinds[part - PART_KINDS]->capacity();
	}
}

/* What the file holds, piece by piece: call "each" until it returns false. */
static bool
foreach_piece(rsl_snapshot_header *header,
			  bool (*each) (const void *piece, size_t size, void *arg), void *arg)
{
	for (int part = 0; part < PART_REVERTED; part++)
	{
		header->parts[part].count = 0;
		for (int i = 0; i < entries_of(part); i++)
		{
			const void *policy = policy_at(part, i);

			if (policy == NULL)
				continue;
			header->parts[part].count++;
			if (!each(policy, header->parts[part].size, arg))
				return false;
		}
	}
	header->parts[PART_REVERTED].count = header->parts[PART_BULKHEADS].count;
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		if (rsl_bulkheads[i].published &&
			!each(&rsl_bulkheads[i].reverted_at, sizeof(TimestampTz), arg))
			return false;
	}
	return true;
}

static bool
sum_up(const void *piece, size_t size, void *arg)
{
	pg_crc32c  *crc = arg;

	COMP_CRC32C(*crc, piece, size);
	return true;
}

static bool
write_piece(const void *piece, size_t size, void *arg)
{
	return write_fully(*(int *) arg, piece, size);
}

/*
 * Write what is published.  The config lock is held.  Never throws.
 *
 * Not by durable_rename(), which opens what is to be replaced: a file that we
 * may not open would stay for ever, and be in the way of each start.
 */
void
rsl_snapshot_save(void)
{
	rsl_snapshot_header header;
	pg_crc32c	crc;
	const char *failed = NULL;
	int			fd;

	init_header(&header);
	INIT_CRC32C(crc);
	(void) foreach_piece(&header, sum_up, &crc);
	COMP_CRC32C(crc, header.parts, sizeof(header.parts));
	FIN_CRC32C(crc);
	header.crc = crc;

	fd = open(SNAPSHOT_FILE_TMP, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY,
			  pg_file_create_mode);
	if (fd < 0)
		failed = "open";
	else
	{
		if (!write_fully(fd, &header, sizeof(header)) ||
			!foreach_piece(&header, write_piece, &fd))
			failed = "write";
		if (!failed && pg_fsync(fd) != 0)
			failed = "fsync";
		if (close(fd) != 0 && !failed)
			failed = "close";
		if (!failed && rename(SNAPSHOT_FILE_TMP, SNAPSHOT_FILE) != 0)
			failed = "rename";
	}

	if (failed)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not %s file \"%s\": %m", failed,
						SNAPSHOT_FILE_TMP),
				 errdetail("After a restart definitions hold only once the tables have been read.")));
	/* the data directory, which is where we are */
	else if (fsync_fname_ext(".", true, false, LOG) != 0)
		failed = "fsync";
	rsl_shmem->snapshot_stale = failed != NULL;
}
