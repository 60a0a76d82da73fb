/*-------------------------------------------------------------------------
 *
 * cpu_budget.c
 *		A debt of CPU time that drains at a steady rate, in one 64-bit word.
 *
 * See cpu_budget.h.
 *
 *-------------------------------------------------------------------------
 */
#include "core/cpu_budget.h"

#include <math.h>
#include <string.h>

/* no debt takes longer than this to drain: 30 days */
#define LONGEST_US		(INT64_C(30) * 24 * 3600 * 1000000)

double
rsl_cpu_debt(uint64_t word, double rate, int64_t now_us)
{
	int64_t		left = (int64_t) word - now_us;

	return left > 0 ? left * rate : 0;
}

uint64_t
rsl_cpu_debt_add(uint64_t word, double rate, int64_t now_us, double cpu_us)
{
	int64_t		paid_at = (int64_t) word > now_us ? (int64_t) word : now_us;
	double		left = (paid_at - now_us) + cpu_us / rate;

	if (!(left > 0))
		return (uint64_t) now_us;
	if (left > LONGEST_US)
		left = LONGEST_US;
	return (uint64_t) (now_us + (int64_t) ceil(left));
}

uint64_t
rsl_cpu_debt_add_capped(uint64_t word, double rate, int64_t now_us,
						double cpu_us, double cap_us)
{
	uint64_t	next = rsl_cpu_debt_add(word, rate, now_us, cpu_us);
	uint64_t	most = rsl_cpu_debt_add(0, rate, now_us, cap_us);

	if ((int64_t) word > (int64_t) most)
		most = word;
	return next < most ? next : most;
}

int64_t
rsl_cpu_debt_wait(uint64_t word, double rate, int64_t now_us, double cpu_us)
{
	double		excess = rsl_cpu_debt(word, rate, now_us) - cpu_us;

	return excess > 0 ? (int64_t) ceil(excess / rate) : 0;
}

/* Two floats in a word: the mean cost and the mean CPU time. */
static uint64_t
pack(float cost, float cpu_us)
{
	uint32_t	high;
	uint32_t	low;

	memcpy(&high, &cost, sizeof(high));
	memcpy(&low, &cpu_us, sizeof(low));
	return (uint64_t) high << 32 | low;
}

static void
unpack(uint64_t word, float *cost, float *cpu_us)
{
	uint32_t	high = (uint32_t) (word >> 32);
	uint32_t	low = (uint32_t) word;

	memcpy(cost, &high, sizeof(high));
	memcpy(cpu_us, &low, sizeof(low));
}

uint64_t
rsl_cost_learn(uint64_t word, double cost, double cpu_us)
{
	float		mean_cost;
	float		mean_cpu;

	if (!(cost >= 0) || cost > 1e30)
		cost = cost > 1e30 ? 1e30 : 0;
	/* at least something, so that the word is not that of "nothing learnt" */
	if (!(cpu_us >= 1))
		cpu_us = 1;
	if (word == 0)
		return pack((float) cost, (float) cpu_us);
	unpack(word, &mean_cost, &mean_cpu);
	mean_cost += (float) (RSL_COST_WEIGHT * (cost - mean_cost));
	mean_cpu += (float) (RSL_COST_WEIGHT * (cpu_us - mean_cpu));
	return pack(mean_cost, mean_cpu);
}

double
rsl_cost_mean_cost(uint64_t word)
{
	float		cost;
	float		cpu_us;

	unpack(word, &cost, &cpu_us);
	return cost;
}

double
rsl_cost_mean_cpu(uint64_t word)
{
	float		cost;
	float		cpu_us;

	unpack(word, &cost, &cpu_us);
	return cpu_us;
}

double
rsl_cost_estimate(uint64_t word, double cost)
{
	float		mean_cost;
	float		mean_cpu;

	unpack(word, &mean_cost, &mean_cpu);
	/* utility statements have no cost */
	if (!(mean_cost > 0) || !(cost > 0))
		return mean_cpu;
	return cost / mean_cost * mean_cpu;
}
