# Observe mode, of a session, of a bulkhead, of the server: counts who would
# have been refused, and refuses nobody.  Mode off: nothing at all.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('observe');
my $mon = monitor($node);

sub bulkhead
{
	my ($column) = @_;
	return $mon->value("SELECT $column FROM resilience.bulkheads WHERE name = 'b'");
}

sub normal
{
	my ($column) = @_;
	return $mon->value("SELECT $column FROM resilience.load_by_priority WHERE priority = 'normal'");
}

# So many sessions at once; returns those that run
sub run_at_once
{
	my ($count) = @_;
	my @sessions;

	for (1 .. $count)
	{
		my $session = connect_to($node, user => 'app');
		$session->send('SELECT pg_sleep(1000)');
		push @sessions, $session;
		wait_until('it runs or is refused', sub {
			$session->done || $mon->value("SELECT run_start IS NOT NULL FROM resilience.activity WHERE pid = $session->{pid}") eq 't';
		});
	}
	return @sessions;
}

sub end
{
	for (@_)
	{
		$_->cancel;
		$_->result;
		$_->close;
	}
	wait_for_value($mon, q{SELECT count(*) FROM resilience.activity WHERE usename = 'app'}, 0);
	return;
}

# One bulkhead observes
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 2,
	max_waiting => 1, max_connections => 4, mode => 'observe')});
my $log = -s $node->logfile;
my @sessions = run_at_once(6);
is(scalar(grep { $_->done } @sessions), 0, 'observing, nobody is refused');
is(counts($mon, 'b'), '6/6/0', 'all are counted');
is(bulkhead('refused_connections_total'), 2, 'two connections would have been refused');
is(bulkhead('refused_statements_total'), 3, 'three statements would have found the queue full');
is(bulkhead('admitted_total'), 6, 'all were admitted');
my $text = slurp_file($node->logfile, $log);
my @lines = ($text =~ /LOG:  bulkhead "b" would have refused a connection/g);
is(scalar(@lines), 2, 'the log tells of connections');
@lines = ($text =~ /LOG:  bulkhead "b" would have refused a statement/g);
is(scalar(@lines), 1, 'and of statements, not of each');
like($text, qr/limit=2 running=\d+ waiting=\d+ priority=normal mode=observe/, 'with numbers');
end(@sessions);
all_zero($mon, 'after observing');

# The same session, enforcing and not
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_connections => -1, max_waiting => 0, mode => 'enforce')});
@sessions = run_at_once(3);
is(scalar(grep { $_->done } @sessions), 1, 'enforcing, the third one is refused');
end(@sessions);
$mon->ok('SELECT resilience.reset_statistics()');
is(bulkhead('refused_statements_total'), 0, 'reset_statistics() restarts totals');

# Sessions of a role observe
$mon->ok('ALTER ROLE app SET resilience.mode = observe');
@sessions = run_at_once(5);
is(scalar(grep { $_->done } @sessions), 0, 'sessions that observe are not refused');
is(bulkhead('refused_statements_total'), 3, 'but counted');
is(counts($mon, 'b'), '5/5/0', 'they run');

# ... while others are held to the limit
$mon->ok('CREATE ROLE member LOGIN; GRANT app TO member');
my $member = connect_to($node, user => 'member');
error_is($member->query('SELECT 1'), '53R01', 'who does not observe is refused');
$member->close;
end(@sessions);
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
all_zero($mon, 'after sessions that observe');

# The server-wide limit, its queue, and the minimum priority
$mon->ok('ALTER ROLE app RESET resilience.mode; SELECT resilience.reset_statistics()');
$mon->ok('ALTER ROLE app SET resilience.priority = normal');
set_conf($mon, 'resilience.mode' => 'observe', 'resilience.max_running' => 2, 'resilience.max_waiting' => 1);
@sessions = run_at_once(5);
is(scalar(grep { $_->done } @sessions), 0, 'observing, the server refuses nobody');
is(counts($mon), '5/0', 'all run');
is(normal('shed_total'), 2, 'two would have been shed');
is(connect_to($node)->value('SELECT mode FROM resilience.load_shedder'), 'observe', 'the view shows the mode');
end(@sessions);
set_conf($mon, 'resilience.minimum_priority' => 'critical', 'resilience.max_running' => -1);
my $app = connect_to($node, user => 'app');
error_is($app->query('SELECT 1'), 'no error', 'observing, nobody is below the minimum');
is(normal('shed_total'), 3, 'but counted');
like(slurp_file($node->logfile), qr/the server-wide limit would have refused a statement/, 'and logged');

# Enforce it, with a session's mode against the server's
set_conf($mon, 'resilience.mode' => 'enforce');
error_is($app->query('SELECT 1'), '53R02', 'enforced by reload');
error_is($app->query('SET resilience.mode = observe'), '42501', 'a plain user does not choose its mode');
error_is($app->query('SET resilience.mode = off'), '42501', 'not off either');
like(connect_refused($node, user => 'app', options => '-c resilience.mode=off')->{M},
	qr/permission denied to set parameter "resilience.mode"/, 'nor in PGOPTIONS');
set_conf($mon, 'resilience.minimum_priority' => 'low');

# Off
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 0, max_connections => 1)});
error_is($app->query('SELECT 1'), '53R01', 'a bulkhead that admits none');
is(connect_refused($node, user => 'app')->{C}, '53300', '... and one connection');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'off')});
error_is($app->query('SELECT 1'), 'no error', 'switched off it admits everybody');
is(connect_refused($node, user => 'app'), undef, 'and every connection');
is($app->value('SELECT resilience.my_bulkheads()'), '{}', 'it is none of the session\'s');
is(bulkhead('running'), 0, 'it counts nothing');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'enforce')});
error_is($app->query('SELECT 1'), '53R01', 'switched on again');
$mon->ok('ALTER ROLE app SET resilience.mode = off');
is(connect_refused($node, user => 'app')->{C}, '53300',
	'a mode set for a role comes after authentication: the server\'s counts for connections');
$mon->ok('ALTER ROLE app RESET resilience.mode');
set_conf($mon, 'resilience.mode' => 'off');
error_is($app->query('SELECT 1'), 'no error', 'with the server off statements pass');
is(connect_refused($node, user => 'app'), undef, 'and connections');
set_conf($mon, 'resilience.mode' => 'enforce');
$app->close;
all_zero($mon, 'at the end');

done_testing();
