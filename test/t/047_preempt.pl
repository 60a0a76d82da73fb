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
));
my $mon = monitor($node);

$mon->ok("ALTER ROLE $_ SET resilience.priority = $_; GRANT everyone TO $_") for @classes;
$mon->ok(q{CREATE TABLE t (a int, b text); GRANT ALL ON t TO everyone; INSERT INTO t SELECT g FROM generate_series(1, 20000) g;
	ALTER TABLE t SET (parallel_workers = 2); ANALYZE t;
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

# Enough transactions that the tenth of them allows ten victims again
sub refill
{
	my $session = session('critical');

	$session->ok('SELECT 1') for 1 .. 120;
	$session->close;
	sleep 0.3;
	return;
}

sub wait_state
{
	my ($session, $state) = @_;
	return wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $session->{pid}", $state);
}

sub wait_asleep
{
	my ($session) = @_;
	return wait_for_value($mon,
		"SELECT wait_event FROM pg_stat_activity WHERE pid = $session->{pid} AND state = 'active'", 'PgSleep');
}

my ($low, $low2, $normal, $high) = map { session($_) } qw(low low normal high);
my $result;

# The plain case
$low->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
error_is($high->query('SELECT 1'), 'no error', 'a statement of higher priority runs');
$result = $low->result;
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

# Nobody is preempted by an equal or a lower class, nor a superuser's statement
my $super = connect_to($node, options => '-c resilience.priority=low');
$super->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$high->send('SELECT 1');
wait_waiting($mon, undef, 1);
ok(!$high->done(0.4) && !$super->done, 'a superuser is not preempted');
end($super);
error_is($high->result, 'no error', 'the other one waited for it');
$high->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$_->send('SELECT 1') for ($low, $normal, my $high2 = session('high'));
wait_waiting($mon, undef, 3);
ok(!$high->done(0.4), 'nobody is preempted by an equal or lower class');
end($high);
error_is($_->result, 'no error', 'they waited') for ($low, $normal, $high2);
$_->close for ($super, $high2);
all_zero($mon, 'after those who are not preempted');

# Every kind of statement
sub hit
{
	my ($label, $send, %params) = @_;

	refill();
	$send->();
	wait_running($mon, undef, 1);
	$params{wait} ? $params{wait}->() : wait_asleep($low);
	error_is($high->query('SELECT 1'), 'no error', "$label: the other one runs");
	my $got = $params{result} ? $params{result}->() : $low->result;
	error_is($got, '53R04', "$label is preempted");
	$params{after}->($got) if $params{after};
	is($low->query('SELECT 7')->{rows}[0][0], 7, "$label: the session works on");
	all_zero($mon, "after: $label");
	return;
}

$mon->ok(q{CREATE FUNCTION stubborn(seconds float8) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM pg_sleep(seconds);
	EXCEPTION WHEN OTHERS THEN
		RETURN 'others';
	END;
	RETURN 'slept';
END $$;
CREATE FUNCTION very_stubborn(seconds float8) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM pg_sleep(seconds);
	EXCEPTION WHEN query_canceled THEN
		NULL;
	END;
	RETURN 'caught';
END $$;
CREATE FUNCTION slow(i int) RETURNS int LANGUAGE plpgsql PARALLEL SAFE COST 100000 AS $$
BEGIN
	PERFORM pg_sleep(1);
	RETURN i;
END $$});

hit('EXCEPTION WHEN OTHERS', sub { $low->send('SELECT stubborn(1000)') });
hit('EXCEPTION WHEN query_canceled', sub { $low->send('SELECT very_stubborn(1000)') });
hit('a transaction of several statements', sub {
		$low->ok('BEGIN');
		$low->ok('SELECT 1');
		$low->send('SELECT pg_sleep(1000)');
	},
	after => sub {
		is($_[0]->{status}, 'E', 'its transaction is aborted');
		error_is($low->query('SELECT 1'), '25P02', '... as by any error');
		$low->ok('ROLLBACK');
	});
hit('a cursor', sub {
		$low->ok('BEGIN; DECLARE c CURSOR FOR SELECT pg_sleep(CASE WHEN g > 3 THEN 1000 ELSE 0 END) FROM generate_series(1, 10) g');
		$low->ok('FETCH 2 FROM c');
		$low->send('FETCH 2 FROM c');
	},
	after => sub { $low->ok('ROLLBACK') });
hit('a prepared statement', sub {
		$low->ok('PREPARE p AS SELECT pg_sleep(1000)');
		$low->send('EXECUTE p');
	});
hit('EXPLAIN ANALYZE', sub { $low->send('EXPLAIN ANALYZE SELECT pg_sleep(1000)') });
hit('COPY TO', sub { $low->send('COPY (SELECT pg_sleep(1000)) TO STDOUT') });
hit('a statement in a pipeline', sub {
		for my $sql ('SELECT 1', 'SELECT pg_sleep(1000)', 'SELECT 3')
		{
			$low->parse('', $sql);
			$low->bind_portal('', '');
			$low->execute('');
		}
		$low->sync;
		$low->parse('', 'SELECT 4');
		$low->bind_portal('', '');
		$low->execute('');
		$low->sync;
	},
	after => sub {
		is($_[0]->{rows}[0][0], 1, 'the one before it was answered');
		is(scalar @{ $_[0]->{rows} }, 1, '... and the one after it was skipped');
		is($low->result->{rows}[0][0], 4, '... up to the Sync; the next one is not hit');
	});
hit('a parallel query', sub {
		$low->ok('SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2');
		$low->send('SELECT sum(slow(a)) FROM t');
	},
	wait => sub {
		wait_for_value($mon, "SELECT count(*) > 0 FROM pg_stat_activity WHERE leader_pid = $low->{pid}", 't');
	},
	after => sub {
		wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE leader_pid = $low->{pid}", 0);
		pass('its workers are gone');
	});
my $locker = connect_to($node);
$locker->ok('SELECT pg_advisory_lock(1)');
hit('a statement that waits for a lock', sub { $low->send('SELECT pg_advisory_lock(1)') },
	wait => sub {
		wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $low->{pid}", 'Lock');
	});
$locker->close;

# A savepoint is enough to go on
refill();
$low->ok('BEGIN; SELECT 1; SAVEPOINT s');
$low->send('SELECT pg_sleep(1000)');
wait_asleep($low);
$high->send('SELECT 1');
error_is($low->result, '53R04', 'preempted after a savepoint');
$low->ok('ROLLBACK TO s');
is($low->query('SELECT 2')->{rows}[0][0], 2, 'the transaction goes on');
$low->ok('COMMIT');
error_is($high->result, 'no error', 'the other one runs when the slot is lent or free');
all_zero($mon, 'after the savepoint');

# Never: utility statements other than COPY, who waits for the client
$low->send('DO $$ BEGIN PERFORM pg_sleep(1000); END $$');
wait_asleep($low);
$high->send('SELECT 1');
wait_waiting($mon, undef, 1);
ok(!$low->done(0.4), 'DO is not preempted');
end($low);
error_is($high->result, 'no error', 'the other one waited');
$low->send('COPY t FROM STDIN');
$low->read_until('GE');
$high->send('SELECT 1');
wait_waiting($mon, undef, 1);
ok(!$low->done(0.4), 'who waits for its client is not preempted');
$low->copy_done;
error_is($low->result, 'no error', 'and ends as it should');
error_is($high->result, 'no error', 'the other one waited');

# A user's own cancel and time-out stay what they are
$low->send('SELECT pg_sleep(1000)');
wait_asleep($low);
$mon->ok("SELECT pg_cancel_backend($low->{pid})");
error_is($low->result, '57014', 'pg_cancel_backend()');
$low->ok(q{SET statement_timeout = '10ms'});
error_is($low->query('SELECT pg_sleep(1000)'), '57014', 'statement_timeout');
$low->ok('RESET statement_timeout');
error_is($high->query('SELECT 1'), 'no error', 'the next one is not hit');

# The order of the victims: whoever of a set is hit first
set_conf($mon, 'resilience.max_running' => 3, 'resilience.low_priority_cap' => 3, 'resilience.normal_priority_cap' => 3);

sub first_hit
{
	my ($label, $expected, @sessions) = @_;

	refill();
	my @ready = map { $_->{session} } @sessions;
	for (@sessions)
	{
		$_->{session}->ok($_->{before}) if $_->{before};
		$_->{session}->send('SELECT pg_sleep(1000)');
		wait_asleep($_->{session});
	}
	$_->{then}->() for grep { $_->{then} } @sessions;
	$high->send('SELECT pg_sleep(1000)');
	wait_until('one is preempted', sub { grep { $_->done } @ready });
	is(join(' ', map { $_->{name} } grep { $_->{session}->done } @sessions), $expected, $label);
	wait_asleep($high);
	is(scalar(grep { $_->done } @ready), 1, "$label: only one");
	my @over = grep { $_->done } @ready;
	my @alive = grep { !$_->done } @ready;
	end($high, @alive);
	$_->result for @over;
	$_->query('ROLLBACK') for @ready;
	return;
}

my $low3 = session('low');
my @three = map { { name => $_->[0], session => $_->[1] } } ([ 'a', $low ], [ 'b', $low2 ], [ 'c', $low3 ]);
sub with
{
	my ($i, %more) = @_;
	return map { $_ == $i ? { %{ $three[$_] }, %more } : $three[$_] } 0 .. 2;
}
first_hit('the youngest', 'c', @three);
first_hit('the lowest class, not the youngest', 'b',
	{ name => 'a', session => session('normal') }, $three[1], { name => 'c', session => session('normal') });
first_hit('one without a transaction id', 'b', with(2, before => 'BEGIN; INSERT INTO t VALUES (0)'));
my $blocked = monitor($node);
first_hit('one that blocks nobody', 'b',
	with(2, before => 'BEGIN; SELECT FROM t LIMIT 0',
		then => sub {
			$blocked->send('BEGIN; LOCK TABLE t');
			wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $blocked->{pid}", 'Lock');
		}));
$blocked->result;
$blocked->close;
all_zero($mon, 'after the victims in order');

# The rate: ten in a row, then one for each ten transactions
set_conf($mon, 'resilience.max_running' => 1);
refill();
my $before = by_priority('preempted_running_total', 'low');
my $n = 0;
while ($n < 40)
{
	$low->send('SELECT pg_sleep(1000)');
	wait_asleep($low);
	$high->send('SELECT 1');
	last unless wait_until('one of two ends', sub { $low->done(0.02) || ($high->done(0.7) ? 1 : 0) || 'nobody' }) ne 'nobody';
	error_is($low->result, '53R04', 'preempted') if $n == 0;
	$low->result if $n != 0;
	$high->result;
	$n++;
}
# each round is two transactions: 10, and a tenth of 20, and a tenth of that
cmp_ok($n, '>=', 10, 'ten victims in a row');
cmp_ok($n, '<=', 14, 'and hardly more than that');
is(by_priority('preempted_running_total', 'low'), $before + $n, 'all are counted');
ok(!$low->done, 'the next one is spared');
end($low);
error_is($high->result, 'no error', 'the other one waits for it');
all_zero($mon, 'after the rate');

# A bulkhead's queue
refill();
set_conf($mon, 'resilience.max_running' => -1);
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'everyone', max_running => 1,
	max_waiting => 10, max_wait => '10 min')});
