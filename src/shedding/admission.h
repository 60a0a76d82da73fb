/*-------------------------------------------------------------------------
 *
 * admission.h
 *		Admission of a transaction at its first statement that does work.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_ADMISSION_H
#define RSL_SHEDDING_ADMISSION_H

#include "executor/execdesc.h"
#include "nodes/plannodes.h"
#include "shared/errcodes.h"
#include "shared/session.h"

extern void rsl_admit_transaction(const PlannedStmt *stmt, const char *source_text,
								  QueryDesc *queryDesc);
extern void rsl_charge_statement(const PlannedStmt *stmt, const char *source_text,
								 QueryDesc *queryDesc);

#endif							/* RSL_SHEDDING_ADMISSION_H */
