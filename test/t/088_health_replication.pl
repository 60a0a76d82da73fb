# Health checks of replication, on a primary and on its standby: lag, slots,
# horizons, archiving; the same definitions are in force on both.

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

my $primary = preloaded_node('primary', init => [ allows_streaming => 1 ], conf => q(
archive_mode = on
archive_command = 'true'
wal_sender_timeout = 0
));
limit_seconds(300);
my $mon = monitor($primary);
$mon->ok('CREATE TABLE t (id int)');
$mon->ok("SELECT resilience.create_health_check($_, enabled => false)") for (
	q('lag', 'replication_lag', warning_threshold => 0.5, critical_threshold => 1.5),
	q('little lag', 'replication_lag', warning_threshold => 0.5, critical_threshold => 1e6),
	q('lag of berlin', 'replication_lag', target => 'berlin', warning_threshold => 0.5, critical_threshold => 1.5),
	q('lag of paris', 'replication_lag', target => 'paris'),
	q('slots', 'replication_slots', warning_threshold => 20000000, critical_threshold => 60000000),
	q('slot', 'replication_slots', target => 'berlin_slot'),
	q('long', 'long_transactions', warning_threshold => 0.3, critical_threshold => 0.9),
	q('sql', query => 'SELECT pg_is_in_recovery()'),
	q('archiver', 'archiver'), q('xids', 'xid_age'), q('connections', 'connections'), q('disks', 'disk_free'),
	q('waits', 'lock_waits'));

# What a run finds now: status, message, value
sub found
{
	my ($session, $name) = @_;

	return @{ $session->ok("SELECT status, message, value FROM resilience.run_health_check('$name')")->{rows}[0] };
}

sub found_is
{
	my ($session, $name, $status, $message, $label) = @_;
	my ($got_status, $got_message, $value) = found($session, $name);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got_status, $status, $label) || diag($got_message);
	like($got_message // '', $message, "$label: it says so");
	return $value;
}

sub wait_found
{
	my ($session, $name, $status, $message, $label, $meanwhile) = @_;

	wait_until($label, sub {
		$meanwhile->() if $meanwhile;
		my ($got_status, $got_message) = found($session, $name);
		return $got_status eq $status && ($got_message // '') =~ $message;
	});
	pass($label);
	return;
}

sub process_of
{
	my ($node, $title) = @_;

	for my $pid (postmaster_children($node))
	{
		open(my $file, '<', "/proc/$pid/cmdline") or next;
		my $line = <$file> // '';
		close $file;
		return $pid if $line =~ $title && process_lives($pid);
	}
	return;
}

# Nobody is connected
found_is($mon, 'lag', 'healthy', qr/^no standby is connected$/, 'no standby');
found_is($mon, 'lag of berlin', 'unhealthy', qr/^standby "berlin" is not connected$/, 'a named one that is missing');

# A standby
my $backup = $primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', q(
primary_slot_name = 'berlin_slot'
hot_standby_feedback = on
wal_receiver_status_interval = 1
wal_receiver_timeout = 4s
wal_retrieve_retry_interval = 100ms
max_standby_streaming_delay = -1
));
$standby->append_conf('postgresql.conf',
	"primary_conninfo = '" . $primary->connstr . " application_name=berlin'\n");
$mon->ok(q(SELECT pg_create_physical_replication_slot('berlin_slot', true)));
$standby->start;
my $smon = monitor($standby);

wait_found($mon, 'lag of berlin', 'healthy', qr/^standby "berlin" is [\d.]+ s behind$/, 'a standby that has caught up');
wait_found($mon, 'lag', 'healthy', qr/^standby "berlin" is 0\.0 s behind$/, 'the worst of all');
found_is($mon, 'lag of paris', 'unhealthy', qr/^standby "paris" is not connected$/, 'another one');
wait_found($smon, 'lag', 'healthy', qr/^0\.0 s behind$/, 'the standby itself');
wait_found($smon, 'lag of paris', 'healthy', qr/^0\.0 s behind$/, 'a target means nothing there');

# The other kinds on a standby
found_is($smon, 'sql', 'healthy', qr/^$/, 'a query on the standby');
found_is($mon, 'sql', 'unhealthy', qr/^the query returned false$/, 'the same on the primary');
found_is($smon, 'archiver', 'healthy', qr/^nothing is archived on a standby/, 'archiving on a standby');
found_is($smon, 'slot', 'healthy', qr/^replication slot "berlin_slot" does not exist on this standby$/, 'slots on a standby');
found_is($smon, 'xids', 'healthy', qr/^the oldest/, 'ids on a standby');
found_is($smon, 'connections', 'healthy', qr/in use$/, 'connections on a standby');
found_is($smon, 'disks', 'healthy', qr/free/, 'disks on a standby') if (found($mon, 'disks'))[0] eq 'healthy';
found_is($smon, 'waits', 'healthy', qr/^nobody/, 'lock waits on a standby');
found_is($smon, 'long', 'healthy', qr/^no transaction/, 'transactions on a standby');
found_is($mon, 'slot', 'healthy', qr/^replication slot "berlin_slot" holds back /, 'the slot is in use');

# A quiet primary: nothing to replay is no lag, however long ago the last
# transaction was
sleep 2.5;
wait_found($smon, 'lag', 'healthy', qr/^0\.0 s behind$/, 'a quiet primary, the standby itself');
wait_found($mon, 'lag', 'healthy', qr/ is 0\.0 s behind$/, 'a quiet primary');

