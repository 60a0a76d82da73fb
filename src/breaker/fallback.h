/*-------------------------------------------------------------------------
 *
 * fallback.h
 *		Local relations that stand in for foreign tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_FALLBACK_H
#define RSL_BREAKER_FALLBACK_H

#include "compat.h"

#define RSL_FALLBACKS_NAME	"fallback_definitions"

/* Columns of resilience.fallback_definitions. */
#define RSL_FCOL_FOREIGN_TABLE	1
#define RSL_FCOL_FALLBACK		2

extern bool rsl_has_fallback_definition(Oid relid);

/*
 * Compare the columns of a foreign table with those of what is to stand in
 * for it.  Returns NULL if all is well, else a list of what differs.
 */
extern char *rsl_fallback_differences(Oid foreign_table, Oid fallback);

extern void rsl_fallback_init(void);
extern void rsl_fallback_functions_init(void);

#endif							/* RSL_BREAKER_FALLBACK_H */
