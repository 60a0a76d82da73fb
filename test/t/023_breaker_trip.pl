# The state machine with real sessions: one trip for all of them, exactly so
# many trials, permits that come back, late results, rates, slow calls, the
# open time, forced states, modes, and every count at zero after a storm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $ra = remote_node('ra', conf => "max_connections = 150\n");
my $node = local_node('trip', conf => "max_connections = 150\n");
my $mon = monitor($node);
limit_seconds(240);

# Whoever reads "gate" waits as long as the control session holds the lock.
$ra->safe_psql('postgres', q{
CREATE FUNCTION wait_for_gate() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN 1; END$$;
CREATE VIEW gate AS SELECT wait_for_gate() AS id, 1 AS v});
add_server($mon, 'sa', $ra, tables => [qw(t u log slow nap5 nap60 die div gate)]);
my $control = connect_to($ra);
my $s = connect_to($node);
my $never = q{max_failures => 1000000, minimum_calls => 1000000, slow_call_duration => '1 h'};

sub b { return breaker($mon, 'a', @_) }

sub b_is
{
	my ($columns, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return breaker_is($mon, 'a', $columns, $expected, $label);
}

# A new breaker, with the totals at zero
sub new_breaker
{
	my ($settings) = @_;

	$mon->ok(q{SELECT resilience.drop_breaker('a', if_exists => true)});
	$mon->ok("SELECT resilience.create_breaker('a', 'sa', probe => false, $settings)");
	return;
}

sub sqlstate { return $_[0]->{error} ? $_[0]->{error}{C} : 'ok' }

sub call { return sqlstate($s->query($_[0] // 'SELECT count(*) FROM sa_t')) }

sub several { my ($code, $n) = @_; return join(' ', map { $code->() } 1 .. $n) }

# Sessions that ask at once
sub ask
{
	my ($sql, @sessions) = @_;

	$_->send($sql) for @sessions;
	return;
}

# How many of them have each outcome, as "SQLSTATE count ..."
sub outcomes
{
	my %count;

	$count{ sqlstate($_->result) }++ for @_;
	return join(' ', map { "$_ $count{$_}" } sort keys %count);
}

sub shut { $control->ok('SELECT pg_advisory_lock(1)'); return }
sub let_pass { $control->ok('SELECT pg_advisory_unlock_all()'); return }

sub wait_at_gate
{
	my ($count) = @_;
	return wait_for_value($control, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, $count);
}

# the time to retry has come
sub wait_retry
{
	return wait_for_value($mon, q{SELECT retry_at <= clock_timestamp() FROM resilience.breakers WHERE name = 'a'}, 't');
}

my @sessions = map { connect_to($node) } 1 .. 64;

#
# 64 sessions at once
#
# at a server that refuses connections
new_breaker(q{max_failures => 5, reset_timeout => '1 h', max_reset_timeout => '1 h'});
$ra->stop('immediate');
ask('SELECT count(*) FROM sa_t', @sessions);
like(outcomes(@sessions), qr/^08001 \d+ 08R01 \d+$/, 'some fail, the others are rejected');
b_is('state open_count trip_reason calls_in_flight', 'open 1 consecutive failures 0', 'one trip');
is(b('failure_total + rejected_total'), 64, 'each is one or the other');
is(b('failure_total - superseded_total'), 5, 'five failures were counted, what came later was not');
is(b('consecutive_failures'), 5, 'as the view says');
ask('SELECT count(*) FROM sa_t', @sessions);
is(outcomes(@sessions), '08R01 64', 'then all are rejected');
wait_until('the log tells', sub { slurp_file($node->logfile) =~ /LOG:  circuit breaker "a".* is open/ });
pass('the log tells');
$ra->start;
$control = connect_to($ra);

# in 64 calls under way when the server dies
new_breaker(q{max_failures => 5, reset_timeout => '1 h', max_reset_timeout => '1 h'});
is(several(\&call, 3), 'ok ok ok', 'the new breaker is closed');
shut();
ask('SELECT * FROM sa_gate', @sessions);
wait_at_gate(64);
b_is('calls_in_flight success_total', '64 3', 'under way');
$ra->stop('immediate');
is(outcomes(@sessions), '08006 64', 'all of them fail');
b_is('state open_count failure_total superseded_total calls_in_flight', 'open 1 64 59 0', 'one trip, and the rest came too late');
$ra->start;
$control = connect_to($ra);

#
# Half-open
#
new_breaker(q{max_failures => 1, reset_timeout => '200 ms', jitter => 0, half_open_calls => 3, success_threshold => 3});
is(call('SELECT * FROM sa_die'), '08006', 'a failure');
is(b('state'), 'open', 'trips');
wait_retry();
b_is('state', 'open', 'time alone changes nothing');
shut();
ask('SELECT * FROM sa_gate', @sessions);
wait_at_gate(3);
wait_until('61 are rejected', sub { 61 == grep { $_->done } @sessions });
my @trials = grep { !$_->done } @sessions;
is(outcomes(grep { $_->done } @sessions), '08R01 61', 'all but three are rejected');
b_is('state calls_in_flight rejected_total', 'half_open 3 61', 'three trials are under way');
is(call(), '08R01', 'nobody else gets through');

# whose permits come back: a terminated backend, a cancel, a client that is gone
my ($terminated, $cancelled, $keeper) = @trials;
$mon->ok("SELECT pg_terminate_backend($terminated->{pid})");
is(sqlstate($terminated->result), '57P01', 'a trial is terminated');
wait_breaker($mon, 'a', 'calls_in_flight', 2);
b_is('state ignored_total', 'half_open 1', 'which says nothing about the server');
@sessions = ((grep { $_ != $terminated } @sessions), connect_to($node));
my @idle = grep { $_ != $cancelled && $_ != $keeper } @sessions;
ask('SELECT * FROM sa_gate', @idle);
wait_until('all but one are rejected', sub { $#idle == grep { $_->done } @idle });
wait_breaker($mon, 'a', 'calls_in_flight', 3);
my ($another) = grep { !$_->done } @idle;
is(outcomes(grep { $_->done } @idle), '08R01 61', 'one takes its place');
$cancelled->cancel;
is(sqlstate($cancelled->result), '57014', 'a trial is cancelled');
b_is('state calls_in_flight ignored_total', 'half_open 2 2', 'its permit is back');
is(call(), 'ok', 'another one has it');
b_is('state calls_in_flight', 'half_open 2', 'one success');
let_pass();
is(outcomes($another, $keeper), 'ok 2', 'two more trials');
b_is('state open_count calls_in_flight success_total', 'closed 1 0 3', 'three successes close it');
ask('SELECT count(*) FROM sa_t', @sessions);
is(outcomes(@sessions), 'ok 64', 'all get through');

# A failed trial opens it again, and what the other trials find is too late
is(call('SELECT * FROM sa_die'), '08006', 'another failure');
$mon->ok(q{SELECT resilience.alter_breaker('a', reset_timeout => '100 ms')});
wait_retry();
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0, 1 ]);
wait_at_gate(2);
is(call('SELECT * FROM sa_die'), '08006', 'a trial fails');
b_is('state open_count trip_reason', 'open 3 failed trial', 'open again');
$mon->ok(q{SELECT resilience.alter_breaker('a', reset_timeout => '1 h', max_reset_timeout => '1 h')});
let_pass();
is(outcomes(@sessions[ 0, 1 ]), 'ok 2', 'two trials succeed');
b_is('state open_count superseded_total calls_in_flight', 'open 3 2 0', 'too late');

# A trial that a query does not make, after all
new_breaker(q{max_failures => 1, reset_timeout => '10 ms', jitter => 0, half_open_calls => 1, success_threshold => 1});
$s->query('SELECT * FROM sa_die');
wait_retry();
is(call('SELECT * FROM sa_t WHERE false'), 'ok', 'a query that does not need the server');
is(call('SELECT * FROM sa_t LIMIT 0'), 'ok', 'nor this one') if b('state') ne 'closed';
is(b('calls_in_flight'), 0, 'keeps no permit');
is(call(), 'ok', 'another one is let through');
b_is('state', 'closed', 'and closes it');

# A trial in a cursor holds its permit until it is closed
new_breaker(q{max_failures => 1, reset_timeout => '10 ms', jitter => 0, half_open_calls => 1, success_threshold => 1});
$s->query('SELECT * FROM sa_die');
wait_retry();
my $cursor = connect_to($node);
$cursor->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM sa_t; FETCH 5 FROM c');
b_is('state calls_in_flight', 'half_open 1', 'a cursor is the trial');
is(call(), '08R01', 'nobody else is let through');
$cursor->ok('CLOSE c');
b_is('state calls_in_flight', 'closed 0', 'closed with it');
$cursor->ok('ROLLBACK');

# A call within a trial rides on its permit
$mon->ok(q{CREATE FUNCTION count_a() RETURNS bigint LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN (SELECT count(*) FROM sa_t); END'});
new_breaker(q{max_failures => 1, reset_timeout => '10 ms', jitter => 0, half_open_calls => 1, success_threshold => 1});
$s->query('SELECT * FROM sa_die');
wait_retry();
is(call('SELECT count_a() FROM sa_t LIMIT 2'), 'ok', 'a trial with a function that calls the same server');
b_is('state calls_in_flight', 'closed 0', 'closes it');

#
# Results of an older generation
#
new_breaker(q{max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h'});
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0 .. 3 ]);
wait_at_gate(4);
is(several(sub { call('SELECT * FROM sa_die') }, 2), '08006 08006', 'two failures while four calls are under way');
b_is('state calls_in_flight', 'open 4', 'trip');
$control->ok(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND wait_event = 'advisory' ORDER BY pid LIMIT 1});
wait_breaker($mon, 'a', 'failure_total', 3);
b_is('open_count superseded_total consecutive_failures', '1 1 2', 'a late failure is not counted');
$mon->ok(q{SELECT resilience.reset_breaker('a')});
$control->ok(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND wait_event = 'advisory' ORDER BY pid LIMIT 1});
wait_breaker($mon, 'a', 'failure_total', 4);
b_is('state superseded_total consecutive_failures window_calls', 'closed 2 0 0', 'nor is one after a reset');
let_pass();
is(outcomes(@sessions[ 0 .. 3 ]), '08006 2 ok 2', 'the others succeed');
b_is('state superseded_total window_calls calls_in_flight', 'closed 4 0 0', 'which is not counted, either');

#
# The rate
#
new_breaker(q{max_failures => 1000000, failure_rate => 0.5, minimum_calls => 10, window_duration => '1 min', reset_timeout => '1 h', max_reset_timeout => '1 h'});
is(several(sub { call('SELECT * FROM sa_die') }, 4), '08006 08006 08006 08006', 'four failures');
b_is('state window_calls window_failures failure_rate', 'closed 4 4 1', 'are too few to tell');
is(several(\&call, 5), 'ok ok ok ok ok', 'five successes');
b_is('state window_calls window_failures consecutive_failures', 'closed 9 4 0', 'nine calls');
is(call('SELECT * FROM sa_div'), '22012', 'the tenth is an error of the query');
b_is('state window_calls failure_rate', 'closed 10 0.4', 'no failure');
is(call('SELECT * FROM sa_die'), '08006', 'five of eleven');
b_is('state', 'closed', 'are not half');
is(call('SELECT * FROM sa_die'), '08006', 'six of twelve');
b_is('state trip_reason open_count', 'open failure rate 1', 'are');

# The window forgets
new_breaker(q{max_failures => 1000000, failure_rate => 0.5, minimum_calls => 4, window_duration => '1 s'});
is(several(sub { call('SELECT * FROM sa_die') }, 3), '08006 08006 08006', 'three failures');
wait_breaker($mon, 'a', 'window_failures', 0, 10);
is(several(\&call, 3), 'ok ok ok', 'and three successes later');
is(call('SELECT * FROM sa_die'), '08006', 'another failure');
b_is('state', 'closed', 'is one of four');

#
# Slow calls
#
new_breaker(q{max_failures => 1000000, slow_call_duration => '150 ms', slow_call_rate => 0.6, minimum_calls => 5, window_duration => '1 min',
	reset_timeout => '200 ms', jitter => 0, half_open_calls => 1, success_threshold => 1});
is(several(\&call, 2), 'ok ok', 'two quick calls');
$control->ok('UPDATE seconds SET value = 0.2');
is(several(sub { call('SELECT * FROM sa_slow') }, 2), 'ok ok', 'and two slow ones');
b_is('state window_calls window_slow_calls slow_total success_total', 'closed 4 2 2 4', 'closed');
is(call('SELECT * FROM sa_slow'), 'ok', 'the third slow one');
b_is('state trip_reason slow_total', 'open slow call rate 3', 'opens it');
wait_retry();
is(call('SELECT * FROM sa_slow'), 'ok', 'a slow trial');
b_is('state trip_reason', 'open failed trial', 'opens it again');
$control->ok('UPDATE seconds SET value = 0');
$mon->ok(q{SELECT resilience.alter_breaker('a', slow_call_duration => '2 s')});
wait_retry();
is(call('SELECT * FROM sa_slow'), 'ok', 'a quick trial');
b_is('state', 'closed', 'closes it');

# Calls that hang count before they end, and once
new_breaker(q{max_failures => 1000000, slow_call_duration => '200 ms', slow_call_rate => 1, minimum_calls => 3, window_duration => '1 min', reset_timeout => '1 h', max_reset_timeout => '1 h'});
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0 .. 1 ]);
wait_breaker($mon, 'a', 'window_slow_calls', 2);
b_is('state calls_in_flight success_total slow_total', 'closed 2 0 2', 'hanging calls are slow ones');
ask('SELECT * FROM sa_gate', @sessions[ 2 .. 3 ]);
wait_breaker($mon, 'a', 'state', 'open');
b_is('trip_reason calls_in_flight', 'slow call rate 4', 'and open the breaker while they hang');
is(call(), '08R01', 'others need not wait');
let_pass();
is(outcomes(@sessions[ 0 .. 3 ]), 'ok 4', 'they end');
is(b('slow_total'), 4, 'each was counted once');
is(b('calls_in_flight'), 0, 'none is left');

#
# How long it stays open
#
sub open_ms { return $mon->value(q{SELECT round(extract(epoch FROM retry_at - last_failure_at) * 1000) FROM resilience.breakers WHERE name = 'a'}) }

new_breaker(q{max_failures => 1, reset_timeout => '200 ms', backoff_factor => 2, max_reset_timeout => '700 ms', jitter => 0, half_open_calls => 1, success_threshold => 1});
for my $expected (200, 400, 700, 700)
{
	is(call('SELECT * FROM sa_die'), '08006', 'a failure');
	my $ms = open_ms();
	ok($ms >= $expected - 5 && $ms <= $expected + 50, "open for $expected ms") or diag "$ms ms";
	my $result = $s->query('SELECT count(*) FROM sa_t');
	my $left = detail_of($result, 'retry_after_ms');
	ok($left > 0 && $left <= $expected + 1, 'the error says how long') or diag $left;
	wait_retry();
}
is(call(), 'ok', 'a success');
b_is('state open_count', 'closed 4', 'closes it');
is(call('SELECT * FROM sa_die'), '08006', 'failing again soon after it recovered');
cmp_ok(open_ms(), '>=', 690, 'it stays open for longer');
$mon->ok(q{SELECT resilience.reset_breaker('a')});
is(call('SELECT * FROM sa_die'), '08006', 'after a reset');
cmp_ok(open_ms(), '<', 300, 'that is forgotten');

new_breaker(q{max_failures => 1, reset_timeout => '1000 s', max_reset_timeout => '1000 s', jitter => 0.5});
my %times;
for (1 .. 12)
{
	$s->query('SELECT * FROM sa_die');
	$times{ open_ms() } = 1;
	$mon->ok(q{SELECT resilience.reset_breaker('a')});
}
my @times = sort { $a <=> $b } keys %times;
cmp_ok(scalar(@times), '>', 6, 'jitter: different times');
ok($times[0] >= 500000 - 100 && $times[-1] <= 1500000 + 100, 'within the bounds') or diag "@times";

#
# By hand
#
new_breaker(q{max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h'});
$mon->ok(q{SELECT resilience.force_breaker('a', 'open')});
my $result = $s->query('SELECT count(*) FROM sa_t');
error_is($result, '08R01', 'forced open');
is(detail_of($result, 'forced'), 'open', 'the error says so');
b_is('state forced open_count failure_total', 'open open 0 0', 'no failure made it open');
$mon->ok(q{BEGIN; SELECT resilience.force_breaker('a', 'closed'); ROLLBACK});
is(call(), '08R01', 'a force that is rolled back');
$mon->ok(q{SELECT resilience.force_breaker('a', 'auto')});
is(call(), 'ok', 'left to itself');
$mon->ok(q{SELECT resilience.force_breaker('a', 'closed')});
is(several(sub { call('SELECT * FROM sa_die') }, 5), '08006 08006 08006 08006 08006', 'forced closed: failures');
b_is('state forced failure_total open_count', 'closed closed 5 0', 'do not trip');
is(call(), 'ok', 'and a success');
$mon->ok(q{SELECT resilience.force_breaker('a', 'auto')});
is(several(sub { call('SELECT * FROM sa_die') }, 2), '08006 08006', 'auto: failures');
b_is('state forced open_count', 'open auto 1', 'trip');
$mon->ok(q{SELECT resilience.force_breaker('a', 'closed')});
is(call(), 'ok', 'forced closed over an open one');
b_is('state forced', 'closed closed', 'the state that counts');
$mon->ok(q{SELECT resilience.force_breaker('a', 'auto')});
is(call(), '08R01', 'which goes on from there');
$mon->ok(q{SELECT resilience.reset_breaker('a')});
is(call(), 'ok', 'reset');

# Observing
new_breaker(q{max_failures => 2, reset_timeout => '1 h', max_reset_timeout => '1 h', max_concurrent_calls => 1, mode => 'observe'});
is(several(sub { call('SELECT * FROM sa_die') }, 3), '08006 08006 08006', 'observing: failures');
b_is('state open_count', 'open 1', 'open it');
is(several(\&call, 3), 'ok ok ok', 'and nobody is rejected');
is(b('rejected_total'), 4, 'but counted');
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0 .. 2 ]);
wait_at_gate(3);
b_is('calls_in_flight rejected_full_total', '3 2', 'more calls at once than it would let through');
let_pass();
is(outcomes(@sessions[ 0 .. 2 ]), 'ok 3', 'nobody is rejected');
$mon->ok(q{SELECT resilience.alter_breaker('a', reset_timeout => '10 ms', max_reset_timeout => '10 ms', half_open_calls => 1, success_threshold => 2); SELECT resilience.reset_breaker('a')});
$s->query('SELECT * FROM sa_die') for 1 .. 2;
wait_retry();
is(several(\&call, 2), 'ok ok', 'observing: trials');
b_is('state calls_in_flight', 'closed 0', 'close it');
$mon->ok(q{SELECT resilience.alter_breaker('a', mode => 'enforce', reset_timeout => '1 h', max_reset_timeout => '1 h')});
$s->query('SELECT * FROM sa_die') for 1 .. 2;
is(call(), '08R01', 'enforcing');
$s->ok('SET resilience.mode = observe');
is(call(), 'ok', 'a session that observes');
$s->ok('SET resilience.mode = off');
is(call(), 'ok', 'one that is switched off');
$s->ok('RESET resilience.mode');
is(call(), '08R01', 'and neither');
$mon->ok(q{SELECT resilience.alter_breaker('a', mode => 'off')});
$mon->ok(q{SELECT resilience.reset_statistics()});
is(several(sub { call('SELECT * FROM sa_die') }, 3) . ' ' . call(), '08006 08006 08006 ok', 'a breaker that is switched off');
b_is('success_total failure_total rejected_total calls_in_flight', '0 0 0 0', 'counts nothing');

#
# Changes while calls are under way
#
new_breaker("$never, half_open_calls => 2");
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0 .. 4 ]);
wait_at_gate(5);
$mon->ok(q{SELECT resilience.alter_breaker('a', max_concurrent_calls => 3, window_duration => '20 s', call_timeout => '1 min')});
b_is('state calls_in_flight', 'closed 5', 'altered: calls go on');
is(call(), '53R01', 'the new limit counts them');
$mon->ok(q{SELECT resilience.alter_breaker('a', mode => 'observe')});
$mon->ok(q{SELECT resilience.alter_breaker('a', mode => 'off')});
let_pass();
is(outcomes(@sessions[ 0 .. 4 ]), 'ok 5', 'they end');
b_is('calls_in_flight', '0', 'and are counted back although the mode has changed');
$mon->ok(q{SELECT resilience.alter_breaker('a', mode => 'enforce', max_concurrent_calls => -1)});
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0 .. 4 ]);
wait_at_gate(5);
new_breaker("$never");
b_is('state calls_in_flight success_total', 'closed 0 0', 'dropped and made anew: they are not its calls');
is(call(), 'ok', 'a call of the new one');
let_pass();
is(outcomes(@sessions[ 0 .. 4 ]), 'ok 5', 'they end');
b_is('calls_in_flight success_total superseded_total', '0 1 0', 'and are none of its business');
shut();
ask('SELECT * FROM sa_gate', @sessions[ 0 .. 4 ]);
wait_at_gate(5);
$mon->ok(q{SELECT resilience.drop_breaker('a')});
is(call(), 'ok', 'dropped: nobody guards the server');
let_pass();
is(outcomes(@sessions[ 0 .. 4 ]), 'ok 5', 'they end');
is($mon->value('SELECT count(*) FROM resilience.breakers'), 0, 'there is no breaker');

