# Waiting for a slot ends: with the slot, the time limit, the client's own
# deadline, a cancel, statement_timeout, termination, the client's death, the
# postmaster's.  And nothing is left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('waiting', roles => [qw(app urgent)]);
my $mon = monitor($node);

$mon->ok(q{
CREATE TABLE t (id int);
GRANT ALL ON t TO app;
SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1,
	max_waiting => 2, max_wait => '10 min')});

sub total
{
	my ($column) = @_;
	return $mon->value("SELECT ${column}_total FROM resilience.bulkheads WHERE name = 'b'");
}

sub app { return connect_to($node, user => 'app', @_) }

# The holder of the only slot, and one that waits for it
my $holder = app();
my $waiter = app();
my $third = app();

sub hold
{
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, 'b', 1);
	return;
}

sub let_go
{
	$holder->cancel;
	error_is($holder->result, '57014', 'the holder ends');
	return;
}

sub wait_in_queue
{
	my ($sql) = @_;

	$waiter->send($sql // 'SELECT 1');
	wait_waiting($mon, 'b', 1);
	return;
}

sub is_clean
{
	my ($label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_running($mon, 'b', 0);
	error_is($third->query('SELECT 1'), 'no error', "$label: the slot is free");
	return like(counts($mon, 'b'), qr{/0/0$}, "$label: nothing is counted");
}

# The slot comes
hold();
wait_in_queue();
ok(!$waiter->done(0.2), 'it waits');
is(counts($mon, 'b'), '3/1/1', 'one runs, one waits');
my $event = $mon->value("SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity WHERE pid = $waiter->{pid}");
is($event, $node->pg_version >= 17 ? 'Extension ResilienceAdmission' : 'Extension Extension', 'pg_stat_activity says so');
is($mon->value("SELECT state || (wait_start IS NOT NULL)::text || (run_start IS NULL)::text || bulkheads::text FROM resilience.activity WHERE pid = $waiter->{pid}"),
	'waitingtruetrue{b}', 'the view activity, too');
let_go();
error_is($waiter->result, 'no error', 'it runs when the slot is free');
is_clean('handed over');
cmp_ok(total('wait_seconds'), '>', 0.19, 'the wait is counted');

# The queue is full
hold();
wait_in_queue();
my $fourth = app();
$fourth->send('SELECT 1');
wait_waiting($mon, 'b', 2);
my $before = total('refused_statements');
my $result = $third->query('SELECT 1');
error_is($result, '53R01', 'the queue of a bulkhead is full');
is(detail_of($result, 'waiting'), 2, 'its length is told');
is(detail_of($result, 'started'), 'false', 'nothing was started');
like(detail_of($result, 'retry_after_ms') // '', qr/^[1-9]\d*$/, 'and when to come again');
ok($result->{error}{H}, 'and what to do');
is(total('refused_statements'), $before + 1, 'it is counted');

# Cancel in the queue; the third gets in
$waiter->cancel;
error_is($waiter->result, '57014', 'a cancelled waiter');
wait_waiting($mon, 'b', 1);
error_is($waiter->query('BEGIN'), 'no error', 'the session goes on');
$waiter->ok('ROLLBACK');
let_go();
error_is($fourth->result, 'no error', 'who waited behind it gets the slot');
is_clean('cancelled in the queue');
$fourth->close;

# Cancel by another session, in a transaction block
hold();
$waiter->ok('BEGIN');
wait_in_queue();
$mon->ok("SELECT pg_cancel_backend($waiter->{pid})");
error_is($waiter->result, '57014', 'pg_cancel_backend() of a waiter');
error_is($waiter->query('SELECT 1'), '25P02', 'its transaction has failed');
$waiter->ok('ROLLBACK');
let_go();
is_clean('cancelled by another session');

# statement_timeout
hold();
$waiter->ok(q(SET statement_timeout = '300ms'));
my $start = time();
$result = $waiter->query('SELECT 1');
error_is($result, '57014', 'statement_timeout in the queue');
like($result->{error}{M}, qr/statement timeout/, 'its message');
cmp_ok(time() - $start, '<', 20, 'it does not wait on');
$waiter->ok('RESET statement_timeout');
let_go();
is_clean('statement_timeout');

# max_wait of the bulkhead
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '300 ms')});
hold();
$before = total('timed_out');
$start = time();
$result = $waiter->query('SELECT 1');
error_is($result, '53R03', 'waited as long as max_wait allows');
cmp_ok(time() - $start, '>=', 0.3, 'not shorter');
cmp_ok(time() - $start, '<', 20, 'not longer');
like($result->{error}{M}, qr/"b"/, 'the error names the bulkhead');
is(detail_of($result, 'started'), 'false', 'nothing was started');
is(total('timed_out'), $before + 1, 'it is counted');
is($waiter->value('SHOW work_mem') ne '', 1, 'the session goes on');
let_go();
is_clean('max_wait');

