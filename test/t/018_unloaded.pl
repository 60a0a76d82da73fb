# Where there is no shared memory nothing is in the way: without preloading,
# in single-user mode, in binary-upgrade mode.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('unloaded');

limit_seconds(150);
$node->init;
$node->start;

my $super = connect_to($node);
error_is($super->query('CREATE EXTENSION resilience'), 'no error', 'CREATE EXTENSION without preloading');
$super->ok('CREATE ROLE app LOGIN');
for my $call (
	q{resilience.create_bulkhead('b')}, q{resilience.alter_bulkhead('b')},
	q{resilience.drop_bulkhead('b', true)}, 'resilience.my_bulkheads()',
	'resilience.my_priority()', 'resilience.reset_statistics()',
	'resilience.bulkhead_statistics()', 'resilience.load_shedder_statistics()',
	'resilience.priority_statistics()', 'resilience.session_activity()')
{
	my $result = $super->query("SELECT $call");
	error_is($result, '55000', "$call says that it is not preloaded");
	like($result->{error}{H} // '', qr/shared_preload_libraries/, '... and what to do');
}

# The table can be written, as a restore does, and is checked
error_is($super->query(q{INSERT INTO resilience.bulkhead_definitions (name, max_running) VALUES ('', 1)}), '22023',
	'a bad definition is refused');
error_is($super->query(q{INSERT INTO resilience.bulkhead_definitions (name, role_name, max_running) VALUES ('b', 'app', 0)}),
	'no error', 'a good one is taken');
error_is($super->query("SELECT * FROM resilience.$_"), '55000', "the view $_, too")
  for qw(bulkheads load_shedder load_by_priority activity health load_samples);
is($super->value('SELECT resilience.health_status()'), 'unknown', 'the health of the server is unknown');
my $app = connect_to($node, user => 'app');
error_is($app->query('SELECT 1'), 'no error', 'nothing is enforced');
error_is($app->query('SHOW resilience.mode'), '42704', 'there are no settings');
error_is($super->query(q{LOAD 'resilience'}), 'no error', 'LOAD does no harm');
error_is($super->query('SELECT resilience.my_priority()'), '55000', 'and no good');
error_is($super->query('DROP EXTENSION resilience'), 'no error', 'DROP EXTENSION without preloading');
error_is($super->query('CREATE EXTENSION resilience'), 'no error', 'and CREATE again');
$super->ok(q{INSERT INTO resilience.bulkhead_definitions (name, role_name, max_running, max_connections) VALUES ('b', 'app', 0, 0)});
$_->close for ($super, $app);

# Single-user mode, with the library: nobody is limited, and what is changed
# there holds afterwards
$node->append_conf('postgresql.conf', qq(
shared_preload_libraries = 'resilience'
resilience.max_running = 1
resilience.minimum_priority = critical
));
$node->restart;
wait_until('the table is in force', sub { (connect_refused($node, user => 'app') || { C => '' })->{C} eq '53300' }, 20);
pass('preloaded, what the table says is in force');
$node->stop;

sub single
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'postgres', '--single', '-j', '-D', $node->data_dir, 'postgres' ],
		'<', \$sql, '>', \$out, '2>', \$err, IPC::Run::timeout(60));

	note("$out\n$err");
	return ($ok, "$out$err");
}

my ($ok, $output) = single("SELECT 40 + 2 AS answer;\n\n");
ok($ok, 'postgres --single starts and ends');
like($output, qr/answer = "42"/, 'and runs a statement');
unlike($output, qr/ERROR|FATAL|PANIC/, 'without an error');
($ok, $output) = single(
	"SELECT resilience.drop_bulkhead('b');\n\nSELECT resilience.create_bulkhead('s', role_name => 'app', max_running => 0);\n\n"
	  . "BEGIN;\n\nINSERT INTO resilience.bulkhead_definitions (name) VALUES ('undone');\n\nROLLBACK;\n\nVACUUM;\n\n"
	  . "CREATE DATABASE other;\n\nDROP DATABASE other;\n\n");
ok($ok, 'bulkheads are changed in single-user mode');
unlike($output, qr/ERROR|FATAL|PANIC|WARNING/, 'without an error');
$node->start;
my $mon = monitor($node);
is($mon->value(q{SELECT string_agg(name, ' ') FROM resilience.bulkheads WHERE running = 0}), 's', 'which is in force afterwards');
$app = connect_to($node, user => 'app');
$app->ok('SET resilience.requested_priority = critical');
$mon->ok('ALTER ROLE app SET resilience.priority = critical');
$app->close;
$app = connect_to($node, user => 'app');
error_is($app->query('SELECT 1'), '53R01', 'for everybody');
$_->close for ($app, $mon);
$node->stop;

# Binary-upgrade mode, as pg_upgrade starts its servers
PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', 'start');
my $session = ResilienceTest::Client->new($node);
ok(!$session->{error}, 'with -b a session starts');
is($session->value('SELECT 1'), 1, 'and runs');
is($session->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'resilience%'}), 0, 'no worker of ours is there');
error_is($session->query('SELECT resilience.my_priority()'), '55000', 'nothing is in the way');
$session->close;
PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-D', $node->data_dir, '-m', 'fast', 'stop');

# No room for background workers: the server starts all the same
$node->append_conf('postgresql.conf', "max_worker_processes = 0\nresilience.max_running = -1\nresilience.minimum_priority = low\n");
$node->start;
$mon = monitor($node);
is($mon->value(q{SELECT string_agg(name, ' ') FROM resilience.bulkheads WHERE running = 0}), 's',
	'without a background worker the file\'s bulkheads hold');
$mon->ok(q{SELECT resilience.alter_bulkhead('s', max_running => 1)});
is(count_slots($node, $mon, 2), 1, 'and changes, too');
all_zero($mon, 'at the end');

done_testing();