#
# A storm of everything that may end a call
#
new_breaker(q{max_failures => 2, reset_timeout => '20 ms', max_reset_timeout => '60 ms', half_open_calls => 2, success_threshold => 2,
	max_concurrent_calls => 12, call_timeout => '150 ms', slow_call_duration => '100 ms', slow_call_rate => 0.9, minimum_calls => 20, window_duration => '1 s'});
$mon->ok(q{CREATE FUNCTION caught(sql text) RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE sql; RETURN 'no error';
	EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$});
$control->ok('UPDATE seconds SET value = 0.1');
$_->close for splice(@sessions, 16);
my $seed = $ENV{RSL_SEED} || time();
note("RSL_SEED=$seed");
srand($seed);
my @statements = (
	('SELECT count(*) FROM sa_t') x 6,
	'SELECT * FROM sa_die',
	'SELECT * FROM sa_div',
	'SELECT * FROM sa_slow',
	'SELECT * FROM sa_nap5',
	q{SET statement_timeout = 30; SELECT * FROM sa_nap5},
	'INSERT INTO sa_log SELECT id, v FROM sa_t LIMIT 5',
	'UPDATE sa_t SET v = v WHERE id = 7',
	q{SELECT caught('SELECT * FROM sa_die')},
	q{SELECT caught('SELECT * FROM sa_div') || caught('SELECT * FROM sa_t')},
	'BEGIN; SELECT count(*) FROM sa_t; SAVEPOINT x; SELECT * FROM sa_div',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM sa_t; FETCH 3 FROM c',
	'BEGIN; INSERT INTO sa_log VALUES (1, 1)',
	'SELECT * FROM sa_t a, sa_u b LIMIT 2000',
	'EXPLAIN ANALYZE SELECT * FROM sa_t');
