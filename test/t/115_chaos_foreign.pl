# Chaos experiments on foreign servers: below the circuit breaker, on every way
# to a server, once in a statement, and postgres_fdw's connections survive it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use ChaosTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $remote = remote_node('remote');
my $node = local_node('chaos_foreign', conf => "resilience.chaos = on\n", roles => [qw(app)]);
my $mon = monitor($node);
my $look = connect_to($remote);
my ($result, $elapsed);

# "sa" gets a breaker, "sn" has none
$remote->safe_psql('postgres', 'CREATE TABLE p (g int, v int); CREATE TABLE q (g int, v int); INSERT INTO p SELECT 1, i FROM generate_series(1, 50) i; INSERT INTO q SELECT 2, i FROM generate_series(1, 50) i');
for my $server (qw(sa sn))
{
	add_server($mon, $server, $remote);
	$mon->ok("GRANT USAGE ON FOREIGN SERVER $server TO app");
	$mon->ok($_) for (
		"CREATE FOREIGN TABLE ${server}_estimated (id int, v int) SERVER $server OPTIONS (table_name 't', use_remote_estimate 'true')",
		"CREATE FOREIGN TABLE ${server}_owned (id int, v int) SERVER $server OPTIONS (table_name 't')",
		"ALTER FOREIGN TABLE ${server}_owned OWNER TO app",
		"CREATE TABLE ${server}_parts (g int, v int) PARTITION BY LIST (g)",
		"CREATE FOREIGN TABLE ${server}_p PARTITION OF ${server}_parts FOR VALUES IN (1) SERVER $server OPTIONS (table_name 'p', async_capable 'true')",
		"CREATE FOREIGN TABLE ${server}_q PARTITION OF ${server}_parts FOR VALUES IN (2) SERVER $server OPTIONS (table_name 'q', async_capable 'true')",
		"CREATE FUNCTION ${server}_function() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM ${server}_t); END'",
		"GRANT ALL ON ${server}_estimated, ${server}_parts TO app");
}
my $file = PostgreSQL::Test::Utils::tempdir() . '/numbers.csv';
append_to_file($file, "1\n2\n3\n");
$mon->ok($_) for (
	q{CREATE SERVER sf FOREIGN DATA WRAPPER file_fdw},
	qq{CREATE FOREIGN TABLE numbers (a int) SERVER sf OPTIONS (filename '$file', format 'csv')},
	q{CREATE TABLE l (id int, v int); INSERT INTO l SELECT i, i FROM generate_series(1, 20) i; ANALYZE l},
	q{CREATE SCHEMA imported AUTHORIZATION app},
	q{GRANT ALL ON l, numbers TO app},
	q{CREATE FUNCTION caught(sql text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN EXECUTE sql; RETURN 'no error'; EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$});

sub make_breaker
{
	my ($options) = @_;

	$mon->ok(q{SELECT resilience.drop_breaker(name) FROM resilience.breakers});
	$mon->ok(q{SELECT resilience.create_breaker('b', 'sa', probe => false, jitter => 0, reset_timeout => '1 h', max_reset_timeout => '1 h', } . $options . ')');
	return;
}
my $never_opens = q{max_failures => 1000000, minimum_calls => 1000000};
my $app = connect_to($node, user => 'app');

sub is_usable
{
	my ($session, $server, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($session->query("SELECT count(*) FROM ${server}_t WHERE id > 0")->{rows}[0][0], 1000, "$label: the connection is usable");
	is($look->value(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND state LIKE 'idle in%'}), 0,
		"$label: no transaction is left over there");
	return;
}

# Every way
make_breaker($never_opens);
my @ways = (
	[ 'a scan', 'SELECT * FROM S_t' ],
	[ 'a scan of many rows', 'SELECT sum(v + random()) FROM S_t' ],
	[ 'a pushed join', 'SELECT * FROM S_t t JOIN S_u u USING (id)' ],
	[ 'a local join', 'SELECT * FROM S_t t JOIN S_u u ON t.v + random() < u.v' ],
	[ 'a rescan', 'SELECT * FROM l, LATERAL (SELECT * FROM S_t t WHERE t.id = l.id OFFSET 0) x' ],
	[ 'a pushed aggregate', 'SELECT count(*) FROM S_t' ],
	[ 'INSERT', 'INSERT INTO S_log VALUES (1, 1)' ],
	[ 'a pushed UPDATE', 'UPDATE S_log SET v = 2' ],
	[ 'a pushed DELETE', 'DELETE FROM S_log WHERE id = 0' ],
	[ 'an UPDATE by row', 'UPDATE S_t SET v = v WHERE id < 5 AND random() < 2' ],
	[ 'COPY FROM', "COPY S_log FROM PROGRAM 'false'" ],
	[ 'asynchronous scans', 'SELECT sum(v + random()) FROM S_parts' ],
	[ 'an INSERT into a partition', 'INSERT INTO S_parts VALUES (1, 1)' ],
	[ 'a function', 'SELECT S_function()' ],
	[ 'a plan of EXECUTE', 'EXECUTE S_prepared' ],
	[ 'COPY TO', 'COPY (SELECT * FROM S_t) TO STDOUT' ],
	[ 'CREATE TABLE AS', 'CREATE TEMP TABLE made AS SELECT * FROM S_t' ],
	[ 'ANALYZE', 'ANALYZE S_owned' ],
	[ 'TRUNCATE', 'TRUNCATE S_log' ],
	[ 'IMPORT', 'IMPORT FOREIGN SCHEMA public LIMIT TO (t) FROM SERVER S INTO imported' ],
	[ 'planning', 'EXPLAIN SELECT * FROM S_estimated' ],
	[ 'EXPLAIN ANALYZE', 'EXPLAIN ANALYZE SELECT * FROM S_t' ]);
for my $server (qw(sa sn))
{
	my $before = breaker($mon, 'b', 'failure_total');

	$app->ok("PREPARE ${server}_prepared AS SELECT * FROM ${server}_t");
	for my $way (@ways)
	{
		my ($label, $sql) = @$way;

		$sql =~ s/\bS(_|\b)/$server$1/g;
		experiment($mon, 'x', 'foreign_error', server => "'$server'");
		if ($label eq 'COPY FROM')
		{
			$app->send("COPY ${server}_log FROM STDIN");
			$result = $app->read_until('GZ');
			$app->message('f', 'no') unless $result->{error};
			$result = $app->result unless $result->{error};
		}
		else
		{
			$result = $app->query($sql);
		}
		error_is($result, '08006', "$server: $label");
		is(detail_of($result, 'chaos'), 'x', "$server: $label: says whose it is");
		injected_is($mon, 'x', 1, "$server: $label");
		$mon->ok(q{SELECT resilience.stop_experiment('x')});
		is_usable($app, $server, "$server: $label");
	}
	is(breaker($mon, 'b', 'failure_total') - $before, $server eq 'sa' ? scalar @ways : 0, "$server: what its breaker has counted");
}
experiment($mon, 'x', 'foreign_error', server => q{'sf'});
$result = $app->query('SELECT * FROM numbers');
error_is($result, '08006', 'another wrapper');
like($result->{error}{M}, qr/^call to foreign server "sf" failed: .*chaos experiment "x"/, 'its message');
error_is($app->query('SELECT * FROM sa_t'), 'no error', 'another server is not hit');
error_is($app->query('SELECT * FROM l'), 'no error', 'nor is a local table');
error_is($mon->query('SELECT * FROM numbers'), 'no error', 'nor a superuser');
error_is($app->query('EXPLAIN SELECT * FROM numbers'), 'no error', 'nor EXPLAIN');
experiment($mon, 'x', 'foreign_error');
error_is($app->query("SELECT * FROM $_"), '08006', "without a condition on the server: $_") for qw(sa_t sn_t numbers);

# Once in a statement and server
experiment($mon, 'x', 'foreign_latency', delay => q{'1 ms'});
for my $case (
	[ 1, 'SELECT sum(v + random()) FROM sa_t' ],
	[ 1, 'SELECT * FROM sa_t t JOIN sa_u u ON t.v + random() < u.v' ],
	[ 1, 'SELECT * FROM l, LATERAL (SELECT * FROM sa_t t WHERE t.id = l.id OFFSET 0) x' ],
	[ 1, 'SELECT sum(v + random()) FROM sa_parts' ],
	[ 1, 'SELECT sa_function() FROM l' ],
	[ 2, 'SELECT * FROM sa_t t JOIN sn_u u USING (id)' ],
	[ 3, 'SELECT * FROM sa_t t JOIN sn_u u USING (id), numbers' ],
	[ 2, 'SELECT * FROM sa_estimated' ])
{
	my ($expected, $sql) = @$case;
	my $before = experiment_of($mon, 'x', 'injections_total');

	$app->ok($sql);
	is(experiment_of($mon, 'x', 'injections_total') - $before, $expected, "$expected: $sql");
}

# A statement that was under way when the experiment began
end_experiments($mon);
$mon->ok('CREATE TABLE go (a int); GRANT SELECT ON go TO app');
$app->send('DO $$BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; PERFORM * FROM sa_t; END$$');
wait_for_value($mon, "SELECT state FROM pg_stat_activity WHERE pid = $app->{pid}", 'active');
experiment($mon, 'x', 'foreign_error', server => q{'sa'});
$mon->ok('INSERT INTO go VALUES (1)');
error_is($app->result, 'no error', 'a call of a statement that was under way before is not hit');
error_is($app->query('DO $$BEGIN PERFORM * FROM sa_t; END$$'), '08006', 'that of the next one is');

# In transactions: the error goes the way of all errors.
experiment($mon, 'x', 'foreign_error', server => q{'sa'}, command => q{'DELETE'});
$app->ok('BEGIN');
$app->ok('INSERT INTO sa_log VALUES (10, 10)');
error_is($app->query('DELETE FROM sa_log'), '08006', 'in a transaction that the server takes part in');
$app->ok('ROLLBACK');
is_usable($app, 'sa', 'after the ROLLBACK');
is($look->value('SELECT count(*) FROM log'), 0, 'which was one there, too');
$app->ok('BEGIN');
$app->ok('INSERT INTO sa_log VALUES (11, 11)');
$app->ok('SAVEPOINT s');
error_is($app->query('DELETE FROM sa_log'), '08006', 'after a savepoint');
$app->ok('ROLLBACK TO s');
$app->ok('INSERT INTO sa_log VALUES (12, 12)');
$app->ok('COMMIT');
is($look->value('SELECT string_agg(id::text, NULL) FROM log'), '1112', 'what is outside of it is committed');
experiment($mon, 'x', 'foreign_error', server => q{'sa'}, max_injections => 1);
$app->ok('BEGIN');
is($app->value(q{SELECT caught('SELECT * FROM sa_t')}), '08006', 'caught in a function');
is($app->value(q{SELECT caught('SELECT * FROM sa_t')}), 'no error', 'the transaction goes on with the server');
$app->ok('COMMIT');
is_usable($app, 'sa', 'after all that');

# The breaker opens, and then no server is called, nor any fault injected.
make_breaker(q{max_failures => 3});
experiment($mon, 'x', 'foreign_error', server => q{'sa'});
error_is($app->query('SELECT * FROM sa_t'), '08006', 'a failure') for 1 .. 3;
breaker_is($mon, 'b', 'state failure_total last_sqlstate', 'open 3 08006', 'the breaker opens');
like(breaker($mon, 'b', 'last_error'), qr/chaos experiment "x"/, 'and says that it was an experiment');
my $connections = remote_connections($remote);
error_is($app->query('SELECT * FROM sa_t'), '08R01', 'then it rejects');
injected_is($mon, 'x', 3, 'and nothing is injected any more');
is(remote_connections($remote), $connections, 'nor is the server asked');

# Fallback
$mon->ok('CREATE TABLE sa_copy (id int, v int); INSERT INTO sa_copy VALUES (-1, -1); GRANT SELECT ON sa_copy TO app');
$mon->ok(q{SELECT resilience.set_fallback('sa_t', 'sa_copy')});
make_breaker(q{max_failures => 2, on_open => 'fallback'});
error_is($app->query('SELECT * FROM sa_t'), '08006', 'a failure') for 1 .. 2;
is($app->value('SELECT id FROM sa_t'), -1, 'then the fallback answers');
$mon->ok(q{SELECT resilience.stop_experiment('x')});
$mon->ok(q{SELECT resilience.force_breaker('b', 'closed')});
is($app->value('SELECT count(*) FROM sa_t'), 1000, 'closed again: the server does');
$mon->ok(q{SELECT resilience.drop_fallback('sa_t')});

# Codes that are not the server's fault, and others that are
make_breaker($never_opens);
for my $case ([ '08001', 1 ], [ '53300', 1 ], [ '57P01', 1 ], [ '58030', 1 ], [ '42P01', 0 ], [ '23505', 0 ])
{
	my ($sqlstate, $counts) = @$case;
	my $before = breaker($mon, 'b', 'failure_total');

	experiment($mon, 'x', 'foreign_error', server => q{'sa'}, sqlstate => "'$sqlstate'");
	error_is($app->query('SELECT * FROM sa_t'), $sqlstate, "sqlstate $sqlstate");
	is(breaker($mon, 'b', 'failure_total') - $before, $counts, "$sqlstate: counted as if it were real");
}

# Slow calls
make_breaker(q{slow_call_duration => '50 ms', slow_call_rate => 0.5, minimum_calls => 4, max_failures => 1000000});
experiment($mon, 'x', 'foreign_latency', server => q{'sa'}, delay => q{'120 ms'});
for (1 .. 4)
{
	($elapsed, $result) = timed(sub { $app->query('SELECT * FROM sa_t WHERE id = 1') });
	error_is($result, 'no error', 'a slow call');
	cmp_ok($elapsed, '>=', 0.119, 'it takes as long as it should');
}
breaker_is($mon, 'b', 'state slow_total failure_total', 'open 4 0', 'slow calls open the breaker');

# call_timeout
make_breaker("$never_opens, call_timeout => '300 ms'");
experiment($mon, 'x', 'foreign_latency', server => q{'sa'}, delay => q{'50 s'}, max_concurrent => 1);
for my $sql ('SELECT * FROM sa_t', 'INSERT INTO sa_log VALUES (0, 0)', 'SELECT sum(v + random()) FROM sa_parts', 'SELECT * FROM sa_estimated')
{
	($elapsed, $result) = timed(sub { $app->query($sql) });
	error_is($result, '08R02', "call_timeout: $sql");
	cmp_ok($elapsed, '>=', 0.29, 'not before its time');
	cmp_ok($elapsed, '<', 2, 'nor much later');
}
breaker_is($mon, 'b', 'failure_total timed_out_total', '4 4', 'each counts as a failure');
is(experiment_of($mon, 'x', 'injections_total', 'overflowed_total'), '4 0', 'and each fault was given back');
$mon->ok(q{SELECT resilience.stop_experiment('x')});
is_usable($app, 'sa', 'after call_timeout');

# Interrupted by its user: nobody's fault
make_breaker($never_opens);
experiment($mon, 'x', 'foreign_latency', server => q{'sa'}, delay => q{'50 s'}, max_concurrent => 1);
for (1 .. 2)
{
	$app->send('SELECT * FROM sa_t');
	wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
	$app->cancel;
	error_is($app->result, '57014', 'cancelled');
}
$app->ok(q{SET statement_timeout = '200 ms'});
error_is($app->query('SELECT * FROM sa_t'), '57014', 'statement_timeout');
$app->ok('RESET statement_timeout');
breaker_is($mon, 'b', 'failure_total calls_in_flight', '0 0', 'not the breaker\'s business');
is(experiment_of($mon, 'x', 'injections_total', 'overflowed_total'), '3 0', 'each fault was given back');
$app->send('SELECT * FROM sa_t');
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
$mon->ok("SELECT pg_terminate_backend($app->{pid})");
error_is($app->result, '57P01', 'terminated');
$app = connect_to($node, user => 'app');
wait_breaker($mon, 'b', 'calls_in_flight', 0);
$app->send('SELECT * FROM sa_t');
wait_for_value($mon, 'SELECT injections_total FROM resilience.experiments', 5);
is(experiment_of($mon, 'x', 'overflowed_total'), 0, 'a session that ends gives it back, too');
$mon->ok(q{SELECT resilience.stop_experiment('x')});
error_is($app->result, 'no error', 'and it ends with the experiment');
is_usable($app, 'sa', 'after all that');

# Nobody judges, but the fault is there: a breaker that is off, and mode = off
make_breaker("$never_opens, mode => 'off'");
experiment($mon, 'x', 'foreign_error', server => q{'sa'});
error_is($app->query('SELECT * FROM sa_t'), '08006', 'the breaker is off');
$mon->ok(q{ALTER ROLE app SET resilience.mode = off});
my $off = connect_to($node, user => 'app');
error_is($off->query('SELECT * FROM sa_t'), '08006', 'resilience.mode is off');
$mon->ok(q{ALTER ROLE app RESET resilience.mode});

# Conditions on statements, with the server
experiment($mon, 'x', 'foreign_error', server => q{'sa'}, relation => q{'sa_u'});
error_is($app->query('SELECT * FROM sa_u'), '08006', 'server and relation');
error_is($app->query('SELECT * FROM sa_t'), 'no error', 'another relation');
end_experiments($mon);
error_is($app->query('SELECT * FROM sa_t, sn_t, numbers LIMIT 1'), 'no error', 'all experiments have ended');
all_zero($mon, 'in the end');
ok(!$node->log_contains('PANIC|TRAP|was terminated by signal'), 'no crash');
done_testing();
