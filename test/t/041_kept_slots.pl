# Many kept slots at once: who takes them back hands all of them over, also when
# it does not queue itself, since it is refused.
#
# Slots are kept by sessions whose clients do not come back.  The waiter that
# would take them back within milliseconds, and the launcher, who looks after
# everything ten times a second, are stopped, so that what is seen is the work
# of the newcomer alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest qw(freeze thaw);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $limit = 60;
my $node = preloaded_node('kept_slots', roles => [ 'app', 'hasty' ], conf => qq(
max_connections = 300
resilience.max_running = $limit
resilience.max_waiting = 1000
resilience.max_wait = 10min
resilience.queue_target = 0
));
my $mon = monitor($node);

$mon->ok('ALTER ROLE hasty SET resilience.max_wait = 0');
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
my @holders = map { connect_to($node, user => 'app') } 1 .. $limit;
my @keepers = map { connect_to($node, user => 'app') } 1 .. $limit;
my @waiters = map { connect_to($node, user => 'app') } 1 .. $limit + 10;
my $newcomer = connect_to($node, user => 'hasty');
# the first statement of a session takes as long as a turn
$_->ok('SELECT pg_sleep(0)') for (@holders, @keepers, @waiters, $newcomer);

# All slots are taken, and idle: the launcher may not lend them
freeze($launcher);
$_->ok('BEGIN; SELECT 1') for @holders;

# Those who will keep their slots queue, then those who wait for longer; the
# last of them is the one that will look after kept slots
$_->send('SELECT pg_sleep(0.002)') for @keepers;
wait_waiting($mon, undef, scalar(@keepers));
$_->send('SELECT pg_sleep(600)') for @waiters[0 .. $#waiters - 1];
wait_waiting($mon, undef, @keepers + @waiters - 1);
$waiters[-1]->send('SELECT pg_sleep(600)');
wait_waiting($mon, undef, @keepers + @waiters);
freeze($waiters[-1]{pid});

# Each slot goes to one of the first, whose turn it still is when it has ended:
# one after the other, as a turn lasts 20 ms
for (@holders)
{
	$_->ok('COMMIT');
	sleep 0.004;
}
ok(!(grep { $_->result->{error} } @keepers), 'sessions have their turn, and go idle');
my $running = $mon->value('SELECT running FROM resilience.load_shedder');
my $kept = $limit - $running;
cmp_ok($kept, '>=', 40, "more slots are kept ($kept) than are handed over at a time (31)");

# Somebody comes, finds that they have been kept for too long (5 ms), and is
# refused
sleep 0.1;
error_is($newcomer->query('SELECT 1'), '53R03', 'a newcomer that does not wait is refused');
eval { wait_for_value($mon, 'SELECT running FROM resilience.load_shedder', $limit, 3) };
is($mon->value('SELECT running FROM resilience.load_shedder'), $limit, 'all slots have gone to those who waited');

# Nothing is lost
thaw($waiters[-1]{pid}, $launcher);
$_->cancel for @waiters;
# whoever runs goes, and then others run
wait_until(
	'all are gone',
	sub {
		my @left = grep { !$_->done } @waiters;
		$_->cancel for @left;
		return !@left;
	});
$_->close for (@holders, @keepers, @waiters, $newcomer);
all_zero($mon, 'when all are gone');
set_conf($mon, 'resilience.max_running' => 3);
is(count_slots($node, $mon, 5), 3, 'all slots are there');
$mon->close;
$node->stop;

done_testing();
