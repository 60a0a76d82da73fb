/*-------------------------------------------------------------------------
 *
 * notify.h
 *		Events as notifications, for the listeners of each database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_NOTIFY_H
#define RSL_WORKER_NOTIFY_H

#include "shared/workers.h"

/*
 * Is there something to tell the listeners of a database now?  Needs no
 * transaction: for the launcher, which sees to it that there is a worker.
 */
extern bool rsl_notify_is_due(rsl_database *database, int64 now_us);

/*
 * Tell the listeners of this worker's database, if that is due.  Not within a
 * transaction: it has one of its own.  Raises no errors but those that end
 * the process.
 */
extern void rsl_notify_listeners(void);

#endif							/* RSL_WORKER_NOTIFY_H */
