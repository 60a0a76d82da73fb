# auto_revert_refusal_rate: a bulkhead that refuses more than that only
# observes, until somebody writes its definition.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('auto_revert');
my $mon = monitor($node);
my $ticks = 0.5;    # several of the launcher's

sub bulkhead
{
	my ($column, $name) = @_;
	return $mon->value("SELECT $column FROM resilience.bulkheads WHERE name = '" . ($name // 'b') . "'");
}

sub reverted { return bulkhead('reverted_at IS NOT NULL', @_) eq 't' }


# Let a session be refused so many times.
sub be_refused
{
	my ($session, $times, $sqlstate) = @_;
	my $refused = 0;

	for (1 .. $times)
	{
		my $error = $session->query('SELECT 1')->{error};
		$refused++ if $error && $error->{C} eq ($sqlstate // '53R01');
	}
	return $refused;
}

# Until it is reverted: what happens within the first tick is not counted.
sub be_refused_too_often
{
	my ($session) = @_;

	return wait_until('the bulkhead is reverted', sub { be_refused($session, 10); reverted() });
}

$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, priority => 'low',
	auto_revert_refusal_rate => 0.5)});
$mon->ok(q{SELECT resilience.create_bulkhead('other', role_name => 'app', max_running => 50)});
my $holder = connect_to($node, user => 'app');
my $app = connect_to($node, user => 'app');

# A few refusals say nothing
$holder->hold;
is(be_refused($app, 15), 15, 'refused');
sleep $ticks;
ok(!reverted(), 'not after a few');

# ... nor many, among more that are admitted
$holder->let_go;
$holder->result;
$app->ok('SELECT 1') for 1 .. 60;
sleep $ticks;
$holder->hold;
is(be_refused($app, 25), 25, 'refused');
sleep $ticks;
ok(!reverted(), 'not at a rate below the limit');

# Too many
my $log = -s $node->logfile;
my $before = bulkhead('refused_statements_total');
be_refused_too_often($app);
error_is($app->query('SELECT 1'), 'no error', 'it refuses nobody any more');
is(bulkhead('mode'), 'enforce', 'the definition is as it was');
cmp_ok(bulkhead("extract(epoch FROM now() - reverted_at)"), '<', 60, 'the view says since when');
is($app->value('SELECT resilience.my_priority()'), 'normal', 'its priority does not hold either');
my $text = slurp_file($node->logfile, $log);
like($text, qr/WARNING:  bulkhead "b" refuses too much: it only observes from now on/, 'the log tells');
like($text, qr/statements_refused=(\d+) decisions=\d+ window_ms=10000 refusal_rate=0\.\d+ auto_revert_refusal_rate=0\.5/,
	'... with numbers');
$before = bulkhead('refused_statements_total');
$app->ok('SELECT 1') for 1 .. 5;
is(bulkhead('refused_statements_total'), $before + 5, 'what it would have refused is counted');
ok(!reverted('other'), 'other bulkheads are not concerned');

# It stays so, whatever happens to others
$mon->ok(q{SELECT resilience.alter_bulkhead('other', max_running => 40)});
$mon->ok(q{SELECT resilience.create_bulkhead('third', max_running => 40)});
$mon->ok(q{SELECT resilience.drop_bulkhead('third')});
ok(reverted(), 'changes of others do not put it into force');
$mon->ok(q{BEGIN; SAVEPOINT s; SELECT resilience.alter_bulkhead('b', mode => 'enforce');
	ROLLBACK TO s; SELECT resilience.alter_bulkhead('other', max_running => 50); COMMIT});
ok(reverted(), 'nor does what was rolled back');
error_is($app->query('SELECT 1'), 'no error', 'it still refuses nobody');

# ... and to the server
$node->restart;
$mon = monitor($node);
ok(reverted(), 'a restart does not, either');
$holder = connect_to($node, user => 'app');
$app = connect_to($node, user => 'app');
$holder->hold;
error_is($app->query('SELECT 1'), 'no error', 'it refuses nobody after a restart');
$mon->ok('SELECT pg_reload_conf()');
sleep 1.5;    # the launcher has compared with the tables by now
ok(reverted(), 'nor does the comparison with the tables');

# Until somebody says so: the same values will do
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'enforce')});
ok(!reverted(), 'alter_bulkhead() puts it into force');
error_is($app->query('SELECT 1'), '53R01', 'it refuses again');
be_refused_too_often($app);
$mon->ok(q{UPDATE resilience.bulkhead_definitions SET max_running = max_running WHERE name = 'b'});
ok(!reverted(), 'so does an UPDATE of the table');
error_is($app->query('SELECT 1'), '53R01', 'it refuses again');

# Those that wait are let run
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 3, max_wait => '1 hour')});
my @waiters = map { connect_to($node, user => 'app') } 1 .. 3;
$_->send(q{SELECT 'ran'}) for @waiters;
wait_waiting($mon, 'b', 3);
be_refused_too_often($app);
is($_->result->{rows}[0][0], 'ran', 'a waiter is let run') for @waiters;
$holder->let_go;
$holder->result;

# Time-outs are refusals, too
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '1 ms')});
$holder->hold;
be_refused_too_often($app);
ok(1, 'time-outs count');
$holder->let_go;
$holder->result;
$_->close for @waiters;

# Observing, it reverts nothing
set_conf($mon, 'resilience.mode' => 'observe');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
$holder->hold;
$app->ok('SELECT 1') for 1 .. 40;
sleep $ticks;
ok(!reverted(), 'a server that observes refuses nobody');
$holder->let_go;
$holder->result;
set_conf($mon, 'resilience.mode' => undef);

# Connections
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
$mon->ok(q{SELECT resilience.create_bulkhead('c', role_name => 'app', max_connections => 2,
	auto_revert_refusal_rate => 0.9)});
$app->ok('SELECT 1') for 1 .. 100;
wait_until('the bulkhead is reverted', sub { connect_refused($node, user => 'app'); reverted('c') });
is(connect_refused($node, user => 'app'), undef, 'a connection bulkhead is reverted, whatever its sessions do');
$mon->ok(q{SELECT resilience.alter_bulkhead('c', auto_revert_refusal_rate => -1)});
is(connect_refused($node, user => 'app')->{C}, '53300', '... and put into force');
connect_refused($node, user => 'app') for 1 .. 40;
sleep $ticks;
ok(!reverted('c'), 'without the argument it refuses for ever');

$app->close;
$holder->close;
all_zero($mon, 'at the end');
done_testing();
