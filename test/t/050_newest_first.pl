# A queue that is more than 80 % full is served newest first, until it is less
# than 60 % full.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('newest', roles => ['app']);
my $mon = monitor($node);

$mon->ok(q{CREATE TABLE served (id serial, who int);
	GRANT ALL ON served TO app; GRANT ALL ON SEQUENCE served_id_seq TO app});

my $holder = connect_to($node, user => 'app', options => '-c application_name=x');
my @waiters = map { connect_to($node, user => 'app') } 1 .. 12;

# So many sessions queue up one after the other; $while runs while all of them
# wait.  Returns the order in which they are served.
sub order_of
{
	my ($name, $count, $while) = @_;

	$mon->ok('TRUNCATE served');
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $name, 1);
	for my $i (1 .. $count)
	{
		$waiters[ $i - 1 ]->send("INSERT INTO served (who) VALUES ($i)");
		wait_waiting($mon, $name, $i);
	}
	$while->() if $while;
	$holder->cancel;
	error_is($holder->result, '57014', 'the holder ends');
	for my $i (1 .. $count)
	{
		error_is($waiters[ $i - 1 ]->result, 'no error', "number $i is served");
	}
	return $mon->value(q{SELECT string_agg(who::text, ' ' ORDER BY id) FROM served});
}

# A bulkhead
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 12,
	max_wait => '10 min')});
is(order_of('b', 9), '1 2 3 4 5 6 7 8 9', 'oldest first while at most 80 % wait');
is(order_of('b', 11), '11 10 9 8 1 2 3 4 5 6 7', 'newest first above 80 %, until it is below 60 %');

# The capacity changes while they wait
is( order_of('b', 10, sub { $mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 100)}) }),
	'1 2 3 4 5 6 7 8 9 10', 'a queue that has grown is served in order');
is( order_of('b', 10, sub { $mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 10)}) }),
	'10 9 8 7 6 1 2 3 4 5', 'one that has shrunk newest first');
is(order_of('b', 10), '10 9 8 7 6 1 2 3 4 5', 'so it is the next time');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 9)});
is(order_of('b', 9), '1 2 3 4 5 6 7 8 9', 'one for less than ten is always served in order');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => -1)});
is(order_of('b', 12), '1 2 3 4 5 6 7 8 9 10 11 12', 'one without a limit in order');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});

# The server-wide limit: of those that wait, not of those that keep their slot
# for a moment; each session has one transaction here
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '10min'});
$_->close for ($holder, @waiters);
$holder = connect_to($node, user => 'app');
@waiters = map { connect_to($node, user => 'app') } 1 .. 12;
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 12);
is(order_of(undef, 11), '11 10 9 8 1 2 3 4 5 6 7', 'the queue of the server, too');
set_conf($mon, 'resilience.max_waiting' => 1000);
is(order_of(undef, 11), '1 2 3 4 5 6 7 8 9 10 11', 'in order when it is far from full');

$_->close for ($holder, @waiters);
all_zero($mon, 'at the end');
done_testing();