# Replay is paused, just after something was replayed
$mon->ok('INSERT INTO t VALUES (0)');
wait_for_value($smon, 'SELECT count(*) FROM t', 1);
$smon->ok('SELECT pg_wal_replay_pause()');
wait_for_value($smon, 'SELECT pg_get_wal_replay_pause_state()', 'paused');
$mon->ok('INSERT INTO t VALUES (1)');
my $write = sub { $mon->ok('INSERT INTO t VALUES (1)') };
wait_found($smon, 'little lag', 'degraded', qr/^[\d.]+ s behind, replay is paused$/, 'the standby is behind');
wait_found($mon, 'lag', 'unhealthy', qr/^standby "berlin" is [\d.]+ s behind$/, 'much behind, as the primary sees it', $write);
wait_found($smon, 'lag', 'unhealthy', qr/^[\d.]+ s behind, replay is paused$/, 'much behind');
found_is($mon, 'lag of berlin', 'unhealthy', qr/behind/, 'by its name');
$smon->ok('SELECT pg_wal_replay_resume()');
wait_found($smon, 'lag', 'healthy', qr/^0\.0 s behind$/, 'it has caught up');
wait_found($mon, 'lag', 'healthy', qr/ is 0\.0 s behind$/, 'as the primary sees it');

# A standby that holds back the horizon by its feedback, through its slot
my $reader = connect_to($standby);
$reader->ok('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
wait_found($smon, 'long', 'unhealthy', qr/pid $reader->{pid} \(idle in transaction\)$/, 'a long transaction on the standby');
wait_found($mon, 'long', 'unhealthy', qr/the horizon of replication slot "berlin_slot"$/, 'as its slot holds back the primary', $write);
$reader->ok('COMMIT');
$reader->close;
wait_found($mon, 'long', 'healthy', qr/^no transaction|^the oldest is 0\.\d s/, 'it has ended', $write);

# A receiver that hangs: the standby has not heard, the primary has no answer
my $receiver = process_of($standby, qr/walreceiver/);
freeze($receiver);
$mon->ok('INSERT INTO t VALUES (1)');
wait_found($smon, 'lag', 'unhealthy', qr/^nothing was heard from the primary for [\d.]+ s$/, 'the receiver hangs');
wait_found($mon, 'lag', 'unhealthy', qr/^standby "berlin" is (?:1[5-9]|[2-9]\d) s behind$/, 'no answer for 15 s');
thaw($receiver);
wait_found($smon, 'lag', 'healthy', qr/^0\.0 s behind$/, 'it goes on');
wait_found($mon, 'lag', 'healthy', qr/ is 0\.0 s behind/, 'and the primary hears of it');

# The standby is away: its slot holds back WAL, and then loses it
$smon->close;
$standby->stop;
wait_found($mon, 'lag of berlin', 'unhealthy', qr/^standby "berlin" is not connected$/, 'the standby is away');
found_is($mon, 'lag', 'healthy', qr/^no standby is connected$/, 'without a name it is not missed');
found_is($mon, 'slot', 'healthy', qr/^replication slot "berlin_slot" \(inactive\) holds back /, 'its slot is inactive');
$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)') for 1 .. 2;
found_is($mon, 'slots', 'degraded', qr/\(inactive\) holds back \d+ MB$/, 'it holds back WAL');
$mon->ok('SELECT pg_switch_wal(); INSERT INTO t VALUES (1)') for 1 .. 3;
found_is($mon, 'slots', 'unhealthy', qr/\(inactive\) holds back \d+ MB$/, 'it holds back much');
$standby->start;
$smon = monitor($standby);
wait_found($mon, 'slots', 'healthy', qr/^replication slot "berlin_slot" holds back /, 'the standby is back');
wait_found($smon, 'lag', 'healthy', qr/^0\.0 s behind$/, 'and catches up');

# The same horizon, without a slot
$smon->close;
$standby->append_conf('postgresql.conf', "primary_slot_name = ''\n");
$standby->restart;
$smon = monitor($standby);
$reader = connect_to($standby);
$reader->ok('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
$mon->ok(q(SELECT pg_drop_replication_slot('berlin_slot')));
wait_found($mon, 'long', 'unhealthy', qr/the horizon of standby "berlin" \(pid \d+\)$/, 'a standby without a slot holds back the horizon', $write);
$reader->close;
wait_found($mon, 'long', 'healthy', qr/^no transaction|^the oldest is 0\.\d s/, 'it has ended', $write);

# Without a primary: how far behind it is nobody knows
$mon->ok('INSERT INTO t VALUES (1)');
$mon->close;
$primary->stop;
wait_found($smon, 'lag', 'unhealthy', qr/^nothing is received; the last transaction that was replayed is [\d.]+ s old$/,
	'the primary is away');

# Promoted it looks at its own standbys
$standby->promote;
wait_found($smon, 'lag', 'healthy', qr/^no standby is connected$/, 'promoted');
found_is($smon, 'sql', 'unhealthy', qr/^the query returned false$/, 'a query after promotion');
found_is($smon, 'slot', 'unhealthy', qr/^replication slot "berlin_slot" does not exist$/, 'now the slot is missing');
$smon->ok(q(SELECT resilience.drop_health_check('lag')));
$smon->close;
$standby->stop;
done_testing();
