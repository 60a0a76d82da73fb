# After a storm of 10 000 mixed outcomes from 64 clients every count in every
# view is zero, and there are as many slots as before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('storm', roles => [ 'app', 'storm' ], conf => q(
max_connections = 200
log_min_messages = fatal
resilience.max_running = 4
resilience.max_waiting = 3
));
my $mon = monitor($node);

$mon->ok($_) for (
	'CREATE TABLE storm (id int)',
	'GRANT ALL ON storm TO storm',
	'GRANT storm TO app',
	q{ALTER ROLE storm SET resilience.max_wait = '30ms'},
	q{CREATE PROCEDURE storm_steps() LANGUAGE plpgsql AS
		'BEGIN FOR i IN 1 .. 3 LOOP PERFORM pg_sleep(0.001); COMMIT; END LOOP; END'},
	q{SELECT resilience.create_bulkhead('all', role_name => 'storm', max_connections => 50, max_running => 8,
		max_waiting => 20, max_wait => '20 ms')},
	q{SELECT resilience.create_bulkhead('reads', role_name => 'storm', command => 'SELECT', max_running => 5,
		max_waiting => 5, max_wait => '20 ms')},
	q{SELECT resilience.create_bulkhead('everybody', database_name => '*', application_name => 'storm%', max_running => 50)});

my $program = build_libpq_client();
my ($out, $err) = ('', '');
my $seed = $ENV{RSL_SEED} || 1;
ok( IPC::Run::run(
		[   $program, 'storm',
			$node->connstr('postgres') . ' user=storm application_name=storm',
			$node->connstr('postgres') . " user=$ResilienceTest::superuser options='-c resilience.mode=off'",
			64, 10000, $seed ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(120)),
	'the storm is over') or diag $err;
my %outcomes = map { split(/ /, $_) } split(/\n/, $out);
my $total = 0;
$total += $_ for values %outcomes;
note(join(', ', map { "$_ $outcomes{$_}" } sort keys %outcomes));
cmp_ok($total, '>=', 10000, '10 000 outcomes');

# else it was no storm
my %expected = (
	ok => 'success', refused => 'refused connection', left => 'client gone',
	'57014' => 'cancel or timeout', '57P01' => 'termination', '22012' => 'error',
	'53R01' => 'bulkhead full', '53R02' => 'queue full', '53R03' => 'waited too long', '53R04' => 'preempted');
cmp_ok($outcomes{$_} // 0, '>', 0, "$expected{$_} ($_)") for sort keys %expected;
is(join(' ', grep { !$expected{$_} && $_ ne 'closed' } sort keys %outcomes), '', 'nothing else');

# Those who have left without a word sleep for some milliseconds more
all_zero($mon, 'after the storm', seconds => 20);
is($mon->value(q{SELECT count(*) FROM resilience.activity WHERE usename = 'storm'}), 0, 'nobody is left');
is($mon->value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'ExclusiveLock'}), 0, 'no lock, either');

# The views count sessions.  Are the slots themselves all there?
my @params = (user => 'storm', application_name => 'storm');
set_conf($mon, 'resilience.max_running' => -1);
$mon->ok(q{SELECT resilience.alter_bulkhead('reads', max_waiting => 0)});
is(count_slots($node, $mon, 7, @params), 5, 'the five slots of one bulkhead');
$mon->ok(q{SELECT resilience.drop_bulkhead('reads'); SELECT resilience.alter_bulkhead('all', max_waiting => 0)});
is(count_slots($node, $mon, 10, @params), 8, 'the eight of another');
$mon->ok(q{SELECT resilience.alter_bulkhead('all', max_running => -1); SELECT resilience.alter_bulkhead('everybody', max_running => 3)});
is(count_slots($node, $mon, 5, @params), 3, 'those of the third');
$mon->ok(q{SELECT resilience.alter_bulkhead('all', max_connections => 2)});
my @sessions = map { ResilienceTest::Client->new($node, @params) } 1 .. 3;
is(scalar(grep { !$_->{error} } @sessions), 2, 'and of connections');
$_->close for @sessions;
$mon->ok(q{SELECT resilience.drop_bulkhead('all'); SELECT resilience.drop_bulkhead('everybody')});
set_conf($mon, 'resilience.max_running' => 4, 'resilience.max_waiting' => 0);
is(count_slots($node, $mon, 6, @params), 4, 'the four of the server');
all_zero($mon, 'at the end');

