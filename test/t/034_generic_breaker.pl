# Circuit breakers for anything, in SQL: call_with_breaker(), and
# breaker_acquire() with breaker_record().

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('generic', roles => [qw(app)]);

# not monitor(): with resilience.mode = off no call is counted
my $mon = connect_to($node);
my $session = connect_to($node);

# A breaker that stays open once it is
sub make_breaker
{
	my ($name, $options) = @_;

	$options //= '';
	$options .= ", reset_timeout => '1 h', max_reset_timeout => '1 h'" unless $options =~ /reset_timeout/;
	$mon->ok("SELECT resilience.create_breaker('$name', jitter => 0$options)");
	return;
}

sub breaker
{
	my ($name, @columns) = @_;

	return $mon->value("SELECT concat_ws(' ', " . join(', ', @columns) . ") FROM resilience.breakers WHERE name = '$name'");
}

sub quoted
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

sub call_sql { return "SELECT resilience.call_with_breaker('$_[0]', " . quoted($_[1]) . ')' }

sub call
{
	my ($name, $sql, $client) = @_;

	return ($client // $session)->query(call_sql($name, $sql));
}

# A statement that fails in this way
sub failing { return "DO \$x\$ BEGIN RAISE EXCEPTION 'it failed' USING ERRCODE = '$_[0]', DETAIL = 'so it did'; END \$x\$" }

sub trip
{
	my ($name) = @_;

	error_is(call($name, failing('08006')), '08006', "$name fails") for 1 .. 5;
	return is(breaker($name, 'state'), 'open', "$name is open");
}

sub acquire { return $_[1]->value("SELECT resilience.breaker_acquire('$_[0]')") }

sub record
{
	my ($name, $client, $success, $duration) = @_;

	$client->ok("SELECT resilience.breaker_record('$name', $success" . (defined $duration ? ", '$duration')" : ')'));
	return;
}

#
# Bad arguments, privileges
#
make_breaker('b');
my %refused = (
	q{call_with_breaker('none', 'SELECT 1')} => '42704',
	q{call_with_breaker(NULL, 'SELECT 1')} => '22023',
	q{call_with_breaker('b', NULL)} => '22023',
	q{call_with_breaker('b', ' ; ')} => '22023',
	q{call_with_breaker('b', 'COMMIT')} => '22023',
	q{call_with_breaker('b', 'COPY pg_class TO STDOUT')} => '22023',
	q{breaker_acquire('none')} => '42704',
	q{breaker_acquire(NULL)} => '22023',
	q{breaker_record('none', true)} => '42704',
	q{breaker_record(NULL, true)} => '22023',
	q{breaker_record('b', NULL)} => '22023',
	q{breaker_record('b', true, '-1 s')} => '22023');
for my $call (sort keys %refused)
{
	error_is($mon->query("SELECT resilience.$call"), $refused{$call}, $call);
}
is(breaker('b', 'failure_total', 'calls_in_flight'), '0 0', 'nothing of that is a failure, nothing is left');

my $app = connect_to($node, user => 'app');
for my $call (q{call_with_breaker('b', 'SELECT 1')}, q{breaker_acquire('b')}, q{breaker_record('b', true)})
{
	error_is($app->query("SELECT resilience.$call"), '42501', "$call by anybody");
}
$mon->ok('CREATE TABLE secret (id int); CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT, INSERT ON t TO app;
	GRANT EXECUTE ON FUNCTION resilience.call_with_breaker TO app');
my $before = breaker('b', 'success_total');
error_is($app->query(call_sql('b', 'SELECT * FROM secret')), '42501', 'granted: it runs as the caller');
is(breaker('b', 'failure_total', "success_total - $before"), '0 1', 'whose fault that is');

#
# What comes back
#
is($app->value(call_sql('b', 'INSERT INTO t SELECT generate_series(1, 3)')), 3, 'the number of rows');
is($app->value(call_sql('b', 'SELECT * FROM t; SELECT 1')), 1, 'of the last statement');
is($mon->value('SELECT count(*) FROM t'), 3, 'and they are there');
$app->ok('BEGIN');
$app->ok(call_sql('b', 'INSERT INTO t VALUES (4)'));
$app->ok('ROLLBACK');
is($mon->value('SELECT count(*) FROM t'), 3, 'unless the transaction is rolled back');
$app->close;

my $result = call('b', failing('08004'));
error_is($result, '08004', 'errors are passed on');
is(join('|', @{ $result->{error} }{qw(M D)}), 'it failed|so it did', 'unchanged');
is(breaker('b', 'consecutive_failures', 'last_sqlstate', 'last_error'), '1 08004 it failed', 'and known');

#
# Who is to blame?
#
make_breaker('blame', ', max_failures => 1000, minimum_calls => 1000');
my $failures = 0;
for my $sqlstate (qw(08001 08006 28P01 53200 57P01 58030 HV000 P0001 38000 39000 XX000))
{
	call('blame', failing($sqlstate));
	is(breaker('blame', 'consecutive_failures'), ++$failures, "$sqlstate counts");
}
for my $sql ('SELECT 1 / 0', 'INSERT INTO t VALUES (1)', 'SELECT nonsense', failing('40001'), failing('42501'))
{
	call('blame', failing('08006'));
	ok(call('blame', $sql)->{error}, "$sql fails");
	is(breaker('blame', 'consecutive_failures'), 0, 'which is no failure of the dependency');
}
$mon->ok(q{SELECT resilience.alter_breaker('blame', ignored_sqlstates => '{08006}', recorded_sqlstates => '{22}')});
call('blame', $_) for ('SELECT 1 / 0', failing('22023'), 'SELECT 1 / 0');
is(breaker('blame', 'consecutive_failures'), 3, 'recorded_sqlstates: class 22 counts');
call('blame', failing('08006'));
is(breaker('blame', 'consecutive_failures'), 0, 'ignored_sqlstates: 08006 does not');
$mon->ok(q{SELECT resilience.drop_breaker('blame')});

# What is the user's own doing is neither
make_breaker('own', q{, slow_call_duration => '200 ms', slow_call_rate => 1, minimum_calls => 1000});
$session->send(call_sql('own', 'SELECT pg_sleep(1000)'));
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers WHERE name = 'own'}, 1);
$session->cancel;
error_is($session->result, '57014', 'cancelled');
is(breaker('own', qw(success_total failure_total ignored_total calls_in_flight)), '0 0 1 0', 'a cancelled call counts as neither');
$session->ok(q{SET statement_timeout = '20 ms'});
error_is(call('own', 'SELECT pg_sleep(1000)'), '57014', 'timed out');
is(breaker('own', qw(success_total failure_total ignored_total)), '0 0 2', 'nor does one that its user gave too little time');
$session->ok(q{SET statement_timeout = '500 ms'});
error_is(call('own', 'SELECT pg_sleep(1000)'), '57014', 'timed out after longer than slow_call_duration');
is(breaker('own', qw(success_total failure_total ignored_total last_sqlstate)), '0 1 2 57014', 'is a failure');
$session->ok('RESET statement_timeout');
$mon->ok(q{SELECT resilience.drop_breaker('own')});

