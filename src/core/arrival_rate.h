/*-------------------------------------------------------------------------
 *
 * arrival_rate.h
 *		A limit on arrivals per second, with a bounded wait: one 64-bit word.
 *
 * The generic cell rate algorithm (ITU-T I.371; the "leaky bucket as a
 * meter").  The word is the time at which the next arrival would be due if
 * all came evenly spaced.  An arrival may be early by what a burst of one
 * second's worth allows (at least one arrival); who is earlier than that has
 * to wait until it is not, and reserves its place by moving the word on.
 * Who would have to wait for longer than allowed is refused and leaves the
 * word alone.  So never do more than rate x longest wait wait at once,
 * however many come.
 *
 * Callers change the word by compare-and-swap: these functions only say what
 * the next word is.  Time is passed in, in microseconds of a monotonic clock.
 * A word of 0 has seen no arrival.  Part of the cores: plain C, no backend
 * headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_ARRIVAL_RATE_H
#define RSL_CORE_ARRIVAL_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* between two arrivals, in microseconds; per_second > 0 */
extern int64_t rsl_arrival_interval(double per_second);

/*
 * One more arrival.  Returns whether it may come, and then the next word;
 * *wait_us is how long it has to wait, or would have to if it may not.
 */
extern bool rsl_arrival_reserve(double per_second, int64_t max_wait_us,
								uint64_t word, int64_t now_us,
								uint64_t *next, int64_t *wait_us);

/* The word without one arrival, which was reserved and did not come. */
extern uint64_t rsl_arrival_give_back(double per_second, uint64_t word);

/* How many arrivals have reserved a place and wait for it? */
extern int64_t rsl_arrivals_waiting(double per_second, uint64_t word,
									int64_t now_us);

#endif							/* RSL_CORE_ARRIVAL_RATE_H */
