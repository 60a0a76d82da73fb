# A slot belongs to the transaction: it is taken once, whatever the
# transaction does, and comes back however it ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = preloaded_node('accounting', roles => [ 'app', 'elsewhere' ], conf => q(
max_worker_processes = 16
max_parallel_workers = 8
));
my $mon = monitor($node);

$mon->ok(q{
CREATE TABLE t (id int);
INSERT INTO t SELECT generate_series(1, 1000);
CREATE TABLE sink (id int);
ALTER TABLE t OWNER TO app;
ALTER TABLE sink OWNER TO app;
ALTER TABLE t SET (parallel_workers = 2);
GRANT elsewhere TO app;
GRANT SELECT ON t TO elsewhere;
GRANT CREATE ON SCHEMA public TO app;
CREATE FUNCTION gate() RETURNS void LANGUAGE plpgsql AS
	'BEGIN PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1); END';
SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1)});

my $app = connect_to($node, user => 'app');
my $other = connect_to($node, user => 'app');

sub is_free
{
	my ($label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($other->query('SELECT 1'), 'no error', "$label: the slot is free");
	return is(counts($mon, 'b'), '2/0/0', "$label: nothing is counted");
}

sub is_taken
{
	my ($label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($other->query('SELECT 1'), '53R01', "$label: the slot is taken");
	return is(counts($mon, 'b'), '2/1/0', "$label: one runs");
}

# The statement calls gate(), which does not return before we have looked.
# (An idle transaction would not do: its slot is lent after 100 ms.)
sub is_taken_during
{
	my ($sql, $label) = @_;

	$mon->ok('SELECT pg_advisory_lock(1)');
	$app->send($sql);
	wait_for_value($mon, "SELECT wait_event FROM pg_stat_activity WHERE pid = $app->{pid}", 'advisory');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_taken($label);
	$mon->ok('SELECT pg_advisory_unlock(1)');
	my $result = $app->result;
	is($result->{error} ? $result->{error}{M} : '', '', "$label: it succeeds");
	is_free("after $label");
	return $result;
}

# Two sessions, one slot
is_taken_during('SELECT gate()', 'a statement');
is_taken_during('BEGIN; SELECT 1; SELECT gate(); COMMIT', 'a transaction');

$mon->ok('SELECT pg_advisory_lock(1)');
$app->send('SELECT gate()');
wait_running($mon, 'b', 1);
my $refused = $other->query('SELECT 1');
$mon->ok('SELECT pg_advisory_unlock(1)');
$app->result;
error_is($refused, '53R01', 'the second one is refused');
like($refused->{error}{M}, qr/"b"/, 'the error names the bulkhead');
is(detail_of($refused, 'limit'), 1, '... the limit');
is(detail_of($refused, 'running'), 1, '... what runs');
is(detail_of($refused, 'started'), 'false', '... and that nothing was started');

# Errors
error_is($app->query('SELECT 1/0'), '22012', 'an error');
is_free('an error');

$app->ok('BEGIN; SAVEPOINT s');
error_is($app->query('SELECT 1/0'), '22012', 'an error after a savepoint');
$app->ok('ROLLBACK TO s');
$app->ok('COMMIT');
is_free('an error rolled back to a savepoint');

$app->ok('BEGIN; SELECT 1; SAVEPOINT s');
$app->query('SELECT 1/0');
is_taken_during('ROLLBACK TO s; SELECT gate(); COMMIT',
	'a transaction that went back to a savepoint');

$app->ok('BEGIN; SAVEPOINT s; SELECT 1; SAVEPOINT s2; SELECT 2');
is_taken_during('ROLLBACK TO s; SELECT gate(); COMMIT',
	'a transaction whose first statement was undone');

$app->ok('DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END $$');
is_free('an error handled in a DO block');
is_taken_during(
	'DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN PERFORM gate(); END $$',
	'a handler of an exception');

$app->ok('BEGIN; SELECT 1');
$app->query('SELECT 1/0');
is_free('a failed transaction block');
error_is($app->query('SELECT 1'), '25P02', 'the block takes no statement');
is_free('a statement in a failed block');
$app->ok('ROLLBACK');
is_free('its end');

# In the same transaction block after the error nothing was left behind: it
# is counted once again.
is_taken_during('SELECT gate()', 'the next one');

# An error at COMMIT
$mon->ok(q{CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO deferred VALUES (1); GRANT ALL ON deferred TO app});
error_is($app->query('INSERT INTO deferred VALUES (1)'), '23505', 'an error at commit');
is_free('an error at commit');

# Cursors
$app->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH 1 FROM c');
is_taken_during('SELECT gate(); FETCH 1 FROM c; COMMIT', 'a cursor left open');
$app->ok('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t; COMMIT');
is_free('a cursor that is held');
$app->ok('FETCH 5 FROM c; CLOSE c');
is_free('a fetch from it');

my $leaver = connect_to($node, user => 'app');
$leaver->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH 1 FROM c');
$leaver->close;
wait_for_value($mon, q(SELECT connections FROM resilience.bulkheads WHERE name = 'b'), 2);
is_free('a session that left with an open cursor');

# Nested work counts once, and never waits for itself
$mon->ok(q{
CREATE FUNCTION g() RETURNS bigint LANGUAGE plpgsql AS
	'DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM t; RETURN n; END';
CREATE FUNCTION sleeps() RETURNS void LANGUAGE plpgsql AS
	'BEGIN PERFORM count(*) FROM t; PERFORM gate(); END';
CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN PERFORM g(); PERFORM gate(); RETURN NULL; END';
CREATE FUNCTION sql_g() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t';
CREATE TRIGGER fires AFTER INSERT ON sink FOR EACH STATEMENT EXECUTE FUNCTION fires()});
my $before = $mon->value(q(SELECT admitted_total FROM resilience.bulkheads WHERE name = 'b'));
is_taken_during('SELECT g(), sql_g(), gate()', 'a function that runs queries');
is_taken_during('SELECT sleeps()', 'a function whose queries sleep');
is_taken_during('INSERT INTO sink VALUES (1)', 'a trigger');
# two of is_free() each are of the other session
is($mon->value(q(SELECT admitted_total FROM resilience.bulkheads WHERE name = 'b')),
	$before + 6, 'each was admitted once');

# Parallel query: the leader counts, its workers do not
$app->ok(q{SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2});
my $plan = join("\n", map { $_->[0] } @{
		$app->ok('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT count(*) FROM t')->{rows} });
like($plan, qr/Workers Launched: 2/, 'a parallel query gets its workers at a limit of one');
is_free('a parallel query');

$app->send('SELECT count(*) FROM t WHERE pg_sleep(0.1) IS NOT NULL');
wait_for_value($mon,
	"SELECT count(*) FROM pg_stat_activity WHERE leader_pid = $app->{pid} AND backend_type = 'parallel worker'", 2);
is_taken('a parallel query with two workers');
is($mon->value('SELECT count(*) FROM resilience.activity WHERE state = \'running\''),
	1, 'its workers are no sessions');
$app->cancel;
error_is($app->result, '57014', 'it is cancelled');
is_free('a cancelled parallel query');

# COPY
is(length is_taken_during("COPY (SELECT id, gate() FROM t LIMIT 1) TO STDOUT", 'COPY TO')->{copy},
	3, 'COPY TO gives its row');
$app->send('COPY t FROM STDIN');
$app->read_until('GE');
wait_running($mon, 'b', 1);
is_taken('COPY FROM');
$app->copy_data("1001\n");
$app->copy_done;
is($app->result->{tags}[0], 'COPY 1', 'COPY FROM succeeds');
is_free('COPY FROM');
$app->send('COPY t FROM STDIN');
$app->read_until('GE');
$app->copy_data("not a number\n");
$app->copy_done;
error_is($app->result, '22P02', 'COPY FROM fails');
is_free('a failed COPY');

# What is never refused
$other->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
for my $statement (
	'EXPLAIN SELECT * FROM t', 'EXPLAIN (VERBOSE) INSERT INTO sink VALUES (2)',
	'SET work_mem = 1024', 'SHOW work_mem',
	'RESET work_mem', 'BEGIN',
	'SAVEPOINT s', 'ROLLBACK TO s',
	'RELEASE s', 'COMMIT',
	'PREPARE p AS SELECT 1', 'DEALLOCATE p',
	'CLOSE ALL', 'ROLLBACK',
	'DISCARD PLANS')
{
	error_is($app->query($statement), 'no error', "at the limit passes: $statement");
}
error_is($app->query('EXPLAIN ANALYZE SELECT 1'), '53R01', 'EXPLAIN ANALYZE does not');
$app->ok('PREPARE p AS SELECT 1');
error_is($app->query('EXECUTE p'), '53R01', 'nor EXECUTE');
error_is($app->query('DECLARE c CURSOR WITH HOLD FOR SELECT 1'), '53R01', 'nor DECLARE CURSOR');
error_is($app->query('CREATE TEMP TABLE x AS SELECT 1'), '53R01', 'nor CREATE TABLE AS');
$app->ok('BEGIN');
error_is($app->query('LOCK TABLE t'), '53R01', 'nor LOCK TABLE');
$app->ok('ROLLBACK');
error_is($app->query('DO $$ BEGIN END $$'), '53R01', 'nor DO');
error_is($app->query('COPY t TO STDOUT'), '53R01', 'nor COPY');
error_is($app->query('VACUUM t'), '53R01', 'nor VACUUM');

# SET ROLE does not escape, and neither does RESET ALL or DISCARD ALL
$app->ok('SET ROLE elsewhere');
is($app->value('SHOW role'), 'elsewhere', 'the role is another');
error_is($app->query('SELECT count(*) FROM t'), '53R01', 'SET ROLE does not escape');
$app->ok('DISCARD ALL');
error_is($app->query('SELECT count(*) FROM t'), '53R01', 'DISCARD ALL does not escape');

# A superuser is counted and never refused, or made to wait
$mon->ok(q{SELECT resilience.create_bulkhead('everybody', max_running => 1, max_waiting => 100, max_wait => '1 h')});
my $super = connect_to($node);
$super->send('SELECT pg_sleep(1000)');
wait_running($mon, 'everybody', 1);
my $super2 = connect_to($node);
is($super2->value('SELECT 1'), 1, 'a superuser is not refused');
$super2->send('SELECT pg_sleep(1000)');
wait_running($mon, 'everybody', 2);
pass('superusers are counted');
for ($super, $super2, $other)
{
	$_->cancel;
	error_is($_->result, '57014', 'cancelled');
}
$super->close;
$super2->close;

# SET SESSION AUTHORIZATION: the new session user counts
wait_running($mon, 'everybody', 0);
$super = connect_to($node);
$super->ok('SET SESSION AUTHORIZATION app');
$super->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
error_is($app->query('SELECT 1'), '53R01', 'SET SESSION AUTHORIZATION takes a slot as the new user');
$super->cancel;
$super->result;
$app->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
error_is($super->query('SELECT 1'), '53R01', '... and is limited as such');
$super->ok('RESET SESSION AUTHORIZATION');
error_is($super->query('SELECT 1'), 'no error', '... until it is itself again');
$app->cancel;
$app->result;
$super->close;
$mon->ok(q{SELECT resilience.drop_bulkhead('everybody')});
is_free('all that');

# Utility statements that are several transactions keep their slot throughout
$mon->ok(q{
CREATE PROCEDURE steps(n int, pause float8) LANGUAGE plpgsql AS
	'BEGIN FOR i IN 1 .. n LOOP INSERT INTO t VALUES (i); PERFORM pg_sleep(pause);
		IF i % 2 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; PERFORM gate(); END';
CREATE PROCEDURE fails() LANGUAGE plpgsql AS
	'BEGIN PERFORM 1; COMMIT; PERFORM 2; COMMIT; PERFORM 1/0; END';
CREATE PROCEDURE catches() LANGUAGE plpgsql AS
	'BEGIN COMMIT; BEGIN PERFORM 1/0; EXCEPTION WHEN others THEN NULL; END; COMMIT; PERFORM gate(); END'});
$mon->ok('SELECT pg_advisory_lock(1)');
$app->send('CALL steps(100, 0.005)');
wait_running($mon, 'b', 1);
my $missed = 0;
for (1 .. 100)
{
	$missed++ if !$other->query('SELECT 1')->{error};
	$missed++ if counts($mon, 'b') ne '2/1/0';
	usleep(3000);
}
is($missed, 0, 'the slot of CALL with COMMIT in a loop was taken all the time');
$mon->ok('SELECT pg_advisory_unlock(1)');
error_is($app->result, 'no error', 'CALL with COMMIT in a loop');
is_free('after CALL with COMMIT in a loop');
error_is($app->query('CALL fails()'), '22012', 'CALL with COMMIT that fails');
is_free('CALL with COMMIT that fails');
is_taken_during('CALL catches()', 'CALL with COMMIT and a handled error');
$app->ok('DO $$ BEGIN PERFORM 1; COMMIT; PERFORM 1; ROLLBACK; END $$');
is_free('DO with COMMIT');

# VACUUM, held up by a lock
$mon->ok('BEGIN; LOCK TABLE sink IN SHARE UPDATE EXCLUSIVE MODE');
$app->send('VACUUM t, sink');
wait_running($mon, 'b', 1);
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Lock');
is_taken('VACUUM');
$mon->ok('COMMIT');
error_is($app->result, 'no error', 'VACUUM succeeds');
is_free('VACUUM');

# CREATE INDEX CONCURRENTLY: several transactions, too
$mon->ok('BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE');
$app->send('CREATE INDEX CONCURRENTLY ON t (id)');
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Lock');
is_taken('CREATE INDEX CONCURRENTLY');
$mon->ok('COMMIT');
error_is($app->result, 'no error', 'CREATE INDEX CONCURRENTLY succeeds');
is_free('CREATE INDEX CONCURRENTLY');

# Two phases: the slot goes with the session's part
$app->ok("BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'x'");
is_free('PREPARE TRANSACTION');
$app->ok("COMMIT PREPARED 'x'");
is_free('COMMIT PREPARED');
is_taken_during("BEGIN; INSERT INTO t VALUES (0); SELECT gate(); PREPARE TRANSACTION 'x'",
	'a transaction that is prepared');
$other->ok("ROLLBACK PREPARED 'x'");
is_free('ROLLBACK PREPARED by another session');

# Discarding everything in the middle of a session's life
$app->ok("CREATE TEMP TABLE mine (i int)");
$app->ok('DISCARD ALL');
is_free('DISCARD ALL');

# After all this the slots are exactly as many as there should be: none was
# lost, none came back twice.
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 3)});
is(count_slots($node, $mon, 5), 3, 'a limit of three lets three run');
$app->close;
$other->close;
all_zero($mon, 'at the end');

$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
$mon->ok(q{ALTER SYSTEM SET resilience.max_wait = 0});
set_conf($mon, 'resilience.max_running' => 4, 'resilience.max_waiting' => 0);
is(count_slots($node, $mon, 6), 4, 'the server-wide limit of four, too');
all_zero($mon, 'of the server-wide limit');

done_testing();
