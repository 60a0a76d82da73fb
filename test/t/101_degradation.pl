# Degradations: settings for transactions at or below a priority while the
# server is loaded, taken back after, and never against what the session says.
#
# The server is loaded as long as somebody waits for the server-wide limit:
# here one of low priority, whose class may have one slot while others work.
# All others have slots enough.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node(
	'degradation',
	roles => [qw(app vip lowly tuned)],
	conf => qq(
resilience.max_running = 50
resilience.low_priority_cap = 1
resilience.max_wait = '10min'
resilience.queue_target = 0
work_mem = '4MB'
));
my $mon = monitor($node);
$mon->ok($_) for (
	q(ALTER ROLE vip SET resilience.priority = 'high'),
	q(ALTER ROLE lowly SET resilience.priority = 'low'),
	q(ALTER ROLE tuned SET work_mem = '11MB'),
	q(CREATE TABLE t (id int PRIMARY KEY, v int)),
	q(INSERT INTO t SELECT i, i FROM generate_series(1, 10000) i),
	q(VACUUM ANALYZE t),
	q(CREATE TABLE notes (n serial, v text)),
	q(GRANT ALL ON t, notes, notes_n_seq TO PUBLIC),
	q(GRANT CREATE ON SCHEMA public TO PUBLIC));

my $work_mem = q(SELECT current_setting('work_mem'));
my $active = q(SELECT active FROM resilience.degradations WHERE name = 'light');

# somebody of middle priority works all the time, and so low is capped
my $keeper = connect_to($node, user => 'app');
my @low = map { connect_to($node, user => 'lowly') } 1 .. 2;
$keeper->ok('BEGIN');
$keeper->hold;

sub load
{
	$low[0]->send('SELECT pg_sleep(1000)');
	wait_running($mon, undef, 2);
	$low[1]->send('SELECT pg_sleep(1000)');
	wait_waiting($mon, undef, 1);
	wait_for_value($mon, $active, 't');
	return;
}

sub unload
{
	$_->cancel for @low;
	$_->result for @low;
	wait_for_value($mon, $active, 'f');
	return;
}

my $app = connect_to($node, user => 'app');
my $vip = connect_to($node, user => 'vip');
my $tuned = connect_to($node, user => 'tuned');
my $options = connect_to($node, user => 'app', options => '-c work_mem=9MB');
my $super = connect_to($node, user => $ResilienceTest::superuser);
my $long = connect_to($node, user => 'app');

$mon->ok(q(SELECT resilience.create_degradation('light', 'loaded', 'normal', '{"work_mem": "1MB"}')));
is($app->value($work_mem), '4MB', 'nothing is changed while the server is not loaded');
$long->ok('BEGIN');
is($long->value($work_mem), '4MB', 'a long transaction begins');

load();
my $began = time();

# whom it concerns
is($app->value($work_mem), '1MB', 'loaded: the setting is changed');
is($app->value('SHOW work_mem'), '4MB', 'for the transaction only');
is($vip->value($work_mem), '4MB', 'not for a higher priority');
is($super->value($work_mem), '4MB', 'not for a superuser');
is($long->value($work_mem), '4MB', 'not for a transaction that runs since before');
$long->ok('COMMIT');
is($long->value($work_mem), '1MB', 'but for the next one');
is($tuned->value($work_mem), '1MB', "over the role's setting");
my $skipped = $mon->value('SELECT skipped_total FROM resilience.degradations');
is($options->value($work_mem), '9MB', 'not over what the client asked for when it connected');
is($mon->value('SELECT skipped_total FROM resilience.degradations'),
	$skipped + 1, 'which is counted');

my $total = 'SELECT transactions_total FROM resilience.degradations';
my $before = $mon->value($total);
$app->value($work_mem) for 1 .. 10;
$app->ok('BEGIN');
$app->value($work_mem) for 1 .. 3;
$app->ok('COMMIT');
$vip->value($work_mem);
is($mon->value($total), $before + 11, 'transactions are counted');

# what the session sets itself
$app->ok(q(SET work_mem = '7MB'));
is($app->value($work_mem), '7MB', 'not over SET');
$app->ok('RESET work_mem');
is($app->value($work_mem), '1MB', 'after RESET it is');
$app->ok('BEGIN');
$app->ok(q(SET LOCAL work_mem = '7MB'));
is($app->value($work_mem), '7MB', 'not over SET LOCAL');
$app->ok('COMMIT');
is($app->value($work_mem), '1MB', 'which has ended with its transaction');

