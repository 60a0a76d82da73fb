/*-------------------------------------------------------------------------
 *
 * test_http_route.c
 *		Unit tests of core/http_route: which page a request asks for.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/http_route.h"

static void
refusals(void)
{
	static const struct
	{
		rsl_http_head head;
		int			status;		/* 0 = served */
	}			cases[] =
	{
		{{"GET", NULL, NULL}, 0},
		{{"HEAD", NULL, NULL}, 0},
		{{"GET", "0", NULL}, 0},
		{{"GET", "5", NULL}, 400},
		{{"GET", "00", NULL}, 400},
		{{"GET", "", NULL}, 400},
		{{"HEAD", "-1", NULL}, 400},
		{{"GET", NULL, "chunked"}, 400},
		{{"GET", "0", ""}, 400},
		{{"POST", NULL, NULL}, 405},
		{{"POST", "5", NULL}, 405},
		{{"get", NULL, NULL}, 405},
		{{"GETS", NULL, NULL}, 405},
		{{"HEADS", NULL, NULL}, 405},
		{{"HE", NULL, NULL}, 405},
		{{"OPTIONS", NULL, NULL}, 405},
		{{"", NULL, NULL}, 405},
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		const rsl_http_head *head = &cases[i].head;
		int			status = 0;
		const char *why = rsl_http_refusal(head, &status);

		ok((why == NULL) == (cases[i].status == 0) && status == cases[i].status,
		   "%s, length %s, encoding %s: %d", head->method,
		   head->content_length ? head->content_length : "none",
		   head->transfer_encoding ? head->transfer_encoding : "none", cases[i].status);
	}
}

static void
paths(void)
{
	static const char *const missing[] = {
		"", "/Live", "/live/", "//live", "live", "/liv", "/livez", "/health.json",
		"/../live", "/live ", "/replica?lag=1s", "/primary", "*"
	};
	static const struct
	{
		const char *path;
		rsl_http_page page;
	}			there[] =
	{
		{"/", RSL_PAGE_HOME},
		{"/health", RSL_PAGE_HEALTH},
		{"/ready", RSL_PAGE_READY},
		{"/replica", RSL_PAGE_REPLICA},
		{"/live", RSL_PAGE_LIVE},
		{"/metrics", RSL_PAGE_METRICS},
		{"/status", RSL_PAGE_STATUS},
	};
	rsl_http_argument none = {0};
	rsl_http_argument bad = {true, "x", 1};
	rsl_http_route route;

	is(sizeof(there) / sizeof(there[0]), RSL_NUM_PAGES, "all pages are looked at");
	for (int i = 0; i < RSL_NUM_PAGES; i++)
	{
		rsl_http_find_page(there[i].path, &none, &route);
		ok(route.status == 200 && route.page == there[i].page && !route.has_lag,
		   "\"%s\" is there", there[i].path);
		rsl_http_find_page(there[i].path, &bad, &route);
		is(route.status, there[i].page == RSL_PAGE_REPLICA ? 400 : 200,
		   "... and with an argument that makes no sense");
	}
	for (int i = 0; i < (int) (sizeof(missing) / sizeof(missing[0])); i++)
	{
		rsl_http_find_page(missing[i], &none, &route);
		is(route.status, 404, "there is nothing else");
	}
}

static void
arguments(void)
{
	rsl_http_route route;
	rsl_http_argument lag = {true, "16MB", 4};

	rsl_http_find_page("/replica", &lag, &route);
	ok(route.status == 200 && route.has_lag && !route.lag.is_time &&
	   route.lag.bytes == 16 << 20, "a lag in bytes");
	lag = (rsl_http_argument)
	{
		true, "10s", 3
	};
	rsl_http_find_page("/replica", &lag, &route);
	ok(route.status == 200 && route.has_lag && route.lag.is_time &&
	   route.lag.us == 10000000, "a lag in time");

	/* "lag=10s%00", "lag=", "lag" */
	lag = (rsl_http_argument)
	{
		true, "10s", 4
	};
	rsl_http_find_page("/replica", &lag, &route);
	is(route.status, 400, "a lag with a zero in it");
	lag = (rsl_http_argument)
	{
		true, "", 0
	};
	rsl_http_find_page("/replica", &lag, &route);
	is(route.status, 400, "an empty lag");
	lag = (rsl_http_argument)
	{
		true, NULL, 0
	};
	rsl_http_find_page("/replica", &lag, &route);
	is(route.status, 400, "a lag without a value");
	ok(!route.has_lag, "what is bad is no limit");
}

static void
peers(void)
{
	static const struct
	{
		rsl_http_peer peer;
		bool		local;
		const char *what;
	}			cases[] =
	{
		{{true, false, false, NULL}, true, "no Host"},
		{{true, false, false, "localhost:8009"}, true, "Host: localhost"},
		{{true, false, false, "127.0.0.1"}, true, "Host: 127.0.0.1"},
		{{true, false, false, "db.example"}, false, "a name that resolves to here"},
		{{true, false, false, ""}, false, "an empty Host"},
		{{true, true, false, "db.example"}, true, "any name, by a unix socket"},
		{{true, false, true, "localhost"}, false, "a proxy"},
		{{true, true, true, NULL}, false, "a proxy, by a unix socket"},
		{{false, false, false, "localhost"}, false, "another machine"},
		{{false, true, false, NULL}, false, "nobody knows where"},
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
		ok(rsl_http_asks_locally(&cases[i].peer) == cases[i].local, "%s: %s",
		   cases[i].what, cases[i].local ? "from here" : "from elsewhere");
}

int
main(void)
{
	refusals();
	paths();
	arguments();
	peers();
	return done_testing();
}
