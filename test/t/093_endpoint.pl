# The health endpoint: what it answers at each path, to whom and where it
# listens, what a reload does, and how it comes back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use HttpTest;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

plan skip_all => 'built without libmicrohttpd' unless have_endpoint();

my $port = free_port();
my $at = "127.0.0.1:$port";
# an encoding that has the names below, whatever the locale
my $node = preloaded_node('endpoint', conf => "resilience.http_listen = '$at'\n",
	init => [ extra => [ '--encoding=UTF8', '--locale=C' ] ]);
my $mon = monitor($node);

# Where it listens is reloaded by hand: the server that is to follow the setting
# is asked by HTTP, not by SQL.
sub listen_at
{
	my ($address) = @_;

	$mon->ok("ALTER SYSTEM SET resilience.http_listen = '$address'");
	$mon->ok('SELECT pg_reload_conf()');
	return;
}

# What is there
my $answer = wait_status($at, '/health', 200);
is($answer->{headers}{'content-type'}, 'application/json; charset=utf-8', '/health is JSON');
is($answer->{headers}{'cache-control'}, 'no-store', 'which nobody keeps');
my $health = json_of($answer);
is("$health->{status} $health->{role}", 'healthy primary', 'a healthy primary');
like($health->{since}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'since when');
is_deeply([sort keys %{ $health->{components}[0] }], [qw(critical database kind message name since status)],
	'what is told of a component');
is(component_of($at, 'worker', 'launcher')->{critical}, JSON::PP::true, 'the launcher is critical');
like(component_of($at, 'worker', 'endpoint')->{message}, qr/^listens at \Q$at\E$/, 'the endpoint is a component');

is(json_of(get($at, '/live'))->{live}, JSON::PP::true, '/live');
$answer = get($at, '/ready');
is("$answer->{status} $answer->{body}", qq(200 {"ready": true, "role": "primary", "status": "healthy"}\n), '/ready');
is(get($at, '/replica')->{status}, 503, '/replica on a primary');
is(json_of(get($at, '/replica?lag=16MB'))->{reason}, 'primary', 'and why not');
for my $lag (qw(16PB -1 1.5s s 99999999999999999999), '', '%00', '1s%00')
{
	is(get($at, "/replica?lag=$lag")->{status}, 400, "lag \"$lag\" is no lag");
}
like(get($at, '/')->{body}, qr/^<!doctype html>/i, 'a page for people');

