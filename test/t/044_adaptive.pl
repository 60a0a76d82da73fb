# The server-wide limit that finds itself: up for sleepers, down where one row
# is what everybody wants, still while it is not reached, and always between
# the floor and the ceiling.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $clients = 40;
my $node = preloaded_node('adaptive', conf => "resilience.max_wait = '1min'\n");
my $mon = monitor($node);
my $directory = PostgreSQL::Test::Utils::tempdir();

$mon->ok('CREATE TABLE hot (n bigint); INSERT INTO hot VALUES (0); GRANT ALL ON hot TO app');

sub shown { return $mon->value("SELECT $_[0] FROM resilience.load_shedder") }

# Settings, in force when the limit is as expected.
sub conf
{
	my ($expected, %settings) = @_;

	$mon->ok("ALTER SYSTEM SET resilience.$_ = '$settings{$_}'") for keys %settings;
	$mon->ok('SELECT pg_reload_conf()');
	wait_for_value($mon, "SELECT (current_limit $expected)::text FROM resilience.load_shedder", 'true');
	return;
}

# Many clients that run this, until end_load()
my $load;

sub begin_load
{
	my ($sql) = @_;

	open(my $file, '>', "$directory/load.sql") or die;
	print $file $sql;
	close $file;
	$load = IPC::Run::start(
		[
			'pgbench', '-n', '-T', 100, '-c', $clients, '-U', 'app', '-h', $node->host, '-p', $node->port,
			'-f', "$directory/load.sql", 'postgres'
		],
		'>', "$directory/out", '2>', "$directory/err");
	wait_until('the load is there', sub { shown('running') > 0 });
	return;
}

sub end_load
{
	$load->signal('TERM');
	$load->finish;
	wait_running($mon, undef, 0);
	return;
}

# It starts at four for each core
is(shown('limit_reason'), undef, 'no reason while the limit is fixed');
my $cores = qx(getconf _NPROCESSORS_ONLN) || 1;
my $start = 4 * $cores < 100 ? 4 * $cores : 100;
conf("= $start", adaptive_limit => 'on');
ok(1, "the limit starts at $start");

# Not reached, not moved
my $holder = connect_to($node, user => 'app');
$holder->send('SELECT pg_sleep(1000)');
wait_for_value($mon, 'SELECT limit_reason FROM resilience.load_shedder', 'unused');
sleep 2;
is(shown('current_limit'), $start, 'holds still while it is not reached');
is(shown('limit_reason'), 'unused', 'and says so');
$holder->cancel;
$holder->result;

# Sleepers: up, from as low as can be
conf('= 2', max_running => 2);
conf('= 2', max_running => -1);
begin_load('SELECT pg_sleep(0.05);');
my $began = time();
wait_for_value($mon, "SELECT (current_limit >= $clients)::text FROM resilience.load_shedder", 'true');
cmp_ok(time() - $began, '<', 20, 'rises for sleepers');
end_load();

# One row that all want: down
conf('= 90', min_running_limit => 90);
conf('= 90', min_running_limit => 2);
begin_load('UPDATE hot SET n = n + 1 RETURNING pg_sleep(0.002);');
$began = time();
wait_for_value($mon, 'SELECT (current_limit <= 12)::text FROM resilience.load_shedder', 'true');
cmp_ok(time() - $began, '<', 30, 'falls where one row is what everybody wants');
cmp_ok(shown('current_limit'), '>=', 2, 'but not below the floor');

# Floor and ceiling are obeyed at once, under load
conf('>= 30', min_running_limit => 30);
ok(1, 'a higher floor');
my @seen = map { sleep 0.05; shown('current_limit') } 1 .. 40;
is(scalar(grep { $_ < 30 } @seen), 0, 'it does not fall below it') or diag("@seen");
conf('<= 3', min_running_limit => 2, max_running => 3);
ok(1, 'a lower ceiling');
@seen = map { sleep 0.05; shown('current_limit') } 1 .. 40;
is(scalar(grep { $_ < 2 || $_ > 3 } @seen), 0, 'it stays between them') or diag("@seen");
conf('= 3', min_running_limit => 50);
ok(1, 'of a floor above the ceiling the ceiling counts');

# Off: what is configured is in force at once
conf('= 33', adaptive_limit => 'off', max_running => 33);
wait_for_value($mon, 'SELECT (limit_reason IS NULL)::text FROM resilience.load_shedder', 'true');
ok(1, 'turned off');
@seen = map { sleep 0.05; shown('current_limit') } 1 .. 10;
is(scalar(grep { $_ != 33 } @seen), 0, 'the fixed limit stays');
end_load();

# Where nothing is enforced nothing can be learnt
conf("= $start", adaptive_limit => 'on', max_running => -1, min_running_limit => 2, mode => 'observe');
wait_for_value($mon, 'SELECT limit_reason FROM resilience.load_shedder', 'not enforced');
begin_load('SELECT pg_sleep(0.05);');
sleep 2;
is(shown('current_limit'), $start, 'in observe mode it holds still');
end_load();

# The caps of the classes follow
conf('= 40', mode => 'enforce', min_running_limit => 40, max_running => 40);
$mon->ok(q(ALTER ROLE app SET resilience.priority = 'high'));
my $important = connect_to($node, user => 'app');
$important->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
my @low = map { connect_to($node, user => 'app') } 1 .. 15;
$_->ok('SET resilience.requested_priority = low') for @low;
$_->send('SELECT pg_sleep(1000)') for @low;
wait_for_value($mon, q(SELECT running FROM resilience.load_by_priority WHERE priority = 'low'), 10);
pass('a quarter of the limit for class low');
conf('= 20', max_running => 20);
$low[$_]->cancel for 0 .. 9;
$low[$_]->result for 0 .. 9;
wait_for_value($mon, q(SELECT running FROM resilience.load_by_priority WHERE priority = 'low'), 5);
pass('of the new limit, too');
$_->cancel for @low[ 10 .. 14 ], $important;
$_->result for @low[ 10 .. 14 ], $important;
all_zero($mon, 'at the end');

done_testing();
