# The metrics' counts of time: in states, of recoveries, of waits.  That nothing
# goes down while it is written, and what reset_statistics() sets back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('metrics_time', conf => qq(
resilience.max_running = 1
resilience.max_wait = '5s'
), roles => ['app']);
my $mon = monitor($node);

# { series => value }, of all or of one family
sub look
{
	my ($name) = @_;
	my $result = $mon->ok('SELECT name || labels::text, value FROM resilience.metrics'
		  . (defined $name ? " WHERE name LIKE '$name%'" : ''));

	return { map { ($_->[0] => $_->[1]) } @{ $result->{rows} } };
}

# one number; labels as jsonb writes them
sub number
{
	my ($name, $labels) = @_;

	return $mon->value("SELECT value FROM resilience.metrics WHERE name = '$name' AND labels @> '$labels'");
}

sub bucket { return number('resilience_admission_wait_seconds_bucket', qq({"priority": "normal", "le": "$_[0]"})) }

# A feature that flaps faster than anybody looks, and the time it is off
$mon->ok(q(SELECT resilience.create_feature('flap')));
for (1 .. 50)
{
	$mon->ok(q(SELECT resilience.set_feature('flap', false)));
	$mon->ok(q(SELECT resilience.set_feature('flap', true)));
}
is(number('resilience_feature_transitions_total', '{"feature": "flap", "to": "off"}'), 50, 'a feature went off 50 times');
is(number('resilience_feature_transitions_total', '{"feature": "flap", "to": "on"}'), 50, 'and on');
is(number('resilience_degradation_events_total', '{"name": "flap", "kind": "feature", "to": "off"}'), 50, 'which are events of degradation');
is(number('resilience_recovery_seconds_count', '{"kind": "feature"}'), 50, 'and recoveries');
is(number('resilience_recovery_seconds_bucket', '{"kind": "feature", "le": "1"}'), 50, 'of less than a second');

my $off = number('resilience_feature_state_seconds_total', '{"feature": "flap", "state": "off"}');
my $sum = number('resilience_recovery_seconds_sum', '{"kind": "feature"}');
cmp_ok(abs($off - $sum), '<', 1e-6, 'the recoveries took the time that it was off');
my $before = time;
$mon->ok(q(SELECT resilience.set_feature('flap', false)));
my $after = time;
sleep 1.1;
my $now = number('resilience_feature_state_seconds_total', '{"feature": "flap", "state": "off"}');
cmp_ok($now - $off, '>=', 1.1, 'the present state counts while it lasts');
cmp_ok($now - $off, '<=', time - $before, 'not longer than it lasts');
$mon->ok(q(SELECT resilience.set_feature('flap', true)));
is(number('resilience_recovery_seconds_bucket', '{"kind": "feature", "le": "1"}'), 50, 'over a second is over the first bound');
is(number('resilience_recovery_seconds_bucket', '{"kind": "feature", "le": "2.5"}'), 51, 'and below the second');

# Health: a critical check fails and comes back, and the whole with it
$mon->ok('CREATE TABLE well (well boolean); INSERT INTO well VALUES (true)');
$mon->ok(q(SELECT resilience.create_health_check('ill', query => 'SELECT well FROM public.well', critical => true,
	check_interval => '1 s', timeout => '0.5 s', failure_threshold => 1)));
my $status = q(SELECT status FROM resilience.health_checks WHERE name = 'ill');
wait_for_value($mon, $status, 'healthy');
$mon->ok('UPDATE well SET well = false');
wait_for_value($mon, q(SELECT resilience.health_status()), 'unhealthy');
$mon->ok('UPDATE well SET well = true');
wait_for_value($mon, q(SELECT resilience.health_status()), 'healthy');
is(number('resilience_health_check_transitions_total', '{"check": "ill", "to": "unhealthy"}'), 1, 'the check fell ill once');
is(number('resilience_recovery_seconds_count', '{"kind": "health_check"}'), 1, 'it recovered');
is(number('resilience_recovery_seconds_count', '{"kind": "server"}'), 1, 'so did the server');
cmp_ok(number('resilience_health_check_state_seconds_total', '{"check": "ill", "status": "unhealthy"}'), '>', 0, 'time that the check was ill');
cmp_ok(number('resilience_health_state_seconds_total', '{"status": "unhealthy"}'), '>', 0, 'time that the server was');
$mon->ok(q(SELECT resilience.drop_health_check('ill')));

# Waits: how long exactly is not known, but bounds are
my ($first, $second) = map { connect_to($node, user => 'app') } 1 .. 2;
$mon->ok('CREATE TABLE go (); GRANT SELECT ON go TO app');
$before = bucket('+Inf');
# who is idle in his transaction, or waits for a lock, may lend his slot
$first->send('DO $$BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; END$$');
wait_running($mon, undef, 1);
$second->send('SELECT 1');
wait_waiting($mon, undef, 1);
sleep 0.3;
$mon->ok('INSERT INTO go DEFAULT VALUES');
$_->result for $first, $second;
is(bucket('0.25') - $before, 1, 'a wait of more than 250 ms is not below, one of no time is');
is(bucket('+Inf') - $before, 2, 'but it is counted');
is(number('resilience_admission_wait_seconds_sum', '{"priority": "normal"}'),
	number('resilience_load_wait_seconds_total', '{"priority": "normal"}'), 'the sum is that of load_by_priority');

