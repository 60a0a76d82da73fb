/*-------------------------------------------------------------------------
 *
 * cpu_budget.h
 *		A debt of CPU time that drains at a steady rate, in one 64-bit word.
 *
 * Work runs up a debt, time pays it off: a bucket as in the generic cell rate
 * algorithm (ITU-T I.371), in units of CPU time.  The word is the time at
 * which the debt will be paid, so that nobody has to come and drain it: debt
 * is (word - now) x rate, or none when that time has passed.  There are no
 * savings: who has been quiet may use the burst at once, and no more.
 *
 * Over any span of time the work that is let in has then used at most rate x
 * span + burst, and what its own estimates were wrong by; what is known later
 * is charged later, over the burst if need be.
 *
 * Beside it, what is learnt about the CPU time of a query: moving averages of
 * its planned cost and of the CPU time that it took, in one word, too.  An
 * estimate is the planned cost times the ratio of both.
 *
 * Callers change the words by compare-and-swap: these functions only say what
 * the next word is.  Times are in microseconds of a monotonic clock; rates in
 * CPU time per time (2 = two processors).  A word of 0 is no debt, or nothing
 * learnt.  Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_CPU_BUDGET_H
#define RSL_CORE_CPU_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

/* weight of a new sample in what is learnt, 1/8 as TCP's round-trip time */
#define RSL_COST_WEIGHT		0.125

/* The debt, in microseconds of CPU time. */
extern double rsl_cpu_debt(uint64_t word, double rate, int64_t now_us);

/* The next word after "cpu_us" more, or (negative) less. */
extern uint64_t rsl_cpu_debt_add(uint64_t word, double rate, int64_t now_us,
								 double cpu_us);

/* The same, but what would go beyond the cap is not added. */
extern uint64_t rsl_cpu_debt_add_capped(uint64_t word, double rate,
										int64_t now_us, double cpu_us,
										double cap_us);

/* How long until the debt is at most "cpu_us"?  0 = it is. */
extern int64_t rsl_cpu_debt_wait(uint64_t word, double rate, int64_t now_us,
								 double cpu_us);

extern uint64_t rsl_cost_learn(uint64_t word, double cost, double cpu_us);
extern double rsl_cost_mean_cost(uint64_t word);
extern double rsl_cost_mean_cpu(uint64_t word);

/* Estimate of the CPU time, in microseconds; 0 if nothing is known. */
extern double rsl_cost_estimate(uint64_t word, double cost);

#endif							/* RSL_CORE_CPU_BUDGET_H */