make_breaker('slow', q{, slow_call_duration => '50 ms'});
call('slow', 'SELECT pg_sleep(0.06)');
call('slow', 'SELECT 1');
is(breaker('slow', qw(success_total slow_total window_slow_calls)), '2 1 1', 'a slow success, and a quick one');

make_breaker('timed', q{, call_timeout => '100 ms'});
$result = call('timed', 'SELECT pg_sleep(1000)');
error_is($result, '08R02', 'call_timeout');
is(detail_of($result, 'call_timeout_ms'), 100, 'says how long');
is(breaker('timed', qw(failure_total timed_out_total last_sqlstate calls_in_flight)), '1 1 08R02 0', 'is a failure');
error_is($session->query('SELECT pg_sleep(0.2)'), 'no error', 'and nothing of it is left over');

#
# Open
#
make_breaker('full_of_errors');
trip('full_of_errors');
$result = call('full_of_errors', 'INSERT INTO t VALUES (100)');
error_is($result, '08R01', 'refused');
is($result->{error}{M}, 'circuit breaker "full_of_errors" is open', 'says which');
is(detail_of($result, $_->[0]), $_->[1], "DETAIL: $_->[0]")
  for ([ state => 'open' ], [ consecutive_failures => 5 ], [ last_sqlstate => '08006' ], [ started => 'false' ], [ phase => 'call' ]);
