# Budgets of bulkheads: CPU time, cost of a statement, transactions per second.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = preloaded_node('budgets', roles => [qw(app other)],
	conf => "max_parallel_workers_per_gather = 0\n");
my $mon = monitor($node);
my $cores = `getconf _NPROCESSORS_ONLN` + 0;

# CPU time that does not depend on the machine's other work
$mon->ok(q{CREATE FUNCTION burn(loops int) RETURNS int LANGUAGE plpgsql PARALLEL SAFE COST 1 AS
	'DECLARE n int := 0; BEGIN FOR i IN 1..loops LOOP n := n + i % 7; END LOOP; RETURN n; END'});
$mon->ok('CREATE TABLE numbers AS SELECT generate_series(1, 100000) AS n');
$mon->ok('GRANT SELECT ON numbers TO app, other');
$mon->ok('ANALYZE numbers');

sub number
{
	my ($column) = @_;
	return $mon->value("SELECT $column FROM resilience.bulkheads WHERE name = 'b'");
}

sub bulkhead
{
	my ($arguments) = @_;
	$mon->ok(q{SELECT resilience.drop_bulkhead('b', if_exists => true)});
	$mon->ok(qq{SELECT resilience.create_bulkhead('b', role_name => 'app', $arguments)});
	$mon->ok('SELECT resilience.reset_statistics()');
	return;
}

my $app = connect_to($node, user => 'app');
my $other = connect_to($node, user => 'other');

# What is used is owed, on every way out.
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 hour'});
my $used = 0;
my $owed = 0;

sub is_charged
{
	my ($what) = @_;
	my $total = wait_until($what, sub { my $n = number('cpu_seconds_total'); $n > $used + 0.01 ? $n : undef });
	my $debt = number('cpu_debt_seconds');

	cmp_ok($debt - $owed, '>', 0.9 * ($total - $used) - 0.005, "$what: its CPU time is owed");
	cmp_ok($debt - $owed, '<', 1.1 * ($total - $used) + 0.005, "$what: no more than that");
	($used, $owed) = ($total, $debt);
	return;
}

# The estimate is owed from the start; what is added then has been used.
sub uses_cpu
{
	my ($what) = @_;

	wait_until('it runs', sub { number('running') == 1 });
	my $estimated = number('cpu_debt_seconds');
	ok(wait_until($what, sub { number('cpu_debt_seconds') > $estimated + 0.1 }), $what);
	return;
}
$app->ok('SELECT burn(1000000)');
is_charged('a statement');
$app->ok('BEGIN');
$app->ok('SELECT burn(500000)');
$app->ok('SELECT burn(500000)');
$app->ok('COMMIT');
is_charged('a transaction of two');
error_is($app->query('SELECT burn(1000000), 1 / (n - n) FROM numbers LIMIT 1'), '22012', 'an error');
error_is($app->query('DO $$ BEGIN PERFORM burn(1000000); RAISE division_by_zero; END $$'), '22012', 'an error later on');
is_charged('an error');
$app->ok('DO $$ BEGIN BEGIN PERFORM burn(1000000); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$');
is_charged('an error that was caught');
$app->send('SELECT burn(2000000000)');

# ... and while it runs
uses_cpu('what runs is charged while it runs');
$app->cancel;
error_is($app->result, '57014', 'cancelled');
is_charged('a statement that was cancelled');
$app->send('SELECT burn(2000000000)');
uses_cpu('so is the next one');
$mon->ok("SELECT pg_terminate_backend($app->{pid})");
$app->result;
is_charged("a session that was terminated");
$app = connect_to($node, user => 'app');

# Parallel workers count: all of the work is theirs.
$app->ok('SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off');
like(join(' ', map { $_->[0] } @{ $app->ok('EXPLAIN SELECT sum(burn(20 + n % 2)) FROM numbers')->{rows} }), qr/Parallel/, 'a parallel plan');
$app->ok('SELECT sum(burn(20 + n % 2)) FROM numbers');
is_charged('parallel workers');
$app->ok('RESET ALL');

