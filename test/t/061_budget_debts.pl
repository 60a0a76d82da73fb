# What a bulkhead with a budget of CPU time owes: all that the kernel says its
# sessions used, parsing and planning too; what would not have run under
# "observe" is not owed; nothing beyond the burst while the budget does not
# act; CPU time, not the time to pay it, when the share is altered.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

plan skip_all => 'needs /proc/PID/schedstat' unless -r '/proc/self/schedstat';

my $node = preloaded_node('budget_debts', roles => [qw(app other)]);
my $mon = monitor($node);

$mon->ok(q{CREATE FUNCTION burn(loops int) RETURNS int LANGUAGE plpgsql AS
	'DECLARE n int := 0; BEGIN FOR i IN 1..loops LOOP n := n + i % 7; END LOOP; RETURN n; END'});

sub number
{
	my ($column) = @_;
	return $mon->value("SELECT $column FROM resilience.bulkheads WHERE name = 'b'");
}

sub bulkhead
{
	my ($arguments) = @_;
	$mon->ok(q{SELECT resilience.drop_bulkhead('b', if_exists => true)});
	$mon->ok(qq{SELECT resilience.create_bulkhead('b', role_name => 'app', $arguments)});
	$mon->ok('SELECT resilience.reset_statistics()');
	return;
}

# CPU seconds of a session by the kernel's count
sub kernel
{
	my ($session) = @_;
	open(my $file, '<', "/proc/$session->{pid}/schedstat") or return 0;
	my ($ns) = split ' ', <$file>;
	return $ns / 1e9;
}

my $app = connect_to($node, user => 'app');

# Statements that are hardly more than their parsing and planning
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 hour'});
my $joins = 'SELECT count(*) FROM ' . join(' JOIN ', 'pg_class c0', map { "pg_class c$_ USING (oid)" } 1 .. 7)
  . ' WHERE c0.oid = 0';
$app->ok($joins);
my $before = kernel($app);
my $counted = number('cpu_seconds_total');
$app->ok($joins) for 1 .. 20;
my $used = kernel($app) - $before;
$counted = number('cpu_seconds_total') - $counted;
note("kernel: $used s, bulkhead: $counted s");
cmp_ok($counted, '>', 0.8 * $used, 'parsing and planning are counted');
cmp_ok($counted, '<', 1.1 * $used, 'and nothing twice');

# What the session did for others is not
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 hour', command => 'INSERT'});
$mon->ok('CREATE TABLE result (n int); GRANT INSERT ON result TO app');
$app->ok('INSERT INTO result VALUES (1)');
$app->ok('SELECT burn(3000000)');
$app->ok('INSERT INTO result VALUES (1)');
$before = kernel($app);
$app->ok('SELECT burn(3000000)');
$used = kernel($app) - $before;
$app->ok('INSERT INTO result VALUES (1)');
cmp_ok(number('cpu_seconds_total'), '<', 0.3 * $used, 'nor what was done in between');

# Who is refused again and again pays only for what runs
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 ms'});
$app->ok('SELECT burn(300000)');
my $owed = number('cpu_debt_seconds');
error_is($app->query($joins), '53R01', 'refused') for 1 .. 5;
cmp_ok(number('cpu_debt_seconds'), '<=', $owed, 'a refusal costs nothing');

# Observe: what would not have run owes nothing, but is counted
bulkhead(q{cpu_share => 0.001, cpu_burst => '1 ms', mode => 'observe'});
$app->ok('SELECT burn(300000)');
$owed = number('cpu_debt_seconds');
$counted = number('cpu_seconds_total');
$app->ok('SELECT burn(300000)') for 1 .. 5;
is(number('refused_budget_total'), 5, 'observe: five would have been refused');
cmp_ok(number('cpu_debt_seconds'), '<=', $owed, 'they owe nothing');
cmp_ok(number('cpu_seconds_total'), '>', 2 * $counted, 'but are counted');

# While the budget does not act no more than the burst can be owed, or the
# first load would be met with hours of refusals
bulkhead(q{cpu_share => 0.001, cpu_burst => '100 ms', only_under_load => true});
wait_for_value($mon, 'SELECT loaded FROM resilience.load_shedder', 'f');
$app->ok('SELECT burn(1000000)') for 1 .. 10;
cmp_ok(number('cpu_seconds_total'), '>', 0.2, 'much was used');
is(number('refused_budget_total'), 0, 'nobody was refused');
cmp_ok(number('cpu_debt_seconds'), '<=', 0.1001, 'the burst is owed, no more');
cmp_ok(number('cpu_debt_seconds'), '>', 0.05, 'and not much less');

# A larger share pays the same debt sooner
bulkhead(q{cpu_share => 0.001, cpu_burst => '10 ms'});
$app->ok('SELECT burn(10000000)');
$owed = number('cpu_debt_seconds');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', cpu_share => 0.002)});
cmp_ok(abs(number('cpu_debt_seconds') - $owed), '<', 0.1 * $owed, 'altering the share leaves what is owed');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', cpu_share => 1)});
wait_for_value($mon, q{SELECT cpu_debt_seconds < 0.005 FROM resilience.bulkheads WHERE name = 'b'}, 't');
pass('and all of it is paid soon with a large share');

done_testing();