cmp_ok(detail_of($result, 'retry_after_ms'), '>', 3000000, 'DETAIL: retry_after_ms');
is(detail_of($result, 'server'), undef, 'DETAIL: no server');
like($result->{error}{H}, qr/not made/, 'HINT: the call was not made');
is($mon->value('SELECT count(*) FROM t WHERE id = 100'), 0, 'nor was it');
is(breaker('full_of_errors', qw(rejected_total failure_total)), '1 5', 'it is counted as rejected only');
call('full_of_errors', 'SELECT 1') for 1 .. 30;
my $logged = () = slurp_file($node->logfile) =~ /ERROR:  circuit breaker "full_of_errors" is open/g;
is($logged, 1, 'refusals do not flood the log');
is(breaker('full_of_errors', 'rejected_total'), 31, 'but are all counted');

# in a function that catches it, and goes on
$mon->ok(q{CREATE FUNCTION careful(breaker text) RETURNS text LANGUAGE plpgsql AS $f$
	BEGIN
		PERFORM resilience.call_with_breaker(breaker, 'SELECT 1');
		RETURN 'called';
	EXCEPTION WHEN SQLSTATE '08R01' THEN
		RETURN 'refused';
	END $f$});
is($session->value(q{SELECT careful('full_of_errors') || careful('slow')}), 'refusedcalled', 'a refusal can be caught');

$mon->ok(q{SELECT resilience.force_breaker('b', 'open')});
$result = call('b', 'SELECT 1');
error_is($result, '08R01', 'forced open');
is(detail_of($result, 'retry_after_ms'), undef, 'nobody knows when to come back');
like($result->{error}{H}, qr/force_breaker\('b', 'auto'\)/, 'HINT: who has opened it');
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});
error_is(call('b', 'SELECT 1'), 'no error', 'left to itself');

# watched only
$mon->ok(q{SELECT resilience.alter_breaker('full_of_errors', mode => 'observe')});
error_is(call('full_of_errors', 'SELECT 1'), 'no error', 'only observing: let through');
is(breaker('full_of_errors', 'rejected_total'), 33, 'and counted');
$mon->ok(q{SELECT resilience.alter_breaker('full_of_errors', mode => 'enforce')});
error_is(call('full_of_errors', 'SELECT 1'), '08R01', 'enforced again');
$session->ok('SET resilience.mode = off');
error_is(call('full_of_errors', 'SELECT 1'), 'no error', 'resilience.mode = off');
$session->ok('RESET resilience.mode');

# half-open: calls are the trials
make_breaker('trial', q{, reset_timeout => '100 ms', success_threshold => 3, half_open_calls => 1});
trip('trial');
wait_until('a call is let through', sub { !call('trial', 'SELECT 1')->{error} });
is(breaker('trial', 'state'), 'half_open', 'half-open after a success');
$session->send(call_sql('trial', 'SELECT pg_sleep(1000)'));
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers WHERE name = 'trial'}, 1);
$result = call('trial', 'SELECT 1', $mon);
error_is($result, '08R01', 'one trial at a time');
is(detail_of($result, 'state'), 'half_open', 'DETAIL: half-open');
cmp_ok(detail_of($result, 'retry_after_ms'), '>=', 10, 'DETAIL: come back soon, but not at once');
$session->cancel;
error_is($session->result, '57014', 'the trial is cancelled');
error_is(call('trial', failing('08006')), '08006', 'the next one fails');
is(breaker('trial', qw(state open_count)), 'open 2', 'and opens it again');
wait_until('a call is let through', sub { !call('trial', 'SELECT 1')->{error} });
call('trial', 'SELECT 1') for 1 .. 2;
is(breaker('trial', 'state'), 'closed', 'three successes close it');

