# A race that only a debugger can hold open: a slot's mark, and who took the slot
# before back.
#
# Somebody takes a kept slot back and is stopped by gdb just before it removes
# the slot's mark.  Meanwhile the owner comes again, has another turn and keeps
# a slot again.  What the first one then removes may not be the new mark, or
# nobody ever takes that slot back from a client that does not return.
#
# Wants gdb, the library's debug information, and leave to trace processes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../../perl";
use BreakerTest qw(freeze thaw);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

plan skip_all => 'no gdb' if system('gdb --version >/dev/null 2>&1') != 0;

my $scope = '/proc/sys/kernel/yama/ptrace_scope';
plan skip_all => 'processes may not be traced here' if -e $scope && slurp_file($scope) != 0 && $< != 0;

# Where a mark is removed
my $source = slurp_file("$FindBin::RealBin/../../../src/shared/turns.c");
my @lines = split /\n/, $source;
my ($line) = grep { $lines[ $_ - 1 ] =~ /step: reclaim-forget/ } 1 .. @lines;
$line++;

my $node = preloaded_node('races', conf => q(
resilience.max_running = 2
resilience.max_wait = 10min
resilience.queue_target = 0
));
my $mon = monitor($node);
my $here = $node->basedir;
my @debuggers;

END
{
	local $?;
	$_->kill_kill for @debuggers;
}

# Trace a session: commands, in which SAY name leaves a file that said() waits
# for, and AWAIT name waits for let_go().
sub trace
{
	my ($session, @commands) = @_;
	my @command = ('gdb', '-q', '-batch', '-nx', '-p', $session->{pid}, '-ex', 'handle SIGUSR1 SIGUSR2 SIGURG SIGINT nostop noprint pass');

	for (@commands)
	{
		s/^SAY (\w+)$/shell touch $here\/$1/;
		s/^AWAIT (\w+)$/shell while [ ! -e $here\/$1 ]; do sleep 0.02; done/;
		push @command, '-ex', $_;
	}
	my ($out, $in) = ('', '');
	push @debuggers, IPC::Run::start(\@command, '<', \$in, '>', "$here/gdb.$session->{pid}", '2>&1');
	return;
}

sub said
{
	my ($name) = @_;

	return wait_until("gdb says \"$name\"", sub { -e "$here/$name" });
}

sub let_go
{
	my ($name) = @_;

	append_to_file("$here/$name", '');
	return;
}

my ($holder, $other, $owner, $taker, $last) = map { connect_to($node, user => 'app') } 1 .. 5;
# the first statement of a session takes as long as a turn
$_->ok('SELECT pg_sleep(0)') for ($holder, $other, $owner, $taker, $last);

# The owner has waited, has its turn and keeps its slot; the taker waits
$_->send('SELECT pg_sleep(600)') for ($holder, $other);
wait_running($mon, undef, 2);
$owner->send('SELECT pg_sleep(0.004)');
wait_waiting($mon, undef, 1);
$taker->send('SELECT pg_sleep(600)');
wait_waiting($mon, undef, 2);
trace($taker, "break turns.c:$line", 'SAY attached', 'continue', 'SAY taken', 'AWAIT go', 'delete', 'detach');
said('attached');
$holder->cancel;
ok(!$owner->result->{error}, 'the owner has its turn');
said('taken');
is($mon->value('SELECT running FROM resilience.load_shedder'), 1, 'the taker has taken its slot back, and not yet removed the mark');

# The owner comes again.  It has been too slow to keep a slot; let it have been
# quick twice since then, which takes time that a test would not always have.
trace($owner, 'break rsl_turn_keep', 'SAY ready', 'continue', q{set var 'turns.c'::quick_returns = 2}, 'delete', 'detach', 'SAY left');
said('ready');
$owner->send('SELECT pg_sleep(0.004)');
wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $owner->{pid}", 'waiting');
$last->send('SELECT 1');
wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $last->{pid}", 'waiting');
freeze($last->{pid});
$other->cancel;
ok(!$owner->result->{error}, 'the owner has another turn');
said('left');

# Now the taker goes on, and then the last one looks after kept slots
let_go('go');
wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $taker->{pid}", 'running');
thaw($last->{pid});
eval { wait_until('the last one runs', sub { $last->done }, 5) };
ok($last->done, 'the slot that the owner keeps is taken back from it');

$_->cancel for ($taker, $last);
$_->result for ($holder, $other, $taker, $last);
$_->close for ($holder, $other, $owner, $taker, $last);
all_zero($mon, 'at the end');
is(count_slots($node, $mon, 4), 2, 'all slots are there');
$_->finish for splice @debuggers;
$mon->close;
$node->stop;

done_testing();
