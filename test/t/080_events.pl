# Events of bulkheads, the load shedder, breakers, runaway rules, settings and
# the extension's own processes: with their causes and numbers, and once each
# in the server's log.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('events', roles => [qw(app other)], conf => "compute_query_id = on\n");
my $mon = monitor($node);
my ($app, $app2, $app3) = map { connect_to($node, user => 'app') } 1 .. 3;

sub last_event { return $mon->value('SELECT coalesce(max(id), 0) FROM resilience.events') }

# Wait for an event "kind object from>to" after another one; its detail as
# "key=value" words, those that are asked for.
sub event
{
	my ($after, $kind, $object, $states, @keys) = @_;
	my ($from, $to) = split('>', $states);
	my $where = "kind = '$kind' AND object = '$object' AND coalesce(from_state, '') = '$from' AND to_state = '$to' AND id > $after";

	eval { wait_for_value($mon, "SELECT count(*) >= 1 FROM resilience.events WHERE $where", 't', 20); 1 }
	  or return "no event, but " . ($mon->value("SELECT string_agg(concat_ws(' ', kind, object, from_state, to_state), ', ') FROM resilience.events WHERE id > $after") // 'none');
	my $list = join(', ', "NULL", map { "'$_=' || (detail ->> '$_')" } @keys);
	return $mon->value("SELECT concat_ws(' ', $list) FROM resilience.events WHERE $where ORDER BY id LIMIT 1");
}

sub count_events
{
	my ($after, $kind, $object) = @_;
	return $mon->value("SELECT count(*) FROM resilience.events WHERE kind = '$kind' AND object = '$object' AND id > $after");
}

# How many lines of the log, from a place on
sub logged
{
	my ($from, $pattern) = @_;
	my $n = () = slurp_file($node->logfile, $from) =~ /$pattern/g;
	return $n;
}

sub log_has
{
	my ($from, $pattern, $label) = @_;
	my $found = eval { wait_until($label, sub { logged($from, $pattern) }, 20) };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($found, $label);
}

#
# A bulkhead: full and somebody waits, or is refused
#
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 1, max_wait => '1 min')});
sleep 1.1;
my $after = last_event();
my $log = -s $node->logfile;
$app->hold;
wait_running($mon, 'b', 1);
sleep 0.5;
is(count_events($after, 'bulkhead', 'b'), 0, 'a bulkhead that is full is not saturated');
$app2->send('SELECT 1');
wait_waiting($mon, 'b', 1);
is(event($after, 'bulkhead', 'b', 'available>saturated', qw(reason limit running waiting refused)),
	'reason=running limit=1 running=1 waiting=1 refused=0', 'it is when somebody waits');
is($mon->value("SELECT pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher') FROM resilience.events WHERE id > $after AND object = 'b'"),
	't', 'the launcher has seen it');
error_is($app3->query('SELECT 1'), '53R01', 'a third one is refused');
# free for a moment, which is no end
$app->let_go;
$app->result;
$app2->result;
$app->hold;
$app2->send('SELECT 1');
wait_waiting($mon, 'b', 1);
sleep 1.2;
is(count_events($after, 'bulkhead', 'b'), 1, 'nothing flaps');
$app->let_go;
$app->result;
$app2->result;
is(event($after, 'bulkhead', 'b', 'saturated>available', qw(refused timed_out refused_connections)),
	'refused=1 timed_out=0 refused_connections=0', 'a second later it is over, with what it has refused');
cmp_ok($mon->value("SELECT detail ->> 'lasted_ms' FROM resilience.events WHERE id > $after AND to_state = 'available'"), '>=', 1200, 'and how long it was');
log_has($log, qr/LOG:  bulkhead "b" changed from saturated to available\n.*DETAIL:  lasted_ms=\d+ refused=1 timed_out=0 refused_connections=0 database="postgres"\n/, 'the log has it with the same numbers');
is(logged($log, qr/LOG:  bulkhead "b" changed from available to saturated\n/), 1, 'and when it began, once');

# connections, and a mode that only observes
$mon->ok(q{SELECT resilience.create_bulkhead('c', role_name => 'other', max_connections => 0)});
$after = last_event();
is(connect_refused($node, user => 'other')->{C}, '53300', 'a connection is refused');
is(event($after, 'bulkhead', 'c', 'available>saturated', qw(reason limit connections refused mode)),
	'reason=connections limit=0 connections=0 refused=1', 'which is another reason');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'observe', max_waiting => 0)});
wait_for_value($mon, "SELECT count(*) FROM resilience.events WHERE id > $after AND object = 'c' AND to_state = 'available'", 1);
$after = last_event();
$app->hold;
wait_running($mon, 'b', 1);
$app2->ok('SELECT 1');
is(event($after, 'bulkhead', 'b', 'available>saturated', qw(reason refused mode)),
	'reason=running refused=1 mode=observe', 'of an observed one the event says so');
$app->let_go;
$app->result;

