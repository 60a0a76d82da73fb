# What health checks make of the server: critical ones and others, results
# that are missing or too old, and the doubt when most are cut off at once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('checks', conf => "max_worker_processes = 16\nresilience.max_health_check_workers = 0\n");
my $mon = monitor($node);

# The row of a component, or of the server.
sub field
{
	my ($column, $component) = @_;
	return $mon->value("SELECT $column FROM resilience.health WHERE component = '$component'") // '';
}

sub wait_status
{
	my ($component, $status, $label) = @_;
	my $now = wait_for_value($mon,
		"SELECT coalesce((SELECT status FROM resilience.health WHERE component = '$component'), 'none')", $status, 30);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($now, $status, $label // "$component: $status");
}

sub create
{
	my ($name, $settings) = @_;
	$mon->ok("SELECT resilience.create_health_check('$name', query => 'SELECT is_ok FROM public.switches WHERE name = ''$name''',"
		  . " check_interval => '1 s', timeout => '200 ms', failure_threshold => 1$settings)");
	return;
}

sub turn { $mon->ok("UPDATE public.switches SET is_ok = $_[1] WHERE name = '$_[0]'"); return }
sub last_event { return $mon->value('SELECT coalesce(max(id), 0) FROM resilience.events') }

sub cause
{
	my ($states, $after) = @_;
	my ($from, $to) = split(' ', $states);
	return $mon->value(qq(
SELECT format('%s|%s|%s', detail ->> 'component', detail ->> 'kind', detail ->> 'message') FROM resilience.events
WHERE object = 'health' AND from_state = '$from' AND to_state = '$to' AND id > $after ORDER BY id DESC LIMIT 1)) // '';
}

$mon->ok('CREATE TABLE public.switches AS SELECT name, true AS is_ok FROM unnest(ARRAY[\'plain\', \'vital\']) name');
wait_for_value($mon, 'SELECT resilience.health_status()', 'healthy', 20);

# A check that nobody runs: no word of the server, until it is overdue
my $after = last_event();
create('vital', ', critical => true');
is(field('status', 'vital'), 'unknown', 'a check that has not run is unknown');
is(field('message', 'vital'), 'has not run yet', 'its message says so');
sleep 0.3;
is($mon->value('SELECT resilience.health_status()'), 'healthy', 'which says nothing of the server');
wait_status('server', 'degraded', 'until it should have run long ago');
is($mon->value(q{SELECT clock_timestamp() - since >= '3 s' FROM resilience.health WHERE component = 'vital'}), 't',
	'after three intervals');
is(cause('healthy degraded', $after), 'vital|health_check|has not run yet', 'the event tells the cause');
is(field('status', 'server'), 'degraded', 'a critical check that is unknown makes nothing unhealthy');

# It is run
set_conf($mon, 'resilience.max_health_check_workers' => 4);
wait_status('vital', 'healthy', 'it is run');
wait_status('server', 'healthy');
is(field('critical', 'vital'), 't', 'it is critical');

# A first run that is bad, and not the last word: nothing of the server yet
$after = last_event();
$mon->ok(q{SELECT resilience.create_health_check('new', query => 'SELECT false', critical => true, check_interval => '5 s',
	timeout => '200 ms', failure_threshold => 1000)});
wait_for_value($mon, q{SELECT runs_total > 1 FROM resilience.health_checks WHERE name = 'new'}, 't', 30);
is(field('status', 'new'), 'unknown', 'a check whose first runs were bad, but not often enough');
is(field('message', 'new'), 'the query returned false', 'its message is that of its last run');
is($mon->value('SELECT resilience.health_status()'), 'healthy', 'nothing of the server is said by that');
is(last_event(), $after + 1, 'nor noted, but that it was created');
$mon->ok(q{SELECT resilience.drop_health_check('new')});
is(field('database_name', 'vital'), 'postgres', 'its database is told');
create('plain', '');
wait_status('plain', 'healthy');
is(field('critical', 'plain'), 'f', 'another one is not');

# Not critical: the server is degraded
$after = last_event();
turn('plain', 'false');
wait_status('plain', 'unhealthy');
wait_status('server', 'degraded', 'a check that is not critical makes it degraded');
like(cause('healthy degraded', $after), qr/^plain\|health_check\|./, 'by that check');
my $since = field('since', 'plain');
sleep 1.5;
is(field('since', 'plain'), $since, 'since then, however often it fails');
is(field('status', 'server'), 'degraded', 'no more than that');

# Critical: unhealthy
turn('vital', 'false');
wait_status('server', 'unhealthy', 'a critical one makes it unhealthy');
like(cause('degraded unhealthy', $after), qr/^vital\|health_check\|./, 'by that check');
is($mon->value('SELECT resilience.health_status()'), 'unhealthy', 'health_status() says so');
is($mon->value('SELECT component FROM resilience.health LIMIT 1 OFFSET 1'), 'vital', 'it comes first in the view');
$after = last_event();
turn('vital', 'true');
wait_status('server', 'degraded', 'better');
like(cause('unhealthy degraded', $after), qr/^plain\|/, 'what is left is told');
turn('plain', 'true');
wait_status('server', 'healthy', 'well');
like(cause('degraded healthy', $after), qr/^plain\|/, 'who has recovered last is told');

# What nobody does any more is too old
$after = last_event();
set_conf($mon, 'resilience.max_health_check_workers' => 0);
wait_status('vital', 'unknown', 'a result gets too old');
like(field('message', 'vital'), qr/^stale: last run \d+ s ago/, 'its message says so');
wait_status('server', 'degraded', 'then the server is degraded, no more');
$mon->ok(q{SELECT resilience.alter_health_check('vital', enabled => false)});
$mon->ok(q{SELECT resilience.alter_health_check('plain', enabled => false)});
wait_status('vital', 'none', 'a check that is disabled is no component');
wait_status('server', 'healthy');
set_conf($mon, 'resilience.max_health_check_workers' => 4);

# Most are cut off at once: who checks is suspect, and a feature stays as it is
for my $name (qw(plain vital))
{
	$mon->ok("SELECT resilience.alter_health_check('$name', enabled => true, critical => false)");
}
$mon->ok(q{SELECT resilience.create_feature('f', health_check => 'plain', failure_threshold => 2)});
$mon->ok("SELECT resilience.create_health_check('more$_', query => 'SELECT is_ok FROM public.switches LIMIT 1', check_interval => '1 s',"
	  . " timeout => '200 ms', failure_threshold => 1)")
  for 1, 2;
wait_status($_, 'healthy') for qw(plain vital more1 more2);
$after = last_event();
my $locker = connect_to($node);
$locker->ok('BEGIN; LOCK TABLE public.switches');
wait_until('suspect', sub { field('message', 'server') =~ /; [34] of 4 health checks were cut off/ }, 30);
pass('the row of the server says that the workers are suspect');
is($mon->value(qq(SELECT from_state || ' ' || to_state FROM resilience.events
	WHERE object = 'health checks' AND id > $after ORDER BY id LIMIT 1)), 'trusted suspect', 'which is an event');
is($mon->value(qq(SELECT detail ->> 'checks' FROM resilience.events WHERE object = 'health checks' AND id > $after LIMIT 1)), 4,
	'with its numbers');
sleep 3;
is(field('status', 'f'), 'healthy', 'a feature is not switched by checks that are suspect');
$locker->ok('ROLLBACK');
wait_until('trusted again', sub { field('message', 'server') !~ /cut off/ }, 30);
pass('they are trusted again');
wait_status('server', 'healthy');

# Two of four are not the most
$mon->ok("SELECT resilience.alter_health_check('$_', query => 'SELECT true FROM pg_sleep(10)')") for qw(more1 more2);
wait_status($_, 'unhealthy') for qw(more1 more2);
sleep 0.5;
unlike(field('message', 'server'), qr/cut off/, 'two of four may be slow');

# Workers that cannot be had
$mon->ok(q{SELECT resilience.drop_feature('f')});
$mon->ok('SELECT resilience.drop_health_check(name) FROM resilience.health_checks');
$locker->close;
$mon->close;
$node->stop;
$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$node->start;
$mon = monitor($node);
$mon->ok(q{SELECT resilience.create_health_check('vital', query => 'SELECT true', check_interval => '1 s', timeout => '200 ms', critical => true)});
wait_status('database workers', 'degraded', 'no worker can be had');
like(field('message', 'database workers'), qr/max_worker_processes/, 'its message says what to do');
wait_status('server', 'degraded', 'the server is degraded');
$mon->close;
$node->stop;
done_testing();
