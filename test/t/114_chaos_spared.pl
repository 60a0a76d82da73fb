# Chaos experiments: who is never hit.  With every impact at probability 1, and
# beside each case one that is hit, so that "not hit" means something.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ChaosTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = chaos_node('spared', roles => [qw(app operator)], init => [ allows_streaming => 1 ], conf => q(
max_parallel_workers_per_gather = 2
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_table_scan_size = 0
autovacuum_naptime = 1s
));
my $mon = monitor($node);
my $result;

$mon->ok($_) for (
	q{CREATE TABLE t (id int PRIMARY KEY, v int)},
	q{INSERT INTO t SELECT i, i FROM generate_series(1, 10000) i},
	q{ANALYZE t},
	q{CREATE TABLE log (id int)},
	q{CREATE FUNCTION nested() RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN PERFORM count(*) FROM t; INSERT INTO log VALUES (1); EXECUTE 'CREATE TEMP TABLE x (a int)'; DROP TABLE x;
		RETURN (SELECT count(*) FROM t); END$$},
	q{CREATE FUNCTION by_sql() RETURNS bigint LANGUAGE sql VOLATILE AS 'INSERT INTO log VALUES (2); SELECT count(*) FROM t'},
	q{CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO log VALUES (NEW.id); RETURN NULL; END$$},
	q{CREATE TABLE watched (id int)},
	q{CREATE TRIGGER note AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION note()},
	q{CREATE TABLE deferred (id int)},
	q{CREATE CONSTRAINT TRIGGER note AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()},
	q{CREATE TABLE child (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED)},
	q{GRANT ALL ON ALL TABLES IN SCHEMA public TO app},
	q{GRANT TEMP ON DATABASE postgres TO app},
	q{CREATE ROLE boss SUPERUSER LOGIN},
	q{CREATE ROLE sender REPLICATION LOGIN},
	q{GRANT app TO boss, operator},
	q{GRANT boss TO operator},
	q{GRANT USAGE ON SCHEMA resilience TO operator, app},
	q{GRANT pg_monitor TO operator},
	q{GRANT EXECUTE ON FUNCTION resilience.stop_experiment, resilience.start_experiment, resilience.drop_experiment TO operator});
my $app = connect_to($node, user => 'app');
my $boss = connect_to($node, user => 'boss');
my $operator = connect_to($node, user => 'operator');

# How many faults a statement meets: each of them is an error, so that a fault
# anywhere ends it, or, "latency", a delay that does no harm.
sub hit
{
	my ($label, $expected, $client, @statements) = @_;
	my $before = experiment_of($mon, 'x', 'injections_total');

	$client->query($_) for @statements;
	$client->query('ROLLBACK');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(experiment_of($mon, 'x', 'injections_total') - $before, $expected, $label);
	return;
}

for my $impact (qw(error latency lock_delay))
{
	experiment($mon, 'x', $impact, delay => q{'1 ms'});
	hit("$impact: a plain role is hit", 1, $app, 'SELECT * FROM t');

	# superusers, whatever they pretend to be
	hit("$impact: a superuser", 0, $mon, 'SELECT * FROM t');
	hit("$impact: another superuser", 0, $boss, 'SELECT * FROM t');
	hit("$impact: after SET SESSION AUTHORIZATION", 0, $boss, 'SET SESSION AUTHORIZATION app', 'SELECT * FROM t', 'RESET SESSION AUTHORIZATION');
	hit("$impact: after SET ROLE", 0, $boss, 'SET ROLE app', 'SELECT * FROM t', 'RESET ROLE');
	hit("$impact: a role that has only SET ROLE to a superuser", 1, $operator, 'SET ROLE boss', 'SELECT * FROM t', 'RESET ROLE');

	# what does no work
	hit("$impact: $_", 0, $app, $_)
	  for ('SET work_mem = 1024', 'SHOW work_mem', 'RESET work_mem', 'BEGIN', 'BEGIN; SAVEPOINT a; ROLLBACK TO a; RELEASE a; COMMIT', 'EXPLAIN SELECT * FROM t',
		'PREPARE one AS SELECT 1', 'DEALLOCATE one', 'DISCARD PLANS', 'SET CONSTRAINTS ALL IMMEDIATE', '');
}

