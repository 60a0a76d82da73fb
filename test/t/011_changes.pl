# Bulkheads and memberships that change while sessions are there: in force in
# every session when COMMIT returns, without a trace after ROLLBACK.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('changes', roles => [qw(app member other)]);
my $mon = monitor($node);

sub connections
{
	my ($name) = @_;
	return $mon->value("SELECT connections FROM resilience.bulkheads WHERE name = '$name'");
}

# Created while sessions exist
my @app = map { connect_to($node, user => 'app') } 1 .. 3;
my $other = connect_to($node, user => 'other');
my $elsewhere = connect_to($node, user => 'app', dbname => 'template1');
$mon->ok('BEGIN');
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_connections => 2, max_running => 1)});
is($mon->value(q{SELECT connections IS NULL FROM resilience.bulkheads WHERE name = 'b'}), 't', 'not in force before COMMIT');
is(connect_refused($node, user => 'app'), undef, 'nobody is refused before COMMIT');
$app[0]->send('SELECT pg_sleep(1000)');
# once the bulkhead is in force it would be limited
wait_for_value($mon, "SELECT state FROM resilience.session_activity() WHERE pid = $app[0]{pid}", 'running');
error_is($app[1]->query('SELECT 1'), 'no error', 'no statement is');
$mon->ok('COMMIT');
is(connections('b'), 3, 'at COMMIT the sessions that exist are counted, over the limit');
$elsewhere->close;
is(connect_refused($node, user => 'app')->{C}, '53300', 'a new one is refused');
is($app[1]->value('SELECT resilience.my_bulkheads()'), '{b}', 'sessions that exist have to pass it');
is($other->value('SELECT resilience.my_bulkheads()'), '{}', 'those that match');
$app[0]->cancel;
$app[0]->result;
$app[0]->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
error_is($app[1]->query('SELECT 1'), '53R01', 'and are limited');
error_is($other->query('SELECT 1'), 'no error', 'others are not');

# Rolled back
$mon->ok(q{BEGIN; SELECT resilience.alter_bulkhead('b', max_running => 5);
	SELECT resilience.create_bulkhead('c', role_name => 'other', max_running => 0); ROLLBACK});
error_is($app[1]->query('SELECT 1'), '53R01', 'ROLLBACK leaves the old limit');
error_is($other->query('SELECT 1'), 'no error', 'and no new one');
$mon->ok(q{BEGIN; SAVEPOINT s; SELECT resilience.drop_bulkhead('b');
	SELECT resilience.create_bulkhead('c', role_name => 'other', max_running => 0); ROLLBACK TO s; COMMIT});
error_is($app[1]->query('SELECT 1'), '53R01', 'ROLLBACK TO a savepoint leaves the old limit');
error_is($other->query('SELECT 1'), 'no error', 'and no new one');
$mon->ok(q{DO $$ BEGIN
	PERFORM resilience.create_bulkhead('c', role_name => 'other', max_running => 0);
	RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN PERFORM resilience.create_bulkhead('d', role_name => 'other', max_running => 5);
	END $$});
is($other->value('SELECT resilience.my_bulkheads()'), '{d}', 'what an exception undid is not in force, what its handler did is');
$mon->ok(q{SELECT resilience.drop_bulkhead('d')});

# Altered
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_connections => 4, max_running => 2)});
error_is($app[1]->query('SELECT 1'), 'no error', 'a higher limit holds at once');
push @app, connect_to($node, user => 'app');
is(connect_refused($node, user => 'app')->{C}, '53300', 'for connections, too');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', role_name => 'other')});
is(connections('b'), 1, 'with another role other sessions are counted');
is($app[1]->value('SELECT resilience.my_bulkheads()'), '{}', 'the old ones are free');
is($other->value('SELECT resilience.my_bulkheads()'), '{b}', 'the others are not');
is(counts($mon, 'b'), '1/1/0', 'what runs is counted to its end');
$app[0]->cancel;
$app[0]->result;
is(counts($mon, 'b'), '1/0/0', 'and then not');

# Dropped, and made anew while the old one's transaction still runs
$other->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'other', max_running => 1)});
is(counts($mon, 'b'), '1/0/0', 'a new bulkhead of the same name does not count what the old one admitted');
my $other2 = connect_to($node, user => 'other');
$other2->send('SELECT pg_sleep(1000)');
wait_running($mon, 'b', 1);
$other->cancel;
$other->result;
is(counts($mon, 'b'), '2/1/0', 'nor does it get its slot');
error_is($other->query('SELECT 1'), '53R01', 'it is full');
$other2->cancel;
$other2->result;
error_is($other->query('SELECT 1'), 'no error', 'and free');
$_->close for ($other, $other2);
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
all_zero($mon, 'without bulkheads');

# The table written by hand goes the same way
$mon->ok(q{INSERT INTO resilience.bulkhead_definitions (name, role_name, max_running) VALUES ('b', 'app', 0)});
error_is($app[0]->query('SELECT 1'), '53R01', 'INSERT into the table');
$mon->ok(q{UPDATE resilience.bulkhead_definitions SET max_running = 1});
error_is($app[0]->query('SELECT 1'), 'no error', 'UPDATE');
$mon->ok(q{TRUNCATE resilience.bulkhead_definitions});
is($app[0]->value('SELECT resilience.my_bulkheads()'), '{}', 'TRUNCATE');

