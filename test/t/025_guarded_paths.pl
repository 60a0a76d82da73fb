# Every way to a guarded foreign server meets its open breaker, before any
# connection attempt; what does not need the server passes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ForeignTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $far = far_node('far');
my $node = preloaded_node('near');
my $s = connect_to($node);
my $mon = monitor($node);

$s->ok('CREATE EXTENSION postgres_fdw; CREATE EXTENSION file_fdw');
foreign_server($s, 'far', $far);
foreign_server($s, 'estimating', $far, use_remote_estimate => 'true');
foreign_server($s, 'free', $far);
$s->ok($_) for (
	'CREATE TABLE local AS SELECT i AS id FROM generate_series(1, 10) i',
	'CREATE TABLE p (id int, v text) PARTITION BY RANGE (id)',
	'CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (100)',
	q{CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (2000) SERVER far OPTIONS (table_name 't')},
	q{INSERT INTO p SELECT i, 'near' FROM generate_series(1, 10) i},
	q{CREATE FOREIGN TABLE other_t (id int) SERVER far OPTIONS (table_name 't')},
	'CREATE VIEW v AS SELECT * FROM far_t',
	q{CREATE MATERIALIZED VIEW m AS SELECT * FROM far_t WITH NO DATA},
	q{CREATE FUNCTION f() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM far_t); END'},
	q{CREATE FUNCTION g() RETURNS SETOF far_t LANGUAGE sql AS 'SELECT * FROM far_t'},
	q{CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM far_t; RETURN NEW; END'},
	'CREATE TABLE watched (id int)',
	'CREATE TRIGGER tr BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION tf()',
	q{ALTER FOREIGN TABLE far_t OPTIONS (ADD batch_size '10')},
	q{PREPARE generic AS SELECT count(*) FROM far_t},
	q{PREPARE pruned(int) AS SELECT count(*) FROM p WHERE id = $1},
	'SET plan_cache_mode = force_generic_plan',
	q{SELECT resilience.create_breaker('b', 'far', probe => false)},
	q{SELECT resilience.create_breaker('e', 'estimating', probe => false)});

is($s->value('EXECUTE generic'), 1000, 'closed: answered');
is($s->value('EXECUTE pruned(5)'), 1, 'closed: a partition');
is(breaker($mon, 'b', 'state success_total failure_total calls_in_flight'), 'closed 1 0 0', 'closed: counted, and what was pruned is not');
my $open_cursor = connect_to($node);
$open_cursor->ok('BEGIN; DECLARE c CURSOR FOR SELECT id FROM other_t ORDER BY id; FETCH 1 FROM c');

$mon->ok(q{SELECT resilience.force_breaker('b', 'open'); SELECT resilience.force_breaker('e', 'open')});
my $before = connections_received($far);
my $n = connect_to($node);    # without a connection of its own

for my $sql (
	'SELECT * FROM far_t',
	'SELECT count(*) FROM far_t',
	'SELECT * FROM far_t a JOIN far_t b USING (id)',
	'SELECT * FROM local l JOIN far_t USING (id)',
	'SELECT * FROM local l, LATERAL (SELECT * FROM far_t f WHERE f.id = l.id) x',
	'SELECT (SELECT count(*) FROM far_t)',
	'SELECT * FROM local WHERE EXISTS (SELECT FROM far_t WHERE far_t.id = local.id)',
	'WITH x AS MATERIALIZED (SELECT * FROM far_t) SELECT count(*) FROM x',
	'SELECT * FROM far_t FOR UPDATE',
	'SELECT * FROM p',
	'SELECT * FROM p WHERE id = (SELECT 500)',
	'SET enable_async_append = on; SELECT * FROM p',
	'SELECT * FROM v', 'SELECT f()', 'SELECT * FROM g()',
	'INSERT INTO watched VALUES (1)',
	q{INSERT INTO far_t VALUES (5000, 'x')},
	q{INSERT INTO far_t SELECT 5000 + i, 'x' FROM generate_series(1, 25) i},
	q{INSERT INTO p VALUES (1500, 'x')},
	q{UPDATE far_t SET v = 'x' WHERE id = 1},
	q{UPDATE far_t SET v = 'x' FROM local WHERE far_t.id = local.id AND random() < 2},
	q{UPDATE p SET v = 'x' WHERE id = 500},
	'DELETE FROM far_t WHERE id = 1',
	'DELETE FROM far_t WHERE id = 1 AND random() < 2',
	'TRUNCATE far_t',
	'COPY (SELECT * FROM far_t) TO STDOUT',
	'CREATE TABLE c AS SELECT * FROM far_t',
	'REFRESH MATERIALIZED VIEW m',
	'IMPORT FOREIGN SCHEMA public FROM SERVER far INTO public',
	'MERGE INTO local l USING far_t f ON l.id = f.id WHEN MATCHED THEN DELETE',
	'SELECT * FROM estimating_t', 'EXPLAIN SELECT * FROM estimating_t')
{
	error_is($n->query($sql), '08R01', $sql);
}
error_is($s->query('EXECUTE generic'), '08R01', 'a cached generic plan');
error_is($n->query('BEGIN; DECLARE c CURSOR FOR SELECT * FROM far_t; FETCH c'), '08R01', 'FETCH');
$n->ok('ROLLBACK');
for my $table ('far_t', 'p')
{
	$n->send("COPY $table FROM STDIN");
	$n->copy_data("1501\tx\n");
	$n->copy_done;
	error_is($n->result, '08R01', "COPY $table FROM");
}
my $rejection = $n->query('SELECT * FROM far_t');
is($rejection->{error}{M}, 'circuit breaker "b" is open', 'the message names it');
is(detail_of($rejection, 'server'), 'far', 'DETAIL: the server');
is(detail_of($rejection, 'started'), 'false', 'DETAIL: nothing was started');
is(detail_of($rejection, 'forced'), 'open', 'DETAIL: by command');

for my $sql (
	'EXPLAIN SELECT * FROM far_t',
	'SELECT * FROM far_t WHERE false',
	'SELECT * FROM p WHERE id = 5',
	'SELECT * FROM p WHERE id = (SELECT 5)',
	q{INSERT INTO p VALUES (20, 'x')},
	q{UPDATE p SET v = 'y' WHERE id = 20},
	'DELETE FROM p WHERE id = 20',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM far_t; CLOSE c; COMMIT',
	'ANALYZE far_t, local')
{
	error_is($n->query($sql), 'no error', "passes: $sql");
}
error_is($s->query('EXECUTE pruned(5)'), 'no error', 'passes: a partition that a generic plan leaves over');
is($mon->value(q{SELECT reltuples FROM pg_class WHERE relname = 'local'}), 10, 'ANALYZE went on with the other table');
like(join("\n", map { $_->[0] } @{ $n->ok('EXPLAIN (COSTS OFF) SELECT * FROM far_t')->{rows} }),
	qr/Breaker: "b" of server "far" is open/, 'EXPLAIN says so');
is(connections_received($far), $before, 'no connection attempt in all that');

is($open_cursor->value('FETCH 1 FROM c'), 2, 'a cursor from before goes on');
$open_cursor->ok('COMMIT');
is($n->value('SELECT count(*) FROM free_t'), 1000, 'a server that is not guarded is free');
is(connections_received($far), $before + 1, 'and is connected to');

$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});
is($n->value('SELECT count(*) FROM far_t'), 1000, 'closed again');
is($s->value('EXECUTE generic'), 1000, 'for cached plans, too');
$n->ok(q{INSERT INTO far_t SELECT 5000 + i, 'x' FROM generate_series(1, 25) i});
$n->ok(q{UPDATE far_t SET v = 'y' WHERE id > 5000 AND random() < 2; DELETE FROM far_t WHERE id > 5000});
$n->ok(q{INSERT INTO p VALUES (1500, 'x'); DELETE FROM p WHERE id = 1500; ANALYZE far_t, p});
is($n->value('SELECT count(*) FROM far_t'), 1000, 'writing works');
is(breaker($mon, 'b', 'failure_total calls_in_flight'), '0 0', 'nothing of all that was a failure');

