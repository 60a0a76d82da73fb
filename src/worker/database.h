/*-------------------------------------------------------------------------
 *
 * database.h
 *		Workers that are connected to a database, and commands that need the
 *		database for themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_DATABASE_H
#define RSL_WORKER_DATABASE_H

extern void rsl_database_commands_init(void);

#endif							/* RSL_WORKER_DATABASE_H */
