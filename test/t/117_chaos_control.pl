# Chaos experiments: start and stop by hand, as part of a transaction or at
# once; schedules; preview; pg_dump; no more room.

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

my $node = chaos_node('control', roles => [qw(app other operator)], conf => "resilience.max_experiments = 8\n");
my $mon = monitor($node);
my $second = monitor($node);
my $result;

$mon->ok($_) for (
	q{CREATE TABLE t (i int)},
	q{CREATE EXTENSION postgres_fdw},
	q{CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere')},
	q{GRANT USAGE ON SCHEMA resilience TO app, operator},
	q{GRANT pg_monitor TO operator},
	q{GRANT EXECUTE ON FUNCTION resilience.start_experiment, resilience.stop_experiment, resilience.stop_all_experiments TO operator});

my $create = q{SELECT resilience.create_experiment('x', 'error', 1, role_name => 'app', max_injections => 1000, stop_when_unhealthy => false, };

sub state_of { return experiment_of($second, $_[0] // 'x', 'state') // 'NULL' }
sub wait_state { return wait_for_value($second, qq{SELECT state FROM resilience.experiments WHERE name = '} . ($_[1] // 'x') . q{'}, $_[0], 20) }

# The transitions of an experiment, oldest first.
sub transitions
{
	my ($name) = @_;

	return $second->value(qq{SELECT string_agg(coalesce(from_state, '') || '>' || to_state, ' ' ORDER BY id) FROM resilience.events
		WHERE kind = 'experiment' AND object = '$name'}) // '';
}

# A start is part of the transaction
$mon->ok('BEGIN');
$mon->ok($create . q{max_duration => '1 min')});
$mon->ok(q{SELECT resilience.start_experiment('x')});
is(state_of(), 'NULL', 'before COMMIT there is nothing to see');
$mon->ok('ROLLBACK');
is($second->value(q{SELECT count(*) FROM resilience.experiments}), 0, 'nor after ROLLBACK');
$mon->ok('BEGIN');
$mon->ok($create . q{max_duration => '1 min')});
$mon->ok(q{SELECT resilience.start_experiment('x')});
$mon->ok('COMMIT');
is(state_of(), 'running', 'created and started by one transaction');
$result = $mon->query(q{SELECT resilience.start_experiment('x')});
error_is($result, '55006', 'once is enough');
like($result->{error}{H}, qr/stop_experiment\('x'\)/, 'and the hint says how to stop it');
$mon->ok(q{SELECT resilience.stop_experiment('x')});
is(transitions('x'), '>created defined>running running>stopped', 'events');
like($second->value(q{SELECT detail::text FROM resilience.events WHERE kind = 'experiment' AND to_state = 'stopped'}),
	qr/"injections": 0/, 'with the number of injections');

$mon->ok('BEGIN');
$mon->ok('SAVEPOINT a');
$mon->ok(q{SELECT resilience.start_experiment('x')});
$mon->ok('ROLLBACK TO a');
$mon->ok('COMMIT');
is(state_of(), 'stopped', q{a savepoint's rollback takes the start back});
$mon->ok('BEGIN');
$mon->ok('SAVEPOINT a');
$mon->ok(q{SELECT resilience.start_experiment('x')});
$mon->ok('RELEASE a');
is(state_of(), 'stopped', 'not before COMMIT');
$mon->ok('COMMIT');
is(state_of(), 'running', 'but then');
$mon->ok(q{SELECT resilience.stop_experiment('x')});
$mon->ok('BEGIN');
$mon->ok(q{SELECT resilience.start_experiment('x')});
error_is($mon->query(q{PREPARE TRANSACTION 'p'}), '0A000', 'no start in a prepared transaction');
is(state_of(), 'stopped', 'nothing started');

# What happens between the call and the commit counts
$mon->ok('BEGIN');
$mon->ok(q{SELECT resilience.start_experiment('x')});
set_conf($second, 'resilience.chaos' => 'off');
wait_for_value($second, q{SELECT can_start FROM resilience.preview_experiment('x')}, 'f');
$result = $mon->ok('COMMIT');
like($result->{notices}[0]{M}, qr/^experiment "x" was not started: resilience.chaos is off/, 'the lever went off in between: a warning');
is(state_of(), 'stopped', 'and no start');
set_conf($second, 'resilience.chaos' => undef);
wait_for_value($second, q{SELECT can_start FROM resilience.preview_experiment('x')}, 't');
$mon->ok('BEGIN');
$mon->ok(q{SELECT resilience.start_experiment('x')});
$second->ok(q{SELECT resilience.start_experiment('x')});
$result = $mon->ok('COMMIT');
like($result->{notices}[0]{M}, qr/was not started: it is running/, 'somebody else was faster');

# A stop acts at once, whatever is locked and whatever becomes of the transaction
$mon->ok('BEGIN');
$mon->ok(q{SELECT resilience.alter_experiment('x', max_injections => 999)});
my $begin = time();
$second->ok('BEGIN');
$second->ok(q{SELECT resilience.stop_experiment('x', 'while it is being altered')});
is($second->value(q{SELECT state FROM resilience.experiment_statistics()}), 'stopped', 'before COMMIT');
cmp_ok(time() - $begin, '<', 1, 'at once');
$second->ok('ROLLBACK');
$mon->ok('ROLLBACK');
is(experiment_of($mon, 'x', 'state', 'stop_reason'), 'stopped while it is being altered', 'and after ROLLBACK');
$result = $mon->ok(q{SELECT resilience.stop_experiment('x')});
like($result->{notices}[0]{M}, qr/not running/, 'stopped twice: a notice');

# What is altered, while it runs, is so at once
$mon->ok(q{SELECT resilience.alter_experiment('x', impact => 'latency', delay => '1 hour')});
$mon->ok(q{SELECT resilience.start_experiment('x')});
my $app = connect_to($node, user => 'app');
$app->send('SELECT 1');
wait_for_value($mon, q{SELECT injections FROM resilience.experiments WHERE name = 'x'}, 1);
$mon->ok(q{SELECT resilience.alter_experiment('x', role_name => 'other')});
is(state_of(), 'running', 'altered');
my $another = connect_to($node, user => 'app');
is($another->query('SELECT 1')->{error}, undef, 'others are the target now');
$another->close;

# Dropped while it runs: its faults end
$mon->ok(q{SELECT resilience.drop_experiment('x')});
ok($app->done(10), 'dropped: the delay ends');
is($app->result->{error}, undef, 'and the statement goes on');

# A baseline is a time without faults
$mon->ok($create . q{max_duration => '1 min')});
$mon->ok(q{SELECT resilience.start_experiment('x', baseline => '1 s')});
is(experiment_of($mon, 'x', 'state', 'phase', 'injections'), 'running before 0', 'the baseline is measured');
is($app->query('SELECT 1')->{error}, undef, 'no fault before it is over');
wait_for_value($mon, q{SELECT phase FROM resilience.experiments WHERE name = 'x'}, 'during', 10);
cmp_ok($mon->value(q{SELECT extract(epoch FROM ends_at - started_at) FROM resilience.experiments WHERE name = 'x'}),
	'>', 60.5, 'the time of the faults begins after it');
ok($app->query('SELECT 1')->{error}, 'faults after it');

# Who may
error_is($app->query(q{SELECT resilience.stop_experiment('x')}), '42501', 'not everybody may stop');
error_is($app->query(q{SELECT resilience.stop_all_experiments()}), '42501', 'nor all');
my $operator = connect_to($node, user => 'operator');
$operator->ok(q{SELECT resilience.stop_experiment('x')});
is($mon->value(q{SELECT detail->>'role' FROM resilience.events WHERE kind = 'experiment' AND to_state = 'stopped' ORDER BY id DESC LIMIT 1}),
	'operator', 'whoever was granted it may, and the event says who it was');
end_experiments($mon);

# All of them, in all databases
$mon->ok('CREATE DATABASE second');
my $there = monitor($node, dbname => 'second');
$there->ok('CREATE EXTENSION resilience');
for my $client ($mon, $there)
{
	$client->ok(q{SELECT resilience.create_experiment('x', 'error', role_name => 'app', stop_when_unhealthy => false)});
	$client->ok(q{SELECT resilience.start_experiment('x')});
}
is($operator->value('SELECT resilience.stop_all_experiments()'), 2, 'all of them, in all databases');
is(state_of() . ' ' . experiment_of($there, 'x', 'state'), 'stopped stopped', 'stopped');
$there->ok(q{SELECT resilience.drop_experiment('x')});

# Preview: who is connected, and would be hit
my @clients = map { connect_to($node, user => $_) } qw(app app other);
$mon->ok(q{SELECT resilience.alter_experiment('x', command => 'SELECT')});
my ($sessions, $spared, $all) = @{ $mon->ok(q{SELECT sessions, spared_sessions, all_sessions FROM resilience.preview_experiment('x')})->{rows}[0] };
is("$sessions $spared", '3 0', 'sessions of the role');
my $clients = $mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'});
cmp_ok($all, '>=', $clients, 'of all');
$mon->ok(q{SELECT resilience.create_experiment('everybody', 'cancel', application_name => '%')});
($sessions, $spared) = @{ $mon->ok(q{SELECT sessions, spared_sessions FROM resilience.preview_experiment('everybody')})->{rows}[0] };
is($sessions, $mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename IN ('app', 'other', 'operator')}), 'everybody but superusers');
cmp_ok($spared, '>=', 2, 'superusers are counted apart');
is($mon->value(q{SELECT can_start FROM resilience.preview_experiment('everybody')}), 't', 'it can start');
is(state_of('everybody'), 'defined', 'a preview starts nothing');
for my $client (@clients) { $client->ok('SELECT 1') for 1 .. 20 }
wait_for_value($mon, q{SELECT recent_rate > 0.5 FROM resilience.preview_experiment('everybody')}, 't');
pass('what they did lately');
$mon->ok(q{SELECT resilience.alter_experiment('everybody', command => 'MERGE')});
is($mon->value(q{SELECT recent_rate FROM resilience.preview_experiment('everybody')}), 0, 'none of the command');
$mon->ok(q{SELECT resilience.alter_experiment('everybody', query_id => 4711)});
is($mon->value(q{SELECT recent_rate FROM resilience.preview_experiment('everybody')}), undef, 'of an unknown query it is not known');
$_->close for @clients;
end_experiments($mon);

# Schedules
$mon->ok($create . q{schedule_start => clock_timestamp() + '1 s', schedule_interval => '2 s', max_duration => '500 ms')});
is(state_of(), 'scheduled', 'scheduled');
cmp_ok($mon->value(q{SELECT next_start > clock_timestamp() FROM resilience.experiments}), 'eq', 't', 'with its next start');
wait_state('running');
ok($app->query('SELECT 1')->{error}, 'it starts by itself');
wait_state('finished');
is($app->query('SELECT 1')->{error}, undef, 'and ends');
wait_for_value($mon, q{SELECT started_total FROM resilience.experiments}, 2);
pass('and again');
wait_state('finished');
like(transitions('x'), qr/scheduled>running running>finished finished>running running>finished$/, 'events');
set_conf($mon, 'resilience.chaos' => 'off');
wait_for_value($mon, q{SELECT count(*) > 0 FROM resilience.events WHERE kind = 'experiment' AND object = 'x'
	AND to_state = 'skipped' AND detail->>'reason' = 'resilience.chaos is off'}, 't');