#
# max_concurrent_calls
#
make_breaker('narrow', ', max_concurrent_calls => 1');
my $holder = connect_to($node);
$holder->send(call_sql('narrow', 'SELECT pg_sleep(1000)'));
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers WHERE name = 'narrow'}, 1);
$result = call('narrow', 'SELECT 1');
error_is($result, '53R01', 'one call too many');
like($result->{error}{M}, qr/too many concurrent calls.*"narrow"/, 'says which');
is(detail_of($result, $_->[0]), $_->[1], "DETAIL: $_->[0]") for ([ limit => 1 ], [ running => 1 ], [ started => 'false' ]);
ok(detail_of($result, 'retry_after_ms'), 'DETAIL: retry_after_ms');
is(acquire('narrow', $session), 'f', 'breaker_acquire(), too');
is(breaker('narrow', qw(rejected_total rejected_full_total)), '0 2', 'counted');
$mon->ok("SELECT pg_terminate_backend($holder->{pid})");
wait_until('its place is free', sub { breaker('narrow', 'calls_in_flight') == 0 });
error_is(call('narrow', call_sql('narrow', 'SELECT 1')), 'no error', 'a call within a call does not wait for itself');

#
# A call within a call: the inner one is to blame, and nothing is left behind
#
make_breaker('outer');
make_breaker('inner');
for (1 .. 3)
{
	error_is(call('outer', call_sql('inner', failing('08006'))), '08006', 'the inner call fails');
}
is(breaker('inner', qw(failure_total calls_in_flight)), '3 0', 'the inner breaker counts it');
is(breaker('outer', qw(failure_total calls_in_flight)), '0 0', 'the outer one does not');
error_is(call('outer', q{DO $x$ BEGIN PERFORM resilience.call_with_breaker('inner', 'nonsense'); EXCEPTION WHEN syntax_error THEN PERFORM 1 / 0; END $x$}),
	'22012', 'another error after one that was caught');
error_is(call('outer', q{DO $x$ BEGIN PERFORM resilience.call_with_breaker('inner', 'nonsense'); EXCEPTION WHEN syntax_error THEN RAISE SQLSTATE '08006'; END $x$}),
	'08006', 'or one that the outer call is to blame for');
is(breaker('outer', qw(failure_total calls_in_flight)), '1 0', 'which counts');
$mon->ok(q{SELECT resilience.force_breaker('inner', 'open')});
$before = breaker('outer', qw(success_total failure_total));
error_is(call('outer', call_sql('inner', 'SELECT 1')), '08R01', 'the inner breaker is open');
is(breaker('outer', qw(success_total failure_total)), $before, 'says nothing about the outer one');

# dblink does not pass a foreign data wrapper: its calls can be guarded so
$mon->ok(q{CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw;
	CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nonexistent');
	SELECT resilience.create_breaker('of_server', server => 's', probe => false, reset_timeout => '1 h', max_reset_timeout => '1 h')});
my $connect = q{SELECT * FROM dblink('host=/nonexistent', 'SELECT 1') AS (id int)};
error_is(call('of_server', $connect), '08001', 'dblink fails') for 1 .. 5;
$result = call('of_server', $connect);
error_is($result, '08R01', 'and is refused');
is(detail_of($result, 'server'), 's', 'DETAIL: server');
for my $sqlstate (qw(P0001 XX000))
{
	$mon->ok(q{SELECT resilience.reset_breaker('of_server')});
	call('of_server', failing($sqlstate));
	is(breaker('of_server', 'consecutive_failures'), 0, "$sqlstate is none of a server's failures");
}

#
# breaker_acquire() and breaker_record()
#
make_breaker('p', q{, max_failures => 3, slow_call_duration => '10 s'});
is(acquire('p', $session), 't', 'acquired');
is(breaker('p', qw(calls_in_flight success_total)), '1 0', 'is under way');
record('p', $session, 'true');
is(breaker('p', qw(calls_in_flight success_total slow_total)), '0 1 0', 'recorded');
acquire('p', $session);
record('p', $session, 'true', '11 s');
is(breaker('p', qw(calls_in_flight success_total slow_total)), '0 2 1', 'a slow one');
acquire('p', $session);
record('p', $session, 'false', '10 ms');
is(breaker('p', qw(calls_in_flight success_total failure_total consecutive_failures)), '0 2 1 1', 'a failure');

