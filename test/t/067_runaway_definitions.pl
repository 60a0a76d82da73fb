# Runaway rules are definitions like bulkheads: they survive restarts and
# crashes, hold from the first connection, are dumped and restored, replicated
# to standbys, and go with their database.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('rules', roles => ['app'], init => [ allows_streaming => 1 ], conf => q(
resilience.max_runaway_rules = 32
max_parallel_workers_per_gather = 0
));
my $mon = monitor($node);

sub answer
{
	my ($where, %params) = @_;
	my $session = connect_to($where, user => 'app', %params);
	my $result = $session->query('SELECT pg_sleep(1.5)');

	$session->close;
	return $result->{error} ? $result->{error}{C} : 'ok';
}

$mon->ok('CREATE DATABASE db');
my $db = monitor($node, dbname => 'db');
$db->ok('CREATE EXTENSION resilience');
$db->ok(q{SELECT resilience.create_runaway_rule('r', role_name => 'app', max_duration => '200 ms', action => 'cancel')});
$db->ok(q{SELECT resilience.create_runaway_rule('an ''odd'' "name"', role_name => 'app', application_name => 'x\\_%',
	client_address => '10.1.0.0/16', tag => 'a=b', query_id => -5, command => 'COPY', max_duration => '1.5 s',
	max_cpu => '2 s', max_temp_bytes => 0, max_rows_estimate => 1e9, action => 'quarantine',
	quarantine_duration => '1 day', quarantine_max_running => 3, mode => 'observe', expires_at => '2100-01-01 00:00:00+00')});
is(answer($node, dbname => 'db'), '57014', 'the rule holds in its database');
is(answer($node), 'ok', '... and in no other');
is($mon->value('SELECT count(*) FROM resilience.runaway_rules'), 0, 'nor does another one list it');

# Restart, crash
$node->restart;
is(answer($node, dbname => 'db'), '57014', 'after a restart');
$node->stop('immediate');
$node->start;
is(answer($node, dbname => 'db'), '57014', 'after a crash');

# From the snapshot file: without the reader having looked at the tables
$node->stop;
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->start;
is(answer($node, dbname => 'db'), '57014', 'from the first connection');
$node->stop;
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');

# A damaged file: the tables tell
{
	my $file = $node->data_dir . '/resilience.snapshot';
	open(my $fh, '+<', $file) or die "$file: $!";
	seek($fh, 60, 0);
	print $fh 'damage';
	close $fh;
}
$node->start;
wait_until('the tables have been read', sub { answer($node, dbname => 'db') eq '57014' });
pass('after a damaged snapshot the rules come from the tables');

# Reload changes nothing
$mon = monitor($node);
$mon->ok('SELECT pg_reload_conf()');
is(answer($node, dbname => 'db'), '57014', 'after a reload');

# Dump and restore
sub definitions
{
	my ($dbname) = @_;
	return $node->safe_psql($dbname, q{SELECT string_agg(d::text, ' ' ORDER BY name) FROM resilience.runaway_rule_definitions d});
}
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('db') ], 'pg_dump');
$mon->ok('CREATE DATABASE db2');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('db2'), $dump ], 'pg_restore');
is(definitions('db2'), definitions('db'), 'all is restored');
is(answer($node, dbname => 'db2'), '57014', 'what was restored holds');
$mon->ok('CREATE DATABASE db3');
$node->command_ok([ 'pg_restore', '--disable-triggers', '-d', $node->connstr('db3'), $dump ], 'pg_restore --disable-triggers');
is(answer($node, dbname => 'db3'), '57014', 'that holds, too');

# Direct DML
$db = monitor($node, dbname => 'db');
$db->ok(q{UPDATE resilience.runaway_rule_definitions SET mode = 'off' WHERE name = 'r'});
is(answer($node, dbname => 'db'), 'ok', 'UPDATE of the table');
$db->ok(q{UPDATE resilience.runaway_rule_definitions SET mode = 'enforce' WHERE name = 'r'});
is(answer($node, dbname => 'db'), '57014', '... and back');
$db->ok('BEGIN');
$db->ok(q{SELECT resilience.drop_runaway_rule('r')});
error_is($db->query(q{PREPARE TRANSACTION 'x'}), '0A000', 'PREPARE TRANSACTION is refused');
is(answer($node, dbname => 'db'), '57014', 'nothing has changed');

# A standby
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
is(answer($standby, dbname => 'db'), '57014', 'a standby watches by the same rules');
$db->ok(q{SELECT resilience.alter_runaway_rule('r', mode => 'off')});
wait_until('the standby knows', sub { answer($standby, dbname => 'db') eq 'ok' });
pass('a change arrives there');
my $sdb = monitor($standby, dbname => 'db');
error_is($sdb->query(q{SELECT resilience.drop_runaway_rule('r')}), '25006', 'there nothing can be changed');
is($sdb->value('SELECT resilience.release_quarantine(1)'), 'f', 'but its own quarantine');
$standby->stop;
$db->ok(q{SELECT resilience.alter_runaway_rule('r', mode => 'enforce')});

# The end of a database, and of the extension
$db->close;
$mon->ok("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname IN ('db', 'db2', 'db3')");
my $files = $node->data_dir;
$mon->ok("DROP DATABASE $_") for qw(db2 db3);
$db = monitor($node, dbname => 'db');
# a database takes its rules with it: there is room for all again
$db->ok(q{SELECT resilience.create_runaway_rule('n' || n, max_duration => '1 hour') FROM generate_series(1, 30) n});
error_is($db->query(q{SELECT resilience.create_runaway_rule('one too many', max_duration => '1 hour')}), '53400', 'room for 32');
$db->ok('DROP EXTENSION resilience');
is(answer($node, dbname => 'db'), 'ok', 'DROP EXTENSION ends the rules');

done_testing();
