# A crash at each step of a change of policies: when the server is back, all of
# the change is in force or nothing of it, as the tables say.
#
# Where it is to stop is arranged from outside: a lock that somebody holds (no
# commit yet), a synchronous standby that does not exist (committed, and not
# in shared memory), a pipe in place of the file (in shared memory, and half
# in the snapshot file).

use strict;
use warnings;

use Fcntl qw(O_RDONLY O_NONBLOCK);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Select;
use PolicyTest;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

# Linux only, and in no module of Perl's
use constant F_SETPIPE_SZ => 1031;

my $node = preloaded_node('steps', init => [ allows_streaming => 1 ], extension => 0, roles => [@policy_roles]);
my $file = $node->data_dir . '/resilience.snapshot';
my $mon = monitor($node);
my $session;

limit_seconds(400);
create_policies($mon);
# more than a pipe holds: the file is written in one go otherwise
$mon->ok(q{SELECT resilience.create_bulkhead('one of many ' || i, application_name => 'nobody') FROM generate_series(1, 30) i});
cmp_ok(-s $file, '>', 8192, 'the snapshot file is larger than the pipe');

# Everybody is thrown out, and comes back when the server does
sub crash
{
	my ($how) = @_;
	my $log = -s $node->logfile;

	if ($how eq 'kill')
	{
		kill 'KILL', $session->{pid};
		$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
		# a server that comes back does not read its settings again
		$node->reload;
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	$_->vanish for grep { $_->{socket} } ($session, $mon);
	wait_until('the server answers', sub {
			my $new = eval { ResilienceTest::Client->new($node, options => '-c resilience.mode=off') } or return 0;
			return 0 if $new->{error};
			$mon = $new;
			return 1;
		});
	return;
}

# The sessions see this set, and so will those after the next restart
sub holds
{
	my ($set, $label, %params) = @_;
	my $other = $set eq 'first' ? 'second' : 'first';
	my $check = $set eq 'first' ? '53300' : 'open';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if ($params{soon}) { wait_behaviour($node, $set, "$label: in force") }
	else { behaviour_is($node, $set, "$label: in force from the first connection") }
	all_zero($mon, $label);
	is($mon->value('SELECT count(*) FROM pg_prepared_xacts'), 0, "$label: nothing is prepared");

	# the file has it, too
	$mon->close;
	$node->stop('immediate');
	$node->start;
	my $door = connect_refused($node, user => 'locked');
	is($door ? $door->{C} : 'open', $check, "$label: also after the next crash");
	$mon = monitor($node);
	return;
}

# Back to the first set
sub first_set
{
	$mon->ok(join(';', 'BEGIN', map { "DELETE FROM resilience.${_}_definitions" }
		  qw(feature health_check experiment degradation runaway_rule fallback breaker)));
	$mon->ok(q{DELETE FROM resilience.bulkhead_definitions WHERE name NOT LIKE 'one of many%'});
	create_policies($mon, objects => 0, begin => 0);
	behaviour_is($node, 'first', 'back to the first set');
	return;
}

# A committing session that waits for a standby that does not exist
sub standby_missing
{
	my ($missing) = @_;

	set_conf($mon, synchronous_standby_names => $missing ? 'nobody' : '');
	return;
}

sub commit_waits
{
	my ($sql) = @_;

	$session->send($sql);
	wait_for_value($mon, "SELECT wait_event FROM pg_stat_activity WHERE pid = $session->{pid}", 'SyncRep');
	return;
}

# The crash finds the server without that setting
sub no_longer_missing
{
	my $auto = $node->data_dir . '/postgresql.auto.conf';
	my $text = slurp_file($auto);

	$text =~ s/^synchronous_standby_names.*$//mg;
	open(my $out, '>', $auto) or die $!;
	print $out $text;
	close $out;
	return;
}

# A session that commits
sub committer
{
	$session = connect_to($node);
	return;
}

for my $how (qw(kill stop))
{
	# 1. Staged: all statements are done, COMMIT was not said
	committer();
	$session->ok('BEGIN; ' . policy_changes());
	crash($how);
	holds('first', "$how before COMMIT");

	# 2. Before the commit: it waits for its turn among those who publish
	my $holder = monitor($node);
	$holder->ok('BEGIN');
	$holder->ok(q{SELECT resilience.create_bulkhead('never committed')});
	committer();
	$session->send(q{UPDATE resilience.bulkhead_definitions SET max_running = 3 WHERE name = 'a bulkhead'});
	wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $session->{pid}", 'Lock');
	crash($how);
	holds('first', "$how before the commit");

	# 3. Committed, and nothing published
	standby_missing(1);
	committer();
	$session->ok('BEGIN; ' . policy_changes());
	commit_waits('COMMIT');
	behaviour_is($node, 'first', 'a commit that is not complete is not in force');
	no_longer_missing();
	crash($how);
	holds('second', "$how between commit and publication", soon => 1);
	first_set();

	# 4. Published, and half of the file written
	mkfifo("$file.tmp", 0600) or die "mkfifo: $!";
	sysopen(my $pipe, "$file.tmp", O_RDONLY | O_NONBLOCK) or die "open: $!";
	fcntl($pipe, F_SETPIPE_SZ, 4096) or die "fcntl: $!";
	committer();
	$session->ok('BEGIN; ' . policy_changes());
	$session->send('COMMIT');
	wait_until('the file is being written', sub { IO::Select->new($pipe)->can_read(1) });
	ok(!$session->done(0.2), 'COMMIT does not return before the file is written');
	sysread($pipe, my $half, 4096);
	unlink "$file.tmp" or die $!;
	open(my $out, '>:raw', "$file.tmp") or die $!;
	print $out $half;
	close $out;
	crash($how);
	close $pipe;
	holds('second', "$how while the file is written", soon => 1);
	first_set();

	# 5. Just after
	committer();
	$session->ok('BEGIN; ' . policy_changes() . '; COMMIT');
	crash($how);
	holds('second', "$how after COMMIT");
	first_set();

	# 6. A file that was written and did not get its name; another one lies
	# about
	my $old = slurp_file($file);
	committer();
	$session->ok('BEGIN; ' . policy_changes() . '; COMMIT');
	$mon->close;
	$node->stop('immediate');
	rename $file, "$file.tmp" or die $!;
	open($out, '>:raw', $file) or die $!;
	print $out $old;
	close $out;
	$node->start;
	$mon = monitor($node);
	holds('second', "$how before the file has its name", soon => 1);
	first_set();
}

# Cancelled and terminated instead of killed: what is committed is published
for my $function (qw(pg_cancel_backend pg_terminate_backend))
{
	standby_missing(1);
	committer();
	$session->ok('BEGIN; ' . policy_changes());
	commit_waits('COMMIT');
	$mon->ok("SELECT $function($session->{pid})");
	$session->read_until('Z') unless $session->{eof};
	$session->close;
	wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid}", 0);
	# not in a moment: now
	behaviour_is($node, 'second', "$function while a commit waits for its standby: in force");
	standby_missing(0);
	first_set();
}

