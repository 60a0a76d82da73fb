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
#include "shared/session.h"

#define ERRCODE_BULKHEAD_FULL		MAKE_SQLSTATE('5','3','R','0','1')
#define ERRCODE_STATEMENT_SHED		MAKE_SQLSTATE('5','3','R','0','2')
#define ERRCODE_WAIT_TIMED_OUT		MAKE_SQLSTATE('5','3','R','0','3')
#define ERRCODE_PREEMPTED			MAKE_SQLSTATE('5','3','R','0','4')

extern void rsl_admit_transaction(const PlannedStmt *stmt, const char *text,
								  QueryDesc *queryDesc);
extern void rsl_charge_statement(const PlannedStmt *stmt, const char *text,
								 QueryDesc *queryDesc);

#endif							/* RSL_SHEDDING_ADMISSION_H */
