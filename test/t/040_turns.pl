# Turns: under overload a session that was handed a slot works for a while,
# and then everybody else has a turn before it has the next one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('turns', roles => [ 'app', 'important' ], conf => q(
resilience.max_running = 1
resilience.max_wait = 10min
resilience.queue_target = 0
));
my $mon = monitor($node);

$mon->ok(q{CREATE SEQUENCE work; CREATE TABLE done (n bigint, pid int);
	GRANT ALL ON SEQUENCE work TO PUBLIC; GRANT ALL ON done TO PUBLIC;
	ALTER ROLE important SET resilience.priority = high});

# One transaction of about 1 ms; in "done" they stand in the order in which
# they had the slot.
my $script = "$PostgreSQL::Test::Utils::tmp_check/turns.sql";
append_to_file($script,
	"INSERT INTO done SELECT nextval('work'), pg_backend_pid() FROM pg_sleep(0.0005);\n");

# Who worked, one after the other: a list of [pid, transactions].  The first
# and the last turn of a run are left out: they are shorter, or longer.
sub turns
{
	my $turns = $mon->value(q{
		SELECT string_agg(pid || ':' || n, ' ' ORDER BY turn) FROM (
			SELECT pid, turn, count(*) AS n FROM (
				SELECT n, pid, sum(CASE WHEN pid = before THEN 0 ELSE 1 END) OVER (ORDER BY n) AS turn FROM (
					SELECT n, pid, lag(pid) OVER (ORDER BY n) AS before FROM done) d) d
			GROUP BY pid, turn) d});
	my @turns = map { [ split /:/ ] } split / /, $turns;
	return @turns[ 1 .. $#turns - 1 ];
}

sub load
{
	my ($clients, $seconds, @options) = @_;

	$mon->ok('TRUNCATE done');
	local $ENV{PGOPTIONS} = join(' ', map { "-c $_" } @options);
	$node->command_ok(
		[ 'pgbench', '-n', '-U', 'app', '-c', $clients, '-j', 1, '-T', $seconds, '-f', $script, 'postgres' ],
		"$clients clients work for $seconds s");
	return turns();
}

my $usual;

# A turn is 20 ms with 8 clients; the fewest that the slowest machine could do
# in it would still be more than one.
{
	my @turns = load(8, 5);
	my @lengths = sort { $a <=> $b } map { $_->[1] } @turns;
	my %last;
	my $longest_gap = 0;

	note scalar(@turns) . " turns, of $lengths[@lengths / 2] transactions in the middle";
	$usual = $lengths[ @lengths / 2 ];
	cmp_ok($usual, '>=', 3, 'a session works for several transactions in its turn');

	# nobody has its third turn while somebody waits for the next one
	for my $i (0 .. $#turns)
	{
		my $pid = $turns[$i][0];

		$longest_gap = $i - $last{$pid} if defined $last{$pid} && $i - $last{$pid} > $longest_gap;
		$last{$pid} = $i;
	}
	is(scalar(keys %last), 8, 'everybody has turns');
	cmp_ok($longest_gap, '<=', 16, 'between two turns of a session nobody has more than two');
}

# Who waits for 300 ms at most comes round within that: turns are shorter.
# Each wait that is over is an error, at which pgbench would fail.
{
	$mon->ok(q{ALTER ROLE app SET resilience.max_wait = '300ms'});
	load(8, 5);
	is($mon->value(q{SELECT sum(timed_out_total) FROM resilience.load_by_priority}),
		0, 'nobody runs out of patience while others have turns');
	$mon->ok('ALTER ROLE app RESET resilience.max_wait');
}

# The same for who is too late: a queue_target makes turns shorter.
{
	set_conf($mon, 'resilience.queue_target' => 60);
	my $median;

	# a machine that is busy with something else may need another look
	for (1 .. 3)
	{
		my @lengths = sort { $a <=> $b } map { $_->[1] } load(8, 5);

		$median = $lengths[ @lengths / 2 ];
		last if $median < $usual / 1.5;
	}
	cmp_ok($median, '<', $usual / 1.5, 'turns are shorter when waiters are less patient');
	set_conf($mon, 'resilience.queue_target' => 0);
}

# A session of a higher class does not wait until a turn is over.
{
	my $pgbench = IPC::Run::start(
		[ 'pgbench', '-n', '-U', 'app', '-h', $node->host, '-p', $node->port, '-c', 8, '-j', 1, '-T', 60, '-f', $script, 'postgres' ],
		'>', \my $out, '2>', \my $err);
	my $important = connect_to($node, user => 'important');
	my @passed;

	wait_waiting($mon, undef, 7);
	for (1 .. 40)
	{
		my $before = $mon->value('SELECT last_value FROM work');
		push @passed, $important->value('SELECT last_value FROM work') - $before;
	}
	$pgbench->signal('INT');
	$pgbench->finish;
	@passed = sort { $a <=> $b } @passed;
	note 'transactions before it: ' . join(' ', @passed);
	cmp_ok($passed[20], '<=', 3, 'a higher class takes the slot at once');
}

# A slot that is kept for a client which does nothing goes to the next one.
{
	my ($first, $idle, $next) = map { connect_to($node, user => 'app') } 1 .. 3;

	$first->hold;
	$idle->send('SELECT pg_sleep(0.05)');
	wait_waiting($mon, undef, 1);
	$next->send('SELECT 1');
	wait_waiting($mon, undef, 2);
	$first->let_go;
	$first->result;
	ok(!$idle->result->{error}, 'a session has its turn, and goes idle');
	ok(!$next->result->{error}, 'the next one does not wait for it');
	wait_running($mon, undef, 0);
	pass('no slot is left behind');
}

done_testing();