# ... of nothing: nobody waits
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '0')});
hold();
error_is($waiter->query('SELECT 1'), '53R03', 'max_wait 0 does not wait');
let_go();
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '10 min')});

# The client's deadline: it does not wait longer, although it might
hold();
$waiter->ok(q(SET resilience.deadline = '300ms'));
$start = time();
error_is($waiter->query('SELECT 1'), '53R03', 'waited as long as the deadline allows');
cmp_ok(time() - $start, '<', 20, 'not as long as max_wait');
let_go();
is_clean('deadline');

# ... and is refused at once when it is known that the time will not do:
# slots have come every 0.4 s or so
for (1 .. 10)
{
	hold();
	$third->send('SELECT 1');
	wait_waiting($mon, 'b', 1);
	sleep 0.4;
	$holder->cancel;
	$holder->result;
	error_is($third->result, 'no error', 'a hand-over');
}
hold();
$before = total('timed_out');
$waiter->ok(q(SET resilience.deadline = '20ms'));
$waiter->send('SELECT 1');
$result = $waiter->result;
error_is($result, '53R03', 'what would miss the deadline is refused');
cmp_ok(detail_of($result, 'retry_after_ms'), '>=', 40, 'there is an idea of when a slot comes');
is($mon->value("SELECT wait_start IS NULL FROM resilience.activity WHERE pid = $waiter->{pid}"), 't', 'it does not wait');
is(total('timed_out'), $before + 1, 'it is counted');
# with a deadline so long that a real wait for it would be seen
my $deadline = int(detail_of($result, 'retry_after_ms') * 0.8);
$waiter->ok("SET resilience.deadline = '${deadline}ms'");
my $spent = time();
error_is($waiter->query('SELECT 1'), '53R03', "a deadline of $deadline ms");
cmp_ok(time() - $spent, '<', $deadline / 1000, 'is refused at once, not when the time is over');
$waiter->ok(q(SET resilience.deadline = '1h'));
wait_in_queue();
let_go();
error_is($waiter->result, 'no error', 'who has the time waits');
$waiter->ok('RESET resilience.deadline');
is_clean('deadlines');

# pg_terminate_backend() while waiting and while running
hold();
wait_in_queue();
$mon->ok("SELECT pg_terminate_backend($waiter->{pid})");
$result = $waiter->result;
error_is($result, '57P01', 'terminated while waiting');
wait_waiting($mon, 'b', 0);
let_go();
is_clean('terminated while waiting');
$waiter = app();
hold();
wait_in_queue();
$mon->ok("SELECT pg_terminate_backend($holder->{pid})");
error_is($holder->result, '57P01', 'terminated while running');
error_is($waiter->result, 'no error', 'the waiter gets its slot');
$holder = app();
is_clean('terminated while running');
$waiter->ok('BEGIN; SELECT 1; INSERT INTO t VALUES (1)');
$mon->ok("SELECT pg_terminate_backend($waiter->{pid})");
$waiter->result;
is_clean('terminated while idle in transaction');
$waiter = app();
$waiter->ok(q(SET idle_in_transaction_session_timeout = '50ms'; BEGIN; SELECT 1));
error_is($waiter->result, '25P03', 'idle_in_transaction_session_timeout');
is_clean('idle_in_transaction_session_timeout');
$waiter = app();

# The client goes away while it waits: noticed by a server that looks, at the
# end of the wait otherwise
$waiter->ok(q(SET client_connection_check_interval = '50ms'));
hold();
wait_in_queue();
$waiter->vanish;
wait_waiting($mon, 'b', 0);
wait_for_value($mon, q{SELECT connections FROM resilience.bulkheads WHERE name = 'b'}, 2);
pass('a client that is gone waits no longer');
let_go();
is_clean('client gone while waiting');
$waiter = app();
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '500 ms')});
hold();
wait_in_queue('SELECT 1');
$waiter->vanish;
wait_for_value($mon, q{SELECT connections FROM resilience.bulkheads WHERE name = 'b'}, 2);
wait_waiting($mon, 'b', 0);
let_go();
is_clean('client gone, noticed after max_wait');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '10 min')});
$waiter = app();

# ... while it runs
$holder->ok(q(SET client_connection_check_interval = '50ms'));
hold();
wait_in_queue();
$holder->vanish;
error_is($waiter->result, 'no error', 'the slot of a client that is gone is handed over');
$holder = app();
is_clean('client gone while running');

# A waiter that lost its bulkhead, or whose bulkhead has grown
hold();
wait_in_queue('SELECT pg_sleep(1000)');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 2)});
wait_running($mon, 'b', 2);
is(counts($mon, 'b'), '3/2/0', 'a bulkhead that has grown lets the waiter in');
$waiter->cancel;
$waiter->result;
let_go();
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 1)});
is_clean('alter_bulkhead');
hold();
wait_in_queue();
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
error_is($waiter->result, 'no error', 'a waiter runs when its bulkhead is dropped');
let_go();
all_zero($mon, 'without bulkheads');

