# With every limit at zero, or full, the server itself goes on: superusers,
# autovacuum, walsenders, background workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('exempt', init => [ allows_streaming => 'logical' ], conf => q(
max_connections = 30
autovacuum = on
autovacuum_naptime = 1s
));
my $mon = monitor($node);

$mon->ok($_) for (
	'CREATE ROLE repl LOGIN REPLICATION',
	'CREATE TABLE t (id int) WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0)',
	'GRANT SELECT ON t TO repl',
	'CREATE TABLE deleted (id int) WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0)',
	'CREATE PUBLICATION p FOR TABLE t',
	'CREATE DATABASE subscriber');

# Everything is full: the one slot of the server is taken, a bulkhead admits
# nobody and no connection.
my $app = connect_to($node, user => 'app');
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 0,
	'resilience.minimum_priority' => 'critical');
$mon->ok('GRANT SET ON PARAMETER resilience.priority TO app');
$app->ok('SET resilience.priority = critical');
$app->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
my $result = $mon->ok(q{SELECT resilience.create_bulkhead('none', database_name => '*',
	max_running => 0, max_connections => 0)});
is($result->{notices}[0]{C} // '', '01000', 'a bulkhead that locks out everybody comes with a warning');

my $refused = connect_refused($node, user => 'app');
is($refused->{C}, '53300', 'a plain user is locked out');
my $other = connect_to($node);
$other->ok('SET SESSION AUTHORIZATION app');
error_is($other->query('SELECT 1'), '53R02', 'and what it runs is shed');
$other->ok('SET resilience.priority = critical');
error_is($other->query('SELECT 1'), '53R01', 'or refused');
$other->close;

# Superusers
my $super = connect_to($node);
is($super->value('SELECT 1'), 1, 'a superuser connects and runs');
$super->ok('CREATE TABLE by_super (id int)');
$super->ok('VACUUM by_super');
$super->close;

# Autovacuum
$mon->ok('INSERT INTO deleted SELECT generate_series(1, 1000)');
$mon->ok('DELETE FROM deleted');
wait_for_value($mon, q{SELECT autovacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'deleted'}, 't');
pass('autovacuum goes on');

# A logical walsender of a role that is no superuser
my $walsender = connect_to($node, user => 'repl', replication => 'database');
error_is($walsender->query('CREATE_REPLICATION_SLOT s LOGICAL pgoutput NOEXPORT_SNAPSHOT'), 'no error', 'a logical walsender connects');
is($mon->value("SELECT count(*) FROM resilience.activity WHERE pid = $walsender->{pid}"), 0, 'it is no session of ours');
$walsender->close;
{
	local $ENV{PGUSER} = 'repl';
	$node->command_ok(
		[ 'pg_recvlogical', '-d', $node->connstr('postgres'), '--slot', 'decode', '--create-slot', '--plugin', 'test_decoding' ],
		'pg_recvlogical makes a slot');
	$mon->ok('INSERT INTO t VALUES (1)');
	my $lsn = $mon->value('SELECT pg_current_wal_flush_lsn()');
	$mon->ok('INSERT INTO t VALUES (2)');
	my ($out, $err) = ('', '');
	IPC::Run::run(
		[ 'pg_recvlogical', '-d', $node->connstr('postgres'), '--slot', 'decode', '--start',
			'--no-loop', '-f', '-', '--endpos', $lsn ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(60));
	like($out, qr/table public\.t: INSERT: id\[integer\]:1/, 'and receives changes');

	# A physical one
	$node->command_ok(
		[ 'pg_basebackup', '-D', $node->backup_dir . '/b', '-h', $node->host, '-p', $node->port, '--checkpoint', 'fast', '--no-sync' ],
		'pg_basebackup of a role that is no superuser');
}

# A subscription's workers, in a database of their own
my $subscriber = monitor($node, dbname => 'subscriber');
$subscriber->ok('CREATE TABLE t (id int)');
$subscriber->ok("CREATE SUBSCRIPTION s CONNECTION 'host=" . $node->host . ' port=' . $node->port
	  . " user=repl dbname=postgres' PUBLICATION p WITH (create_slot = false, slot_name = 's')");
wait_for_value($subscriber, 'SELECT count(*) FROM t', 2);
$mon->ok('INSERT INTO t VALUES (3)');
wait_for_value($subscriber, 'SELECT count(*) FROM t', 3);
pass('a subscription copies and applies');
is($mon->value(q{SELECT count(*) FROM resilience.activity JOIN pg_stat_activity s USING (pid) WHERE s.backend_type <> 'client backend'}),
	0, 'none of these processes counts');
$subscriber->ok($_) for (
	'ALTER SUBSCRIPTION s DISABLE', 'ALTER SUBSCRIPTION s SET (slot_name = NONE)', 'DROP SUBSCRIPTION s');
$subscriber->close;

is($mon->value(q{SELECT format('%s/%s', running, waiting) FROM resilience.load_shedder}), '1/0',
	'all the while the slot was taken');
$app->cancel;
$app->result;
$app->close;
$mon->ok(q{SELECT resilience.drop_bulkhead('none')});
all_zero($mon, 'at the end');

done_testing();
