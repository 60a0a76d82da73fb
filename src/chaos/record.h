/*-------------------------------------------------------------------------
 *
 * record.h
 *		What statements are like before, during and after an experiment.
 *
 * What is measured: statements that a client that is not spared has sent, from
 * its message's arrival (or the end of the statement before it, if the message
 * has several or others were sent before their answer) to their end, with the
 * time that they wait to be admitted; of a statement without a transaction
 * block, to its commit.  All errors that end such a statement count, with those
 * that are raised instead of running it.
 *
 * Not measured: what fails before it is to be executed (syntax, privileges to
 * objects that analysis looks up, planning that asks no foreign server);
 * cursors and named portals, which several messages of the client run; what
 * does no work (BEGIN, COMMIT, SET ...); statements within statements.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_RECORD_H
#define RSL_CHAOS_RECORD_H

#include "compat.h"

#include "policy/statement.h"

/*
 * A top-level statement is to be admitted.  Bits are those of runs whose
 * conditions on session and statement hold.  After rsl_targets_refresh().
 */
extern void rsl_record_start(const rsl_statement *statement, uint32 targets);

/* A top-level statement that is not to be measured begins. */
extern void rsl_record_skip(void);

/* What it has others run, retry() for instance, is a target of those. */
extern void rsl_record_attempt(uint32 targets);

/*
 * A foreign server is called, or its breaker refuses that: by a statement, or
 * to plan one.  Bits as above.
 */
extern void rsl_record_foreign(uint32 targets, Oid server, bool planning,
							   bool refused);

/* An error is about to be told to the client. */
extern void rsl_record_error(int sqlstate);

/* It has done its work without an error. */
extern void rsl_record_end(void);

/* Its transaction, or the innermost part of it, has ended. */
extern void rsl_record_commit(void);
extern void rsl_record_abort(void);

#endif							/* RSL_CHAOS_RECORD_H */
