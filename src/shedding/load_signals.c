/*-------------------------------------------------------------------------
 *
 * load_signals.c
 *		How loaded the server is, measured by the launcher at each tick.
 *
 * The sessions' own entries and wait events tell how many run, wait, or are
 * blocked: a pass over two arrays, without locks.  The operating system tells
 * whether cores are idle and whether something waits for one, where it does:
 * /proc/pressure/cpu and /proc/uptime on Linux (/proc/stat has the same
 * numbers, but on a machine with many cores reading it takes a millisecond).
 * Both speak of the whole machine.  What is not there is not used.
 *
 * Called by the launcher only: what is remembered between two looks is local.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <fcntl.h>
#include <unistd.h>

#include "shared/cores.h"
#include "shared/pool.h"
#include "shedding/load_signals.h"
#include "storage/proc.h"

/* a file that cannot be opened is not tried again */
typedef struct kernel_file
{
	const char *path;
	int			fd;				/* -1 = not yet opened, -2 = not there */
} kernel_file;

static kernel_file pressure_file = {"/proc/pressure/cpu", -1};
static kernel_file uptime_file = {"/proc/uptime", -1};

/* numbers of the last look; negative = none */
static int64 last_look = -1;
static double last_stalled = -1;	/* seconds */
static double last_idle = -1;	/* seconds, all cores together */

/* for "loaded": moving averages over about half a second */
#define SMOOTHING			0.2
#define PRESSURE_HIGH		0.5
#define PRESSURE_LOW		0.25
#define QUIET_TICKS			10

static double avg_on_cpu = 0;
static double avg_pressure = 0;
static int	quiet_ticks = 0;

/* The file's text, from its start; false if there is none. */
static bool
read_file(kernel_file *file, char *buffer, size_t size)
{
	ssize_t		n;

	if (file->fd == -1)
	{
		file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
		if (file->fd < 0)
			file->fd = -2;
	}
	if (file->fd < 0)
		return false;
	n = pread(file->fd, buffer, size - 1, 0);
	if (n <= 0)
	{
		close(file->fd);
		file->fd = -2;
		return false;
	}
	buffer[n] = '\0';
	return true;
}

/* For how long has something waited for a core, in seconds since boot? */
static double
seconds_stalled(void)
{
	char		buffer[256];
	const char *total;

	if (!read_file(&pressure_file, buffer, sizeof(buffer)) ||
		strncmp(buffer, "some ", 5) != 0 ||
		(total = strstr(buffer, "total=")) == NULL)
		return -1;
	return strtod(total + strlen("total="), NULL) / 1e6;
}

/* For how long have cores been idle, in seconds since boot? */
static double
seconds_idle(void)
{
	char		buffer[128];
	const char *idle;

	if (!read_file(&uptime_file, buffer, sizeof(buffer)) ||
		(idle = strchr(buffer, ' ')) == NULL)
		return -1;
	return strtod(idle, NULL);
}

/* The share of a time span by which a counter of seconds has grown. */
static double
share(double *last, double now, double span)
{
	double		grown = now - *last;
	bool		known = *last >= 0 && now >= 0 && span > 0;

	*last = now;
	return known ? Max(0, Min(grown / span, 1)) : -1;
}

static void
look_at_sessions(rsl_load_signals *signals)
{
	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];

		if (session->pid == 0)
			continue;
		for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
			signals->admitted += pg_atomic_read_u64(&session->admitted[c]);

		if ((int32) pg_atomic_read_u32(&session->waiting_for) == RSL_SERVER_POOL)
			signals->waiting++;
		else if (RSL_SLOT_STATE(pg_atomic_read_u32(&session->slot)) == RSL_SLOT_HELD)
		{
			volatile PGPROC *proc = GetPGProcByNumber(i);
			uint32		wait_event = proc->wait_event_info;

			signals->holding++;
			if (wait_event == 0)
				signals->on_cpu++;
			else if ((wait_event & 0xFF000000) == PG_WAIT_LOCK)
				signals->on_lock++;
			else if ((wait_event & 0xFF000000) == PG_WAIT_LWLOCK)
				signals->on_lwlock++;
		}
	}

	/* a session that ends in this moment may be counted twice, once */
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		signals->admitted += pg_atomic_read_u64(&rsl_shmem->admitted[c]);
}

/* Look at the server.  Shares are of the time since the last call. */
void
rsl_load_signals_read(rsl_load_signals *signals)
{
	static int	cores = 0;
	double		span;

	if (cores == 0)
		cores = rsl_count_cores();
	memset(signals, 0, sizeof(*signals));
	signals->now = rsl_now_us();
	signals->cores = cores;
	span = last_look < 0 ? 0 : (signals->now - last_look) / 1e6;
	last_look = signals->now;

	look_at_sessions(signals);
	signals->pressure = share(&last_stalled, seconds_stalled(), span);
	signals->idle = share(&last_idle, seconds_idle(), span * signals->cores);
}

static void
average(double *avg, double value)
{
	*avg += SMOOTHING * (value - *avg);
}

static uint32
thousandths(double share)
{
	return share < 0 ? RSL_NOT_KNOWN : (uint32) (share * 1000 + 0.5);
}

/*
 * Publish what was seen, and whether the server is loaded: somebody waits for the server-wide
 * limit, or more transactions need a core than there are and something waits
 * for one most of the time.  (Load that is not the server's own cannot be
 * helped by holding back the server's work.)  It was loaded until a second
 * has passed without either.
 */
void
rsl_load_publish(const rsl_load_signals *signals)
{
	bool		was_loaded = rsl_server_is_loaded();
	bool		pressed;

	pg_atomic_write_u32(&rsl_shmem->blocked_share,
						thousandths((double) (signals->on_lock + signals->on_lwlock) /
									Max(signals->holding, 1)));
	pg_atomic_write_u32(&rsl_shmem->cpu_idle, thousandths(signals->idle));
	pg_atomic_write_u32(&rsl_shmem->cpu_pressure, thousandths(signals->pressure));

	average(&avg_on_cpu, signals->on_cpu);
	pressed = avg_on_cpu > signals->cores;
	if (signals->pressure >= 0)
	{
		average(&avg_pressure, signals->pressure);
		pressed = pressed &&
			avg_pressure > (was_loaded ? PRESSURE_LOW : PRESSURE_HIGH);
	}

	if (signals->waiting > 0 || pressed)
		quiet_ticks = 0;
	else if (quiet_ticks < QUIET_TICKS)
		quiet_ticks++;

	if (quiet_ticks == 0 && !was_loaded)
		pg_atomic_write_u32(&rsl_shmem->loaded, 1);
	else if (quiet_ticks >= QUIET_TICKS && was_loaded)
		pg_atomic_write_u32(&rsl_shmem->loaded, 0);
}
