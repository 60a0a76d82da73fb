# Pipeline mode, the extended protocol, suspended portals, pgbench: one slot
# for each transaction, whichever messages it comes in.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('protocol');
my $mon = monitor($node);

$mon->ok(q{
SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1);
CREATE FUNCTION gate() RETURNS void LANGUAGE plpgsql AS
	'BEGIN PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1); END'});

my $other = connect_to($node, user => 'app');

sub admitted
{
	return $mon->value(q{SELECT admitted_total FROM resilience.bulkheads WHERE name = 'b'});
}

sub is_free
{
	my ($label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($other->query('SELECT 1'), 'no error', "$label: the slot is free");
	return like(counts($mon, 'b'), qr{/0/0$}, "$label: nothing is counted");
}

sub is_taken
{
	my ($label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($other->query('SELECT 1'), '53R01', "$label: the slot is taken");
	return like(counts($mon, 'b'), qr{/1/0$}, "$label: one runs");
}

# libpq's pipeline mode
my $program = build_libpq_client();
my $conninfo = $node->connstr('postgres') . ' user=app';

sub pipeline
{
	my (@steps) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $program, 'pipeline', $conninfo, @steps ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(60))
	  or diag("pipeline: $err");
	return join(' ', split(/\n/, $out));
}

my $before = admitted();
is(pipeline('SELECT 1', 'SELECT 2', 'sync'), 'ok ok sync', 'a pipeline');
is(admitted(), $before + 1, 'is one transaction');
is_free('a pipeline');

is(pipeline('SELECT 1', 'SELECT 1/0', 'SELECT 2', 'sync', 'SELECT 3', 'sync'),
	'ok 22012 aborted sync ok sync', 'a pipeline with an error');
is_free('a pipeline with an error');

$before = admitted();
is(pipeline('BEGIN', 'SELECT 1', 'COMMIT', 'BEGIN', 'SELECT 2', 'ROLLBACK', 'SELECT 3', 'sync'),
	'ok ok ok ok ok ok ok sync', 'a pipeline of three transactions');
is(admitted(), $before + 3, 'each is admitted');
is_free('a pipeline of transactions');

is(pipeline('BEGIN', 'SELECT 1', 'SELECT 1/0', 'sync', 'ROLLBACK', 'SELECT 2', 'sync'),
	'ok ok 22012 sync ok ok sync', 'a failed transaction over two syncs');
is_free('a failed transaction over two syncs');

# it left within a transaction
is(pipeline('BEGIN', 'SELECT 1', 'sync'), 'ok ok sync', 'a pipeline left open');
wait_for_value($mon, q(SELECT connections FROM resilience.bulkheads WHERE name = 'b'), 1);
is_free('a pipeline left open');

$mon->ok('SELECT pg_advisory_lock(1)');
my ($out, $err) = ('', '');
my $h = IPC::Run::start([ $program, 'pipeline', $conninfo, 'SELECT 1', 'SELECT gate()', 'SELECT 2', 'sync', 'SELECT 3', 'sync' ],
	'>', \$out, '2>', \$err, IPC::Run::timeout(60));
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'}, 1);
is_taken('a pipeline that runs');
is(pipeline('SELECT 1', 'SELECT 2', 'sync', 'BEGIN', 'SELECT 3', 'sync', 'ROLLBACK', 'sync'),
	'53R01 aborted sync ok 53R01 sync ok sync', 'another one is refused');

# ... or waits, in the middle of the pipeline, between two transactions
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 5, max_wait => '1 min')});
my ($out2, $err2) = ('', '');
my $h2 = IPC::Run::start([ $program, 'pipeline', $conninfo, 'BEGIN', 'COMMIT', 'SELECT 2', 'SELECT 3', 'sync' ],
	'>', \$out2, '2>', \$err2, IPC::Run::timeout(60));
wait_waiting($mon, 'b', 1);
$mon->ok('SELECT pg_advisory_unlock(1)');
$h->finish;
$h2->finish;
is(join(' ', split(/\n/, $out)), 'ok ok ok sync ok sync', 'the first pipeline ends well');
is(join(' ', split(/\n/, $out2)), 'ok ok ok ok sync', 'and the one that waited');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
is_free('pipelines that waited');

# The extended protocol by hand: a portal that is suspended
my $app = connect_to($node, user => 'app');
$app->parse('', 'SELECT generate_series(1, 3)');
$app->bind_portal('', '');
$app->execute('', 1);
$app->flush;
is($app->read_until('sE')->{types}, '12Ds', 'Execute with a row limit suspends the portal');
is_taken('a suspended portal');
$app->execute('', 1);
$app->flush;
is($app->read_until('sE')->{types}, '12DsDs', 'and can be continued');
is_taken('a portal suspended again');
$app->execute('', 0);
$app->flush;
$app->read_until('CE');
is_taken('a portal that is done, before Sync');
$app->sync;
my $result = $app->result;
is_deeply($result->{rows}, [ [1], [2], [3] ], 'all rows came');
is_free('Sync after a suspended portal');

$app->parse('', 'SELECT generate_series(1, 3)');
$app->bind_portal('', '');
$app->execute('', 1);
$app->sync;
is($app->result->{types}, '12DsZ', 'a portal suspended at Sync');
is_free('a portal suspended at Sync');

