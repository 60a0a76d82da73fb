/*-------------------------------------------------------------------------
 *
 * errcodes.h
 *		SQLSTATEs of our own for what is refused; docs/errors.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_ERRCODES_H
#define RSL_SHARED_ERRCODES_H

#define ERRCODE_BULKHEAD_FULL		MAKE_SQLSTATE('5','3','R','0','1')
#define ERRCODE_STATEMENT_SHED		MAKE_SQLSTATE('5','3','R','0','2')
#define ERRCODE_WAIT_TIMED_OUT		MAKE_SQLSTATE('5','3','R','0','3')
#define ERRCODE_PREEMPTED			MAKE_SQLSTATE('5','3','R','0','4')
#define ERRCODE_FEATURE_DEGRADED	MAKE_SQLSTATE('5','5','R','0','1')

#endif							/* RSL_SHARED_ERRCODES_H */
