# Health checks are run in the background: side by side, as their owner, cut
# off at their timeout, none late because of another one; what they find makes
# their status, and what nobody finds is unknown.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('checks', conf => 'max_worker_processes = 20', roles => [qw(app owner)]);
my $mon = monitor($node);

sub create
{
	my ($name, $query, %settings) = @_;

	my %all = (check_interval => '2 s', timeout => '500 ms', %settings);
	$mon->ok("SELECT resilience.create_health_check('$name', query => \$q\$$query\$q\$, "
		  . join(', ', map { "$_ => '$all{$_}'" } sort keys %all) . ')');
	return;
}

sub column
{
	my ($name, $column) = @_;

	return $mon->value("SELECT $column FROM resilience.health_checks WHERE name = '$name'");
}

sub wait_status
{
	my ($name, $status, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $now = eval {
		wait_for_value($mon, "SELECT status FROM resilience.health_checks WHERE name = '$name'", $status, 30);
	};
	return is($now // column($name, 'status'), $status, $label);
}

# A run that began after now has ended
sub wait_run
{
	my ($name) = @_;
	my $runs = column($name, 'runs_total');

	wait_until("'$name' has run twice more", sub { column($name, 'runs_total') >= $runs + 2 });
	return;
}

# One that is well, one that is not
my $begin = time();
create('good', 'SELECT true', check_interval => '1 s');
wait_status('good', 'healthy', 'a check is healthy after its first run');
cmp_ok(time() - $begin, '<', 5, 'which is soon');
create('bad', 'SELECT 1/0 = 1');
wait_status('bad', 'unhealthy', 'one that fails is unhealthy');
is(column('bad', 'message'), 'division by zero', 'its error is its message');
cmp_ok(column('bad', 'consecutive_failures'), '>=', 3, 'after three failures');
create('slowly', 'SELECT 70', warning_threshold => 50, critical_threshold => 90);
wait_status('slowly', 'degraded', 'a number between the thresholds');
is($mon->value(q{SELECT string_agg(from_state || '>' || to_state, ' ') FROM resilience.events
	WHERE kind = 'health_check' AND object = 'slowly' AND to_state IN ('healthy', 'degraded', 'unhealthy', 'unknown')}), 'unknown>degraded', 'the transition is an event');
my $detail = $mon->value(q{SELECT detail FROM resilience.events WHERE kind = 'health_check' AND object = 'bad' AND to_state = 'unhealthy'});
like($detail, qr/division by zero/, 'which tells the message');
like($detail, qr/"consecutive_failures": "?3/, 'and the numbers');

# All that hangs, ends its worker, or can't be cut off: none makes another late
create('sleeps', 'SELECT true FROM pg_sleep(1000)');
wait_status('sleeps', 'unhealthy', 'one that sleeps for ever is cut off');
is(column('sleeps', 'message'), 'timed out after 500 ms', 'and says so');
unlike(slurp_file($node->logfile), qr/terminating background worker/, 'by a cancel, which its worker survives');
create('ends', 'SELECT pg_terminate_backend(pg_backend_pid())');
$mon->ok(q{
	CREATE FUNCTION stubborn() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(1000);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$;
	CREATE TABLE locked (); CREATE TABLE dropped (a int); INSERT INTO dropped VALUES (1)});
create('stubborn', 'SELECT public.stubborn()');
create('blocked', 'SELECT count(*) = 0 FROM public.locked');
my $locker = connect_to($node);
$locker->ok('BEGIN; LOCK locked');
create('drops', 'SELECT count(*) = 1 FROM public.dropped');
cmp_ok(column('sleeps', 'timeouts_total'), '>=', 3, 'it is counted');
cmp_ok(column('sleeps', 'extract(epoch from duration)'), '<', 1.5, 'at its timeout');
wait_status('ends', 'unhealthy', 'one that terminates its own worker');
is(column('ends', 'message'), 'the worker that ran the check has ended', 'and its message');
wait_status('stubborn', 'unhealthy', 'one that ignores its timeout');
like(column('stubborn', 'message'), qr/^(timed out after|cannot be cut off: has been running for)/, 'and its message');
wait_status('blocked', 'unhealthy', 'one that waits for a lock');
wait_status('drops', 'healthy', 'one with a table');
$mon->ok('DROP TABLE dropped');
wait_status('drops', 'unhealthy', 'whose table is dropped');
is(column('drops', 'message'), 'relation "public.dropped" does not exist', 'and its message');
$mon->ok('CREATE TABLE dropped AS SELECT 1 a');
wait_status('drops', 'healthy', 'whose table is there again');
$locker->ok('COMMIT');
wait_status('blocked', 'healthy', 'one that waits no longer');

$mon->ok('SELECT resilience.reset_statistics()');
sleep 5;
cmp_ok(column('good', 'runs_total'), '>=', 3, 'others are run beside all that');
my $late = column('good', 'extract(epoch from max_lateness)');
cmp_ok($late, '<', 0.9, "and not late ($late s)");
is(column('good', 'status'), 'healthy', 'and well');
# how often it failed in that time: a fifth of the interval, but a second
cmp_ok(column('bad', 'runs_total'), '>=', 4, 'a check that fails is run more often');
cmp_ok(column('sleeps', 'runs_total'), '<=', 4, 'but not one that hangs');
ok($mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker'}) <= 8,
	'workers are bounded');
$mon->ok("SELECT resilience.drop_health_check('$_')") for qw(sleeps ends stubborn blocked);

# A worker leaves when there is nothing for it any more
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker'}, 1, 30);
pass('workers that are not needed leave');

# As whom, and how
$mon->ok('CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC; ALTER DATABASE postgres SET search_path = evil, public;'
	  . 'GRANT EXECUTE ON FUNCTION resilience.create_health_check, resilience.alter_health_check TO owner; GRANT USAGE ON SCHEMA resilience TO owner;'
	  . 'CREATE TABLE secret (a int); CREATE TABLE target (a int); GRANT ALL ON target TO owner');
my $owner = connect_to($node, user => 'owner');
sub by_owner
{
	my ($name, $query) = @_;

	return $owner->query("SELECT resilience.create_health_check('$name', query => \$q\$$query\$q\$, check_interval => '1 s', timeout => '500 ms')");
}
by_owner('who', q{SELECT current_user = 'owner' AND current_setting('search_path') = 'pg_catalog, pg_temp' AND current_setting('transaction_read_only') = 'on'});
wait_status('who', 'healthy', 'a check runs as its owner, read-only, with a fixed search_path');
$mon->ok(q{
	CREATE FUNCTION writes() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.target VALUES (1); RETURN true; END$$;
	CREATE FUNCTION unlocks() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN SET transaction_read_only = off; RETURN true; END$$;
	CREATE FUNCTION escapes() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RESET SESSION AUTHORIZATION; RETURN true; END$$;
	CREATE FUNCTION reads() RETURNS boolean LANGUAGE sql AS 'SELECT count(*) = 0 FROM public.secret';
	CREATE FUNCTION litters() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_advisory_lock(4711), set_config('work_mem', '64kB', false); RETURN true; END$$});
for my $case (
	[ writes => qr/cannot execute INSERT in a read-only transaction/ ],
	[ unlocks => qr/transaction_read_only|read-write/ ],
	[ escapes => qr/security-(restricted|definer)/ ],
	[ reads => qr/permission denied for table secret/ ])
{
	my ($name, $message) = @$case;

	by_owner($name, "SELECT public.$name()");
	wait_status($name, 'unhealthy', "one that $name");
	like(column($name, 'message'), $message, 'is refused');
}
by_owner('litters', 'SELECT public.litters()');
wait_status('litters', 'healthy', 'one that leaves things behind');
wait_for_value($mon, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}, 0, 30);
by_owner('finds', q{SELECT current_setting('work_mem') <> '64kB'});
wait_status('finds', 'healthy', 'does not change the next one');
is($mon->value('SELECT count(*) FROM target'), 0, 'nothing was written');

# Checks of two owners do not share a process: what they return is its id
my %runners;
create('mine', 'SELECT pg_backend_pid()', warning_threshold => 1e9, check_interval => '1 s');
$owner->ok(q{SELECT resilience.create_health_check('others', query => 'SELECT pg_backend_pid()',
	warning_threshold => 1e9, check_interval => '1 s', timeout => '500 ms')});
my $sampled_until = time() + 4;
while (time() < $sampled_until)
{
	$runners{ $_->[1] // 0 }{ $_->[0] } = 1
	  for @{ $mon->ok(q{SELECT name, value FROM resilience.health_checks WHERE name IN ('mine', 'others') AND value > 0})->{rows} };
	sleep 0.2;
}
cmp_ok(scalar keys %runners, '>=', 2, 'each owner has its own worker');
is(scalar(grep { keys %{ $runners{$_} } > 1 } keys %runners), 0, 'which runs nobody else\'s checks');
$owner->close;

# Limits are for others
set_conf($mon, 'resilience.minimum_priority' => 'critical', 'resilience.max_running' => 1);
my $client = connect_to($node, user => 'app');
error_is($client->query('SELECT 1'), '53R02', 'statements of others are shed');
$client->close;
$mon->ok(q{SELECT resilience.create_bulkhead('nobody', max_running => 0, max_connections => 0)});
wait_run('good');
is(column('good', 'status'), 'healthy', 'limits do not concern checks');
$mon->ok(q{SELECT resilience.drop_bulkhead('nobody')});
set_conf($mon, 'resilience.minimum_priority' => undef, 'resilience.max_running' => undef);

# Changes
$mon->ok(q{SELECT resilience.alter_health_check('good', enabled => false)});
wait_status('good', 'unknown', 'what is disabled is unknown');
my $runs = column('good', 'runs_total');
$mon->ok(q{SELECT resilience.alter_health_check('bad', query => 'SELECT true')});
wait_status('bad', 'healthy', 'another query, another result');
is(column('good', 'runs_total'), $runs, 'a disabled check is not run');
$mon->ok(q{SELECT resilience.alter_health_check('good', enabled => true)});
wait_status('good', 'healthy', 'enabled again');

# ... during a run: its result does not count
$mon->ok(q{CREATE TABLE switch AS SELECT 1 a});
create('changes', 'SELECT false FROM pg_sleep(0.4)', check_interval => '1 s', failure_threshold => 1);
wait_for_value($mon, q{SELECT running FROM resilience.health_checks WHERE name = 'changes'}, 't');
$mon->ok(q{SELECT resilience.alter_health_check('changes', query => 'SELECT true')});
wait_status('changes', 'healthy', 'the result of the old query is dropped');
sleep 0.6;
is(column('changes', 'failures_total'), 0, 'and not counted');

# Definitions that are locked are nobody's fault
create('every', 'SELECT true', check_interval => '1 s');
wait_status('every', 'healthy', 'before a lock');
$locker->ok('BEGIN; LOCK resilience.health_check_definitions');
sleep 2;
$locker->ok('COMMIT');
is(column('every', 'failures_total'), 0, 'a locked table of definitions makes no run fail');

# No worker: stale, then unknown; the lever
set_conf($mon, 'resilience.max_health_check_workers' => 0);
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker'}, 0);
pass('without workers none is there');
wait_status('every', 'unknown', 'a stale result is unknown');
wait_for_value($mon, q{SELECT detail ? 'age_ms' FROM resilience.events WHERE object = 'every' AND to_state = 'unknown'}, 't');
pass('an event says so, and how old it is');
set_conf($mon, 'resilience.max_health_check_workers' => 1);
wait_status('every', 'healthy', 'with one it is known again');

# A run that can't be cut off: its process is stopped.  It is counted, and no
# other check is late, although it has the only worker there may be.
create('stuck', 'SELECT true FROM pg_sleep(0.3)', failure_threshold => 1, check_interval => '1 s');
wait_status('stuck', 'healthy', 'before it is stuck');
my $stuck;
wait_until('the worker is at it', sub {
	$stuck = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience worker'
		AND state = 'active' AND query LIKE '%"stuck"%'});
	return 0 unless $stuck;
	kill 'STOP', $stuck;
	return 1 if column('stuck', 'running') eq 't';
	kill 'CONT', $stuck;
	return 0;
});
my $stuck_since = time();
wait_status('stuck', 'unhealthy', 'a run that cannot be cut off is counted');
cmp_ok(time() - $stuck_since, '<', 3, 'soon after its timeout');
$runs = column('every', 'runs_total');
wait_for_value($mon, "SELECT runs_total >= $runs + 3 FROM resilience.health_checks WHERE name = 'every'", 't', 15);
pass('others are run meanwhile');
wait_until('the message says so', sub { column('stuck', 'message') =~ /^cannot be cut off: has been running for \d+ ms, timeout 500 ms$/ });
is(column('stuck', 'status'), 'unhealthy', 'it stays unhealthy');
ok(process_lives($stuck), 'its worker is still there');
kill 'CONT', $stuck;
wait_status('stuck', 'healthy', 'it was terminated, and the check is run again');
wait_until('that worker is gone', sub { !process_lives($stuck) });
set_conf($mon, 'resilience.max_health_check_workers' => undef);

all_zero($mon, 'at the end', connections => 0);
done_testing();