# DROP DATABASE and DROP EXTENSION, killed between commit and publication: what
# is in the snapshot file goes
for my $what ('DROP DATABASE other', 'DROP EXTENSION resilience')
{
	$mon->ok('CREATE DATABASE other');
	my $other = monitor($node, dbname => 'other');
	$other->ok('CREATE EXTENSION resilience');
	$other->ok(q{SELECT resilience.create_bulkhead('of another', database_name => '*', role_name => 'app', max_running => 0)});
	my $app = connect_to($node, user => 'app');
	error_is($app->query('SELECT 1'), '53R01', 'a policy of another database');
	$app->close;

	standby_missing(1);
	$session = connect_to($node, $what =~ /DATABASE/ ? () : (dbname => 'other'));
	$other->close;
	wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'other' AND backend_type = 'client backend'},
		$what =~ /DATABASE/ ? 0 : 1);
	commit_waits($what);
	no_longer_missing();
	crash('kill');
	wait_until("$what: its policies are gone", sub {
			my $client = connect_to($node, user => 'app');
			my $result = $client->query('SELECT 1');
			$client->close;
			return !$result->{error};
		});
	pass("$what, killed before its policies were gone: they go");
	$mon->ok('DROP DATABASE IF EXISTS other');
	behaviour_is($node, 'first', "$what: those of others stay");
}
all_zero($mon, 'at the end');

done_testing();
