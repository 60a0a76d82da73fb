/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *		What the health endpoint tells of itself, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/endpoint.h"
#include "utils/timestamp.h"

rsl_endpoint_shared *rsl_endpoint = NULL;

Size
rsl_endpoint_shmem_size(void)
{
	return CACHELINEALIGN(sizeof(rsl_endpoint_shared));
}

void
rsl_endpoint_shmem_place(void *memory)
{
	rsl_endpoint = memory;
}

/* The memory is zero. */
void
rsl_endpoint_shmem_init(void)
{
	pg_atomic_init_u32(&rsl_endpoint->state, RSL_ENDPOINT_OFF);
	SpinLockInit(&rsl_endpoint->mutex);
	pg_atomic_init_u32(&rsl_endpoint->connections, 0);
	pg_atomic_init_u64(&rsl_endpoint->requests, 0);
	pg_atomic_init_u64(&rsl_endpoint->connections_total, 0);
	pg_atomic_init_u64(&rsl_endpoint->cut_off, 0);
}

void
rsl_endpoint_set(rsl_endpoint_state state, const char *address,
				 const char *message)
{
	uint32		before = pg_atomic_exchange_u32(&rsl_endpoint->state, state);
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&rsl_endpoint->mutex);
	if (before != state)
		rsl_endpoint->since = now;
	if (address)
		strlcpy(rsl_endpoint->address, address, sizeof(rsl_endpoint->address));
	strlcpy(rsl_endpoint->message, message ? message : "",
			sizeof(rsl_endpoint->message));
	SpinLockRelease(&rsl_endpoint->mutex);
}

rsl_endpoint_state
rsl_endpoint_get(char *address, char *message, TimestampTz *since)
{
	SpinLockAcquire(&rsl_endpoint->mutex);
	if (address)
		memcpy(address, rsl_endpoint->address, sizeof(rsl_endpoint->address));
	if (message)
		memcpy(message, rsl_endpoint->message, sizeof(rsl_endpoint->message));
	if (since)
		*since = rsl_endpoint->since;
	SpinLockRelease(&rsl_endpoint->mutex);
	return pg_atomic_read_u32(&rsl_endpoint->state);
}
