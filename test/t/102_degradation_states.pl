# Degradations: the states that they wait for beside "loaded", what becomes of
# definitions when the server is restarted, dumped, or has a standby.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node(
	'states',
	roles => [qw(app lowly)],
	init => [ allows_streaming => 1 ],
	conf => "resilience.max_running = 50\nwork_mem = '4MB'\n");
my $mon = monitor($node);
$mon->ok(q(ALTER ROLE lowly SET resilience.priority = 'low'));

my $work_mem = q(SELECT current_setting('work_mem'));
my $holding = q(SELECT coalesce(string_agg(name, ' ' ORDER BY name), 'none') FROM resilience.degradations WHERE active);
my %settings = (loaded => '3MB', shedding => '2MB', degraded => '1500kB', unhealthy => '1MB');
while (my ($state, $value) = each %settings)
{
	$mon->ok(qq(SELECT resilience.create_degradation('$state', '$state', 'critical', '{"work_mem": "$value"}')));
}
my $app = connect_to($node, user => 'app');
my $lowly = connect_to($node, user => 'lowly');
sleep 0.5;
is($mon->value($holding), 'none', 'nothing holds at first');
is($app->value($work_mem), '4MB', 'and nothing is changed');

# refused by the lever: no queue, but work is shed
set_conf($mon, 'resilience.minimum_priority' => 'normal');
error_is($lowly->query('SELECT 1'), '53R02', 'work is shed');
wait_for_value($mon, $holding, 'degraded loaded shedding');
pass('shedding, and so loaded; and a server that sheds is degraded');
is($app->value($work_mem), '1500kB', 'the worst state counts');
$mon->ok(q(SELECT resilience.alter_degradation('degraded', enabled => false)));
is($app->value($work_mem), '2MB', 'then the next one');
$mon->ok(q(SELECT resilience.alter_degradation('degraded', enabled => true)));
set_conf($mon, 'resilience.minimum_priority' => undef);
wait_for_value($mon, $holding, 'none');
pass('and it ends');

# health: what holds because of it must not keep it alive
$mon->ok(q(SELECT resilience.create_health_check('down', query => 'SELECT false', check_interval => '1 s', timeout => '500 ms', failure_threshold => 1)));
wait_for_value($mon, $holding, 'degraded');
is($app->value($work_mem), '1500kB', 'a check that fails: degraded');
$mon->ok(q(SELECT resilience.alter_health_check('down', critical => true)));
wait_for_value($mon, $holding, 'degraded unhealthy');
is($app->value($work_mem), '1MB', 'a critical one: unhealthy');
$mon->ok(q(SELECT resilience.drop_health_check('down')));
wait_for_value($mon, $holding, 'none');
is($app->value($work_mem), '4MB', 'healthy again');

# dump and restore
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$mon->ok('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ], 'restore');
my $definitions = q(SELECT string_agg(d::text, ' ' ORDER BY name) FROM resilience.degradation_definitions d);
is(connect_to($node, user => $ResilienceTest::superuser, dbname => 'restored')->value($definitions),
	$mon->value($definitions), 'definitions are dumped');

# a standby has the definitions, and states of its own
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('states_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "resilience.minimum_priority = 'normal'\n");
$standby->start;
my $there = monitor($standby);
wait_for_value($there, 'SELECT count(*) FROM resilience.degradations WHERE active IS NOT NULL', 4);
error_is(connect_to($standby, user => 'lowly')->query('SELECT 1'), '53R02', 'work is shed on the standby');
wait_for_value($there, "SELECT ($holding) ~ 'shedding'", 't');
is(connect_to($standby, user => 'app')->value($work_mem) =~ /^(2MB|1500kB)$/ ? 1 : 0, 1, 'there it is degraded');
is($app->value($work_mem), '4MB', 'and not on the primary');
$standby->stop;

# after a crash
$mon->ok(q(SELECT resilience.create_degradation('new', 'shedding', 'normal', '{"jit": false}')));
ok(kill_postmaster($node, $mon), 'the server is killed');
$node->start;
$mon = monitor($node);
is($mon->value('SELECT count(*) FROM resilience.degradations WHERE active IS NOT NULL'), 5,
	'in force from the first connection after a crash');

# dropped with the extension
$mon->ok('DROP EXTENSION resilience CASCADE');
is(connect_to($node, user => 'app')->value($work_mem), '4MB', 'without the extension');

done_testing();
