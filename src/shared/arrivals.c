/*-------------------------------------------------------------------------
 *
 * arrivals.c
 *		The history of arrivals in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/arrivals.h"
#include "shared/settings.h"

StaticAssertDecl(sizeof(((rsl_history_identity *) 0)->address) ==
				 sizeof(rsl_address), "addresses are copied as memory");
StaticAssertDecl(RSL_HISTORY_NAME_LEN == NAMEDATALEN,
				 "room for any application_name");

rsl_arrivals *rsl_arrivals_shmem = NULL;

static Size
history_bytes(void)
{
	return mul_size(rsl_history_size, 1024);
}

Size
rsl_arrivals_shmem_size(void)
{
	if (rsl_history_size == 0)
		return 0;
	return add_size(offsetof(rsl_arrivals, history), history_bytes());
}

void
rsl_arrivals_shmem_place(void *memory)
{
	rsl_arrivals_shmem = rsl_history_size > 0 ? memory : NULL;
}

/* Fill our part of the shared memory.  rsl_locks is there already. */
void
rsl_arrivals_shmem_init(void)
{
	if (rsl_arrivals_shmem == NULL)
		return;
	LWLockInitialize(&rsl_arrivals_shmem->lock, rsl_locks[0].lock.tranche);
	rsl_history_init(&rsl_arrivals_shmem->history, history_bytes());
}

/* Who a session is, as the history knows it: padding is zero. */
void
rsl_arrivals_identity(rsl_history_identity *identity, Oid role, Oid database,
					  const rsl_address *address, bool superuser,
					  const char *application_name)
{
	memset(identity, 0, sizeof(*identity));
	identity->role = role;
	identity->database = database;
	memcpy(identity->address, address, sizeof(*address));
	identity->exempt = superuser;
	strlcpy(identity->application_name, application_name,
			sizeof(identity->application_name));
}

/* A copy, to look at in peace; NULL when there is none.  palloc'd. */
rsl_history *
rsl_arrivals_copy(void)
{
	rsl_history *copy;

	if (rsl_arrivals_shmem == NULL)
		return NULL;
	copy = palloc(rsl_arrivals_shmem->history.size);
	LWLockAcquire(&rsl_arrivals_shmem->lock, LW_SHARED);
	memcpy(copy, &rsl_arrivals_shmem->history,
		   rsl_arrivals_shmem->history.size);
	LWLockRelease(&rsl_arrivals_shmem->lock);
	return copy;
}
