/*
 * The snapshot file's header: any bytes, and a file of any length.
 */
#include "core/snapshot.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	rsl_snapshot_header ours = {
		.magic = RSL_SNAPSHOT_MAGIC,
		.format = 9,
		.nparts = 4,
		.parts = {{.size = 3000}, {.size = 64}, {.size = 1}, {.size = 8}}
	};
	rsl_snapshot_header header = ours;
	uint64_t	behind = 0;
	uint64_t	file_size;

	/* half of the inputs get what must be right for free, to come further */
	if (size > 0 && data[0] & 1)
	{
		for (int i = 0; i < 4 && 1 + 4 * (i + 1) <= (int) size; i++)
			memcpy(&header.parts[i].count, data + 1 + 4 * i, 4);
		file_size = sizeof(header) + rsl_snapshot_offset(&header, 4) + (data[0] & 2);
	}
	else
	{
		memcpy(&header, data, size < sizeof(header) ? size : sizeof(header));
		file_size = size;
	}

	if (rsl_snapshot_check(&header, &ours, file_size, &behind) == NULL)
	{
		require(behind + sizeof(header) == file_size);
		for (int i = 0; i < 4; i++)
		{
			require(rsl_snapshot_offset(&header, i) <= rsl_snapshot_offset(&header, i + 1));
			require(rsl_snapshot_offset(&header, i) +
					(uint64_t) header.parts[i].size * header.parts[i].count <= behind);
		}
		require(rsl_snapshot_offset(&header, 4) == behind);
	}
	return 0;
}
