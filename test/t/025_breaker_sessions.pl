# The state machine with real calls: many sessions and one trip, exactly so
# many trials, permits that come back, results that come too late.

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

my $far = remote_node('far', conf => "max_connections = 120\n");
my $node = local_node('near', conf => "max_connections = 120\n");
my $s = connect_to($node);
my $mon = monitor($node);

# A call that lasts until somebody commits there
$far->safe_psql('postgres', q{CREATE TABLE gate AS SELECT 1 AS open;
	CREATE FUNCTION pass() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1); RETURN 1; END';
	CREATE VIEW held AS SELECT pass() AS id;
	CREATE FUNCTION broken() RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'on purpose' USING ERRCODE = '58030'; END$$;
	CREATE VIEW bad AS SELECT broken() AS id;
	CREATE VIEW late AS SELECT 1 AS id, pg_sleep(0.15)::text AS v});
my $keeper = connect_to($far);
add_server($mon, 'far', $far, tables => ['t']);
$s->ok($_) for (
	'CREATE FOREIGN TABLE held (id int) SERVER far',
	'CREATE FOREIGN TABLE bad (id int) SERVER far',
	'CREATE FOREIGN TABLE late (id int, v text) SERVER far',
	q{SELECT resilience.create_breaker('b', 'far', probe => false, max_failures => 5, reset_timeout => '300 ms', jitter => 0,
		backoff_factor => 2, half_open_calls => 3, success_threshold => 3, slow_call_duration => '1 min')});

sub state { return breaker($mon, 'b', qw(state)) }

# Rejected until the open time is over
sub wait_trial_time
{
	wait_until('the open time is over', sub { $mon->value(q{SELECT coalesce(retry_at <= clock_timestamp(), true) FROM resilience.breakers}) eq 't' }, 10);
	return;
}

# 64 sessions at once meet a server that is dead: one trip
my @sessions = map { connect_to($node) } 1 .. 64;
$_->ok('SELECT 1') for @sessions;
$far->stop('immediate');
$_->send('SELECT count(*) FROM far_t') for @sessions;
my %codes;
$codes{ $_->result->{error}{C} }++ for @sessions;
is(join(' ', sort keys %codes), '08001 08R01', 'some fail, the others are rejected');
cmp_ok($codes{'08R01'}, '>=', 40, 'most of them') or diag explain \%codes;
is(breaker($mon, 'b', qw(state open_count calls_in_flight trip_reason)), 'open 1 0 consecutive failures', 'one trip');
my $rejected = $s->query('SELECT count(*) FROM far_t');
error_is($rejected, '08R01', 'and nobody else gets through') if state() eq 'open';
$far->start;
$keeper = connect_to($far);

# Half-open: exactly so many at a time
$keeper->ok('SELECT pg_advisory_lock(1)');
wait_trial_time();
$_->send('SELECT * FROM held') for @sessions;
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers}, 3);
wait_for_value($mon, q{SELECT rejected_total >= 61 FROM resilience.breakers}, 't');
is(breaker($mon, 'b', qw(state calls_in_flight)), 'half_open 3', 'half-open: three trials, 61 rejections');
wait_for_value($keeper, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 3);

# A trial whose backend is ended gives its permit back
my $busy = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT * FROM held' LIMIT 1});
$mon->ok("SELECT pg_terminate_backend($busy, 10000)");
is(breaker($mon, 'b', qw(state calls_in_flight)), 'half_open 2', 'a trial whose backend is ended gives its permit back');
my $next = connect_to($node);
$next->send('SELECT * FROM held');
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers}, 3);
# so does one that is cancelled
$next->cancel;
error_is($next->result, '57014', 'a trial is cancelled');
is(breaker($mon, 'b', qw(state calls_in_flight)), 'half_open 2', 'and gives its permit back');
$next->send('SELECT * FROM held');
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers}, 3);
$keeper->ok('SELECT pg_advisory_unlock(1)');
wait_for_value($mon, q{SELECT state FROM resilience.breakers}, 'closed');
is(breaker($mon, 'b', qw(open_count calls_in_flight)), '1 0', 'three successes close it');
for my $session (@sessions, $next)
{
	$session->result unless $session->{pid} == $busy;
}
@sessions = grep { $_->{pid} != $busy } @sessions;

