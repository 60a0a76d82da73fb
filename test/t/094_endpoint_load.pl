# The health endpoint answers when the server is full, and bears what anybody
# may send: slow, long, broken and many requests.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use HttpTest;
use IO::Select;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

plan skip_all => 'built without libmicrohttpd' unless have_endpoint();

my $port = free_port();
my $at = "127.0.0.1:$port";
my $node = preloaded_node('busy', conf => "resilience.http_listen = '$at'\nmax_connections = 20\nsuperuser_reserved_connections = 1\n");
limit_seconds(300);
my $mon = monitor($node);
$mon->ok(q{SELECT resilience.create_bulkhead('b' || g, max_running => 5) FROM generate_series(1, 50) g});
my $load = build_libpq_client('http_load');
wait_status($at, '/health', 200);
my $pid = endpoint_pid($node);

sub fds
{
	opendir(my $folder, "/proc/$pid/fd") or return -1;
	return scalar grep { !/^\./ } readdir $folder;
}

sub memory_kb { return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : 0 }

# Run the load; its numbers
sub run_load
{
	my @command = ($load, $port, @_);
	my ($out, $err) = ('', '');

	IPC::Run::run(\@command, \undef, \$out, \$err);
	note("@_: $out $err");
	return { $out =~ /(\w+)=([\d.]+)/g };
}

# All connections are taken by sessions that do nothing
my @sessions;
while (1)
{
	my $client = ResilienceTest::Client->new($node, user => 'app', later => 1);
	last if $client->started;
	push @sessions, $client;
}
is(connect_refused($node, user => 'app')->{C}, '53300', 'the server is full');
my $before = fds();
my $memory = memory_kb();
for my $case ([ '/health', 'keep' ], [ '/ready', 'close' ], [ '/metrics', 'keep' ])
{
	my ($path, $how) = @$case;
	my $numbers = run_load($path, 4, 1000, 8, $how);

	is("$numbers->{requests} $numbers->{failed}", '4000 0', "4 s of 1 000 requests a second for $path ($how): all answered");
	cmp_ok($numbers->{rate}, '>', 700, 'as fast as they came');

	# a machine that others use stands still now and then
	cmp_ok($numbers->{p99_ms}, '<', 250, "p99 is $numbers->{p99_ms} ms");
}
wait_until('connections are closed', sub { fds() <= $before + 1 });
pass('no file descriptor is left');
cmp_ok(memory_kb() - $memory, '<', 8192, 'no memory either');
is(endpoint_pid($node), $pid, 'by one process');
$_->close for @sessions;

# What no browser sends
my %hostile = (
	'garbage' => ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . ("\xff" x 300) . "\r\n\r\n"],
	'zeroes' => ["\0" x 2000],
	'no end of the line' => ['GET /' . ('a' x 100_000)],
	'a header of 1 MB' => ["GET /health HTTP/1.1\r\nHost: test\r\nX: " . ('a' x 1_000_000) . "\r\n\r\n"],
	'10 000 headers' => ["GET /health HTTP/1.1\r\nHost: test\r\n" . ("X: y\r\n" x 10_000) . "\r\n"],
	'a long path' => ['GET /' . ('a' x 9000) . " HTTP/1.1\r\nHost: test\r\n\r\n"],
	'many arguments' => ['GET /replica?' . ('lag=1s&' x 1300) . " HTTP/1.1\r\nHost: test\r\n\r\n"],
	'an unknown version' => ["GET /health HTTP/9.9\r\nHost: test\r\n\r\n"],
	'no method' => [" /health HTTP/1.1\r\nHost: test\r\n\r\n"],
	'a negative length' => ["GET /health HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n"],
	'two lengths' => ["GET /health HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello"],
	'a broken chunk' => ["GET /health HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"],
	'a gigabyte announced' => ["POST /health HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n", 'x' x 100_000],
	'format characters' => ["GET /%25s%25n?lag=%25n HTTP/1.1\r\nHost: %s%n\r\n\r\n"]);
for my $name (sort keys %hostile)
{
	my $socket = http_socket($at);

	send_bytes($socket, $_) or last for @{ $hostile{$name} };
	my $answer = read_answer($socket, seconds => 3);
	my $status = $answer ? $answer->{status} : 'none';

	like($status, qr/^(none|[45]\d\d)$/, "$name: $status");
	close $socket;
	is(get($at, '/health')->{status}, 200, 'the next request is answered');
}

# Half of a request, a few bytes at a time: ended after 10 s, however slowly
my $slow = http_socket($at);
my $silent = http_socket($at);
my $began = time();
my $sent = "GET /health HTTP/1.1\r\nX: ";
send_bytes($slow, $sent);
while (time() < $began + 20)
{
	last if IO::Select->new($slow)->can_read(0.5);
	send_bytes($slow, 'a') or last;
}
my $lasted = time() - $began;
ok($lasted > 8 && $lasted < 15, sprintf('a slow request was ended after %.1f s', $lasted));
IO::Select->new($silent)->can_read(5);
ok(!sysread($silent, my $nothing, 1), 'and so was a connection on which nothing came');
is(get($at, '/health')->{status}, 200, 'normal requests are answered');

# Who asks, and does not read: the page is long enough to fill nothing, so ask
# for it very often
my $greedy = http_socket($at);
$greedy->blocking(0);
for (1 .. 500)
{
	last unless defined syswrite($greedy, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n" x 20);
}
is(get($at, '/health')->{status}, 200, 'somebody does not read his answers: others get theirs');
close $greedy;

# More connections than are served: some are, the others wait in the kernel;
# those that say nothing make place, so that normal requests go on
my @many;
my $made = 0;
my $worst = 0;
$before = fds();
my $most = 0;
for my $round (1 .. 25)
{
	# some at a time: this test must not run out of file descriptors itself
	for (1 .. 400)
	{
		my $socket = IO::Socket::INET->new(Proto => 'tcp') or last;

		$socket->blocking(0);
		connect($socket, Socket::pack_sockaddr_in($port, Socket::inet_aton('127.0.0.1')));
		push @many, $socket;
		$made++;
		$most = fds() if $made % 50 == 0 && fds() > $most;
	}
	close $_ for splice(@many, 0, @many > 400 ? @many - 400 : 0);
}
cmp_ok($made, '==', 10_000, '10 000 connections were made');
cmp_ok($most, '<=', $before + 66, "the process had $most file descriptors at most");
wait_until(
	'a normal request is answered',
	sub {
		my $start = time();
		my $status = get($at, '/health')->{status};

		$worst = time() - $start;
		return $status == 200;
	});
pass(sprintf('while 400 of them are still there, a normal request takes %.1f s', $worst));
close $_ for @many;
wait_until('they are gone', sub { fds() <= 30 && get($at, '/health')->{status} == 200 });
my $numbers = run_load('/health', 2, 500, 4, 'close');
is("$numbers->{requests} $numbers->{failed}", '1000 0', 'afterwards all is as before');
is(endpoint_pid($node), $pid, 'the same process');
cmp_ok(memory_kb() - $memory, '<', 16384, 'and no larger');
my $metrics = get($at, '/metrics')->{body};
like($metrics, qr/^resilience_endpoint_cut_off_total [1-9]/m, 'connections that were cut off are counted');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|FATAL:  (?!sorry|remaining)/, 'nothing fell');
unlike(slurp_file($node->logfile), qr/ERROR:/, 'no error in the log');

$node->stop;
done_testing();
