/*-------------------------------------------------------------------------
 *
 * load.c
 *		A load generator for clients that are refused, retry, or must be on time.
 *
 * pgbench 15 aborts a client at the first error that is not a serialization
 * failure or deadlock, so it cannot play a client that is shed and comes
 * back.  It also cannot say how long a request waited for a free connection.
 * This program holds many connections in one thread (asynchronous libpq and
 * epoll), runs one statement in a closed or open loop, counts successes and
 * refusals by SQLSTATE, and prints exact percentiles.
 *
 * One operation is one execution of the statement (or, with -C, one
 * connection).  In the open loop (-R) latency counts from the moment the
 * request was due, so a stalled server cannot hide its stall by delaying the
 * requests behind it.
 *
 * The result is one line of key=value pairs on stdout; see usage() for the
 * options and report() for the keys.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define NSEC_PER_SEC	 INT64_C(1000000000)
#define NSEC_PER_MS		 INT64_C(1000000)
#define CONNECT_PATIENCE (60 * NSEC_PER_SEC)
#define MAX_STATES		 16
#define MAX_PHASES		 16

typedef enum ConnPhase
{
	CONN_DOWN,					/* no connection; a timer may bring it back */
	CONN_CONNECTING,			/* PQconnectPoll is at work */
	CONN_PREPARING,				/* PREPARE is on its way */
	CONN_IDLE,
	CONN_BUSY,					/* runs the statement */
	CONN_CLEANING,				/* runs ROLLBACK after a failed block */
	CONN_SLEEPING				/* closed loop: waits before it tries again */
} ConnPhase;

typedef struct Request
{
	int64_t		due;			/* when it should have been sent */
	int			attempts;
	struct Request *next;
} Request;

typedef struct Conn
{
	PGconn	   *pg;
	ConnPhase	phase;
	int			fd;				/* registered with epoll, or -1 */
	uint32_t	events;
	Request    *request;		/* what it works on */
	bool		failed;			/* the running operation got an error */
	char		sqlstate[6];
	int64_t		op_start;
	char	   *schedstat;		/* path of the backend's scheduler statistics */
	int64_t		server_ns;		/* its CPU time when measuring began */
} Conn;

/* A timer concerns a connection (index) or a request that comes back. */
typedef struct Timer
{
	int64_t		at;
	Conn	   *conn;
	Request    *request;
} Timer;

typedef struct RatePhase
{
	double		rate;			/* arrivals per second */
	double		seconds;
} RatePhase;

typedef struct StateCount
{
	char		sqlstate[6];
	int64_t		count;
	char	   *message;		/* the first one seen */
} StateCount;

/* options */
static const char *conninfo = "";
static int	n_conns = 1;
static double duration = 5;
static double warmup = 0;
static int64_t max_ops = 0;
static const char *sql = "SELECT 1";
static bool prepared = false;
static long param_max = 0;
static double retry_ms = 0;
static bool backoff = false;
static bool give_up = false;
static double patience_ms = 0;
static double interval_ms = 0;
static bool connect_mode = false;
static bool hold_mode = false;
static bool verbose = false;
static RatePhase rate_phases[MAX_PHASES];
static int	n_rate_phases = 0;

/* state */
static Conn *conns;
static int	epoll_fd;
static int64_t start_time;		/* operations begin */
static int64_t measure_time;	/* operations are counted from here */
static int64_t end_time;
static bool started = false;
static bool measuring = false;
static bool stopping = false;
static volatile sig_atomic_t interrupted = 0;
static uint64_t rng_state = UINT64_C(0x9E3779B97F4A7C15);

static Timer *timers;
static int	n_timers,
			max_timers;

static Request *queue_head,
		   *queue_tail,
		   *free_requests;
static int	queue_length;
static Conn **idle;				/* stack of idle connections */
static int	n_idle;
static int64_t next_arrival;

/* results */
static uint32_t *samples;		/* latencies of successes, in microseconds */
static size_t n_samples,
			max_samples;
