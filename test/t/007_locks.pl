# Nobody waits who is in somebody else's way: a waiter that blocks another
# session is let through, and so is every session that holds a transaction id
# or a strong lock.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time);

my $node = preloaded_node('locks', roles => [qw(app other)]);
my $mon = monitor($node);

$mon->ok(q{
CREATE TABLE t (id int);
CREATE TABLE u (id int);
GRANT ALL ON t, u TO app, other;
GRANT SET ON PARAMETER resilience.mode TO app;
SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1,
	max_waiting => 5, max_wait => '10 min')});

my ($holder, $waiter, $third) = map { connect_to($node, user => 'app') } 1 .. 3;
my $ddl = connect_to($node);

sub hold
{
	$holder->send('SELECT pg_sleep(1000)');
	wait_running($mon, 'b', 1);
	return;
}

sub let_go
{
	$holder->cancel;
	$holder->result;
	return;
}

# Parse analysis has taken the waiter's lock on the table
sub ddl_passes
{
	my ($label, $statement, $lock) = @_;

	hold();
	$waiter->send($statement);
	wait_waiting($mon, 'b', 1);
	my $start = time();
	my $result = $ddl->query($lock, 30);
	error_is($result, 'no error', "$label: DDL does not hang behind a waiter");
	note(sprintf('after %.2f s', time() - $start));
	error_is($waiter->result, 'no error', "$label: the waiter was let through");
	ok(!$holder->done, "$label: while the slot was still taken");
	let_go();
	return;
}

ddl_passes('a lock', 'SELECT count(*) FROM t', 'BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; COMMIT');
ddl_passes('ALTER TABLE', 'SELECT count(*) FROM t', 'ALTER TABLE t ADD COLUMN IF NOT EXISTS x int');
ddl_passes('DROP INDEX', 'INSERT INTO t VALUES (1)', 'CREATE INDEX ON t (id)');

# The same when the launcher sleeps: the waiter looks for itself
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
kill 'STOP', $launcher;
ddl_passes('without the launcher', 'SELECT count(*) FROM t', 'BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; COMMIT');
kill 'CONT', $launcher;

# A plain user's DDL that is itself admitted
my $other = connect_to($node, user => 'other');
hold();
$waiter->send('SELECT count(*) FROM t');
wait_waiting($mon, 'b', 1);
error_is($other->query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE', 30), 'no error', 'another role gets its lock');
error_is($waiter->result, 'no error', 'the waiter ran before');

# Now the lock is held: who wants it waits for it as in plain PostgreSQL, not
# yet for a slot
$waiter->send('SELECT count(*) FROM t');
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $waiter->{pid}", 'Lock');
is(counts($mon, 'b'), '3/1/0', 'who waits for a lock does not wait for a slot');
$other->ok('COMMIT');
wait_waiting($mon, 'b', 1);
pass('when it has the lock it does');
let_go();
error_is($waiter->result, 'no error', 'and runs in its turn');

# Only who is in the way is let through
hold();
$waiter->send('SELECT count(*) FROM t');
wait_waiting($mon, 'b', 1);
$third->send('SELECT count(*) FROM u');
wait_waiting($mon, 'b', 2);
$ddl->ok('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; COMMIT');
error_is($waiter->result, 'no error', 'who blocks is let through');
ok(!$third->done(0.5), 'another one waits on');
is(counts($mon, 'b'), '3/1/1', 'as the counts say');
let_go();
error_is($third->result, 'no error', 'until the slot is free');

# Who holds a transaction id does not wait, even if it has no slot yet
sub admitted_at_once
{
	my ($label, $first) = @_;

	hold();
	$waiter->ok('BEGIN; SET LOCAL resilience.mode = off');
	$waiter->ok($first);
	$waiter->ok('SET LOCAL resilience.mode = enforce');
	$waiter->send('SELECT 1');
	my $passed = $waiter->done(5);
	if ($passed)
	{
		error_is($waiter->result, 'no error', "$label does not wait");
	}
	else
	{
		fail("$label does not wait");
		$waiter->cancel;
		$waiter->result;
	}
	$waiter->ok('ROLLBACK');
	let_go();
	return;
}

admitted_at_once('who holds a transaction id', 'SELECT pg_current_xact_id()');
admitted_at_once('who holds a strong lock', 'LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE');
admitted_at_once('who holds an exclusive lock', 'LOCK TABLE t IN ACCESS EXCLUSIVE MODE');

# ... but a weak one and a snapshot are no reason
hold();
$waiter->ok('BEGIN; SET LOCAL resilience.mode = off');
$waiter->ok('SELECT count(*) FROM t');
$waiter->ok('SET LOCAL resilience.mode = enforce');
$waiter->send('SELECT 1');
wait_waiting($mon, 'b', 1);
pass('who has only read waits');
let_go();
error_is($waiter->result, 'no error', 'for its turn');
$waiter->ok('COMMIT');

# While it waits it holds no old snapshot that would keep vacuum from working
hold();
$waiter->send('SELECT count(*) FROM t');
wait_waiting($mon, 'b', 1);
is($mon->value("SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $waiter->{pid}"),
	't', 'a waiter holds no snapshot');
$mon->ok('INSERT INTO t VALUES (7)');
my $rows = $mon->value('SELECT count(*) FROM t');
let_go();
is($waiter->result->{rows}[0][0], $rows, 'it sees what was committed while it waited');

# ... unless its isolation level forbids another one
hold();
$waiter->ok('BEGIN ISOLATION LEVEL REPEATABLE READ');
$waiter->send('SELECT count(*) FROM t');
wait_waiting($mon, 'b', 1);
let_go();
error_is($waiter->result, 'no error', 'REPEATABLE READ waits, too');
$mon->ok('INSERT INTO t VALUES (8)');
is($waiter->value('SELECT count(*) FROM t'), $rows, 'and has one snapshot throughout');
$waiter->ok('COMMIT');

$_->close for ($holder, $waiter, $third);
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
is(count_slots($node, $mon, 2), 1, 'nobody who was let through has left a slot too many');
all_zero($mon, 'at the end');

done_testing();
