# A hot standby enforces the policies of its primary: those of the base backup
# from the first connection on, later changes within seconds; and it goes on
# with them when it is promoted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $primary = preloaded_node('primary', init => [ allows_streaming => 1 ], roles => [qw(app locked other)]);
my $mon = monitor($primary);

$mon->ok($_) for (
	'CREATE TABLE t AS SELECT generate_series(1, 10) id',
	'GRANT SELECT ON t TO app',
	q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 1, max_wait => '10 min')},
	q{SELECT resilience.create_bulkhead('locked', role_name => 'locked', max_connections => 0)});
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

sub answer
{
	my ($node, %params) = @_;
	my $session = ResilienceTest::Client->new($node, user => 'app', %params);

	return $session->{error}{C} if $session->{error};
	my $result = $session->query('SELECT 1');
	$session->close;
	return $result->{error} ? $result->{error}{C} : 'ok';
}

# A standby catches up within seconds
sub soon
{
	my ($condition, $label) = @_;
	my $done = eval { wait_until($label, $condition, 30) };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($done, $label);
}

is(connect_refused($standby, user => 'locked')->{C}, '53300', 'a new standby: limits hold from the first connection');
my $smon = monitor($standby);
is($smon->value('SELECT pg_is_in_recovery()'), 't', 'it is a standby');
is($smon->value(q{SELECT string_agg(format('%s:%s:%s', name, max_running, running), ' ' ORDER BY name) FROM resilience.bulkheads}),
	'b:1:0 locked:-1:0', 'its views show the bulkheads');

# Statements are limited there for themselves
my ($runs, $waits) = map { connect_to($standby, user => 'app') } 1, 2;
$runs->send('SELECT count(*), pg_sleep(1000) FROM t');
wait_running($smon, 'b', 1);
$waits->send('SELECT count(*) FROM t');
wait_waiting($smon, 'b', 1);
is(answer($standby), '53R01', 'a standby refuses');
is(answer($primary), 'ok', 'the primary has its own slots');
# the session that asked may not be gone yet
soon(sub { counts($mon, 'b') eq '0/0/0' }, 'and its own counts');
$runs->cancel;
error_is($runs->result, '57014', 'cancelled');
error_is($waits->result, 'no error', 'the slot is handed over');

# Idle transactions lend their slot there, too: the launcher runs
$runs->ok('BEGIN; SELECT 1');
wait_running($smon, 'b', 0);
error_is($waits->query('SELECT 1'), 'no error', 'a slot is lent');
$runs->ok('COMMIT');
$_->close for ($runs, $waits);
$smon->ok('SELECT 1');
all_zero($smon, 'on the standby');

# Nothing is changed there
error_is($smon->query(q{SELECT resilience.create_bulkhead('x')}), '25006', 'create_bulkhead() on a standby');
error_is($smon->query(q{SELECT resilience.drop_bulkhead('b')}), '25006', 'drop_bulkhead() on a standby');
error_is($smon->query(q{DELETE FROM resilience.bulkhead_definitions}), '25006', 'DELETE on a standby');

# What the primary changes, also in a database that is new or goes
$mon->ok('CREATE DATABASE db');
my $db = monitor($primary, dbname => 'db');
$db->ok('CREATE EXTENSION resilience');
$db->ok(q{SELECT resilience.create_bulkhead('far', database_name => '*', role_name => 'other', max_connections => 0)});
$mon->ok(q{SELECT resilience.create_bulkhead('new', role_name => 'app', max_connections => 0)});
is(answer($primary), '53300', 'created: in force on the primary at once');
soon(sub { answer($standby) eq '53300' }, 'created: on the standby soon');
soon(sub { answer($standby, user => 'other') eq '53300' }, 'created in a new database: on the standby soon');

$db->close;
$mon->ok('DROP DATABASE db');
$mon->ok(q{SELECT resilience.alter_bulkhead('new', max_connections => -1, max_running => 0)});
is(answer($primary, user => 'other'), 'ok', 'a dropped database: its bulkheads are gone on the primary at once');
soon(sub { answer($standby) eq '53R01' }, 'altered: on the standby soon');
soon(sub { answer($standby, user => 'other') eq 'ok' }, 'a dropped database: on the standby soon');

$mon->ok(q{SELECT resilience.drop_bulkhead('new')});
soon(sub { answer($standby) eq 'ok' }, 'dropped: on the standby soon');

# The extension, too
$mon->ok('DROP EXTENSION resilience');
is(connect_refused($primary, user => 'locked'), undef, 'DROP EXTENSION ends it all on the primary');
soon(sub { !connect_refused($standby, user => 'locked') }, 'on the standby soon');
$mon->ok('CREATE EXTENSION resilience');
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1);
	SELECT resilience.create_bulkhead('locked', role_name => 'locked', max_connections => 0)});
soon(sub { (connect_refused($standby, user => 'locked') || { C => '' })->{C} eq '53300' }, 'made anew it holds again');

# A standby that restarts, and one that crashes
$smon->close;
$standby->restart;
is(connect_refused($standby, user => 'locked')->{C}, '53300', 'a standby that was restarted: from the first connection');
$standby->stop('immediate');
$standby->start;
is(connect_refused($standby, user => 'locked')->{C}, '53300', 'one that was stopped without a checkpoint, too');

# Promotion, with work on the way
$smon = monitor($standby);
($runs, $waits) = map { connect_to($standby, user => 'app') } 1, 2;
$runs->send('SELECT pg_sleep(1000)');
wait_running($smon, 'b', 1);
$mon->ok(q{SELECT resilience.create_bulkhead('last', role_name => 'locked', max_running => 3)});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$mon->close;
$primary->stop('fast');
$standby->promote;
wait_for_value($smon, 'SELECT pg_is_in_recovery()', 'f');
error_is($waits->query('SELECT 1'), '53R01', 'promoted: what ran before still has its slot');
$runs->cancel;
$runs->result;
error_is($waits->query('SELECT 1'), 'no error', 'and gives it back');
is(connect_refused($standby, user => 'locked')->{C}, '53300', 'connections are limited');
wait_for_value($smon, q{SELECT running FROM resilience.bulkheads WHERE name = 'last'}, 0, 30);
pass('the last change of the old primary is in force');
$smon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 2)});
$_->close for ($runs, $waits);
is(count_slots($standby, $smon, 3), 2, 'changes hold at once');
$smon->ok(q{SELECT resilience.drop_bulkhead('locked')});
is(connect_refused($standby, user => 'locked'), undef, 'dropped');
all_zero($smon, 'at the end');

done_testing();
