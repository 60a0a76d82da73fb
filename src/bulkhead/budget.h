/*-------------------------------------------------------------------------
 *
 * budget.h
 *		Budgets of bulkheads: who may begin, considering what it will cost.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BULKHEAD_BUDGET_H
#define RSL_BULKHEAD_BUDGET_H

#include "nodes/plannodes.h"
#include "shared/budget.h"

/* The first statement of a transaction, to be judged. */
typedef struct rsl_budget_request
{
	uint32		bits;			/* matches that have a budget */
	const PlannedStmt *stmt;
	uint64		query_id;
	rsl_priority priority;
	bool		(*exempt) (void *arg);	/* asked only if it would be refused */
	void	   *arg;
} rsl_budget_request;

extern void rsl_budget_judge(const rsl_budget_request *request);

#endif							/* RSL_BULKHEAD_BUDGET_H */
