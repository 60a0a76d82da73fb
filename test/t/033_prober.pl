# The prober: it asks the servers whose breaker is open, side by side and
# without credentials; says in the log and to cached plans what has changed;
# finds calls that hang; and is missed by nobody while it is away.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest qw(freeze thaw postmaster_children);
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('local', roles => [qw(app)]);
limit_seconds(300);

# not monitor(): with resilience.mode = off no call is counted
my $mon = connect_to($node);

# The remote: which database is asked for decides how it answers.
my $remote = PostgreSQL::Test::Cluster->new('remote');
$remote->init;
$remote->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nlog_connections = on\nautovacuum = off\n");
append_to_file($remote->data_dir . '/pg_hba.conf', "host all all 127.0.0.1/32 trust\n");
my $hba = slurp_file($remote->data_dir . '/pg_hba.conf');
unlink $remote->data_dir . '/pg_hba.conf';
append_to_file($remote->data_dir . '/pg_hba.conf',
	"host scram all 127.0.0.1/32 scram-sha-256\nhost rejected all 127.0.0.1/32 reject\n$hba");
$remote->start;
$remote->safe_psql('postgres', $_) for (
	'CREATE DATABASE scram', 'CREATE ROLE named LOGIN', 'CREATE ROLE resilience_probe LOGIN',
	'CREATE DATABASE few CONNECTION LIMIT 0', 'CREATE TABLE t AS SELECT 1 AS id');
my $port = $remote->port;

# A port where nobody listens, kept by a socket that is bound only; and one
# where nobody ever answers.
my $refusing = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp') or die "cannot bind: $!";
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 4096) or die "cannot listen: $!";

# The prober's process, 0 if there is none at the moment
sub prober
{
	for my $pid (postmaster_children($node))
	{
		open(my $file, '<', "/proc/$pid/cmdline") or next;
		my $title = <$file> // '';
		close $file;
		return $pid if $title =~ /resilience prober/ && process_lives($pid);
	}
	return 0;
}

