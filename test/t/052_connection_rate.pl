# How many connections per second are let in: by the server, by a bulkhead.
# Rates are so low that a slow machine makes no difference: at 0.01 per second
# the second connection would have to wait for 100 s.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('rate', roles => [qw(app other)], init => [ allows_streaming => 1 ]);
my $mon = monitor($node);

$mon->ok('CREATE ROLE copier LOGIN REPLICATION');

sub totals
{
	return $mon->value(q{SELECT format('%s/%s', refused_connections_total, delayed_connections_total)
		FROM resilience.load_shedder});
}

# A rate from scratch: what was reserved under a lower one is forgotten under
# a high one, and of that nothing is left a second later
sub fresh_rate
{
	my ($rate, $wait) = @_;

	set_conf($mon, 'resilience.max_connection_rate' => 1000, 'resilience.max_connection_wait' => 500);
	connect_to($node, user => 'app')->close;
	sleep 1.1;
	set_conf($mon, 'resilience.max_connection_rate' => $rate, 'resilience.max_connection_wait' => $wait);
	return;
}

# Backends that are within authentication, by their title
sub authenticating
{
	my @pids;

	for my $file (glob('/proc/[0-9]*/cmdline'))
	{
		my ($pid) = $file =~ m{/(\d+)/};
		my $title = eval { slurp_file($file) } // '';
		next unless $title =~ /^postgres: .*\[local\] authentication/;
		my $stat = eval { slurp_file("/proc/$pid/stat") } // '';
		push @pids, $pid if $stat =~ /\) \w (\d+)/ && $1 == $node->{_pid};
	}
	return @pids;
}

# Refused, with numbers
is(totals(), '0/0', 'nothing yet');
set_conf($mon, 'resilience.max_connection_rate' => '0.01', 'resilience.max_connection_wait' => 0);
my $first = connect_to($node, user => 'app');
is($first->value('SELECT 1'), 1, 'the first one of a burst of one');
$first->close;
my $offset = -s $node->logfile;
my $error = connect_refused($node, user => 'other') || { C => 'no error' };
is($error->{C}, '53300', 'the next one is refused');
is($error->{S}, 'FATAL', 'it is FATAL');
like($error->{M}, qr/resilience\.max_connection_rate/, 'the setting is named');
is(detail_of($error, 'rate') . detail_of($error, 'waiting') . detail_of($error, 'started'), '0.010false', 'with numbers');
my $retry_after = detail_of($error, 'retry_after_ms');
ok($retry_after > 30_000 && $retry_after <= 100_000, "and when to come again: in $retry_after ms");
ok($error->{H}, 'and a hint');
connect_refused($node, user => 'app') for 1 .. 5;
is(totals(), '6/0', 'they are counted');
my @logged = slurp_file($node->logfile, $offset) =~ /too many new connections/g;
is(scalar(@logged), 1, 'a storm of refusals does not flood the log');

# Who is never refused, nor counted
for my $who ([], [ user => 'copier', replication => 'true' ], [ replication => 'database' ])
{
	my $session = ResilienceTest::Client->new($node, @$who);
	ok(!$session->{error}, "not refused: @$who") or diag $session->{error}{M};
	$session->close unless $session->{error};
}
is(totals(), '6/0', 'nor counted');
$mon->ok('SELECT resilience.reset_statistics()');
is(totals(), '0/0', 'totals restart');

# A rate that was raised is in force at once, whatever was reserved before
set_conf($mon, 'resilience.max_connection_rate' => 1000, 'resilience.max_connection_wait' => 60000);
my $start = time();
my $second = connect_to($node, user => 'app');
cmp_ok(time() - $start, '<', 55, 'a higher rate is in force at once');
$second->close;

# What is refused for another reason does not use up the rate
fresh_rate('0.01', 0);
$mon->ok(q{SELECT resilience.create_bulkhead('full', role_name => 'other', max_connections => 0)});
like(connect_refused($node, user => 'other')->{M}, qr/"full"/, 'a full bulkhead refuses') for 1, 2;
ok(!connect_refused($node, user => 'app'), 'that leaves the rate to others');
$mon->ok(q{SELECT resilience.drop_bulkhead('full')});

# A bounded wait.  One per second: the others come in a second and two
# seconds after the first
fresh_rate(1, 10000);
$mon->ok('SELECT resilience.reset_statistics()');
$start = time();
my @crowd = map { ResilienceTest::Client->new($node, user => 'app', later => 1) } 1 .. 3;
is(scalar(grep { $_->started } @crowd), 0, 'all of them get in');
cmp_ok(time() - $start, '>=', 1.9, 'the last one waited for two seconds');
like(totals(), qr{^0/[12]$}, 'waits are counted');
$_->close for @crowd;

# A storm: no more wait than the rate allows for
fresh_rate(2, 1500);
$start = time();
@crowd = map { ResilienceTest::Client->new($node, user => 'app', later => 1) } 1 .. 40;
my $most = 0;
wait_until(
	'nobody waits any more',
	sub {
		my $now = authenticating();
		$most = $now if $now > $most;
		return !$now && !grep { !$_->done } @crowd;
	});