my %seen;
my $end = time() + 8;
my $calls = 0;
$_->{state} = 'idle' for @sessions;
while (time() < $end)
{
	for my $session (@sessions)
	{
		if (!$session->{asked})
		{
			my $sql = $session->{state} eq 'idle' ? $statements[ rand @statements ] :
			  (('COMMIT', 'ROLLBACK', 'ROLLBACK', 'SELECT count(*) FROM sa_t')[ rand 4 ]);

			$session->send($sql);
			$session->{asked} = 1;
			$calls++;
		}
		elsif ($session->done)
		{
			my $result = $session->result;

			$seen{ sqlstate($result) }++;
			$session->{state} = ($result->{status} // 'I') eq 'I' ? 'idle' : 'transaction';
			$session->{asked} = 0;
			$session->ok('RESET statement_timeout') if $session->{state} eq 'idle' && !$result->{closed};
		}
		elsif (rand() < 0.002)
		{
			$session->cancel;
		}
		elsif (rand() < 0.0005)
		{
			$mon->ok("SELECT pg_terminate_backend($session->{pid})");
			$session->result;
			$session->vanish;
			$session = connect_to($node);
			$session->{state} = 'idle';
		}
		elsif (rand() < 0.0005)
		{
			$session->vanish;
			$session = connect_to($node);
			$session->{state} = 'idle';
		}
	}
	$control->ok(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' ORDER BY random() LIMIT 1}) if rand() < 0.02;
	sleep 0.002;
}
for (@sessions)
{
	$_->cancel if $_->{asked} && !$_->done(3);
	$_->result if $_->{asked};
	$_->ok('ROLLBACK');
}
note("$calls statements: " . join(', ', map { "$_ $seen{$_}" } sort keys %seen));
cmp_ok($calls, '>', 300, 'many statements');
cmp_ok($seen{$_} // 0, '>', 0, "some ended with $_") for qw(ok 08006 08R01 08R02 22012);
cmp_ok(b('open_count'), '>', 3, 'the breaker opened often');
is(join(' ', grep { !/^(ok|08...|22012|57014|57P01|53R01|25P02|40001|42P03)$/ } sort keys %seen), '', 'nothing else');
wait_breaker($mon, 'a', 'calls_in_flight', 0, 20);
is(b('calls_in_flight'), 0, 'after the storm no call is under way');

# and no permit is lost: exactly two trials, exactly twelve calls
$control->ok('UPDATE seconds SET value = 0');
$mon->ok(q{SELECT resilience.alter_breaker('a', call_timeout => '1 min', slow_call_duration => '1 h', max_failures => 1, reset_timeout => '10 ms', max_reset_timeout => '10 ms', success_threshold => 2)});
$mon->ok(q{SELECT resilience.reset_breaker('a')});
$s->query('SELECT * FROM sa_die');
wait_retry();
shut();
ask('SELECT * FROM sa_gate', @sessions);
wait_at_gate(2);
wait_until('14 are rejected', sub { 14 == grep { $_->done } @sessions });
b_is('state calls_in_flight', 'half_open 2', 'two trials');
let_pass();
is(outcomes(@sessions), '08R01 14 ok 2', 'of 16 sessions');
b_is('state calls_in_flight', 'closed 0', 'close it');
shut();
ask('SELECT * FROM sa_gate', @sessions);
wait_at_gate(12);
wait_until('4 are rejected', sub { 4 == grep { $_->done } @sessions });
let_pass();
is(outcomes(@sessions), '53R01 4 ok 12', 'as many at once as before');
b_is('state calls_in_flight', 'closed 0', 'at the end');

# A crash forgets what was under way, and nothing else
$mon->ok(q{SELECT resilience.alter_breaker('a', max_concurrent_calls => 5)});
$_->close for splice(@sessions, 5);
shut();
ask('SELECT * FROM sa_gate', @sessions);
wait_at_gate(5);
is(call(), '53R01', 'no room');
kill 'KILL', $sessions[0]{pid};
$_->result for @sessions;
wait_until('the server is back', sub {
	my $session = ResilienceTest::Client->new($node);
	return 0 if $session->{error};
	$session->close;
	return 1;
});
let_pass();
$mon = monitor($node);
$s = connect_to($node);
b_is('state calls_in_flight max_concurrent_calls', 'closed 0 5', 'after a crash');
is(call(), 'ok', 'there is room');

# A forced state holds from the first statement after a restart
$mon->ok(q{SELECT resilience.force_breaker('a', 'open')});
$node->restart;
$s = connect_to($node);
is(call(), '08R01', 'forced open, after a restart');
$mon = monitor($node);
$mon->ok(q{SELECT resilience.force_breaker('a', 'auto')});
is(call(), 'ok', 'and left to itself');
$s->close;
all_zero($mon, 'at the end');
done_testing();
