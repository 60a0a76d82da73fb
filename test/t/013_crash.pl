# Limits survive everything: restart, crash, a snapshot file that is missing,
# damaged or out of date.  Counts do not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('crash', roles => [qw(app locked)]);
my $mon = monitor($node);
my $file = $node->data_dir . '/resilience.snapshot';

$mon->ok($_) for (
	q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_connections => 5, max_running => 1,
		max_waiting => 1, max_wait => '10 min')},
	q{SELECT resilience.create_bulkhead('locked', role_name => 'locked', max_connections => 0)});
set_conf($mon, 'resilience.max_running' => 7);

# Until the server lets anybody in, the role that is locked out tries.
# Returns the first answer that is not "the server is starting".
sub first_answer
{
	my $answer;

	wait_until(
		'the server answers',
		sub {
			my $session = eval { ResilienceTest::Client->new($node, user => 'locked') } or return 0;
			$answer = $session->{error} ? $session->{error}{C} : 'connected';
			$session->close if !$session->{error};
			return $answer !~ /^57P/ && $answer ne '';
		});
	return $answer;
}

sub definitions
{
	return $mon->value(q{SELECT string_agg(format('%s:%s:%s:%s', name, max_connections, max_running, running), ' ' ORDER BY name)
		FROM resilience.bulkheads});
}

# Everything as it should be after a start
sub is_in_force
{
	my ($label) = @_;

	$mon = monitor($node);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(definitions(), 'b:5:1:0 locked:0:-1:0', "$label: all bulkheads are in force, counts at zero");
	is($mon->value('SELECT current_limit FROM resilience.load_shedder'), 7, "$label: so is the server-wide limit");
	$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 0)});
	is(count_slots($node, $mon, 2), 1, "$label: the bulkhead has its one slot");
	all_zero($mon, "after $label");
	$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_waiting => 1)});
	return;
}

# kill -9 of a backend that runs, of one that waits, of one that is idle in a
# transaction, of the launcher
for my $victim (qw(running waiting idle launcher))
{
	my ($runs, $waits, $idle) = map { connect_to($node, user => 'app') } 1 .. 3;
	my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
	my %pids = (running => $runs->{pid}, waiting => $waits->{pid}, idle => $idle->{pid}, launcher => $launcher);

	$idle->ok('BEGIN; SELECT 1');
	wait_running($mon, 'b', 0);
	$runs->send('SELECT pg_sleep(1000)');
	wait_running($mon, 'b', 1);
	$waits->send('SELECT 1');
	wait_waiting($mon, 'b', 1);
	my $log = -s $node->logfile;
	kill 'KILL', $pids{$victim};
	for ($runs, $waits, $idle)
	{
		# all of them are told to go
		$_->read_until('Z') unless $_->{eof};
		$_->close;
	}
	$mon->close;
	is(first_answer(), '53300', "kill -9 of $victim: the limit holds from the first connection");
	# it was this crash
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
	is_in_force("kill -9 of $victim");
}

# Restart, and a stop without a checkpoint
for my $mode (qw(fast immediate))
{
	$mon->close;
	$node->stop($mode);
	$node->start;
	is(first_answer(), '53300', "stop -m $mode: the limit holds from the first connection");
	is_in_force("stop -m $mode");
}

# Without the file, or with a damaged one, the launcher reads the tables
sub restored
{
	my ($label, $damage, $message, $mend) = @_;

	$mon->close;
	$node->stop('immediate');
	my $log = -s $node->logfile;
	$damage->();
	$node->start;
	wait_until("$label: restored", sub { (connect_refused($node, user => 'locked') || { C => '' })->{C} eq '53300' }, 20);
	pass("$label: in force again from the tables");
	like(slurp_file($node->logfile, $log), $message, "$label: the log tells") if $message;
	is_in_force($label);
	$mend->() if $mend;
	wait_until("$label: written", sub { -f $file && -s $file }, 20);
	pass("$label: the file is there again");
	return;
}

# A restart goes by the file, and the first who comes is refused
sub first_is_refused
{
	my ($label) = @_;

	$mon->close;
	$node->stop('immediate');
	$node->start;
	is(first_answer(), '53300', "$label: it holds from the first connection of the next start");
	$mon = monitor($node);
	return;
}

sub change_file
{
	my ($change) = @_;
	my $content = slurp_file($file);

	open(my $out, '>:raw', $file) or die $!;
	print $out $_[0]->($content);
	close $out;
	return;
}

restored('no file', sub { unlink $file });
restored('an empty file', sub { change_file(sub { '' }) }, qr/ignoring file "resilience.snapshot"/);
restored('garbage', sub { change_file(sub { 'garbage' x 1000 }) }, qr/ignoring file "resilience.snapshot"/);
restored('a file cut short', sub { change_file(sub { substr($_[0], 0, length($_[0]) - 100) }) },
	qr/ignoring file "resilience.snapshot"/);
restored('a flipped bit', sub { change_file(sub { my $x = $_[0]; substr($x, 200, 1) ^= "\x01"; $x }) },
	qr/ignoring file "resilience.snapshot": its checksum is wrong/);
restored('a part that this version does not have', sub { change_file(sub { my $x = $_[0]; substr($x, 16 + 8 * 15, 4) = "\x01\0\0\0"; $x }) },
	qr/ignoring file "resilience.snapshot": its checksum is wrong/);
restored('another format', sub { change_file(sub { my $x = $_[0]; substr($x, 4, 1) ^= "\x40"; $x }) },
	qr/ignoring file "resilience.snapshot": it was written by another version/);
