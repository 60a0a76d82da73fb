# A server that is started with less room in shared memory than there are
# definitions: some of each kind are in force, from the file and from the
# tables, the log says what is not and which setting to raise, and with that
# setting all are there again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('less_room', init => [ allows_streaming => 1 ]);
my $mon = monitor($node);
my $file = $node->data_dir . '/resilience.snapshot';

# Of each kind: the setting, a definition, the name in the log, how many are in force
my @kinds = (
	['max_bulkheads', q{create_bulkhead('%s', role_name => 'app', max_running => 50)}, 'bulkhead',
		q{SELECT count(*) FROM resilience.health WHERE kind = 'bulkhead'}],
	['max_breakers', q{create_breaker('%s')}, 'circuit breaker',
		q{SELECT count(*) FROM resilience.health WHERE kind = 'breaker'}],
	['max_runaway_rules', q{create_runaway_rule('%s', max_duration => '1 h')}, 'runaway rule',
		q{SELECT count(*) FROM resilience.health WHERE kind = 'runaway_rule'}],
	['max_health_checks', q{create_health_check('%s', query => 'SELECT true')}, 'health check',
		q{SELECT count(*) FROM resilience.health WHERE kind = 'health_check'}],
	['max_features', q{create_feature('%s')}, 'feature',
		q{SELECT count(*) FROM resilience.health WHERE kind = 'feature'}],
	['max_degradations', q{create_degradation('%s', 'loaded', 'low', '{"work_mem": "1MB"}')}, 'degradation',
		q{SELECT count(*) FROM resilience.health WHERE kind = 'degradation'}],
	['max_experiments', q{create_experiment('%s', 'latency', delay => '1 ms')}, 'experiment',
		q{SELECT count(*) FROM resilience.metrics WHERE name = 'resilience_experiment_state'}]);

for my $kind (@kinds)
{
	$mon->ok('SELECT resilience.' . sprintf($kind->[1], "one$_")) for 1 .. 4;
	is($mon->value($kind->[3]), 4, "four are in force: $kind->[2]");
}

# A standby with less room than its primary lives by what fits, and by changes
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('small');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', join('', map { "resilience.$_->[0] = 3\n" } @kinds));
$standby->start;
my $there = monitor($standby);
for my $kind (@kinds)
{
	wait_until("three of four on the standby: $kind->[2]", sub { $there->value($kind->[3]) == 3 }, 30);
	pass("on the standby three of four are in force: $kind->[2]");
}
$mon->ok(q{SELECT resilience.alter_bulkhead(name, max_running => 7) FROM resilience.bulkheads});
wait_until(
	'the standby follows',
	sub { $there->value(q{SELECT count(*) FROM resilience.metrics WHERE name = 'resilience_bulkhead_max_running' AND value = 7}) == 3 }, 30);
pass('and a change of the primary is in force there');
$there->close;
$standby->stop;

sub start_with
{
	my ($room, $before) = @_;

	$mon->close;
	$node->stop;
	$before->() if $before;
	$node->append_conf('postgresql.conf', join('', map { "resilience.$_->[0] = $room\n" } @kinds));
	my $log = -s $node->logfile;
	$node->start;
	$mon = monitor($node);
	return $log;
}

for my $source ('the file', 'the tables')
{
	my $log = start_with(2, $source eq 'the file' ? undef : sub { unlink $file or die $! });

	for my $kind (@kinds)
	{
		wait_until("two of four: $kind->[2], from $source", sub { $mon->value($kind->[3]) == 2 }, 20);
		pass("from $source two of four are in force: $kind->[2]");
		wait_until("the log tells: $kind->[2]",
			sub { slurp_file($node->logfile, $log) =~ /\Q$kind->[2]\E "one\d" is not in force: no room in shared memory.*?left_out=2.*?HINT:  Drop some, or raise "resilience\.\Q$kind->[0]\E"/s }, 20);
		pass("the log tells which one is not, and what to do: $kind->[2]");
		error_is($mon->query('SELECT resilience.' . sprintf($kind->[1], 'more')), '53400', "there is no room for more: $kind->[2]");
	}

	# what is left out is in nobody's way
	my $changed = $mon->query(q{SELECT resilience.alter_bulkhead(name, max_running => max_running - 1)
		FROM resilience.bulkheads WHERE name IN (SELECT component FROM resilience.health WHERE kind = 'bulkhead')});
	error_is($changed, 'no error', 'what is in force can be changed');
	like($changed->{notices}[0]{M} // '', qr/^bulkhead "one\d" is not in force: no room/, 'and whoever does so is told what is not');
	start_with(4);
	for my $kind (@kinds)
	{
		wait_until("four again: $kind->[2]", sub { $mon->value($kind->[3]) == 4 }, 20);
		pass("with the room of before all are in force: $kind->[2]");
	}
}

# One by one they can be dropped, until the others fit
start_with(2);
for my $kind (@kinds)
{
	my ($drop) = $kind->[1] =~ /^create_(\w+)/;

	for my $n (4, 3)
	{
		my $result = $mon->query("SELECT resilience.drop_$drop('one$n')");
		my $told = join("\n", map { $_->{M} } @{ $result->{notices} });

		error_is($result, 'no error', "one can be dropped: $kind->[2]");
		if ($n == 4) { like($told, qr/^\Q$kind->[2]\E "one\d" is not in force/m, '... and another one is still without room') }
		else { unlike($told, qr/^\Q$kind->[2]\E "/m, '... and then all the others are in force') }
	}
	is($mon->value($kind->[3]), 2, "two of two: $kind->[2]");
}

$mon->close;
$node->stop;
done_testing();
