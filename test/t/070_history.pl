# The history of arrivals: who is not in it, what is too much for it, and a
# launcher that is started again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('history', conf => 'resilience.history_size = 8kB');
my $mon = monitor($node);

sub preview
{
	my ($columns, $arguments) = @_;
	return $mon->value("SELECT $columns FROM resilience.preview_bulkhead('b', database_name => '*'"
		  . ($arguments ? ", $arguments" : '') . ')');
}

sub arrivals { return preview('arrivals', @_) }

# All that have ever been admitted, by their own counters
sub admitted { return $mon->value('SELECT admitted_total FROM resilience.load_shedder') }

sub wait_complete
{
	my ($arguments) = @_;
	return wait_until('all is in the history',
		sub { preview('arrivals + unattributed_arrivals') == admitted() });
}

# Each transaction is in it once: of sessions that stay, and of those that are
# gone before anybody looks
my $app = connect_to($node, user => 'app', application_name => 'stays');
$app->ok('SELECT 1') for 1 .. 50;
for (1 .. 20)
{
	my $session = connect_to($node, user => 'app', application_name => 'goes');
	$session->ok('SELECT 1');
	$session->close;
}
wait_complete();
is(arrivals(q{application_name => 'stays'}), 50, 'transactions of a session that stays');
cmp_ok(arrivals(q{application_name => 'goes'}), '<=', 20, 'of those that go');
cmp_ok(preview('unattributed_arrivals'), '>', 0, 'some nobody saw');

# A list of bulkheads that changes folds the sessions' counters
$mon->ok(q{SELECT resilience.create_bulkhead('x', role_name => 'app', max_running => 10)});
$app->ok('SELECT 1') for 1 .. 10;
$mon->ok(q{SELECT resilience.drop_bulkhead('x')});
$app->ok('SELECT 1') for 1 .. 10;
wait_complete();
cmp_ok(arrivals(q{application_name => 'stays'}), '<=', 70, 'nothing is counted twice');

# Not those for whom nothing is counted
my $off = connect_to($node, application_name => 'off', options => '-c resilience.mode=off');
$off->ok('SELECT 1') for 1 .. 10;
$app->ok('SELECT 1');
wait_complete();
is(arrivals(q{application_name => 'off'}), 0, 'sessions with mode off are not in it');

# A launcher that is started anew goes on where it was
my $before = arrivals(q{application_name => 'stays'});
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
$mon->ok("SELECT pg_terminate_backend($launcher)");
wait_until('it is gone', sub { !process_lives($launcher) });
$app->ok('SELECT 1') for 1 .. 7;
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience launcher'}, 1);
$app->ok('SELECT pg_sleep(0.05)') for 1 .. 20;
wait_until('it looks again', sub { arrivals(q{application_name => 'stays'}) > $before });
my $after = arrivals(q{application_name => 'stays'});
cmp_ok($after, '<=', $before + 27, 'it does not count again what was before');
cmp_ok($after, '>=', $before + 1, 'but what comes');
$app->close;

# More identities than there is room for
my @many = map { connect_to($node, user => 'app', application_name => "many $_") } 1 .. 40;
for (1 .. 3)
{
	$_->ok('SELECT 1') for @many;
	sleep 0.3;
}
my ($known, $unknown);
wait_until('all is in the history', sub {
	$known = arrivals(q{application_name => 'many%'});
	$unknown = preview('unattributed_arrivals');
	$known + $unknown >= 120;
});
cmp_ok($known, '>=', 20, 'some are known');
cmp_ok($known, '<', 120, 'not all');
ok($mon->value(q{SELECT count(*) = 1 FROM resilience.preview_bulkhead('b')}), 'the rest harms nothing');

# What is not in use any more makes room
$_->close for @many;
my $new;
wait_until(
	'there is room again',
	sub {
		$new //= connect_to($node, user => 'app', application_name => 'new');
		$new->ok('SELECT 1');
		sleep 0.3;
		return arrivals(q{application_name => 'new'}) > 0;
	});
ok(1, 'a new identity finds room');

# More queries, too
set_conf($mon, 'compute_query_id' => 'on');
for my $columns (1 .. 60)
{
	$new->ok('SELECT ' . join(', ', (1) x $columns));
	sleep 0.02;
}
wait_until('they are in the history', sub { arrivals(q{application_name => 'new'}) >= 60 });
my $query_id = $mon->value(q{SELECT query_id FROM pg_stat_activity WHERE application_name = 'new'});
is(arrivals("query_id => $query_id"), 0, 'a query for which there was no room is not known');
$new->close;

# A crash begins it anew
$mon->{node}->stop('immediate');
$node->start;
$mon = monitor($node);
is(arrivals(q{application_name => 'stays'}), 0, 'after a crash it begins anew');

# It says when it is too small
my $log = -s $node->logfile;
$node->append_conf('postgresql.conf', 'resilience.history_size = 4kB');
$node->restart;
is(monitor($node)->value('SHOW resilience.history_size'), '16kB', 'a history of 4 kB is refused: the default holds');
like(slurp_file($node->logfile, $log), qr/The smallest history has 8 kB; 0 means none/, '... with advice');

done_testing();
