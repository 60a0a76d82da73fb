/*-------------------------------------------------------------------------
 *
 * snapshot.h
 *		The header of the snapshot file, and whether to believe it.
 *
 * Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_SNAPSHOT_H
#define RSL_CORE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#define RSL_SNAPSHOT_MAGIC		0x52534C31	/* "RSL1" */
#define RSL_SNAPSHOT_MAX_PARTS	16

/* Entries of one size, one after the other. */
typedef struct rsl_snapshot_part
{
	uint32_t	size;			/* of an entry, in bytes */
	uint32_t	count;
} rsl_snapshot_part;

/* The parts follow it in their order, with nothing between and behind them. */
typedef struct rsl_snapshot_header
{
	uint32_t	magic;
	uint32_t	format;
	uint32_t	nparts;
	uint32_t	crc;			/* of what follows the header, and of "parts" */
	rsl_snapshot_part parts[RSL_SNAPSHOT_MAX_PARTS];
} rsl_snapshot_header;

/*
 * Can a file of "file_size" bytes with this header be read by a library that
 * writes headers like "ours"?  Sets how many bytes follow the header, or
 * returns why not, as the end of a sentence.
 */
extern const char *rsl_snapshot_check(const rsl_snapshot_header *header,
									  const rsl_snapshot_header *ours,
									  uint64_t file_size, uint64_t *size);

/* Where a part begins, behind the header of a file that was checked. */
extern uint64_t rsl_snapshot_offset(const rsl_snapshot_header *header, int part);

#endif							/* RSL_CORE_SNAPSHOT_H */
