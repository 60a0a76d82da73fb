# call_timeout: 08R02 in time, wherever a foreign server hangs, with nothing
# left over, and without the half minute that postgres_fdw takes to clean up.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $ra = remote_node('ra');
my $rb = remote_node('rb');
my $node = local_node('timeouts');
my $mon = monitor($node);
limit_seconds(300);

for my $remote ($ra, $rb)
{
	$remote->safe_psql('postgres', q{
CREATE FUNCTION sleep_at(i int, at int, seconds float8) RETURNS int LANGUAGE plpgsql AS
	$$BEGIN IF i = at OR at < 0 THEN PERFORM pg_sleep(seconds); END IF; RETURN i; END$$;
CREATE VIEW stuck AS SELECT i AS id, sleep_at(i, 500, 60) AS v FROM generate_series(1, 1000) i;
CREATE VIEW steady AS SELECT i AS id, sleep_at(i, -1, 0.005) AS v FROM generate_series(1, 300) i});
}
my @tables = qw(t u log slow nap5 nap60 die stuck steady);
add_server($mon, 'sa', $ra, tables => \@tables, options => q{fetch_size '10'});
add_server($mon, 'sb', $rb, tables => \@tables, options => q{fetch_size '10'});
my $settings = q{max_failures => 1000000, minimum_calls => 1000000, slow_call_duration => '1 h', probe => false};
$mon->ok($_) for (
	"SELECT resilience.create_breaker('a', 'sa', call_timeout => '1 s', $settings)",
	"SELECT resilience.create_breaker('b', 'sb', call_timeout => '1 s', $settings)",
	q{CREATE TABLE p (id int, v int) PARTITION BY LIST (v)},
	q{CREATE FOREIGN TABLE pa PARTITION OF p FOR VALUES IN (1) SERVER sa OPTIONS (table_name 't', async_capable 'true')},
	q{CREATE FOREIGN TABLE pb PARTITION OF p FOR VALUES IN (NULL) SERVER sb OPTIONS (table_name 'nap60', async_capable 'true')},
	q{CREATE FUNCTION caught(sql text) RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE sql; RETURN 'no error';
		EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$});
my $control_a = connect_to($ra);
my $control_b = connect_to($rb);
my $s = connect_to($node);

sub failures
{
	return $mon->value(q{SELECT string_agg(format('%s %s/%s', name, failure_total, timed_out_total), ' ' ORDER BY name) FROM resilience.breakers WHERE name IN ('a', 'b')});
}

