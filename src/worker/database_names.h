/*-------------------------------------------------------------------------
 *
 * database_names.h
 *		Names of databases, for processes that cannot look them up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_DATABASE_NAMES_H
#define RSL_WORKER_DATABASE_NAMES_H

/* The launcher, at each tick. */
extern void rsl_name_databases(void);

#endif							/* RSL_WORKER_DATABASE_NAMES_H */
