# Bulkheads by tag and by query_id: which statements they hit, in every
# protocol, and which not.  A bulkhead that admits none tells at once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('tags', roles => [qw(app prepared later)]);
my $mon = monitor($node);
my $full = '53R01';
my $ok = 'no error';

$mon->ok(q{
CREATE TABLE t (a int);
GRANT ALL ON t TO PUBLIC;
CREATE FUNCTION tagged() RETURNS int LANGUAGE plpgsql AS
	$$ DECLARE n int; BEGIN SELECT /*tenant='acme'*/ count(*) INTO n FROM t; RETURN n; END $$;
SELECT resilience.create_bulkhead('acme', tag => 'tenant=acme', max_running => 0);
SELECT resilience.create_bulkhead('both', tag => 'tenant=two words', command => 'UPDATE', max_running => 0)});

my $app = connect_to($node, user => 'app');

sub hits
{
	my ($sql, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return error_is($app->query($sql), $expected, $label // $sql);
}

# the simple protocol
hits(q{SELECT 1}, $ok);
hits(q{SELECT 1 /*tenant='acme'*/}, $full);
hits(q{/*tenant='acme'*/ SELECT 1}, $full);
hits(q{SELECT 1 /*tenant='acme'*/;}, $full);
hits(q{SELECT 1; /*tenant='acme'*/}, $full);
hits(q{SELECT 1 /*a='1',tenant='%61cme',b='2'*/}, $full);
hits(q{SELECT 1 /*tenant='acme2'*/}, $ok);
hits(q{SELECT '/*tenant=''acme''*/'}, $ok);
hits(q{SELECT $$/*tenant='acme'*/$$}, $ok);
hits(q{SELECT 1 -- /*tenant='acme'*/}, $ok);
hits(q{SELECT tagged()}, $ok, 'only top-level statements are judged');
hits(q{SELECT 1 /*tenant='two%20words'*/}, $ok);
hits(q{UPDATE t SET a = 1 /*tenant='two%20words'*/}, $full);
hits(q{COPY t TO STDOUT /*tenant='acme'*/}, $full, 'a utility statement');
hits(q{DO 'BEGIN END' /*tenant='acme'*/}, $full, 'DO');
hits(q{EXPLAIN SELECT 1 /*tenant='acme'*/}, $ok, 'EXPLAIN');
hits(q{EXPLAIN ANALYZE SELECT 1 /*tenant='acme'*/}, $full, 'EXPLAIN ANALYZE');
hits(q{CREATE TEMP TABLE x AS SELECT 1 /*tenant='acme'*/}, $full, 'CREATE TABLE AS');
hits(q{BEGIN; DECLARE c CURSOR FOR SELECT 1 /*tenant='acme'*/; COMMIT}, $full, 'DECLARE CURSOR');
$app->query('ROLLBACK');
hits(q{BEGIN /*tenant='acme'*/; SELECT 1; COMMIT}, $ok, 'a tag of BEGIN');
hits('SELECT 1 /*tenant=\'' . ('acme' x 250000) . '\'*/', $ok, 'a value of 1 MB');
hits('SELECT 1 /*' . ('x' x 1000000) . '*/ /*tenant=\'acme\'*/', $full, 'behind 1 MB');

# several statements in one string: each its own
my $admitted = q{SELECT admitted_total FROM resilience.bulkheads WHERE name = 'acme'};
my $before;
my @strings = (
	q{BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 1 /*tenant='acme'*/},
	q{BEGIN; SELECT 1; COMMIT; BEGIN; /*tenant='acme'*/ SELECT 1});
for my $sql (@strings)
{
	hits($sql, $full);
	$app->ok('ROLLBACK');
}
hits(q{SELECT 1 /*tenant='other'*/; SELECT 2; /*tenant='acme'*/ SELECT 3}, $ok,
	'not the first of the transaction');
is($mon->value($admitted), 1, 'but the transaction is charged');

# a later statement of a transaction neither fails nor waits
$before = $mon->value($admitted);
$app->ok('BEGIN; SELECT 1');
hits(q{SELECT 1 /*tenant='acme'*/}, $ok, 'in an admitted transaction');
is(counts($mon, 'acme'), '0/1/0', 'it is charged');
hits(q{SELECT 1 /*tenant='acme'*/}, $ok, 'again');
is(counts($mon, 'acme'), '0/1/0', 'once');
$app->ok('COMMIT');
is($mon->value($admitted), $before + 1, 'and counts as admitted');
all_zero($mon, 'after the transaction');

# SQL PREPARE: the text that prepared it
$app->ok(q{PREPARE p AS SELECT 1 /*tenant='acme'*/; PREPARE q AS SELECT 2});
hits('EXECUTE p', $full);
hits('EXECUTE q', $ok);
hits(q{EXECUTE q /*tenant='acme'*/}, $ok);

# the extended protocol
sub extended
{
	my ($client, $expected, $label, $sql) = @_;

	$client->parse('named', $sql) if defined $sql;
	$client->bind_portal('', 'named');
	$client->execute('');
	$client->sync;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return error_is($client->result, $expected, $label);
}

$app->query('DEALLOCATE ALL');
extended($app, $full, 'Parse, Bind, Execute', q{SELECT 1 /*tenant='acme'*/});
extended($app, $full, 'Bind and Execute again') for 1 .. 7;
$mon->ok(q{SELECT resilience.alter_bulkhead('acme', max_running => 1)});
extended($app, $ok, 'Bind and Execute, when there is room');
$mon->ok(q{SELECT resilience.alter_bulkhead('acme', max_running => 0)});
extended($app, $full, 'and when there is none');
$app->query('DEALLOCATE ALL');

my $program = build_libpq_client();

sub pipeline
{
	my (@steps) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $program, 'pipeline', $node->connstr('postgres') . ' user=app', @steps ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(60))
	  or diag("pipeline: $err");
	return join(' ', split(/\n/, $out));
}

my $tagged = q{SELECT 1 /*tenant='acme'*/};
is(pipeline('SELECT 1', 'sync', $tagged, 'SELECT 2', 'sync', 'SELECT 3', 'sync'),
	"ok sync $full aborted sync ok sync", 'a pipeline');
is(pipeline('SELECT 1', $tagged, 'sync'), 'ok ok sync', 'not its first statement');
all_zero($mon, 'after pipelines');

#
# query_id
#
my $query = 'SELECT count(*) FROM t WHERE a = 1';

sub id_of
{
	my ($sql) = @_;
	my $id = $mon->value("SET compute_query_id = on; EXPLAIN (VERBOSE) $sql");
	my $result = $mon->query("EXPLAIN (VERBOSE) $sql");

	($id) = map { $_->[0] =~ /Query Identifier: (-?\d+)/ ? $1 : () } @{ $result->{rows} };
	return $id;
}

my $id = id_of($query);
ok($id, 'a query has an identifier');
is($app->value('SHOW compute_query_id'), 'auto', 'it is not computed by default');

# prepared before anybody wanted it, in both ways
my $prepared = connect_to($node, user => 'prepared');
my $later = connect_to($node, user => 'later');
for my $client ($prepared, $later)
{
	$client->ok('SET plan_cache_mode = force_generic_plan');
	$client->ok("PREPARE p(int) AS SELECT count(*) FROM t WHERE a = \$1");
	$client->ok('EXECUTE p(1)');
	extended($client, $ok, 'no bulkhead yet', $query);
	extended($client, $ok, 'no bulkhead yet');
}
my $param_id = id_of('SELECT count(*) FROM t WHERE a = 2');
is($param_id, $id, 'constants do not matter');

$mon->ok("SELECT resilience.create_bulkhead('one', query_id => $id, max_running => 0)");
hits($query, $full, 'by query_id');
hits('SELECT count(*) FROM t WHERE a = 2', $full, 'whatever the constants');
hits('SELECT count(*) FROM t', $ok, 'not another query');
hits("SELECT 1; $query", $ok, 'not the first of its transaction');
hits("$query; SELECT 1", $full, 'the first of several');
hits("EXPLAIN ANALYZE $query", $full, 'EXPLAIN ANALYZE');
extended($app, $full, 'extended', $query);
extended($app, $full, 'and bound again') for 1 .. 3;
is(pipeline('SELECT 1', 'sync', $query, 'sync'), "ok sync $full sync", 'in a pipeline');
ok($mon->value(q{SELECT count(*) FROM resilience.activity WHERE query_id = } . $id) > 0,
	'view activity shows it');

extended($prepared, $full, 'prepared before: the first time, too');
extended($prepared, $full, 'and again');
error_is($later->query('SELECT 1'), $ok, 'another statement first');
extended($later, $full, 'then the prepared one');

# with a parameter the identifier is another one
$mon->ok("PREPARE p(int) AS SELECT count(*) FROM t WHERE a = \$1");
my ($by_param) = map { $_->[0] =~ /Query Identifier: (-?\d+)/ ? $1 : () }
  @{ $mon->query('EXPLAIN (VERBOSE) EXECUTE p(1)')->{rows} };
$mon->ok("SELECT resilience.alter_bulkhead('one', query_id => $by_param)");
error_is($prepared->query('EXECUTE p(1)'), $full, 'SQL EXECUTE of a statement prepared before');
error_is($later->query('EXECUTE p(1)'), $full, 'the same, elsewhere');
hits($query, $ok, 'the bulkhead is for the other identifier now');

# nobody wants it any more, and then again
$mon->ok(q{SELECT resilience.drop_bulkhead('one')});
error_is($prepared->query('EXECUTE p(1)'), $ok, 'dropped');
$prepared->ok('DEALLOCATE named');
extended($prepared, $ok, 'prepared while it is not wanted', 'SELECT count(*) FROM t WHERE a > 1');
$mon->ok(q{SELECT resilience.create_bulkhead('again', query_id => } .
	id_of('SELECT count(*) FROM t WHERE a > 1') . ', max_running => 0)');
extended($prepared, $full, 'wanted again');

# compute_query_id = off is respected
my $off = connect_to($node, options => '-c compute_query_id=off');
my $result = $off->query('SELECT resilience.create_bulkhead(\'off\', query_id => 7)');
like($result->{notices}[0]{M} // '', qr/needs query identifiers/, 'a warning when they are off')
  if exists $result->{notices};
$mon->ok(q{ALTER ROLE app SET compute_query_id = off});
my $without = connect_to($node, user => 'app');
error_is($without->query('SELECT count(*) FROM t WHERE a > 1'), $ok, 'not computed with "off"');

all_zero($mon, 'at the end');
$node->stop;
done_testing();
