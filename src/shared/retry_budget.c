/*-------------------------------------------------------------------------
 *
 * retry_budget.c
 *		Shared memory of the retries: budgets and statistics.
 *
 * A retry budget bounds what retries add to the load of a server that fails
 * because it is overloaded: however many sessions call retry(), with
 * whatever arguments, retries are at most 20 % of the first attempts and 10
 * per second on top.  All sessions of the server share it.  A budget's
 * tokens are one atomic word, changed by compare-and-swap.
 *
 * Names come from users, SQLSTATEs from whoever raises errors: both tables
 * have a fixed size, and are never cleaned while the server runs but by
 * rsl_retry_reset_statistics(), which keeps the budgets.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "core/token_bucket.h"
#include "shared/layout.h"
#include "shared/pool.h"
#include "shared/retry_budget.h"

/* 10 per second, 20 % of first attempts; 10 s of the former are saved up */
static const rsl_bucket_config bucket_config = {
	.per_second = 10,
	.deposit_milli = 200,
	.capacity = 100
};

rsl_retry_shared *rsl_retry_shmem = NULL;

static int64
now_ms(void)
{
	return rsl_now_us() / 1000;
}

static void
budget_init(rsl_retry_budget *budget, const char *name)
{
	strlcpy(budget->name, name, sizeof(budget->name));
	pg_atomic_init_u64(&budget->word,
					   rsl_bucket_full(&bucket_config, now_ms()));
	pg_atomic_init_u64(&budget->deposits, 0);
	pg_atomic_init_u64(&budget->allowed, 0);
	pg_atomic_init_u64(&budget->denied, 0);
}

Size
rsl_retry_shmem_size(void)
{
	return CACHELINEALIGN(sizeof(rsl_retry_shared));
}

/* Fill our part of the shared memory.  rsl_locks is there already. */
void
rsl_retry_shmem_init(void *where)
{
	rsl_retry_shared *shared = where;

	rsl_retry_shmem = shared;
	memset(shared, 0, sizeof(*shared));
	LWLockInitialize(&shared->lock, rsl_locks[0].lock.tranche);
	budget_init(&shared->budgets[0], "default");
	shared->nbudgets = 1;
	for (int i = 0; i < lengthof(shared->entries); i++)
	{
		for (int r = 0; r < RSL_RETRY_RESULTS; r++)
		{
			rsl_retry_counts *counts = &shared->entries[i].counts[r];

			pg_atomic_init_u64(&counts->calls, 0);
			pg_atomic_init_u64(&counts->attempts, 0);
			pg_atomic_init_u64(&counts->delay_us, 0);
		}
	}
	shared->nentries = 1;		/* entry 0: 00000 */
}

/* The lock is held. */
static rsl_retry_budget *
find_budget(const char *name)
{
	for (int i = 0; i < rsl_retry_shmem->nbudgets; i++)
	{
		if (strcmp(rsl_retry_shmem->budgets[i].name, name) == 0)
			return &rsl_retry_shmem->budgets[i];
	}
	return NULL;
}

/*
 * The budget of that name (shorter than NAMEDATALEN), made when it is first
 * asked for.  NULL when there is no room for one more.
 */
rsl_retry_budget *
rsl_retry_budget_find(const char *name)
{
	rsl_retry_shared *shared = rsl_retry_shmem;
	rsl_retry_budget *budget;

	LWLockAcquire(&shared->lock, LW_SHARED);
	budget = find_budget(name);
	LWLockRelease(&shared->lock);
	if (budget != NULL)
		return budget;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	budget = find_budget(name);
	if (budget == NULL && shared->nbudgets < RSL_MAX_RETRY_BUDGETS)
	{
		budget = &shared->budgets[shared->nbudgets];
		budget_init(budget, name);
		shared->nbudgets++;
	}
	LWLockRelease(&shared->lock);
	return budget;
}

