# 64 clients do everything at once while policies and settings change all the
# time, sessions and workers are cancelled, terminated and killed with -9, and
# databases come and go.  Then every count is zero, every view answers, what is
# in force is what the tables say, memory has not grown, and the log has no
# error that was not caused.
#
#   RSL_STORM_SECONDS  how long (120)
#   RSL_STORM_CLIENTS  how many (64)
#   RSL_SEED           of the random sequences (the time)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use StormTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $seconds = $ENV{RSL_STORM_SECONDS} || 120;
my $clients = $ENV{RSL_STORM_CLIENTS} || 64;
my $seed = $ENV{RSL_SEED} || time() % 1000000;
my $crash_every = 10;
$seed = int($seed);

diag("RSL_SEED=$seed RSL_STORM_SECONDS=$seconds RSL_STORM_CLIENTS=$clients");

my $node = preloaded_node('storm', roles => [qw(storm far)], conf => q(
max_connections = 250
superuser_reserved_connections = 20
max_worker_processes = 30
max_prepared_transactions = 100
shared_buffers = 64MB
log_min_messages = warning
log_line_prefix = '%m [%p] %e %b '
log_error_verbosity = default
resilience.chaos = on
resilience.max_running = 8
resilience.max_wait = 100ms
deadlock_timeout = 100ms
));
# not before: preloaded_node() has a limit of its own
limit_seconds($seconds * 1.3 + 240);
my $mon = monitor($node);
my $postmaster = $node->{_pid};

storm_objects($node, $mon);
srand($seed);

# One part of the storm
sub part
{
	my ($name, $length, %params) = @_;
	my $until = time() + $length;
	my $n = 0;

	start_process($node, "$name client $_", $seed * 1000 + $n++, $until, \&client) for 1 .. $clients;
	start_process($node, "$name changer $_", $seed * 1000 + 500 + $n++, $until, sub { changer($_[0], %params) }) for 1 .. 2;
	start_process($node, "$name neighbour $_", $seed * 1000 + 600 + $n++, $until, \&neighbour) for 1 .. 2;
	start_process($node, "$name reloader", $seed * 1000 + 700 + $n++, $until, \&reloader);
	start_process($node, "$name killer", $seed * 1000 + 800 + $n++, $until, sub { killer($_[0], %params) });
	sleep 1 while time() < $until;
	is(join(', ', stop_processes(60)), '', "$name: all clients have ended in time");
	return;
}

# The processes that live as long as the server; not all are in
# pg_stat_activity.
sub children
{
	my ($what) = @_;
	my @pids = grep { process_lives($_) } split(' ', slurp_file("/proc/$postmaster/task/$postmaster/children"));

	return grep { title($_) =~ $what } @pids;
}

sub title
{
	my ($pid) = @_;

	open(my $in, '<', "/proc/$pid/cmdline") or return '';
	return <$in> // '';
}

sub workers
{
	my @pids = sort { $a <=> $b } children(qr{resilience (launcher|prober)});
	return @pids;
}

# The first part kills; the second one does not, so that memory can be compared
$mon->close;
my $rss = rss_kb($postmaster);
part('killing', $seconds * 0.7, crash => $crash_every);

# This one is let in when the server is back
wait_until('the server answers', sub {
		my $session = ResilienceTest::Client->new($node, options => '-c resilience.mode=off');
		return 0 if $session->{error};
		$mon = $session;
		return $mon->query('SELECT 1')->{rows}[0];
	});
wait_until('launcher and prober are there', sub { workers() == 2 });
part('settling', 10, gentle => 1);
my @before = workers();
my %rss_before = map { $_ => rss_kb($_) } @before;
part('cancelling', $seconds * 0.3, gentle => 1);
my @after = workers();
is("@after", "@before", 'launcher and prober have lived through the second part');
for my $pid (grep { $rss_before{$_} } @after)
{
	cmp_ok(rss_kb($pid), '<', $rss_before{$pid} + 1024, "process $pid has not grown by a megabyte");
}
cmp_ok(rss_kb($postmaster), '<', $rss + 4096, 'nor the postmaster by four');

