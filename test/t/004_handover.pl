# A waiter is cancelled, terminated or runs out of time in the moment in which
# it is handed the slot: it passes the slot on.  Neither it nor anybody behind
# it is lost, and no slot is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(usleep);

srand(20260101);

my $node = preloaded_node('handover', conf => q(log_min_messages = fatal));
my $mon = monitor($node);
my $canceller = monitor($node);

my ($holder, $waiter, $behind) = map { connect_to($node, user => 'app') } 1 .. 3;

# Once: one holds the slot, one waits for it, one waits behind it.  Then the
# holder ends and something happens to the waiter, both within half a
# millisecond, in either order.  Returns what became of the waiter.
sub collide
{
	my ($pool, $happen, $collect) = @_;

	$holder->hold;
	$waiter->send('SELECT 1');
	wait_waiting($mon, $pool, 1);
	$behind->send('SELECT 1');
	wait_waiting($mon, $pool, 2);

	my @acts = (sub { $holder->let_go }, $happen);
	@acts = reverse @acts if rand() < 0.5;
	$acts[0]->();
	usleep(rand(500)) if rand() < 0.7;
	$acts[1]->();

	my $result = $holder->result;
	die "holder: $result->{error}{M}" if $result->{error};
	$result = $behind->result;
	die "who waited behind: $result->{error}{M}" if $result->{error};
	$result = $waiter->result;
	$collect->();
	return $result->{error} ? $result->{error}{C} : 'ok';
}

# Many times.  A lost slot would show in "waited in vain", since the next
# round's first statement would have to wait.
sub collide_often
{
	my ($label, $pool, $times, $sqlstate, $happen, $collect) = @_;
	my %outcomes;

	for (1 .. $times)
	{
		$outcomes{ collide($pool, $happen, $collect) }++;
	}
	is(join(' ', grep { $_ ne 'ok' && $_ ne $sqlstate } sort keys %outcomes),
		'', "$label: $times times, no other outcome");
	note("$label: " . join(', ', map { "$_ $outcomes{$_}" } sort keys %outcomes));
	# else the two never met
	cmp_ok($outcomes{ok} // 0, '>', $times / 100, "$label: some had got the slot");
	cmp_ok($outcomes{$sqlstate} // 0, '>', $times / 100, "$label: others had not");
	return;
}

my @cancel = (
	sub { $canceller->send("SELECT pg_cancel_backend($waiter->{pid})") },
	sub { $canceller->result });
my @terminate = (
	sub { $canceller->send("SELECT pg_terminate_backend($waiter->{pid})") },
	sub {
		$canceller->result;
		# it may have answered before it was hit
		$waiter->read_until('Z') unless $waiter->{eof};
		$waiter->close;
		$waiter = connect_to($node, user => 'app');
	});

# A bulkhead
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1,
	max_waiting => 10, max_wait => '20 s')});
collide_often('cancel', 'b', 1000, '57014', @cancel);
all_zero($mon, 'after 1000 cancels', connections => 3);
collide_often('terminate', 'b', 100, '57P01', @terminate);
all_zero($mon, 'after 100 terminations', connections => 3);

# Two that run out of time at about the moment at which the holder ends, some
# milliseconds after they came.  The next round's first statement would say if
# the slot were lost.
sub expire_often
{
	my ($label, $times, $sqlstate) = @_;
	my %outcomes;

	for my $n (1 .. $times)
	{
		# another text each time: a retry might be refused at once
		$holder->hold;
		$waiter->send("SELECT $n");
		$behind->send("SELECT $n");
		usleep(2500 + rand(5000));
		$holder->let_go;
		$holder->result;
		for ($waiter, $behind)
		{
			my $result = $_->result;
			$outcomes{ $result->{error} ? $result->{error}{C} : 'ok' }++;
		}
	}
	is(join(' ', sort keys %outcomes), "$sqlstate ok", "$label: some in time, some not");
	note("$label: " . join(', ', map { "$_ $outcomes{$_}" } sort keys %outcomes));
	all_zero($mon, "after $label", connections => 3);
	return;
}

$_->ok(q{SET statement_timeout = '5ms'}) for ($waiter, $behind);
expire_often('statement_timeout', 200, '57014');
$_->ok('RESET statement_timeout') for ($waiter, $behind);

$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_wait => '5 ms')});
expire_often('max_wait', 200, '53R03');

$_->close for ($holder, $waiter, $behind);
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
is(count_slots($node, $mon, 2), 1, 'there is still exactly one slot');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});

# The server-wide limit
$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '20s'});
set_conf($mon, 'resilience.max_running' => 1);
($holder, $waiter, $behind) = map { connect_to($node, user => 'app') } 1 .. 3;
collide_often('cancel, server-wide', undef, 300, '57014', @cancel);
all_zero($mon, 'of the server-wide limit');
collide_often('terminate, server-wide', undef, 50, '57P01', @terminate);
all_zero($mon, 'of the server-wide limit');
$_->close for ($holder, $waiter, $behind);
set_conf($mon, 'resilience.max_waiting' => 0);
is(count_slots($node, $mon, 2), 1, 'there is still exactly one slot in the server');
all_zero($mon, 'at the end');

done_testing();
