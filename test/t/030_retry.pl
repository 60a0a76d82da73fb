# Retries among several sessions: real conflicts, what a backoff holds on to,
# how it ends, the budget that all share.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time);

my $node = preloaded_node('retry', roles => [qw(app other)]);
my $mon = monitor($node);

$mon->ok(q{
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0), (2, 0);
CREATE SEQUENCE calls;
CREATE SEQUENCE memory;
CREATE FUNCTION fail(sqlstate text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('calls');
	RAISE EXCEPTION USING MESSAGE = 'on purpose', ERRCODE = sqlstate;
END $$;
GRANT ALL ON t TO app, other;
GRANT ALL ON SEQUENCE calls, memory TO app, other;
GRANT EXECUTE ON FUNCTION resilience.retry, resilience.retry_query TO app, other;
GRANT EXECUTE ON PROCEDURE resilience.retry_transaction TO app, other;
GRANT pg_read_all_stats TO app});

my ($a, $b) = map { connect_to($node, user => 'app') } 1 .. 2;
my $long = q{base_delay => '1 h', max_delay => '1 h', jitter => 'none'};
my $short = q{base_delay => '1 ms', budget => NULL};

# attempts and calls that ended so
sub ended
{
	my ($sqlstate, $result) = @_;

	return $mon->value("SELECT coalesce((SELECT format('%s/%s', attempts_total, calls_total) FROM resilience.retry_stats"
		  . " WHERE sqlstate = '$sqlstate' AND result = '$result'), '0/0')");
}

sub restart_counts
{
	$mon->ok('SELECT resilience.reset_statistics()');
	return $mon->ok(q{SELECT setval('calls', 1, false)});
}

sub wait_lock
{
	my ($client) = @_;

	return wait_for_value($mon, "SELECT count(*) FROM pg_locks WHERE pid = $client->{pid} AND NOT granted", 1);
}

# it sleeps, between two attempts
sub wait_backoff
{
	my ($client) = @_;

	return wait_for_value($mon, "SELECT state = 'waiting' FROM resilience.activity WHERE pid = $client->{pid}", 't');
}

sub values_are
{
	my ($expected, $label) = @_;

	return is($mon->value(q{SELECT string_agg(v::text, ' ' ORDER BY id) FROM t}), $expected, $label);
}

