/*-------------------------------------------------------------------------
 *
 * temp_files.h
 *		How much do the sessions have in temporary files?
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_TEMP_FILES_H
#define RSL_SHARED_TEMP_FILES_H

#include "shared/layout.h"

extern void rsl_temp_files_read(int64 *bytes);

#endif							/* RSL_SHARED_TEMP_FILES_H */