# dropped while it is so: what is created in its place begins anew
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
$mon->ok(q{SELECT resilience.create_bulkhead('b2', role_name => 'app', max_running => 1)});
sleep 1.5;
is(count_events($after, 'bulkhead', 'b2'), 1, 'a new bulkhead is available');

# expired
$after = last_event();
$log = -s $node->logfile;
$mon->ok(q{SELECT resilience.alter_bulkhead('b2', expires_at => now() + interval '1.2 s')});
like(event($after, 'bulkhead', 'b2', 'enforce>expired', qw(expires_at)), qr/^expires_at=20/, 'expiry');
log_has($log, qr/LOG:  bulkhead "b2" has expired\n/, 'in words of its own');

# given up
$after = last_event();
$log = -s $node->logfile;
$mon->ok(q{SELECT resilience.create_bulkhead('r', role_name => 'app', max_running => 0, auto_revert_refusal_rate => 0.5)});
sleep 0.3;    # the launcher has seen it
for (1 .. 60)
{
	$app->query('SELECT 1');
	last if $mon->value(q{SELECT reverted_at IS NOT NULL FROM resilience.bulkheads WHERE name = 'r'}) eq 't';
}
like(event($after, 'bulkhead', 'r', 'enforce>reverted', qw(statements_refused decisions window_ms refusal_rate auto_revert_refusal_rate)),
	qr/^statements_refused=(\d+) decisions=\1 window_ms=10000 refusal_rate=1.000 auto_revert_refusal_rate=0.5$/, 'reverted, with its numbers');
sleep 1.5;
is(logged($log, qr/LOG:  bulkhead "r" changed from enforce to reverted/), 0, 'that is in the log already');
is(logged($log, qr/WARNING:  bulkhead "r" refuses too much/), 1, 'as a warning');
$mon->ok(q{SELECT resilience.alter_bulkhead('r', max_running => 10)});
is(event($after, 'bulkhead', 'r', 'reverted>enforce'), '', 'enforced again');
$mon->ok(q{SELECT resilience.drop_bulkhead(name) FROM resilience.bulkheads});

#
# The load shedder, and levers
#
$after = last_event();
$log = -s $node->logfile;
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 0);
is(event($after, 'server', 'resilience.max_running', '-1>1'), '', 'a limit');
$app->hold;
wait_running($mon, undef, 1);
error_is($app2->query('SELECT 1'), '53R02', 'shed') for 1 .. 3;
like(event($after, 'load_shedder', 'load_shedder', 'admitting>shedding', qw(shed timed_out preempted limit running waiting minimum_priority)),
	qr/^shed=[123] timed_out=0 preempted=0 limit=1 running=1 waiting=0 minimum_priority=low$/, 'it sheds, with its numbers');
is(event($after, 'load_shedder', 'load_shedder', 'shedding>admitting', qw(shed timed_out)), 'shed=3 timed_out=0', 'a second later it does not');
$app->let_go;
$app->result;
log_has($log, qr/LOG:  load shedder changed from admitting to shedding\n.*DETAIL:  shed=/, 'the log has both');
log_has($log, qr/LOG:  load shedder changed from shedding to admitting\n.*DETAIL:  lasted_ms=/, '... of them');
set_conf($mon, 'resilience.max_running' => undef, 'resilience.max_waiting' => undef);
set_conf($mon, 'resilience.adaptive_limit' => 'on');
is(event($after, 'server', 'resilience.max_running', '1>-1'), '', 'the limit is gone');
like(event($after, 'server', 'resilience.adaptive_limit', 'off>on', 'limit'), qr/^limit=/, 'it finds itself');
sleep 1;
is($mon->value("SELECT count(*) FROM resilience.events WHERE id > $after AND kind IN ('server', 'load_shedder') AND object NOT IN ('health')"), 5,
	'its steps are no events');

$after = last_event();
set_conf($mon, 'resilience.adaptive_limit' => undef, 'resilience.minimum_priority' => 'high', 'resilience.mode' => 'observe');
is(event($after, 'server', 'resilience.minimum_priority', 'low>high'), '', 'minimum_priority');
is(event($after, 'server', 'resilience.mode', 'enforce>observe'), '', 'mode');
log_has($log, qr/LOG:  setting "resilience.minimum_priority" changed from low to high\n/, 'in the log');
$app->ok('SELECT 1');
is(event($after, 'load_shedder', 'load_shedder', 'admitting>shedding', qw(shed minimum_priority mode)),
	'shed=1 minimum_priority=high mode=observe', 'what would have been shed');
set_conf($mon, 'resilience.minimum_priority' => undef, 'resilience.mode' => undef);

#
# A breaker, half-open by its own calls
#
$mon->ok(q{SELECT resilience.create_breaker('x', minimum_calls => 4, max_failures => 1000, failure_rate => 0.5,
	reset_timeout => '1500 ms', jitter => 0, half_open_calls => 1, success_threshold => 1)});
