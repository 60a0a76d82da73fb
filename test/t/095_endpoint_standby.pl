# The health endpoint on a primary and its standby: who is ready, who is a
# replica and how far behind, promotion; and HAProxy, with the example in
# monitoring/, that sends clients where the endpoint says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use HttpTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

plan skip_all => 'built without libmicrohttpd' unless have_endpoint();

my ($pport, $sport) = (free_port(), free_port());
my ($pat, $sat) = ("127.0.0.1:$pport", "127.0.0.1:$sport");
my $primary = preloaded_node('primary', init => [ allows_streaming => 1 ],
	conf => "listen_addresses = '127.0.0.1'\nresilience.http_listen = '$pat'\nwal_receiver_status_interval = 1\n");
limit_seconds(300);
my $mon = monitor($primary);
$mon->ok('CREATE TABLE switch AS SELECT true AS on; CREATE TABLE t (i int)');
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "resilience.http_listen = '$sat'\n");
$standby->start;
my $smon = monitor($standby);

sub ready { return get($_[0], '/ready')->{status} . ' ' . get($_[0], '/replica')->{status} }
sub roles { return ready($pat) . ', ' . ready($sat) }

wait_until('both answer', sub { roles() eq '200 503, 503 200' });
pass('the primary is ready, the standby a replica');
is(json_of(get($sat, '/health'))->{role}, 'standby', 'a standby says that it is one');
is(json_of(get($sat, '/ready'))->{reason}, 'standby', 'why it is not ready');
my $replica = json_of(get($sat, '/replica'));
ok($replica->{streaming} && defined $replica->{lag_bytes}, 'how far it is behind');
like(get($sat, '/status')->{body}, qr/standby, [\d.]+ s behind/, 'on the page, too');

# How far behind
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
wait_status($sat, '/replica?lag=0', 200);
wait_status($sat, '/replica?lag=1s', 200);
pass('caught up');
$smon->ok('SELECT pg_wal_replay_pause()');
wait_for_value($smon, 'SELECT pg_get_wal_replay_pause_state()', 'paused');
$mon->ok('INSERT INTO t SELECT generate_series(1, 50000)');
wait_status($sat, '/replica?lag=1MB', 503);
$replica = json_of(get($sat, '/replica?lag=1MB'));
is("$replica->{reason}", 'lag', 'too far behind');
cmp_ok($replica->{lag_bytes}, '>', 1 << 20, 'in bytes');
is(get($sat, '/replica?lag=1GB')->{status}, 200, 'not too far for everybody');
is(get($sat, '/replica')->{status}, 200, 'without a limit any distance will do');
wait_status($sat, '/replica?lag=1s', 503);
is(get($sat, '/replica?lag=1h')->{status}, 200, 'in time');
$smon->ok('SELECT pg_wal_replay_resume()');
wait_status($sat, '/replica?lag=1kB', 200);
pass('caught up again');

# HAProxy between them
my $haproxy = (grep { -x $_ } '/usr/sbin/haproxy', '/usr/bin/haproxy', '/usr/local/sbin/haproxy')[0];
my ($writes, $reads) = (free_port(), free_port());
my $proxy;
if ($haproxy)
{
	my $text = slurp_file("$FindBin::RealBin/../../monitoring/haproxy.cfg");
	my $file = PostgreSQL::Test::Utils::tempdir() . '/haproxy.cfg';
	my %port = (1 => [ $primary->port, $pport ], 2 => [ $standby->port, $sport ]);

	# as it stands there, but for the addresses and more haste
	$text =~ s/10\.0\.0\.([12]):5432 check port 8009/127.0.0.1:$port{$1}[0] check port $port{$1}[1]/g;
	$text =~ s/bind \*:5000/bind 127.0.0.1:$writes/;
	$text =~ s/bind \*:5001/bind 127.0.0.1:$reads/;
	$text =~ s/inter 2s/inter 100ms/;
	append_to_file($file, $text);
	$proxy = IPC::Run::start([ $haproxy, '-db', '-f', $file ], '<', \undef,
		'>', PostgreSQL::Test::Utils::tempdir() . '/haproxy.log', '2>&1');
}

