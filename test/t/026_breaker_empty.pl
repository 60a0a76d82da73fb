# on_open = empty: no rows and a warning, where that is the truth.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $far = remote_node('far');
my $node = local_node('near');
my $s = connect_to($node);
my $mon = monitor($node);

add_server($mon, 'far', $far, tables => [qw(t u)]);
$s->ok($_) for (
	'CREATE TABLE p (id int, v int) PARTITION BY RANGE (id)',
	'CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (100)',
	q{CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (2000) SERVER far OPTIONS (table_name 't', async_capable 'true')},
	q{INSERT INTO p SELECT i, i FROM generate_series(1, 10) i},
	q{CREATE TABLE l AS SELECT 1 AS id},
	q{SELECT resilience.create_breaker('b', 'far', probe => false, on_open => 'empty')},
	'SET plan_cache_mode = force_generic_plan',
	'PREPARE counting AS SELECT count(*) FROM far_t',
	'PREPARE grouping AS SELECT v, count(*) FROM far_t GROUP BY v HAVING count(*) > 5');
is($s->value('EXECUTE counting'), 1000, 'closed: the server answers');
$s->ok('EXECUTE grouping');

$mon->ok(q{SELECT resilience.force_breaker('b', 'open')});
my $before = remote_connections($far);
my $result = $s->query('SELECT * FROM far_t');
error_is($result, 'no error', 'open: no error');
is(scalar @{ $result->{rows} }, 0, 'no rows');
for (
	[ 'SELECT count(*) FROM far_t', 0 ],
	[ 'SELECT count(*) FROM far_t JOIN far_u USING (id)', 0 ],
	[ 'SELECT count(*) FROM l LEFT JOIN far_t USING (id)', 1 ],
	[ 'SELECT count(*) FROM p', 10 ],
	[ 'SET enable_async_append = on; SELECT count(*) FROM p', 10 ],
	[ 'SELECT coalesce(max(v), -1) FROM far_t', -1 ],
	[ 'SELECT count(*) FROM (SELECT v FROM far_t ORDER BY v LIMIT 5) x', 0 ],
	[ 'SELECT NOT EXISTS (SELECT FROM far_t)', 't' ])
{
	is($s->value($_->[0]), $_->[1], $_->[0]);
}

# a plan made before is made anew, or rejected: never wrong
my $counted = $s->query('EXECUTE counting');
ok($counted->{error} ? $counted->{error}{C} eq '08R01' : $counted->{rows}[0][0] eq '0', 'a cached plan with a remote aggregate');
wait_until('cached plans are made anew', sub { !$s->query('EXECUTE counting')->{error} }, 10);
is($s->value('EXECUTE counting'), 0, 'and count nothing');
is(scalar @{ $s->ok('EXECUTE grouping')->{rows} }, 0, 'no groups');

for my $sql ('DELETE FROM far_t', 'UPDATE far_t SET v = 1 WHERE random() < 2', 'INSERT INTO far_t VALUES (5000, 1)',
	'SELECT * FROM far_t FOR UPDATE', 'SELECT far_t.* FROM far_t, l FOR UPDATE OF far_t', 'TRUNCATE far_t')
{
	error_is($s->query($sql), '08R01', "rejected: $sql");
}
error_is($s->query('SELECT l.* FROM far_t RIGHT JOIN l USING (id) FOR UPDATE OF l'), 'no error', 'another table may be locked');
is(remote_connections($far), $before, 'the server was not called');
cmp_ok(breaker($mon, 'b', 'fallback_total'), '>=', 10, 'counted');

$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});
wait_until('the server answers again', sub { $s->value('EXECUTE counting') == 1000 }, 10);
is($s->value('SELECT count(*) FROM p'), 1010, 'all rows are back');

done_testing();