sleep 1.1;
$after = last_event();
$log = -s $node->logfile;
my $caller = connect_to($node);
$caller->ok("SELECT resilience.breaker_record('x', $_)") for qw(true true false false);
is(event($after, 'breaker', 'x', 'closed>open', qw(reason consecutive_failures failure_rate)),
	'reason=failure rate consecutive_failures=2 failure_rate=0.50', 'the rule that was met');
is($mon->value("SELECT pid FROM resilience.events WHERE id > $after AND kind = 'breaker'"), $caller->{pid}, 'by whose call');
wait_until('it may be tried again', sub { !$caller->query(q{SELECT resilience.call_with_breaker('x', 'SELECT 1')})->{error} });
is(event($after, 'breaker', 'x', 'open>half_open', qw(reason)), 'reason=time is up', 'half open');
like(event($after, 'breaker', 'x', 'half_open>closed', qw(reason open_ms)), qr/^reason=trials succeeded open_ms=1[5-9]\d\d$/, 'closed, and how long it was open');
log_has($log, qr/LOG:  circuit breaker "x" is open\n.*DETAIL:  reason="failure rate" consecutive_failures=2 failure_rate=0.50 last_sqlstate=none retry_after_ms=\d+ database="postgres"\n/, 'the log has the opening');
log_has($log, qr/LOG:  circuit breaker "x" is half-open\n/, '... the trial');
log_has($log, qr/LOG:  circuit breaker "x" is closed\n.*DETAIL:  reason="trials succeeded" open_ms=\d+/, '... and the end, a second after that');
is(logged($log, qr/LOG:  circuit breaker "x"/), 3, 'each once');

#
# Runaway rules and quarantine
#
$mon->ok(q{SELECT resilience.create_runaway_rule('q', role_name => 'app', max_duration => '100 ms', action => 'quarantine', quarantine_duration => '2 s')});
$after = last_event();
$log = -s $node->logfile;
error_is($app->query('SELECT pg_sleep(5)'), '57014', 'a statement is cancelled');
like(event($after, 'runaway_rule', 'q', '>hit', qw(pid hits_total max_duration_ms action)), qr/^pid=$app->{pid} hits_total=1 max_duration_ms=100 action=quarantine$/, 'a hit');
like(event($after, 'runaway_rule', 'q', '>quarantined', qw(query_id quarantine_ms max_running)), qr/^query_id=-?\d+ quarantine_ms=2000 max_running=0$/, 'the query is in quarantine');
error_is($app->query('SELECT pg_sleep(5)'), '53R02', 'and refused');
like(event($after, 'runaway_rule', 'q', 'quarantined>released', qw(query_id reason refused)), qr/^query_id=-?\d+ reason=time is up refused=1$/, 'until its time is up');
is(logged($log, qr/LOG:  process $app->{pid} has hit runaway rule "q"/), 1, 'the hit is logged once');
is(logged($log, qr/LOG:  runaway rule "q" is hit/), 0, '... in words of its own');
log_has($log, qr/LOG:  runaway rule "q" was released\n.*DETAIL:  query_id=-?\d+ reason="time is up" refused=1 database="postgres"/, 'the end, too');
error_is($app->query('SELECT pg_sleep(5)'), '57014', 'once more');
$after = last_event();
$mon->ok(q{SELECT resilience.release_quarantine(query_id) FROM resilience.quarantine});
like(event($after, 'runaway_rule', 'q', 'quarantined>released', qw(reason)), qr/^reason=by command$/, 'released by command');
$mon->ok(q{SELECT resilience.drop_runaway_rule('q')});

#
# Processes
#
$after = last_event();
$log = -s $node->logfile;
my $prober = $mon->value(q{SELECT pg_terminate_backend(pid), pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
is($prober, 't', 'the launcher is ended');
like(event($after, 'worker', 'launcher', 'gone>running', qw(restarts)), qr/^restarts=1$/, 'its successor says so');
is(count_events($after, 'breaker', 'x'), 0, 'and repeats nothing');
sleep 1.2;
is(logged($log, qr/LOG:  circuit breaker "x"/), 0, 'not in the log either');
log_has($log, qr/LOG:  worker "launcher" changed from gone to running\n.*DETAIL:  pid=\d+ restarts=1\n/, 'that it is back is');

# a crash: all that was is forgotten, and that is said
$_->close for ($app, $app2, $app3, $caller);
my $backend = connect_to($node);
kill 'KILL', $backend->{pid};
$mon = monitor_after_crash($node);
is(event(0, 'server', 'server', 'crashed>running', 'reason'), 'reason=a process crashed, all were started again', 'a crash is an event');
$node->restart;
$mon = monitor($node);
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience launcher'}, 1);
sleep 0.5;
is($mon->value(q{SELECT count(*) FROM resilience.events}), 0, 'a start is none');

unlike(slurp_file($node->logfile), qr/(?:PANIC|TRAP)/, 'nothing crashed by itself');
$mon->close;
$node->stop;
done_testing();
