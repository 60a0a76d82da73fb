/*
 * http_load PORT PATH SECONDS RATE THREADS keep|close
 *
 * Asks 127.0.0.1 for a path, so many times a second in all, by so many
 * connections; "close" takes a new one for each request.  A latency counts from
 * when the request was due, so that a server that stands still is not spared.
 * Prints "requests=N failed=N rate=N p50_ms=N p99_ms=N max_ms=N"; only answers
 * with the status 200 do not count as failed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int	port;
static const char *path;
static double seconds;
static double rate;
static int	nthreads;
static bool keep;

typedef struct
{
	int			number;
	long		requests;
	long		failed;
	double	   *latencies;
} worker;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int
open_connection(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct timeval limit = {10, 0};
	int			on = 1;
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	to.sin_port = htons(port);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *) &to, sizeof(to)) < 0)
	{
		close(fd);
		return -1;
	}
	return fd;
}

/* One request and its whole answer. */
static bool
ask(int fd)
{
	char		buffer[65536];
	char		request[512];
	int			length = snprintf(request, sizeof(request),
								  "GET %s HTTP/1.1\r\nHost: test\r\nConnection: %s\r\n\r\n",
								  path, keep ? "keep-alive" : "close");
	size_t		got = 0;
	char	   *body = NULL;
	long		expected = 0;

	if (send(fd, request, length, MSG_NOSIGNAL) != length)
		return false;
	while (body == NULL || got < (size_t) (body - buffer) + expected)
	{
		ssize_t		n = recv(fd, buffer + got, sizeof(buffer) - 1 - got, 0);

		if (n <= 0)
			return false;
		got += n;
		buffer[got] = '\0';
		if (body == NULL && (body = strstr(buffer, "\r\n\r\n")) != NULL)
		{
			char	   *header = strstr(buffer, "Content-Length: ");

			if (header == NULL)
				return false;
			expected = atol(header + 16);
			body += 4;
		}
	}
	return strncmp(buffer, "HTTP/1.1 200 ", 13) == 0;
}

static void *
run(void *arg)
{
	worker	   *w = arg;
	double		interval = nthreads / rate;
	double		start = now() + interval * w->number / nthreads;
	int			fd = -1;

	for (long i = 0; i < (long) (seconds / interval); i++)
	{
		double		due = start + i * interval;
		double		left = due - now();
		bool		ok;

		if (left > 0)
			usleep((useconds_t) (left * 1e6));
		if (fd < 0)
			fd = open_connection();
		ok = fd >= 0 && ask(fd);
		if (!ok)
			w->failed++;
		if (fd >= 0 && (!keep || !ok))
		{
			close(fd);
			fd = -1;
		}
		w->latencies[w->requests++] = now() - due;
	}
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	worker		workers[64] = {0};
	pthread_t	threads[64];
	double	   *all;
	long		n = 0;
	long		failed = 0;
	double		start;

	if (argc != 7)
		return 2;
	port = atoi(argv[1]);
	path = argv[2];
	seconds = atof(argv[3]);
	rate = atof(argv[4]);
	nthreads = atoi(argv[5]);
	keep = strcmp(argv[6], "keep") == 0;
	if (nthreads < 1 || nthreads > 64)
		return 2;

	start = now();
	for (int i = 0; i < nthreads; i++)
	{
		workers[i].number = i;
		workers[i].latencies = calloc((size_t) (seconds * rate / nthreads) + 2, sizeof(double));
		pthread_create(&threads[i], NULL, run, &workers[i]);
	}
	all = calloc((size_t) (seconds * rate) + 2 * nthreads, sizeof(double));
	for (int i = 0; i < nthreads; i++)
	{
		pthread_join(threads[i], NULL);
		memcpy(all + n, workers[i].latencies, workers[i].requests * sizeof(double));
		n += workers[i].requests;
		failed += workers[i].failed;
	}
	qsort(all, n, sizeof(double), compare);
	printf("requests=%ld failed=%ld rate=%.0f p50_ms=%.2f p99_ms=%.2f max_ms=%.2f\n",
		   n, failed, n / (now() - start), all[n / 2] * 1e3,
		   all[(long) (n * 0.99)] * 1e3, all[n - 1] * 1e3);
	return 0;
}
