# The dimmer: a dimmable feature is served to the share of calls with which
# transactions wait for as long as its target says; all of them when the load
# is gone; by a key, always to the same ones.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node(
	'dimmer',
	conf => qq(
resilience.max_running = 2
resilience.max_wait = '5s'
resilience.queue_target = 0
));
my $mon = monitor($node);
limit_seconds(300);
my $dimmer = q(SELECT dimmer FROM resilience.features WHERE name = 'rec');
my @running;

# A program of pgbench by so many clients, until stop().
sub load
{
	my ($clients, $script) = @_;
	my $file = $node->basedir . '/script.sql';

	open(my $out, '>', $file) or die;
	print $out $script;
	close $out;
	push @running,
	  IPC::Run::start(
		[ 'pgbench', '-n', '-M', 'prepared', '-c', $clients, '-T', 120, '-f', $file,
			'-h', $node->host, '-p', $node->port, '-U', 'app', 'postgres' ],
		'>', \my $output, '2>', \my $errors);
	return;
}

sub stop
{
	$_->kill_kill for @running;
	@running = ();
	$mon->ok(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'));
	return;
}
END { $_->kill_kill for @running; }

# Mean wait of what begins within some seconds, in ms.
sub mean_wait
{
	my ($seconds) = @_;
	my $sql = q(SELECT sum(wait_seconds_total) || ' ' || sum(admitted_total) FROM resilience.load_by_priority);
	my ($wait, $n) = split / /, $mon->value($sql);

	sleep $seconds;
	my ($wait2, $n2) = split / /, $mon->value($sql);
	return ($wait2 - $wait) / ($n2 - $n || 1) * 1000;
}

$mon->ok(q(SELECT resilience.create_feature('rec', dimmable => true, dimmer_target => '40 ms')));
$mon->ok(q(SELECT resilience.create_feature('plain')));
is($mon->value($dimmer), 1, 'served in full at first');
sleep 1.5;
is($mon->value($dimmer), 1, 'and without load');

# Five times as many clients as slots: with all of it each waits for 4 times
# 22 ms, with none of it for 4 times 2 ms.
load(10, q(SELECT pg_sleep(CASE WHEN resilience.feature_enabled('rec') THEN 0.022 ELSE 0.002 END);));
wait_for_value($mon, "SELECT ($dimmer) < 0.9", 't');
pass('dimmed under load');
sleep 12;
my $wait = mean_wait(10);
my $theta = $mon->value($dimmer);
note("mean wait $wait ms, dimmer $theta");
cmp_ok($wait, '>', 15, 'the wait comes near the target');
cmp_ok($wait, '<', 65, 'from above');
cmp_ok($theta, '>', 0.05, 'not all is taken away');
cmp_ok($theta, '<', 0.9, 'but some');
is($mon->value(q(SELECT dimmer FROM resilience.features WHERE name = 'plain')), 1, 'nothing of what is not dimmable');
my ($asked, $no) = split / /,
  $mon->value(q(SELECT evaluations_total || ' ' || degraded_total FROM resilience.features WHERE name = 'rec'));
cmp_ok($no / $asked, '>', 0.1, 'calls are told so');
cmp_ok($no / $asked, '<', 0.95, 'some of them');

# Hold the share: keys always get the same answer, calls without one do not.
# A launcher that is stopped steers nothing.
my $launcher = $mon->value(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'));
wait_until('the share is somewhere in the middle', sub {
	my $value = $mon->value($dimmer);
	return 0 unless $value > 0.15 && $value < 0.7;
	kill 'STOP', $launcher;
	sleep 0.2;
	$value = $mon->value($dimmer);
	return 1 if $value > 0.15 && $value < 0.7;
	kill 'CONT', $launcher;
	return 0;
});
stop();
$theta = $mon->value($dimmer);
my $super = connect_to($node, user => $ResilienceTest::superuser);
$super->ok(q(CREATE TABLE served AS SELECT i FROM generate_series(1, 1000000) i WHERE resilience.feature_enabled('rec', 'user ' || i)));
my $count = $super->value('SELECT count(*) FROM served');
cmp_ok(abs($count / 1e6 - $theta), '<', 0.005, "of a million keys as many as the share says: $count at $theta");
is( $super->value(
		q(SELECT count(*) FROM generate_series(1, 1000000) k(i) LEFT JOIN served s USING (i)
		WHERE resilience.feature_enabled('rec', 'user ' || k.i) <> (s.i IS NOT NULL))),
	0, 'and always the same ones');
is($super->value(q(SELECT count(DISTINCT resilience.feature_enabled('rec', 'me')) FROM generate_series(1, 10000))),
	1, 'one key, one answer');
my $calls = $super->value(q(SELECT count(*) FROM generate_series(1, 100000) i WHERE resilience.feature_enabled(left('rec' || i, 3))));
cmp_ok(abs($calls / 1e5 - $theta), '<', 0.02, "without a key as many: $calls of 100000");
$mon->ok(q(SELECT resilience.create_feature('rec2', dimmable => true)));
is($super->value(q(SELECT count(*) FROM generate_series(1, 1000) i WHERE resilience.feature_enabled('rec2', i::text))),
	1000, 'a new feature begins with all');

# The share rises when the load is gone, and whoever was served still is
kill 'CONT', $launcher;
wait_until('the share has risen', sub { $mon->value($dimmer) >= $theta + 0.05; });
is( $super->value(q(SELECT count(*) FROM served WHERE NOT resilience.feature_enabled('rec', 'user ' || i))),
	0, 'with a greater share all that were served are');
wait_for_value($mon, $dimmer, '1');
pass('all of it again when the load is gone');
my $events = q(SELECT string_agg(to_state, ' ' ORDER BY id) FROM resilience.events WHERE kind = 'feature' AND object = 'rec' AND to_state IN ('on', 'dimmed'));
wait_until('the event that it is over', sub { $mon->value($events) =~ /on$/; });
is($mon->value($events), 'dimmed on', 'beginning and end are events, steps are not');
like(
	$mon->value(q(SELECT detail FROM resilience.events WHERE kind = 'feature' AND to_state = 'dimmed')),
	qr/"wait_ms": [0-9.]+/,
	'with numbers');

# A queue in which nothing moves is load, too
$mon->ok(q(ALTER ROLE app SET resilience.max_wait = '10min'));
my @sleepers = map { connect_to($node, user => 'app') } 1 .. 4;
$_->send('SELECT pg_sleep(1000)') for @sleepers;
wait_waiting($mon, undef, 2);
wait_for_value($mon, "SELECT ($dimmer) < 0.5", 't');
pass('waits that have not ended count');

# A launcher that is started again goes on from there
my $before = $mon->value($dimmer);
kill 'TERM', $launcher;
wait_until('another launcher', sub {
	my $pid = $mon->value(q(SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'resilience launcher'));
	return 0 if !$pid || $pid == $launcher;
	$launcher = $pid;
});
sleep 1;
cmp_ok($mon->value($dimmer), '<=', $before, 'a launcher that is started again goes on from there');

# After a crash of all there is no load
kill 'KILL', $launcher;
wait_until('the server is there again', sub { eval { monitor($node)->value('SELECT 1'); } });
$mon = monitor($node);
wait_for_value($mon, $dimmer, '1');
pass('after a crash it is served in full');
$super = connect_to($node, user => $ResilienceTest::superuser);

# In mode observe nothing is taken away
set_conf($mon, 'resilience.mode' => 'observe');
load(10, q(SELECT pg_sleep(CASE WHEN resilience.feature_enabled('rec') THEN 0.022 ELSE 0.002 END);));
wait_running($mon, undef, 8);
sleep 3;
is($mon->value($dimmer), 1, 'nothing is dimmed in mode observe');
stop();
set_conf($mon, 'resilience.mode' => 'enforce', 'resilience.max_running' => -1);

# Without a limit it is the run queue that counts
my $cores = qx(getconf _NPROCESSORS_ONLN) || 1;
SKIP:
{
	skip 'too many cores to keep busy', 2 if $cores > 8;
	$mon->ok(q(SELECT resilience.alter_feature('rec', dimmer_target => '5 ms')));
	load(6 * $cores, q(SELECT count(*) FROM generate_series(1, 50000);));
	wait_for_value($mon, "SELECT ($dimmer) < 0.9", 't');
	pass('without a limit it follows the run queue');
	stop();
	wait_for_value($mon, $dimmer, '1');
	pass('and back');
}

# No longer dimmable: all of it at once
set_conf($mon, 'resilience.max_running' => 2);
$mon->ok(q(SELECT resilience.alter_feature('rec', dimmer_target => '40 ms')));
load(10, q(SELECT pg_sleep(CASE WHEN resilience.feature_enabled('rec') THEN 0.022 ELSE 0.002 END);));
wait_for_value($mon, "SELECT ($dimmer) < 0.9", 't');
$mon->ok(q(SELECT resilience.alter_feature('rec', dimmable => false)));
is($mon->value($dimmer), 1, 'a feature that is not dimmable any more is served in full');
stop();

done_testing();