# What has happened: else it was no storm
my %client = (outcomes('killing client'));
my %later = outcomes('cancelling client');
$client{$_} += $later{$_} for keys %later;
my %killer = outcomes('killing killer');
my %changer = outcomes('killing changer');
diag('clients: ' . join(', ', map { "$_ $client{$_}" } sort keys %client));
diag('changers: ' . join(', ', map { "$_ $changer{$_}" } sort keys %changer));
diag('killer: ' . join(', ', map { "$_ $killer{$_}" } sort keys %killer));
cmp_ok($client{$_} // 0, '>', 0, "clients have seen $_") for qw(ok 22012 57014 57P01 53R01 53R02 08R01);
cmp_ok($changer{ok} // 0, '>', 20, 'policies have changed');
cmp_ok($killer{kill} // 0, '>', 0, 'there were kills');

# Everything comes to rest
$mon->ok('SELECT resilience.stop_all_experiments()');
$mon->ok($_) for map { "ALTER SYSTEM RESET $_->[0]" }
  @{ $mon->ok(q{SELECT name FROM pg_settings WHERE name LIKE 'resilience.%' AND sourcefile LIKE '%auto.conf'})->{rows} };
$mon->ok('SELECT pg_reload_conf()');
$mon->ok("ROLLBACK PREPARED '$_->[0]'") for @{ $mon->ok('SELECT gid FROM pg_prepared_xacts')->{rows} };
$mon->ok("DROP DATABASE $_->[0] WITH (FORCE)") for @{ $mon->ok(q{SELECT datname FROM pg_database WHERE datname LIKE 'side%'})->{rows} };
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}, 0);
all_zero($mon, 'after the storm', seconds => 20);
my %zero = (
	'calls in flight' => 'SELECT coalesce(sum(calls_in_flight), 0) FROM resilience.breakers',
	'compartments' => 'SELECT coalesce(sum(running + waiting), 0) FROM resilience.compartments',
	'statements in quarantine' => 'SELECT coalesce(sum(running), 0) FROM resilience.quarantine',
	'experiments' => q{SELECT count(*) FROM resilience.experiments WHERE state = 'running'},
	'locks on definitions' => q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'ExclusiveLock'},
	'sessions of those who left' => q{SELECT count(*) FROM resilience.activity WHERE usename IN ('storm', 'far')});
for my $what (sort keys %zero)
{
	my $now;
	eval { wait_until($what, sub { ($now = $mon->value($zero{$what})) eq '0' }, 20) };
	is($now, 0, "no $what are left");
}

# It has come by those that were kept
for my $kept ('success_total FROM resilience.breakers WHERE name = $$kept$$', 'success_total FROM resilience.breakers WHERE name = $$kept generic$$',
	'admitted_total FROM resilience.bulkheads WHERE name = $$kept$$')
{
	cmp_ok($mon->value("SELECT $kept"), '>', 0, "there is some $kept");
}

# Every view answers
for my $view (map { $_->[0] } @{ $mon->ok(q{SELECT viewname FROM pg_views WHERE schemaname = 'resilience' ORDER BY 1})->{rows} })
{
	error_is($mon->query("SELECT * FROM resilience.$view"), 'no error', "view $view answers");
}
like($mon->value('SELECT resilience.prometheus_metrics()'), qr/^resilience_in_recovery/m, 'so do the metrics');

# What is in force is what the tables say.  A visit of the launcher's to all
# databases changes nothing, which would be an event.
my $same = q{SELECT coalesce(string_agg(name, ', '), '') FROM
	((SELECT name FROM resilience.%1$s_definitions EXCEPT SELECT name FROM resilience.%2$s_statistics())
	UNION ALL (SELECT name FROM resilience.%2$s_statistics() EXCEPT SELECT name FROM resilience.%1$s_definitions)) x};
