# resilience.preemption = running: a statement of higher priority that would
# have to wait has a running one of a lower class cancelled.  Whose, how often,
# and what becomes of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my @classes = qw(low normal high critical);
my $node = preloaded_node('preempt', roles => [ @classes, 'everyone' ], conf => q(
resilience.max_running = 1
resilience.max_wait = 10min
resilience.preemption = running
max_parallel_workers_per_gather = 0
));
my $mon = monitor($node);

$mon->ok("ALTER ROLE $_ SET resilience.priority = $_; GRANT everyone TO $_") for @classes;
$mon->ok(q{CREATE TABLE t (a int, b text); GRANT ALL ON t TO everyone;
	GRANT ALL ON SCHEMA public TO everyone});

sub session
{
	my ($class) = @_;
	return connect_to($node, user => $class);
}

sub by_priority
{
	my ($column, $class) = @_;
	return $mon->value("SELECT $column FROM resilience.load_by_priority WHERE priority = '$class'");
}

sub end
{
	for (@_)
	{
		$_->cancel;
		$_->result;
	}
	return;
}

my ($low, $low2, $normal, $high) = map { session($_) } qw(low low normal high);

# The plain case
$low->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
error_is($high->query('SELECT 1'), 'no error', 'a statement of higher priority runs');
my $result = $low->result;
error_is($result, '53R04', 'the running one is preempted');
is($result->{error}{M}, 'preempted by a statement of higher priority', 'message');
is(detail_of($result, 'priority'), 'low', 'DETAIL names its priority');
is(detail_of($result, 'by_priority'), 'high', '... and the other one');
is(detail_of($result, 'started'), 'true', '... and that it had started');
cmp_ok(detail_of($result, 'ran_ms'), '>=', 0, '... for how long');
cmp_ok(detail_of($result, 'retry_after_ms'), '>', 0, '... and when to come back');
is($low->query('SELECT 1')->{rows}[0][0], 1, 'the session works on');
is(by_priority('preempted_running_total', 'low'), 1, 'counted for the class of the victim');
is(by_priority('preempted_total', 'low'), 1, 'also as preempted');
is($mon->value('SELECT (requested, delivered, missed, pending)::text FROM resilience.cancel_statistics()'),
	'(1,1,0,0)', 'one request, delivered');
all_zero($mon, 'after the plain case');

done_testing();
