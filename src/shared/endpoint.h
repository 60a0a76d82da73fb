/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *		What the health endpoint tells of itself, in shared memory.
 *
 * About 450 bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_ENDPOINT_H
#define RSL_SHARED_ENDPOINT_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/spin.h"

/* a longer address cannot be: see core/listen_address.c */
#define RSL_ENDPOINT_ADDRESS_LEN	128

#define RSL_ENDPOINT_MESSAGE_LEN	192

/*
 * How many connections are served at once; more wait in the kernel.  One
 * address of another machine may have half of them.
 */
#define RSL_ENDPOINT_CONNECTIONS	64

typedef enum rsl_endpoint_state
{
	RSL_ENDPOINT_OFF = 0,		/* resilience.http_listen is empty */
	RSL_ENDPOINT_STARTING,		/* it is wanted, and not there yet */
	RSL_ENDPOINT_LISTENING,
	RSL_ENDPOINT_FAILED			/* and it is tried again: see the message */
} rsl_endpoint_state;

typedef struct rsl_endpoint_shared
{
	/* atomic: rsl_endpoint_state, as the launcher and the worker see it */
	pg_atomic_uint32 state;

	slock_t		mutex;			/* of the three that follow */
	TimestampTz since;			/* of the state */
	char		address[RSL_ENDPOINT_ADDRESS_LEN];	/* as it was written */
	char		message[RSL_ENDPOINT_MESSAGE_LEN];	/* why it failed; "" */

	/* atomics, written by the worker: open now, and totals since start */
	pg_atomic_uint32 connections;
	pg_atomic_uint64 requests;
	pg_atomic_uint64 connections_total;
	pg_atomic_uint64 cut_off;	/* connections that took too long */
} rsl_endpoint_shared;

extern rsl_endpoint_shared *rsl_endpoint;

extern Size rsl_endpoint_shmem_size(void);
extern void rsl_endpoint_shmem_place(void *memory);
extern void rsl_endpoint_shmem_init(void);

/* NULL for address or message: as it was, or none. */
extern void rsl_endpoint_set(rsl_endpoint_state state, const char *address,
							 const char *message);

/* What stands there; any of the arguments may be NULL. */
extern rsl_endpoint_state rsl_endpoint_get(char *address, char *message,
										   TimestampTz *since);

#endif							/* RSL_SHARED_ENDPOINT_H */