$low->send('SELECT pg_sleep(1000)');
wait_asleep($low);
error_is($high->query('SELECT 1'), 'no error', 'bulkhead: the higher class runs');
$result = $low->result;
error_is($result, '53R04', 'bulkhead: the lower one is preempted');
is(detail_of($result, 'bulkhead'), 'b', 'bulkhead: DETAIL names it');
is($mon->value('SELECT preempted_total || $$ $$ || preempted_running_total FROM resilience.bulkheads'), '1 1',
	'bulkhead: counted there');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
all_zero($mon, 'after the bulkhead');

# Observe: counted, logged, spared
set_conf($mon, 'resilience.max_running' => 1, 'resilience.mode' => 'observe');
refill();
$_->close for ($low, $high);
($low, $high) = map { session($_) } qw(low high);
$before = by_priority('preempted_running_total', 'low');
$low->send('SELECT pg_sleep(1000)');
wait_asleep($low);
error_is($high->query('SELECT 1'), 'no error', 'observe: the other one runs beside it');
is(by_priority('preempted_running_total', 'low'), $before, 'a session that is itself observed is no victim');
end($low);
$mon->ok('ALTER SYSTEM RESET resilience.mode');
set_conf($mon, 'resilience.max_running' => 1);
$low->close;
$low = session('low');
$mon->ok(q{ALTER ROLE high SET resilience.mode = observe});
$high->close;
$high = session('high');
$low->send('SELECT pg_sleep(1000)');
wait_asleep($low);
error_is($high->query('SELECT 1'), 'no error', 'observe: the other one runs beside it');
is(by_priority('preempted_running_total', 'low'), $before + 1, 'observe: counted');
ok(!$low->done(0.2), 'observe: not cancelled');
error_is($high->query('SELECT 1'), 'no error', 'observe: once more');
is(by_priority('preempted_running_total', 'low'), $before + 1, 'observe: each statement is counted once');
end($low);
all_zero($mon, 'after observing');

# waiting: nobody who runs is preempted
$mon->ok(q{ALTER ROLE high RESET resilience.mode});
set_conf($mon, 'resilience.preemption' => 'waiting');
sleep 0.2;
$high->close;
$high = session('high');
$low->send('SELECT pg_sleep(1000)');
wait_asleep($low);
$high->send('SELECT 1');
wait_waiting($mon, undef, 1);
ok(!$low->done(0.4), 'preemption = waiting: nobody who runs is preempted');
end($low);
error_is($high->result, 'no error', 'the other one waited');
all_zero($mon, 'at the end');

done_testing();
