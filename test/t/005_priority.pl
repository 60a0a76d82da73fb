# Who is served first, who is pushed out, who is shed, and how much of a lower
# class may run beside a higher one.

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
my $node = preloaded_node('priority', roles => [ @classes, 'everyone' ], conf => q(
resilience.max_running = 1
resilience.max_wait = 10min
));
my $mon = monitor($node);

$mon->ok("ALTER ROLE $_ SET resilience.priority = $_; GRANT everyone TO $_") for @classes;
$mon->ok(q{CREATE TABLE served (id serial, who text);
	GRANT ALL ON served TO everyone; GRANT ALL ON SEQUENCE served_id_seq TO everyone});

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

is(session($_)->value('SELECT resilience.my_priority()'), $_, "a session of priority $_") for @classes;

my $holder = session('normal');

# Everybody comes in the wrong order.  undef stands for the server's queue.
for my $pool (undef, 'b')
{
	my $where = defined $pool ? 'a bulkhead' : 'the server';
	my %waiters;

	if ($pool)
	{
		set_conf($mon, 'resilience.max_running' => -1);
		$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'everyone', max_running => 1,
			max_waiting => 100, max_wait => '10 min')});
	}
	$mon->ok('TRUNCATE served');
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $pool, 1);
	my $n = 0;
	for my $round (1, 2)
	{
		for my $class (@classes)
		{
			my $waiter = $waiters{"$class$round"} = session($class);
			$waiter->send("INSERT INTO served (who) VALUES ('$class$round')");
			wait_waiting($mon, $pool, ++$n);
		}
	}
	is(join(' ', map { by_priority('waiting', $_) } @classes), $pool ? '0 0 0 0' : '2 2 2 2',
		"$where: waiting by priority");
	end($holder);
	error_is($_->result, 'no error', "$where: all are served") for values %waiters;
	is($mon->value(q{SELECT string_agg(who, ' ' ORDER BY id) FROM served}),
		'critical1 critical2 high1 high2 normal1 normal2 low1 low2',
		"$where: by priority, and by arrival within a class");
	$_->close for values %waiters;
	all_zero($mon, "of $where", connections => $pool ? 1 : 0);
}

# The queue is full: the youngest of the lowest class goes
sub preempts
{
	my ($pool, $code_full) = @_;
	my $where = defined $pool ? 'a bulkhead' : 'the server';
	my ($low1, $low2, $normal, $high, $late) = map { session($_) } qw(low low normal high normal);
	my $before = by_priority('preempted_total', 'low');

	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $pool, 1);
	$low1->send('SELECT 1');
	wait_waiting($mon, $pool, 1);
	$low2->send('SELECT 1');
	wait_waiting($mon, $pool, 2);
	$high->send('SELECT 1');
	my $result = $low2->result;
	error_is($result, '53R04', "$where: the youngest of the lowest class is preempted");
	is(detail_of($result, 'started'), 'false', "$where: it had not started");
	ok(!$low1->done(0.1), "$where: an older one stays");
	$normal->send('SELECT 1');
	error_is($low1->result, '53R04', "$where: then the other one");
	error_is($late->query('SELECT 1'), $code_full, "$where: nobody is pushed out by an equal");
	error_is($low1->query('SELECT 1'), $code_full, "$where: ... or a lower one");
	wait_waiting($mon, $pool, 2);
	if ($pool)
	{
		is($mon->value(q{SELECT preempted_total FROM resilience.bulkheads WHERE name = 'b'}), 2, 'both are counted');
	}
	else
	{
		is(by_priority('preempted_total', 'low'), $before + 2, 'both are counted');
	}
	end($holder);
	error_is($_->result, 'no error', "$where: those who stayed are served") for ($high, $normal);

	# switched off
	set_conf($mon, 'resilience.preemption' => 'off');
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, $pool, 1);
	$low1->send('SELECT 1');
	wait_waiting($mon, $pool, 1);
	$low2->send('SELECT 1');
	wait_waiting($mon, $pool, 2);
	# the launcher publishes the setting soon, but when?
	my $critical = session('critical');
	wait_until('preemption is off', sub {
		$critical->send('SELECT 1');
		my $pushed = wait_until('somebody goes', sub { $critical->done ? 'critical' : (grep { $_->done } ($low1, $low2)) ? 'low' : '' });
		if ($pushed eq 'critical')
		{
			error_is($critical->result, $code_full, "$where: with preemption off the queue is full");
			return 1;
		}
		end($critical);
		for (grep { $_->done } ($low1, $low2))
		{
			$_->result;
			$_->send('SELECT 1');
		}
		wait_waiting($mon, $pool, 2);
		return 0;
	});
	$critical->close;
	ok(!$low1->done && !$low2->done, "$where: and nobody is pushed out");
	end($holder);
	error_is($_->result, 'no error', "$where: low priority is served") for ($low1, $low2);
	set_conf($mon, 'resilience.preemption' => 'waiting');
	$_->close for ($low1, $low2, $normal, $high, $late);
	all_zero($mon, "after preemption in $where", connections => $pool ? 1 : 0);
	return;
}

$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 2)});
preempts('b', '53R01');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 2);
preempts(undef, '53R02');
set_conf($mon, 'resilience.max_waiting' => 100);

# The lever that needs no free connection: edit and reload
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'low', max_running => 1,
	max_waiting => 100, max_wait => '10 min')});
