# The server as a whole, where those who look at it are in trouble themselves:
# launcher and prober stopped, killed, or without a place; flapping; standby.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = preloaded_node('whole', init => [ allows_streaming => 1 ]);
my $mon = monitor($node);

sub field
{
	my ($column, $component) = @_;
	return $mon->value("SELECT $column FROM resilience.health WHERE component = '$component'") // '';
}

sub wait_field
{
	my ($column, $component, $value, $label) = @_;
	my $now = wait_for_value($mon, "SELECT $column FROM resilience.health WHERE component = '$component'", $value, 20);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($now, $value, $label);
}

# Processes without a database are not in pg_stat_activity: ask the kernel.
sub process_of
{
	my ($title) = @_;

	for my $stat (glob "/proc/[0-9]*/stat")
	{
		open(my $file, '<', $stat) or next;
		my $line = <$file> // '';
		close $file;
		my ($pid, $parent) = $line =~ /^(\d+) \(.*\) \S (\d+) / or next;
		next if $parent != $node->{_pid};
		open(my $command, '<', "/proc/$pid/cmdline") or next;
		my $words = do { local $/; <$command> } // '';
		close $command;
		return $pid if $words =~ /\Q$title\E/;
	}
	return;
}

sub events
{
	my ($kind, $after) = @_;
	return $mon->value("SELECT string_agg(from_state || '-' || to_state, ' ' ORDER BY id) FROM resilience.events"
		  . " WHERE kind = '$kind' AND object LIKE 'health%' AND id > $after") // '';
}

sub last_event { return $mon->value('SELECT coalesce(max(id), 0) FROM resilience.events') }

wait_for_value($mon, 'SELECT resilience.health_status()', 'healthy', 20);

# The launcher stops: nobody knows any more
my $launcher = process_of('resilience launcher');
ok($launcher, 'there is a launcher');
my $since = field('since', 'server');
my $after = last_event();
kill 'STOP', $launcher;
wait_for_value($mon, 'SELECT resilience.health_status()', 'unknown', 20);
pass('without the launcher the status is unknown');
is(field('status', 'launcher'), 'unhealthy', 'the launcher is unhealthy');
like(field('message', 'launcher'), qr/^has not looked for \d+ s/, 'its message says for how long');
is($mon->value(q{SELECT since < clock_timestamp() - '3 s'::interval FROM resilience.health WHERE component = 'launcher'}),
	't', 'since it looked last');
is($mon->value(q{SELECT count(DISTINCT since) FROM resilience.health WHERE component IN ('launcher', 'server')}), 1,
	'the server is unknown since then');
# what can be read at any time is still told
$mon->ok(q{SELECT resilience.create_breaker('br')});
$mon->ok(q{SELECT resilience.force_breaker('br', 'open')});
is(field('status', 'br'), 'degraded', 'a breaker tells its state');
is(field('since', 'br'), '', 'nobody knows since when');
$mon->ok(q{SELECT resilience.drop_breaker('br')});
kill 'CONT', $launcher;
wait_for_value($mon, 'SELECT resilience.health_status()', 'healthy', 20);
pass('it is back');
is(events('server', $after), 'unknown-healthy', 'which is an event');
like($mon->value("SELECT detail ->> 'message' FROM resilience.events WHERE object = 'health' AND id > $after"),
	qr/^had not looked for [3-9]/, 'with its numbers');
is($mon->value("SELECT since > '$since'::timestamptz FROM resilience.health WHERE component = 'server'"), 't',
	'the server is healthy since then');

# The launcher dies and is started again: that takes a second or so, and
# changes nothing
$since = field('since', 'load_shedder');
$after = last_event();
kill 'TERM', $launcher;
wait_until('there is another launcher', sub { my $pid = process_of('resilience launcher'); $pid && $pid != $launcher }, 20);
sleep 1;
is($mon->value('SELECT resilience.health_status()'), 'healthy', 'all is well');
is(field('since', 'load_shedder'), $since, 'what was known is not forgotten');
is(events('server', $after), '', 'no event');