# One failure opens it again, for longer; what was admitted before is late
my $length = sub { $mon->value(q{SELECT round(extract(epoch FROM retry_at - opened_at) * 1000) FROM resilience.breakers}) };
$keeper->ok('SELECT pg_advisory_lock(1)');
$sessions[0]->send('SELECT * FROM held');
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers}, 1);
error_is($s->query('SELECT * FROM bad'), '58030', 'the server fails') for 1 .. 5;
is(state(), 'open', 'open again');
cmp_ok($length->(), '>=', 590, 'for twice as long');
wait_trial_time();
error_is($s->query('SELECT * FROM bad'), '58030', 'the trial fails');
is(breaker($mon, 'b', qw(state open_count)), 'open 3', 'open once more');
my $late = breaker($mon, 'b', qw(superseded_total));
$keeper->ok('SELECT pg_advisory_unlock(1)');
error_is($sessions[0]->result, 'no error', 'a call of an older state ends');
is(breaker($mon, 'b', qw(state superseded_total calls_in_flight)), 'open ' . ($late + 1) . ' 0', 'and does not count');

# By command
$mon->ok(q{SELECT resilience.force_breaker('b', 'closed')});
error_is($s->query('SELECT count(*) FROM far_t'), 'no error', 'forced closed: all get through');
error_is($s->query('SELECT * FROM bad'), '58030', 'forced closed: also what fails') for 1 .. 6;
is(breaker($mon, 'b', qw(state forced)), 'closed closed', 'forced closed: nothing trips');
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto'); SELECT resilience.reset_breaker('b')});
is(breaker($mon, 'b', qw(state forced consecutive_failures window_calls)), 'closed auto 0 0', 'reset');

# By rate: as many successes as failures, never five in a row
$mon->ok(q{SELECT resilience.alter_breaker('b', minimum_calls => 10, failure_rate => 0.5)});
for (1 .. 4)
{
	$s->ok('SELECT count(*) FROM far_t');
	$s->query('SELECT * FROM bad');
}
is(state(), 'closed', 'under minimum_calls a rate means nothing');
$s->ok('SELECT count(*) FROM far_t');
$s->query('SELECT * FROM bad');
is(breaker($mon, 'b', qw(state trip_reason failure_rate)), 'open failure rate 0.5', 'half of ten calls failed');

# By slowness
$mon->ok(q{SELECT resilience.reset_breaker('b'); SELECT resilience.alter_breaker('b', minimum_calls => 4, slow_call_duration => '100 ms')});
$s->ok('SELECT * FROM late') for 1 .. 4;
is(breaker($mon, 'b', qw(state trip_reason slow_total)), 'open slow call rate 4', 'slow calls');

# Calls that hang are slow before they end
$mon->ok(q{SELECT resilience.reset_breaker('b'); SELECT resilience.reset_statistics()});
$keeper->ok('SELECT pg_advisory_lock(1)');
$_->send('SELECT * FROM held') for @sessions[0 .. 3];
wait_for_value($mon, q{SELECT state FROM resilience.breakers}, 'open', 10);
is(breaker($mon, 'b', qw(trip_reason calls_in_flight success_total)), 'slow call rate 4 0', 'calls that hang open it while they hang');
$keeper->ok('SELECT pg_advisory_unlock(1)');
$_->result for @sessions[0 .. 3];

# So is a trial: it has failed then, and what it brings later is late
$mon->ok(q{SELECT resilience.alter_breaker('b', slow_call_duration => '200 ms')});
wait_trial_time();
$keeper->ok('SELECT pg_advisory_lock(1)');
my $openings = breaker($mon, 'b', 'open_count');
$sessions[0]->send('SELECT * FROM held');
wait_for_value($mon, q{SELECT open_count FROM resilience.breakers}, $openings + 1, 20);
is(breaker($mon, 'b', qw(state trip_reason)), 'open failed trial', 'a trial that hangs opens it again');
$keeper->ok('SELECT pg_advisory_unlock(1)');
error_is($sessions[0]->result, 'no error', 'it ends all the same');

