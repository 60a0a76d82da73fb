# Health checks when processes and servers end: workers, launcher, the whole
# server; on a standby, and when it is promoted; without free workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $worker_pids = q{SELECT coalesce(string_agg(pid::text, ' ' ORDER BY pid), '') FROM pg_stat_activity WHERE backend_type = 'resilience worker'};
my $launcher_pid = q{SELECT coalesce((SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'), 0)};

sub create
{
	my ($mon, $name, $query, %settings) = @_;
	my %all = (check_interval => '1 s', timeout => '500 ms', %settings);

	$mon->ok("SELECT resilience.create_health_check('$name', query => \$q\$$query\$q\$, "
		  . join(', ', map { "$_ => '$all{$_}'" } sort keys %all) . ')');
	return;
}

sub wait_status
{
	my ($mon, $name, $status, $label, $seconds) = @_;
	my $query = "SELECT status FROM resilience.health_checks WHERE name = '$name'";
	my $now = eval { wait_for_value($mon, $query, $status, $seconds // 30) };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($now // $mon->value($query), $status, $label);
}

sub reconnect
{
	my ($node) = @_;
	my $mon;

	wait_until('the server is back', sub {
		my $client = eval { ResilienceTest::Client->new($node) };
		$mon = $client if $client && !$client->{error};
		return $mon;
	});
	return $mon;
}

my $primary = preloaded_node('primary', init => [ allows_streaming => 1 ],
	conf => "max_worker_processes = 20\nmax_standby_streaming_delay = 0\n");
my $mon = monitor($primary);
limit_seconds(240);

create($mon, 'c', 'SELECT true');
create($mon, 'bad', 'SELECT false', failure_threshold => 1);
wait_status($mon, 'c', 'healthy', 'a check is run');

# A worker is terminated by hand
my $before = $mon->value($worker_pids);
isnt($before, '', 'by a worker');
$mon->ok("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'resilience worker'");
wait_until('another worker', sub { my $now = $mon->value($worker_pids); $now ne '' && $now ne $before });
my $runs = $mon->value(q{SELECT runs_total FROM resilience.health_checks WHERE name = 'c'});
wait_for_value($mon, "SELECT runs_total > $runs FROM resilience.health_checks WHERE name = 'c'", 't');
pass('a worker that was terminated is replaced');

# The launcher is
sleep 0.5;
my $launcher = $mon->value($launcher_pid);
$before = $mon->value($worker_pids);
$mon->ok("SELECT pg_terminate_backend($launcher)");
wait_until('another launcher', sub { my $now = $mon->value($launcher_pid); $now != 0 && $now != $launcher });
$runs = $mon->value(q{SELECT runs_total FROM resilience.health_checks WHERE name = 'c'});
wait_for_value($mon, "SELECT runs_total >= $runs + 2 FROM resilience.health_checks WHERE name = 'c'", 't');
is($mon->value($worker_pids), $before, 'a new launcher goes on with the workers that are there');

# A worker is killed: the server restarts, and all comes back
my ($victim) = split / /, $mon->value($worker_pids);
kill 'KILL', $victim;
wait_until('the session is gone', sub { $mon->query('SELECT 1')->{closed} });
$mon = reconnect($primary);
wait_status($mon, 'c', 'healthy', 'after a crash checks are run again');
wait_status($mon, 'bad', 'unhealthy', 'all of them');
unlike($mon->value($worker_pids), qr/\b$victim\b/, 'by a new worker');

# A standby: its own workers, its own results
create($mon, 'standby', 'SELECT pg_is_in_recovery()', failure_threshold => 1);
$mon->ok('CREATE TABLE t AS SELECT 1 a; CREATE TABLE other AS SELECT 1 a');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
my $smon = monitor($standby);
wait_status($smon, 'standby', 'healthy', 'a standby runs its checks');
wait_status($mon, 'standby', 'unhealthy', 'and the primary its own');
create($mon, 'later', 'SELECT true');
wait_status($smon, 'later', 'healthy', 'a check that is created later is run there, too');
$mon->ok(q{SELECT resilience.drop_health_check('later')});
wait_for_value($smon, q{SELECT count(*) FROM resilience.health_checks WHERE name = 'later'}, 0);

# ... replay that needs a lock cancels a run, which says nothing of anything
create($mon, 'reads', 'SELECT count(*) >= 0 FROM public.t, pg_sleep(2)', check_interval => '10 s', timeout => '5 s', failure_threshold => 1);
wait_for_value($smon, q{SELECT running FROM resilience.health_checks WHERE name = 'reads'}, 't');
sleep 0.2;
$mon->ok('TRUNCATE t');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
wait_for_value($smon, q{SELECT running FROM resilience.health_checks WHERE name = 'reads'}, 'f');
is($smon->value(q{SELECT format('%s %s', status, failures_total) FROM resilience.health_checks WHERE name = 'reads'}), 'unknown 0',
	'a run that replay has cancelled does not count');
wait_status($smon, 'reads', 'healthy', 'it is tried again');
$mon->ok(q{SELECT resilience.drop_health_check('reads')});

# ... a database is dropped
$mon->ok('CREATE DATABASE db');
my $db = monitor($primary, dbname => 'db');
$db->ok('CREATE EXTENSION resilience');
create($db, 'c', 'SELECT true');
$db->close;
wait_until('a worker in the database on the standby',
	sub { $smon->value(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'db' AND backend_type = 'resilience worker'}) == 1 }, 60);
$mon->ok('DROP DATABASE db');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($smon->value(q{SELECT count(*) FROM pg_database WHERE datname = 'db'}), 0, 'a worker does not keep replay from dropping a database');
$runs = $smon->value(q{SELECT runs_total FROM resilience.health_checks WHERE name = 'c'});
wait_for_value($smon, "SELECT runs_total > $runs + 1 FROM resilience.health_checks WHERE name = 'c'", 't');
pass('and other checks go on');

# ... promotion
$before = $smon->value($worker_pids);
$mon->close;
$primary->stop('fast');
$standby->promote;
wait_for_value($smon, 'SELECT pg_is_in_recovery()', 'f');
wait_status($smon, 'standby', 'unhealthy', 'promoted: checks find out');
# (one that was more than needed may have left meanwhile)
is(join(' ', grep { " $before " !~ / $_ / } split ' ', $smon->value($worker_pids)), '', 'by the same workers');
create($smon, 'new', 'SELECT true');
wait_status($smon, 'new', 'healthy', 'a check that is created then', 10);

# The end of a server while checks hang
$smon->ok(q{
	CREATE FUNCTION stubborn() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(1000);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$});
sub let_hang
{
	my ($session) = @_;

	wait_for_value($session, q{SELECT bool_and(running) FROM resilience.health_checks WHERE name LIKE 'hangs%'}, 't');
	return;
}
create($smon, "hangs$_", 'SELECT public.stubborn()', check_interval => '1 h', timeout => '10 min') for 1 .. 3;
for my $mode (qw(smart fast))
{
	let_hang($smon);
	$smon->close;
	my $begin = time();
	$standby->stop($mode);
	my $took = time() - $begin;
	cmp_ok($took, '<', 10, sprintf('a %s shutdown does not wait for them (%.1f s)', $mode, $took));
	$standby->start;
	$smon = monitor($standby);
}
let_hang($smon);
ok(kill_postmaster($standby, $smon), 'workers in a run go when the postmaster has gone');
$standby->start;
$smon = monitor($standby);
wait_status($smon, 'new', 'healthy', 'all is back');

# No free background worker: one for two databases is all there is
$smon->ok('CREATE DATABASE db');
$db = monitor($standby, dbname => 'db');
$db->ok('CREATE EXTENSION resilience');
create($db, 'c', 'SELECT true');
$smon->ok(q{SELECT resilience.drop_health_check(name) FROM resilience.health_checks WHERE name <> 'c'});
$_->close for ($smon, $db);
# the launcher, the prober, that of logical replication, and one more
$standby->append_conf('postgresql.conf', 'max_worker_processes = 4');
$standby->restart;
$smon = monitor($standby);
$db = monitor($standby, dbname => 'db');
for my $session ($smon, $db)
{
	$runs = $session->value(q{SELECT runs_total FROM resilience.health_checks WHERE name = 'c'});
	wait_for_value($session, "SELECT runs_total > $runs + 2 FROM resilience.health_checks WHERE name = 'c'", 't');
}
pass('one free background worker for two databases: they take turns');

# ... and none
$_->close for ($smon, $db);
$standby->append_conf('postgresql.conf', 'max_worker_processes = 3');
$standby->restart;
$smon = monitor($standby);
wait_until('the log says so', sub {
	slurp_file($standby->logfile) =~ /resilience cannot start a worker for health checks: no background worker is free/;
});
pass('no free background worker: it is logged');
wait_status($smon, 'c', 'unknown', 'checks are unknown');
sleep 3;
my @lines = slurp_file($standby->logfile) =~ /cannot start a worker for health checks/g;
is(scalar @lines, 2, 'once in each of these two servers');
like($smon->value(q{SELECT string_agg(format('%s %s', status, message), ' ') FROM resilience.health WHERE kind = 'worker' AND status <> 'healthy'}),
	qr/background worker|max_worker_processes/, 'the view health says so');
is($smon->value('SELECT 1'), 1, 'the server does its work');
is($smon->value($launcher_pid) > 0, 1, 'the launcher is there');
$smon->close;
done_testing();