for my $kind (qw(bulkhead breaker runaway_rule health_check feature degradation experiment))
{
	is($mon->value(sprintf($same, $kind, $kind)), '', "each $kind of the table is in force, and no other");
}
my $changed = q{SELECT count(*) FROM resilience.events WHERE to_state IN ('created', 'changed', 'dropped')};
my $changes = $mon->value($changed);
my $visits = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience reader'};
$mon->ok($_) for ('CREATE DATABASE side', 'DROP DATABASE side');
sleep 3;
wait_for_value($mon, $visits, 0);
is($mon->value($changed), $changes, 'a visit to the databases finds nothing to correct');

# No process is left over: all children of the postmaster are known
wait_until('only known processes are left', sub {
		my %known = map { $_->[0] => 1 } @{ $mon->ok('SELECT pid FROM pg_stat_activity')->{rows} };
		return !grep { !$known{$_} && title($_) !~ /logger|resilience prober/ } children(qr/./);
	});
pass('no worker and no backend is left over');

# The slots themselves, which views do not count
my @policies = map { $_->[0] } @{ $mon->ok('SELECT name FROM resilience.bulkheads')->{rows} };
for my $name (@policies) { $mon->ok("SELECT resilience.drop_bulkhead('$name')") }
$mon->ok('DELETE FROM resilience.runaway_rule_definitions');
set_conf($mon, 'resilience.max_running' => 5, 'resilience.max_waiting' => 0, 'resilience.mode' => 'enforce', 'resilience.minimum_priority' => 'low');
is(count_slots($node, $mon, 7, user => 'storm'), 5, 'the five slots of the server are all there');
$mon->ok(q{SELECT resilience.create_bulkhead('last', role_name => 'storm', max_running => 3)});
is(count_slots($node, $mon, 5, user => 'storm'), 3, 'so are the three of a bulkhead');
all_zero($mon, 'at the end');

# It starts from its file with what it had
$mon->close;
my $snapshot = slurp_file($node->data_dir . '/resilience.snapshot');
$node->restart;
$mon = monitor($node);
wait_for_value($mon, q{SELECT count(*) FROM resilience.bulkhead_statistics()}, 1);
sleep 2;
is(slurp_file($node->data_dir . '/resilience.snapshot') eq $snapshot, 1, 'a restart finds nothing to correct');
$mon->close;
$node->stop;

# The log: nothing that we have not caused.  These are the states of refusals,
# of what the statements are written to fail with or find changed meanwhile, of
# cancels and terminations, and of probes, which have no role to log in with.
my %caused = map { $_ => 1 } qw(
	00000 01000 22012 22P04 22P02 57014 57P01 57P02 57P03 53300 53400 53R01 53R02 53R03 53R04 53R05 08R01 08R02 55R01
	08006 28000 25001 2D000 08000 08003 08P01 08001 40001 40P01 25P02 25P01 58000 26000 34000 42710 42704 42P04 42809 55000 55006 3D000 2BP01 23505 22023 25006
	0A000 55P03 42P07 42883 42P01 3F000);
my %strange;
my %signals;
my %levels;
open(my $log, '<', $node->logfile) or die $!;
while (my $line = <$log>)
{
	$strange{ substr($line, 0, 200) }++ if $line =~ /TRAP:|invalid memory alloc|could not find|stuck spinlock/;
	$signals{$1}++ if $line =~ /was terminated by signal (\d+)/;
	next unless $line =~ /^\S+ \S+ \S+ \[\d+\] (\w{5}) .*?\b(WARNING|ERROR|FATAL|PANIC):  (.*)/;
	$levels{"$2 $1"}++;
	# two ALTER SERVER at once, as without the extension
	next if $3 eq 'tuple concurrently updated';
	$strange{"$2 $1: $3"}++ if $2 eq 'PANIC' || !$caused{$1};
}
close $log;
diag('log: ' . join(', ', map { "$_ $levels{$_}" } sort keys %levels));
is(join("\n", map { "$_ ($strange{$_} times)" } sort keys %strange), '', 'no error in the log that we did not cause');
is(join(' ', map { "signal $_" } grep { $_ != 9 } sort keys %signals), '', 'no process has died of anything but kill -9');
cmp_ok($signals{9} // 0, '<=', $killer{kill} // 0, 'nor of more of these than there were');

done_testing();
