# Whether the server is loaded, as others (budgets, say) are told: somebody
# waits for the server-wide limit, or more transactions run than there are
# cores and wait for one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('loaded', conf => "resilience.max_wait = '10min'\n");
my $mon = monitor($node);
my $loaded = 'SELECT loaded FROM resilience.load_shedder';

is($mon->value($loaded), 'f', 'not loaded at first');

# One sleeper for each slot is no load, one more is
set_conf($mon, 'resilience.max_running' => 2);
my @sleepers = map { connect_to($node, user => 'app') } 1 .. 3;
$_->send('SELECT pg_sleep(1000)') for @sleepers[ 0, 1 ];
wait_running($mon, undef, 2);
sleep 0.5;
is($mon->value($loaded), 'f', 'nor when all slots are taken');
$sleepers[2]->send('SELECT pg_sleep(1000)');
wait_waiting($mon, undef, 1);
my $began = time();
wait_for_value($mon, $loaded, 't');
cmp_ok(time() - $began, '<', 5, 'loaded when somebody waits');

$sleepers[0]->cancel;
error_is($sleepers[0]->result, '57014', 'a slot is free');
wait_waiting($mon, undef, 0);
$began = time();
is($mon->value($loaded), 't', 'loaded for a moment longer');
wait_for_value($mon, $loaded, 'f');
cmp_ok(time() - $began, '>', 0.5, 'until it has been quiet for a while');

# Many sleepers without a limit are none
set_conf($mon, 'resilience.max_running' => -1);
$_->cancel for @sleepers[ 1, 2 ];
$_->result for @sleepers[ 1, 2 ];
push @sleepers, map { connect_to($node, user => 'app') } 1 .. 20;
$_->send('SELECT pg_sleep(1000)') for @sleepers;
sleep 1;
is($mon->value($loaded), 'f', 'sleepers are no load');
$_->cancel for @sleepers;
$_->result for @sleepers;

# More of those that need a core than there are cores are
my $cores = qx(getconf _NPROCESSORS_ONLN) || 1;
SKIP:
{
	skip 'too many cores to keep busy', 2 if $cores > 16;
	push @sleepers, connect_to($node, user => 'app') while @sleepers < 2 * $cores + 2;
	$_->send('SELECT count(*) FROM generate_series(1, 1000000000) i') for @sleepers;
	wait_for_value($mon, $loaded, 't');
	pass('loaded when cores are short');
	$_->cancel for @sleepers;
	$_->result for @sleepers;
	wait_for_value($mon, $loaded, 'f');
	pass('no longer when they are not');
}

done_testing();
