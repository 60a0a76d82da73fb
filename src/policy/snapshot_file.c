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
#include "policy/publish.h"
#include "policy/snapshot_file.h"
#include "port/pg_crc32c.h"
#include "shared/layout.h"
#include "storage/fd.h"

#define SNAPSHOT_FILE		"resilience.snapshot"
#define SNAPSHOT_FILE_TMP	SNAPSHOT_FILE ".tmp"
#define SNAPSHOT_MAGIC		0x52534C31	/* "RSL1" */

/* change this when one of the structs of policies changes */
#define RSL_SNAPSHOT_FORMAT	8

typedef struct snapshot_header
{
	uint32		magic;
	uint32		format;
	uint32		bulkhead_size;
	uint32		nbulkheads;
	uint32		breaker_size;
	uint32		nbreakers;
	uint32		rule_size;
	uint32		nrules;
	uint32		kind_size[RSL_NUM_KINDS];
	uint32		kind_count[RSL_NUM_KINDS];
	pg_crc32c	crc;			/* of all that follows: policies of bulkheads,
								 * of breakers, of runaway rules, of the other
								 * kinds; since when the first are reverted */
} snapshot_header;

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

static void
load_bulkheads(const rsl_bulkhead_policy *policies,
			   const TimestampTz *reverted, uint32 n)
{
	for (uint32 i = 0; i < n; i++)
	{
		if (rsl_publish_at_start(&policies[i], reverted[i]))
			continue;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("bulkhead \"%s\" is not enforced: no room in shared memory",
						policies[i].name),
				 errhint("Raise \"resilience.max_bulkheads\" (now %d) and restart the server.",
						 rsl_shmem->max_bulkheads)));
		break;
	}
}

static void
load_breakers(const rsl_breaker_policy *policies, uint32 n)
{
	for (uint32 i = 0; i < n; i++)
	{
		if (rsl_publish_breaker_at_start(&policies[i]))
			continue;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("circuit breaker \"%s\" is not in force: no room in shared memory",
						policies[i].name),
				 errhint("Raise \"resilience.max_breakers\" (now %d) and restart the server.",
						 rsl_breakers_shmem->max_breakers)));
		break;
	}
}

static void
load_rules(const rsl_runaway_policy *policies, uint32 n)
{
	for (uint32 i = 0; i < n; i++)
	{
		if (rsl_publish_runaway_rule_at_start(&policies[i]))
			continue;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("runaway rule \"%s\" is not in force: no room in shared memory",
						policies[i].name),
				 errhint("Raise \"resilience.max_runaway_rules\" (now %d) and restart the server.",
						 rsl_runaway->max_rules)));
		break;
	}
}

/* Returns where those of the next kind are. */
static char *
load_kind(const rsl_kind *kind, char *policies, uint32 n)
{
	for (uint32 i = 0; i < n; i++)
	{
		const void *policy = policies + i * kind->policy_size;

		if (rsl_publish_kind_at_start(kind, policy))
			continue;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%s \"%s\" is not in force: no room in shared memory",
						kind->singular, ((const rsl_policy_head *) policy)->name),
				 errhint("Raise \"%s\" (now %d) and restart the server.",
						 kind->setting, kind->capacity())));
		break;
	}
	return policies + n * kind->policy_size;
}

/* Were the policies of the kinds written by this version of the library? */
static bool
kinds_fit(const snapshot_header *header)
{
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		if (header->kind_size[k] != rsl_kinds[k]->policy_size)
			return false;
	}
	return true;
}

/* The bytes of all their policies.  Returns false if that cannot be. */
static bool
kinds_size(const snapshot_header *header, size_t *size)
{
	*size = 0;
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		if (header->kind_count[k] > 1000000)
			return false;
		*size += header->kind_count[k] * rsl_kinds[k]->policy_size;
	}
	return true;
}

/* Load the file into empty shared memory.  Nobody else is there. */
void
rsl_snapshot_load(void)
{
	snapshot_header header;
	char	   *policies = NULL;
	int			fd;
	const char *damage = NULL;
	size_t		kinds = 0;

	fd = open(SNAPSHOT_FILE, O_RDONLY | PG_BINARY, 0);
	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", SNAPSHOT_FILE)));
		return;
	}

	if (!read_fully(fd, &header, sizeof(header)) ||
		header.magic != SNAPSHOT_MAGIC)
		damage = "it is not a snapshot of resilience";
	else if (header.format != RSL_SNAPSHOT_FORMAT ||
			 header.bulkhead_size != sizeof(rsl_bulkhead_policy) ||
			 header.breaker_size != sizeof(rsl_breaker_policy) ||
			 header.rule_size != sizeof(rsl_runaway_policy) ||
			 !kinds_fit(&header))
		damage = "it was written by another version of the library";
	else if (header.nbulkheads > 1000000 || header.nbreakers > 1000000 ||
			 header.nrules > 1000000 || !kinds_size(&header, &kinds))
		damage = "its header is damaged";
	else
	{
		size_t		size = (size_t) header.nbulkheads * sizeof(rsl_bulkhead_policy) +
			(size_t) header.nbreakers * sizeof(rsl_breaker_policy) +
			(size_t) header.nrules * sizeof(rsl_runaway_policy) + kinds +
			(size_t) header.nbulkheads * sizeof(TimestampTz);
		pg_crc32c	crc;

		policies = malloc(size + 1);
		if (policies == NULL || !read_fully(fd, policies, size))
			damage = "it is too short";
		else
		{
			INIT_CRC32C(crc);
			COMP_CRC32C(crc, policies, size);
			FIN_CRC32C(crc);
			if (!EQ_CRC32C(crc, header.crc))
				damage = "its checksum is wrong";
		}
	}
	close(fd);

	if (damage)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring file \"%s\": %s", SNAPSHOT_FILE, damage),
				 errdetail("Definitions hold again when the tables have been read.")));
	else
	{
		char	   *breakers = policies +
			(size_t) header.nbulkheads * sizeof(rsl_bulkhead_policy);
		char	   *rules = breakers +
			(size_t) header.nbreakers * sizeof(rsl_breaker_policy);
		char	   *kind = rules +
			(size_t) header.nrules * sizeof(rsl_runaway_policy);
		char	   *reverted = kind + kinds;

		load_bulkheads((rsl_bulkhead_policy *) policies,
					   (TimestampTz *) reverted, header.nbulkheads);
		load_breakers((rsl_breaker_policy *) breakers, header.nbreakers);
		load_rules((rsl_runaway_policy *) rules, header.nrules);
		for (int k = 0; k < RSL_NUM_KINDS; k++)
			kind = load_kind(rsl_kinds[k], kind, header.kind_count[k]);
	}
	free(policies);
}

