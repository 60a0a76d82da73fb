# Who is to blame: of several servers only the one that failed, and none for
# what the server answered properly or what went wrong here.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $ra = remote_node('ra');
my $rb = remote_node('rb');
my $node = local_node('attribution');
my $mon = monitor($node);
limit_seconds(240);

for my $remote ($ra, $rb)
{
	$remote->safe_psql('postgres', q{
CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, v int);
INSERT INTO deferred VALUES (1, 1);
CREATE FUNCTION raise(state text) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = state; END$$;
CREATE VIEW syntax AS SELECT raise('42601') AS id, 1 AS v;
CREATE VIEW full_disk AS SELECT raise('53100') AS id, 1 AS v;
CREATE VIEW rejecting AS SELECT raise('08R01') AS id, 1 AS v;
CREATE VIEW broken AS SELECT raise('XX000') AS id, 1 AS v});
}
my @tables = qw(t u log slow nap5 nap60 die div deferred syntax full_disk rejecting broken missing);
add_server($mon, 'sa', $ra, tables => \@tables);
add_server($mon, 'sb', $rb, tables => \@tables);
my $settings = q{max_failures => 1000000, minimum_calls => 1000000, slow_call_duration => '1 h', probe => false};
$mon->ok($_) for (
	"SELECT resilience.create_breaker('a', 'sa', $settings)",
	"SELECT resilience.create_breaker('b', 'sb', $settings)",
	q{CREATE TABLE p (id int, v int) PARTITION BY LIST (v)},
	q{CREATE FOREIGN TABLE pa PARTITION OF p FOR VALUES IN (1) SERVER sa OPTIONS (table_name 'slow', async_capable 'true')},
	q{CREATE FOREIGN TABLE pb PARTITION OF p FOR VALUES IN (NULL) SERVER sb OPTIONS (table_name 'die', async_capable 'true')},
	q{CREATE FUNCTION caught(sql text) RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE sql; RETURN 'no error';
		EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$},
	q{CREATE FUNCTION count_a() RETURNS bigint LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN (SELECT count(*) FROM sa_t); END'});

my $control_a = connect_to($ra);
my $control_b = connect_to($rb);
my $s = connect_to($node);

# successes/failures/neither of both since the last time
my %last;
sub since
{
	my @all;

	for my $name (qw(a b))
	{
		my @now = split(/ /, breaker($mon, $name, qw(success_total failure_total ignored_total)));
		push @all, "$name " . join('/', map { $now[$_] - ($last{$name}[$_] // 0) } 0 .. 2);
		$last{$name} = \@now;
	}
	return join(' ', @all);
}

# another session's call is under way
my $under_way = 0;

# A statement ends with that SQLSTATE, and counts like that
sub counts_as
{
	my ($what, $sqlstate, $expected, $label) = @_;
	my $result = ref $what ? $what->() : $s->query($what);
	my $now = ($result->{error} ? $result->{error}{C} : 'no error') . ', ' . since();
	my $in_flight = $under_way ? 0 : $mon->value('SELECT sum(calls_in_flight) FROM resilience.breakers');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = ref $expected ? like($now, qr/^$sqlstate, $expected$/, $label) : is($now, "$sqlstate, $expected", $label);
	diag("$result->{error}{M} / " . ($result->{error}{D} // '')) if !$good && $result->{error};
	is($in_flight, 0, "$label: no call is left") if $in_flight != 0;
	return $result;
}

# End all calls of a remote's clients by FATAL
sub terminate
{
	my ($control) = @_;

	return $control->value(q{SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE application_name = 'postgres_fdw'});
}

# until a remote session does this
sub wait_remote
{
	my ($control, $condition) = @_;

	return wait_for_value($control, "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND $condition", 't');
}
my $sleeps = q{wait_event = 'PgSleep'};
since();

# What is well
counts_as('SELECT count(*) FROM sa_t', 'no error', 'a 1/0/0 b 0/0/0', 'a query');
counts_as('SELECT count(*) FROM sa_t x JOIN sb_t y USING (id) JOIN sa_u z USING (id)', 'no error', 'a 1/0/0 b 1/0/0', 'a query counts once for each server');
counts_as('SELECT * FROM sa_t LIMIT 1', 'no error', 'a 1/0/0 b 0/0/0', 'LIMIT');
counts_as('INSERT INTO sa_log SELECT * FROM sb_t', 'no error', 'a 1/0/0 b 1/0/0', 'from one to the other');
counts_as('ANALYZE sa_t', 'no error', qr{a [1-9]/0/0 b 0/0/0}, 'ANALYZE');
counts_as('TRUNCATE sa_log', 'no error', 'a 1/0/0 b 0/0/0', 'TRUNCATE');
counts_as('EXPLAIN SELECT * FROM sa_t', 'no error', 'a 0/0/0 b 0/0/0', 'EXPLAIN');
counts_as('SELECT * FROM sa_t WHERE false', 'no error', 'a 0/0/0 b 0/0/0', 'nothing to be asked');

# Errors that the server answers with
counts_as('INSERT INTO sa_t VALUES (1, 1)', '23505', 'a 1/0/0 b 0/0/0', 'constraint violation');
counts_as('SELECT * FROM sa_div', '22012', 'a 1/0/0 b 0/0/0', 'division by zero');
counts_as('SELECT * FROM sa_missing', '42P01', 'a 1/0/0 b 0/0/0', 'undefined table');
counts_as('SELECT * FROM sa_syntax', '42601', 'a 1/0/0 b 0/0/0', 'syntax error');
counts_as('SELECT * FROM sa_broken', 'XX000', 'a 1/0/0 b 0/0/0', 'internal error');
counts_as('SELECT * FROM sa_full_disk', '53100', 'a 0/1/0 b 0/0/0', 'disk full: a failure');
counts_as('SELECT * FROM sa_rejecting', '08R01', 'a 0/0/1 b 0/0/0', 'a breaker behind it');
counts_as('ANALYZE sa_missing', '42P01', qr{a [1-9]/0/0 b 0/0/0}, 'ANALYZE of a table that is not there');

# Errors here
counts_as('SELECT 1 / (v - 1) FROM sa_t WHERE random() >= 0', '22012', qr{a 1/0/0 b 0/0/0|a 0/0/1 b 0/0/0}, 'a local error over its rows');
counts_as('INSERT INTO sa_log SELECT id, 1 / (id - 500) FROM sb_t WHERE random() >= 0', '22012', qr{a ./0/. b ./0/.}, 'a local error between two servers');
$mon->ok('CREATE ROLE nobody LOGIN; REVOKE ALL ON sa_u FROM PUBLIC');
my $nobody = connect_to($node, user => 'nobody');
counts_as(sub { $nobody->query('SELECT * FROM sa_u') }, '42501', 'a 0/0/0 b 0/0/0', 'permission denied');
$nobody->close;

# Two servers, one fails
counts_as('SELECT * FROM sa_die, sb_t', '08006', qr{a 0/1/0 b ./0/.}, 'a join of both, a fails');
counts_as('SELECT * FROM sb_die, sa_t', '08006', qr{a ./0/. b 0/1/0}, 'a join of both, b fails');
counts_as('SELECT * FROM sa_t WHERE v > (SELECT max(v) FROM sb_die)', '08006', qr{a ./0/. b 0/1/0}, 'b fails while a is being asked');
counts_as('INSERT INTO sa_log SELECT * FROM sb_die', '08006', qr{a ./0/. b 0/1/0}, 'INSERT ... SELECT, b fails');
$control_a->ok('UPDATE seconds SET value = 1');
like(join("\n", map { $_->[0] } @{ $s->ok('EXPLAIN SELECT * FROM p')->{rows} }), qr/Async Foreign Scan on pb/, 'an asynchronous append');
counts_as('SELECT * FROM p', '08006', qr{a ./0/. b 0/1/0}, 'async append, b fails');
$control_a->ok('UPDATE seconds SET value = 0');

# Cancel and termination
sub interrupted
{
	my ($interrupt, $sql) = @_;
	my $session = connect_to($node);

	$session->send($sql // 'SELECT * FROM sa_nap60');
	wait_remote($control_a, $sleeps);
	is(breaker($mon, 'a', 'calls_in_flight'), 1, 'one call is under way');
	$interrupt->($session);
	my $result = $session->result;
	$session->close unless $result->{closed};
	wait_breaker($mon, 'a', 'calls_in_flight', 0);
	wait_until('the remote session has gone', sub {
		$control_a->value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND $sleeps") == 0
	});
	return $result;
}
counts_as(sub { interrupted(sub { $_[0]->cancel }) }, '57014', 'a 0/0/1 b 0/0/0', 'cancel here');
counts_as(sub { interrupted(sub { $_[0]->cancel }, 'SELECT * FROM sb_t, sa_nap60') }, '57014', qr{a 0/0/1 b ./0/.}, 'cancel here, two servers');
counts_as(sub { interrupted(sub { $mon->ok("SELECT pg_terminate_backend($_[0]{pid})") }) }, '57P01', 'a 0/0/1 b 0/0/0', 'termination here');
counts_as(sub { interrupted(sub { $control_a->ok(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'postgres_fdw'}) }) },
	'57014', 'a 1/0/0 b 0/0/0', 'cancel there');
counts_as(sub { interrupted(sub { terminate($control_a) }) }, '08006', 'a 0/1/0 b 0/0/0', 'termination there');
is(breaker($mon, 'a', 'last_sqlstate'), '08006', 'is what was seen last');

# Timeouts of statements
$s->ok(q{SET statement_timeout = '300 ms'});
counts_as('SELECT * FROM sa_nap60', '57014', 'a 0/0/1 b 0/0/0', 'statement_timeout here');
$mon->ok(q{SELECT resilience.alter_breaker('a', slow_call_duration => '100 ms')});
counts_as('SELECT * FROM sa_nap60', '57014', 'a 0/1/0 b 0/0/0', 'statement_timeout here, longer than the administrator thinks is right');
counts_as('SELECT * FROM sb_nap60', '57014', 'a 0/0/0 b 0/0/1', 'only there');
$mon->ok(q{SELECT resilience.alter_breaker('a', slow_call_duration => '1 h')});
$s->ok('RESET statement_timeout');
$s->ok('SELECT postgres_fdw_disconnect_all()');
$control_a->ok(q{ALTER DATABASE postgres SET statement_timeout = '300 ms'});
counts_as('SELECT * FROM sa_nap60', '57014', 'a 1/0/0 b 0/0/0', 'statement_timeout there');
$control_a->ok('ALTER DATABASE postgres RESET statement_timeout');
$s->ok('SELECT postgres_fdw_disconnect_all()');

# Lost connections
$s->ok('SELECT count(*) FROM sa_t');
since();
terminate($control_a);
counts_as('SELECT count(*) FROM sa_t', 'no error', 'a 1/0/0 b 0/0/0', 'a lost idle connection is made anew');
$s->ok('BEGIN; SELECT count(*) FROM sa_t; SELECT count(*) FROM sb_t');
since();
terminate($control_a);
counts_as('SELECT count(*) FROM sa_t', '08006', 'a 0/1/0 b 0/0/0', 'within a transaction it is a failure');
counts_as('ROLLBACK', 'no error', 'a 0/0/0 b 0/0/0', 'its ROLLBACK is none');
$s->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM sa_t; FETCH 10 FROM c');
terminate($control_a);
since();
counts_as('FETCH 200 FROM c', '08006', 'a 0/1/0 b 0/0/0', 'between two fetches');
$s->ok('ROLLBACK');

# Caught errors.  postgres_fdw refuses to commit what has lost its remote
# part, which is not another failure.
counts_as(q{SELECT caught('SELECT * FROM sa_die')}, '08000', 'a 0/1/0 b 0/0/0', 'a caught failure');
counts_as(q{SELECT caught('SELECT * FROM sa_div')}, 'no error', 'a 1/0/0 b 0/0/0', 'a caught error');
is(counts_as(q{SELECT caught('SELECT * FROM sa_div') || caught('INSERT INTO sb_t VALUES (1, 1)') || caught('SELECT * FROM sa_missing')},
	'no error', 'a 2/0/0 b 1/0/0', 'three of them')->{rows}[0][0], '220122350542P01', 'as they were');
counts_as(q{SELECT caught('SELECT * FROM sb_die') || caught('SELECT count(*) FROM sa_t') || (SELECT count(*) FROM sa_t)},
	'08000', qr{a [12]/0/0 b 0/1/0}, 'a caught failure, and another server');

# The transaction goes on after what was caught
counts_as(q{BEGIN; INSERT INTO sa_log VALUES (1, 1); SAVEPOINT s; SELECT * FROM sa_div}, '22012', 'a 2/0/0 b 0/0/0', 'an error after a savepoint');
counts_as(q{ROLLBACK TO s; INSERT INTO sa_log VALUES (2, 2); RELEASE s; COMMIT}, 'no error', 'a 1/0/0 b 0/0/0', 'and on it goes');
is($s->value('SELECT count(*) FROM sa_log'), 2, 'with both rows');
since();

# The end of the remote transaction
for my $which ([ $control_a, 'a 0/1/0 b 0/0/0', 'a' ], [ $control_b, 'a 0/0/0 b 0/1/0', 'b' ])
{
	my ($control, $expected, $name) = @$which;

	$s->ok('BEGIN; INSERT INTO sa_log VALUES (3, 3); INSERT INTO sb_log VALUES (3, 3)');
	terminate($control);
	since();
	counts_as('COMMIT', '08006', $expected, "lost before COMMIT: $name of two");

	$s->ok('BEGIN; SELECT count(*) FROM sa_t; SELECT count(*) FROM sb_t');
	terminate($control);
	since();
	counts_as('COMMIT', '08006', $expected, "lost before COMMIT of a reader: $name of two");

	$s->ok("BEGIN; INSERT INTO s${name}_log VALUES (3, 3)");
	terminate($control);
	since();
	counts_as('COMMIT', '08006', $expected, "lost before COMMIT: $name alone");

	$s->ok('BEGIN; INSERT INTO sa_log VALUES (3, 3); INSERT INTO sb_log VALUES (3, 3)');
	terminate($control);
	since();
	counts_as('ROLLBACK', 'no error', 'a 0/0/0 b 0/0/0', "lost before ROLLBACK: $name");

	$s->ok('BEGIN; SELECT count(*) FROM sa_t; SELECT count(*) FROM sb_t; SAVEPOINT s');
	$s->ok('INSERT INTO sa_log VALUES (3, 3); INSERT INTO sb_log VALUES (3, 3)');
	terminate($control);
	since();
	counts_as('RELEASE s', '08006', $expected, "lost before RELEASE: $name");
	$s->ok('ROLLBACK');
	since();
}
add_server($mon, 'su', $ra, tables => ['log']);
$s->ok('BEGIN; INSERT INTO su_log VALUES (3, 3); INSERT INTO sb_log VALUES (3, 3)');
terminate($control_a);
since();
counts_as('COMMIT', '08006', 'a 0/0/0 b 0/0/0', 'lost before COMMIT: a server without a breaker');
is($s->ok(q{DO $$DECLARE r record; BEGIN FOR r IN SELECT * FROM sa_t LIMIT 20 LOOP INSERT INTO sb_log VALUES (r.id, 0); COMMIT; END LOOP; END$$})->{tags}[0], 'DO', 'COMMIT in a loop over its rows');
is(since(), 'a 1/0/0 b 20/0/0', 'counts each statement');
counts_as(q{INSERT INTO sa_deferred VALUES (1, 2)}, '23505', 'a 1/0/0 b 0/0/0', 'a deferred constraint, in one statement');
$s->ok('BEGIN; INSERT INTO sb_deferred VALUES (1, 2); SELECT count(*) FROM sa_t');
since();
counts_as('COMMIT', '23505', 'a 0/0/0 b 0/0/0', 'a deferred constraint at COMMIT');
$s->ok('BEGIN; INSERT INTO sa_log VALUES (4, 4)');
since();
counts_as(q{PREPARE TRANSACTION 'x'}, '0A000', 'a 0/0/0 b 0/0/0', 'PREPARE TRANSACTION, which postgres_fdw cannot do');
counts_as('SELECT count(*) FROM sa_t x JOIN sb_t y USING (id)', 'no error', 'a 1/0/0 b 1/0/0', 'the session is fine');

# The rejection by one breaker is nobody's failure
$mon->ok(q{SELECT resilience.force_breaker('b', 'open')});
counts_as('SELECT * FROM sa_t, sb_t', '08R01', qr{a ./0/. b 0/0/0}, 'rejected by b, in a join with a');
counts_as('SELECT * FROM sa_t WHERE v > (SELECT max(v) FROM sb_t)', '08R01', qr{a ./0/. b 0/0/0}, 'rejected by b, while a is being asked');
counts_as(q{SELECT caught('SELECT * FROM sb_t') || caught('SELECT * FROM sa_die')}, '08000', 'a 0/1/0 b 0/0/0', 'a failure of a after that');
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});
since();

# Calls within calls, and how many at once
$mon->ok(q{SELECT resilience.alter_breaker('a', max_concurrent_calls => 1)});
is(counts_as('SELECT sum(count_a()) FROM (SELECT * FROM sa_u LIMIT 5) x', 'no error', 'a 6/0/0 b 0/0/0', 'functions on the same server in its rows')->{rows}[0][0],
	5000, 'do not keep each other out');
counts_as('SELECT count(*) FROM sa_t x, sa_u y, sa_log z WHERE x.id = y.v + random()', 'no error', 'a 1/0/0 b 0/0/0', 'nor do the tables of a query');
my $other = connect_to($node);
$other->send('SELECT * FROM sa_nap5');
wait_remote($control_a, $sleeps);
$under_way = 1;
my $result = counts_as('SELECT * FROM sa_t', '53R01', 'a 0/0/0 b 0/0/0', 'another session is kept out');
is(detail_of($result, 'limit'), 1, 'by the limit');
is(detail_of($result, 'running'), 1, 'which is reached');
is(detail_of($result, 'started'), 'false', 'before anything has begun');
like($result->{error}{M}, qr/"a"/, 'the breaker is named');
counts_as('SELECT count(*) FROM sb_t', 'no error', 'a 0/0/0 b 1/0/0', 'another server is free');
breaker_is($mon, 'a', 'calls_in_flight rejected_full_total state', '1 1 closed', 'while it runs');
$under_way = 0;
$other->cancel;
error_is($other->result, '57014', 'the other session is cancelled');
since();
counts_as('SELECT count(*) FROM sa_t', 'no error', 'a 1/0/0 b 0/0/0', 'then there is room');
$mon->ok(q{SELECT resilience.alter_breaker('a', max_concurrent_calls => 0)});
counts_as('SELECT count(*) FROM sa_t', '53R01', 'a 0/0/0 b 0/0/0', 'a limit of none');
$mon->ok(q{SELECT resilience.alter_breaker('a', max_concurrent_calls => -1)});
$other->close;

# Which errors count is for the administrator to say
$mon->ok(q{SELECT resilience.alter_breaker('a', ignored_sqlstates => '{08006,53}')});
counts_as('SELECT * FROM sa_die', '08006', 'a 1/0/0 b 0/0/0', 'an ignored SQLSTATE');
counts_as('SELECT * FROM sa_full_disk', '53100', 'a 1/0/0 b 0/0/0', 'an ignored class');
$mon->ok(q{SELECT resilience.alter_breaker('a', ignored_sqlstates => '{}', recorded_sqlstates => '{22012}')});
counts_as('SELECT * FROM sa_div', '22012', 'a 0/1/0 b 0/0/0', 'a recorded SQLSTATE');
counts_as('SELECT * FROM sa_die', '08006', 'a 1/0/0 b 0/0/0', 'others are not then');
$mon->ok(q{SELECT resilience.drop_breaker('a')});
$mon->ok("SELECT resilience.create_breaker('a', 'sa', $settings)");
delete $last{a};
counts_as('SELECT * FROM sa_div', '22012', 'a 1/0/0 b 0/0/0', 'as it was');

# The server is stopped in the middle of a call
for my $mode (qw(immediate fast))
{
	my $session = connect_to($node);

	$session->send('SELECT * FROM sb_t, sa_nap60');
	wait_remote($control_a, $sleeps);
	$ra->stop($mode);
	counts_as(sub { $session->result }, '08006', qr{a 0/1/0 b ./0/.}, "stop -m $mode");
	counts_as(sub { $session->query('SELECT * FROM sa_t') }, '08001', 'a 0/1/0 b 0/0/0', 'connection refused');
	counts_as('SELECT * FROM sb_t, sa_t', '08001', qr{a 0/1/0 b ./0/.}, 'in another session');
	counts_as('UPDATE sa_t SET v = v', '08001', 'a 0/1/0 b 0/0/0', 'UPDATE');
	counts_as('INSERT INTO sa_log VALUES (1, 1)', '08001', 'a 0/1/0 b 0/0/0', 'INSERT');
	counts_as('TRUNCATE sa_log', '08001', 'a 0/1/0 b 0/0/0', 'TRUNCATE');
	counts_as('ANALYZE sa_t', '08001', 'a 0/1/0 b 0/0/0', 'ANALYZE');
	counts_as('IMPORT FOREIGN SCHEMA public FROM SERVER sa INTO public', '08001', 'a 0/1/0 b 0/0/0', 'IMPORT');
	counts_as('EXPLAIN SELECT * FROM sa_t', 'no error', 'a 0/0/0 b 0/0/0', 'EXPLAIN');
	$mon->ok('ALTER FOREIGN TABLE sa_t OPTIONS (ADD use_remote_estimate $$true$$)');
	counts_as('EXPLAIN SELECT * FROM sa_t', '08001', 'a 0/1/0 b 0/0/0', 'EXPLAIN with use_remote_estimate');
	$mon->ok('ALTER FOREIGN TABLE sa_t OPTIONS (DROP use_remote_estimate)');
	counts_as(q{SELECT caught('SELECT * FROM sa_t') || caught('SELECT * FROM sa_t')}, 'no error', 'a 0/2/0 b 0/0/0', 'caught twice');
	$ra->start;
	$control_a = connect_to($ra);
	counts_as('SELECT count(*) FROM sa_t', 'no error', 'a 1/0/0 b 0/0/0', 'started again');
	$session->close;
}

# What cannot be reached, and who is not let in
$ra->safe_psql('postgres', q{CREATE ROLE secret LOGIN PASSWORD 'right'; CREATE ROLE banned NOLOGIN; GRANT ALL ON t TO secret});
my $hba = slurp_file($ra->data_dir . '/pg_hba.conf');
unlink($ra->data_dir . '/pg_hba.conf');
$ra->append_conf('pg_hba.conf', "local all secret scram-sha-256\n$hba");
$ra->reload;
wait_until('the password is wanted', sub {
	my ($rc, $out, $err) = $ra->psql('postgres', 'SELECT 1', connstr => $ra->connstr('postgres') . ' user=secret password=wrong');
	return $rc != 0;
});
my %servers = (
	badpass => { mapping => q{user 'secret', password 'wrong', password_required 'false'} },
	goodpass => { mapping => q{user 'secret', password 'right', password_required 'false'} },
	nologin => { mapping => q{user 'banned', password_required 'false'} },
	norole => { mapping => q{user 'who', password_required 'false'} },
	nohost => { host => 'no-such-host.invalid', options => q{connect_timeout '5'} },
	nosocket => { host => '/nonexistent' });
add_server($mon, $_, $ra, tables => ['t'], %{ $servers{$_} }) for keys %servers;
$mon->ok("SELECT resilience.create_breaker('$_', '$_', $settings)") for keys %servers;
sub outcome
{
	my ($name) = @_;
	my $error = $s->query("SELECT count(*) FROM ${name}_t")->{error};

	return ($error ? $error->{C} : 'ok') . ' ' . breaker($mon, $name, qw(success_total failure_total ignored_total last_sqlstate));
}
is(outcome('goodpass'), 'ok 1 0 0 NULL', 'the right password');
is(outcome('badpass'), '08001 0 1 0 28P01', 'the wrong one is a failure');
is(outcome('nologin'), '08001 0 1 0 28000', 'a role that must not log in');
is(outcome('norole'), '08001 0 1 0 28000', 'an unknown role');
is(outcome('nohost'), '08001 0 1 0 08001', 'an unknown host');
is(outcome('nosocket'), '08001 0 1 0 08001', 'no socket');
$mon->ok(q{SELECT resilience.alter_breaker('badpass', ignored_sqlstates => '{28}')});
$mon->ok(q{SELECT resilience.alter_breaker('norole', ignored_sqlstates => '{28P01,28000}')});
is(outcome('badpass'), '08001 1 1 0 28P01', 'the wrong password, ignored by its class');
is(outcome('norole'), '08001 1 1 0 28000', 'an unknown role, ignored by its SQLSTATE');
$mon->ok(q{SELECT resilience.alter_breaker('nohost', ignored_sqlstates => '{28}')});
is(outcome('nohost'), '08001 0 2 0 08001', 'an unknown host is still a failure');

# The server is full, or starting
$ra->append_conf('postgresql.conf', "max_connections = 5\nsuperuser_reserved_connections = 1");
$control_a->close;
$s->close;
$ra->restart;
$s = connect_to($node);
my @full = map { connect_to($ra) } 1 .. 5;
since();
counts_as('SELECT count(*) FROM sa_t', '08001', 'a 0/1/0 b 0/0/0', 'the server is full');
breaker_is($mon, 'a', 'last_sqlstate', '53300', 'which can be seen');
$_->close for @full;

wait_until('the server has room', sub { !$s->query('SELECT count(*) FROM sa_t')->{error} });
is($mon->value('SELECT count(*) FROM resilience.breakers WHERE state <> $$closed$$ OR calls_in_flight <> 0'), 0, 'all are closed, and no call is under way');
$s->close;
all_zero($mon, 'at the end');
done_testing();
