# Under overload who has waited for more than twice the target when its turn
# comes makes place for younger waiters.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('late', roles => ['app']);
my $mon = monitor($node);

$mon->ok(q{CREATE TABLE served (id serial, who text);
	GRANT ALL ON served TO app; GRANT ALL ON SEQUENCE served_id_seq TO app});

my @sessions = map { connect_to($node, user => 'app') } 1 .. 5;

sub serve
{
	my ($session, $who, $seconds) = @_;
	return $session->send("INSERT INTO served (who) VALUES ('$who') RETURNING pg_sleep($seconds)");
}

# Two wait for 4.3 seconds, then one more comes (unless "burst").  The first is
# served, which begins an interval, for as long as that takes; the second one
# is too late by then, if the target is 2 s.  Returns who was served.
sub story
{
	my ($name, $burst) = @_;
	my ($holder, @waiters) = @sessions;

	$mon->ok('TRUNCATE served');
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $name, 1);
	serve($waiters[0], 'first', 0.3);
	wait_waiting($mon, $name, 1);
	serve($waiters[1], 'second', 0);
	wait_waiting($mon, $name, 2);
	if ($burst)
	{
		serve($waiters[2], 'young', 0);
		wait_waiting($mon, $name, 3);
	}
	sleep 4.3;
	if (!$burst)
	{
		serve($waiters[2], 'young', 0);
		wait_waiting($mon, $name, 3);
	}
	$holder->cancel;
	error_is($holder->result, '57014', 'the holder ends');
	my @results = map { $_->result } @waiters[ 0 .. 2 ];
	error_is($results[0], 'no error', 'the first one is served');
	error_is($results[2], 'no error', 'the youngest, too');
	return ($mon->value(q{SELECT string_agg(who, ' ' ORDER BY id) FROM served}), $results[1]);
}

# A bulkhead: a quarter of its max_wait
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 100,
	max_wait => '8 s')});
my ($served, $result) = story('b');
is($served, 'first young', 'who is too late makes place');
error_is($result, '53R03', 'it is told');
like($result->{error}{M}, qr/waited too long for bulkhead "b"/, 'why');
is(detail_of($result, 'started'), 'false', 'that nothing was started');
like(detail_of($result, 'retry_after_ms') // '', qr/^[1-9]\d*$/, 'when to come again');
like($result->{error}{H}, qr/resilience\.queue_target/, 'and what decides');
is($mon->value(q{SELECT format('%s/%s', dropped_total, timed_out_total) FROM resilience.bulkheads WHERE name = 'b'}), '1/1',
	'it is counted');

($served, $result) = story('b', 1);
is($served, 'first second young', 'the rest of a burst is served');

# Patience
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '1 min')});
($served, $result) = story('b');
is($served, 'first second young', 'who is ready to wait for longer is not late');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});

# The server-wide limit: its own target, whatever max_wait
set_conf($mon, 'resilience.max_running' => 1, 'resilience.queue_target' => 2000);
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '10min'});
$_->close for @sessions;
@sessions = map { connect_to($node, user => 'app') } 1 .. 5;
($served, $result) = story(undef);
is($served, 'first young', 'the server-wide limit has a target of its own');
like($result->{error}{M}, qr/waited too long for the server-wide limit/, 'it is named');
is($mon->value(q{SELECT format('%s/%s', dropped_total, timed_out_total) FROM resilience.load_by_priority
	WHERE priority = 'normal'}), '1/1', 'it is counted');

# Off
set_conf($mon, 'resilience.queue_target' => 0);
$_->close for @sessions;
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '8s'});
@sessions = map { connect_to($node, user => 'app') } 1 .. 5;
($served, $result) = story(undef);
is($served, 'first second young', 'with 0 nobody makes place');

$_->close for @sessions;
all_zero($mon, 'at the end');
done_testing();
