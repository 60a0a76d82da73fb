/*-------------------------------------------------------------------------
 *
 * process_cpu.h
 *		CPU time of a process of this server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_PROCESS_CPU_H
#define RSL_SHARED_PROCESS_CPU_H

#include <time.h>

/*
 * CPU time that a process has used since its start, user and system, in
 * microseconds; -1 if there is none of that number or the system does not
 * tell.  "pid" 0 is the calling process.  The number may meanwhile be another
 * process's: the caller has to check that whom it meant is still there.
 * A system call, about 0.2 microseconds.
 */
static inline int64
rsl_process_cpu_us(pid_t pid)
{
	clockid_t	clock = CLOCK_PROCESS_CPUTIME_ID;
	struct timespec used;

	if ((pid != 0 && clock_getcpuclockid(pid, &clock) != 0) ||
		clock_gettime(clock, &used) != 0)
		return -1;
	return (int64) used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

#endif							/* RSL_SHARED_PROCESS_CPU_H */