# Before it runs: what is known about the query decides.
bulkhead(q{cpu_share => 0.001, cpu_burst => '100 ms'});
my $query = 'SELECT burn(4000000)';
$app->ok($query);
cmp_ok(number('cpu_seconds_total'), '>', 0.1, 'an unknown query runs, and takes more than the burst');
my $refusal = $app->query('SELECT 1');
error_is($refusal, '53R01', 'nothing runs until enough of it is paid');
is(detail_of($refusal, 'started'), 'false', 'nothing has been started');
cmp_ok(detail_of($refusal, 'retry_after_ms'), '>', 100, 'and it is said when it will have been');
cmp_ok(detail_of($refusal, 'cpu_debt_ms'), '>', 90, 'what is owed');
is(number('refused_budget_total'), 1, 'counted');
is(number('refused_statements_total'), 1, 'counted as a refusal');
error_is($other->query('SELECT 1'), 'no error', 'others are not concerned');
error_is($mon->query('SELECT 1'), 'no error', 'nor is a superuser');
is(counts($mon, 'b'), '1/0/0', 'nothing is held');

# the debt is forgotten with the bulkhead; what was learnt is not (but by reset)
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', cpu_share => 1, cpu_burst => '50 ms')});
$refusal = $app->query($query);
error_is($refusal, '53R01', 'a query that is known to take more than the burst is refused before it runs');
like($refusal->{error}{M}, qr/needs more CPU time than bulkhead "b" may use at once/, 'and the message says why');
is(detail_of($refusal, 'retry_after_ms'), undef, 'it is not told to come back');
is($mon->value(qq{SELECT count(*) FROM resilience.query_costs WHERE mean_cpu_ms > 50}), '1', 'query_costs tells what was learnt');
error_is($app->query('SELECT count(*) FROM numbers'), 'no error', 'another query runs');
$mon->ok('SELECT resilience.reset_statistics()');
is($mon->value('SELECT count(*) FROM resilience.query_costs'), '0', 'reset_statistics() forgets it');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', cpu_share => -1)});
error_is($app->query($query), 'no error', 'without the budget it runs');

# A tenant stays at its share.
bulkhead(q{cpu_share => 0.05, cpu_burst => '100 ms'});
my @tenant = map { connect_to($node, user => 'app') } 1 .. 3;
my %idle_until = map { $_ => 0 } 0 .. 2;
my $from = time();
my $refused = 0;
$_->send('SELECT burn(300000)') foreach @tenant;
while (time() < $from + 5)
{
	for my $i (0 .. 2)
	{
		next if time() < $idle_until{$i};
		if ($idle_until{$i})
		{
			$tenant[$i]->send('SELECT burn(300000)');
			$idle_until{$i} = 0;
		}
		next unless $tenant[$i]->done;
		my $result = $tenant[$i]->result;
		if (!$result->{error})
		{
			$tenant[$i]->send('SELECT burn(300000)');
			next;
		}
		$refused++;
		is($result->{error}{C}, '53R01', 'refused') if $result->{error}{C} ne '53R01';
		$idle_until{$i} = time() + detail_of($result, 'retry_after_ms') / 1000;
	}
	sleep 0.002;
}
for my $i (0 .. 2)
{
	$tenant[$i]->result unless $idle_until{$i};
}
my $span = time() - $from;
my $share = 0.05 * $cores * $span;
my $took = number('cpu_seconds_total');
note("$took s of CPU time in $span s, share $share s, $refused refusals");
cmp_ok($took, '<', $share + 0.1 + 0.2, 'three busy sessions use no more than share and burst');
cmp_ok($took, '>', 0.5 * $share, 'and can use their share');
cmp_ok($refused, '>', 0, 'the rest was refused');
cmp_ok($refused, '<', 1000, 'not in a busy loop: retry_after_ms is honest');
$_->close foreach @tenant;