# It belongs to the session, not to the transaction
$session->ok('BEGIN');
is(acquire('p', $session), 't', 'acquired in a transaction');
$session->ok('ROLLBACK');
is(breaker('p', 'calls_in_flight'), 1, 'that is rolled back');
record('p', $session, 'true');
is(breaker('p', qw(calls_in_flight success_total)), '0 3', 'recorded afterwards');

# Without a permit: counted while closed
record('p', $session, 'true');
is(breaker('p', qw(calls_in_flight success_total window_calls)), '0 4 5', 'what another session acquired counts');

# A permit that was forgotten does not lend its time to later calls
make_breaker('brief', q{, slow_call_duration => '300 ms'});
acquire('brief', $session);
$session->ok('SELECT pg_sleep(0.31)');
acquire('brief', $session);
record('brief', $session, 'true');
is(breaker('brief', qw(success_total slow_total calls_in_flight)), '1 0 1', 'the one acquired last is recorded');
record('brief', $session, 'true');
is(breaker('brief', qw(success_total slow_total calls_in_flight)), '2 1 0', 'with the time since breaker_acquire()');

# Open: none is given, and none is counted
record('p', $session, 'false') for 1 .. 3;
is(breaker('p', qw(state failure_total)), 'open 4', 'three failures in a row open it');
is(acquire('p', $session), 'f', 'refused');
record('p', $session, 'true') for 1 .. 5;
is(breaker('p', qw(state success_total rejected_total calls_in_flight)), 'open 4 1 0', 'what nobody allowed is no trial');
$mon->ok(q{SELECT resilience.alter_breaker('p', mode => 'observe')});
is(acquire('p', $session), 't', 'only observing: let through');
record('p', $session, 'true');
is(breaker('p', qw(state rejected_total calls_in_flight)), 'open 2 0', 'and counted');

# Half-open: the permit of a session that goes is given back
make_breaker('q', q{, max_failures => 1, reset_timeout => '50 ms', half_open_calls => 1, success_threshold => 2});
record('q', $session, 'false');
wait_until('its time is up', sub { breaker('q', 'retry_at < now()') eq 't' });
record('q', $session, 'true');
is(breaker('q', qw(state calls_in_flight)), 'open 0', 'what nobody allowed does not make it half-open');
my $leaver = connect_to($node);
wait_until('a trial is allowed', sub { acquire('q', $leaver) eq 't' });
is(acquire('q', $session), 'f', 'to one at a time');
record('q', $session, 'true') for 1 .. 2;
is(breaker('q', 'state'), 'half_open', 'what nobody allowed is no trial');
$leaver->close;
wait_until('the trial is given back', sub { acquire('q', $session) eq 't' });
record('q', $session, 'true');
$leaver = connect_to($node);
is(acquire('q', $leaver), 't', 'the next trial');
$mon->ok("SELECT pg_terminate_backend($leaver->{pid})");
wait_until('is given back by a session that is terminated', sub { acquire('q', $session) eq 't' });
record('q', $session, 'true');
is(breaker('q', qw(state calls_in_flight)), 'closed 0', 'two successes close it');

# Bounded
$session->ok(q{SELECT count(resilience.breaker_acquire('brief')) FROM generate_series(1, 200)});
is(breaker('brief', 'calls_in_flight'), 64, 'a session holds 64 permits at most');
record('brief', $session, 'true') for 1 .. 65;
is(breaker('brief', qw(calls_in_flight success_total)), '0 67', 'all are back, and one was counted without');

# Dropped, and made anew, with a permit on the way
acquire('brief', $session);
$mon->ok(q{SELECT resilience.drop_breaker('brief')});
make_breaker('brief');
record('brief', $session, 'false');
is(breaker('brief', qw(calls_in_flight failure_total)), '0 1', 'a permit of its predecessor is not taken for one');

# The session's end gives back what it still holds
acquire('p', $session) for 1 .. 3;
is(breaker('p', 'calls_in_flight'), 3, 'three are under way');
$session->close;
wait_until('they are given back', sub { breaker('p', 'calls_in_flight') == 0 });
is($mon->value('SELECT sum(calls_in_flight) FROM resilience.breakers'), 0, 'nothing is left');
unlike(slurp_file($node->logfile), qr/(?:PANIC|TRAP|terminated by signal)/, 'nothing crashed');

$mon->close;
$node->stop;
done_testing();
