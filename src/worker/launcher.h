/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		Background workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_LAUNCHER_H
#define RSL_WORKER_LAUNCHER_H

extern void rsl_launcher_register(void);

extern PGDLLEXPORT void rsl_launcher_main(Datum arg);
extern PGDLLEXPORT void rsl_reader_main(Datum arg);
extern PGDLLEXPORT void rsl_database_worker_main(Datum arg);

#endif							/* RSL_WORKER_LAUNCHER_H */