# To which server a client comes there: its port, or '' for none
sub whom
{
	my ($port) = @_;
	my ($out, $err) = ('', '');

	local $ENV{PGCONNECT_TIMEOUT} = 5;
	IPC::Run::run([ 'psql', '-XAtq', '-h', '127.0.0.1', '-p', $port, '-d', 'postgres', '-c', q{SELECT current_setting('port')} ],
		\undef, \$out, \$err);
	chomp $out;
	return $out eq $primary->port ? 'primary' : $out eq $standby->port ? 'standby' : 'none';
}

sub proxied
{
	my ($who, $label) = @_;
	my $now = '';

SKIP:
	{
		skip 'no haproxy here', 1 unless $haproxy;
		wait_until("writes and reads go to $who", sub { $now = whom($writes) . ' ' . whom($reads); return $now eq $who }, 60);
		is($now, $who, "HAProxy: $label");
	}
	return;
}

proxied('primary standby', 'writes go to the primary, reads to the standby');

# Unhealthy: a critical check fails on the primary alone
$mon->ok(q{SELECT resilience.create_health_check('switch', query => 'SELECT pg_is_in_recovery() OR "on" FROM public.switch',
	check_interval => '1 s', timeout => '900 ms', failure_threshold => 1, critical => true)});
wait_until('the check has run', sub { (component_of($pat, 'health_check', 'switch') // {})->{status} // '' eq 'healthy' });
$mon->ok('UPDATE switch SET "on" = false');
wait_status($pat, '/health', 503);
is(ready($pat), '503 503', 'an unhealthy primary is not ready');
is(json_of(get($pat, '/ready'))->{reason}, 'unhealthy', 'and says why');
is(get($pat, '/live')->{status}, 200, 'but it lives');
is(component_of($pat, 'health_check', 'switch')->{critical}, JSON::PP::true, 'because of a critical check');
like(get($pat, '/metrics')->{body}, qr/^resilience_health_status 3$/m, 'as a number');
like(get($pat, '/')->{body}, qr/<title>unhealthy: primary/, 'in the title of the page');
proxied('none standby', 'nobody writes to a primary that is unhealthy');
$mon->ok('UPDATE switch SET "on" = true');
wait_status($pat, '/health', 200);
proxied('primary standby', 'healthy again');

# The standby is out of service, then too far behind
$standby->stop;
proxied('primary primary', 'without a standby the primary is read');
$standby->start;
$smon = monitor($standby);
proxied('primary standby', 'it is back');
$smon->ok('SELECT pg_wal_replay_pause()');
wait_for_value($smon, 'SELECT pg_get_wal_replay_pause_state()', 'paused');
$mon->ok('INSERT INTO t SELECT generate_series(1, 400000)');
wait_status($sat, '/replica?lag=16MB', 503);

# who is healthy is read then: any of the two
SKIP:
{
	skip 'no haproxy here', 1 unless $haproxy;
	wait_until('the primary is read, too', sub { whom($reads) eq 'primary' });
	pass('HAProxy: a standby that is too far behind is not enough');
}
$smon->ok('SELECT pg_wal_replay_resume()');
wait_status($sat, '/replica?lag=16MB', 200);

# The primary is gone, and the standby takes over
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$mon->close;
$primary->stop('immediate');
proxied('none standby', 'the primary is gone');
is(get($sat, '/replica?lag=1MB')->{status}, 503, 'nobody knows how far behind a standby without a primary is');
like(json_of(get($sat, '/replica?lag=1MB'))->{reason}, qr/not known/, 'it says so');
$standby->promote;
wait_until('promoted', sub { ready($sat) eq '200 503' });
pass('the standby is ready when it is promoted');
proxied('standby standby', 'writes go to the new primary, and so do reads');
is(json_of(get($sat, '/health'))->{role}, 'primary', 'which says that it is one');

if ($proxy)
{
	$proxy->signal('TERM');
	$proxy->finish;
}
$standby->stop;
done_testing();