#
# Serialization failures between two sessions
#
restart_counts();
$mon->ok('SELECT pg_advisory_lock(1)');
$a->send(qq{CALL resilience.retry_transaction('SELECT sum(v) FROM t; SELECT pg_advisory_xact_lock(1);
	UPDATE t SET v = v + 1 WHERE id = 1', isolation => 'serializable', $short)});
wait_lock($a);
$b->ok('UPDATE t SET v = v + 10 WHERE id = 1');
$mon->ok('SELECT pg_advisory_unlock(1)');
error_is($a->result, 'no error', 'a row that was updated meanwhile: retried');
values_are('11 0', 'with a new snapshot');
is(ended('40001', 'success_retried'), '2/1', 'in two attempts');

# The same in retry() is told from the rest: it cannot help
$mon->ok('SELECT pg_advisory_lock(1)');
$a->ok('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(v) FROM t');
$a->send(qq{SELECT resilience.retry('SELECT pg_advisory_xact_lock(1); UPDATE t SET v = v + 1 WHERE id = 1', $short)});
wait_lock($a);
$b->ok('UPDATE t SET v = v + 10 WHERE id = 1');
$mon->ok('SELECT pg_advisory_unlock(1)');
my $result = $a->result;
error_is($result, '40001', 'retry() at such an isolation level does not retry');
like($result->{error}{H}, qr/Not retried: .*snapshot.*retry_transaction/, 'and says what to do');
$a->ok('ROLLBACK');
is(ended('40001', 'not_retryable'), '1/1', 'after one attempt');

# Write skew is found when the second one commits
for my $retries (0, 3)
{
	$mon->ok('UPDATE t SET v = 0');
	restart_counts();
	$_->ok(q{SET default_transaction_isolation = 'serializable'}) for ($a, $b);
	$mon->ok('SELECT pg_advisory_lock(1)');
	$a->send(qq{CALL resilience.retry_transaction('UPDATE t SET v = (SELECT sum(v) FROM t) + 1 WHERE id = 1;
		SELECT pg_advisory_xact_lock(1)', $retries, $short)});
	wait_lock($a);
	$b->ok('UPDATE t SET v = (SELECT sum(v) FROM t) + 10 WHERE id = 2');
	$mon->ok('SELECT pg_advisory_unlock(1)');
	$result = $a->result;
	if ($retries == 0)
	{
		error_is($result, '40001', 'write skew');
		like($result->{error}{D} // '', qr/commit/i, 'is an error at COMMIT');
		values_are('0 10', 'and undone');
	}
	else
	{
		error_is($result, 'no error', 'write skew: retried');
		values_are('11 10', 'after the other one');
		is(ended('40001', 'success_retried'), '2/1', 'in two attempts');
	}
	is($a->value('SHOW transaction_isolation'), 'serializable', 'the isolation level is what it was');
	$_->ok('RESET default_transaction_isolation') for ($a, $b);
}

#
# A deadlock.  A waits last, so it is A who finds it.
#
sub deadlock
{
	my ($how) = @_;

	$mon->ok('UPDATE t SET v = 0; SELECT pg_advisory_lock(1)');
	restart_counts();
	$a->ok(q{SET deadlock_timeout = '10 ms'});
	$b->ok(q{SET deadlock_timeout = '10 min'});
	$a->send(qq{CALL resilience.retry_transaction('UPDATE t SET v = v + 1 WHERE id = 1;
		SELECT pg_advisory_xact_lock_shared(1); UPDATE t SET v = v + 1 WHERE id = 2', $how)});
	wait_lock($a);
	$b->ok('BEGIN; UPDATE t SET v = v + 10 WHERE id = 2');
	$b->send('UPDATE t SET v = v + 10 WHERE id = 1');
	wait_lock($b);
	$mon->ok('SELECT pg_advisory_unlock(1)');
	return;
}

$mon->ok(q{GRANT SET ON PARAMETER deadlock_timeout TO app});
deadlock($short);
error_is($b->result, 'no error', 'deadlock: the other one goes on');
$b->ok('COMMIT');
error_is($a->result, 'no error', 'deadlock: retried');
values_are('11 11', 'both have done their work');
$mon->ok('SELECT resilience.retry(\'SELECT 1\')');
like(ended('40P01', 'success_retried'), qr{^[2-4]/1$}, 'and it was counted');

# What is left of the attempt while it sleeps: nothing
deadlock($long);
error_is($b->result, 'no error', 'during the backoff no lock is held');
$b->ok('COMMIT');
wait_backoff($a);
is( $mon->value(
		"SELECT format('%s %s %s', backend_xid IS NULL, backend_xmin IS NULL, wait_event_type) FROM pg_stat_activity"
		  . " WHERE pid = $a->{pid}"),
	't t Extension',
	'no transaction id, no snapshot');
is( $mon->value("SELECT wait_event IN ('ResilienceBackoff', 'Extension') FROM pg_stat_activity WHERE pid = $a->{pid}"),
	't', 'and a wait event says why it waits');
is($mon->value(q{SELECT current_setting('server_version_num')::int < 170000 OR EXISTS (SELECT FROM pg_stat_activity
	WHERE wait_event = 'ResilienceBackoff')}), 't', 'with its name, since PostgreSQL 17');

#
# Ways out of a backoff
#
$a->cancel;
error_is($a->result(20), '57014', 'a cancel ends the backoff of retry_transaction()');
is(ended('57014', 'not_retryable'), '1/1', 'and is counted');
values_are('10 10', 'with nothing done');

restart_counts();
$a->send("SELECT resilience.retry('SELECT fail(''55P03'')', $long)");
wait_backoff($a);
$a->cancel;
error_is($a->result(20), '57014', 'a cancel ends the backoff of retry()');
is($mon->value('SELECT last_value FROM calls'), 1, 'there is no other attempt');
is($a->value('SELECT 1'), 1, 'the session goes on');

$a->ok('BEGIN; SAVEPOINT s');
$a->send("SELECT resilience.retry('SELECT fail(''55P03'')', $long)");
wait_backoff($a);
$a->cancel;
error_is($a->result(20), '57014', 'in a transaction block, too');
$a->ok('ROLLBACK TO s; INSERT INTO t VALUES (3, 0); COMMIT');
values_are('10 10 0', 'which goes on');

for my $call (qq{SELECT resilience.retry('SELECT fail(''55P03'')', $long)},
	qq{CALL resilience.retry_transaction('SELECT fail(''55P03'')', $long)})
{
	my $start = time();
	$a->ok(q{SET statement_timeout = '10 min'});
	error_is($a->query($call, 20), '55P03', 'a statement_timeout that would pass: no backoff at all');
	$a->ok(q{SET statement_timeout = 0});

	$a->send($call);
	wait_backoff($a);
	$mon->ok("SELECT pg_terminate_backend($a->{pid})");
	error_is($a->result(20), '57P01', 'termination ends the backoff');
	$a = connect_to($node, user => 'app');

	$a->send($call);
	wait_backoff($a);
	$a->vanish;
	$mon->ok("SELECT pg_terminate_backend($a->{pid})");
	wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $a->{pid}", 0);
	$a = connect_to($node, user => 'app');
}
# one that runs out during an attempt is no reason for another one
restart_counts();
$a->ok(q{SET statement_timeout = '50 ms'});
error_is(
	$a->query(qq{SELECT resilience.retry('SELECT nextval(''calls''); SELECT pg_sleep(1000)', retryable_sqlstates => '{57014}', $short)}, 20),
	'57014', 'statement_timeout during an attempt');
$a->ok(q{SET statement_timeout = 0});
is($mon->value('SELECT last_value FROM calls'), 1, 'ends it');

#
# A lock that somebody holds: retries until it is free
#
restart_counts();
$b->ok('BEGIN; UPDATE t SET v = 7 WHERE id = 1');
$a->send(q{SELECT * FROM resilience.retry_query('SELECT nextval(''calls''); SELECT v FROM t WHERE id = 1 FOR UPDATE NOWAIT',
	100, '20 ms', jitter => 'none', backoff_factor => 1, budget => NULL) AS (v int)});
wait_for_value($mon, 'SELECT last_value >= 3 FROM calls', 't');
ok(!$a->done, 'while it is locked there is no answer');
$b->ok('COMMIT');
$result = $a->result;
error_is($result, 'no error', 'and then there is');
is_deeply($result->{rows}, [ [7] ], 'with one row');

#
# The slot is lent while a session sleeps
#
$mon->ok(q{SELECT resilience.create_bulkhead('one', role_name => 'app', max_running => 1, max_waiting => 0)});
my $failing = q{'SELECT 1 FROM fail(''55P03'')'};
my %calls = (
	'retry()' => "SELECT resilience.retry($failing, $long)",
	'retry_query()' => "SELECT * FROM resilience.retry_query($failing, $long) AS (x int)",
	'retry_transaction()' => "CALL resilience.retry_transaction($failing, $long)");
for my $name (sort keys %calls)
{
	$a->send($calls{$name});
	wait_backoff($a);
	error_is($b->query('SELECT 1'), 'no error', "during the backoff of $name another session runs");
	is(counts($mon, 'one'), '2/0/0', 'nobody holds the slot');
	$a->cancel;
	error_is($a->result(20), '57014', 'cancelled');
	is(counts($mon, 'one'), '2/0/0', 'the slot is not given back twice');
}

# in the middle of a transaction
$a->ok('BEGIN; SAVEPOINT s');
$a->send($calls{'retry()'});
wait_backoff($a);
$b->send('SELECT pg_sleep(1000)');
wait_running($mon, 'one', 1);
$a->cancel;
error_is($a->result(20), '57014', 'a backoff that is cancelled in a transaction');
$a->ok('ROLLBACK TO s');
$a->hold;
is(counts($mon, 'one'), '2/2/0', 'the transaction goes on, over the limit');
$a->let_go;
$a->result;
$a->ok('COMMIT');
is(counts($mon, 'one'), '2/1/0', 'and ends');
$b->cancel;
$b->result;
is(counts($mon, 'one'), '2/0/0', 'so does the other one');

# Awake again, it takes its slot back over the limit.  The first attempt fails
# when lock 2 is free, the second one waits for lock 1.
$mon->ok(q{SELECT resilience.alter_bulkhead('one', max_waiting => 1, max_wait => '10 min')});
my $third = connect_to($node, user => 'app');
for my $way ('ends', 'is cancelled', 'is terminated')
{
	restart_counts();
	$mon->ok('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
	$a->send(q{SELECT resilience.retry('DO $$
		BEGIN
			IF nextval(''calls'') = 1 THEN
				PERFORM pg_advisory_xact_lock(2);
				RAISE lock_not_available;
			END IF;
			PERFORM pg_advisory_xact_lock(1);
		END $$', base_delay => '100 ms', jitter => 'none')});
	wait_lock($a);
	$b->send('SELECT pg_sleep(1000)');
	wait_waiting($mon, 'one', 1);
	$mon->ok('SELECT pg_advisory_unlock(2)');
	# B has the slot now, and then A has it, too
	wait_running($mon, 'one', 2);
	$third->send('SELECT 1');
	wait_waiting($mon, 'one', 1);
	is(counts($mon, 'one'), '3/2/1', 'awake again a retry takes its slot back, over the limit');
	if ($way eq 'ends')
	{
		$mon->ok('SELECT pg_advisory_unlock(1)');
		error_is($a->result, 'no error', 'it succeeds');
	}
	elsif ($way eq 'is cancelled')
	{
		$a->cancel;
		error_is($a->result(20), '57014', 'it is cancelled');
	}
	else
	{
		$mon->ok("SELECT pg_terminate_backend($a->{pid})");
		error_is($a->result(20), '57P01', 'it is terminated');
		wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $a->{pid}", 0);
		$a = connect_to($node, user => 'app');
	}
	wait_running($mon, 'one', 1);
	ok(!$b->done && !$third->done, "when it $way the other one still has its slot");
	$b->cancel;
	$b->result;
	error_is($third->result, 'no error', 'and hands it on');
	$mon->ok('SELECT pg_advisory_unlock_all()');
}
$_->close for ($a, $b, $third);
is(count_slots($node, $mon, 3), 1, 'there is still one slot');
$mon->ok(q{SELECT resilience.drop_bulkhead('one')});
all_zero($mon, 'after the backoffs');

#
# Many sessions at the same rows, serializable: nothing is lost or done twice
#
restart_counts();
$mon->ok('UPDATE t SET v = 0');
my @sessions = map { connect_to($node, user => $_ % 2 ? 'app' : 'other') } 1 .. 8;
$_->send(q{DO $$
BEGIN
	FOR i IN 1 .. 25 LOOP
		CALL resilience.retry_transaction('SELECT sum(v) FROM t; SELECT pg_sleep(0.002); UPDATE t SET v = v + 1 WHERE id = ' || 1 + i % 2 ||
			'; UPDATE t SET v = v + 1 WHERE id = 3', 100, '1 ms', isolation => 'serializable', budget => NULL);
	END LOOP;
END $$}) for @sessions;
error_is($_->result, 'no error', 'a session of eight succeeds with all its transactions') for @sessions;
is($mon->value('SELECT v FROM t WHERE id = 3'), 200, 'all 200 transactions were done once');
is($mon->value('SELECT sum(calls_total) FROM resilience.retry_stats'), 200, 'and counted');
cmp_ok($mon->value('SELECT sum(attempts_total) FROM resilience.retry_stats'), '>', 200, 'after some conflicts');

#
# The budget, of all sessions together
#
restart_counts();
my $start = time();
$_->send("SELECT resilience.retry('SELECT fail(''55P03'')', 100, '0', budget => 'shared')") for @sessions;
my %states;
for my $session (@sessions)
{
	my $error = $session->result->{error};

	$states{ $error->{C} }++;
	next unless $error->{C} eq '53R05';
	like($error->{M}, qr/^retry budget "shared" is exhausted$/, 'the error names the budget');
	like($error->{D}, qr/^sqlstate=55P03 attempts=\d+ message="on purpose"$/, 'and the last error');
	like($error->{H}, qr/20 %/, 'and the limits');
}
my $elapsed = time() - $start;
cmp_ok($states{'53R05'} // 0, '>=', 7, 'of 800 retries most are refused');
my ($first, $allowed, $denied) = @{
	$mon->ok(q{SELECT first_attempts_total, retries_allowed_total, retries_denied_total
		FROM resilience.retry_budgets WHERE name = 'shared'})->{rows}[0]
};
is($first, 8, 'first attempts pay in');
cmp_ok($allowed, '>=', 100, 'there are 100 tokens to begin with');
cmp_ok($allowed, '<=', 100 + 0.2 * 8 + 10 * $elapsed + 1, 'and not more than that, 20 % and 10 per second');
is($denied, $states{'53R05'}, 'each refusal is counted');
is($mon->value('SELECT last_value FROM calls'), 8 + $allowed, 'that is how often the statement ran');
is(ended('55P03', 'budget'), ($mon->value(q{SELECT attempts_total FROM resilience.retry_stats WHERE result = 'budget'})) . "/$denied",
	'by SQLSTATE, too');

# 20 % of first attempts: those of one session help another
$sessions[0]->ok(q{SELECT resilience.retry('SELECT 1', budget => 'shared') FROM generate_series(1, 50)});
cmp_ok($mon->value(q{SELECT tokens FROM resilience.retry_budgets WHERE name = 'shared'}), '>=', 9.9, 'first attempts fill it');
error_is($sessions[1]->query(q{SELECT resilience.retry('SELECT fail(''55P03'')', 5, '0', budget => 'shared')}), '55P03',
	'so that there are retries again');

# no endless number of names
$sessions[0]->ok(qq{SELECT resilience.retry('SELECT 1', budget => 'budget $_')}) for 1 .. 14;
$result = $sessions[1]->query(q{SELECT resilience.retry('SELECT 1', budget => 'budget 15')});
error_is($result, '53400', 'a budget too many');
like($result->{error}{H}, qr/retry_budgets/, 'says where to look');
error_is($sessions[1]->query(q{SELECT resilience.retry('SELECT 1', budget => 'budget 14')}), 'no error', 'those that exist can be used');
is($mon->value('SELECT count(*) FROM resilience.retry_budgets'), 16, 'there are 16');

# nor of SQLSTATEs: what does not fit is counted as "other"
restart_counts();
$sessions[0]->ok(q{DO $$
BEGIN
	FOR i IN 100 .. 179 LOOP
		BEGIN
			PERFORM resilience.retry(format('SELECT fail(''XY%s'')', i), 1, '0', budget => NULL);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
END $$});
is($mon->value(q{SELECT count(*) FROM resilience.retry_stats WHERE sqlstate LIKE 'XY%'}), 64, '64 SQLSTATEs are told apart');
is(ended('other', 'not_retryable'), '16/16', 'the others are counted together');
$mon->ok('SELECT resilience.reset_statistics()');
$sessions[0]->query(q{SELECT resilience.retry('SELECT fail(''XY200'')')});
is(ended('XY200', 'not_retryable'), '1/1', 'reset_statistics() makes room');
$_->close for @sessions;

#
# Nothing leaks from attempt to attempt
#
$a = connect_to($node, user => 'app');
for my $call (q{SELECT resilience.retry('%s', %d, '0', budget => NULL)}, q{CALL resilience.retry_transaction('%s', %d, '0', budget => NULL)},
	q{SELECT * FROM resilience.retry_query('%s', %d, '0', budget => NULL) AS (x int)})
{
	my $attempt = q{DECLARE c CURSOR FOR SELECT repeat(''x'', 1000000); FETCH 1 FROM c;
		SELECT sum(i) FROM generate_series(1, 1000) i;
		SELECT setval(''memory'', (SELECT sum(used_bytes) FROM pg_backend_memory_contexts)::bigint);
		SELECT 1 FROM fail(''55P03'')};
	my %used;

	for my $retries (2, 2, 10, 100)
	{
		error_is($a->query(sprintf($call, $attempt, $retries)), '55P03', 'the last attempt fails');
		$used{$retries} = $mon->value('SELECT last_value FROM memory');
	}
	cmp_ok($used{100} - $used{10}, '<', 20_000, "memory after 100 retries as after 10: $used{100}");
}
$a->close;

# Attempts whose rows go to disk; the first twenty fail at the last row
$a = connect_to($node, user => 'app');
$a->ok(q{SET work_mem = '64kB'});
$mon->ok(q{SELECT setval('calls', 1, false)});
$result = $a->ok(q{SELECT count(*), sum(i) FROM resilience.retry_query(
	'SELECT i FROM generate_series(1, 20000) i WHERE i < 20000 OR nextval(''calls'') > 20 OR 1 / (i - 20000) = 1',
	100, '0', retryable_sqlstates => '{22012}', budget => NULL) AS (i int)});
is_deeply($result->{rows}, [ [ 20000, 200010000 ] ], 'rows that went to disk come once');
is(scalar @{ $result->{notices} }, 0, 'without a warning');
$a->close;

all_zero($mon, 'at the end');
$node->stop;
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/WARNING|PANIC|TRAP|was terminated by signal/, 'no warning in the log');

done_testing();