$app->ok('BEGIN');
is($app->value($work_mem), '1MB', 'in a transaction');
$app->ok(q(SET LOCAL work_mem = '5MB'));
is($app->value($work_mem), '5MB', 'SET LOCAL after it');
$app->ok('COMMIT');
is($app->value('SHOW work_mem'), '4MB', 'ends with the transaction');
$app->ok('BEGIN');
$app->value($work_mem);
$app->ok(q(SET work_mem = '6MB'));
is($app->value($work_mem), '6MB', 'SET after it');
$app->ok('ROLLBACK');
is($app->value('SHOW work_mem'), '4MB', 'is rolled back to the value before');
$app->ok('BEGIN');
$app->value($work_mem);
$app->ok(q(SET work_mem = '6MB'));
$app->ok('COMMIT');
is($app->value('SHOW work_mem'), '6MB', 'or stays');
is($app->value($work_mem), '6MB', "and is the session's own from then on");
$app->ok('BEGIN');
$app->ok('RESET work_mem');
$app->ok('COMMIT');
$app->ok('BEGIN');
$app->value($work_mem);
$app->ok('RESET work_mem');
is($app->value($work_mem), '4MB', 'RESET in a transaction');
$app->ok('COMMIT');
is($app->value($work_mem), '1MB', 'is for that one');
$app->ok('BEGIN');
$app->value($work_mem);
$app->ok('RESET ALL');
is($app->value($work_mem), '4MB', 'and so is RESET ALL');
$app->ok('COMMIT');
$app->ok('DISCARD ALL');
is($app->value($work_mem), '1MB', 'DISCARD ALL changes nothing about it');
is($app->value(q(SELECT set_config('work_mem', '8MB', false))), '8MB', 'set_config()');
is($app->value($work_mem), '8MB', 'is as SET');
$app->ok('RESET work_mem');

$app->ok(q(CREATE FUNCTION own() RETURNS text LANGUAGE plpgsql SET work_mem = '3MB'
	AS $$ BEGIN RETURN current_setting('work_mem'); END $$));
is($app->value(q(SELECT own() || ' ' || current_setting('work_mem'))), '3MB 1MB',
	"a function's SET clause");
is($app->value('SHOW work_mem'), '4MB', 'and after it');

# savepoints and blocks
$app->ok('BEGIN');
$app->ok('SAVEPOINT a');
is($app->value($work_mem), '1MB', 'first in a savepoint');
$app->ok('ROLLBACK TO a');
is($app->value($work_mem), '1MB', 'and again after it was rolled back');
$app->ok('RELEASE a');
is($app->value($work_mem), '1MB', 'and released');
$app->ok('SAVEPOINT b');
$app->ok(q(SET LOCAL work_mem = '5MB'));
$app->ok('ROLLBACK TO b');
is($app->value($work_mem), '1MB', "a savepoint takes the session's own away");
$app->ok(q(SET LOCAL work_mem = '5MB'));
$app->ok('RELEASE b');
is($app->value($work_mem), '5MB', 'or leaves it');
$app->ok('COMMIT');
is($app->value('SHOW work_mem'), '4MB', 'nothing remains');
$before = $mon->value($total);
$app->ok('BEGIN');
$app->ok('SAVEPOINT a');
$app->value($work_mem);
$app->ok('ROLLBACK TO a');
$app->value($work_mem);
$app->ok('COMMIT');
is($mon->value($total), $before + 1, 'and it is one transaction');
$app->ok(q(DO $$ BEGIN
	BEGIN
		INSERT INTO notes (v) VALUES (current_setting('work_mem'));
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		INSERT INTO notes (v) VALUES (current_setting('work_mem'));
	END;
END $$));
is($mon->value(q(SELECT string_agg(v, ' ') FROM notes)), '1MB', 'blocks of PL/pgSQL');
is($app->value('SHOW work_mem'), '4MB', 'and after them');

# an error, prepared transactions
error_is($app->query(q(SELECT 1 / (length(current_setting('work_mem')) - 3))), '22012', 'an error');
is($app->value('SHOW work_mem'), '4MB', 'and after it');
$app->ok('BEGIN');
$app->ok($work_mem);
$app->ok(q(PREPARE TRANSACTION 'x'));
is($app->value('SHOW work_mem'), '4MB', 'after PREPARE TRANSACTION');
$app->ok(q(ROLLBACK PREPARED 'x'));