pass('the lever is off at its time: left out, with an event');
set_conf($mon, 'resilience.chaos' => undef);
$mon->ok(q{SELECT resilience.drop_experiment('x')});

$mon->ok($create . q{schedule_start => clock_timestamp() + '300 ms', schedule_end => clock_timestamp() + '1300 ms', max_duration => '1 min')});
wait_state('running');
wait_state('finished');
is(experiment_of($mon, 'x', 'stop_reason'), 'schedule_end', 'none goes on after schedule_end');
$result = $mon->query(q{SELECT resilience.start_experiment('x')});
error_is($result, '55000', 'nor begins');
like($result->{error}{M}, qr/schedule_end has passed/, 'as is said');
$mon->ok(q{SELECT resilience.drop_experiment('x')});

$mon->ok($create . q{schedule_start => clock_timestamp() - '61 s'::interval)});
$mon->ok(q{SELECT resilience.create_experiment('late', 'error', role_name => 'app', stop_when_unhealthy => false, schedule_start => clock_timestamp() - '3 s'::interval)});
wait_state('running', 'late');
is(state_of(), 'defined', 'late by a minute is too late, by some seconds is not');

# A run by schedule does not go on after a restart
$_->close for ($mon, $second, $app, $operator, $there);
$node->restart;
($mon, $second) = (monitor($node), monitor($node));
$mon->ok($create =~ s/'x'/'now'/r . q{schedule_start => clock_timestamp() + '100 ms')});
wait_state('running', 'now');
is(state_of('late'), 'defined', 'what began before a restart does not go on after it');
end_experiments($mon);