# The same program on a crowded server-wide limit alone, where those that have
# waited keep their slot for some transactions: none is kept for good
set_conf($mon, 'resilience.max_running' => 3, 'resilience.max_waiting' => 1000);
$mon->ok(q{ALTER ROLE storm SET resilience.max_wait = '10s'});
for my $mode (qw(simple prepared))
{
	$node->pgbench("-n -M $mode -U storm -c 24 -j 2 -t 100", 0, [qr{processed: 2400/2400}], [qr{^}],
		"pgbench -M $mode with 24 clients on 3 slots",
		{ "019_one_$mode\@3" => "SELECT 1;\n", "019_block_$mode\@1" => "BEGIN;\nSELECT 1;\nSELECT 2;\nEND;\n" });
	all_zero($mon, "after pgbench -M $mode");
}

# ... also beside a bulkhead: who keeps the wide slot must not wait for a
# narrow one that is held by somebody who waits for the wide one
set_conf($mon, 'resilience.max_running' => 1);
$mon->ok(q{SELECT resilience.create_bulkhead('narrow', role_name => 'app', max_running => 1, max_waiting => 100, max_wait => '10 s')});
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '10s'; REVOKE storm FROM app});
my $script = PostgreSQL::Test::Utils::tempdir() . '/script';
append_to_file($script, "SELECT 1;\n");
my (@runs, @outputs, @errors);
for my $user (qw(app storm))
{
	my $i = @runs;
	$outputs[$i] = $errors[$i] = '';
	push @runs, IPC::Run::start(
		[ 'pgbench', '-n', '-M', 'prepared', '-c', '4', '-t', '3000', '-f', $script, '-U', $user,
			'-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$outputs[$i], '2>', \$errors[$i], IPC::Run::timeout(100));
}
$_->finish for @runs;
for (0, 1)
{
	like($outputs[$_], qr{processed: 12000/12000}, "two groups, one in a bulkhead: number $_ is served") or diag $errors[$_];
}
$mon->ok(q{SELECT resilience.drop_bulkhead('narrow')});
all_zero($mon, 'after two groups');
set_conf($mon, 'resilience.max_running' => 3);

@sessions = map { connect_to($node, user => 'storm') } 1 .. 12;
for my $round (1 .. 30)
{
	$_->send('SELECT 1') for @sessions;
	for (@sessions)
	{
		my $result = $_->result;
		die $result->{error}{M} if $result->{error};
		# at once, while its turn lasts: cancelled, gone or terminated with a
		# slot that it keeps
		$_->send('SELECT pg_sleep(0.0005)');
	}
	for my $i (0 .. $#sessions)
	{
		my $what = ($round * 7 + $i) % 12;
		if ($what == 0) { $sessions[$i]->vanish; $sessions[$i] = connect_to($node, user => 'storm'); next }
		if ($what == 1) { $sessions[$i]->result; $sessions[$i]->close; $sessions[$i] = connect_to($node, user => 'storm'); next }
		if ($what == 2)
		{
			$mon->ok("SELECT pg_terminate_backend($sessions[$i]{pid})");
			$sessions[$i] = connect_to($node, user => 'storm');
			next;
		}
		$sessions[$i]->result;
	}
}
$_->close for @sessions;
set_conf($mon, 'resilience.max_waiting' => 0);
is(count_slots($node, $mon, 5, user => 'storm'), 3, 'the three slots of the server are all there');
all_zero($mon, 'at last');

done_testing();