# procedures that commit, utility statements
$mon->ok('TRUNCATE notes');
$mon->ok(q(CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN
	FOR i IN 1 .. 8 LOOP
		INSERT INTO notes (v) VALUES (current_setting('work_mem'));
		COMMIT;
	END LOOP;
END $$));
$app->ok('CALL steps()');
is($mon->value(q(SELECT string_agg(v, ' ' ORDER BY n) FROM notes)),
	join(' ', ('1MB') x 8), 'each transaction of a procedure');
is($app->value('SHOW work_mem'), '4MB', 'and after it');
$app->ok(q(CREATE TABLE made AS SELECT current_setting('work_mem') AS v));
is($mon->value('SELECT v FROM made'), '1MB', 'CREATE TABLE AS');
$app->ok(q(SELECT 1; SELECT 2; CREATE TABLE made2 AS SELECT current_setting('work_mem') AS v));
is($mon->value('SELECT v FROM made2'), '1MB', 'several statements in one string');

# the extended protocol, unnamed and named
$app->parse('', $work_mem);
$app->bind_portal('', '');
$app->execute('');
$app->sync;
is($app->result->{rows}[0][0], '1MB', 'extended protocol');
$app->parse('named', $work_mem);
$app->sync;
$app->result;
for my $i (1 .. 7)
{
	$app->bind_portal('', 'named');
	$app->execute('');
	$app->sync;
	is($app->result->{rows}[0][0], '1MB', "statement that was prepared, $i");
}
is($app->value('SHOW work_mem'), '4MB', 'and after it');

# parallel workers have the leader's
my $force = $mon->value(q(SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') ORDER BY 1 LIMIT 1));
$app->ok("SET $force = on");
$app->ok(q(CREATE FUNCTION in_worker() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN
	RETURN current_setting('work_mem') || ' ' ||
		(SELECT backend_type FROM pg_stat_get_activity(pg_backend_pid()));
END $$));
is($app->value('SELECT in_worker()'), '1MB parallel worker', 'a parallel worker');
$app->ok("RESET $force");

# degraded before it waits
my $waiter = connect_to($node, user => 'lowly');
$waiter->send($work_mem);
wait_waiting($mon, undef, 2);

# it ends 5 seconds after the load
my $gone = time();
unload();
cmp_ok(time() - $gone, '>', 4.5, 'it holds for 5 s longer than the load');
is($waiter->result->{rows}[0][0], '1MB', 'who had to wait was degraded before');
is($app->value($work_mem), '4MB', 'and is over then');
is($tuned->value($work_mem), '11MB', 'for everybody');
is( $mon->value(
		q(SELECT string_agg(from_state || '>' || to_state, ' ' ORDER BY id) FROM resilience.events
		WHERE kind = 'degradation' AND object = 'light')),
	'inactive>active active>inactive',
	'both are events');
like(
	$mon->value(q(SELECT detail FROM resilience.events WHERE kind = 'degradation' AND to_state = 'active' ORDER BY id LIMIT 1)),
	qr/"waiting": 1.*"when_state": "loaded"/,
	'with numbers');

# several at once; one is switched off
$mon->ok(q(SELECT resilience.create_degradation('a', 'loaded', 'normal', '{"work_mem": "256kB", "geqo": false}')));
load();
is($app->value($work_mem), '1MB', 'of two for the same state the last by name counts');
is($app->value(q(SELECT current_setting('geqo'))), 'off', 'where both set the same');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => false)));
is($mon->value($active), 'f', 'one that is disabled is not active');
is($app->value($work_mem), '256kB', 'and ends at once');
$mon->ok(q(SELECT resilience.drop_degradation('a')));
is($app->value($work_mem), '4MB', 'and so does one that is dropped');
is($app->value(q(SELECT current_setting('geqo'))), 'on', 'with all its settings');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => true)));
wait_for_value($mon, $active, 't');
is($app->value($work_mem), '1MB', 'one that is enabled begins at once');
$mon->ok(q(SELECT resilience.alter_degradation('light', minimum_priority_affected => 'low')));
wait_for_value($mon, $active, 't');
is($app->value($work_mem), '4MB', 'for low only');
$app->ok(q(SET resilience.requested_priority = 'low'));
$app->send($work_mem);
wait_waiting($mon, undef, 2);
$app->cancel;
error_is($app->result, '57014', 'who asks for low must wait');
$app->ok('RESET resilience.requested_priority');
$mon->ok(q(SELECT resilience.alter_degradation('light', minimum_priority_affected => 'high')));
wait_for_value($mon, $active, 't');
is($vip->value($work_mem), '1MB', 'for high, too');

