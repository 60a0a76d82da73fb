# Features follow their health check, their breaker and the load: they leave
# after some bad looks, come back after good ones and a time, say why, and leave
# events; commands hold at once, in every session.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('features', conf => "resilience.max_wait = '10min'\n");
my $mon = monitor($node);
my $app = connect_to($node, user => 'app');

limit_seconds(400);

sub feature
{
	my ($name, @columns) = @_;

	return $mon->value(
		"SELECT concat_ws(' ', " . join(', ', @columns) . ") FROM resilience.features WHERE name = '$name'");
}

sub enabled { return ($_[1] // $app)->value("SELECT resilience.feature_enabled('$_[0]')") }

# The changes of a feature's state since the last call: from>to and the pairs
# named.
my $last_id = 0;

sub events
{
	my ($name, @pairs) = @_;
	my $rows = $mon->ok(
		"SELECT id, from_state || '>' || to_state"
		  . join('', map { " || ' $_=' || coalesce(detail->>'$_', '?')" } @pairs)
		  . " FROM resilience.events WHERE kind = 'feature' AND object = '$name' AND from_state IS NOT NULL AND id > $last_id ORDER BY id")->{rows};

	$last_id = $rows->[-1][0] if @$rows;
	return join(', ', map { $_->[1] } @$rows);
}

sub wait_for_state
{
	my ($name, $state) = @_;

	wait_for_value($mon, "SELECT state FROM resilience.features WHERE name = '$name'", $state);
	return;
}

#
# A health check
#
$mon->ok($_) for (
	'CREATE TABLE switch AS SELECT true AS ok',
	q{SELECT resilience.create_health_check('index', query => 'SELECT ok FROM public.switch',
		check_interval => '1 s', timeout => '500 ms')},
	q{SELECT resilience.create_feature('search', health_check => 'index', failure_threshold => 2,
		success_threshold => 2, min_degraded_duration => '0')},
	q{SELECT resilience.create_feature('slow', health_check => 'index', failure_threshold => 1,
		success_threshold => 1, min_degraded_duration => '6 s')},
	q{SELECT resilience.create_feature('stubborn', health_check => 'index', failure_threshold => 1000)});

sub runs
{
	return $mon->value(q{SELECT runs_total FROM resilience.health_checks WHERE name = 'index'});
}

my $runs = runs();
wait_until('the check has run three times', sub { runs() >= $runs + 3 });
is(feature('search', 'state', 'reason'), 'on', 'a feature is on while its check is healthy');
is(enabled('search'), 't', 'and enabled');

# one bad look of two is not enough: the table is good again in time
$mon->ok('UPDATE switch SET ok = false');
$runs = runs();
wait_until('one bad run', sub { runs() > $runs });
$mon->ok('UPDATE switch SET ok = true');
wait_for_state('slow', 'degraded');
my $slow_since = time();
is(feature('search', 'state'), 'on', 'one bad look of two does not switch it off');
is(enabled('slow'), 'f', 'but the one that asks for one');
like(feature('slow', 'reason'), qr/^health check "index" is unhealthy/, 'the reason names the check');
my $runs_then = runs();
wait_until('three good runs', sub { runs() >= $runs_then + 3 });
is(feature('slow', 'state'), 'degraded', 'enough good looks do not bring it back before its time')
  if time() - $slow_since < 5;
wait_for_state('slow', 'on');
cmp_ok(time() - $slow_since, '>', 5.5, 'its time was over');
is(enabled('slow'), 't', 'it is enabled again');
is(feature('slow', 'reason'), '', 'without a reason');
is( events('slow', qw(cause health_check status)),
	'on>degraded cause=health_check health_check=index status=unhealthy, degraded>on cause=health_check health_check=index status=healthy',
	'two events with cause and status');

# two bad looks are
$mon->ok('UPDATE switch SET ok = false');
wait_for_state('search', 'degraded');
is(enabled('search'), 'f', 'two bad looks in a row switch it off');
is(feature('stubborn', 'state'), 'on', 'a higher threshold keeps it on');
$mon->ok('UPDATE switch SET ok = true');
wait_for_state('search', 'on');
is( events('search', qw(cause bad_looks good_looks)),
	'on>degraded cause=health_check bad_looks=2 good_looks=?, degraded>on cause=health_check bad_looks=? good_looks=2',
	'events tell how many looks');

# an error of the check's query is its message, and part of the reason
$mon->ok('ALTER TABLE switch RENAME TO hidden');
wait_for_state('search', 'degraded');
like(feature('search', 'reason'), qr/relation "public.switch" does not exist/, 'the message of the check is in the reason');

# an unknown result is no look: the check stops, the feature stays as it is
$mon->ok(q{SELECT resilience.alter_health_check('index', check_interval => '10 min')});
$mon->ok('ALTER TABLE hidden RENAME TO switch');

# a check that is disabled decides nothing any more
$mon->ok(q{SELECT resilience.alter_health_check('index', enabled => false)});
wait_for_state('search', 'on');
is((events('search', qw(cause status)) =~ /degraded>on cause=health_check status=(\w+)/)[0],
	'disabled', 'a check that is disabled lets the feature go');
$mon->ok(q{UPDATE switch SET ok = false});
$mon->ok(q{SELECT resilience.alter_health_check('index', enabled => true, check_interval => '1 s')});
wait_for_state('search', 'degraded');

# uncoupled it is on at once
$mon->ok(q{SELECT resilience.alter_feature('search', health_check => '')});
is(enabled('search'), 't', 'a feature that is uncoupled is on at once');
is((events('search', 'cause') =~ /(\S+ \S+)$/)[0], 'degraded>on cause=command', 'by command');
$mon->ok(q{SELECT resilience.alter_feature('search', health_check => 'index')});
wait_for_state('search', 'degraded');

# commands: off and on again; it begins without bad looks
$mon->ok(q{SELECT resilience.set_feature('search', false, 'say "no"')});
is(feature('search', 'state', 'reason'), 'off say "no"', 'a command switches it off');
like(events('search', qw(cause role reason)), qr/degraded>off cause=command role=\w+ reason=say 'no'$/, 'its event says who and why');
$mon->ok(q{SELECT resilience.set_feature('search', true)});
is(enabled('search'), 't', 'switched on it is on');
wait_for_state('search', 'degraded');
pass('until its check says otherwise');

# While most checks are cut off they are suspected themselves: nothing follows
$mon->ok('UPDATE switch SET ok = true');
wait_for_state('search', 'on');
$mon->ok(q{SELECT resilience.create_health_check('hangs ' || i, query => 'SELECT pg_sleep(100) IS NOT NULL',
	check_interval => '1 s', timeout => '100 ms') FROM generate_series(1, 5) i});
wait_until('five checks were cut off',
	sub { $mon->value(q{SELECT count(*) FROM resilience.health_checks WHERE name LIKE 'hangs%' AND timeouts_total > 0}) == 5 });
sleep 0.3;
$mon->ok('UPDATE switch SET ok = false');
$runs = runs();
wait_until('four bad runs', sub { runs() >= $runs + 4 });
is(feature('search', 'state'), 'on', 'while the checks are suspected a feature stays as it is');
$mon->ok(q{SELECT resilience.drop_health_check('hangs ' || i) FROM generate_series(1, 5) i});
wait_for_state('search', 'degraded');
pass('and follows when they are not any more');

# the same for all features that follow one check
$mon->ok('UPDATE switch SET ok = true');
wait_for_state($_, 'on') for qw(search slow stubborn);
$mon->ok(q{SELECT resilience.drop_feature(name) FROM resilience.features});
$mon->ok(q{SELECT resilience.drop_health_check('index')});

#
# A breaker that its callers try
#
$mon->ok($_) for (
	q{SELECT resilience.create_breaker('shop', max_failures => 3, reset_timeout => '300 ms', max_reset_timeout => '300 ms',
		jitter => 0, half_open_calls => 2, success_threshold => 2)},
	q{SELECT resilience.create_feature('offers', breaker => 'shop', success_threshold => 1, min_degraded_duration => '0')},
	q{SELECT resilience.create_feature('patient', breaker => 'shop', success_threshold => 3, min_degraded_duration => '0')});
is(enabled('offers'), 't', 'enabled while the breaker is closed');

# the monitor's mode is off, and its calls do not count
my $caller = connect_to($node);
sub record { $caller->ok("SELECT resilience.breaker_record('shop', $_[0])"); return }

record('false') for 1 .. 2;
sleep 0.3;
is(feature('offers', 'state'), 'on', 'two failures do not open the breaker');
record('false');
my $opened = time();
wait_for_state('offers', 'degraded');
cmp_ok(time() - $opened, '<', 2, 'degraded at once when it is open');
like(feature('offers', 'reason'), qr/^circuit breaker "shop" is (open|half_open)$/, 'the reason names the breaker');

# It closes although everybody asks first: some calls are let through to try
my ($asked, $passed) = (0, 0);
wait_until(
	'the breaker is closed by the calls that were let through',
	sub {
		$asked++;
		if (enabled('offers') eq 't')
		{
			$passed++;
			record('true') if $caller->value(q{SELECT resilience.breaker_acquire('shop')}) eq 't';
		}
		return $mon->value(q{SELECT state FROM resilience.breakers WHERE name = 'shop'}) eq 'closed';
	});
cmp_ok($passed, '>=', 2, "calls were let through to try ($passed of $asked)");
my $closed = time();
wait_for_state('offers', 'on');
wait_for_state('patient', 'on');
cmp_ok(time() - $closed, '>', 1.5, 'a closed breaker gives a good look for each second');
is( (events('offers', qw(cause breaker state)) =~ s/state=half_open/state=open/r),
	'on>degraded cause=breaker breaker=shop state=open, degraded>on cause=breaker breaker=shop state=closed',
	'events of the breaker');

# nothing is let through as long as the breaker is forced
$mon->ok(q{SELECT resilience.force_breaker('shop', 'open')});
wait_for_state('offers', 'degraded');
is(feature('offers', 'reason'), 'circuit breaker "shop" is forced open', 'forced open');
sleep 1.5;
is(enabled('offers'), 'f', 'nobody tries a breaker that is forced open') for 1 .. 3;
$mon->ok(q{SELECT resilience.force_breaker('shop', 'closed')});
wait_for_state('offers', 'on');
pass('forced closed is closed');
$mon->ok(q{SELECT resilience.force_breaker('shop', 'auto')});

# one that only observes lets all calls through
$mon->ok(q{SELECT resilience.alter_breaker('shop', mode => 'observe')});
record('false') for 1 .. 4;
wait_for_value($mon, q{SELECT state FROM resilience.breakers WHERE name = 'shop'}, 'open');
sleep 0.5;
is(feature('offers', 'state'), 'on', 'a breaker that observes degrades nothing');
$mon->ok(q{SELECT resilience.alter_breaker('shop', mode => 'enforce')});
wait_for_state('offers', 'degraded');

# a definition that is gone without a function
$mon->ok(q{DELETE FROM resilience.breaker_definitions});
wait_for_state('offers', 'on');
like(events('offers', qw(cause state)), qr/degraded>on cause=breaker state=dropped$/, 'a breaker that is gone degrades nothing');
$mon->ok(q{SELECT resilience.drop_feature(name) FROM resilience.features});

#
# Expiry
#
$mon->ok(q{SELECT resilience.create_feature('sale', expires_at => clock_timestamp() + interval '1 s')});
is(enabled('sale'), 't', 'enabled until it expires');
wait_for_state('sale', 'off');
is(feature('sale', 'reason'), 'expired', 'then off');
is(enabled('sale'), 'f', 'and not enabled');
is(events('sale', 'cause'), 'on>off cause=expired', 'with an event');
$mon->ok(q{SELECT resilience.alter_feature('sale', expires_at => 'infinity')});
is(enabled('sale'), 't', 'until somebody prolongs it');

#
# Load and priority
#
$mon->ok($_) for (
	'CREATE ROLE low LOGIN', q{ALTER ROLE low SET resilience.priority = 'low'},
	'CREATE ROLE high LOGIN', q{ALTER ROLE high SET resilience.priority = 'high'},
	q{SELECT resilience.create_feature('similar', minimum_priority => 'high', min_degraded_duration => '0')});
set_conf($mon, 'resilience.max_running' => 4, 'resilience.low_priority_cap' => 4, 'resilience.normal_priority_cap' => 4);
my ($low, $high) = (connect_to($node, user => 'low'), connect_to($node, user => 'high'));
is(enabled('similar', $_), 't', 'no load, for everybody') for ($low, $app, $high);

# In transactions that have been admitted before the queue is there
$_->ok('BEGIN; SELECT 1') for ($low, $app, $high);
my @sleepers = map { connect_to($node, user => 'app') } 1 .. 5;
$_->send('SELECT pg_sleep(1000)') for @sleepers;
wait_for_value($mon, 'SELECT loaded FROM resilience.load_shedder', 't');
is(enabled('similar', $low), 'f', 'under load not for low priority');
is(enabled('similar', $app), 'f', 'nor for normal');
is(enabled('similar', $high), 't', 'but for high');
is(enabled('sale', $low), 't', 'a feature without a priority is for all');
is(feature('similar', 'state', 'reason'), 'degraded server is loaded: below priority high', 'the view says so');
my $result = $app->query(q{SELECT * FROM resilience.run_feature('similar', 'SELECT 1') AS (a int)});
error_is($result, '42501', 'run_feature() is not for everybody');
$app->ok('ROLLBACK');
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.run_feature TO high');
is($high->value(q{SELECT * FROM resilience.run_feature('similar', 'SELECT 1', 'SELECT 2') AS (a int)}), 1, 'high priority runs the primary');
$mon->ok('SET resilience.mode = enforce; SET resilience.priority = low');
$result = $mon->query(q{SELECT * FROM resilience.run_feature('similar', 'SELECT 1') AS (a int)});
error_is($result, '55R01', 'low priority is told');
like($result->{error}{D}, qr/reason="server is loaded: below priority high"/, 'and why');
$mon->ok('RESET resilience.priority; SET resilience.mode = off');
$_->cancel for @sleepers;
$_->result for @sleepers;
$_->ok('COMMIT') for ($low, $high);
wait_for_value($mon, 'SELECT loaded FROM resilience.load_shedder', 'f');
is(enabled('similar', $_), 't', 'without load for everybody') for ($low, $app, $high);
wait_until('the end of the load is noted', sub { (events('similar', 'cause') =~ /degraded>on cause=load$/) });
pass('events tell when the load began to limit it, and when it ended');

done_testing();
