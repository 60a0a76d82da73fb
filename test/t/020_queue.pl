# What isolationtester cannot show of the queue: shares under a stream of
# higher priority, what a client sends when it connects, and what a reader of
# the views sees of others' work.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('queue', roles => [qw(app reader)], conf => q(compute_query_id = on
));
my $mon = monitor($node);

$mon->ok(q{CREATE TABLE served (id serial, who text);
	GRANT ALL ON served TO app; GRANT ALL ON SEQUENCE served_id_seq TO app;
	SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => -1,
		max_wait => '1 min')});

# Minimum flow: as long as there are high-priority waiters, low gets one slot
# in a hundred; so does normal.  All of it takes far less than the five seconds
# after which a waiter rises.  (That they get hardly more can be seen in
# test/unit: here they do whenever this client is too slow to keep the queue
# full.)
my %class_of = (map({ ("high$_" => 'high') } 1 .. 6), low1 => 'low', low2 => 'low', normal1 => 'normal');
$mon->ok("ALTER ROLE app SET resilience.priority = 'high'");
my %clients = map { $_ => connect_to($node, user => 'app') } keys %class_of;
$clients{$_}->ok("SET resilience.requested_priority = $class_of{$_}") for keys %clients;

$mon->ok('SELECT pg_advisory_lock(1)');
my $gate = connect_to($node, user => 'app');
$gate->send('SELECT pg_advisory_xact_lock(1)');
wait_running($mon, 'b', 1);
my $waiting = 0;
for my $name (sort keys %clients)
{
	$clients{$name}->send("INSERT INTO served (who) VALUES ('$class_of{$name}') RETURNING pg_sleep(0.001)");
	wait_waiting($mon, 'b', ++$waiting);
}
$mon->ok('SELECT pg_advisory_unlock(1)');

my $wanted = 450;
my $served = 0;
my $failed = 0;
wait_until(
	"$wanted transactions are served",
	sub {
		for my $name (keys %clients)
		{
			next unless $clients{$name}->done;
			$failed++ if $clients{$name}->result->{error};
			$served++;
			$clients{$name}->send("INSERT INTO served (who) VALUES ('$class_of{$name}') RETURNING pg_sleep(0.001)");
		}
		return $served >= $wanted;
	});
# the rest drains by priority: it is not part of the measurement
my $last = $mon->value('SELECT max(id) FROM served');
$_->result for values %clients, $gate;
is($failed, 0, 'nobody is refused in an unlimited queue');
for my $class (qw(low normal))
{
	my $gap = $mon->value(qq{SELECT max(id - before)
		FROM (SELECT id, lag(id, 1, 0) OVER (ORDER BY id) AS before FROM served WHERE who = '$class') s
		WHERE id <= $last});
	my $count = $mon->value("SELECT count(*) FROM served WHERE who = '$class' AND id <= $last");

	# A hundred, one of the other class that is owed at the same time, and
	# those that are served before this client has sent the next one.
	cmp_ok($gap, '<=', 120, "$class is served once in a hundred transactions");
	cmp_ok($count, '<', $last / 3, "while high has most of them");
	note("$class: $count of $last, at most $gap apart");
}
$_->close for values %clients, $gate;
all_zero($mon, 'after the stream', connections => 0);

# What comes with the connection: lower, never raise
$mon->ok('ALTER ROLE app RESET resilience.priority');
is(connect_refused($node, user => 'app', options => '-c resilience.priority=critical')->{C}, '42501',
	'a plain user cannot raise its priority in PGOPTIONS');
is(connect_refused($node, user => 'app', options => '-c resilience.max_wait=1h')->{C}, '42501',
	'nor the longest wait');
is(connect_refused($node, user => 'app', options => '-c resilience.max_running=9')->{C}, '55P02',
	'what concerns the server is nobody\'s');
my $app = connect_to($node, user => 'app', options => '-c resilience.requested_priority=low');
is($app->value('SELECT resilience.my_priority()'), 'low', 'but lower it');
$app->ok('SET resilience.requested_priority = critical');
is($app->value('SELECT resilience.my_priority()'), 'normal', 'and take that back');
my $super = connect_to($node, options => '-c resilience.priority=critical');
is($super->value('SELECT resilience.my_priority()'), 'critical', 'a superuser may');
$super->close;

# Details of others' work only as pg_stat_activity shows them
$mon->ok(q{GRANT SELECT ON resilience.activity TO reader;
	GRANT EXECUTE ON FUNCTION resilience.session_activity() TO reader});
my $reader = connect_to($node, user => 'reader');
my $look = "SELECT query_id IS NOT NULL FROM resilience.activity WHERE pid = $app->{pid}";
$app->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
is($mon->value($look), 't', 'a superuser sees the query id');
is($reader->value($look), 'f', 'another user does not');
is($reader->value(q{SELECT query_id IS NOT NULL FROM resilience.activity WHERE pid = pg_backend_pid()}), 't',
	'but its own');
$mon->ok('GRANT pg_read_all_stats TO reader');
is($reader->value($look), 't', 'pg_read_all_stats sees all');
$app->cancel;
error_is($app->result, '57014', 'cancelled');

$_->close for ($app, $reader, $mon);
$node->stop;
done_testing();