# The server-wide limit has its own numbers and code
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 1);
$waiter->ok('BEGIN');
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
is(counts($mon), '1/0', 'one runs in the server');
$result = $waiter->query('SELECT 1');
error_is($result, '53R03', 'the server-wide limit: waited resilience.max_wait');
like($result->{error}{M}, qr/resilience\.max_running/, 'named by its setting');
$waiter->ok('ROLLBACK');
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '10min'});
$_->close for ($waiter, $third);
$waiter = app();
$third = app();
$waiter->send('SELECT 1');
wait_waiting($mon, undef, 1);
$before = $mon->value(q{SELECT shed_total FROM resilience.load_by_priority WHERE priority = 'normal'});
$result = $third->query('SELECT 1');
error_is($result, '53R02', 'the queue of the server is full');
is(detail_of($result, 'limit') . '/' . detail_of($result, 'running') . '/' . detail_of($result, 'waiting'),
	'1/1/1', 'with its numbers');
is($mon->value(q{SELECT shed_total FROM resilience.load_by_priority WHERE priority = 'normal'}),
	$before + 1, 'counted as shed');
is($mon->value(q{SELECT waiting FROM resilience.load_by_priority WHERE priority = 'normal'}), 1, 'one of its priority waits');

# A plain user may change its deadline, not the longest wait
error_is($third->query(q(SET resilience.max_wait = '1h')), '42501', 'max_wait is not for everybody');
$waiter->cancel;
error_is($waiter->result, '57014', 'cancelled in the queue of the server');
$waiter->send('SELECT 1');
wait_waiting($mon, undef, 1);
set_conf($mon, 'resilience.max_running' => -1);
error_is($waiter->result, 'no error', 'a waiter runs when the limit is taken away');
$holder->cancel;
$holder->result;
all_zero($mon, 'of the server-wide limit');

# A session in two bulkheads: what it holds of the first it gives back when
# it is cancelled in the second
$mon->ok(q{
SELECT resilience.create_bulkhead('narrow', role_name => 'app', application_name => 'n%',
	max_running => 1, max_waiting => 5, max_wait => '10 min');
SELECT resilience.create_bulkhead('wide', role_name => 'app', max_running => 1,
	max_waiting => 5, max_wait => '10 min')});
my $narrow = app(application_name => 'narrow');
my $narrow2 = app(application_name => 'narrow');
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, 'wide', 1);
$narrow->send('SELECT 1');
wait_waiting($mon, 'wide', 1);
$narrow2->send('SELECT 1');
wait_waiting($mon, 'narrow', 1);
pass('it holds the narrow one while it waits for the wide one');
$narrow->cancel;
error_is($narrow->result, '57014', 'it is cancelled');
wait_waiting($mon, 'wide', 1);
is($mon->value(q{SELECT waiting FROM resilience.bulkheads WHERE name = 'narrow'}), 0, 'the next one has the narrow slot');
$mon->ok("SELECT pg_terminate_backend($narrow2->{pid})");
$narrow2->result;
$narrow->send('SELECT 1');
wait_waiting($mon, 'wide', 1);
is($mon->value(q{SELECT waiting FROM resilience.bulkheads WHERE name = 'narrow'}), 0, 'it is given back by one that is terminated');
$holder->cancel;
$holder->result;
error_is($narrow->result, 'no error', 'both slots in the end');

# Timed out in the second, too
$mon->ok(q{SELECT resilience.alter_bulkhead('wide', max_wait => '100 ms')});
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, 'wide', 1);
error_is($narrow->query('SELECT 1'), '53R03', 'timed out in the second');
error_is($narrow->query('SELECT 1'), '53R03', 'and again, not full in the first');
$holder->cancel;
$holder->result;
$_->close for ($holder, $waiter, $third, $narrow);
is(count_slots($node, $mon, 2, application_name => 'narrow'), 1, 'no slot is lost');
all_zero($mon, 'of two bulkheads');

# Postmaster death: nobody waits for a server that is gone
$mon->ok(q{SELECT resilience.alter_bulkhead('wide', max_wait => '10 min')});
$holder = app();
$waiter = app();
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, 'wide', 1);
$waiter->send('SELECT 1');
wait_waiting($mon, 'wide', 1);
ok(kill_postmaster($node, $mon), 'waiters and the launcher exit when the postmaster dies');
$_->vanish for ($holder, $waiter, $mon);
$node->start;
$mon = monitor($node);
is($mon->value(q{SELECT count(*) FROM resilience.bulkheads WHERE running = 0 AND waiting = 0}), 2,
	'limits are back after the restart, counts at zero');
all_zero($mon, 'after the restart');

done_testing();
