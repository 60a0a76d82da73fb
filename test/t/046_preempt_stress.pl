# 100 000 short statements, of which some are cancelled by their number: each
# error is that of a statement that was chosen, and whoever was not chosen is
# not cancelled.  No user's cancel is lost, or taken for one of ours.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $clients = 3;
my $statements = $ENV{RSL_STATEMENTS} || 100_000;
my $rounds = 200;
my $seed = $ENV{RSL_SEED} || int(rand(1_000_000)) + 1;
diag("RSL_SEED=$seed") if $ENV{RSL_SEED};
note("RSL_SEED=$seed repeats this run");

my $node = preloaded_node('preempt_stress', roles => [ 'low', 'high' ], conf => q(
resilience.max_running = 3
resilience.max_wait = 1min
resilience.preemption = running
log_min_messages = fatal
));
my $mon = monitor($node);
$mon->ok('ALTER ROLE low SET resilience.priority = low; ALTER ROLE high SET resilience.priority = high');
limit_seconds(120);

my $program = build_libpq_client('preempt');
sub conninfo { return 'host=' . $node->host . ' port=' . $node->port . " dbname=postgres user=$_[0]" }
my $super = conninfo($ResilienceTest::superuser) . q( options='-c resilience.mode=off');

# Run the client; its counts.
sub run_client
{
	my (@args) = @_;
	my %counts;

	note("@args");
	open(my $out, '-|', $program, @args) or die "cannot run $program: $!";
	while (<$out>)
	{
		$counts{$1} = $2 if /^(\w+) (\d+)$/;
	}
	ok(close($out), "the client ends well: $args[0]");
	note(join(', ', map { "$_ $counts{$_}" } sort keys %counts));
	return \%counts;
}

sub statistics
{
	return $mon->ok('SELECT requested, delivered, missed, pending FROM resilience.cancel_statistics()')->{rows}[0];
}

my $counts = run_client('storm', conninfo('low'), conninfo('high'), $super, $clients, $statements, $seed);
my $executed = $counts->{ok} + $counts->{hit} + $counts->{preempted};

cmp_ok($executed, '>', $statements * 0.8, 'so many statements were executed');
cmp_ok($counts->{hit}, '>', 100, 'many of them were cancelled');
cmp_ok($counts->{chosen} - $counts->{hit}, '>', 100, 'many requests came too late, or too early');
cmp_ok($counts->{cancelled}, '>', 0, 'users cancelled as well');
is($counts->{wrong_number}, 0, 'no error of another statement than the chosen one');
is($counts->{wrong_not_chosen}, 0, 'no error that nobody asked for');
is($counts->{wrong_twice}, 0, 'no statement was cancelled twice');
is($counts->{wrong_cancel}, 0, 'no more users\' cancels than were sent');
is($counts->{wrong_error}, 0, 'no other error');

all_zero($mon, 'after the storm');
my ($requested, $delivered, $missed, $pending) = @{ statistics() };
is($delivered, $counts->{hit} + $counts->{preempted}, 'the server delivered as many errors as the clients have seen');
is($requested, $delivered + $missed + $pending, 'each request was delivered, or missed');
cmp_ok($requested, '>=', $counts->{chosen}, 'the server knows all requests');
is($mon->value('SELECT sum(preempted_running_total) FROM resilience.load_by_priority'), $delivered,
	'the view counts them');

$counts = run_client('user', conninfo('low'), $super, $rounds, $seed);
is($counts->{user}, $rounds, 'a user\'s cancel beside late requests: always 57014');
is($counts->{both_user} + $counts->{both_preempted}, $rounds,
	'a user\'s cancel beside a request for the same statement: one of the two');
is($counts->{wrong}, 0, 'nothing else');
all_zero($mon, 'at the end');
is(count_slots($node, $mon, 5, user => 'high'), 3, 'no slot is lost');

done_testing();