# statement_timeout
$mon->ok(q(SELECT resilience.alter_degradation('light', settings => '{"statement_timeout": "500ms"}')));
wait_for_value($mon, $active, 't');
$began = time();
error_is($app->query('SELECT pg_sleep(60)'), '57014', 'statement_timeout, first statement');
cmp_ok(time() - $began, '<', 30, 'soon');
$app->ok('BEGIN');
$app->ok('SELECT 1');
error_is($app->query('SELECT pg_sleep(60)'), '57014', 'a later statement');
$app->ok('ROLLBACK');
$app->parse('sleep', 'SELECT pg_sleep(60)');
$app->sync;
$app->result;
for my $i (1 .. 2)
{
	$app->bind_portal('', 'sleep');
	$app->execute('');
	$app->sync;
	error_is($app->result, '57014', "extended protocol, $i");
}
$app->ok(q(SET statement_timeout = '20s'));
$app->ok('SELECT pg_sleep(1)');
pass("not over the session's own");
$app->ok('RESET statement_timeout');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => false)));
$app->ok('SELECT pg_sleep(1)');
pass('nor after it');

# cached plans are made for the settings in force
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => true, settings => '{"enable_indexscan": false, "enable_bitmapscan": false, "enable_indexonlyscan": false}')));
$app->ok('SET plan_cache_mode = force_generic_plan');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => false)));
$app->ok('PREPARE one(int) AS SELECT v FROM t WHERE id = $1');
like($app->value('EXPLAIN EXECUTE one(7)'), qr/Index/, 'a cached plan');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => true)));
wait_for_value($mon, $active, 't');
$app->ok('EXECUTE one(7)');
like($app->value('EXPLAIN EXECUTE one(7)'), qr/Seq Scan/, 'is made anew, by the second transaction');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => false)));
$app->ok('EXECUTE one(7)');
like($app->value('EXPLAIN EXECUTE one(7)'), qr/Index/, 'and again when it is over');
like($app->value('EXPLAIN SELECT v FROM t WHERE id = 7'), qr/Index/, 'others are planned as ever');
$mon->ok(q(SELECT resilience.alter_degradation('light', enabled => true)));
wait_for_value($mon, $active, 't');
my $fresh = connect_to($node, user => 'app');
like($fresh->value('EXPLAIN SELECT v FROM t WHERE id = 7'), qr/Seq Scan/, "the first query's plan is degraded");
$fresh->parse('', 'EXPLAIN SELECT v FROM t WHERE id = 7');
$fresh->bind_portal('', '');
$fresh->execute('');
$fresh->sync;
like($fresh->result->{rows}[0][0], qr/Seq Scan/, 'by the extended protocol, too');

# modes: counted, not done; neither
$mon->ok(q(SELECT resilience.alter_degradation('light', settings => '{"work_mem": "1MB"}')));
wait_for_value($mon, $active, 't');
$super->ok(q(ALTER ROLE app SET resilience.mode = 'observe'));
my $observer = connect_to($node, user => 'app');
$before = $mon->value($total);
is($observer->value($work_mem), '4MB', 'nothing is done in mode observe');
is($mon->value($total), $before + 1, 'but counted');
$super->ok(q(ALTER ROLE app SET resilience.mode = 'off'));
my $off = connect_to($node, user => 'app');
$before = $mon->value($total);
is($off->value($work_mem), '4MB', 'nor in mode off');
is($mon->value($total), $before, 'nor counted');
$super->ok(q(ALTER ROLE app RESET resilience.mode));

# statistics, and another database
$mon->ok('SELECT resilience.reset_statistics()');
is($mon->value('SELECT transactions_total + skipped_total FROM resilience.degradations'), 0,
	'reset_statistics()');
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $other = connect_to($node, user => 'app', dbname => 'other');
is($other->value($work_mem), '4MB', 'another database has its own');

# the server restarts while it holds
$_->close for $other, $fresh, $observer, $off;
$_->cancel for @low;
$_->result for @low;
$node->restart;
$mon = monitor($node);
is($mon->value($active), 'f', 'after a restart nothing holds');
is(connect_to($node, user => 'app')->value($work_mem), '4MB', 'until there is load');

done_testing();
