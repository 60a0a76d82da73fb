# Runaway rules with action "lower_priority": the statement that runs is the
# first to be preempted, and its query runs with low priority for a while.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('lower', roles => [ 'app', 'job', 'boss' ], conf => q(
max_parallel_workers_per_gather = 0
resilience.max_running = 3
resilience.max_wait = 10min
resilience.preemption = running
resilience.low_priority_cap = 3
resilience.normal_priority_cap = 3
));
my $mon = monitor($node);

$mon->ok('ALTER ROLE boss SET resilience.priority = high');
my ($app, $app2, $job, $boss) = map { connect_to($node, user => $_) } qw(app app job boss);

sub rule
{
	my ($column) = @_;
	return $mon->value("SELECT $column FROM resilience.runaway_rules WHERE name = 'slow'");
}

sub priority
{
	my ($session) = @_;
	return $mon->value("SELECT priority FROM resilience.activity WHERE pid = $session->{pid}");
}

$mon->ok(q{SELECT resilience.create_runaway_rule('slow', role_name => 'app', max_duration => '300 ms',
	action => 'lower_priority', quarantine_duration => '1 hour')});

# Two of the same class: the one that began last would be the victim
$app->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
wait_until('the rule is hit', sub { rule('hits_total') == 1 });
ok(!$app->done, 'the statement goes on');
is(priority($app), 'normal', 'its transaction keeps the slot of its class');
$job->send('SELECT pg_sleep(1000), 1');
my $job2 = connect_to($node, user => 'job');
$job2->send('SELECT pg_sleep(1000), 1');
wait_running($mon, undef, 3);
error_is($boss->query('SELECT 1'), 'no error', 'somebody of a higher class gets a slot');
error_is($app->result, '53R04', '... of the statement that has hit the rule');
ok(!$job->done && !$job2->done, '... not of those that began later');

# The query runs with low priority from now on, for whom the rule is about
is($mon->value('SELECT action FROM resilience.quarantine'), 'lower_priority', 'the view says so');
$app->send('SELECT pg_sleep(1000)');
wait_until('it runs', sub { $mon->value("SELECT state FROM resilience.activity WHERE pid = $app->{pid}") eq 'running' });
is(priority($app), 'low', 'the same query runs with low priority');
$app->cancel;
error_is($app->result, '57014', 'cancelled');
$app->send('SELECT pg_sleep(2), 2');
wait_until('it runs', sub { $mon->value("SELECT state FROM resilience.activity WHERE pid = $app->{pid}") eq 'running' });
is(priority($app), 'normal', 'another query does not');
$app->cancel;
$app->result;
$boss->send('SELECT pg_sleep(0.2)');
wait_until('it runs', sub { $mon->value("SELECT state FROM resilience.activity WHERE pid = $boss->{pid}") eq 'running' });
is(priority($boss), 'high', 'the rule is not about others');
$boss->result;

# Released
is($mon->value('SELECT resilience.release_quarantine(query_id) FROM resilience.quarantine LIMIT 1'), 't', 'released');
$app->send('SELECT pg_sleep(1000)');
wait_until('it runs', sub { $mon->value("SELECT state FROM resilience.activity WHERE pid = $app->{pid}") eq 'running' });
is(priority($app), 'normal', 'the query runs with its priority again');

# Demoted, it makes room even for its own class
my $hits = rule('hits_total');
wait_until('the rule is hit', sub { rule('hits_total') > $hits || $mon->value('SELECT count(*) FROM resilience.quarantine') > 0 });
my $job3 = connect_to($node, user => 'job');
error_is($job3->query('SELECT 1'), 'no error', 'one of the same class gets its slot');
error_is($app->result, '53R04', 'it was preempted');

# The next statement of that session is not demoted
$mon->ok(q{SELECT resilience.drop_runaway_rule('slow')});
$app->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 3);
$job3->send('SELECT 1');
sleep 1;
ok(!$app->done, 'the next statement is like any other');
for ($app, $job, $job2)
{
	$_->cancel;
	$_->result;
}
error_is($job3->result, 'no error', 'who waited is served');

all_zero($mon, 'at the end');
done_testing();