# Observed only
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 ms', mode => 'observe'});
$app->ok('SELECT burn(200000)') foreach 1 .. 3;
cmp_ok(number('refused_budget_total'), '>=', 1, 'observe: counted, not refused');

# Work in progress is sacred.
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 ms'});
$app->ok('BEGIN');
$app->ok('SELECT burn(500000)');
error_is($app->query('SELECT burn(500000)'), 'no error', 'later statements of a transaction run');
$app->ok('COMMIT');
error_is($app->query('SELECT 1'), '53R01', 'the next transaction does not');
$app->ok('BEGIN');
$app->ok('SET LOCAL search_path = pg_catalog');
$app->ok('ROLLBACK');
error_is($app->query('EXPLAIN SELECT 1'), 'no error', 'what does no work is not judged');

# Only under load: a full queue of the server-wide limit makes it loaded.
$mon->ok(q{SELECT resilience.alter_bulkhead('b', only_under_load => true)});
wait_for_value($mon, 'SELECT loaded FROM resilience.load_shedder', 'f');
error_is($app->query('SELECT 1'), 'no error', 'only_under_load: the same debt refuses nobody');
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_wait' => 60000);
my @load = map { connect_to($node, user => 'other') } 1 .. 2;
$load[0]->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$load[1]->send('SELECT 1');
wait_for_value($mon, 'SELECT loaded FROM resilience.load_shedder', 't');
error_is($app->query('SELECT 1'), '53R01', 'under load it does');
$load[0]->cancel;
$load[0]->result;
$load[1]->result;
set_conf($mon, 'resilience.max_running' => -1);

# Cost of a statement
bulkhead(q{max_statement_cost => 100});
$refusal = $app->query('SELECT count(*) FROM numbers a, numbers b');
error_is($refusal, '53R01', 'too expensive');
cmp_ok(detail_of($refusal, 'cost'), '>', 100, 'its cost is told');
error_is($app->query('SELECT 1'), 'no error', 'cheap enough');
is(number('refused_budget_total'), 1, 'counted');

# Transactions per second
bulkhead(q{max_rate => 5});
my @results = map { $app->query('SELECT 1')->{error} ? 0 : 1 } 1 .. 8;
my $first = grep { $_ } @results;
cmp_ok($first, '>=', 5, 'a second\'s worth may come at once');
cmp_ok($first, '<', 8, 'and no more');
$refusal = wait_until('a refusal', sub { my $r = $app->query('SELECT 1'); $r->{error} ? $r : undef });
cmp_ok(detail_of($refusal, 'retry_after_ms'), '<=', 201, 'the next one within a fifth of a second');
sleep(detail_of($refusal, 'retry_after_ms') / 1000);
error_is($app->query('SELECT 1'), 'no error', 'who waits as told is let in');
bulkhead(q{max_rate => 0});
error_is($app->query('SELECT 1'), '53R01', '0 = admit none');

# A bulkhead with a condition on the command: charged from its first statement.
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 hour', command => 'INSERT'});
$mon->ok('CREATE TABLE result (n int); GRANT INSERT ON result TO app');
$app->ok('BEGIN');
$app->ok('SELECT burn(3000000)');
$app->ok('INSERT INTO result SELECT burn(300000)');
$app->ok('COMMIT');
my $insert = number('cpu_seconds_total');
cmp_ok($insert, '>', 0.001, 'a later statement is charged');
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 hour'});
$app->ok('SELECT burn(3000000)');
cmp_ok($insert, '<', 0.5 * number('cpu_seconds_total'), 'without what ran before it');

$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
error_is($app->query('SELECT burn(300000)'), 'no error', 'dropped: no budget');
ok(!$node->log_contains('PANIC|TRAP|was terminated by signal'), 'no crash');
done_testing();