# What is not
$answer = get($at, '/nothing');
is($answer->{status}, 404, 'an unknown path');
is_deeply(json_of($answer)->{pages}, [qw(/ /health /ready /replica /live /metrics /status)], 'says which there are');
is(get($at, $_)->{status}, 404, "no page: $_") for qw(/health/ /HEALTH //health /../health /%2e%2e/health);
is(get($at, '/health?x=y&lag')->{status}, 200, 'arguments that are not known are ignored');
for my $method (qw(POST PUT DELETE OPTIONS TRACE PATCH CONNECT FOO get))
{
	$answer = http($at, $method, '/health');
	is("$answer->{status} $answer->{headers}{allow}", '405 GET, HEAD', "$method is not allowed");
}
$answer = http($at, 'GET', '/health', 'Content-Length' => 1000000000);
is($answer->{status}, 400, 'a body is refused without waiting for it');

# HEAD says of each page what GET does, but for the page itself
for my $path (qw(/ /health /ready /replica /live /metrics /status /nothing))
{
	my $got = get($at, $path);
	my $head = http($at, 'HEAD', $path);

	is("$head->{status} $head->{headers}{'content-type'}", "$got->{status} $got->{headers}{'content-type'}", "HEAD $path");
}

# One connection, several requests; and by curl, as people do it
{
	my $socket = http_socket($at);
	my $buffer = '';
	my @statuses;

	for my $path (qw(/live /replica /health))
	{
		send_bytes($socket, "GET $path HTTP/1.1\r\nHost: test\r\n\r\n");
		push @statuses, read_answer($socket, buffer => \$buffer)->{status};
	}
	send_bytes($socket, "GET /live HTTP/1.1\r\nHost: test\r\n\r\nGET /ready HTTP/1.1\r\nHost: test\r\n\r\nHEAD /x HTTP/1.1\r\nHost: test\r\n\r\n");
	push @statuses, map { read_answer($socket, buffer => \$buffer, head => $_)->{status} } 0, 0, 1;
	is("@statuses", '200 503 200 200 200 404', 'connections are kept, requests may come without waiting');
}
is(http($at, 'GET', '/live', 'Expect' => '100-continue')->{status}, 200, 'Expect without a body');
my ($stdout, $stderr);
IPC::Run::run(['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', "http://$at/health"], \undef, \$stdout, \$stderr);
is($stdout, '200', 'curl') or diag($stderr);

# A critical check that fails, and names and messages of any kind.  The table is
# written directly: it is the endpoint that is tested here.
$mon->ok(q{CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0});
my $latin = monitor($node, dbname => 'latin');
$latin->ok(q{SET client_encoding = 'UTF8'; CREATE EXTENSION resilience});
$latin->ok(q{SELECT resilience.create_bulkhead(E'"quoted" <b>\\\\ caf\u00e9\u0001', max_running => 3)});
$mon->ok(q{SELECT resilience.create_bulkhead(E'"quoted" <b>\\\\ caf\u00e9\u0001\n', max_running => 5)});
wait_until('both databases have a name',
	sub { get($at, '/metrics')->{body} =~ /bulkhead_running\{database="latin"/ && get($at, '/metrics')->{body} =~ /bulkhead_running\{database="postgres"/ });
$health = json_of(get($at, '/health'));
my %names = map { ($_->{database} => $_->{name}) } grep { $_->{kind} eq 'bulkhead' } @{ $health->{components} };
is($names{postgres}, qq("quoted" <b>\\ caf\x{e9}\x{1}\n), 'a name with everything in it, as JSON');
is($names{latin}, qq("quoted" <b>\\ caf\x{fffd}\x{1}), 'what is no UTF-8 is replaced');
like(get($at, '/metrics')->{body}, qr/^resilience_bulkhead_max_running\{database="postgres",bulkhead="\\"quoted\\" <b>\\\\ caf\xc3\xa9\x01\\n"\} 5$/m, 'as a label');
my $page = get($at, '/status')->{body};
# Prometheus can read it: a family's numbers stand together after its help and
# type, and no series comes twice
{
	my (%seen, %series, $family, $type);
	my @wrong;

	for my $line (split /\n/, get($at, '/metrics')->{body})
	{
		if ($line =~ /^# HELP (resilience_[a-z_]+) \S.*\.$/)
		{
			push @wrong, "$line: twice" if $seen{$1}++;
			($family, $type) = ($1, undef);
		}
		elsif ($line =~ /^# TYPE (\S+) (gauge|counter|histogram)$/)
		{
			push @wrong, $line if $1 ne $family || $type;
			$type = $2;
			push @wrong, "$line: name and type" if ($type eq 'counter') != ($family =~ /_total$/ ? 1 : 0);
		}
		elsif ($line =~ /^(\w+(?:\{(?:[a-z_]+="(?:[^"\\]|\\["\\n])*",?)+\})?) (-?[0-9.]+(?:e[-+]?\d+)?|NaN|[-+]Inf)$/)
		{
			my $name = $1;

			push @wrong, "$line: twice" if $series{$name}++;
			push @wrong, "$line: out of place" if !$type ||
			  $name !~ ($type eq 'histogram' ? qr/^\Q$family\E_(bucket\{|sum|count)/ : qr/^\Q$family\E(\{|$)/);
		}
		else { push @wrong, $line }
	}
	is(join("\n", @wrong), '', 'metrics are in the exposition format');
	cmp_ok(scalar keys %series, '>', 60, 'and many');
}

like($page, qr/&quot;quoted&quot; &lt;b&gt;\\ caf\xc3\xa9/, 'as HTML');
unlike($page, qr/<b>\\/, 'and only so');
$latin->close;
$mon->ok('DROP DATABASE latin WITH (FORCE)');
$mon->ok(q{SELECT resilience.drop_bulkhead(name) FROM resilience.bulkhead_definitions});

# Where it listens: elsewhere after a reload, IPv6, a unix socket
my $second = free_port();
listen_at("127.0.0.1:$second");
wait_status("127.0.0.1:$second", '/live', 200);
is(http_socket($at), undef, 'moved: nobody is at the old address');
like(slurp_file($node->logfile), qr/resilience answers health requests at "127.0.0.1:$second"/, 'the log says where');

SKIP:
{
	my $probe = IO::Socket::IP->new(LocalHost => '::1', Listen => 1) or skip 'no IPv6 here', 2;

	close $probe;
	listen_at("[::1]:$second");
	wait_status("[::1]:$second", '/live', 200);
	is(http_socket("127.0.0.1:$second"), undef, 'IPv6 only');
	listen_at("*:$second");
	wait_status("127.0.0.1:$second", '/live', 200);
	is(get("[::1]:$second", '/live')->{status}, 200, 'both families');
}

my $path = PostgreSQL::Test::Utils::tempdir_short() . '/health';
$mon->ok("ALTER SYSTEM SET resilience.http_listen = '$path'");
$node->append_conf('postgresql.conf', "unix_socket_permissions = 0700\n");
$node->restart;
$mon = monitor($node);
wait_status($path, '/live', 200);
is((stat $path)[2] & 07777, 0700, 'a unix socket has the permissions of the server\'s own');
is(get($path, '/health')->{status}, 200, 'and answers');
$node->stop('immediate');
$node->start;
$mon = monitor($node);
wait_status($path, '/live', 200);
pass('a socket that was left behind is taken over');
listen_at($at);
wait_status($at, '/live', 200);
ok(!-e $path, 'it is removed when it is not used any more');
append_to_file($path, "not a socket\n");
listen_at($path);
wait_until('that is no socket', sub { slurp_file($node->logfile) =~ /cannot listen at "\Q$path\E" for health requests: there is a file that is no socket/ });
is(slurp_file($path), "not a socket\n", 'a file that is no socket stays');

# An address that is taken: the server starts, health says so, and it is tried
# again until it is free
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $second, Listen => 1, ReuseAddr => 1) or die "cannot listen: $!";
listen_at("127.0.0.1:$second");
wait_for_value($mon, q{SELECT status || ' ' || (message ~ 'nobody answers at .*: cannot listen: Address already in use')
	FROM resilience.health WHERE kind = 'worker' AND component = 'endpoint'}, 'degraded true');
$node->restart;
$mon = monitor($node);
wait_for_value($mon, q{SELECT status FROM resilience.health WHERE kind = 'worker' AND component = 'endpoint'}, 'degraded');
wait_for_value($mon, q{SELECT resilience.health_status()}, 'degraded');
my $complaints = () = slurp_file($node->logfile) =~ /cannot listen at "127.0.0.1:$second" for health requests: Address already in use/g;
is($complaints, 2, 'a taken address is told once for each start');
close $taken;
wait_status("127.0.0.1:$second", '/live', 200);
wait_for_value($mon, q{SELECT status FROM resilience.health WHERE kind = 'worker' AND component = 'endpoint'}, 'healthy');
pass('freed, it is taken');

# Off and on; and it comes back when its process ends
my $pid = endpoint_pid($node);
kill 'TERM', $pid;
wait_until('it was started again', sub { my $now = endpoint_pid($node); $now && $now != $pid });
wait_status("127.0.0.1:$second", '/live', 200);
pass('a worker that ended is started again');
listen_at('');
wait_until('it is gone', sub { !endpoint_pid($node) });
is(http_socket("127.0.0.1:$second"), undef, 'nobody answers any more');
wait_for_value($mon, q{SELECT count(*) FROM resilience.health WHERE component = 'endpoint'}, 0);
listen_at("127.0.0.1:$second");
wait_status("127.0.0.1:$second", '/live', 200);
pass('off and on again');

# One worker, also when the launcher is another one
$pid = endpoint_pid($node);
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
$mon->ok("SELECT pg_terminate_backend($launcher)");
wait_for_value($mon, qq{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience launcher' AND pid <> $launcher}, 1);
wait_for_value($mon, q{SELECT resilience.health_status()}, 'healthy');
is(endpoint_pid($node), $pid, 'a new launcher starts no second one');

# The whole server falls, and it comes back with it
kill 'KILL', $pid;
wait_until('a crash is over', sub { my $now = endpoint_pid($node); $now && $now != $pid && get("127.0.0.1:$second", '/live')->{status} == 200 });
pass('after a crash');
$mon = monitor($node);

# Read-only by default: no writes are to be sent here
$mon->ok(q{ALTER SYSTEM SET default_transaction_read_only = on});
$mon->ok('SELECT pg_reload_conf()');
$answer = wait_status("127.0.0.1:$second", '/ready', 503);
like(json_of($answer)->{reason}, qr/read-only/, 'a read-only primary is not ready');

$node->stop;
is(http_socket("127.0.0.1:$second"), undef, 'gone with the server');
done_testing();