# Watching only
$mon->ok(q{SELECT resilience.reset_breaker('b');
	SELECT resilience.alter_breaker('b', mode => 'observe', slow_call_duration => '5 s', reset_timeout => '1 min', max_failures => 2)});
$s->query('SELECT * FROM bad') for 1 .. 2;
is(state(), 'open', 'observe: it opens');
error_is($s->query('SELECT count(*) FROM far_t'), 'no error', 'observe: and rejects nobody');
is(breaker($mon, 'b', qw(rejected_total)), 1, 'observe: but counts');
$mon->ok(q{SELECT resilience.alter_breaker('b', mode => 'enforce')});
error_is($s->query('SELECT count(*) FROM far_t'), '08R01', 'enforced: it does');
my $off = connect_to($node, options => '-c resilience.mode=off');
error_is($off->query('SELECT count(*) FROM far_t'), 'no error', 'not with resilience.mode = off');
$mon->ok(q{SELECT resilience.alter_breaker('b', mode => 'off')});
error_is($s->query('SELECT count(*) FROM far_t'), 'no error', 'mode off');

# Changes while calls are under way
$mon->ok(q{SELECT resilience.alter_breaker('b', mode => 'enforce', max_failures => 1000, minimum_calls => 1000); SELECT resilience.reset_breaker('b')});
$keeper->ok('SELECT pg_advisory_lock(1)');
$_->send('SELECT * FROM held') for @sessions[0 .. 4];
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers}, 5);
$mon->ok(q{SELECT resilience.alter_breaker('b', half_open_calls => 7)});
is(breaker($mon, 'b', qw(calls_in_flight)), 5, 'altered: calls go on');
$mon->ok(q{SELECT resilience.drop_breaker('b'); SELECT resilience.create_breaker('b', 'far', probe => false, max_failures => 1000)});
is(breaker($mon, 'b', qw(calls_in_flight)), 5, 'dropped and made again in one transaction is altered');
$mon->ok(q{SELECT resilience.drop_breaker('b')});
# the rate is out of play, too: three failures to at most five successes are
# half of them for a moment
$mon->ok(q{SELECT resilience.create_breaker('b', 'far', probe => false, max_failures => 1000, minimum_calls => 1000)});
is(breaker($mon, 'b', qw(calls_in_flight)), 0, 'a new one knows nothing of them');
$keeper->ok('SELECT pg_advisory_unlock(1)');
$_->result for @sessions[0 .. 4];
is(breaker($mon, 'b', qw(calls_in_flight success_total)), '0 0', 'and does not count them');

# A storm of all kinds of ends leaves nothing behind
for my $round (1 .. 4)
{
	for my $i (0 .. $#sessions)
	{
		my $kind = $i % 6;

		$sessions[$i]->send(
			$kind == 0 ? 'SELECT count(*) FROM far_t'
			: $kind == 1 ? 'SELECT * FROM bad'
			: $kind == 2 ? 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM far_t; FETCH 1 FROM c; COMMIT'
			: $kind == 3 ? q{DO $$ BEGIN PERFORM * FROM bad; EXCEPTION WHEN OTHERS THEN PERFORM count(*) FROM far_t; END $$}
			: $kind == 4 ? 'SELECT * FROM late'
			: 'BEGIN; SELECT count(*) FROM far_t; SAVEPOINT x; SELECT * FROM bad');
	}
	$sessions[ 4 + 6 * $_ ]->cancel for 0 .. 9;
	$_->result for @sessions;
	$_->query('ROLLBACK') for @sessions;
}
$mon->ok(qq{SELECT pg_terminate_backend($sessions[-1]{pid}, 10000)});
is(breaker($mon, 'b', qw(calls_in_flight)), 0, 'after a storm no call is under way');
is(breaker($mon, 'b', qw(state)), 'closed', 'and the breaker is closed');

done_testing();
