/*-------------------------------------------------------------------------
 *
 * health_schedule.h
 *		Which workers there are to be, in which databases.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_HEALTH_SCHEDULE_H
#define RSL_WORKER_HEALTH_SCHEDULE_H

extern void rsl_health_schedule_tick(void);

#endif							/* RSL_WORKER_HEALTH_SCHEDULE_H */