/* The same for the other kinds, whose positions follow. */
static bool
next_of_kinds(int *position, int first, const void **policy, size_t *size,
			  snapshot_header *header)
{
	for (int k = 0; k < RSL_NUM_KINDS; k++)
	{
		int			capacity = rsl_kinds[k]->capacity();

		while (*position < first + capacity)
		{
			*policy = rsl_kinds[k]->published((*position)++ - first);
			if (*policy == NULL)
				continue;
			*size = rsl_kinds[k]->policy_size;
			header->kind_count[k]++;
			return true;
		}
		first += capacity;
	}
	return false;
}

/*
 * Is there a next published definition?  Sets *policy and *size, and adds one
 * to the header's count of its kind.
 */
static bool
next_policy(int *position, const void **policy, size_t *size,
			snapshot_header *header)
{
	int			first_breaker = rsl_shmem->nbulkheads;
	int			first_rule = first_breaker + rsl_breakers_shmem->nbreakers;

	while (*position < first_rule + rsl_runaway->max_rules)
	{
		int			i = (*position)++;

		if (i < first_breaker)
		{
			if (!rsl_bulkheads[i].published)
				continue;
			*policy = &rsl_bulkheads[i].policy;
			*size = sizeof(rsl_bulkhead_policy);
			header->nbulkheads++;
		}
		else if (i < first_rule)
		{
			if (!rsl_breakers[i - first_breaker].published)
				continue;
			*policy = &rsl_breakers[i - first_breaker].policy;
			*size = sizeof(rsl_breaker_policy);
			header->nbreakers++;
		}
		else
		{
			if (!rsl_runaway->rules[i - first_rule].published)
				continue;
			*policy = &rsl_runaway->rules[i - first_rule].policy;
			*size = sizeof(rsl_runaway_policy);
			header->nrules++;
		}
		return true;
	}
	return next_of_kinds(position, first_rule + rsl_runaway->max_rules,
						 policy, size, header);
}

/* Since when are the published bulkheads reverted?  Of the next one. */
static bool
next_reverted(int *position, TimestampTz *reverted_at)
{
	for (; *position < rsl_shmem->nbulkheads; (*position)++)
	{
		if (!rsl_bulkheads[*position].published)
			continue;
		*reverted_at = rsl_bulkheads[*position].reverted_at;
		(*position)++;
		return true;
	}
	return false;
}

/* Write what is published.  The config lock is held.  Never throws. */
void
rsl_snapshot_save(void)
{
	snapshot_header header = {
		.magic = SNAPSHOT_MAGIC,
		.format = RSL_SNAPSHOT_FORMAT,
		.bulkhead_size = sizeof(rsl_bulkhead_policy),
		.breaker_size = sizeof(rsl_breaker_policy),
		.rule_size = sizeof(rsl_runaway_policy)
	};
	snapshot_header second_pass = header;
	const char *failed = NULL;
	const void *policy;
	size_t		size;
	TimestampTz reverted_at;
	int			position = 0;
	int			fd;

	for (int k = 0; k < RSL_NUM_KINDS; k++)
		header.kind_size[k] = rsl_kinds[k]->policy_size;
	INIT_CRC32C(header.crc);
	while (next_policy(&position, &policy, &size, &header))
		COMP_CRC32C(header.crc, policy, size);
	position = 0;
	while (next_reverted(&position, &reverted_at))
		COMP_CRC32C(header.crc, &reverted_at, sizeof(reverted_at));
	FIN_CRC32C(header.crc);

	fd = open(SNAPSHOT_FILE_TMP, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY,
			  pg_file_create_mode);
	if (fd < 0)
		failed = "open";
	else
	{
		if (!write_fully(fd, &header, sizeof(header)))
			failed = "write";
		position = 0;
		while (!failed && next_policy(&position, &policy, &size, &second_pass))
		{
			if (!write_fully(fd, policy, size))
				failed = "write";
		}
		position = 0;
		while (!failed && next_reverted(&position, &reverted_at))
		{
			if (!write_fully(fd, &reverted_at, sizeof(reverted_at)))
				failed = "write";
		}
		if (!failed && pg_fsync(fd) != 0)
			failed = "fsync";
		if (close(fd) != 0 && !failed)
			failed = "close";
	}

	if (failed)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not %s file \"%s\": %m", failed,
						SNAPSHOT_FILE_TMP),
				 errdetail("After a restart definitions hold only once the tables have been read.")));
	else if (durable_rename(SNAPSHOT_FILE_TMP, SNAPSHOT_FILE, LOG) != 0)
		failed = "rename";
	rsl_shmem->snapshot_stale = failed != NULL;
}
