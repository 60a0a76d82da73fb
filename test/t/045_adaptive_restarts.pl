# The adaptive limit when the launcher, or the server, is started again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('adaptive_restarts',
	conf => "resilience.adaptive_limit = on\nresilience.min_running_limit = 1\nresilience.max_wait = '1min'\n");
my $mon = monitor($node);
my $cores = qx(getconf _NPROCESSORS_ONLN) || 1;
my $start = 4 * $cores < 100 ? 4 * $cores : 100;
my $launcher = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher');
my $limit = 'SELECT current_limit FROM resilience.load_shedder';

is($mon->value($limit), $start, 'in force from the start of the server');

# leave it at 1, which is not where it would start
sub conf
{
	my ($expected, $max) = @_;

	$mon->ok("ALTER SYSTEM SET resilience.max_running = $max");
	$mon->ok('SELECT pg_reload_conf()');
	wait_for_value($mon, $limit, $expected);
	return;
}
conf(1, 1);
conf(1, -1);

# a launcher that is gone: the limit holds, and the next one goes on
my $pid = $mon->value($launcher);
$mon->ok("SELECT pg_terminate_backend($pid)");
wait_until('the launcher is gone', sub { !process_lives($pid) });
my $one = connect_to($node, user => 'app');
my $two = connect_to($node, user => 'app');
$one->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
is($mon->value($limit), 1, 'the limit holds without the launcher');
wait_until('there is another launcher', sub { ($mon->value($launcher) // $pid) != $pid });
is($mon->value($limit), 1, 'and it goes on from there');
$one->cancel;
$one->result;
wait_for_value($mon, 'SELECT limit_reason FROM resilience.load_shedder', 'unused');
is($mon->value($limit), 1, 'which it leaves alone while nobody waits');

# a long statement in the only slot, nothing ends: others get in all the same
$one->send('SELECT pg_sleep(1000)');
wait_running($mon, undef, 1);
$two->send('SELECT 1');
error_is($two->result, 'no error', 'who waits behind a sleeper is not stuck');
cmp_ok($mon->value($limit), '>', 1, 'since the limit has risen');
$one->cancel;
$one->result;

# every session is gone when the postmaster has noticed
sub crash
{
	my $victim = connect_to($node);

	kill 'KILL', $victim->{pid};
	wait_until('the server has crashed', sub { !process_lives($mon->{pid}) });
	wait_until('the server has recovered', sub { $mon = eval { monitor($node) } });
	return;
}

# a crash: it starts anew, within its bounds
conf(1, 1);
conf(1, -1);
crash();
is($mon->value($limit), $start, 'after a crash it starts anew');
conf(3, 3);
crash();
is($mon->value($limit), 3, 'but not above max_running');

# who may set it
my $app = connect_to($node, user => 'app');
error_is($app->query('SET resilience.adaptive_limit = off'), '55P02', 'not in a session');
error_is($app->query('ALTER SYSTEM SET resilience.adaptive_limit = off'), '42501', 'not by a user');
error_is($mon->query('SET resilience.min_running_limit = 5'), '55P02', 'not by a superuser in a session');
error_is($mon->query('ALTER SYSTEM SET resilience.min_running_limit = 0'), '22023', 'a floor of 0 is refused');

done_testing();
