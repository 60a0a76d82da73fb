/*-------------------------------------------------------------------------
 *
 * snapshot.c
 *		The header of the snapshot file, and whether to believe it.
 *
 * The file is read before anybody can connect, by a process whose end is that
 * of the server: nothing of it is used before the sizes add up to that of the
 * file.  That also bounds what is allocated for it.
 *
 *-------------------------------------------------------------------------
 */
#include "core/snapshot.h"

#include <stddef.h>

uint64_t
rsl_snapshot_offset(const rsl_snapshot_header *header, int part)
{
	uint64_t	offset = 0;

	/* sizes are those of structs: far from the end of 64 bits */
	for (int i = 0; i < part; i++)
		offset += (uint64_t) header->parts[i].size * header->parts[i].count;
	return offset;
}

const char *
rsl_snapshot_check(const rsl_snapshot_header *header,
				   const rsl_snapshot_header *ours,
				   uint64_t file_size, uint64_t *size)
{
	if (file_size < sizeof(*header) || header->magic != ours->magic)
		return "it is not a snapshot of resilience";
	if (header->format != ours->format || header->nparts != ours->nparts)
		return "it was written by another version of the library";
	for (uint32_t i = 0; i < ours->nparts; i++)
	{
		if (header->parts[i].size != ours->parts[i].size)
			return "it was written by another version of the library";
	}
	*size = rsl_snapshot_offset(header, (int) ours->nparts);
	if (*size > file_size - sizeof(*header))
		return "it is too short";
	if (*size < file_size - sizeof(*header))
		return "it is too long";
	return NULL;
}
