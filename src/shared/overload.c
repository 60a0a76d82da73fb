/*-------------------------------------------------------------------------
 *
 * overload.c
 *		What makes a queue worse than it has to be: waiters that nobody
 *		waits for.
 *
 * A client that has given up and closed its connection is noticed by a
 * backend only when it reads or writes.  In a queue it does neither, so
 * under overload the queue fills with statements that nobody wants any more,
 * and each of them costs a slot when its turn comes.  Hence a waiter looks
 * at its socket now and then, and once more when it has got a slot.
 *
 * And a client need not close its connection to have lost its interest: who
 * has waited too long when its turn comes makes place for younger ones, see
 * core/codel.h.
 *
 *-------------------------------------------------------------------------
 */
#include "client_port.h"
#include "compat.h"

#include "libpq/libpq.h"
#include "shared/overload.h"

void
rsl_overload_init(rsl_overload *overload)
{
	pg_atomic_init_u64(&overload->client_gone, 0);
	pg_atomic_init_u64(&overload->dropped, 0);
	pg_atomic_init_u64(&overload->retried, 0);
	/* time has filled the budget long ago */
	pg_atomic_init_u64(&overload->retry_word, 0);
}

/* Totals restart at zero. */
void
rsl_overload_reset(rsl_overload *overload)
{
	pg_atomic_write_u64(&overload->client_gone, 0);
	pg_atomic_write_u64(&overload->dropped, 0);
	pg_atomic_write_u64(&overload->retried, 0);
}

/*
 * If the client has closed the connection, end as a backend does that finds
 * out by client_connection_check_interval.  What we hold and wait for goes
 * back on exit.  May reset the process's latch: look again at whatever it
 * might have been set for.
 */
void
rsl_end_if_client_gone(rsl_pool *pool, rsl_priority priority)
{
	if (MyProcPort == NULL || !WaitEventSetCanReportClosed() ||
		pq_check_connection())
		return;

	pg_atomic_fetch_add_u64(&rsl_overload_of(pool, priority)->client_gone, 1);
	ClientConnectionLost = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/*
 * It is this waiter's turn: is it too late?  The pool's lock is held, and the
 * waiter is still in the queue.
 */
bool
rsl_waiter_too_late(rsl_pool *pool, int waiter, int64 now)
{
	rsl_wait_node *node = &rsl_nodes[waiter];
	int			newest = pool->queue.tail[node->priority];
	rsl_wait_node *other = &rsl_nodes[newest];
	bool		others_in_time;

	others_in_time = newest != waiter &&
		(other->target_ms == 0 ||
		 now - other->enqueued_at <= other->target_ms * INT64CONST(1000));
	return rsl_codel_drop(&pool->codel[node->priority], now,
						  now - node->enqueued_at,
						  node->target_ms * INT64CONST(1000), others_in_time);
}
