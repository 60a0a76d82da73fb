/*-------------------------------------------------------------------------
 *
 * test_listen_address.c
 *		Unit tests of core/listen_address: what the setting may say.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "core/listen_address.h"

static void
test_good(void)
{
	static const struct
	{
		const char *text;
		rsl_listen_kind kind;
		int			family;
		int			port;
		bool		local;
	}			cases[] =
	{
		{"127.0.0.1:8009", RSL_LISTEN_TCP, AF_INET, 8009, true},
		{"127.1.2.3:1", RSL_LISTEN_TCP, AF_INET, 1, true},
		{"10.0.0.7:65535", RSL_LISTEN_TCP, AF_INET, 65535, false},
		{"0.0.0.0:80", RSL_LISTEN_TCP, AF_INET, 80, false},
		{"[::1]:8009", RSL_LISTEN_TCP, AF_INET6, 8009, true},
		{"[::]:8009", RSL_LISTEN_TCP, AF_INET6, 8009, false},
		{"[::ffff:127.0.0.1]:8009", RSL_LISTEN_TCP, AF_INET6, 8009, true},
		{"[2001:db8::1]:8009", RSL_LISTEN_TCP, AF_INET6, 8009, false},
		{"*:8009", RSL_LISTEN_ALL, AF_UNSPEC, 8009, false},
		{"/run/health", RSL_LISTEN_UNIX, AF_UNIX, 0, true},
		{"", RSL_LISTEN_NOWHERE, AF_UNSPEC, 0, false},
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		rsl_listen_address address;
		const char *wrong = rsl_parse_listen_address(cases[i].text, &address);

		ok(wrong == NULL && address.kind == cases[i].kind &&
		   address.socket.any.sa_family == cases[i].family &&
		   address.port == cases[i].port &&
		   rsl_listen_is_local(&address) == cases[i].local,
		   "\"%s\"", cases[i].text);
	}
}

static void
test_bad(void)
{
	static const char *const cases[] = {
		"8009", ":8009", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0",
		"127.0.0.1:65536", "127.0.0.1:99999999999999999999", "127.0.0.1:80x",
		"127.0.0.1:-1", "127.0.0.1: 80", "localhost:8009", "pg.example:8009",
		"::1:8009", "[::1]", "[::1:8009", "[]:8009", "[127.0.0.1]:8009",
		"256.0.0.1:8009", "*", "**:80", "relative/path", "/", "/run/dir/",
		" 127.0.0.1:80", "http://127.0.0.1:80",
		"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890:80",
		"/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
	};

	for (int i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		rsl_listen_address address;

		ok(rsl_parse_listen_address(cases[i], &address) != NULL,
		   "refused: \"%.40s\"", cases[i]);
	}
}

static void
test_loopback(void)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_in in = {.sin_family = AF_INET};

	inet_pton(AF_INET6, "::ffff:10.0.0.1", &in6.sin6_addr);
	ok(!rsl_is_loopback((struct sockaddr *) &in6), "a mapped address of another machine");
	inet_pton(AF_INET, "126.255.255.255", &in.sin_addr);
	ok(!rsl_is_loopback((struct sockaddr *) &in), "just below the loopback range");
	inet_pton(AF_INET, "127.255.255.255", &in.sin_addr);
	ok(rsl_is_loopback((struct sockaddr *) &in), "its last address");
}

static void
test_host(void)
{
	static const char *const ours[] = {
		"localhost", "LocalHost:8009", "127.0.0.1", "127.0.0.1:8009", "127.1.2.3",
		"[::1]", "[::1]:8009", "[::ffff:127.0.0.1]:1"
	};
	static const char *const others[] = {
		"", ":", ":80", "*", "*:80", "/tmp/x", "localhost.example", "localhostx",
		"localhost:", "localhost:x", "localhost:0", "evil.example:8009", "127.0.0.1.example",
		"10.0.0.1", "0.0.0.0:8009", "[::]", "[fe80::1]:80", "127.0.0.1:99999", "::1",
		"127.0.0.1:80:80", "[::1]x", "user@127.0.0.1", "[::1%1]", "[::1%lo]:80",
		"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
	};

	for (int i = 0; i < (int) (sizeof(ours) / sizeof(ours[0])); i++)
		ok(rsl_host_is_loopback(ours[i]), "loopback: \"%s\"", ours[i]);
	for (int i = 0; i < (int) (sizeof(others) / sizeof(others[0])); i++)
		ok(!rsl_host_is_loopback(others[i]), "not loopback: \"%.40s\"", others[i]);
}

int
main(void)
{
	test_good();
	test_bad();
	test_loopback();
	test_host();
	return done_testing();
}