set_conf($mon, 'resilience.max_running' => 2);
my ($low, $normal, $high) = map { session($_) } qw(low normal high);
my ($runs, $runs2) = (session('high'), session('low'));
$runs->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$mon->ok('SELECT pg_advisory_lock(1)');
$runs2->ok('BEGIN; SELECT 1');
$runs2->send('SELECT pg_advisory_xact_lock_shared(1)');
wait_running($mon, undef, 2);
$low->send('SELECT 1');
wait_waiting($mon, 'b', 1);
$normal->send('SELECT 1');
wait_waiting($mon, undef, 1);
my $shed = by_priority('shed_total', 'low') + by_priority('shed_total', 'normal');

$mon->ok('ALTER SYSTEM RESET resilience.minimum_priority');
$node->append_conf('postgresql.conf', "resilience.minimum_priority = high\n");
$node->reload;
for ($low, $normal)
{
	my $result = $_->result;
	error_is($result, '53R02', 'a waiter below the minimum is shed');
	is(detail_of($result, 'minimum_priority'), 'high', 'and told why');
}
is(by_priority('shed_total', 'low') + by_priority('shed_total', 'normal'), $shed + 2, 'both are counted');
is($mon->value('SELECT min_admitted_priority FROM resilience.load_shedder'), 'high', 'the view shows the minimum');
error_is($normal->query('SELECT 1'), '53R02', 'newcomers are shed, too');
error_is($normal->query('EXPLAIN SELECT 1'), 'no error', 'EXPLAIN passes');
error_is($normal->query('SET work_mem = 1024'), 'no error', 'SET passes');
end($runs);
error_is($high->query('SELECT 1'), 'no error', 'high priority is served');
$mon->ok('SELECT pg_advisory_unlock(1)');
error_is($runs2->result, 'no error', 'what was admitted goes on');
error_is($runs2->query('SELECT 1'), 'no error', 'to its end');
$runs2->ok('COMMIT');
error_is($runs2->query('SELECT 1'), '53R02', 'but not again');
my $super = connect_to($node, options => '-c resilience.priority=low');
is($super->value('SELECT resilience.my_priority()'), 'low', 'a superuser of low priority');
$super->close;
pass('is not shed');
$node->append_conf('postgresql.conf', "resilience.minimum_priority = low\n");
$node->reload;
wait_for_value($mon, 'SELECT min_admitted_priority FROM resilience.load_shedder', 'low');
error_is($_->query('SELECT 1'), 'no error', 'all are served again') for ($low, $normal);
$_->close for ($low, $normal, $high, $runs, $runs2, $holder);
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
all_zero($mon, 'after the lever');

# The caps.  How many of a class run while one of another class does?  And
# all of them once that one has been quiet for a while.
sub capped
{
	my ($class, $beside, $expected, $label) = @_;
	my $busy = session($beside);
	my @sessions = map { session($class) } 1 .. 8;

	$busy->send('SELECT pg_sleep(1000)');
	wait_for_value($mon, "SELECT running FROM resilience.load_by_priority WHERE priority = '$beside'", 1);
	$_->send('SELECT pg_sleep(1000)') for @sessions;
	wait_for_value($mon,
		"SELECT running + waiting FROM resilience.load_by_priority WHERE priority = '$class'", 8);
	# long enough for a cap that does not hold to show it
	sleep 0.3;
	is(by_priority('running', $class), $expected, $label);
	end($busy);
	wait_for_value($mon, "SELECT running FROM resilience.load_by_priority WHERE priority = '$class'", 8);
	pass("$label: all of them when the other class is quiet");
	end(@sessions);
	$_->close for ($busy, @sessions);
	all_zero($mon, "after: $label");
	return;
}

set_conf($mon, 'resilience.max_running' => 8);
capped('low', 'high', 2, 'low beside high: a quarter of the limit');
capped('low', 'normal', 2, 'low beside normal: a quarter of the limit');
capped('normal', 'critical', 6, 'normal beside critical: three quarters of the limit');
set_conf($mon, 'resilience.low_priority_cap' => 1, 'resilience.normal_priority_cap' => 3);
capped('low', 'critical', 1, 'resilience.low_priority_cap = 1');
capped('normal', 'high', 3, 'resilience.normal_priority_cap = 3');
set_conf($mon, 'resilience.max_running' => -1);
capped('low', 'high', 1, 'a cap without a limit');
# the limit leaves room for seven beside one, no cap holds them
set_conf($mon, 'resilience.max_running' => 20);
capped('high', 'low', 8, 'a higher class has no cap');

# Nobody waits for ever: who has waited five seconds rises
set_conf($mon, 'resilience.max_running' => 1);
$mon->ok('TRUNCATE served');
($low, $normal, $holder) = map { session($_) } qw(low normal normal);
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$low->send(q{INSERT INTO served (who) VALUES ('low')});
wait_waiting($mon, undef, 1);
sleep 5.2;
$normal->send(q{INSERT INTO served (who) VALUES ('normal')});
wait_waiting($mon, undef, 2);
end($holder);
error_is($_->result, 'no error', 'both are served') for ($low, $normal);
is($mon->value(q{SELECT string_agg(who, ' ' ORDER BY id) FROM served}), 'low normal',
	'low priority that waited for 5 s is as good as normal priority');
$_->close for ($low, $normal, $holder);
all_zero($mon, 'at the end');

done_testing();