# The transactions of many sessions that wait or do not, while it is looked at
my $script = "$PostgreSQL::Test::Utils::tmp_check/one.sql";
append_to_file($script, "SELECT 1\n;");
my $pgbench = IPC::Run::start([ 'pgbench', '-n', '-C', '-c', 6, '-j', 1, '-T', 3, '-f', $script, '-U', 'app', $node->connstr('postgres') ],
	'>', '/dev/null', '2>', \my $stderr);
my %last;
my %fell;
my $looks = 0;
while ($pgbench->pumpable)
{
	my $seen = look();

	for my $series (grep { /_(total|bucket|count|sum)\{/ } keys %$seen)
	{
		$fell{$series}++ if defined $last{$series} && $seen->{$series} < $last{$series};
		$last{$series} = $seen->{$series};
	}
	$looks++;
	$pgbench->pump_nb;
}
$pgbench->finish;
cmp_ok($looks, '>', 20, 'looked often enough');
is(join(' ', sort keys %fell), '', 'no counter ever falls');
cmp_ok(bucket('+Inf') - bucket('0.005'), '>=', 1, 'some have waited');
is(number('resilience_admission_wait_seconds_count', '{"priority": "normal"}'),
	$mon->value(q(SELECT admitted_total FROM resilience.load_by_priority WHERE priority = 'normal')),
	'all that were admitted are counted, once each');

# Shedding
$mon->ok('TRUNCATE go');
$first->send('DO $$BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; END$$');
wait_running($mon, undef, 1);
$second->ok(q(SET resilience.deadline = '1ms'));
like($second->query('SELECT 1')->{error}{C} // '', qr/^53R0/, 'a statement is shed');
$mon->ok('INSERT INTO go DEFAULT VALUES');
$first->result;
wait_for_value($mon, q(SELECT value > 0 FROM resilience.metrics WHERE name = 'resilience_load_shedding_seconds_total'), 't');
wait_for_value($mon, q(SELECT value FROM resilience.metrics WHERE name = 'resilience_recovery_seconds_count' AND labels->>'kind' = 'load_shedding'),
	1);
cmp_ok(abs(number('resilience_load_shedding_seconds_total', '{}') - number('resilience_recovery_seconds_sum', '{"kind": "load_shedding"}')),
	'<', 1e-6, 'the time of that is the time of the recovery');

# What is set back
my $seen = look();
$mon->ok('SELECT resilience.reset_statistics()');
my $reset = look();
my @kept = sort grep { /(_total|_bucket|_sum|_count)\{/ && $seen->{$_} > 0 && $reset->{$_} >= $seen->{$_} } keys %$seen;
my %families = map { /^(\w+?)(?:_bucket|_sum|_count)?\{/ ? ($1 => 1) : () } @kept;
is_deeply([ grep { !/^resilience_(events_total|.*_state_seconds_total|.*_transitions_total|degradation_events_total|load_shedding_seconds_total|recovery_seconds)$/ } sort keys %families ],
	[], 'reset_statistics() sets back what the documentation does not except');
ok($families{resilience_recovery_seconds} && $families{resilience_feature_transitions_total}, 'recoveries and transitions go on');
is($reset->{'resilience_admission_wait_seconds_count{"priority": "normal"}'}, 0, 'waits begin anew');
is($reset->{'resilience_load_admitted_total{"priority": "normal"}'}, 0, 'with the admissions');
$first->ok('SELECT 1');
is(bucket('0.005'), 1, 'and go on from there');

# A restart is no transition: what a command has opened, or switched off, was so
$mon->ok(q(SELECT resilience.create_breaker('forced')));
$mon->ok(q(SELECT resilience.force_breaker('forced', 'open')));
is(number('resilience_circuit_breaker_transitions_total', '{"breaker": "forced", "to": "open"}'), 1, 'a command is a transition');
$mon->ok(q(SELECT resilience.set_feature('flap', false)));
$_->close for $mon, $first, $second;
$node->restart;
$mon = monitor($node);
is($mon->value(q(SELECT sum(value) FROM resilience.metrics WHERE name ~ '(breaker|feature)_transitions_total')), 0, 'a restart is none');
cmp_ok(number('resilience_circuit_breaker_state_seconds_total', '{"breaker": "forced", "state": "open"}'), '>', 0, 'the breaker is open from the start');
is(number('resilience_circuit_breaker_state_seconds_total', '{"breaker": "forced", "state": "closed"}'), 0, 'and was never closed');
cmp_ok(number('resilience_feature_state_seconds_total', '{"feature": "flap", "state": "off"}'), '>', 0, 'the feature is off');
$mon->ok(q(SELECT resilience.force_breaker('forced', 'auto')));
is(number('resilience_recovery_seconds_count', '{"kind": "circuit_breaker"}'), 1, 'its return is a recovery');

done_testing();
