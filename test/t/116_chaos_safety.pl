# Chaos experiments: everything that ends them.  The lever with no connection
# free, the server's health, stop conditions in every way in which they can
# fail, a launcher that is silent, restarts, crashes, a standby and its
# promotion.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ChaosTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = chaos_node('safety', roles => [qw(app operator)], init => [ allows_streaming => 1 ],
	conf => "max_connections = 20\nmax_worker_processes = 16\nsuperuser_reserved_connections = 0\n");
limit_seconds(240);
my $mon = monitor($node);

$mon->ok($_) for (
	q{CREATE TABLE switch AS SELECT false AS on},
	q{CREATE TABLE empty (i int)},
	q{CREATE FUNCTION writes() RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO public.empty VALUES (1); RETURN false; END$$},
	q{GRANT USAGE ON SCHEMA resilience TO operator},
	q{GRANT pg_monitor TO operator},
	q{GRANT EXECUTE ON FUNCTION resilience.create_experiment, resilience.drop_experiment, resilience.start_experiment,
		resilience.stop_experiment, resilience.alter_experiment TO operator});

sub state_of { return experiment_of($_[0] // $mon, $_[1] // 'x', 'state') }

sub ends
{
	my ($state, $reason, $label, $client) = @_;

	wait_for_value($client // $mon, q{SELECT state FROM resilience.experiments WHERE name = 'x'}, $state, 20);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(experiment_of($client // $mon, 'x', 'stop_reason'), $reason, $label);
	return;
}

sub app_is_hit
{
	my ($server) = @_;
	my $app = connect_to($server // $node, user => 'app');
	my $result = $app->query('SELECT 1');

	$app->close;
	return $result->{error} && ($result->{error}{D} // '') =~ /chaos=x/ ? 1 : 0;
}

sub never_hit
{
	my ($label, $server) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join('', map { app_is_hit($server) } 1 .. 20), '0' x 20, $label);
}

sub hit_soon
{
	my ($label, $server) = @_;

	wait_until("$label", sub { app_is_hit($server) });
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return pass($label);
}

# The lever, when all connections are taken and one of them sleeps
my $begin;
my @taken;
my $best = 1000;
for my $try (1 .. 3)
{
	experiment($mon, 'x', 'latency', delay => q{'1 hour'});
	my $sleeper = connect_to($node, user => 'app');
	$sleeper->send('SELECT 1');
	wait_for_value($mon, "SELECT injections FROM resilience.experiments WHERE name = 'x'", 1);
	while (1)
	{
		my $client = connect_to($node, later => 1);
		last if $client->started;
		push @taken, $client;
	}
	pass('all connections are taken: ' . scalar @taken);
	$node->append_conf('postgresql.conf', 'resilience.chaos = off');
	$begin = time();
	kill 'HUP', $node->{_pid};
	$sleeper->done(20);
	my $took = time() - $begin;
	$best = $took if $took < $best;
	is($sleeper->result->{error}, undef, sprintf('the delay ends, the statement goes on (%.3f s)', $took));
	ends('aborted', qr/^resilience.chaos is off$/, 'aborted by the lever');
	$_->close for (@taken, $sleeper);
	@taken = ();
	error_is($mon->query(q{SELECT resilience.start_experiment('x')}), '55000', 'the lever is off: nothing starts');
	$node->append_conf('postgresql.conf', 'resilience.chaos = on');
	$node->reload;
	wait_until('the lever is on', sub { $mon->value(q{SELECT can_start FROM resilience.preview_experiment('x')}) eq 't' });
	last if $best < 1;
}
cmp_ok($best, '<', 1, sprintf('within a second (%.3f s)', $best));
is(state_of(), 'aborted', 'the lever alone starts nothing again');

# max_duration, max_injections
experiment($mon, 'x', 'error', max_duration => q{'300 ms'});
ends('finished', qr/^max_duration$/, 'its time is over');
never_hit('no fault after its time');
experiment($mon, 'x', 'error', max_injections => 2);
is(join('', map { app_is_hit() } 1 .. 4), '1100', 'no more than max_injections');
ends('finished', qr/^max_injections$/, 'its injections are used up');
is(experiment_of($mon, 'x', 'injections_total', 'started_total'), '2 1', 'counted');

# The server's health
$mon->ok(q{SELECT resilience.create_health_check('heart', query => 'SELECT NOT "on" FROM public.switch',
	check_interval => '1 s', timeout => '500 ms', critical => true, failure_threshold => 1)});
wait_for_value($mon, q{SELECT status FROM resilience.health_checks WHERE name = 'heart'}, 'healthy');
experiment($mon, 'x', 'error', stop_when_unhealthy => 'true', max_injections => 100000);
hit_soon('a healthy server: faults');
$mon->ok('UPDATE switch SET "on" = true');
ends('aborted', qr/^the server is unhealthy: .*heart/, 'an unhealthy server ends it, and the reason says what is unhealthy');
never_hit('no fault after');
my $result = $mon->query(q{SELECT resilience.start_experiment('x')});
error_is($result, '55000', 'nor does it start');
like($result->{error}{M}, qr/unhealthy/, 'and says why');
is($mon->value(q{SELECT can_start FROM resilience.preview_experiment('x')}), 'f', 'the preview says so, too');
experiment($mon, 'x', 'error');
hit_soon('one that does not look at health does');
$mon->ok(q{SELECT resilience.stop_experiment('x', 'enough "of" it')});
is(experiment_of($mon, 'x', 'state', 'stop_reason'), q{stopped enough 'of' it}, 'stopped by hand, with a reason');
$mon->ok('UPDATE switch SET "on" = false');
$mon->ok(q{SELECT resilience.drop_health_check('heart')});
$mon->ok(q{SELECT resilience.stop_experiment('x', repeat('é', 100))});

# Stop conditions
sub with_condition
{
	my ($condition, %more) = @_;

	experiment($mon, 'x', 'error', stop_condition => "\$\$$condition\$\$", %more);
	return;
}

with_condition('SELECT "on" FROM public.switch');
hit_soon('a condition that does not hold: faults');
cmp_ok(experiment_of($mon, 'x', 'state'), 'eq', 'running', 'it runs');
$mon->ok('UPDATE switch SET "on" = true');
ends('aborted', qr/^its stop condition holds$/, 'it holds: aborted');
my $injections = experiment_of($mon, 'x', 'injections_total');
never_hit('no fault after');
is(experiment_of($mon, 'x', 'injections_total'), $injections, 'nor is one counted');

for (
	[ 'SELECT "on", \'too many orders\' FROM public.switch', qr/^its stop condition holds: too many orders$/, 'true from the beginning, with a message' ],
	[ 'SELECT NULL::boolean', qr/^its stop condition returned NULL$/, 'NULL' ],
	[ 'SELECT false WHERE false', qr/^its stop condition returned no row$/, 'no row' ],
	[ 'SELECT false FROM generate_series(1, 2)', qr/is not one SELECT of one row$/, 'two rows' ],
	[ 'SELECT 1 / (SELECT count(*) FROM public.empty) > 0', qr/^its stop condition failed: division by zero$/, 'an error' ],
	[ 'SELECT public.writes()', qr/^its stop condition failed: cannot execute INSERT in a read-only transaction$/, 'it writes' ],
	[ 'SELECT pg_sleep(30) IS NULL', qr/^its stop condition timed out after 1000 ms$/, 'a time-out' ])
{
	my ($condition, $reason, $label) = @$_;

	with_condition($condition);
	never_hit("$label: no fault before it is known to be false");
	ends('aborted', $reason, "$label: aborted");
	is(experiment_of($mon, 'x', 'injections_total'), 0, "$label: no fault");
}

# It reads what somebody else has locked
$mon->ok('UPDATE switch SET "on" = false');
my $other = monitor($node);
with_condition('SELECT "on" FROM public.switch');
hit_soon('it is false');
$other->ok('BEGIN');
$other->ok('LOCK TABLE switch');
ends('aborted', qr/^its stop condition timed out/, 'what it reads is locked: aborted');
$other->ok('COMMIT');

# It cannot be read itself: no result for three seconds
with_condition('SELECT false');
hit_soon('it is false');
$other->ok('BEGIN');
$other->ok('LOCK TABLE resilience.experiment_definitions');
$begin = time();
wait_for_value($mon, q{SELECT state FROM resilience.experiment_statistics() WHERE name = 'x'}, 'aborted', 20);
cmp_ok(time() - $begin, '>', 1.9, sprintf('not for a short lock (%.1f s)', time() - $begin));
never_hit('no fault after');
$other->ok('COMMIT');
ends('aborted', qr/^its stop condition was not evaluated for \d/, 'no result: aborted');

# Another condition, while it runs
with_condition('SELECT false');
hit_soon('it is false');
sleep 1.5;
is(state_of(), 'running', 'it is evaluated again and again');
$mon->ok(q{SELECT resilience.alter_experiment('x', stop_condition => 'SELECT 1 > 0')});
ends('aborted', qr/^its stop condition holds$/, 'another condition takes the place of the first one');
with_condition('SELECT false');
hit_soon('it is false');
$mon->ok(q{SELECT resilience.alter_experiment('x', stop_condition => 'SELECT 1 < 0')});
hit_soon('false again');
is(state_of(), 'running', 'it goes on');
end_experiments($mon);

# As its owner; and a slow health check of the same owner is not in its way
my $operator = connect_to($node, user => 'operator');
$operator->ok(q{SELECT resilience.create_experiment('x', 'error', 1, stop_when_unhealthy => false, stop_condition => 'SELECT "on" FROM public.switch')});
$operator->ok(q{SELECT resilience.start_experiment('x')});
ends('aborted', qr/^its stop condition failed: permission denied for table switch$/, 'a condition reads what its owner may read');
$operator->ok(q{SELECT resilience.drop_experiment('x')});
$operator->ok(q{SELECT resilience.create_experiment('x', 'error', 1, role_name => 'app', max_injections => 1000000, max_duration => '1 min',
	stop_when_unhealthy => false, stop_condition => $$SELECT current_user <> 'operator' OR session_user = 'app'$$)});
$mon->ok(q{GRANT EXECUTE ON FUNCTION resilience.create_health_check, resilience.drop_health_check TO operator});
$operator->ok(q{SELECT resilience.create_health_check('slow', query => 'SELECT pg_sleep(3.5) IS NOT NULL', check_interval => '10 s', timeout => '5 s')});
wait_until('the check runs', sub { $mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'health check%'}) > 0 });
$operator->ok(q{SELECT resilience.start_experiment('x')});
hit_soon('the condition is evaluated as the owner, by another worker');
my $until = time() + 3.6;
my $spared = 0;
while (time() < $until)
{
	$spared++ unless app_is_hit();
	sleep 0.05;
}
is("$spared " . state_of(), '0 running', 'a slow health check makes no condition late');
$operator->ok(q{SELECT resilience.drop_health_check('slow')});
$operator->ok(q{SELECT resilience.stop_experiment('x')});
$operator->close;
end_experiments($mon);

# A launcher that is silent, and one that comes again
my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'};
my $pid = $mon->value($launcher);
experiment($mon, 'x', 'error');
ok(app_is_hit(), 'faults while the launcher is there');
kill 'STOP', $pid;
$begin = time();
wait_until('the faults end', sub { sleep 0.05; !app_is_hit() }, 20);
cmp_ok(time() - $begin, '<', 6, sprintf('no launcher, no faults (%.1f s)', time() - $begin));
never_hit('none at all');
is(state_of(), 'running', 'nobody has said so yet');
$mon->ok(q{SELECT resilience.create_experiment('y', 'error')});
like($mon->query(q{SELECT resilience.start_experiment('y')})->{error}{M}, qr/the launcher is silent$/, 'nothing is started');
$mon->ok(q{SELECT resilience.drop_experiment('y')});
kill 'CONT', $pid;
ends('aborted', qr/^the launcher was silent for \d/, 'aborted when it is back');
experiment($mon, 'x', 'error');
kill 'TERM', $pid;
wait_until('another launcher', sub { ($mon->value($launcher) // $pid) != $pid });
sleep 0.3;
is(state_of() . ' ' . app_is_hit(), 'running 1', 'one that was only restarted ends nothing');

# Restart and crash: no fault outlives them
$mon->close;
$node->restart;
$mon = monitor($node);
is(experiment_of($mon, 'x', 'state', 'injections_total', 'started_total'), 'defined 0 0', 'after a restart it is only defined');
never_hit('and hits nobody');
experiment($mon, 'x', 'error');
hit_soon('started again');
my $victim = connect_to($node, user => 'app');
kill 'KILL', $victim->{pid};
$mon = monitor_after_crash($node);
wait_for_value($mon, q{SELECT state FROM resilience.experiments WHERE name = 'x'}, 'defined');
pass('after a crash it is only defined');
never_hit('and hits nobody');

# A standby, and its promotion
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
my $smon = monitor($standby);
experiment($mon, 'x', 'error');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
wait_for_value($smon, q{SELECT state FROM resilience.experiments WHERE name = 'x'}, 'defined');
never_hit('a standby is not concerned', $standby);
$result = $smon->query(q{SELECT resilience.start_experiment('x')});
error_is($result, '55000', 'nothing starts there');
like($result->{error}{M}, qr/recovery/, 'and it says why');
error_is($smon->query(q{SELECT resilience.create_experiment('y', 'error')}), '25006', 'nor is anything defined');
error_is($smon->query(q{SELECT resilience.stop_experiment('x')}), 'no error', 'stop does no harm');
is($smon->value(q{SELECT resilience.stop_all_experiments()}), 0, 'nor that of all');
$node->stop('immediate');
$standby->promote;
wait_for_value($smon, 'SELECT pg_is_in_recovery()', 'f');
is(state_of($smon), 'defined', 'promotion starts nothing');
never_hit('and nobody is hit', $standby);
$smon->ok(q{SELECT resilience.start_experiment('x')});
hit_soon('it can be started now', $standby);
is($smon->value(q{SELECT resilience.stop_all_experiments()}), 1, 'and stopped');
never_hit('which is its end', $standby);

done_testing();