# In a transaction block it outlives Sync
$app->ok('BEGIN');
$app->parse('', 'SELECT generate_series(1, 3)');
$app->bind_portal('p', '');
$app->execute('p', 1);
$app->sync;
is($app->result->{types}, '12DsZ', 'a portal suspended in a transaction block');
$app->execute('p', 1);
$app->flush;
$app->read_until('sE');
is_taken('its next Execute');
$app->sync;
$app->result;

# ... idle the transaction lends its slot, Execute takes it back
wait_running($mon, 'b', 0);
is_free('a block that is idle');
$app->execute('p', 0);
$app->flush;
$app->read_until('CE');
is_taken('Execute of a portal whose slot had been lent');
$app->sync;
is(@{ $app->result->{rows} }, 1, 'the last row');
$app->ok('COMMIT');
is_free('COMMIT after a suspended portal');

# A portal that is closed, one that fails half way
$app->parse('', 'SELECT generate_series(1, 3)');
$app->bind_portal('', '');
$app->execute('', 1);
$app->close_portal('');
$app->sync;
is($app->result->{types}, '12Ds3Z', 'a suspended portal that is closed');
is_free('a suspended portal that is closed');
$app->parse('', 'SELECT 1 / (3 - i) FROM generate_series(1, 3) i');
$app->bind_portal('', '');
$app->execute('', 1);
$app->execute('', 0);
$app->sync;
error_is($app->result, '22012', 'a portal that fails in its second Execute');
is_free('a portal that fails in its second Execute');

# Bind alone starts the executor
$app->parse('', 'SELECT 1');
$app->bind_portal('', '');
$app->flush;
$app->read_until('2E');
is_taken('Bind');
$app->sync;
$app->result;
is_free('Sync after Bind alone');

# Statements that are parsed once and executed often
$app->parse('s', 'SELECT 1');
$app->sync;
error_is($app->result, 'no error', 'Parse');
is_free('Parse');
$before = admitted();
for (1 .. 20)
{
	$app->bind_portal('', 's');
	$app->execute('', 0);
	$app->sync;
	$app->result;
}
is(admitted(), $before + 20, 'a named statement is admitted at each execution');
is_free('a named statement');

# Refused at Bind: what follows is skipped until Sync, and nothing stays
my $holder = connect_to($node, user => 'app');
$holder->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
$app->bind_portal('', 's');
$app->execute('', 0);
$app->bind_portal('', 's');
$app->execute('', 0);
$app->sync;
$result = $app->result;
error_is($result, '53R01', 'a statement of the extended protocol is refused');
is($result->{types}, 'EZ', 'once, up to Sync');
$app->parse('', 'EXPLAIN SELECT 1');
$app->bind_portal('', '');
$app->execute('', 0);
$app->sync;
error_is($app->result, 'no error', 'EXPLAIN passes in the extended protocol, too');
$holder->cancel;
$holder->result;
is_free('statements of the extended protocol');

# A session that leaves with its portal suspended
$holder->parse('', 'SELECT generate_series(1, 3)');
$holder->bind_portal('', '');
$holder->execute('', 1);
$holder->flush;
$holder->read_until('s');
is_taken('a suspended portal of a session');
$holder->vanish;
wait_for_value($mon, q(SELECT connections FROM resilience.bulkheads WHERE name = 'b'), 2);
is_free('a session gone with its portal suspended');

# The function call message passes no hook, and leaves nothing behind
my $oid = $mon->value(q{SELECT 'pg_catalog.int4pl'::regproc::oid});
$app->message('F', pack('NnnnNNNNn', $oid, 1, 1, 2, 4, 40, 4, 2, 1));
is($app->result->{types}, 'VZ', 'a function call message');
is_free('a function call message');

$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 2)});
$app->close;
$other->close;
is(count_slots($node, $mon, 4), 2, 'as many slots as there should be');
all_zero($mon, 'after all protocols');

# pgbench, in every mode: nobody fails, each transaction is admitted once
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 100, max_wait => '1 min')});
set_conf($mon, 'resilience.max_running' => 3, 'resilience.max_wait' => 60000);
for my $mode (qw(simple extended prepared))
{
	$before = admitted();
	$node->pgbench(
		"-n -M $mode -U app -c 8 -j 2 -t 50", 0,
		[qr{processed: 400/400}], [qr{^}],
		"pgbench -M $mode",
		{   "002_one_$mode\@1" => 'SELECT 1;',
			"002_block_$mode\@1" => "BEGIN;\nSELECT 1;\nSAVEPOINT s;\nSELECT 2;\nROLLBACK TO s;\nEND;\n",
			"002_caught_$mode\@1" =>
			  'DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN others THEN NULL; END $$;',
		});
	is(admitted(), $before + 400, "$mode: 400 transactions, 400 admissions");
	all_zero($mon, "after pgbench -M $mode");
}
cmp_ok($mon->value(q(SELECT wait_seconds_total FROM resilience.bulkheads WHERE name = 'b')),
	'>', 0, 'they had to wait');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
is(count_slots($node, $mon, 4), 2, 'as many slots as before pgbench');
all_zero($mon, 'at the end');

done_testing();