# Memberships that change while the session is there
$mon->ok(q{SELECT resilience.create_bulkhead('g', role_name => 'app', max_running => 1, max_connections => 10)});
my $member = connect_to($node, user => 'member');
is($member->value('SELECT resilience.my_bulkheads()'), '{}', 'not a member');
$app[0]->send('SELECT pg_sleep(1000)');
wait_running($mon, 'g', 1);
my $before = connections('g');
$mon->ok('GRANT app TO member');
error_is($member->query('SELECT 1'), '53R01', 'GRANT of the role holds at the next statement');
is(connections('g'), $before + 1, 'its connection is counted from then on');
$mon->ok('REVOKE app FROM member');
error_is($member->query('SELECT 1'), 'no error', 'REVOKE of the role, too');
is(connections('g'), $before, 'its connection counts no more');
$mon->ok('CREATE ROLE between; GRANT app TO between; GRANT between TO member');
error_is($member->query('SELECT 1'), '53R01', 'a membership through another role');
$mon->ok('ALTER ROLE member SUPERUSER');
error_is($member->query('SELECT 1'), 'no error', 'who becomes superuser is not refused');
$mon->ok('ALTER ROLE member NOSUPERUSER');
error_is($member->query('SELECT 1'), '53R01', 'who is it no longer is');
$member->close;
$app[0]->cancel;
$app[0]->result;
$mon->ok(q{SELECT resilience.drop_bulkhead('g')});

# application_name: statements by that of now, the connection by that of the
# start-up packet
$mon->ok(q{SELECT resilience.create_bulkhead('n', application_name => 'batch%', max_running => 0, max_connections => 5)});
my $batch = connect_to($node, user => 'app', application_name => 'batch');
is(connections('n'), 1, 'the connection is counted');
error_is($batch->query('SELECT 1'), '53R01', 'its statements are refused');
$batch->ok(q{SET application_name = 'renamed'});
error_is($batch->query('SELECT 1'), 'no error', 'not under another name');
is(connections('n'), 1, 'the connection keeps its slot');
$batch->ok(q{BEGIN; SET LOCAL application_name = 'batch'});
error_is($batch->query('SELECT 1'), '53R01', 'SET LOCAL counts');
$batch->ok('ROLLBACK');
error_is($batch->query('SELECT 1'), 'no error', 'to the end of the transaction');
$app[0]->ok(q{SET application_name = 'batch 2'});
error_is($app[0]->query('SELECT 1'), '53R01', 'who takes that name later is refused');
is(connections('n'), 1, 'its connection is not counted');
$app[0]->ok(q{RESET application_name});
$batch->close;
$mon->ok(q{SELECT resilience.drop_bulkhead('n')});

# A command condition
$mon->ok(q{CREATE TABLE t (id int); GRANT ALL ON t TO app;
	SELECT resilience.create_bulkhead('w', role_name => 'app', command => 'insert', max_running => 1)});
error_is($app[0]->query('BEGIN; INSERT INTO t VALUES (1)'), 'no error', 'the first INSERT');
$app[0]->send('SELECT pg_sleep(1000)');
wait_running($mon, 'w', 1);
error_is($app[1]->query('SELECT 1'), 'no error', 'SELECT is not meant');
error_is($app[1]->query('INSERT INTO t VALUES (1)'), '53R01', 'the second INSERT is refused');
$app[2]->ok('BEGIN; SELECT 1');
error_is($app[2]->query('INSERT INTO t VALUES (1); SELECT 1'), 'no error', 'not in a transaction that has been admitted');
is($mon->value(q{SELECT running FROM resilience.bulkheads WHERE name = 'w'}) >= 1, 1, 'which is charged');
$app[2]->ok('COMMIT');
$app[0]->cancel;
$app[0]->result;
$app[0]->ok('ROLLBACK');
all_zero($mon, 'of a command', connections => 0);
$app[1]->ok('INSERT INTO t VALUES (1)');
$mon->ok(q{SELECT resilience.drop_bulkhead('w')});
$_->close for @app;

# Bulkheads come, change and go while sessions come and go and work
my ($out, $err) = ('', '');
my $script = PostgreSQL::Test::Utils::tempdir() . '/script';
append_to_file($script, "SELECT 1;\n");
my $pgbench = IPC::Run::start(
	[ 'pgbench', '-n', '-C', '-c', '8', '-j', '2', '-t', '60', '-f', $script, '-U', 'app',
		'-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \$out, '2>', \$err, IPC::Run::timeout(120));
my $changes = 0;
while ($pgbench->pumpable && $changes < 400)
{
	$mon->ok(q{SELECT resilience.create_bulkhead('x', role_name => 'app', max_connections => 100, max_running => 2,
		max_waiting => 100, max_wait => '1 min')});
	$mon->ok(q{SELECT resilience.create_bulkhead('y', database_name => '*', max_connections => 100, max_running => 3,
		max_waiting => 100, max_wait => '1 min')});
	$mon->ok(q{SELECT resilience.alter_bulkhead('x', max_running => 3)});
	$mon->ok(q{SELECT resilience.drop_bulkhead('x')});
	$mon->ok(q{BEGIN; SELECT resilience.drop_bulkhead('y'); ROLLBACK});
	$mon->ok(q{SELECT resilience.drop_bulkhead('y')});
	$changes += 5;
	$pgbench->pump_nb;
}
$pgbench->finish;
like($out, qr{processed: 480/480}, "480 sessions, $changes changes of bulkheads: nobody fails") or diag $err;
$mon->ok(q{SELECT resilience.create_bulkhead('x', role_name => 'app', max_connections => 3, max_running => 3)});
# the last of pgbench's sessions may not be gone yet
wait_until('nothing is left', sub { counts($mon, 'x') eq '0/0/0' }, 10);
is(count_slots($node, $mon, 2), 3, 'a bulkhead made afterwards lets in as many as it should');
all_zero($mon, 'at the end');

done_testing();