my $let_in = grep { !$_->started } @crowd;
my $seconds = time() - $start;
cmp_ok($let_in, '>=', 2, "$let_in of 40 get in");
cmp_ok($let_in, '<=', 2 + 2 * (1.5 + $seconds) + 1, "in $seconds s, not more than the rate and the wait allow");
note("at most $most in authentication at once");
$_->close for grep { !$_->{error} } @crowd;
is($mon->value(q{SELECT sum(connections) FROM resilience.bulkheads}) // 0, 0, 'nothing is left');

# What ends the wait: a signal, authentication_timeout, the client's death
sub wait_in_authentication
{
	my $client = ResilienceTest::Client->new($node, user => 'app', later => 1);
	my @pids;

	wait_until('a connection waits', sub { @pids = authenticating(); @pids == 1 });
	sleep 0.05;
	is(scalar(authenticating()), 1, 'it waits on');
	return ($client, $pids[0]);
}

sub exhausted
{
	fresh_rate('0.05', 60000);
	my $session = connect_to($node, user => 'app');
	$session->close;
	return;
}

exhausted();
my ($client, $pid) = wait_in_authentication();
kill 'TERM', $pid;
$client->started;
is(scalar(authenticating()), 0, 'SIGTERM ends the wait');
ok($client->{error}, 'the client learns it');

set_conf($mon, 'authentication_timeout' => 2);
exhausted();
$start = time();
($client, $pid) = wait_in_authentication();
$client->started;
ok($client->{error}, 'authentication_timeout ends it');
cmp_ok(time() - $start, '<', 15, 'and not the end of the wait');
set_conf($mon, 'authentication_timeout' => '60');

# a client that has gone meanwhile gets no session
fresh_rate(1, 10000);
connect_to($node, user => 'app')->close;
$offset = -s $node->logfile;
($client, $pid) = wait_in_authentication();
$client->vanish;
wait_until('it is gone', sub { !process_lives($pid) });
like(slurp_file($node->logfile, $offset), qr/\[$pid\].*connection to client lost/, 'nobody waits: no session');

# Observe: nobody is refused or waits
set_conf($mon, 'resilience.mode' => 'observe');
fresh_rate('0.01', 0);
$mon->ok('SELECT resilience.reset_statistics()');
$offset = -s $node->logfile;
for (1 .. 4)
{
	ok(!connect_refused($node, user => 'app'), 'observed, not refused');
}
is(totals(), '3/0', 'but counted');
# once in 10 s
wait_until(
	'it is logged',
	sub {
		connect_refused($node, user => 'app');
		return slurp_file($node->logfile, $offset) =~ /max_connection_rate" would have refused a connection/;
	});
fresh_rate('0.1', 60000);
$start = time();
connect_to($node, user => 'app')->close for 1 .. 3;
cmp_ok(time() - $start, '<', 9, 'nor does anybody wait');
set_conf($mon, 'resilience.mode' => undef);

# A bulkhead's rate
set_conf($mon, 'resilience.max_connection_rate' => -1, 'resilience.max_connection_wait' => 0);
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_connection_rate => 0.01)});
ok(!connect_refused($node, user => 'app'), 'one of the bulkhead');
$error = connect_refused($node, user => 'app') || { C => 'no error' };
is($error->{C}, '53300', 'not a second one');
like($error->{M}, qr/bulkhead "b"/, 'the bulkhead is named');
is(detail_of($error, 'rate'), '0.01', 'with its rate');
ok(!connect_refused($node, user => 'other'), 'others are not concerned');
is($mon->value(q{SELECT refused_connections_total FROM resilience.bulkheads WHERE name = 'b'}), 1, 'it is counted there');
wait_for_value($mon, q{SELECT connections FROM resilience.bulkheads WHERE name = 'b'}, 0);
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'observe')});
ok(!connect_refused($node, user => 'app'), 'a bulkhead may observe');
is($mon->value(q{SELECT refused_connections_total FROM resilience.bulkheads WHERE name = 'b'}), 2, 'which counts');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'enforce', max_connection_rate => 0)});
is((connect_refused($node, user => 'app') || { C => 'no error' })->{C}, '53300', 'a rate of 0 lets nobody in');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_connection_rate => 1)});
set_conf($mon, 'resilience.max_connection_wait' => 10000);
sleep 1.1;
$start = time();
@crowd = map { ResilienceTest::Client->new($node, user => 'app', later => 1) } 1 .. 3;
is(scalar(grep { $_->started } @crowd), 0, 'a bulkhead delays, too');
cmp_ok(time() - $start, '>=', 1.9, 'for two seconds');
$_->close for @crowd;

# Refused by the server, it has not used up the bulkhead's rate
set_conf($mon, 'resilience.max_connection_wait' => 0);
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
fresh_rate('0.01', 0);
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_connection_rate => 0.01)});
connect_to($node, user => 'other')->close;
like((connect_refused($node, user => 'app') || { M => 'no error' })->{M}, qr/resilience\.max_connection_rate/, 'the server refuses');
set_conf($mon, 'resilience.max_connection_rate' => -1);
ok(!connect_refused($node, user => 'app'), 'the bulkhead has its connection still');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});

# The end of the server
exhausted();
($client, $pid) = wait_in_authentication();
ok(kill_postmaster($node, $mon, $pid), 'who waits exits when the postmaster dies');
$_->vanish for ($client, $mon);

done_testing();
