# A hundred checks with a timeout of a second, some of which hang: all the
# others are run on time, with as many workers as the README asks for.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

# 30 that hang, for 1 s of 5: 6 workers on average, 12 with room for chance
my $workers = 12;
my $node = preloaded_node('lateness',
	conf => "max_worker_processes = 30\nresilience.max_health_check_workers = $workers\n");
my $mon = monitor($node);

my $begin = time();
$mon->ok(q{SELECT resilience.create_health_check('quick' || i, query => 'SELECT true', timeout => '1 s') FROM generate_series(1, 70) i;
	SELECT resilience.create_health_check('hangs' || i, query => 'SELECT true FROM pg_sleep(1000)', timeout => '1 s') FROM generate_series(1, 30) i});
wait_for_value($mon, q{SELECT count(*) FROM resilience.health_checks WHERE name LIKE 'quick%' AND status = 'healthy'}, 70);
my $took = time() - $begin;
cmp_ok($took, '<', 8, sprintf('created together, all that are quick have been run soon (%.2f s)', $took));
wait_for_value($mon, q{SELECT count(*) FROM resilience.health_checks WHERE name LIKE 'hangs%' AND status = 'unhealthy'}, 30);
pass('those that hang are unhealthy');

# when the first rush is over
$mon->ok('SELECT resilience.reset_statistics()');
sleep 22;
my $row = $mon->ok(q{SELECT min(runs_total), max(runs_total),
		1000 * max(extract(epoch from max_lateness)),
		1000 * avg(extract(epoch from max_lateness)),
		count(*) FILTER (WHERE status = 'healthy')
	FROM resilience.health_checks WHERE name LIKE 'quick%'})->{rows}[0];
note("quick: min_runs=$row->[0] max_runs=$row->[1] max_lateness=$row->[2] ms, average of these maxima $row->[3] ms");
is($row->[4], 70, 'all that are quick are healthy');
cmp_ok($row->[0], '>=', 1, 'all of them were run again');
cmp_ok($row->[1], '<=', 3, 'none of them too often');
cmp_ok($row->[2], '<', 1000, "and none of them late ($row->[2] ms at most)");
$row = $mon->ok(q{SELECT sum(runs_total), sum(timeouts_total),
		1000 * max(extract(epoch from max_lateness)), 1000 * max(extract(epoch from duration)),
		count(*) FILTER (WHERE status = 'unhealthy')
	FROM resilience.health_checks WHERE name LIKE 'hangs%'})->{rows}[0];
note("hanging: runs=$row->[0] timeouts=$row->[1] max_lateness=$row->[2] ms, longest run $row->[3] ms");
is($row->[4], 30, 'all that hang are unhealthy');
cmp_ok($row->[3], '<', 1500, "cut off at their timeout ($row->[3] ms at most)");
cmp_ok($row->[0], '<=', 30 * 7, 'not run more often than that');

my $peak = 0;
for (1 .. 30)
{
	my $n = $mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker'});
	$peak = $n if $n > $peak;
	sleep 0.1;
}
cmp_ok($peak, '<=', $workers, "never more than $workers workers ($peak)");

# Nothing piles up: of those that were created together few run together
my $together = $mon->value(q{SELECT max(n) FROM (SELECT count(*) n FROM resilience.health_checks
	WHERE name LIKE 'quick%' GROUP BY date_trunc('second', next_run)) x});
cmp_ok($together, '<', 40, "they do not run in step ($together in one second)");
$mon->close;
done_testing();