# pg_dump and restore
$mon->ok($_) for (
	q{SELECT resilience.create_experiment('one', 'foreign_latency', 0.25, '20 ms', '5 ms', distribution => 'uniform', server => 'far', relation => 't',
		stop_condition => 'SELECT count(*) > 5 FROM public.t', schedule_start => '2100-01-01 UTC', schedule_interval => '1 day')},
	q{SELECT resilience.create_experiment('two', 'connection_refused', application_name => 'it''s%', sqlstate => '53300', client_address => '10.0.0.0/8')},
	q{CREATE TABLE gone (i int)},
	q{SELECT resilience.create_experiment('three', 'error', relation => 'gone')},
	q{DROP TABLE gone},
	q{CREATE DATABASE copy});
$node->command_ok([ 'bash', '-c', q{set -o pipefail; pg_dump -p "$0" -h "$1" postgres | psql -qX -v ON_ERROR_STOP=1 -p "$0" -h "$1" copy}, $node->port, $node->host ],
	'pg_dump and restore');
my $copy = monitor($node, dbname => 'copy');
my $definitions = q{SELECT string_agg(d::text, ';' ORDER BY name) FROM (SELECT name, impact, probability, delay, variance, distribution, sqlstate, role_name,
	application_name, server, relation, client_address, max_duration, schedule_start, schedule_interval, stop_condition, state FROM resilience.experiments) d};
is($copy->value($definitions), $mon->value($definitions), 'all is the same there');
is(experiment_of($copy, 'three', q{coalesce(relation::text, 'NULL')}, q{coalesce(state, 'NULL')}), '- NULL', 'a dropped relation is none there, either');
$copy->ok(q{SELECT resilience.drop_experiment(name) FROM resilience.experiments});

# No more room
$mon->ok(qq{SELECT resilience.create_experiment('n$_', 'error')}) for 1 .. 6;
$result = $mon->query(q{SELECT resilience.create_experiment('n7', 'error')});
error_is($result, '53400', 'no more than resilience.max_experiments');
is($mon->value(q{SELECT count(*) FROM resilience.experiments}), 9, 'and nothing was changed');

done_testing();