# no rows
$mon->ok(q{SELECT resilience.alter_breaker('b', on_open => 'empty'); SELECT resilience.force_breaker('b', 'open')});
is($n->value('SELECT count(*) FROM far_t'), 0, 'empty: count(*) is 0');
is($n->value('SELECT count(*) FROM p'), 10, 'empty: the other partitions answer');
is($n->value('SELECT count(*) FROM far_t a JOIN far_t b USING (id)'), 0, 'empty: a join');
is(scalar @{ $n->ok('SELECT * FROM far_t')->{rows} }, 0, 'empty: no rows');
error_is($n->query('DELETE FROM far_t'), '08R01', 'empty: no DML');
error_is($n->query('SELECT * FROM far_t FOR UPDATE'), '08R01', 'empty: no locks');
error_is($s->query('EXECUTE generic'), 'no error', 'empty: a cached plan is made anew');
cmp_ok($mon->value(q{SELECT fallback_total FROM resilience.breakers WHERE name = 'b'}), '>=', 5, 'empty: counted');

# another wrapper
my $file = $node->data_dir . '/rows.csv';
append_to_file($file, "1\n2\n");
$s->ok($_) for (
	'CREATE SERVER files FOREIGN DATA WRAPPER file_fdw',
	"CREATE FOREIGN TABLE file_t (id int) SERVER files OPTIONS (filename '$file')",
	q{SELECT resilience.create_breaker('f', 'files', max_failures => 2, reset_timeout => '200 ms', half_open_calls => 1, success_threshold => 1, jitter => 0)});
is($s->value('SELECT count(*) FROM file_t'), 2, 'file_fdw: answers');
rename($file, "$file.gone");
error_is($s->query('SELECT count(*) FROM file_t'), '58P01', 'file_fdw: fails') for (1, 2);
error_is($s->query('SELECT count(*) FROM file_t'), '08R01', 'file_fdw: rejected');
rename("$file.gone", $file);
wait_until('the file answers again', sub { !$s->query('SELECT count(*) FROM file_t')->{error} }, 10);
is(breaker($mon, 'f', 'state open_count failure_total'), 'closed 1 2', 'file_fdw: a trial call has closed it');

done_testing();