# A foreign server and its breaker, of the same name.  What is not said about
# the breaker makes it open at the fifth failure in a row, for a whole hour.
sub guarded_server
{
	my ($name, $options, $breaker, $session) = @_;

	$breaker //= '';
	$breaker .= ", reset_timeout => '1 h', max_reset_timeout => '1 h'" unless $breaker =~ /reset_timeout/;
	my $list = join(', ', map { "$_ '$options->{$_}'" } sort keys %$options);
	($session // $mon)->ok("CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS ($list);
		SELECT resilience.create_breaker('$name', server => '$name', jitter => 0$breaker)");
	return;
}

# Open a breaker by failures that nobody has an SQLSTATE of ...
sub trip
{
	my ($name, $session) = @_;

	return ($session // $mon)->ok("SELECT resilience.breaker_record('$name', false) FROM generate_series(1, 5)");
}

# ... or by calls that fail with this one.
sub trip_by
{
	my ($name, $sqlstate) = @_;

	$mon->ok("DO \$do\$
		BEGIN
			FOR i IN 1 .. 5 LOOP
				BEGIN
					PERFORM resilience.call_with_breaker('$name',
						'DO \$x\$ BEGIN RAISE EXCEPTION USING ERRCODE = ''$sqlstate''; END \$x\$');
				EXCEPTION WHEN OTHERS THEN
					IF SQLSTATE <> '$sqlstate' THEN RAISE; END IF;
				END;
			END LOOP;
		END \$do\$");
	return;
}

sub breaker
{
	my ($name, $columns, $session) = @_;

	return ($session // $mon)->value("SELECT $columns FROM resilience.breakers WHERE name = '$name'");
}

sub wait_for_state
{
	my ($name, $state, $session) = @_;

	return wait_for_value($session // $mon, "SELECT state FROM resilience.breakers WHERE name = '$name'", $state);
}

sub log_has
{
	my ($pattern, $label) = @_;
	my $found = eval {
		wait_until($label, sub { slurp_file($node->logfile) =~ $pattern }, 20);
	};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($found, $label);
}

$mon->ok($_) for ('CREATE EXTENSION postgres_fdw', 'CREATE EXTENSION dblink');

#
# What counts as a sign of life, asked side by side.  Two servers say nothing
# for three seconds and must not hold up the others.
#
my $soon = q{, reset_timeout => '300 ms', slow_call_duration => '3 s'};
my %tcp = (host => '127.0.0.1', port => $port, dbname => 'postgres');
my %servers = (
	unanswering => { host => '127.0.0.1', port => $silent->sockport },
	unanswering2 => { host => '127.0.0.1', port => $silent->sockport },
	trusting => {%tcp},
	scram => { %tcp, dbname => 'scram' },
	rejecting => { %tcp, dbname => 'rejected' },
	without_db => { %tcp, dbname => 'no_such_database' },
	crowded => { %tcp, dbname => 'few' },
	refusing => { %tcp, port => $refusing->sockport },
	missing => { host => $remote->host . '/none', port => $port },
	by_socket => { host => $remote->host, port => $port },
	by_address => { host => 'name.invalid', hostaddr => '127.0.0.1', port => $port, dbname => 'scram' },
	second_host => { host => '127.0.0.1,127.0.0.1', port => $refusing->sockport . ",$port", dbname => 'scram' },
	verifying => { %tcp, sslmode => 'verify-full' });
my %expected = (
	trusting => 'closed alive',
	scram => 'closed alive: password required',
	rejecting => 'closed alive: FATAL 28000',
	without_db => 'closed alive: FATAL 3D000',
	by_socket => 'closed alive',
	by_address => 'closed alive: password required',
	second_host => 'closed alive: password required',
	crowded => 'open FATAL 53300',
	refusing => 'open refused',
	missing => 'open unreachable',
	verifying => 'open unreachable');    # it has no TLS, and callers need it

guarded_server($_, $servers{$_}, $soon) for sort keys %servers;
is(breaker('trusting', 'probe_total'), 0, 'nobody is asked while the breakers are closed');
trip($_) for sort keys %servers;
for my $name (sort keys %expected)
{
	my ($state, $result) = split / /, $expected{$name}, 2;

	wait_until("$name was asked", sub { breaker($name, 'probe_total > 0') eq 't' });
	wait_for_state($name, $state) if $state eq 'closed';
	is(breaker($name, "state || ' ' || last_probe_result"), $expected{$name}, "$name: $result");
}
is(breaker($_, "state || ' ' || probe_total"), 'open 0', "$_ has held up nobody") for qw(unanswering unanswering2);
wait_until("$_ was given up", sub { breaker($_, 'probe_total > 0') eq 't' }) for qw(unanswering unanswering2);
is(breaker($_, "state || ' ' || last_probe_result"), 'open timed out', "$_: timed out") for qw(unanswering unanswering2);
is(breaker('trusting', 'probe_total || \'/\' || probe_failure_total'), '3/0', 'a connection for each success that is needed');

wait_until('refusing is asked again and again', sub { breaker('refusing', 'probe_failure_total > 2') eq 't' });
is(breaker('refusing', 'open_count'), 1, 'and is not opened anew by that');
is(breaker('crowded', 'state'), 'open', 'a server that is full has not recovered');
$remote->safe_psql('postgres', 'ALTER DATABASE few CONNECTION LIMIT -1');
wait_for_state('crowded', 'closed');
pass('until it is full no more');

# The remote's log shows who asked, and that no password was tried.
my $remote_log = slurp_file($remote->logfile);
like($remote_log, qr/user=resilience_probe .*application_name=resilience prober/, 'it says who it is');
unlike($remote_log, qr/password authentication failed/, 'it sends no password');
unlike(slurp_file($node->logfile), qr/is not a plain file/, 'libpq has nothing to complain of');
$mon->ok("SELECT resilience.drop_breaker('$_'); DROP SERVER $_") for sort keys %servers;

#
# The log
#
guarded_server('b', {%tcp}, q{, reset_timeout => '1500 ms'});
sleep(1.2);    # an object has one line a second, and its creation was one
trip_by('b', '08006');
log_has(
	qr/LOG:  circuit breaker "b" of foreign server "b" is open\n.*DETAIL:  reason="consecutive failures" consecutive_failures=5 failure_rate=1.00 last_sqlstate=08006 retry_after_ms=\d+ server="b" database="postgres"\n/,
	'opening is logged, with the reason');
log_has(qr/LOG:  circuit breaker "b" of foreign server "b" is half-open\n(?:.*\n)*?.*LOG:  circuit breaker "b" of foreign server "b" is closed\n/,
	'and so is the way back');
$mon->ok(q{SELECT resilience.force_breaker('b', 'open')});
log_has(qr/LOG:  circuit breaker "b" of foreign server "b" is forced open\n/, 'a command, too');
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});

#
# Time from recovery to closed: at most the probes' period and 200 ms.  The
# server becomes reachable at a known moment: its socket gets a second name.
#
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $link = "$dir/.s.PGSQL.$port";
my $period = 0.5;
guarded_server('linked', { host => $dir, port => $port }, q{, reset_timeout => '500 ms', backoff_factor => 1});
my @times;
for (1 .. 5)
{
	trip('linked');
	wait_for_state('linked', 'open');
	my $failed = breaker('linked', 'probe_failure_total');
	# just asked in vain: the longest time until it is asked again
	wait_until('it is asked in vain', sub { breaker('linked', 'probe_failure_total') > $failed });
	my $start = time();
	symlink($remote->host . "/.s.PGSQL.$port", $link) or die "symlink: $!";
	wait_for_state('linked', 'closed');
	push @times, time() - $start;
	unlink $link;
}
@times = sort { $a <=> $b } @times;
note('recovery took ' . join(' ', map { sprintf '%.3f', $_ } @times) . ' s');
cmp_ok($times[2], '<=', $period + 0.2, 'closed within the probes\' period and 200 ms');
cmp_ok($times[-1], '<=', $period + 1, 'always, but for noise');

#
# The postmaster hangs: connections are made, and nothing happens
#
guarded_server('frozen', {%tcp}, q{, reset_timeout => '300 ms', slow_call_duration => '300 ms'});
my $postmaster = $remote->{_pid};
freeze($postmaster);
trip('frozen');
wait_until('it was asked twice', sub { breaker('frozen', 'probe_failure_total > 1') eq 't' });
is(breaker('frozen', "state || ' ' || last_probe_result"), 'open timed out', 'a postmaster that hangs: not alive');
thaw($postmaster);
wait_for_state('frozen', 'closed');
pass('and alive when it goes on');

# It is shut down, and started again
$remote->stop('fast');
trip('frozen');
wait_until('it was asked', sub { breaker('frozen', "state || ' ' || last_probe_result") eq 'open refused' });
$remote->start;
wait_for_state('frozen', 'closed');
pass('a server that was started again');

#
# Verification: a wrong password is not the server's fault
#
$mon->ok(q{ALTER ROLE app SUPERUSER});
guarded_server('locked', { %tcp, dbname => 'scram' });
$mon->ok(q{CREATE USER MAPPING FOR PUBLIC SERVER locked OPTIONS (user 'named', password 'wrong');
	CREATE FOREIGN TABLE locked_t (id int) SERVER locked OPTIONS (table_name 't')});
my $session = connect_to($node, user => 'app');
for (1 .. 5)
{
	error_is($session->query('SELECT * FROM locked_t'), '08001', "call $_ fails at the password");
}
wait_until('the server was asked', sub { breaker('locked', 'probe_total > 2') eq 't' });
wait_for_state('locked', 'closed');
is(breaker('locked', "open_count || ' ' || probe_total"), '1 3', 'it opened, and was closed an hour early: the server answers');
error_is($session->query('SELECT * FROM locked_t'), '08001', 'so nobody is refused');

# In vain: asked once, and not put off
guarded_server('down', { %tcp, port => $refusing->sockport });
trip_by('down', '08001');
guarded_server('mute', { host => '127.0.0.1', port => $silent->sockport }, q{, slow_call_duration => '1 s'});
trip_by('mute', '08001');
wait_until("$_ was asked", sub { breaker($_, 'probe_total > 0') eq 't' }) for qw(down mute);
for my $name (qw(down mute))
{
	is(breaker($name, "state || ' ' || probe_total || ' ' || (abs(extract(epoch FROM retry_at - opened_at) - 3600) < 0.2)"),
		'open 1 true', "$name does not answer: asked once, and retry_at stays");
}

# Other errors and slow calls are not verified: what came before the next one
# that is, is left alone.
guarded_server($_, {%tcp}, q{, minimum_calls => 7, slow_call_rate => 0.5}) for qw(broken slow verified);
trip_by('broken', '08006');
$mon->ok(q{DO $do$
	BEGIN
		PERFORM resilience.call_with_breaker('slow', 'DO $x$ BEGIN RAISE EXCEPTION USING ERRCODE = ''08001''; END $x$');
	EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN
		NULL;
	END $do$});
$mon->ok(q{SELECT resilience.breaker_record('slow', true, '1 min') FROM generate_series(1, 6)});
is(breaker('slow', "concat_ws(' ', state, trip_reason, last_sqlstate)"), 'open slow call rate 08001', 'too many slow calls, and a failure before');
trip_by('verified', '28P01');
wait_for_state('verified', 'closed');
is(breaker($_, "state || ' ' || probe_total"), 'open 0', "$_: not asked early") for qw(broken slow);

#
# Cached plans follow: when a breaker opens and closes, and when it is altered
# or dropped while it is open.
#
$mon->ok(q{SELECT resilience.drop_breaker(name) FROM resilience.breakers});    # one more open breaker would do it, too
guarded_server('source', {%tcp}, q{, on_open => 'fallback'});
$mon->ok(q{CREATE USER MAPPING FOR PUBLIC SERVER source OPTIONS (user 'named');
	CREATE FOREIGN TABLE far (id int) SERVER source OPTIONS (table_name 't');
	CREATE TABLE near AS SELECT 2 AS id;
	SELECT resilience.set_fallback('far', 'near')});
$remote->safe_psql('postgres', 'GRANT SELECT ON t TO named');
$session->ok('SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT id FROM far');
sub answer
{
	my $result = $session->query('EXECUTE q');

	return $result->{error} ? $result->{error}{C} : $result->{rows}[0][0];
}
sub answer_becomes
{
	my ($wanted, $label) = @_;
	my $now = '';
	my $done = eval { wait_until($label, sub { ($now = answer()) eq $wanted }, 20) };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($done, $label) || diag("there is $now, not $wanted");
}
is(answer(), 1, 'closed: from the server');
trip('source');
answer_becomes(2, 'open: from the fallback');
$mon->ok(q{SELECT resilience.alter_breaker('source', on_open => 'error')});
answer_becomes('08R01', 'altered: an error');
$mon->ok(q{SELECT resilience.alter_breaker('source', on_open => 'fallback')});
answer_becomes(2, 'altered back: from the fallback');
$mon->ok(q{SELECT resilience.alter_breaker('source', mode => 'observe')});
answer_becomes(1, 'only observing: from the server');
$mon->ok(q{SELECT resilience.alter_breaker('source', mode => 'enforce')});
answer_becomes(2, 'enforced again: from the fallback');
$mon->ok(q{SELECT resilience.reset_breaker('source')});
answer_becomes(1, 'closed: from the server');
trip('source');
answer_becomes(2, 'open: from the fallback');
$mon->ok(q{SELECT resilience.drop_breaker('source')});
answer_becomes(1, 'dropped while it was open: from the server');
$session->close;

#
# Calls that hang are slow before they have ended, once
#
$mon->ok(qq{SELECT resilience.create_breaker('$_', slow_call_duration => '300 ms', minimum_calls => 3,
	window_duration => '1 min', slow_call_rate => 0.5, reset_timeout => '1 h', max_reset_timeout => '1 h')})
  for qw(hanging later);
my @hanging = map { connect_to($node, user => 'app') } 1 .. 4;
$hanging[$_]->send(q{SELECT resilience.call_with_breaker('hanging', 'SELECT pg_sleep(1000)')}) for 0 .. 1;
wait_until('both are slow', sub { breaker('hanging', 'slow_total') == 2 });
is(breaker('hanging', "state || ' ' || calls_in_flight || ' ' || window_slow_calls"), 'closed 2 2', 'calls that hang are counted');
$hanging[2]->send(q{SELECT resilience.call_with_breaker('later', 'SELECT pg_sleep(1000)')});
wait_until('the later one is slow', sub { breaker('later', 'slow_total') == 1 });
is(breaker('hanging', 'slow_total'), 2, 'each of them once');
$hanging[3]->send(q{SELECT resilience.call_with_breaker('hanging', 'SELECT pg_sleep(1000)')});
wait_for_state('hanging', 'open');
is(breaker('hanging', "concat_ws(' ', trip_reason, calls_in_flight, failure_total)"), 'slow call rate 3 0', 'and open the breaker while they hang');
log_has(qr/LOG:  circuit breaker "hanging" is open\n.*DETAIL:  reason="slow call rate"/, 'which is logged');
for (@hanging)
{
	$_->cancel;
	error_is($_->result, '57014', 'cancelled');
	$_->close;
}
is(breaker('hanging', 'calls_in_flight'), 0, 'all are back');

#
# Another database
#
$mon->ok('CREATE DATABASE two');
my $two = connect_to($node, dbname => 'two');
$two->ok('CREATE EXTENSION resilience; CREATE EXTENSION postgres_fdw');
guarded_server('b', {%tcp}, q{, reset_timeout => '200 ms'}, $two);
trip('b', $two);
wait_until('it was asked', sub { breaker('b', 'probe_total > 2', $two) eq 't' });
wait_for_state('b', 'closed', $two);
pass('breakers of other databases are looked after, too');
$two->close;

#
# More servers that say nothing than are asked at once: all get their turn
#
my @many = map { "many$_" } 1 .. 40;
guarded_server($_, { host => '127.0.0.1', port => $silent->sockport }, q{, reset_timeout => '100 ms', backoff_factor => 1, slow_call_duration => '200 ms'})
  for @many;
guarded_server('among', {%tcp}, q{, reset_timeout => '100 ms'});
trip($_) for (@many, 'among');
wait_until('it was asked', sub { breaker('among', 'probe_total > 2') eq 't' });
wait_for_state('among', 'closed');
pass('one that answers among 40 that do not');
wait_for_value($mon, q{SELECT count(*) FROM resilience.breakers WHERE name LIKE 'many%' AND probe_failure_total > 1}, 40);
pass('each of the 40 is asked again and again');
$mon->ok("SELECT resilience.drop_breaker('$_')") for @many;

#
# The prober goes, and comes back
#
my $pid = prober();
ok($pid, 'there is a prober');
$mon->ok('SELECT pg_reload_conf()');
log_has(qr/received SIGHUP, reloading configuration files/, 'the server has reloaded');

$mon->ok(q{SELECT resilience.create_breaker('missed')});
guarded_server('again', {%tcp}, q{, reset_timeout => '300 ms'});
$mon->ok(q{SELECT resilience.create_breaker('seen')});
trip('seen');
log_has(qr/circuit breaker "seen" is open/, 'it has seen the breakers');
is(prober(), $pid, 'a reload does not disturb it');

# it misses what happens, then dies, and its successor goes on
freeze($pid);
trip('missed');
trip('again');
sleep(0.5);
is(breaker('again', "state || ' ' || probe_total"), 'open 0', 'nobody asks');
error_is($mon->query(q{SELECT resilience.call_with_breaker('again', 'SELECT 1')}), '08R01', 'and no caller is the trial');
log_has(qr/circuit breaker "missed" is open/, 'the log tells all the same');
kill 'TERM', $pid;
thaw($pid);
wait_until('another one is there', sub { my $now = prober(); $now && $now != $pid });
wait_until('it was asked', sub { breaker('again', 'probe_total > 2') eq 't' });
wait_for_state('again', 'closed');
pass('and asks whoever has to be asked');
my $opened = () = slurp_file($node->logfile) =~ /circuit breaker "seen" is open/g;
is($opened, 1, 'it does not repeat what was told');

# A prober that stays away: callers are let through, or the breaker would
# never close.
$pid = prober();
freeze($pid);
trip('again');
error_is($mon->query(q{SELECT resilience.call_with_breaker('again', 'SELECT 1')}), '08R01', 'refused at first');
wait_until('a caller is the trial', sub { !$mon->query(q{SELECT resilience.call_with_breaker('again', 'SELECT 1')})->{error} });
$mon->ok(q{SELECT resilience.call_with_breaker('again', 'SELECT 1')}) for 1 .. 2;
is(breaker('again', 'state'), 'closed', 'and closes the breaker');
thaw($pid);
trip('again');
wait_for_state('again', 'open');
wait_for_state('again', 'closed');
pass('a prober that is back goes on');

my $log = slurp_file($node->logfile);
unlike($log, qr/(?:PANIC|TRAP|terminated by signal)/, 'nothing crashed');
unlike($log, qr/resilience prober" \(PID \d+\) exited with exit code (?!1\b)/, 'the prober only ended when it was told to');
my $ended = () = $log =~ /background worker "resilience prober" \(PID \d+\) exited/g;
is($ended, 1, 'once');

$mon->close;
$node->stop;
$remote->stop;
done_testing();
