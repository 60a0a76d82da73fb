/*-------------------------------------------------------------------------
 *
 * errcodes.h
 *		SQLSTATEs of our own; docs/errors.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_ERRCODES_H
#define RSL_SHARED_ERRCODES_H

#define ERRCODE_BREAKER_OPEN			MAKE_SQLSTATE('0','8','R','0','1')
#define ERRCODE_CALL_TIMED_OUT			MAKE_SQLSTATE('0','8','R','0','2')
#define ERRCODE_BULKHEAD_FULL			MAKE_SQLSTATE('5','3','R','0','1')
#define ERRCODE_STATEMENT_SHED			MAKE_SQLSTATE('5','3','R','0','2')
#define ERRCODE_WAIT_TIMED_OUT			MAKE_SQLSTATE('5','3','R','0','3')
#define ERRCODE_PREEMPTED				MAKE_SQLSTATE('5','3','R','0','4')
#define ERRCODE_RETRY_BUDGET_EXHAUSTED	MAKE_SQLSTATE('5','3','R','0','5')
#define ERRCODE_FEATURE_DEGRADED		MAKE_SQLSTATE('5','5','R','0','1')

#endif							/* RSL_SHARED_ERRCODES_H */
