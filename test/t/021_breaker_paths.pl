# Every way to a guarded server is closed while its circuit breaker is open:
# 08R01 or a warning, and the remote sees no connection.  What does not need
# the server goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $rb = remote_node('rb');
my $ra = remote_node('ra');
my $node = local_node('paths');
my $mon = monitor($node);
limit_seconds(240);

# sb is guarded, sa is not
add_server($mon, 'sb', $rb);
add_server($mon, 'sa', $ra);
$mon->ok($_) for (
	q{CREATE FOREIGN TABLE batch (id int, v int) SERVER sb OPTIONS (table_name 'log', batch_size '10')},
	q{CREATE FOREIGN TABLE estimated (id int, v int) SERVER sb OPTIONS (table_name 't', use_remote_estimate 'true')},
	q{CREATE FOREIGN TABLE estimated_u (id int, v int) SERVER sb OPTIONS (table_name 'u', use_remote_estimate 'true')},
	q{CREATE TABLE l (id int, v int); INSERT INTO l SELECT i, i FROM generate_series(1, 10) i},

	# a local partition, one at each remote
	q{CREATE TABLE p (g int, v int) PARTITION BY LIST (g)},
	q{CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0)},
	q{INSERT INTO p SELECT 0, i FROM generate_series(1, 10) i},
	q{CREATE FOREIGN TABLE pa PARTITION OF p FOR VALUES IN (1) SERVER sa OPTIONS (table_name 'p', async_capable 'true')},
	q{CREATE FOREIGN TABLE pb PARTITION OF p FOR VALUES IN (2) SERVER sb OPTIONS (table_name 'p', async_capable 'true')},

	q{CREATE VIEW through_view AS SELECT * FROM sb_t},
	q{CREATE MATERIALIZED VIEW copied AS SELECT * FROM sb_t WITH NO DATA},
	q{CREATE FUNCTION by_sql() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM sb_t WHERE v > random()'},
	q{CREATE FUNCTION inlined() RETURNS SETOF sb_t STABLE LANGUAGE sql AS 'SELECT * FROM sb_t'},
	q{CREATE FUNCTION by_plpgsql() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM sb_t); END'},
	q{CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
		BEGIN PERFORM count(*) FROM sb_t; RETURN 'read';
		EXCEPTION WHEN SQLSTATE '08R01' THEN RETURN 'caught'; END$$},
	q{CREATE FUNCTION to_remote() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO sb_log VALUES (NEW.id, NEW.v); RETURN NEW; END'},
	q{CREATE TABLE triggering (id int, v int)},
	q{CREATE TRIGGER to_remote AFTER INSERT ON triggering FOR EACH ROW EXECUTE FUNCTION to_remote()},
	q{CREATE TABLE ruled (id int, v int)},
	q{CREATE RULE to_remote AS ON INSERT TO ruled DO ALSO INSERT INTO sb_log VALUES (NEW.id, NEW.v)},
	q{CREATE PROCEDURE by_call() LANGUAGE plpgsql AS 'BEGIN DELETE FROM sb_log; END'},
	q{CREATE SCHEMA imported},
	q{SELECT resilience.create_breaker('b', 'sb', max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h', probe => false)});
for ($ra, $rb)
{
	$_->safe_psql('postgres', 'CREATE TABLE p (g int, v int)');
	$_->safe_psql('postgres', 'INSERT INTO p SELECT ' . ($_ == $ra ? 1 : 2) . ', i FROM generate_series(1, 20) i');
}

# Plans and cursors made while it is closed
$mon->ok('ANALYZE sb_t, sb_u');
my $cached = connect_to($node);
$cached->ok($_) for (
	'PREPARE custom(int) AS SELECT * FROM sb_t WHERE id = $1',
	'EXECUTE custom(1)',
	'SET plan_cache_mode = force_generic_plan',
	'PREPARE generic(int) AS SELECT * FROM sb_t WHERE id = $1',
	'EXECUTE generic(1)',
	'PREPARE generic_insert(int) AS INSERT INTO sb_log VALUES ($1, 0)',
	'EXECUTE generic_insert(1)',
	'PREPARE generic_update(int) AS UPDATE sb_t SET v = v WHERE id = $1',
	'EXECUTE generic_update(1)',
	'PREPARE joined(int) AS SELECT * FROM sb_t t JOIN sb_u u USING (id) WHERE id = $1',
	'EXECUTE joined(1)',
	'PREPARE pruned(int) AS SELECT count(*) FROM p WHERE g = $1',
	'EXECUTE pruned(0)',
	'EXECUTE pruned(2)',
	'SELECT by_sql(), by_plpgsql()',
	'RESET plan_cache_mode',
	'SELECT postgres_fdw_disconnect_all()');
my $cursor = connect_to($node);
$cursor->ok('BEGIN; DECLARE c CURSOR FOR SELECT id FROM sb_t ORDER BY id');
is($cursor->value('FETCH c'), 1, 'a cursor is open');
my $held = connect_to($node);
$held->ok('BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT id FROM sb_t ORDER BY id; COMMIT');
$mon->ok('REFRESH MATERIALIZED VIEW copied');
breaker_is($mon, 'b', 'state failure_total calls_in_flight', 'closed 0 1', 'before');

my ($got) = call_of(connect_to($node), $rb, 'SELECT count(*) FROM sb_t');
is($got, 'ok, 1 connections', 'with a connection');

trip($node, $mon, 'b', 'sb');
breaker_is($mon, 'b', 'state open_count failure_total last_sqlstate', 'open 1 2 08006', 'it has opened');

my $s = connect_to($node);
my $before = remote_connections($rb);
my $result;

sub plan_of
{
	my ($session, $sql) = @_;
	return join("\n", map { $_->[0] } @{ $session->ok("EXPLAIN (VERBOSE, COSTS off) $sql")->{rows} });
}

# Reading
$result = rejected($s, $rb, 'SELECT * FROM sb_t', 'SELECT');
is($result->{error}{M}, 'circuit breaker "b" is open', 'its message');
is(detail_of($result, 'started'), 'false', 'nothing was started');
is(detail_of($result, 'server'), 'sb', 'it names the server');
cmp_ok(detail_of($result, 'retry_after_ms'), '>', 1000000, 'and when to come back');
ok($result->{error}{H}, 'and says what to do');
my @reads = (
	[ 'SELECT * FROM sb_t t JOIN sb_u u USING (id) WHERE t.id = 3', 'pushed join' ],
	[ 'SELECT count(*) FROM sb_t', 'pushed aggregate' ],
	[ 'SELECT v, count(*) FROM sb_t JOIN sb_u u USING (v) GROUP BY v ORDER BY v LIMIT 3', 'pushed join, aggregate, sort and limit' ],
	[ 'SELECT * FROM sb_t JOIN l USING (id)', 'local join' ],
	[ 'SELECT * FROM sb_t JOIN sa_t USING (id)', 'join with another server' ],
	[ 'SELECT * FROM through_view', 'view' ],
	[ 'SELECT by_sql()', 'SQL function' ],
	[ 'SELECT * FROM inlined()', 'inlined function' ],
	[ 'SELECT by_plpgsql()', 'PL/pgSQL function' ],
	[ 'DO $$BEGIN PERFORM * FROM sb_t; END$$', 'DO' ],
	[ 'SELECT (SELECT count(*) FROM sb_t)', 'sublink' ],
	[ 'SELECT * FROM l WHERE EXISTS (SELECT FROM sb_t WHERE sb_t.id = l.id)', 'EXISTS' ],
	[ 'SELECT * FROM l WHERE id NOT IN (SELECT id FROM sb_t)', 'NOT IN' ],
	[ 'WITH c AS MATERIALIZED (SELECT * FROM sb_t) SELECT count(*) FROM c', 'CTE' ],
	[ 'WITH RECURSIVE r AS (SELECT 1 AS id UNION ALL SELECT t.id + 1 FROM r JOIN sb_t t USING (id) WHERE id < 3) SELECT * FROM r', 'recursive CTE' ],
	[ 'SELECT * FROM l, LATERAL (SELECT * FROM sb_t WHERE sb_t.id = l.id LIMIT 1) x', 'lateral' ],
	[ 'SELECT id FROM l UNION ALL SELECT id FROM sb_t', 'UNION ALL' ],
	[ 'SELECT * FROM sb_t FOR UPDATE', 'FOR UPDATE' ],
	[ 'SELECT * FROM sb_t JOIN l USING (id) FOR SHARE OF sb_t', 'FOR SHARE in a join' ],
	[ 'SELECT * FROM l JOIN sb_t USING (id) FOR UPDATE OF l', 'a join with a locked local table' ],
	[ 'CREATE TABLE made AS SELECT * FROM sb_t', 'CREATE TABLE AS' ],
	[ 'SELECT * INTO made FROM sb_t', 'SELECT INTO' ],
	[ 'REFRESH MATERIALIZED VIEW copied', 'REFRESH MATERIALIZED VIEW' ],
	[ 'COPY (SELECT * FROM sb_t) TO STDOUT', 'COPY (query) TO' ],
	[ 'EXPLAIN ANALYZE SELECT * FROM sb_t', 'EXPLAIN ANALYZE' ],
	[ 'EXPLAIN SELECT * FROM estimated', 'EXPLAIN with use_remote_estimate' ],
	[ 'EXPLAIN SELECT * FROM estimated JOIN estimated_u USING (id)', 'EXPLAIN of a join with use_remote_estimate' ],
	[ 'SELECT * FROM estimated WHERE id = 3', 'SELECT with use_remote_estimate' ],
	[ 'UPDATE estimated SET v = 0', 'UPDATE with use_remote_estimate' ]);
rejected($s, $rb, @$_) for @reads;
is($s->value('SELECT to_regclass($$made$$)'), undef, 'no table was made');
is($s->value('SELECT count(*) FROM copied'), 1000, 'the materialized view is as it was');
is($s->value('SELECT caught()'), 'caught', 'it can be caught');
like(plan_of($s, 'SELECT * FROM sb_t t JOIN sb_u u USING (id) WHERE t.id = 3'), qr/Relations:.*Breaker: "b" of server "sb" is open/s, 'the join is a pushed one, EXPLAIN shows the breaker');
like(plan_of($s, 'SELECT count(*) FROM sb_t'), qr/Aggregate on \(.*sb_t/, 'so is the aggregate');
passes($s, $rb, 'EXPLAIN SELECT * FROM sb_t', 'EXPLAIN');
passes($s, $rb, 'EXPLAIN UPDATE sb_t SET v = 0', 'EXPLAIN UPDATE');
passes($s, $rb, 'EXPLAIN INSERT INTO sb_t VALUES (1, 1)', 'EXPLAIN INSERT');
unlike(plan_of($s, 'SELECT * FROM sa_t'), qr/Breaker/, 'nothing about a server without one');

# The plan is as good as it is while the breaker is closed: what cannot be
# reached is not read
is(passes($s, $rb, 'SELECT * FROM sb_t WHERE false', 'a condition that is never met')->{tags}[0], 'SELECT 0', 'no rows');
passes($s, $rb, 'SELECT * FROM l LEFT JOIN sb_t USING (id) WHERE l.id < 0', 'a join whose outer side is empty');
passes($s, $rb, 'SELECT CASE WHEN id > 1000 THEN (SELECT max(v) FROM sb_t) ELSE 0 END FROM l', 'a sublink that is not evaluated');

# Partitions: only those that are needed
is(passes($s, $rb, 'SELECT count(*) FROM p WHERE g = 0', 'pruned by the planner')->{rows}[0][0], 10, 'rows of the local partition');
is(passes($s, $rb, 'SELECT count(*) FROM p WHERE g = 1', 'another server')->{rows}[0][0], 20, 'rows of the other server');
is(passes($s, $rb, 'SELECT count(*) FROM p WHERE g < 2', 'async append without it')->{rows}[0][0], 30, 'rows of two partitions');
is(passes($s, $rb, 'SELECT count(*) FROM p WHERE g = (SELECT 0)', 'pruned by the executor')->{rows}[0][0], 10, 'rows of the local partition');
is(passes($s, $rb, 'SELECT * FROM p LIMIT 0', 'LIMIT 0')->{tags}[0], 'SELECT 0', 'no rows');
is(passes($cached, $rb, 'EXECUTE pruned(0)', 'pruned in a generic plan')->{rows}[0][0], 10, 'rows of the local partition');
rejected($cached, $rb, 'EXECUTE pruned(2)', 'the same plan with its partition');
rejected($s, $rb, 'SELECT count(*) FROM p WHERE g = 2', 'the partition alone');
rejected($s, $rb, 'SELECT count(*) FROM p WHERE g = (SELECT 2)', 'the partition, by the executor');
rejected($s, $rb, 'SELECT count(*) FROM p', 'append over all');
like(plan_of($s, 'SELECT * FROM p WHERE g > 0'), qr/Async Foreign Scan/, 'the append is asynchronous');
rejected($s, $rb, 'SELECT * FROM p WHERE g > 0', 'async append');
$s->ok('SET enable_async_append = off');
rejected($s, $rb, 'SELECT count(*) FROM p WHERE g > 0', 'synchronous append');
$s->ok('RESET enable_async_append; SET enable_partitionwise_aggregate = on');
rejected($s, $rb, 'SELECT g, count(*) FROM p GROUP BY g', 'partitionwise aggregate');
$s->ok('RESET enable_partitionwise_aggregate');

# Cached plans
rejected($cached, $rb, 'EXECUTE custom(1)', 'cached custom plan');
rejected($cached, $rb, "EXECUTE $_(1)", "cached plan \"$_\"") for qw(generic generic_insert generic_update joined);
rejected($cached, $rb, 'SELECT by_sql()', 'cached SQL function');
rejected($cached, $rb, 'SELECT by_plpgsql()', 'cached PL/pgSQL function');

# Cursors
passes($s, $rb, 'BEGIN; DECLARE d CURSOR FOR SELECT * FROM sb_t', 'DECLARE');
rejected($s, $rb, 'FETCH d', 'FETCH');
$s->ok('ROLLBACK');
rejected($s, $rb, 'BEGIN; DECLARE d CURSOR WITH HOLD FOR SELECT * FROM sb_t; COMMIT', 'a cursor WITH HOLD at COMMIT');
$s->ok('ROLLBACK');
is($cursor->ok('FETCH ALL FROM c')->{tags}[0], 'FETCH 999', 'a cursor that was open goes on');
rejected($cursor, $rb, 'SELECT * FROM sb_t', 'another statement of its session');
$cursor->ok('ROLLBACK');
is($held->ok('FETCH ALL FROM h')->{tags}[0], 'FETCH 1000', 'a held one, too');

# Changes
my @changes = (
	[ 'INSERT INTO sb_log VALUES (1, 1)', 'INSERT' ],
	[ 'INSERT INTO sb_log VALUES (1, 1), (2, 2) RETURNING *', 'INSERT of two rows RETURNING' ],
	[ 'INSERT INTO sb_t VALUES (1, 1) ON CONFLICT DO NOTHING', 'INSERT ON CONFLICT' ],
	[ 'INSERT INTO batch SELECT i, i FROM generate_series(1, 25) i', 'batch insert' ],
	[ 'INSERT INTO sb_log SELECT * FROM l', 'INSERT ... SELECT' ],
	[ 'INSERT INTO l SELECT * FROM sb_t', 'INSERT ... SELECT from it' ],
	[ 'INSERT INTO l VALUES ((SELECT max(id) FROM sb_t), 0)', 'INSERT of a sublink' ],
	[ 'UPDATE sb_t SET v = v + 1 WHERE id = 1', 'direct UPDATE' ],
	[ 'UPDATE sb_t SET v = v + 1 WHERE id = 1 RETURNING *', 'direct UPDATE RETURNING' ],
	[ 'UPDATE sb_t SET v = l.v FROM l WHERE l.id = sb_t.id', 'UPDATE row by row' ],
	[ 'UPDATE sb_t SET v = (random() * 10)::int', 'UPDATE row by row, volatile' ],
	[ 'UPDATE l SET v = sb_t.v FROM sb_t WHERE l.id = sb_t.id', 'UPDATE of a local table from it' ],
	[ 'DELETE FROM sb_t WHERE id = 1', 'direct DELETE' ],
	[ 'DELETE FROM sb_t USING l WHERE l.id = sb_t.id', 'DELETE row by row' ],
	[ 'DELETE FROM l USING sb_t WHERE l.id = sb_t.id', 'DELETE of a local table by it' ],
	[ 'MERGE INTO l USING sb_t s ON s.id = l.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)', 'MERGE' ],
	[ 'TRUNCATE sb_log', 'TRUNCATE' ],
	[ 'TRUNCATE l, sb_log', 'TRUNCATE of two tables' ],
	[ 'INSERT INTO triggering VALUES (1, 1)', 'trigger' ],
	[ 'INSERT INTO ruled VALUES (1, 1)', 'rule' ],
	[ 'CALL by_call()', 'procedure' ],
	[ 'WITH w AS (DELETE FROM sb_log RETURNING *) INSERT INTO l SELECT * FROM w', 'DELETE in a CTE' ],
	[ 'INSERT INTO p VALUES (2, 0)', 'INSERT of a row that is routed there' ],
	[ 'INSERT INTO p SELECT i % 3, i FROM generate_series(0, 10) i', 'INSERT of rows for all partitions' ],
	[ 'UPDATE p SET v = v', 'UPDATE of all partitions' ],
	[ 'UPDATE p SET g = 2 WHERE g = 0', 'UPDATE that moves rows there' ],
	[ 'DELETE FROM p', 'DELETE from all partitions' ],
	[ 'IMPORT FOREIGN SCHEMA public FROM SERVER sb INTO imported', 'IMPORT FOREIGN SCHEMA' ]);
rejected($s, $rb, @$_) for @changes;
passes($s, $rb, 'INSERT INTO p VALUES (0, 0)', 'INSERT into the local partition');
passes($s, $rb, 'INSERT INTO p VALUES (1, 0)', 'INSERT into the other server\'s partition');
passes($s, $rb, 'UPDATE p SET v = v + 1 WHERE g = 0', 'UPDATE of the local partition');
passes($s, $rb, 'DELETE FROM p WHERE g = 0 AND v = 1', 'DELETE from the local partition');
passes($s, $rb, 'INSERT INTO sb_log SELECT * FROM l WHERE false', 'INSERT of no rows');
is($s->value('SELECT count(*) FROM l'), 10, 'local tables are unchanged');
is($s->value('SELECT count(*) FROM triggering') + $s->value('SELECT count(*) FROM ruled'), 0, 'so are those with triggers and rules');
is($s->value('SELECT count(*) FROM p WHERE g = 0'), 10, 'no row has moved');

# COPY
sub copy_rows
{
	my ($session, $command, @rows) = @_;

	$session->send($command);
	$session->read_until('GE');
	$session->copy_data("$_\n") for @rows;
	$session->copy_done;
	return $session->result;
}
rejected($s, $rb, sub { copy_rows($s, 'COPY sb_log FROM STDIN', "1\t1", "2\t2") }, 'COPY FROM');
rejected($s, $rb, sub { copy_rows($s, 'COPY batch FROM STDIN', "1\t1", "2\t2") }, 'COPY FROM, batch');
is(passes($s, $rb, sub { copy_rows($s, 'COPY p FROM STDIN', "0\t100", "1\t100", "0\t101") }, 'COPY into other partitions')->{tags}[0],
	'COPY 3', 'three rows');
$result = rejected($s, $rb, sub { copy_rows($s, 'COPY p FROM STDIN', "0\t102", "1\t102", "2\t102", "0\t103") }, 'COPY into all partitions');
like($result->{error}{W}, qr/COPY p, line 3/, 'fails at the first row that is routed there');
is($s->value('SELECT count(*) FROM p WHERE g < 2 AND v > 101'), 0, 'and leaves nothing behind');

# ANALYZE goes on with the rest
$mon->ok(q{UPDATE pg_class SET reltuples = -1 WHERE relname IN ('l', 'sa_t', 'sb_t', 'p0', 'pa', 'pb')});
$result = passes($s, $rb, 'ANALYZE sb_t, l, sa_t, p', 'ANALYZE');
my @warnings = grep { $_->{S} eq 'WARNING' && $_->{M} =~ /circuit breaker "b" is open/ } @{ $result->{notices} };
cmp_ok(scalar(@warnings), '>=', 2, 'with a warning for each table of it');
like(join("\n", map { $_->{M} } @{ $result->{notices} }), qr/skipping "sb_t"/, 'which are skipped');
is($s->value(q{SELECT string_agg(format('%s %s', relname, reltuples), ', ' ORDER BY relname) FROM pg_class WHERE relname IN ('l', 'sa_t', 'sb_t', 'p0', 'pb')}),
	'l 10, p0 12, pb -1, sa_t 1000, sb_t -1', 'the others are analyzed');
passes($s, $rb, 'VACUUM l, sb_t', 'VACUUM');

# Definitions need no server
passes($s, $rb, 'ALTER FOREIGN TABLE sb_t OPTIONS (ADD fetch_size $$50$$)', 'ALTER FOREIGN TABLE');
passes($s, $rb, 'CREATE FOREIGN TABLE another (id int) SERVER sb; DROP FOREIGN TABLE another', 'CREATE and DROP FOREIGN TABLE');
passes($s, $rb, 'ALTER SERVER sb OPTIONS (ADD fetch_size $$50$$)', 'ALTER SERVER');
rejected($s, $rb, 'SELECT * FROM sb_t', 'SELECT after that');

# The server that nobody guards
is($s->value('SELECT count(*) FROM sa_t JOIN sa_u USING (id)'), 1000, 'another server can be read');
error_is($s->query('INSERT INTO sa_log VALUES (1, 1)'), 'no error', 'and written');
error_is($s->query('IMPORT FOREIGN SCHEMA public LIMIT TO (t) FROM SERVER sa INTO imported'), 'no error', 'and imported from');
error_is($s->query('TRUNCATE sa_log'), 'no error', 'and truncated');

is(remote_connections($rb), $before, 'no connection to the guarded server in all that time');
is($rb->safe_psql('postgres', q{SELECT (SELECT sum(v) FROM t) || ' ' || (SELECT count(*) FROM log) || ' ' || (SELECT count(*) FROM p)}),
	'500500 1 20', 'its tables are as they were');
breaker_is($mon, 'b', 'state open_count failure_total calls_in_flight', 'open 1 2 0', 'rejections are no failures');
cmp_ok(breaker($mon, 'b', 'rejected_total'), '>', 70, 'but counted');

# Closed again, everything works, in the sessions that were rejected as well
$mon->ok(q{SELECT resilience.reset_breaker('b')});
is($s->value('SELECT count(*) FROM sb_t'), 1000, 'SELECT');
for my $change (@changes)
{
	my ($sql, $label) = @$change;

	$s->ok('BEGIN');
	error_is($s->query($sql), 'no error', "closed: $label") unless $label =~ /IMPORT/;
	$s->ok('ROLLBACK');
}
for my $read (@reads)
{
	my ($sql, $label) = @$read;

	$s->ok('BEGIN');
	error_is($s->query($sql), 'no error', "closed: $label");
	$s->ok('ROLLBACK');
}
is($cached->value('EXECUTE generic(1)'), 1, 'cached plan');
is($cached->value('EXECUTE pruned(2)'), 20, 'cached plan of partitions');
is(copy_rows($s, 'COPY p FROM STDIN', "0\t102", "1\t102", "2\t102")->{tags}[0], 'COPY 3', 'COPY');
$s->ok('ANALYZE sb_t');
is($s->value(q{SELECT reltuples FROM pg_class WHERE relname = 'sb_t'}), 1000, 'ANALYZE');
breaker_is($mon, 'b', 'state failure_total calls_in_flight', 'closed 2 0', 'at the end');
$_->close for ($s, $cached, $cursor, $held);

#
# Another foreign data wrapper
#
my $file = PostgreSQL::Test::Utils::tempdir() . '/rows.csv';
$mon->ok($_) for (
	q{CREATE SERVER files FOREIGN DATA WRAPPER file_fdw},
	qq{CREATE FOREIGN TABLE csv (id int, v int) SERVER files OPTIONS (filename '$file', format 'csv')},
	q{SELECT resilience.create_breaker('f', 'files', max_failures => 3, reset_timeout => '100 ms', jitter => 0, backoff_factor => 1,
		half_open_calls => 1, success_threshold => 2)});
$s = connect_to($node);
error_is($s->query('SELECT * FROM csv'), '58P01', "no file, call $_") for 1 .. 3;
breaker_is($mon, 'f', 'state open_count failure_total last_sqlstate', 'open 1 3 58P01', 'three failures');
$mon->ok(q{SELECT resilience.alter_breaker('f', reset_timeout => '1 h', max_reset_timeout => '1 h')});
wait_until('it has opened for an hour', sub { ($s->query('SELECT * FROM csv')->{error}{C} // '') eq '08R01'
	&& breaker($mon, 'f', 'retry_at > now() + $$50 min$$::interval') eq 't' });
error_is($s->query('SELECT * FROM csv'), '08R01', 'open');
error_is($s->query('COPY (SELECT * FROM csv) TO STDOUT'), '08R01', 'COPY (query) TO');
error_is($s->query('SELECT count(*) FROM l WHERE id IN (SELECT id FROM csv)'), '08R01', 'sublink');
$result = $s->query('ANALYZE csv');
like($result->{notices}[0]{M}, qr/circuit breaker "f" is open/, 'ANALYZE is skipped');
append_to_file($file, "1,1\n2,2\n");
error_is($s->query('SELECT * FROM csv'), '08R01', 'the file is back, and nobody knows');
$mon->ok(q{SELECT resilience.alter_breaker('f', reset_timeout => '100 ms', max_reset_timeout => '1 s')});
$mon->ok(q{SELECT resilience.reset_breaker('f')});
unlink $file;
error_is($s->query('SELECT * FROM csv'), '58P01', "gone again, call $_") for 1 .. 3;
append_to_file($file, "1,1\n2,2\n");
wait_until('a trial call is let through', sub { !$s->query('SELECT * FROM csv')->{error} });
breaker_is($mon, 'f', 'state', 'half_open', 'one success is not enough');
is($s->value('SELECT count(*) FROM csv'), 2, 'another one');
breaker_is($mon, 'f', 'state probe_total calls_in_flight', 'closed 0 0', 'has closed it, without a probe');
append_to_file($file, "x,1\n");
my $failures = breaker($mon, 'f', 'failure_total');
error_is($s->query('SELECT * FROM csv'), '22P02', 'a bad row') for 1 .. 5;
breaker_is($mon, 'f', 'state failure_total', "closed $failures", 'is no failure of the server');

# In parallel workers
my @files = map { PostgreSQL::Test::Utils::tempdir() . "/part$_.csv" } 1 .. 2;
append_to_file($_, join('', map { "1,$_\n" } 1 .. 1000)) for @files;
$mon->ok($_) for (
	q{CREATE TABLE pf (g int, v int) PARTITION BY LIST (g)},
	qq{CREATE FOREIGN TABLE pf1 PARTITION OF pf FOR VALUES IN (1) SERVER files OPTIONS (filename '$files[0]', format 'csv')},
	qq{CREATE FOREIGN TABLE pf2 PARTITION OF pf FOR VALUES IN (2) SERVER files OPTIONS (filename '$files[1]', format 'csv')});
$s->ok('SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0');
for my $leader (qw(on off))
{
	$s->ok("SET parallel_leader_participation = $leader");
	like(join("\n", map { $_->[0] } @{ $s->ok('EXPLAIN SELECT count(*) FROM pf')->{rows} }), qr/Parallel Append/, 'a parallel append');
	$mon->ok('SELECT resilience.reset_statistics()');
	is($s->value('SELECT count(*) FROM pf'), 2000, "parallel workers (leader $leader)");
	breaker_is($mon, 'f', 'state failure_total calls_in_flight', 'closed 0 0', 'closed');
	$mon->ok(q{SELECT resilience.force_breaker('f', 'open')});
	error_is($s->query('SELECT count(*) FROM pf'), '08R01', "parallel workers are rejected (leader $leader)");
	$mon->ok(q{SELECT resilience.force_breaker('f', 'auto')});
	rename $files[1], "$files[1].away";
	error_is($s->query('SELECT count(*) FROM pf'), '58P01', "parallel workers (leader $leader), a file is missing");
	rename "$files[1].away", $files[1];
	is(breaker($mon, 'f', 'failure_total'), 1, 'counts once');
}
$s->close;

all_zero($mon, 'at the end');
done_testing();