# A statement times out after so many seconds: the machine may be busy, so the
# best of three counts.
sub times_out
{
	my ($sql, $least, $most, $label, %params) = @_;
	my $session = $params{session} // $s;
	my ($elapsed, $result, $counted);

	for my $try (1 .. ($params{once} ? 1 : 3))
	{
		$mon->ok('SELECT resilience.reset_statistics()');
		($elapsed, $result) = timed(sub { ref $sql ? $sql->() : $session->query($sql, 60) });
		last if $elapsed < $most;
		note("$label: $elapsed s");
		$session->ok('ROLLBACK') if ($result->{status} // 'I') ne 'I';
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($result, '08R02', "$label: timed out");
	cmp_ok($elapsed, '>=', $least - 0.02, "$label: not before the time");
	cmp_ok($elapsed, '<', $most, "$label: nor much later");
	is(failures(), $params{failures} // 'a 1/1 b 0/0', "$label: counts once");
	return $result;
}

# The session works, and nothing strikes it later.
sub is_fine
{
	my ($session, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($session->query('SELECT count(*) FROM sa_t')->{rows}[0][0], 1000, "$label: the session is fine");
	return;
}

# pids of this remote's sessions that postgres_fdw has opened
sub fdw_pids
{
	my ($control) = @_;
	return map { $_->[0] } @{ $control->ok(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'postgres_fdw'})->{rows} };
}

# A slow query
my $result = times_out('SELECT * FROM sa_nap60', 1, 1.2, 'a slow view');
is($result->{error}{M}, 'call to foreign server "sa" timed out', 'its message');
is(detail_of($result, 'breaker'), 'a', 'the breaker');
is(detail_of($result, 'call_timeout_ms'), 1000, 'the limit');
is(detail_of($result, 'started'), 'true', 'something was started');
cmp_ok(detail_of($result, 'elapsed_ms'), '>=', 1000, 'how long it took');
ok($result->{error}{H}, 'a hint');
is(breaker($mon, 'a', 'last_sqlstate'), '08R02', 'the view shows it');
is_fine($s, 'a slow view');
is(detail_of(times_out('SELECT * FROM sa_stuck', 1, 1.5, 'a row in the middle'), 'phase'), 'fetch', 'during a fetch');
is_fine($s, 'a row in the middle');
is($s->value('SELECT count(*) FROM (SELECT v FROM sa_steady WHERE v > random()) x'), 300, 'rows that come steadily for longer than that');
times_out('SELECT * FROM sa_t, sb_nap60', 1, 1.2, 'the other server', failures => 'a 0/0 b 1/1');
times_out('SELECT * FROM sa_t WHERE v > (SELECT max(v) FROM sb_nap60)', 1, 1.3, 'a call within a call', failures => 'a 0/0 b 1/1');
times_out('SELECT count(*) FROM sa_u, sa_nap60', 1, 1.3, 'a pushed join');

# Only time at the server counts
$s->ok('BEGIN; DECLARE c CURSOR FOR SELECT id FROM sa_t ORDER BY id; FETCH 5 FROM c');
sleep 1.3;
is($s->ok('FETCH ALL FROM c')->{tags}[0], 'FETCH 995', 'an idle cursor is not a slow server');
$s->ok('COMMIT');
is($s->value('SELECT count(pg_sleep(0.05)) FROM (SELECT * FROM sa_t LIMIT 26) x'), 26, 'nor is what is done with its rows');

# Others that end a statement
$s->ok(q{SET statement_timeout = '400 ms'});
$result = $s->query('SELECT * FROM sa_nap60');
error_is($result, '57014', 'a shorter statement_timeout');
like($result->{error}{M}, qr/statement timeout/, 'is not taken for it');
$s->ok(q{SET statement_timeout = '30 s'});
times_out('SELECT * FROM sa_nap60', 1, 1.2, 'a longer statement_timeout');
$s->ok('RESET statement_timeout');
$s->send('SELECT * FROM sa_nap60');
wait_for_value($control_a, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND state = 'active' AND wait_event = 'PgSleep' AND query_start > now() - interval '1 s'}, 't');
$s->cancel;
$result = $s->result;
error_is($result, '57014', 'a cancel before it');
like($result->{error}{M}, qr/user request/, 'is not taken for it');
is_fine($s, 'after them');

# Caught.  postgres_fdw does not commit what has lost its remote part, but
# another subtransaction may go on.
$mon->ok('SELECT resilience.reset_statistics()');
$s->ok(q{CREATE TEMP TABLE result (v text)});
my ($elapsed) = timed(sub { $result = $s->query(q{DO $$BEGIN RAISE WARNING 'got %', caught('SELECT * FROM sa_nap60');
	PERFORM pg_sleep(1.5); RAISE WARNING 'slept'; END$$}) });
like(join(' ', map { $_->{M} } @{ $result->{notices} }), qr/got 08R02.* slept/, 'caught, and nothing strikes later');
cmp_ok($elapsed, '<', 5, 'in time');
is(failures(), 'a 1/1 b 0/0', 'counts once');
is($s->query('SELECT pg_sleep(1.2)')->{error}, undef, 'nor does it strike the next statement');
is_fine($s, 'caught');

# In the last moment: either it was in time or it was not
$mon->ok(q{SELECT resilience.alter_breaker('a', call_timeout => '50 ms')});
my %outcomes;
for my $try (1 .. 60)
{
	$control_a->ok('UPDATE seconds SET value = ' . (0.0475 + 0.0005 * ($try % 5)));
	my $error = $s->query('SELECT * FROM sa_slow')->{error};

	$outcomes{ $error ? $error->{C} : 'ok' }++;
	$error = $s->query('SELECT pg_sleep(0.003)')->{error};
	$outcomes{"next: $error->{C}"}++ if $error;
}
note(join(', ', map { "$_ $outcomes{$_}" } sort keys %outcomes));
is(join(' ', grep { !/^(ok|08R02)$/ } sort keys %outcomes), '', 'close calls: nothing but success and 08R02');
$control_a->ok('UPDATE seconds SET value = 0');
$mon->ok(q{SELECT resilience.alter_breaker('a', call_timeout => '1 s')});
is_fine($s, 'close calls');

# Asynchronous append
like(join("\n", map { $_->[0] } @{ $s->ok('EXPLAIN SELECT * FROM p')->{rows} }), qr/Async Foreign Scan on pb/, 'an asynchronous append');
times_out('SELECT count(*) FROM p', 1, 1.3, 'async append', failures => 'a 0/0 b 1/1');
is_fine($s, 'async append');

$mon->ok(q{CREATE TABLE q (id int, v int) PARTITION BY LIST (v);
CREATE FOREIGN TABLE qa PARTITION OF q FOR VALUES IN (1) SERVER sa OPTIONS (table_name 't', async_capable 'true');
CREATE FOREIGN TABLE qb PARTITION OF q FOR VALUES IN (2) SERVER sb OPTIONS (table_name 't', async_capable 'true')});
$mon->ok('SELECT resilience.reset_statistics()');
is($s->query('SELECT pg_sleep(0.3) FROM q LIMIT 5')->{tags}[0], 'SELECT 5', 'async append: answers that wait for us are in time');
is($s->query('SELECT pg_sleep(1.3) FROM q LIMIT 2')->{tags}[0], 'SELECT 2', 'so are rows for which we take long');
# ... and what an idle cursor has asked for.  On a busy machine the other server
# may really be silent for that long: the best of three counts.
for my $try (1 .. 3)
{
	$mon->ok('SELECT resilience.reset_statistics()');
	$s->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM q; FETCH 1 FROM c');
	sleep 1.3;
	my $result = $s->query('FETCH ALL FROM c');
	my $failed = $result->{error};
	$s->ok($failed ? 'ROLLBACK' : 'COMMIT');
	next if $failed && $try < 3;
	is($failed ? $failed->{C} : $result->{tags}[0], 'FETCH 1999', 'so are answers that an idle cursor has asked for');
	is(failures(), 'a 0/0 b 0/0', 'nobody is blamed');
	last;
}

# Commands that wait for a lock there
$control_a->ok('BEGIN; LOCK TABLE log, t');
$mon->ok(q{CREATE FOREIGN TABLE estimated (id int, v int) SERVER sa OPTIONS (table_name 't', use_remote_estimate 'true')});
times_out('INSERT INTO sa_log VALUES (1, 1)', 1, 1.3, 'INSERT');
times_out('INSERT INTO sa_log SELECT * FROM sb_t', 1, 1.3, 'INSERT ... SELECT');
times_out('UPDATE sa_log SET v = 0', 1, 1.3, 'UPDATE');
times_out('DELETE FROM sa_log WHERE v > random()', 1, 1.3, 'DELETE');
times_out(sub { $s->send('COPY sa_log FROM STDIN'); $s->read_until('GE'); $s->copy_data("1\t1\n"); $s->copy_done; $s->result }, 1, 1.3, 'COPY FROM');
times_out('TRUNCATE sa_log', 1, 1.3, 'TRUNCATE');
times_out('ANALYZE sa_t', 1, 1.3, 'ANALYZE');
times_out('EXPLAIN SELECT * FROM estimated', 1, 1.3, 'EXPLAIN with use_remote_estimate');
$control_a->ok('ROLLBACK');
is_fine($s, 'locks');
wait_for_value($control_a, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND wait_event_type = 'Lock'}, 0);
is($control_a->value('SELECT count(*) FROM log'), 0, 'nothing of it was committed');

# A frozen backend: postgres_fdw alone would wait for 30 s
sub freeze_sessions
{
	my ($control) = @_;
	my @pids = fdw_pids($control);

	freeze(@pids);
	return @pids;
}
$s->ok('SELECT count(*) FROM sa_t');
my @frozen = freeze_sessions($control_a);
times_out('SELECT count(*) FROM sa_t', 1, 5, 'a frozen backend at the begin of a transaction');
is_fine($s, 'and a new connection');
thaw(@frozen);
$s->ok('BEGIN; SELECT count(*) FROM sa_t');
@frozen = freeze_sessions($control_a);
times_out('SELECT count(*) FROM sa_t', 1, 2, 'a frozen backend in a transaction', once => 1);
($elapsed) = timed(sub { $s->ok('ROLLBACK') });
cmp_ok($elapsed, '<', 2, 'and ROLLBACK');
is_fine($s, 'a frozen backend');
thaw(@frozen);

# ... at COMMIT
$s->ok('BEGIN; INSERT INTO sa_log VALUES (7, 7); INSERT INTO sb_log VALUES (7, 7)');
@frozen = freeze_sessions($control_a);
times_out('COMMIT', 1, 5, 'frozen at COMMIT', once => 1);
is_fine($s, 'COMMIT');
thaw(@frozen);
$s->ok('BEGIN; SELECT count(*) FROM sa_t; SELECT count(*) FROM sb_t');
@frozen = freeze_sessions($control_b);
times_out('COMMIT', 1, 5, 'frozen at COMMIT of a reader, the other server', once => 1, failures => 'a 0/0 b 1/1');
is_fine($s, 'COMMIT');
thaw(@frozen);
$s->ok('BEGIN; SELECT count(*) FROM sb_t; SAVEPOINT x; SELECT count(*) FROM sa_t');
@frozen = freeze_sessions($control_a);
times_out('RELEASE x', 1, 5, 'frozen at RELEASE', once => 1);
($elapsed) = timed(sub { $s->ok('ROLLBACK') });
cmp_ok($elapsed, '<', 2, 'and ROLLBACK');
is_fine($s, 'RELEASE');
thaw(@frozen);

# Both commits are sent at once: who has answered is not to blame
$mon->ok("ALTER SERVER $_ OPTIONS (ADD parallel_commit 'true')") for $mon->value('SHOW server_version_num') >= 150000 ? qw(sa sb) : ();
for my $which ([ $control_a, 'a 1/1 b 0/0', 'sa' ], [ $control_b, 'a 0/0 b 1/1', 'sb' ])
{
	my ($control, $expected, $name) = @$which;

	$s->ok('BEGIN; INSERT INTO sa_log VALUES (7, 7); INSERT INTO sb_log VALUES (7, 7)');
	@frozen = freeze_sessions($control);
	times_out('COMMIT', 1, 5, "parallel commit, frozen $name", once => 1, failures => $expected);
	thaw(@frozen);
	$s->ok('BEGIN; SELECT count(*) FROM sb_t; SELECT count(*) FROM sa_t; SAVEPOINT x; INSERT INTO sa_log VALUES (7, 7); INSERT INTO sb_log VALUES (7, 7)');
	@frozen = freeze_sessions($control);
	times_out('RELEASE x', 1, 5, "parallel RELEASE, frozen $name", once => 1, failures => $expected);
	$s->ok('ROLLBACK');
	is_fine($s, 'parallel commit');
	thaw(@frozen);
}

# The whole server is frozen
$s->ok('SELECT count(*) FROM sa_t');
my @server = ($ra->{_pid}, postmaster_children($ra));
freeze(@server);
times_out('SELECT count(*) FROM sa_t', 1, 5, 'a frozen server, connected', once => 1);

# A connection takes whole seconds of libpq's, at least two, before 16
my $blocking = $mon->value('SHOW server_version_num') < 160000;
my ($least, $most) = $blocking ? (1, 4) : (1, 2);
times_out('SELECT count(*) FROM sa_t', $least, $most, 'a frozen server, not connected', once => 1);
is($s->value('SELECT 1'), 1, 'the session lives');
my $new = connect_to($node);
times_out('SELECT count(*) FROM sa_t', $least, $most, 'another session', once => 1, session => $new);
$new->close;
thaw(@server);
is_fine($s, 'a frozen server');

# A listener that never answers
my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "cannot listen: $!";
add_server($mon, 'silent', undef, host => '127.0.0.1', port => $listener->sockport, tables => ['t']);
add_server($mon, 'patient', undef, host => '127.0.0.1', port => $listener->sockport, tables => ['t'], options => q{connect_timeout '3'});
$mon->ok("SELECT resilience.create_breaker('$_', '$_', call_timeout => '1 s', $settings)") for qw(silent patient);
($elapsed, $result) = timed(sub { $s->query('SELECT * FROM silent_t') });
error_is($result, '08R02', 'a silent listener');
cmp_ok($elapsed, '>=', 0.98, 'not before the time');
cmp_ok($elapsed, '<', $most, 'two seconds at most, more or less');
is(detail_of($result, 'phase'), 'begin', 'while connecting');
is(breaker($mon, 'silent', qw(failure_total timed_out_total last_sqlstate calls_in_flight)), '1 1 08R02 0', 'counts');
$mon->ok(q{SELECT resilience.alter_breaker('silent', call_timeout => '2500 ms')});
($elapsed, $result) = timed(sub { $s->query('SELECT * FROM silent_t') });
error_is($result, '08R02', 'a longer call_timeout');
cmp_ok($elapsed, '>=', 2, 'is rounded up to seconds');
cmp_ok($elapsed, '<', 5, 'and kept');
($elapsed, $result) = timed(sub { $s->query('SELECT * FROM patient_t') });
error_is($result, '08R02', 'a connect_timeout of the server');
cmp_ok($elapsed, '>=', $blocking ? 2 : 0.98, 'wins') if $blocking;
cmp_ok($elapsed, '<', 5, 'is kept');
$s->ok(q{CREATE TEMP TABLE environment (v text); COPY environment FROM PROGRAM 'echo "<$PGCONNECT_TIMEOUT>"'});
is($s->value('SELECT v FROM environment'), '<>', 'the environment is as it was');
times_out('SELECT * FROM sa_nap60', 1, 1.2, 'afterwards');

# Many sessions at once: each waits once, then the breaker is open
$mon->ok(q{SELECT resilience.create_breaker('x', 'sx', call_timeout => '1 s', max_failures => 5, reset_timeout => '1 h', max_reset_timeout => '1 h', probe => false)})
  if $mon->ok('CREATE SERVER sx FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host $$127.0.0.1$$, port $$' . $listener->sockport . '$$)');
$mon->ok('CREATE USER MAPPING FOR PUBLIC SERVER sx; CREATE FOREIGN TABLE sx_t (id int) SERVER sx');
my @sessions = map { connect_to($node) } 1 .. 16;
($elapsed) = timed(sub { $_->send('SELECT * FROM sx_t') for @sessions; $_->{last} = $_->result for @sessions });
is(join(' ', map { "$_->{last}{error}{C}" } @sessions), join(' ', ('08R02') x 16), 'all that call at once time out');
cmp_ok($elapsed, '<', $most + 1, 'side by side');
($elapsed) = timed(sub { $_->{last} = $_->query('SELECT * FROM sx_t') for @sessions });
is(join(' ', map { "$_->{last}{error}{C}" } @sessions), join(' ', ('08R01') x 16), 'the next time all are rejected');
cmp_ok($elapsed, '<', 1, 'at once');
is(breaker($mon, 'x', qw(state open_count timed_out_total rejected_total calls_in_flight)), 'open 1 16 16 0', 'one trip');
$_->close for @sessions;
$listener->close;

is($mon->value('SELECT sum(calls_in_flight) FROM resilience.breakers'), 0, 'no call is left');
$s->close;
all_zero($mon, 'at the end');
done_testing();
