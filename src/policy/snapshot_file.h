/*-------------------------------------------------------------------------
 *
 * snapshot_file.h
 *		The published bulkheads in a file, for the next start.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_SNAPSHOT_FILE_H
#define RSL_POLICY_SNAPSHOT_FILE_H

extern void rsl_snapshot_load(void);
extern void rsl_snapshot_save(void);

#endif							/* RSL_POLICY_SNAPSHOT_FILE_H */
