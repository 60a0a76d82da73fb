# What each kind of health check looks at: healthy, degraded, unhealthy, and
# cut off at its timeout.  By run_health_check(): no worker is needed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest qw(freeze thaw postmaster_children);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('local', roles => [qw(app granted)], conf => q(
max_connections = 20
superuser_reserved_connections = 3
wal_level = logical
archive_mode = on
archive_command = 'true'
));
limit_seconds(300);
my $mon = monitor($node);
$mon->ok($_) for ('CREATE EXTENSION postgres_fdw', 'CREATE TABLE t (id int)');

# A check that nobody runs but us
sub check
{
	my ($name, $arguments) = @_;

	$mon->ok("SELECT resilience.create_health_check('$name', $arguments, enabled => false)");
	return;
}

# What a run finds now: status, message, value
sub found
{
	my ($name, $session) = @_;

	return @{ ($session // $mon)->ok("SELECT status, message, value FROM resilience.run_health_check('$name')")->{rows}[0] };
}

sub found_is
{
	my ($name, $status, $message, $label) = @_;
	my ($got_status, $got_message, $value) = found($name);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got_status, $status, $label) || diag($got_message);
	like($got_message // '', $message, "$label: it says so");
	return $value;
}

# Run it until it finds this
sub wait_found
{
	my ($name, $status, $message, $label) = @_;

	wait_until($label, sub {
		my ($got_status, $got_message) = found($name);
		return $got_status eq $status && ($got_message // '') =~ $message;
	});
	pass($label);
	return;
}

# Set thresholds that make what is there healthy, degraded or unhealthy, so
# that no state passes before somebody looks.
sub judge_as
{
	my ($name, $status) = @_;
	my ($warning, $critical) = $status eq 'healthy' ? (1e6, 1e6) : $status eq 'degraded' ? (0.2, 1e6) : (0.2, 0.4);

	$mon->ok("SELECT resilience.alter_health_check('$name', warning_threshold => $warning, critical_threshold => $critical)");
	return;
}

# connections: 17 are there for those that are no superusers
{
	check('connections', q('connections'));
	my $value = found_is('connections', 'healthy', qr/^1 of 17 connections are in use$/, 'few connections');
	ok(abs($value - 1 / 17) < 1e-9, 'the value is a share');
	my @clients = map { connect_to($node, user => 'app') } 1 .. 13;
	found_is('connections', 'degraded', qr/^14 of 17 /, 'four fifths of the connections');
	push @clients, map { connect_to($node) } 1 .. 4;
	$value = found_is('connections', 'unhealthy', qr/^18 of 17 /, 'more than there are for ordinary users');
	is($value, 1, 'at most 1');
	$_->close for @clients;
	wait_found('connections', 'healthy', qr/^1 of 17 /, 'they have left');
}

# lock_waits
{
	check('locks', q('lock_waits'));
	judge_as('locks', 'healthy');
	found_is('locks', 'healthy', qr/^nobody waits for a lock$/, 'no lock wait');
	my $holder = connect_to($node);
	my @waiters = map { connect_to($node) } 1 .. 2;
	$holder->ok('BEGIN; LOCK t');
	$_->send('LOCK t') for @waiters;
	$_->send('BEGIN; LOCK t; COMMIT') for @waiters;
	wait_found('locks', 'healthy', qr/^pid \d+ has waited for a lock for [\d.]+ s; 2 wait$/, 'a short wait is healthy');
	judge_as('locks', 'degraded');
	wait_found('locks', 'degraded', qr/ behind pid (?:$holder->{pid}|$waiters[0]{pid})\b/, 'a longer one is not');
	judge_as('locks', 'unhealthy');
	wait_found('locks', 'unhealthy', qr/, behind pid $holder->{pid}.*; 2 wait$/, 'a long one is unhealthy');
	$holder->ok(q(PREPARE TRANSACTION 'holds'));
	wait_found('locks', 'unhealthy', qr/, behind a prepared transaction; 2 wait$/, 'behind a prepared transaction');
	$mon->ok(q(ROLLBACK PREPARED 'holds'));
	$_->result for @waiters;
	wait_found('locks', 'healthy', qr/^nobody/, 'it has got the lock');
	$_->close for ($holder, @waiters);
}

# long_transactions
{
	check('long', q('long_transactions'));
	judge_as('long', 'healthy');
	wait_found('long', 'healthy', qr/^no transaction is open$/, 'no transaction');
	my $idle = connect_to($node);
	$idle->ok('BEGIN; SELECT 1 AS not_for_others');
	found_is('long', 'healthy', qr/^the oldest is [\d.]+ s, pid $idle->{pid} \(idle in transaction\)$/, 'a short transaction');
	judge_as('long', 'degraded');
	wait_found('long', 'degraded', qr/pid $idle->{pid} /, 'a longer one');
	judge_as('long', 'unhealthy');
	wait_found('long', 'unhealthy', qr/pid $idle->{pid} /, 'a long one');
	unlike((found('long'))[1], qr/not_for_others/, 'no text of its statement');
	$idle->ok(q(INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left behind'));
	wait_found('long', 'unhealthy', qr/prepared transaction "left behind"$/, 'a prepared transaction');
	$mon->ok(q(ROLLBACK PREPARED 'left behind'));
	wait_found('long', 'healthy', qr/^no transaction/, 'it has ended');
	$idle->close;

	# the horizon of a slot counts since ids have passed it
	$mon->ok(q(SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')));
	found_is('long', 'healthy', qr/^the oldest is 0\.0 s, the horizon of replication slot "forgotten"$/, 'a slot that holds back nothing');
	for my $status (qw(degraded unhealthy))
	{
		judge_as('long', $status);
		wait_until("the slot is $status", sub {
			$mon->ok('INSERT INTO t VALUES (1)');
			return (found('long'))[0] eq $status;
		});
		like((found('long'))[1], qr/replication slot "forgotten"$/, "a slot that holds back the horizon: $status");
	}
	$mon->ok(q(SELECT pg_drop_replication_slot('forgotten')));
	found_is('long', 'healthy', qr/^no transaction/, 'it is gone');
}

# xid_age: databases as old as they get
{
	check('xids', q('xid_age'));
	found_is('xids', 'healthy', qr/^the oldest transaction id is \d+ ids old, in database "/, 'young databases');
	$mon->ok('CREATE DATABASE neglected');
	my $set = sub {
		my ($column, $age) = @_;
		my $next = $column eq 'datfrozenxid' ? 'age(datfrozenxid)::int8 + datfrozenxid::text::int8'
		  : 'mxid_age(datminmxid)::int8 + datminmxid::text::int8';
		$mon->ok("UPDATE pg_database SET $column = ((($next) - $age + 4294967296) % 4294967296)::text::xid WHERE datname = 'neglected'");
	};
	my ($frozen, $minmulti) = @{ $mon->ok(q(SELECT datfrozenxid, datminmxid FROM pg_database WHERE datname = 'neglected'))->{rows}[0] };
	$set->('datfrozenxid', 1_200_000_000);
	my $value = found_is('xids', 'degraded', qr/^the oldest transaction id is 12\d{8} ids old, in database "neglected"$/, 'a database that vacuum neglects');
	ok($value > 0.55 && $value < 0.57, 'a share of 2^31');
	$set->('datminmxid', 1_700_000_000);
	found_is('xids', 'unhealthy', qr/^the oldest multixact is 17\d{8} ids old, in database "neglected"$/, 'multixacts count, too');
	$mon->ok("UPDATE pg_database SET datfrozenxid = '$frozen', datminmxid = '$minmulti' WHERE datname = 'neglected'");
	found_is('xids', 'healthy', qr/^the oldest/, 'vacuumed');
}

# replication_slots, on a server without standbys: see 088
{
	check('slots', q('replication_slots', warning_threshold => 1000000, critical_threshold => 60000000));
	check('slot', q('replication_slots', target => 'a'));
	found_is('slots', 'healthy', qr/^there are no replication slots$/, 'no slots');
	found_is('slot', 'unhealthy', qr/^replication slot "a" does not exist$/, 'a slot that is missing');
	$mon->ok(q(SELECT pg_create_physical_replication_slot('a', true), pg_create_physical_replication_slot('b', true)));
	found_is('slot', 'healthy', qr/^replication slot "a" \(inactive\) holds back \d+ (?:bytes|kB)$/, 'it is there');
	$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)');
	found_is('slots', 'degraded', qr/^replication slot "[ab]" \(inactive\) holds back \d+ (?:kB|MB), 1 other inactive$/, 'they hold back WAL');
	$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)') for 1 .. 4;
	found_is('slots', 'unhealthy', qr/holds back \d+ MB/, 'much WAL');
	set_conf($mon, max_slot_wal_keep_size => '1');
	$mon->ok('CHECKPOINT');
	found_is('slot', 'unhealthy', qr/^replication slot "a" \(inactive\) has lost WAL that it needs$/, 'it has lost WAL');
	found_is('slots', 'unhealthy', qr/has lost WAL/, 'the worst of all');
	set_conf($mon, max_slot_wal_keep_size => undef);
	$mon->ok(q(SELECT pg_drop_replication_slot('a'), pg_drop_replication_slot('b')));
}

# archiver
{
	check('archiver', q('archiver'));
	judge_as('archiver', 'degraded');
	$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)');
	wait_found('archiver', 'healthy', qr/^nothing waits to be archived$/, 'archiving works');
	set_conf($mon, archive_command => 'false');
	$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)');
	wait_found('archiver', 'degraded', qr/^\d segments? waits? to be archived, for [\d.]+ s/, 'a segment waits');
	judge_as('archiver', 'unhealthy');
	wait_found('archiver', 'unhealthy', qr/^1 segment waits to be archived, for .*; the last attempt failed$/, 'it fails');
	$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)');
	wait_found('archiver', 'unhealthy', qr/^2 segments wait to be archived/, 'two segments');
	set_conf($mon, archive_command => 'true');
	wait_found('archiver', 'healthy', qr/^nothing waits/, 'it works again');
}

# disk_free
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	check('disks', q('disk_free', warning_threshold => 0, critical_threshold => 0));
	my $value = found_is('disks', 'healthy', qr/^[\d.]+ % free \(\d+ [kMG]?B(?:ytes)? of \d+ [kMG]B\): (?:the data directory|pg_wal)$/, 'disks');
	ok($value >= 0 && $value <= 1, 'the value is a share');
	$mon->ok(q(SELECT resilience.alter_health_check('disks', warning_threshold => 1)));
	found_is('disks', 'degraded', qr/% free/, 'less than the warning threshold');
	$mon->ok(q(SELECT resilience.alter_health_check('disks', critical_threshold => 1)));
	found_is('disks', 'unhealthy', qr/% free/, 'less than the critical threshold');

	$mon->ok("CREATE TABLESPACE space LOCATION '$dir'");
	check('tablespace', q('disk_free', target => 'space', warning_threshold => 0, critical_threshold => 0));
	found_is('tablespace', 'healthy', qr/: tablespace "space"$/, 'a tablespace');
	$mon->ok('DROP TABLESPACE space');
	found_is('tablespace', 'unhealthy', qr/^tablespace "space" does not exist$/, 'that was dropped');
	check('path', "'disk_free', target => '/', warning_threshold => 0, critical_threshold => 0");
	found_is('path', 'healthy', qr/: "\/"$/, 'a path');
	check('nowhere', "'disk_free', target => '/nowhere/at/all'");
	found_is('nowhere', 'unhealthy', qr/^could not look at "\/nowhere\/at\/all": /, 'a path that is not there');

	# who may look where
	$mon->ok('GRANT EXECUTE ON FUNCTION resilience.create_health_check TO granted');
	my $granted = connect_to($node, user => 'granted');
	my $data = $node->data_dir;
	for my $path ('/', "$data/..", "$data/base/../..", "${data}x")
	{
		next if length $path > 63;
		error_is($granted->query("SELECT resilience.create_health_check('theirs', 'disk_free', target => '$path')"), '42501',
			"a path outside is not for everybody: $path");
	}
  SKIP:
	{
		skip 'the data directory has a long path', 1 if length "$data/base" > 63;
		ok(!$granted->query("SELECT resilience.create_health_check('theirs', 'disk_free', target => '$data/base', enabled => false)")->{error},
			'one inside is');
	}
	$mon->ok('GRANT pg_read_server_files TO granted');
	ok(!$granted->query(q(SELECT resilience.create_health_check('root', 'disk_free', target => '/', enabled => false)))->{error},
		'nor for those who may read files');
	$granted->close;
}

# load
{
	check('load', q('load', warning_threshold => 1e5, critical_threshold => 1e6));
	my $value = found_is('load', 'healthy', qr/^[\d.]+ runnable on \d+ cores?/, 'load');
	check('spinning', q('load', warning_threshold => 1.2, critical_threshold => 1e6));
	my $ncores = () = PostgreSQL::Test::Utils::slurp_file('/proc/cpuinfo') =~ /^processor/mg;
	my @busy = map { connect_to($node) } 1 .. ($ncores <= 5 ? 2 * $ncores : 0);
  SKIP:
	{
		skip 'too many cores to keep busy', 1 if !@busy;
		$_->send('DO $$ BEGIN LOOP END LOOP; END $$') for @busy;
		wait_found('spinning', 'degraded', qr/runnable/, 'twice as many spin as there are cores');
		$_->cancel for @busy;
		$_->result for @busy;
		$_->close for @busy;
	}
	$mon->ok(q(SELECT resilience.alter_health_check('load', warning_threshold => 0, critical_threshold => 0)));
	found_is('load', 'unhealthy', qr/runnable/, 'the critical threshold');
}

# foreign_server
my $remote = PostgreSQL::Test::Cluster->new('remote');
$remote->init;
$remote->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nautovacuum = off\n");
{
	my $hba = slurp_file($remote->data_dir . '/pg_hba.conf');
	unlink $remote->data_dir . '/pg_hba.conf';
	append_to_file($remote->data_dir . '/pg_hba.conf',
		"host postgres resilience_probe 127.0.0.1/32 trust\nhost scram all 127.0.0.1/32 scram-sha-256\n$hba");
	$remote->start;
	$remote->safe_psql('postgres', $_) for ('CREATE ROLE resilience_probe LOGIN', 'CREATE DATABASE scram');

	my $port = $remote->port;
	for my $server ([ open => 'postgres' ], [ scram => 'scram' ], [ rejected => 'rejected' ])
	{
		my ($name, $dbname) = @$server;
		$mon->ok("CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS (hostaddr '127.0.0.1', port '$port', dbname '$dbname')");
		check($name, "'foreign_server', target => '$name', timeout => '5 s', warning_threshold => 4000");
	}
	my $value = found_is('open', 'healthy', qr/^alive after [\d.]+ ms$/, 'a server that answers');
	ok($value > 0 && $value < 5000, 'the value is in milliseconds');
	found_is('scram', 'healthy', qr/^alive: password required after/, 'one that wants a password');
	found_is('rejected', 'healthy', qr/^alive: FATAL \S+ after/, 'one that lets nobody in');
	$mon->ok(q(SELECT resilience.alter_health_check('open', warning_threshold => 0)));
	found_is('open', 'degraded', qr/^alive after/, 'one that takes longer than the warning threshold');
	$mon->ok(q(SELECT resilience.alter_health_check('open', critical_threshold => 0)));
	found_is('open', 'unhealthy', qr/^alive after/, 'one that takes longer than the critical threshold');
	$mon->ok(q(SELECT resilience.alter_health_check('open', warning_threshold => 4000, critical_threshold => 5000)));

	# nothing is left of it
	my $session = connect_to($node);
	$session->ok(q(SELECT resilience.run_health_check('open')));
	my $sockets = sub { return scalar grep { (readlink($_) // '') =~ /^socket:/ } glob("/proc/$session->{pid}/fd/*") };
	my $before = $sockets->();
	$session->ok(q(SELECT resilience.run_health_check('open'), resilience.run_health_check('scram') FROM generate_series(1, 50)));
	is($sockets->(), $before, 'no socket stays open');

	# one that hangs: cut off, by the check's timeout, by the session's, by a cancel
	my @processes = ($remote->{_pid}, postmaster_children($remote));
	freeze(@processes);
	$session->ok(q(SELECT resilience.alter_health_check('open', timeout => '300 ms', warning_threshold => 100, critical_threshold => 200)));
	my $start = time();
	my ($status, $message, $ms) = found('open', $session);
	is("$status $message", 'unhealthy timed out after 300 ms', 'a server that hangs');
	ok(time() - $start < 3, 'cut off at the timeout');
	$session->ok(q(SELECT resilience.alter_health_check('open', check_interval => '10 min', timeout => '5 min')));
	error_is($session->query(q(SET statement_timeout = '200 ms'; SELECT resilience.run_health_check('open'))), '57014',
		"the session's own timeout is no result of the check");
	$session->ok('RESET statement_timeout');
	$session->send(q(SELECT resilience.run_health_check('open')));
	wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid} AND wait_event_type = 'Extension'", 1);
	$session->cancel;
	error_is($session->result, '57014', 'nor is a cancel');
	is($sockets->(), $before, 'no socket stays open');
	$session->ok(q(SELECT resilience.alter_health_check('open', check_interval => '10 s', timeout => '5 s')));
	thaw(@processes);
	wait_until('it answers again', sub { (found('open'))[1] =~ /^alive/ });

	$remote->stop;
	found_is('open', 'unhealthy', qr/^foreign server "open": refused$/, 'one that is not there');
	$mon->ok('DROP SERVER open');
	found_is('open', 'unhealthy', qr/^server "open" does not exist$/, 'one that was dropped');
	$session->close;
}

# sql: who catches the cancel does not pass for one who was in time; and the
# session goes on, with no cancel left behind
{
	$mon->ok(q(CREATE FUNCTION public.stubborn() RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_sleep(1000); RETURN true; EXCEPTION WHEN query_canceled THEN RETURN true; END $$));
	check('stubborn', q(query => 'SELECT public.stubborn()', timeout => '100 ms'));
	found_is('stubborn', 'unhealthy', qr/^timed out after 100 ms$/, 'a function that catches the cancel');
	check('parallel', q(query => 'SELECT count(*) = 0 FROM public.t a, public.t b WHERE a.id > b.id + 1', timeout => '9 s'));
	found_is('parallel', 'healthy', qr/^$/, 'a query of two tables');

	my $session = connect_to($node);
	check('sleeps', q(query => 'SELECT pg_sleep(1000) IS NULL', timeout => '9 s'));
	$session->ok('BEGIN; INSERT INTO t VALUES (1)');
	$session->send(q(SELECT resilience.run_health_check('sleeps')));
	wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid} AND wait_event = 'PgSleep'", 1);
	$session->cancel;
	error_is($session->result, '57014', 'a cancel while a query runs');
	$session->ok('ROLLBACK');
	is($session->value('SELECT 1'), 1, 'the session goes on');
	$session->ok(q(SELECT resilience.alter_health_check('sleeps', timeout => '50 ms')));
	for (1 .. 20)
	{
		my ($status) = found('sleeps', $session);
		is($status, 'unhealthy', 'timed out') if $_ == 20;
		$session->ok('SELECT pg_sleep(0.001)');
	}
	$session->send(q(SELECT resilience.alter_health_check('sleeps', timeout => '9 s'); SELECT resilience.run_health_check('sleeps')));
	wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid} AND wait_event = 'PgSleep'", 1);
	$mon->ok("SELECT pg_terminate_backend($session->{pid})");
	is($session->result->{error}{C}, '57P01', 'terminated while a query runs');
	is((found('parallel'))[0], 'healthy', 'nobody else minds');
}

$mon->close;
$node->stop;
done_testing();
