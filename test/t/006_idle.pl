# The slot of a transaction that is idle is lent after 100 ms, and taken back
# at its next statement.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time usleep);

srand(20260102);

my $node = preloaded_node('idle');
my $mon = monitor($node);

$mon->ok(q{CREATE TABLE t (id int); GRANT ALL ON t TO app;
SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1,
	max_waiting => 5, max_wait => '10 min')});

my ($idle, $busy, $third) = map { connect_to($node, user => 'app') } 1 .. 3;

# Lent, but not before its time
my $start = time();
$idle->ok('BEGIN; INSERT INTO t VALUES (1)');
$busy->send('SELECT pg_sleep(1000)');
wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $busy->{pid}", 'running');
cmp_ok(time() - $start, '>=', 0.1, 'the slot is not lent for 100 ms');
is(counts($mon, 'b'), '3/1/0', 'then another one runs with it');
is($mon->value("SELECT state FROM resilience.activity WHERE pid = $idle->{pid}"),
	'idle in transaction', 'the view activity shows the lender');

# Taken back at once, over the limit
$idle->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 2);
is(counts($mon, 'b'), '3/2/0', 'it takes the slot back at once');
$third->send('SELECT 1');
wait_waiting($mon, 'b', 1);
$busy->cancel;
$busy->result;
ok(!$third->done(0.3), 'while it is over the limit nobody is let in');
$idle->cancel;
$idle->result;
error_is($third->result, 'no error', 'as soon as it is not, the next one is');
$idle->ok('ROLLBACK');
is(counts($mon, 'b'), '3/0/0', 'the failed transaction has no slot');
is(count_slots($node, $mon, 2), 1, 'there is one slot');

# The lender ends, one way or another: what was lent is not given back again
my %ways = (
	'COMMIT' => sub { $idle->ok('COMMIT') },
	'ROLLBACK' => sub { $idle->ok('ROLLBACK') },
	'ROLLBACK TO' => sub { $idle->ok('ROLLBACK TO s'); $idle->ok('COMMIT') },
	'PREPARE TRANSACTION' =>
	  sub { $idle->ok("INSERT INTO t VALUES (2); PREPARE TRANSACTION 'x'"); $idle->ok("ROLLBACK PREPARED 'x'") },
	'an error' => sub { $idle->query('SELECT 1/0'); $idle->ok('ROLLBACK') },
	'a syntax error' => sub { $idle->query('SELEC'); $idle->ok('ROLLBACK') },
	'a cancel' => sub { $idle->cancel; $idle->ok('COMMIT') },
	'the end of the session' => sub { $idle->close; $idle = connect_to($node, user => 'app') },
	'the death of the client' => sub { $idle->vanish; $idle = connect_to($node, user => 'app') },
	'termination' => sub {
		$mon->ok("SELECT pg_terminate_backend($idle->{pid})");
		$idle->result;
		$idle = connect_to($node, user => 'app');
	});

for my $way (sort keys %ways)
{
	$idle->ok('BEGIN; SELECT 1; SAVEPOINT s; SELECT 2');
	wait_running($mon, 'b', 0);
	$busy->send('SELECT pg_sleep(1000)');
	wait_running($mon, 'b', 1);
	$ways{$way}->();
	$third->send('SELECT 1');
	wait_waiting($mon, 'b', 1);
	ok(!$third->done, "$way while the slot is lent: the slot is given back once");
	$busy->cancel;
	$busy->result;
	error_is($third->result, 'no error', "$way: and is free in the end");
	wait_for_value($mon, q{SELECT connections FROM resilience.bulkheads WHERE name = 'b'}, 3);
}
$_->close for ($idle, $busy, $third);
is(count_slots($node, $mon, 2), 1, 'there is still one slot');
all_zero($mon, 'after lending');

# A cursor's FETCH takes it back, too
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
($idle, $busy) = map { connect_to($node, user => 'app') } 1 .. 2;
$idle->ok('BEGIN; DECLARE c CURSOR FOR SELECT pg_sleep(i * 1000) FROM generate_series(0, 1) i; FETCH 1 FROM c');
wait_running($mon, 'b', 0);
$idle->send('FETCH 1 FROM c');
wait_running($mon, 'b', 1);
error_is($busy->query('SELECT 1'), '53R01', 'FETCH takes the slot back');
$idle->cancel;
$idle->result;
$idle->ok('ROLLBACK');

# ... and a statement that is no query
$idle->ok('BEGIN; SELECT 1');
wait_running($mon, 'b', 0);
$idle->send('COPY t FROM STDIN');
$idle->read_until('GE');
is(counts($mon, 'b'), '2/1/0', 'COPY takes the slot back');
error_is($busy->query('SELECT 1'), '53R01', 'it is taken');
$idle->copy_done;
$idle->result;
$idle->ok('COMMIT');
is(counts($mon, 'b'), '2/0/0', 'and given back');
$_->close for ($idle, $busy);

# The launcher ends, and comes back
$mon->ok(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
($idle, $busy) = map { connect_to($node, user => 'app') } 1 .. 2;
$idle->ok('BEGIN; SELECT 1');
wait_running($mon, 'b', 0);
error_is($busy->query('SELECT 1'), 'no error', 'slots are lent again after the launcher was terminated');
$_->close for ($idle, $busy);
all_zero($mon, 'after the restart of the launcher');

# Many transactions that wake up at about the moment at which their slot is
# lent, in a bulkhead and in the server.
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 10, max_waiting => 100)});
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '1min'});
set_conf($mon, 'resilience.max_running' => 9);
my @sessions = map { connect_to($node, user => 'app') } 1 .. 30;
my %outcomes;
for my $round (1 .. 12)
{
	my @order = sort { rand() <=> 0.5 } @sessions;

	$_->send('BEGIN; SELECT 1') for @sessions;
	# those that wait get their slot from those that are idle
	for (@sessions)
	{
		my $result = $_->result;
		$outcomes{ $result->{error} ? $result->{error}{C} : 'ok' }++;
	}
	for (@order)
	{
		usleep(rand(10000));
		$_->send(rand() < 0.5 ? 'SELECT 1' : 'SELECT 1; COMMIT');
	}
	for (@order)
	{
		$_->result;
		$_->send(rand() < 0.2 ? 'SELECT 1/0' : 'SELECT 1');
	}
	$_->result for @order;
	$_->ok('ROLLBACK') for @order;
}
is(join(' ', keys %outcomes), 'ok', '360 transactions that were idle, all admitted');
$_->close for @sessions;
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
set_conf($mon, 'resilience.max_running' => -1);
is(count_slots($node, $mon, 12), 10, 'no slot of the bulkhead was lost or doubled');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
set_conf($mon, 'resilience.max_running' => 9, 'resilience.max_waiting' => 0);
is(count_slots($node, $mon, 12), 9, 'no slot of the server, either');
all_zero($mon, 'at the end');

done_testing();