static int64_t n_ok,
			n_late,
			n_failed,
			n_given_up,
			n_started;
static StateCount states[MAX_STATES];
static int	n_states;
static int64_t server_ns_gone;	/* CPU time of backends that are gone */
static struct rusage usage_start;

/* current interval */
static int64_t interval_start,
			interval_ok,
			interval_late,
			interval_failed,
			interval_given_up;
static double interval_latency;

static void conn_start(Conn *c);
static void conn_dispatch(Conn *c, int64_t now);

static void
__attribute__((noreturn, format(printf, 1, 2)))
fatal(const char *fmt,...)
{
	va_list		ap;

	va_start(ap, fmt);
	fputs("load: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void *
allocate(size_t size)
{
	void	   *p = calloc(1, size);

	if (p == NULL)
		fatal("out of memory");
	return p;
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* xorshift64*: enough for arrival times and keys, and the same every run */
static uint64_t
random_bits(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * UINT64_C(2685821657736338717);
}

/* in (0, 1] */
static double
random_fraction(void)
{
	return ((random_bits() >> 11) + 1) * (1.0 / 9007199254740992.0);
}

/* ---------- timers: a binary heap ---------- */

static void
timer_add(int64_t at, Conn *c, Request *r)
{
	int			i;

	if (n_timers == max_timers)
	{
		max_timers = max_timers ? max_timers * 2 : 64;
		timers = realloc(timers, max_timers * sizeof(Timer));
		if (timers == NULL)
			fatal("out of memory");
	}
	i = n_timers++;
	while (i > 0 && timers[(i - 1) / 2].at > at)
	{
		timers[i] = timers[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	timers[i] = (Timer)
	{
		at, c, r
	};
}

static Timer
timer_pop(void)
{
	Timer		top = timers[0];
	Timer		last = timers[--n_timers];
	int			i = 0;

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= n_timers)
			break;
		if (child + 1 < n_timers && timers[child + 1].at < timers[child].at)
			child++;
		if (timers[child].at >= last.at)
			break;
		timers[i] = timers[child];
		i = child;
	}
	if (n_timers > 0)
		timers[i] = last;
	return top;
}

/* ---------- requests of the open loop ---------- */

static void
request_push(Request *r)
{
	r->next = NULL;
	if (queue_tail)
		queue_tail->next = r;
	else
		queue_head = r;
	queue_tail = r;
	queue_length++;
}

static Request *
request_pop(void)
{
	Request    *r = queue_head;

	if (r)
	{
		queue_head = r->next;
		if (queue_head == NULL)
			queue_tail = NULL;
		queue_length--;
	}
	return r;
}

static Request *
request_new(int64_t due)
{
	Request    *r = free_requests;

	if (r)
		free_requests = r->next;
	else
		r = allocate(sizeof(Request));
	r->due = due;
	r->attempts = 0;
	r->next = NULL;
	return r;
}

static void
request_free(Request *r)
{
	r->next = free_requests;
	free_requests = r;
}

static bool
request_expired(const Request *r, int64_t now)
{
	return patience_ms > 0 && now - r->due > patience_ms * NSEC_PER_MS;
}

static double
rate_at(int64_t now)
{
	double		t = (now - start_time) / 1e9;

	for (int i = 0; i < n_rate_phases; i++)
	{
		if (t < rate_phases[i].seconds || i == n_rate_phases - 1)
			return rate_phases[i].rate;
		t -= rate_phases[i].seconds;
	}
	return 0;
}

/* Exponential gaps make a Poisson process. */
static void
schedule_arrival(void)
{
	double		rate = rate_at(next_arrival);

	if (rate <= 0)
		next_arrival += NSEC_PER_SEC / 100;
	else
		next_arrival += (int64_t) (-log(random_fraction()) / rate * 1e9);
}

/* ---------- counting ---------- */

static void
count_success(int64_t now, int64_t due)
{
	bool		late = patience_ms > 0 && now - due > patience_ms * NSEC_PER_MS;

	if (!measuring || now > end_time)
		return;
	if (late)
	{
		n_late++;
		interval_late++;
		return;
	}
	if (n_samples == max_samples)
	{
		max_samples = max_samples ? max_samples * 2 : 1 << 16;
		samples = realloc(samples, max_samples * sizeof(uint32_t));
		if (samples == NULL)
			fatal("out of memory");
	}
	samples[n_samples++] = (uint32_t) ((now - due) / 1000);
	n_ok++;
	interval_ok++;
	interval_latency += (now - due) / 1e6;
}

static void
count_failure(const char *sqlstate, const char *message, int64_t now)
{
	int			i;

	if (!measuring || now > end_time)
		return;
	n_failed++;
	interval_failed++;
	for (i = 0; i < n_states; i++)
		if (strcmp(states[i].sqlstate, sqlstate) == 0)
			break;
	if (i == n_states)
	{
		if (n_states == MAX_STATES)
			return;
		n_states++;
		snprintf(states[i].sqlstate, sizeof(states[i].sqlstate), "%s", sqlstate);
		states[i].message = strdup(message ? message : "");
	}
	states[i].count++;
}

static void
count_given_up(void)
{
	if (!measuring)
		return;
	n_given_up++;
	interval_given_up++;
}

/*
 * CPU time of a backend.  The server runs on this machine, and the kernel
 * tells it to the nanosecond: throughput is noisy on a shared machine, CPU
 * time per statement much less so.
 */
static int64_t
backend_cpu(Conn *c)
{
	FILE	   *f;
	long long	ns = 0;

	if (c->schedstat == NULL || (f = fopen(c->schedstat, "r")) == NULL)
		return 0;
	if (fscanf(f, "%lld", &ns) != 1)
		ns = 0;
	fclose(f);
	return ns;
}

/* ---------- connections ---------- */

static void
watch(Conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events,.data.ptr = c};
	int			fd = PQsocket(c->pg);

	if (fd < 0)
		return;
	if (fd == c->fd && events == c->events)
		return;
	if (epoll_ctl(epoll_fd, fd == c->fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) != 0 &&
		epoll_ctl(epoll_fd, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) != 0)
		fatal("epoll_ctl: %s", strerror(errno));
	c->fd = fd;
	c->events = events;
}

static void
conn_close(Conn *c)
{
	if (c->pg)
	{
		/* the backend is still there: ask before it goes */
		if (measuring && c->schedstat)
			server_ns_gone += backend_cpu(c) - c->server_ns;
		PQfinish(c->pg);		/* closes the socket, which leaves epoll too */
	}
	free(c->schedstat);
	c->schedstat = NULL;
	c->pg = NULL;
	c->fd = -1;
	c->events = 0;
	c->phase = CONN_DOWN;
}

/* "FATAL:  53300: sorry" -> 53300; libpq keeps no SQLSTATE of a failed start. */
static const char *
connect_sqlstate(const char *message)
{
	static char state[6];
	const char *p = message;

	while ((p = strstr(p, ":  ")) != NULL)
	{
		p += 3;
		if (strspn(p, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && p[5] == ':')
		{
			memcpy(state, p, 5);
			state[5] = '\0';
			return state;
		}
	}
	return "08006";
}

static double
retry_delay(int attempts)
{
	double		ms = retry_ms;

	if (backoff)
		ms *= pow(2, attempts > 10 ? 10 : attempts > 1 ? attempts - 1 :
				  0);
	/* spread, so that refused clients do not come back in step */
	return ms * NSEC_PER_MS * (0.5 + random_fraction());
}

static void
make_idle(Conn *c)
{
	c->phase = CONN_IDLE;
	watch(c, EPOLLIN);
	idle[n_idle++] = c;
}

static void
flush_output(Conn *c)
{
	int			rc = PQflush(c->pg);

	watch(c, rc == 1 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Sends the statement.  Returns false when the connection is dead. */
static bool
conn_send(Conn *c)
{
	int			ok;

	c->phase = CONN_BUSY;
	c->failed = false;
	if (param_max > 0)
	{
		char		number[32];
		const char *values[1] = {number};

		snprintf(number, sizeof(number), "%ld", (long) (random_bits() % (uint64_t) param_max) + 1);
		if (prepared)
			ok = PQsendQueryPrepared(c->pg, "load", 1, values, NULL, NULL, 0);
		else
		{
			/* replace the first :x */
			const char *mark = strstr(sql, ":x");
			char		text[8192];

			if (mark)
				snprintf(text, sizeof(text), "%.*s%s%s", (int) (mark - sql), sql, number, mark + 2);
			else
				snprintf(text, sizeof(text), "%s", sql);
			ok = PQsendQuery(c->pg, text);
		}
	}
	else if (prepared)
		ok = PQsendQueryPrepared(c->pg, "load", 0, NULL, NULL, NULL, 0);
	else
		ok = PQsendQuery(c->pg, sql);
	if (ok)
		flush_output(c);
	return ok;
}

/* The connection is lost: its request comes back, and so does the connection. */
static void
conn_lost(Conn *c, const char *sqlstate, const char *message, int64_t now)
{
	bool		was_operation = connect_mode || c->phase == CONN_BUSY;
	int64_t		back = now + (int64_t) retry_delay(c->request ? c->request->attempts : 1);

	if (!started && !connect_mode)
		fatal("connection failed: %s", message);
	if (was_operation)
		count_failure(sqlstate, message, now);
	conn_close(c);
	if (c->request)
	{
		timer_add(back, NULL, c->request);
		c->request = NULL;
	}
	if (!connect_mode && back < now + 10 * NSEC_PER_MS)
		back = now + 10 * NSEC_PER_MS;	/* a server that restarts is not
										 * hammered */
	timer_add(back, c, NULL);
}

/* Next operation for a connection that has nothing to do. */
static void
conn_dispatch(Conn *c, int64_t now)
{
	if (stopping || !started || hold_mode)
	{
		make_idle(c);
		return;
	}
	if (n_rate_phases > 0)
	{
		Request    *r;

		while ((r = request_pop()) != NULL && request_expired(r, now))
		{
			count_given_up();
			request_free(r);
		}
		if (r == NULL)
		{
			make_idle(c);
			return;
		}
		c->request = r;
		c->op_start = r->due;
		r->attempts++;
	}
	else
	{
		if (max_ops > 0 && n_started >= max_ops)
		{
			make_idle(c);
			return;
		}
		c->op_start = now;
	}
	n_started++;
	if (!conn_send(c))
		conn_lost(c, "08006", PQerrorMessage(c->pg), now);
}

static void
conn_start(Conn *c)
{
	c->op_start = now_ns();
	c->pg = PQconnectStart(conninfo);
	c->fd = -1;
	c->events = 0;
	if (c->pg == NULL)
		fatal("out of memory");
	/* a failed start tells its SQLSTATE only in verbose messages */
	PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE);
	c->phase = CONN_CONNECTING;
	if (PQstatus(c->pg) == CONNECTION_BAD)
		conn_lost(c, "08001", PQerrorMessage(c->pg), c->op_start);
	else
		watch(c, EPOLLOUT);
}

static void
conn_ready(Conn *c, int64_t now)
{
	char		path[64];

	if (connect_mode)
	{
		count_success(now, c->op_start);
		conn_close(c);
		n_started++;
		if (!stopping && (max_ops == 0 || n_started < max_ops))
			timer_add(now, c, NULL);
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/schedstat", PQbackendPID(c->pg));
	c->schedstat = strdup(path);
	c->server_ns = measuring ? backend_cpu(c) : 0;
	PQsetnonblocking(c->pg, 1);
	PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
	if (prepared)
	{
		c->phase = CONN_PREPARING;
		c->failed = false;
		if (!PQsendPrepare(c->pg, "load", sql, 0, NULL))
			conn_lost(c, "08006", PQerrorMessage(c->pg), now);
		else
			flush_output(c);
	}
	else
		conn_dispatch(c, now);
}

/* The operation of c is over. */
static void
operation_done(Conn *c, int64_t now)
{
	Request    *r = c->request;

	c->request = NULL;
	if (!c->failed)
	{
		count_success(now, c->op_start);
		if (r)
			request_free(r);
	}
	else if (r)
	{
		int64_t		again = now + (int64_t) retry_delay(r->attempts);

		if (give_up || request_expired(r, again))
		{
			count_given_up();
			request_free(r);
		}
		else
			timer_add(again, NULL, r);
	}

	if (PQtransactionStatus(c->pg) == PQTRANS_INERROR)
	{
		c->phase = CONN_CLEANING;
		if (!PQsendQuery(c->pg, "ROLLBACK"))
			conn_lost(c, "08006", PQerrorMessage(c->pg), now);
		else
			flush_output(c);
		return;
	}
	if (c->failed && n_rate_phases == 0 && retry_ms > 0)
	{
		c->phase = CONN_SLEEPING;
		timer_add(now + (int64_t) retry_delay(1), c, NULL);
		return;
	}
	conn_dispatch(c, now);
}

static void
conn_read(Conn *c, uint32_t events, int64_t now)
{
	if (c->phase == CONN_CONNECTING)
	{
		switch (PQconnectPoll(c->pg))
		{
			case PGRES_POLLING_OK:
				conn_ready(c, now);
				break;
			case PGRES_POLLING_READING:
				watch(c, EPOLLIN);
				break;
			case PGRES_POLLING_WRITING:
				watch(c, EPOLLOUT);
				break;
			default:
				if (connect_mode)
					n_started++;
				conn_lost(c, connect_sqlstate(PQerrorMessage(c->pg)), PQerrorMessage(c->pg), now);
		}
		return;
	}

	if (events & EPOLLOUT)
		flush_output(c);
	if (!PQconsumeInput(c->pg))
	{
		conn_lost(c, c->failed ? c->sqlstate : "08006", PQerrorMessage(c->pg), now);
		return;
	}
	while (!PQisBusy(c->pg))
	{
		PGresult   *res = PQgetResult(c->pg);

		if (res == NULL)
		{
			if (PQstatus(c->pg) == CONNECTION_BAD)
				conn_lost(c, c->failed ? c->sqlstate : "08006", PQerrorMessage(c->pg), now);
			else if (c->phase == CONN_BUSY)
				operation_done(c, now);
			else if (c->phase == CONN_PREPARING || c->phase == CONN_CLEANING)
				conn_dispatch(c, now);
			return;
		}
		if (PQresultStatus(res) == PGRES_FATAL_ERROR)
		{
			const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

			if (c->phase == CONN_PREPARING)
				fatal("cannot prepare: %s", PQresultErrorMessage(res));
			if (state == NULL)
				state = "08006";
			if (!c->failed)
			{
				snprintf(c->sqlstate, sizeof(c->sqlstate), "%s", state);
				c->failed = true;

				/* a lost connection is counted by conn_lost */
				if (PQstatus(c->pg) != CONNECTION_BAD && c->phase == CONN_BUSY)
					count_failure(state, PQresultErrorMessage(res), now);
			}
		}
		PQclear(res);
	}
}

/* ---------- the loop ---------- */

static void
begin_operations(int64_t now)
{
	started = true;
	start_time = now;
	measure_time = now + (int64_t) (warmup * 1e9);
	end_time = measure_time + (int64_t) (duration * 1e9);
	next_arrival = now;
	if (n_rate_phases > 0)
		schedule_arrival();
	else if (!hold_mode)
	{
		int			n = n_idle;

		/* dispatch pushes back what has nothing to do */
		Conn	  **all = allocate(sizeof(Conn *) * n_conns);

		memcpy(all, idle, sizeof(Conn *) * n);
		n_idle = 0;
		for (int i = 0; i < n; i++)
			conn_dispatch(all[i], now);
		free(all);
	}
	if (hold_mode)
	{
		printf("ready\n");
		fflush(stdout);
	}
}

static void
begin_measuring(int64_t now)
{
	measuring = true;
	measure_time = now;
	end_time = now + (int64_t) (duration * 1e9);
	interval_start = now;
	getrusage(RUSAGE_SELF, &usage_start);
	for (int i = 0; i < n_conns; i++)
		conns[i].server_ns = backend_cpu(&conns[i]);
}

static void
print_interval(int64_t now)
{
	printf("t=%.2f ok=%lld late=%lld refused=%lld gave_up=%lld avg_ms=%.2f queue=%d\n",
		   (interval_start - measure_time) / 1e9,
		   (long long) interval_ok, (long long) interval_late, (long long) interval_failed,
		   (long long) interval_given_up,
		   interval_ok ? interval_latency / interval_ok : 0.0, queue_length);
	fflush(stdout);
	interval_start += (int64_t) (interval_ms * NSEC_PER_MS);
	if (interval_start < now - (int64_t) (interval_ms * NSEC_PER_MS))
		interval_start = now;
	interval_ok = interval_late = interval_failed = interval_given_up = 0;
	interval_latency = 0;
}

static int
compare_samples(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

static double
percentile(double p)
{
	size_t		i;

	if (n_samples == 0)
		return 0;
	i = (size_t) ceil(p * n_samples);
	return samples[i > 0 ? i - 1 : 0] / 1000.0;
}

static double
seconds_of(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static void
report(int64_t now)
{
	struct rusage u;
	double		elapsed = ((now < end_time ? now : end_time) - measure_time) / 1e9;
	int64_t		server_ns = server_ns_gone;
	int64_t		all = n_ok + n_late + n_failed;

	getrusage(RUSAGE_SELF, &u);
	for (int i = 0; i < n_conns; i++)
		if (conns[i].pg && conns[i].schedstat)
			server_ns += backend_cpu(&conns[i]) - conns[i].server_ns;
	if (n_samples > 0)
		qsort(samples, n_samples, sizeof(uint32_t), compare_samples);
	printf("ok=%lld tps=%.1f late=%lld failed=%lld failed_per_s=%.1f gave_up=%lld"
		   " p50_ms=%.3f p95_ms=%.3f p99_ms=%.3f max_ms=%.3f seconds=%.3f client_cpu_s=%.3f",
		   (long long) n_ok, n_ok / elapsed, (long long) n_late,
		   (long long) n_failed, n_failed / elapsed, (long long) n_given_up,
		   percentile(0.50), percentile(0.95), percentile(0.99), percentile(1.0), elapsed,
		   seconds_of(u.ru_utime) + seconds_of(u.ru_stime) -
		   seconds_of(usage_start.ru_utime) - seconds_of(usage_start.ru_stime));
	if (!connect_mode)
		printf(" server_cpu_s=%.3f server_us_per_op=%.3f", server_ns / 1e9,
			   all ? server_ns / 1e3 / all : 0.0);
	for (int i = 0; i < n_states; i++)
		printf(" failed_%s=%lld", states[i].sqlstate, (long long) states[i].count);
	putchar('\n');
	if (verbose)
		for (int i = 0; i < n_states; i++)
			fprintf(stderr, "%s", states[i].message);
}

static bool
all_done(void)
{
	for (int i = 0; i < n_conns; i++)
		if (conns[i].phase == CONN_BUSY || conns[i].phase == CONN_CONNECTING ||
			conns[i].phase == CONN_CLEANING || conns[i].phase == CONN_PREPARING)
			return false;
	return true;
}

static void
run(void)
{
	struct epoll_event events[256];
	int64_t		now = now_ns();
	int64_t		begun = now;

	if (connect_mode)
		begin_operations(now);
	for (int i = 0; i < n_conns; i++)
		conn_start(&conns[i]);

	for (;;)
	{
		int64_t		wake = now + NSEC_PER_SEC / 10;
		int			n;

		if (interrupted)
			break;
		if (!started)
		{
			if (n_idle == n_conns)
				begin_operations(now);
			else if (now - begun > CONNECT_PATIENCE)
				fatal("only %d of %d connections came up", n_idle, n_conns);
		}
		if (started && !measuring && now >= measure_time)
			begin_measuring(now);
		if (measuring && !stopping)
		{
			while (interval_ms > 0 && now >= interval_start + (int64_t) (interval_ms * NSEC_PER_MS))
				print_interval(now);
			if (now >= end_time)
				stopping = true;
			else if (max_ops > 0 && n_started >= max_ops && n_rate_phases == 0 && all_done())
				break;
		}
		if (stopping)
			break;				/* what is under way is not counted: leave it */

		/* arrivals that are due */
		if (started && n_rate_phases > 0)
		{
			while (next_arrival <= now)
			{
				request_push(request_new(next_arrival));
				schedule_arrival();
			}
			while (n_idle > 0 && queue_head != NULL)
				conn_dispatch(idle[--n_idle], now);
			if (next_arrival < wake)
				wake = next_arrival;
		}
		while (n_timers > 0 && timers[0].at <= now)
		{
			Timer		t = timer_pop();

			if (t.request)
				request_push(t.request);
			else if (t.conn->phase == CONN_DOWN)
				conn_start(t.conn);
			else if (t.conn->phase == CONN_SLEEPING)
				conn_dispatch(t.conn, now);
		}
		if (n_rate_phases > 0)
			while (n_idle > 0 && queue_head != NULL)
				conn_dispatch(idle[--n_idle], now);
		if (n_timers > 0 && timers[0].at < wake)
			wake = timers[0].at;
		if (started && !measuring && measure_time < wake)
			wake = measure_time;
		if (measuring && end_time < wake)
			wake = end_time;
		if (measuring && interval_ms > 0 &&
			interval_start + (int64_t) (interval_ms * NSEC_PER_MS) < wake)
			wake = interval_start + (int64_t) (interval_ms * NSEC_PER_MS);

		/* to the microsecond: epoll_wait would round a millisecond up */
		{
			struct timespec ts = {0};
			int64_t		left = wake - now_ns();

			if (left > 0)
			{
				ts.tv_sec = left / NSEC_PER_SEC;
				ts.tv_nsec = left % NSEC_PER_SEC;
			}
			n = epoll_pwait2(epoll_fd, events, 256, &ts, NULL);
		}
		now = now_ns();
		if (n < 0 && errno != EINTR)
			fatal("epoll_pwait2: %s", strerror(errno));
		for (int i = 0; i < n; i++)
		{
			Conn	   *c = events[i].data.ptr;

			if (c->phase == CONN_IDLE)
			{
				/* only bad news reaches an idle connection */
				if (!PQconsumeInput(c->pg))
				{
					for (int k = 0; k < n_idle; k++)
						if (idle[k] == c)
							idle[k--] = idle[--n_idle];
					conn_lost(c, "08006", PQerrorMessage(c->pg), now);
				}
			}
			else if (c->phase != CONN_DOWN)
				conn_read(c, events[i].events, now_ns());
		}
		now = now_ns();
	}
	if (!measuring && !hold_mode && !interrupted)
		fatal("nothing was measured");
	if (!hold_mode && measuring)
		report(now);
}

static void
on_signal(int sig)
{
	(void) sig;
	interrupted = 1;
}

/* RATE or RATE:SECONDS,RATE:SECONDS,... ; the last one goes on for ever */
static void
parse_rates(char *text)
{
	char	   *save;

	for (char *part = strtok_r(text, ",", &save); part; part = strtok_r(NULL, ",", &save))
	{
		RatePhase	phase = {0, 1e9};

		if (n_rate_phases == MAX_PHASES || sscanf(part, "%lf:%lf", &phase.rate, &phase.seconds) < 1)
			fatal("bad rate \"%s\"", part);
		rate_phases[n_rate_phases++] = phase;
	}
}

static void
usage(void)
{
	puts("load: many PostgreSQL clients in one thread\n"
		 "  -d CONNINFO  connection string (PGHOST, PGPORT ... work too)\n"
		 "  -n N         connections (1)\n"
		 "  -T SECONDS   how long to measure (5)\n"
		 "  -w SECONDS   warm-up that is not counted (0)\n"
		 "  -N COUNT     stop after so many operations\n"
		 "  -q SQL       the statement; with -x, :x (or $1 when prepared) is a random number\n"
		 "  -x MAX       the largest random number\n"
		 "  -M MODE      simple (default) or prepared\n"
		 "  -R RATE      open loop: Poisson arrivals per second; RATE:SECONDS,... for a schedule\n"
		 "  -r MS        wait about so long before a refused statement is tried again (0)\n"
		 "  -b           open loop: wait twice as long before each further attempt\n"
		 "  -g           open loop: give up after the first refusal instead\n"
		 "  -p MS        patience: a request older than this is given up, a later answer is late\n"
		 "  -i MS        print a line for each interval\n"
		 "  -C           an operation is a connection: connect, disconnect\n"
		 "  -H           connect, print \"ready\", do nothing for the time given\n"
		 "  -v           print the first message of each SQLSTATE\n"
		 "  -s SEED      of the random numbers");
}

int
main(int argc, char **argv)
{
	int			opt;
	struct rlimit files;

	while ((opt = getopt(argc, argv, "d:n:T:w:N:q:x:M:R:r:bgp:i:CHvs:h")) != -1)
	{
		switch (opt)
		{
			case 'd':
				conninfo = optarg;
				break;
			case 'n':
				n_conns = atoi(optarg);
				break;
			case 'T':
				duration = atof(optarg);
				break;
			case 'w':
				warmup = atof(optarg);
				break;
			case 'N':
				max_ops = atoll(optarg);
				break;
			case 'q':
				sql = optarg;
				break;
			case 'x':
				param_max = atol(optarg);
				break;
			case 'M':
				prepared = strcmp(optarg, "prepared") == 0;
				break;
			case 'R':
				parse_rates(optarg);
				break;
			case 'r':
				retry_ms = atof(optarg);
				break;
			case 'b':
				backoff = true;
				break;
			case 'g':
				give_up = true;
				break;
			case 'p':
				patience_ms = atof(optarg);
				break;
			case 'i':
				interval_ms = atof(optarg);
				break;
			case 'C':
				connect_mode = true;
				break;
			case 'H':
				hold_mode = true;
				break;
			case 'v':
				verbose = true;
				break;
			case 's':
				rng_state ^= (uint64_t) atoll(optarg) * UINT64_C(0xD1342543DE82EF95);
				break;
			case 'h':
				usage();
				return 0;
			default:
				usage();
				return 2;
		}
	}
	if (n_conns < 1 || duration <= 0 || strlen(sql) > 8000)
		fatal("bad arguments");

	/* one descriptor for each connection */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max)
	{
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN);

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fatal("epoll_create1: %s", strerror(errno));
	conns = allocate(sizeof(Conn) * n_conns);
	idle = allocate(sizeof(Conn *) * n_conns);
	for (int i = 0; i < n_conns; i++)
		conns[i].fd = -1;

	run();

	/*
	 * Statements under way are cancelled, so that a server that is being
	 * measured is quiet when the next round begins.
	 */
	for (int i = 0; i < n_conns; i++)
	{
		if (conns[i].pg && conns[i].phase == CONN_BUSY)
		{
			PGcancel   *cancel = PQgetCancel(conns[i].pg);
			char		message[256];

			if (cancel && !PQcancel(cancel, message, sizeof(message)) && verbose)
				fprintf(stderr, "%s\n", message);
			if (cancel)
				PQfreeCancel(cancel);
		}
	}
	for (int i = 0; i < n_conns; i++)
		conn_close(&conns[i]);
	return 0;
}
