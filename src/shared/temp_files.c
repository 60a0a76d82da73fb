/*-------------------------------------------------------------------------
 *
 * temp_files.c
 *		How much do the sessions have in temporary files?
 *
 * PostgreSQL names a temporary file after the process that made it.  Those of
 * parallel workers count for their leader.  Nothing here raises errors: files
 * come and go while we look.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <dirent.h>
#include <sys/stat.h>

#include "common/file_utils.h"
#include "common/relpath.h"
#include "shared/temp_files.h"
#include "storage/fd.h"
#include "storage/proc.h"

/* The session for which a process works; -1 if none. */
static int
session_of(pid_t pid)
{
	static int	last = 0;

	for (int tries = 0; tries < 2; tries++)
	{
		for (int i = tries == 0 ? last : 0;
			 i < (tries == 0 ? last + 1 : rsl_shmem->nsessions); i++)
		{
			volatile PGPROC *proc = GetPGProcByNumber(i);
			PGPROC	   *leader;

			if (proc->pid != pid)
				continue;
			last = i;
			leader = proc->lockGroupLeader;
			return leader ? rsl_slot_number(leader) : i;
		}
	}
	return -1;
}

static int64
size_of(const char *path, bool enter)
{
	struct stat st;
	int64		size = 0;
	DIR		   *dir;
	struct dirent *de;
	char		file[MAXPGPATH * 2];

	if (lstat(path, &st) != 0)
		return 0;
	if (!S_ISDIR(st.st_mode))
		return st.st_size;

	/* a set of files that several processes share */
	if (!enter || (dir = opendir(path)) == NULL)
		return 0;
	while ((de = readdir(dir)) != NULL)
	{
		if (de->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, de->d_name);
		size += size_of(file, false);
	}
	closedir(dir);
	return size;
}

static void
read_folder(const char *folder, int64 *bytes)
{
	DIR		   *dir = opendir(folder);
	struct dirent *de;
	char		file[MAXPGPATH * 2];

	if (dir == NULL)
		return;
	while ((de = readdir(dir)) != NULL)
	{
		int			session;

		if (strncmp(de->d_name, PG_TEMP_FILE_PREFIX,
					strlen(PG_TEMP_FILE_PREFIX)) != 0)
			continue;
		session = session_of((pid_t) atoi(de->d_name + strlen(PG_TEMP_FILE_PREFIX)));

		if (session < 0)
			continue;
		snprintf(file, sizeof(file), "%s/%s", folder, de->d_name);
		bytes[session] += size_of(file, true);
	}
	closedir(dir);
}

/* Fills an element for each session, in bytes. */
void
rsl_temp_files_read(int64 *bytes)
{
	DIR		   *dir;
	struct dirent *de;
	char		folder[MAXPGPATH];

	memset(bytes, 0, rsl_shmem->nsessions * sizeof(int64));
	read_folder("base/" PG_TEMP_FILES_DIR, bytes);
	dir = opendir("pg_tblspc");
	if (dir == NULL)
		return;
	while ((de = readdir(dir)) != NULL)
	{
		if (de->d_name[0] == '.' ||
			snprintf(folder, sizeof(folder), "pg_tblspc/%s/%s/%s", de->d_name,
					 TABLESPACE_VERSION_DIRECTORY, PG_TEMP_FILES_DIR) >= (int) sizeof(folder))
			continue;
		read_folder(folder, bytes);
	}
	closedir(dir);
}