# A role that becomes a superuser is spared from then on.
experiment($mon, 'x', 'error');
$mon->ok('ALTER ROLE app SUPERUSER');
hit('a role that has become a superuser', 0, $app, 'SELECT * FROM t');
$mon->ok('ALTER ROLE app NOSUPERUSER');
hit('and is none any more', 1, $app, 'SELECT * FROM t');

# Within statements: one fault, at the top.
experiment($mon, 'x', 'latency', delay => q{'1 ms'});
for my $sql ('SELECT nested()', 'SELECT by_sql()', 'SELECT nested() FROM t WHERE id < 4', 'DO $$BEGIN PERFORM nested(); END$$', 'INSERT INTO watched VALUES (1), (2)')
{
	hit("once: $sql", 1, $app, $sql);
}
$mon->ok('CREATE PROCEDURE several() LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (3); COMMIT; INSERT INTO log VALUES (4); COMMIT; PERFORM count(*) FROM t; END$$');
hit('once: CALL that commits', 1, $app, 'CALL several()');
like(join(' ', map { $_->[0] } @{ $app->ok('EXPLAIN SELECT count(*) FROM t')->{rows} }), qr/Workers Planned/, 'a parallel plan');
hit('once: a parallel query', 1, $app, 'SELECT count(*) FROM t');

