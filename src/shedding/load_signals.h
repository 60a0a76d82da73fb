/*-------------------------------------------------------------------------
 *
 * load_signals.h
 *		How loaded the server is, measured by the launcher at each tick.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_LOAD_SIGNALS_H
#define RSL_SHEDDING_LOAD_SIGNALS_H

#include "shared/layout.h"

/* One look at the server.  Shares are 0 .. 1; -1 = not known here. */
typedef struct rsl_load_signals
{
	int64		now;			/* microseconds, monotonic */
	int			cores;
	uint64		admitted;		/* transactions, since the server's start */
	int			holding;		/* sessions whose transaction runs */
	int			waiting;		/* for the server-wide limit */
	int			on_cpu;			/* of those holding: no wait event */
	int			on_lock;		/* ... wait for a heavyweight lock */
	int			on_lwlock;		/* ... wait for a lightweight lock */
	double		pressure;		/* time that something waited for a core */
	double		idle;			/* of the cores' time */
} rsl_load_signals;

extern void rsl_load_signals_read(rsl_load_signals *signals);
extern void rsl_load_publish(const rsl_load_signals *signals);

#endif							/* RSL_SHEDDING_LOAD_SIGNALS_H */
