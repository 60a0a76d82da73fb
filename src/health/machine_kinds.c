/*-------------------------------------------------------------------------
 *
 * machine_kinds.c
 *		Health checks of the machine: disks and cores.
 *
 * What the operating system tells, of the whole machine: in a container that
 * may be more than the server can use.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "catalog/pg_tablespace_d.h"
#include "executor/spi.h"
#include "health/kinds.h"
#include "shared/cores.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/builtins.h"

/* The smallest share of free space so far. */
typedef struct disk_search
{
	double		share;			/* negative = none yet */
	double		free_bytes;
	double		total_bytes;
	char	   *what;
	MemoryContext context;		/* of "what" */
} disk_search;

/*
 * As df(1) counts: of what ordinary users can have at all.  Whoever looks at
 * several places of one file system gets the same for all; the first counts.
 */
static void
look_at_disk(const char *path, const char *what, disk_search *search)
{
	struct statvfs info;
	double		used;
	double		available;
	double		share;

	if (statvfs(path, &info) < 0)
	{
		/* a tablespace that was dropped in this moment */
		if (errno == ENOENT && search->share >= 0)
			return;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not look at \"%s\": %m", path)));
	}
	available = (double) info.f_bavail * info.f_frsize;
	used = (double) (info.f_blocks - info.f_bfree) * info.f_frsize;
	/* file systems without blocks (/proc) are never full */
	share = used + available > 0 ? available / (used + available) : 1;
	if (search->share < 0 || share < search->share)
	{
		search->share = share;
		search->free_bytes = available;
		search->total_bytes = used + available;
		search->what = MemoryContextStrdup(search->context, what);
	}
}

/* Of all tablespaces outside of the data directory, or of one by its name. */
static void
look_at_tablespaces(const char *name, disk_search *search)
{
	uint64		n = rsl_check_look("SELECT t.oid, t.spcname::text FROM pg_catalog.pg_tablespace t ORDER BY t.oid",
								   0, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Oid			oid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
														 SPI_tuptable->tupdesc, 1, &isnull));
		char	   *this_name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		bool		in_data_directory = oid == DEFAULTTABLESPACE_OID ||
			oid == GLOBALTABLESPACE_OID;

		if (name[0] != '\0' ? strcmp(this_name, name) == 0 : !in_data_directory)
			look_at_disk(in_data_directory ? "." : psprintf("pg_tblspc/%u", oid),
						 psprintf("tablespace \"%s\"", this_name), search);
	}
	SPI_finish();
}

/*
 * disk_free: value 0 .. 1, the smallest share that is free; less is worse.  Of
 * the data directory, pg_wal, and all tablespaces; or of the target, which is
 * the name of a tablespace or an absolute path.  A file system that does not
 * answer (NFS) cannot be given up: the process waits until it does.
 */
void
rsl_check_disk_free(const rsl_check_policy *policy, rsl_check_result *result)
{
	disk_search search = {.share = -1,.context = CurrentMemoryContext};
	const char *target = policy->target;

	if (target[0] == '/')
		look_at_disk(target, psprintf("\"%s\"", target), &search);
	else
	{
		if (target[0] == '\0')
		{
			look_at_disk(".", "the data directory", &search);
			look_at_disk("pg_wal", "pg_wal", &search);
		}
		look_at_tablespaces(target, &search);
	}
	if (search.share < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("tablespace \"%s\" does not exist", target)));
	rsl_check_judge(policy, search.share, result);
	rsl_check_say(result, "%.1f %% free (%s of %s): %s", search.share * 100,
				  rsl_check_size(search.free_bytes),
				  rsl_check_size(search.total_bytes), search.what);
}

/* for a number of runnable processes that means something */
#define LOAD_SAMPLES		10
#define LOAD_SAMPLE_MS		10

/*
 * How many processes and threads run or want to, this one not counted?  Where
 * there is no /proc, the system's average of the last minute.
 */
static double
runnable(void)
{
	char		buffer[128];
	const char *running;
	ssize_t		n = -1;
	double		averages[1];
	int			fd = OpenTransientFile("/proc/loadavg", O_RDONLY | PG_BINARY);

	if (fd >= 0)
	{
		n = read(fd, buffer, sizeof(buffer) - 1);
		CloseTransientFile(fd);
	}
	if (n > 0)
	{
		/* "0.20 0.18 0.12 1/80 11206": 1 of 80 is runnable */
		buffer[n] = '\0';
		running = strchr(buffer, '/');
		if (running)
		{
			while (running > buffer && running[-1] != ' ')
				running--;
			return Max(atoi(running) - 1, 0);
		}
	}
	if (getloadavg(averages, 1) == 1)
		return averages[0];
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("this system does not tell its load")));
}

/*
 * load: value in runnable processes and threads for each core, on average over
 * a tenth of a second, or less if the timeout is short.  The message has the
 * pressure that the launcher has measured, where the kernel tells it (PSI).
 */
void
rsl_check_load(const rsl_check_policy *policy, rsl_check_result *result)
{
	int			samples = Max(1, Min(LOAD_SAMPLES,
									 policy->timeout_ms / (4 * LOAD_SAMPLE_MS)));
	int			cores = rsl_count_cores();
	uint32		pressure = pg_atomic_read_u32(&rsl_shmem->cpu_pressure);
	double		sum = 0;

	for (int i = 0; i < samples; i++)
	{
		if (i > 0)
			pg_usleep(LOAD_SAMPLE_MS * 1000L);
		CHECK_FOR_INTERRUPTS();
		sum += runnable();
	}
	rsl_check_judge(policy, sum / samples / cores, result);
	rsl_check_say(result, "%.1f runnable on %d core%s%s", sum / samples, cores,
				  cores == 1 ? "" : "s",
				  pressure == RSL_NOT_KNOWN ? "" :
				  psprintf("; something waited for a core %.0f %% of the time",
						   pressure / 10.0));
}