# When the experiment begins in the middle of a statement, what runs within it
# is not taken for a top-level one.
$mon->ok(q{SELECT resilience.stop_experiment('x')});
wait_until('no run is armed', sub { $mon->ok(q{SELECT resilience.drop_experiment('x')}); 1 });
$mon->ok('CREATE TABLE go (a int); GRANT SELECT ON go TO app');
my $loop = q{BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; PERFORM nested(); PERFORM by_sql(); INSERT INTO deferred VALUES (7); END};
$mon->ok("CREATE FUNCTION waits() RETURNS void LANGUAGE plpgsql AS \$\$ $loop \$\$");
$mon->ok(q{CREATE FUNCTION waits_sql() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT waits(); INSERT INTO log VALUES (5) RETURNING id'});
my @waiting = map { my $client = connect_to($node, user => 'app'); $client->send($_); $client } ('SELECT waits()', 'SELECT waits_sql()', 'SELECT waits() FROM t WHERE id < 3', "DO \$\$ $loop \$\$");
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'}, 4);
experiment($mon, 'x', 'error');
$mon->ok('INSERT INTO go VALUES (1)');
error_is($_->result, 'no error', 'under way when the experiment began') for @waiting;
injected_is($mon, 'x', 0, 'what was under way');
error_is($_->query('SELECT 1'), '58000', 'its next statement is hit') for @waiting;
$_->close for @waiting;

# While a transaction commits.  Statements before are not hit, by their command.
experiment($mon, 'x', 'error', command => q{'INSERT'});
hit('an INSERT is hit', 1, $app, 'INSERT INTO log VALUES (8)');
$mon->ok(q{SELECT resilience.stop_experiment('x')});
my $before = $mon->value('SELECT count(*) FROM log WHERE id = 7777');
for my $impact (qw(error latency lock_delay cancel terminate))
{
	for my $commit ('COMMIT', q{PREPARE TRANSACTION 'p'})
	{
		$app->ok('BEGIN; INSERT INTO deferred VALUES (7777); INSERT INTO child VALUES (1)');
		experiment($mon, 'x', $impact, delay => q{'1 ms'});
		error_is($app->query($commit), 'no error', "$impact: $commit with deferred triggers");
		injected_is($mon, 'x', 0, "$impact: $commit");
		error_is($app->query(q{COMMIT PREPARED 'p'}), 'no error', "$impact: COMMIT PREPARED") if $commit ne 'COMMIT';
		injected_is($mon, 'x', 0, "$impact: after $commit");
		end_experiments($mon);
	}

	# cursors that the transaction leaves open
	$app->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE; DECLARE h CURSOR WITH HOLD FOR SELECT * FROM t; FETCH c');
	experiment($mon, 'x', $impact, delay => q{'1 ms'});
	error_is($app->query('COMMIT'), 'no error', "$impact: COMMIT with open cursors");
	injected_is($mon, 'x', 0, "$impact: COMMIT with open cursors");
	$app->ok('CLOSE h');
	injected_is($mon, 'x', 0, "$impact: CLOSE of one that was held");
	end_experiments($mon);
	if ($impact eq 'lock_delay')
	{
		experiment($mon, 'x', $impact, delay => q{'1 ms'});
		hit("$impact: COMMIT with open cursors", 0, $app, 'BEGIN', 'DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE', 'COMMIT');
		hit("$impact: COMMIT with open cursors", 0, $app, 'BEGIN', 'DECLARE h CURSOR WITH HOLD FOR SELECT * FROM t', 'FETCH h', 'COMMIT', 'CLOSE h');
	}

	# in the statement's own commit: only the statement itself is hit
	next if $impact =~ /error|cancel|terminate/;
	experiment($mon, 'x', $impact, delay => q{'1 ms'});
	hit("$impact: a statement with deferred triggers", 1, $app, 'INSERT INTO deferred VALUES (7777)');
	hit("$impact: two in one message", 2, $app, 'INSERT INTO deferred VALUES (7777); INSERT INTO child VALUES (2)');
}
is($mon->value('SELECT count(*) FROM log WHERE id = 7777'), 10 + 2 * 2, 'all deferred triggers have fired');

# Who stops it gets through, and who looks.
experiment($mon, 'x', 'error');
error_is($operator->query('SELECT 1'), '58000', 'the operator is hit like all others');
error_is($operator->query($_), 'no error', "but not: $_")
  for (q{SELECT name, state FROM resilience.experiments}, q{SELECT * FROM resilience.experiments WHERE state = 'running' ORDER BY 1 LIMIT 1},
	q{SELECT resilience.my_priority()}, q{WITH s AS (SELECT resilience.my_priority()) SELECT * FROM s}, q{SELECT (SELECT resilience.my_priority() FROM pg_class LIMIT 1)}, q{SELECT * FROM resilience.stop_experiment('x')});
experiment($mon, 'x', 'terminate');
error_is($operator->query(q{SELECT resilience.stop_experiment(name) FROM resilience.experiments}), 'no error', 'stop all of them');
experiment($mon, 'x', 'cancel');
error_is($operator->query(q{SELECT resilience.stop_experiment('x')}), 'no error', 'stop one');
is(experiment_of($mon, 'x', 'injections_total'), 0, 'none of that was hit');

# Connections: superusers, and walsenders of any role
experiment($mon, 'x', 'connection_refused');
is(connect_refused($node, user => 'app')->{C}, '57P03', 'a plain role is refused');
is(connect_refused($node, user => 'sender')->{C}, '57P03', 'so is a session of a replication role');
is(connect_refused($node), undef, 'a superuser is not');
is(connect_refused($node, user => 'boss'), undef, 'nor another one');
is(connect_refused($node, user => 'sender', replication => 'true', dbname => 'replication'), undef, 'nor a walsender');
experiment($mon, 'x', 'error');
my $sender = connect_to($node, user => 'sender', replication => 'database');
error_is($sender->query('IDENTIFY_SYSTEM'), 'no error', 'its commands');
error_is($sender->query('SELECT count(*) FROM pg_class'), 'no error', 'and its statements');
$sender->close;

# Autovacuum, and our own workers
experiment($mon, 'x', 'error');
$mon->ok('CREATE TABLE vacuumed AS SELECT generate_series(1, 1000) AS a; ALTER TABLE vacuumed OWNER TO app');
set_conf($mon, 'autovacuum' => 'on');
wait_for_value($mon, q{SELECT autoanalyze_count > 0 FROM pg_stat_user_tables WHERE relname = 'vacuumed'}, 't');
set_conf($mon, 'autovacuum' => 'off');
injected_is($mon, 'x', 0, 'autovacuum');

# A run that nobody may inject into: this database's experiment in another one
$mon->ok(q{CREATE DATABASE elsewhere});
my $elsewhere = connect_to($node, user => 'app', dbname => 'elsewhere');
error_is($elsewhere->query('SELECT 1'), 'no error', 'sessions in another database');
$elsewhere->close;
end_experiments($mon);
error_is($app->query('SELECT 1'), 'no error', 'and nobody when all have ended');
all_zero($mon, 'in the end');
ok(!$node->log_contains('PANIC|TRAP|was terminated by signal'), 'no crash');
done_testing();