# The prober hangs while there is a breaker
$mon->ok(q{SELECT resilience.create_breaker('br')});
my $prober = process_of('resilience prober');
ok($prober, 'there is a prober');
$after = last_event();
kill 'STOP', $prober;
wait_field('status', 'prober', 'degraded', 'a prober that hangs is noticed');
like(field('message', 'prober'), qr/^not heard of for \d+ s/, 'for how long');
wait_field('status', 'server', 'degraded', 'the server is degraded, no more');
is($mon->value(qq(SELECT detail ->> 'component' FROM resilience.events WHERE object = 'health' AND id > $after)), 'prober',
	'the event says by whom');
kill 'CONT', $prober;
wait_field('status', 'prober', 'healthy', 'it is back');
wait_field('status', 'server', 'healthy', 'and so is the server');
is(events('server', $after), 'healthy-degraded degraded-healthy', 'with its events');

# A breaker that flaps five times a second does not make the server flap: worse
# at once, better after a second
$after = last_event();
my $start = time();
while (time() - $start < 4)
{
	$mon->ok(q{SELECT resilience.force_breaker('br', 'open')});
	sleep 0.1;
	$mon->ok(q{SELECT resilience.force_breaker('br', 'closed')});
	sleep 0.3;
}
wait_field('status', 'server', 'healthy', 'it is quiet again');
my $changes = $mon->value("SELECT count(*) FROM resilience.events WHERE object = 'health' AND id > $after");
cmp_ok($changes, '>=', 2, 'the server has been degraded');
cmp_ok($changes, '<=', 2 * int(time() - $start), 'but not as often as the breaker');
is($mon->value(qq(
SELECT coalesce(min(e.at - p.at) >= '1 s', true) FROM resilience.events e
	JOIN LATERAL (SELECT at FROM resilience.events WHERE object = 'health' AND id < e.id AND id > $after
		AND to_state = 'degraded' ORDER BY id DESC LIMIT 1) p ON true
WHERE e.object = 'health' AND e.id > $after AND e.to_state = 'healthy')), 't', 'it was degraded for a second at least');

# A standby looks for itself
$mon->ok(q{SELECT resilience.alter_breaker('br', mode => 'enforce')});
$mon->ok(q{SELECT resilience.force_breaker('br', 'auto')});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $smon = monitor($standby);
wait_for_value($smon, 'SELECT resilience.health_status()', 'healthy', 20);
is($smon->value('SELECT pg_is_in_recovery()'), 't', 'it is a standby');
is($smon->value(q{SELECT database_name || ' ' || status FROM resilience.health WHERE component = 'br'}), 'postgres healthy',
	'its components are there');
$mon->ok(q{SELECT resilience.force_breaker('br', 'open')});
wait_for_value($mon, 'SELECT resilience.health_status()', 'degraded', 20);
wait_for_value($smon, 'SELECT resilience.health_status()', 'degraded', 30);
pass('it follows');
$standby->promote;
is($smon->value('SELECT resilience.health_status()'), 'degraded', 'and so it stays when it is promoted');
$mon->ok(q{SELECT resilience.drop_breaker('br')});
$smon->close;
$standby->stop;

# A crash: nothing is known but from then on
$after = $mon->value('SELECT pg_backend_pid()');
kill 'KILL', process_of('resilience prober');
wait_until(
	'the server has restarted',
	sub {
		my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off');
		return 0 if $session->{error};
		$mon = $session;
		return 1;
	});
wait_for_value($mon, 'SELECT resilience.health_status()', 'healthy', 20);
sleep 4;
is($mon->value('SELECT resilience.health_status()'), 'healthy', 'after a crash all is well again');
is($mon->value(q{SELECT count(*) FROM resilience.events WHERE object = 'health'}), 0, 'without a false alarm');
$mon->close;
$node->stop;

# No place for the workers
$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
$node->start;
$mon = monitor($node);
if (process_of('resilience launcher'))
{
	wait_field('status', 'prober', 'degraded', 'without a place for the prober');
	like(field('message', 'prober'), qr/^does not run/, 'it does not run');
	wait_field('status', 'server', 'degraded', 'the server is degraded');
}
$mon->close;
$node->stop;
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->start;
$mon = monitor($node);
is($mon->value('SELECT resilience.health_status()'), 'unknown', 'without a place for the launcher nobody knows');
is(field('status', 'launcher'), 'unhealthy', 'the launcher is missing');
like(field('message', 'launcher'), qr/max_worker_processes/, 'the message says what to look at');
is(field('since', 'launcher'), '', 'since ever');
$mon->close;
$node->stop;
done_testing();
