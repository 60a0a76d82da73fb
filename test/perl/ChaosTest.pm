# Helpers of the TAP tests of chaos experiments.

package ChaosTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

our @EXPORT = qw(chaos_node experiment experiment_of end_experiments injected_is);

# A server on which faults may be injected.
sub chaos_node
{
	my ($name, %params) = @_;

	$params{conf} = "resilience.chaos = on\n" . ($params{conf} // '');
	return preloaded_node($name, %params);
}

# Define an experiment and start it, in place of one of that name that there
# may be.  Arguments as in SQL; unless they say otherwise every statement (call,
# connection) is hit, and nothing but the test ends it.
my %defaults = (
	probability => '1',
	max_injections => '1000000',
	max_concurrent => '1000',
	max_duration => q{'10 min'},
	stop_when_unhealthy => 'false');

sub experiment
{
	my ($mon, $name, $impact, %arguments) = @_;
	my %all = (%defaults, %arguments);

	$mon->ok("SELECT resilience.stop_experiment(name) FROM resilience.experiments WHERE name = '$name' AND state = 'running'");
	$mon->ok("SELECT resilience.drop_experiment(name) FROM resilience.experiments WHERE name = '$name'");
	$mon->ok("SELECT resilience.create_experiment('$name', '$impact', "
		  . join(', ', map { "$_ => $all{$_}" } sort keys %all) . ')');
	$mon->ok("SELECT resilience.start_experiment('$name')");
	return;
}

# Columns of the view, as text.
sub experiment_of
{
	my ($mon, $name, @columns) = @_;

	return $mon->value("SELECT concat_ws(' ', " . join(', ', @columns) . ") FROM resilience.experiments WHERE name = '$name'");
}

sub injected_is
{
	my ($mon, $name, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(experiment_of($mon, $name, 'injections_total'), $expected, "$label: injections");
}

# All of them.
sub end_experiments
{
	my ($mon) = @_;

	$mon->ok(q{SELECT resilience.stop_experiment(name) FROM resilience.experiments WHERE state = 'running'});
	$mon->ok('SELECT resilience.drop_experiment(name) FROM resilience.experiments');
	return;
}

1;