restored('an absurd count', sub { change_file(sub { my $x = $_[0]; substr($x, 20, 4) = "\xff\xff\xff\x7f"; $x }) },
	qr/ignoring file "resilience.snapshot": it is too short/);
restored('something behind it', sub { change_file(sub { $_[0] . 'x' }) },
	qr/ignoring file "resilience.snapshot": it is too long/);
restored('a directory', sub { unlink $file; mkdir $file or die $! }, qr/ignoring file "resilience.snapshot"/, sub { rmdir $file });
restored('a pipe that nobody writes to', sub { unlink $file; POSIX::mkfifo($file, 0600) or die $! },
	qr/ignoring file "resilience.snapshot"/);

# A file that may not be read has to be replaced, too, or each start would be
# without it
restored('a file that may not be read', sub { chmod 0, $file or die $! },
	qr/could not open file "resilience.snapshot": Permission denied\n.*DETAIL:  Definitions hold again when the tables have been read/);
is((stat $file)[2] & 0777, 0600, '... and is replaced by one that may be');
first_is_refused('what replaced it');

# A directory cannot be replaced: the log tells why, and so does health, until
# it is gone
$mon->close;
$node->stop('immediate');
unlink $file;
mkdir $file or die $!;
mkdir "$file/kept" or die $!;
for my $start (1, 2)
{
	my $log = -s $node->logfile;

	$node->start;
	wait_until("a directory, start $start: restored", sub { (connect_refused($node, user => 'locked') || { C => '' })->{C} eq '53300' }, 20);
	pass("a directory that has to stay, start $start: in force from the tables");
	like(slurp_file($node->logfile, $log), qr/ignoring file "resilience.snapshot": it is not a snapshot of resilience\n.*DETAIL:  Definitions hold again/,
		'... the log tells');
	is_in_force("a directory that has to stay, start $start");
	wait_until('health tells', sub {
		$mon->value(q{SELECT status || ': ' || message FROM resilience.health WHERE component = 'launcher'})
			eq 'degraded: the snapshot file of limits cannot be written: see the server log' });
	$mon->close;
	$node->stop('immediate');
	like(slurp_file($node->logfile, $log), qr/could not rename file "resilience.snapshot.tmp": Is a directory\n.*DETAIL:  After a restart definitions hold only once/, '... and the log why');
}
rmdir "$file/kept" or die $!;
rmdir $file or die $!;
$node->start;
$mon = monitor($node);
wait_until('written', sub { -f $file && -s $file }, 20);
is_in_force('without the directory');
first_is_refused('the file is there again');

# Whatever stands in the file
for my $seed (1 .. 6)
{
	srand($seed);
	my ($content, $what) = (slurp_file($file), '');
	$mon->close;
	$node->stop('immediate');
	if ($seed % 3 == 0)
	{
		$content = join('', map { chr(int(rand(256))) } 1 .. int(rand(20000)));
		$what = 'random bytes';
	}
	elsif ($seed % 3 == 1)
	{
		$content = substr($content, 0, int(rand(length($content))));
		$what = 'cut at ' . length($content);
	}
	else
	{
		substr($content, int(rand(length($content))), 1) = chr(int(rand(256))) for 1 .. 20;
		$what = '20 bytes changed';
	}
	change_file(sub { $content });
	ok($node->start(fail_ok => 1), "the server starts, seed $seed: $what");
	$mon = monitor($node);
	wait_until("seed $seed: restored", sub { (connect_refused($node, user => 'locked') || { C => '' })->{C} eq '53300' }, 20);
	is_in_force("seed $seed");
}

# A file of before the last change: a crash between the commit and the write
my $old = slurp_file($file);
$mon->ok(q{BEGIN; SELECT resilience.drop_bulkhead('locked'); SELECT resilience.alter_bulkhead('b', max_running => 3);
	SELECT resilience.create_bulkhead('new', role_name => 'locked', max_running => 0); COMMIT});
$mon->close;
$node->stop('immediate');
change_file(sub { $old });
$node->start;
$mon = monitor($node);
wait_until('the tables win', sub { (definitions() // '') eq 'b:5:3:0 new:-1:0:0' }, 20);
pass('a file that is out of date is corrected from the tables');
is(connect_refused($node, user => 'locked'), undef, 'what was dropped is not in force');
is(connect_to($node, user => 'locked')->query('SELECT 1')->{error}{C}, '53R01', 'what was created is');
$mon->close;
$node->stop('fast');
$node->start;
$mon = monitor($node);
is(definitions(), 'b:5:3:0 new:-1:0:0', 'the next start has it from the file');

# The file cannot be written: the change holds all the same, and the file is
# written later
mkdir "$file.tmp" or die $!;
my $result = $mon->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 2)});
like($result->{notices}[0]{M} // '', qr/could not open file "resilience.snapshot.tmp"/, 'a snapshot that cannot be written is a warning');
is(definitions(), 'b:5:2:0 new:-1:0:0', 'the change is in force');
my $before = slurp_file($file);
rmdir "$file.tmp" or die $!;
wait_until('the launcher writes it', sub { slurp_file($file) ne $before }, 30);
$mon->close;
$node->stop('immediate');
$node->start;
$mon = monitor($node);
is(definitions(), 'b:5:2:0 new:-1:0:0', 'the launcher has written it when it could');
my $mode = (stat $file)[2] & 0777;
is($mode, 0600, 'nobody else can read it');
all_zero($mon, 'at the end');

done_testing();