/* A first attempt pays in. */
void
rsl_retry_budget_deposit(rsl_retry_budget *budget)
{
	uint64		word = pg_atomic_read_u64(&budget->word);

	while (!pg_atomic_compare_exchange_u64(&budget->word, &word,
										   rsl_bucket_deposit(&bucket_config, word, now_ms())))
		 /* word is now what somebody else made of it */ ;
	pg_atomic_fetch_add_u64(&budget->deposits, 1);
}

/* May there be one more retry?  If so it is paid for. */
bool
rsl_retry_budget_take(rsl_retry_budget *budget)
{
	uint64		word = pg_atomic_read_u64(&budget->word);
	uint64		next;

	do
	{
		if (!rsl_bucket_take(&bucket_config, word, now_ms(), &next))
		{
			pg_atomic_fetch_add_u64(&budget->denied, 1);
			return false;
		}
	} while (!pg_atomic_compare_exchange_u64(&budget->word, &word, next));
	pg_atomic_fetch_add_u64(&budget->allowed, 1);
	return true;
}

double
rsl_retry_budget_tokens(rsl_retry_budget *budget)
{
	return rsl_bucket_tokens(&bucket_config, pg_atomic_read_u64(&budget->word),
							 now_ms());
}

/* The lock is held.  Returns -1 when there is none. */
static int
find_entry(int sqlstate)
{
	for (int i = 0; i < rsl_retry_shmem->nentries; i++)
	{
		if (rsl_retry_shmem->entries[i].sqlstate == sqlstate)
			return i;
	}
	return -1;
}

/* As in the view retry_stats and in metrics. */
const char *
rsl_retry_result_name(rsl_retry_result result)
{
	static const char *const names[RSL_RETRY_RESULTS] = {
		"success_first", "success_retried", "exhausted", "not_retryable",
		"budget", "deadline", "breaker_open"
	};

	return names[result];
}

/*
 * Count a call that has ended: the SQLSTATE of its last error (0 if there was
 * none), how many attempts it made, and for how long it slept between them.
 */
void
rsl_retry_count(int sqlstate, rsl_retry_result result, uint64 attempts,
				uint64 delay_us)
{
	rsl_retry_shared *shared = rsl_retry_shmem;
	rsl_retry_counts *counts;
	int			entry;

	LWLockAcquire(&shared->lock, LW_SHARED);
	entry = find_entry(sqlstate);
	if (entry < 0)
	{
		LWLockRelease(&shared->lock);
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		entry = find_entry(sqlstate);
		if (entry < 0 && shared->nentries < RSL_RETRY_OTHER)
		{
			entry = shared->nentries++;
			shared->entries[entry].sqlstate = sqlstate;
		}
		else if (entry < 0)
			entry = RSL_RETRY_OTHER;
	}
	counts = &shared->entries[entry].counts[result];
	pg_atomic_fetch_add_u64(&counts->calls, 1);
	pg_atomic_fetch_add_u64(&counts->attempts, attempts);
	if (delay_us > 0)
		pg_atomic_fetch_add_u64(&counts->delay_us, delay_us);
	LWLockRelease(&shared->lock);
}

/* Totals restart at zero.  Budgets stay, with the tokens that they have. */
void
rsl_retry_reset_statistics(void)
{
	rsl_retry_shared *shared = rsl_retry_shmem;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < lengthof(shared->entries); i++)
	{
		for (int r = 0; r < RSL_RETRY_RESULTS; r++)
		{
			rsl_retry_counts *counts = &shared->entries[i].counts[r];

			pg_atomic_write_u64(&counts->calls, 0);
			pg_atomic_write_u64(&counts->attempts, 0);
			pg_atomic_write_u64(&counts->delay_us, 0);
		}
	}
	shared->nentries = 1;
	for (int i = 0; i < shared->nbudgets; i++)
	{
		pg_atomic_write_u64(&shared->budgets[i].deposits, 0);
		pg_atomic_write_u64(&shared->budgets[i].allowed, 0);
		pg_atomic_write_u64(&shared->budgets[i].denied, 0);
	}
	LWLockRelease(&shared->lock);
}
