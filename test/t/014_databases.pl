# Several databases, each with bulkheads of its own; what happens to them when
# databases, roles and the extension come, go and are renamed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = preloaded_node('databases', roles => [qw(app other)]);
my $mon = monitor($node);
my %mon = (postgres => $mon);

for my $db (qw(db1 db2))
{
	$mon->ok("CREATE DATABASE $db");
	$mon{$db} = monitor($node, dbname => $db);
	$mon{$db}->ok('CREATE EXTENSION resilience');
}

# The code with which a statement in a database ends
sub answer
{
	my ($db, %params) = @_;
	my $session = ResilienceTest::Client->new($node, user => 'app', dbname => $db, %params);

	return $session->{error}{C} if $session->{error};
	my $result = $session->query('SELECT 1');
	$session->close;
	return $result->{error} ? $result->{error}{C} : 'ok';
}

sub wait_for_answer
{
	my ($db, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $answer;
	for (1 .. 150)
	{
		$answer = answer($db);
		last if $answer eq $expected;
		usleep(100_000);
	}
	return is($answer, $expected, $label);
}

# The same name in two databases, each with its own limit and counts
$mon{db1}->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1)});
$mon{db2}->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 2)});
my $in1 = connect_to($node, user => 'app', dbname => 'db1');
$in1->send('SELECT pg_sleep(1000)');
wait_running($mon{db1}, 'b', 1);
# sessions from before may not be gone yet
wait_until('the other database counts for itself', sub { counts($mon{db2}, 'b') eq '0/0/0' }, 10);
is(answer('db1'), '53R01', 'full in one');
is(answer('db2'), 'ok', 'not in the other');
is(answer('postgres'), 'ok', 'nor in a third one');
my $in2 = connect_to($node, user => 'app', dbname => 'db2');
$in2->send('SELECT pg_sleep(1000)');
wait_running($mon{db2}, 'b', 1);
is(answer('db2'), 'ok', 'the other has its own limit');
for ($in1, $in2)
{
	$_->cancel;
	$_->result;
	$_->close;
}
is($mon{db1}->value('SELECT database_name FROM resilience.bulkheads'), 'db1', 'the view shows the database');
is(count_slots($node, $mon{db2}, 3, dbname => 'db2'), 2, 'two slots there');
all_zero($mon{$_}, "in $_") for qw(db1 db2);

# Every database
$mon{db1}->ok(q{SELECT resilience.create_bulkhead('all', database_name => '*', role_name => 'other',
	max_running => 1, max_connections => 3)});
my @others = map { connect_to($node, user => 'other', dbname => $_) } qw(db1 db2 postgres);
is($mon{db1}->value(q{SELECT format('%s %s', database_name, connections) FROM resilience.bulkheads WHERE name = 'all'}), '* 3',
	'one bulkhead counts the sessions of every database');
is($mon{db2}->value(q{SELECT count(*) FROM resilience.bulkheads WHERE name = 'all'}), 0,
	'it is shown in the database where it was made');
is(connect_refused($node, user => 'other', dbname => 'template1')->{C}, '53300', 'it refuses in every database');
$others[1]->send('SELECT pg_sleep(1000)');
wait_running($mon{db1}, 'all', 1);
is($others[2]->query('SELECT 1')->{error}{C}, '53R01', 'its slot is one for all');
$others[1]->cancel;
$others[1]->result;

# ... of the same name from another database: both hold
$mon{db2}->ok(q{SELECT resilience.create_bulkhead('all', database_name => '*', role_name => 'other', max_running => 0)});
is($others[2]->query('SELECT 1')->{error}{C}, '53R01', 'two of one name from two databases');
is($others[2]->query('EXPLAIN SELECT 1')->{error}, undef, 'no error otherwise');
$mon{db2}->ok(q{SELECT resilience.drop_bulkhead('all')});
error_is($others[2]->query('SELECT 1'), 'no error', 'the one is dropped without the other');
is(connect_refused($node, user => 'other', dbname => 'db2')->{C}, '53300', 'which still holds');
$mon{db1}->ok(q{SELECT resilience.drop_bulkhead('all')});
$_->close for @others;

# Another database by name: only superusers, and it holds there
$mon{postgres}->ok(q{SELECT resilience.create_bulkhead('remote', role_name => 'app', database_name => 'db1', max_running => 0)});
is(answer('db1'), '53R01', 'a bulkhead for another database holds there');
is(answer('postgres'), 'ok', 'not here');
$mon{postgres}->ok(q{SELECT resilience.drop_bulkhead('remote')});
is(answer('db1'), 'ok', 'dropped');

# Conditions are ANDed, and a bulkhead that is not a plain user's business
$mon{db1}->ok('GRANT EXECUTE ON FUNCTION resilience.create_bulkhead, resilience.drop_bulkhead, resilience.alter_bulkhead TO other');
my $granted = connect_to($node, user => 'other', dbname => 'db1');
error_is($granted->query(q{SELECT resilience.create_bulkhead('x', database_name => '*', max_running => 0)}), '42501',
	'who is granted the function cannot limit every database');
error_is($granted->query(q{SELECT resilience.create_bulkhead('x', database_name => 'db2', max_running => 0)}), '42501',
	'nor another one');
error_is($granted->query(q{SELECT resilience.create_bulkhead('x', role_name => 'other', max_running => 7)}), 'no error',
	'but its own');
$granted->close;
$mon{db1}->ok(q{SELECT resilience.drop_bulkhead('x')});

# CREATE DATABASE ... TEMPLATE: the copy's bulkheads are in force without
# anybody having to connect
$mon{db1}->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 0)});
$mon{db1}->close;
$mon->ok('CREATE DATABASE copy TEMPLATE db1');
wait_for_answer('copy', '53R01', 'a database made from a template has its bulkheads');
is(answer('db1'), '53R01', 'the template still has its own');

# Several at once; the launcher sleeps meanwhile, as it does for 100 ms
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
kill 'STOP', $launcher;
$mon->ok("CREATE DATABASE copy$_ TEMPLATE db1") for 1 .. 3;
kill 'CONT', $launcher;
wait_for_answer("copy$_", '53R01', "several made at once: number $_") for 1 .. 3;

# DROP DATABASE
$mon{copy1} = monitor($node, dbname => 'copy1');
$mon{copy1}->ok(q{SELECT resilience.create_bulkhead('far', database_name => '*', role_name => 'app', max_connections => 0)});
is(answer('db2'), '53300', 'a bulkhead of a database that is about to go');
error_is($mon->query('DROP DATABASE copy1'), '55006', 'DROP DATABASE fails while somebody is there');
is(answer('db2'), '53300', 'nothing has changed');
$mon{copy1}->close;
$mon->ok('DROP DATABASE copy1');
is(answer('db2'), 'ok', 'with the database its bulkheads are gone, at once');
my $app = connect_to($node, user => 'app', dbname => 'copy2');
$mon{copy2} = monitor($node, dbname => 'copy2');
$mon{copy2}->ok(q{SELECT resilience.create_bulkhead('far', database_name => '*', role_name => 'other', max_running => 0)});
is(connect_to($node, user => 'other')->query('SELECT 1')->{error}{C}, '53R01', 'another one');
$mon->ok('DROP DATABASE copy2 WITH (FORCE)');
error_is(connect_to($node, user => 'other')->query('SELECT 1'), 'no error', 'DROP DATABASE WITH (FORCE) under sessions');

# The visits of the launcher's readers are in nobody's way
my $failed = 0;
for (1 .. 10)
{
	my $result = $mon->query('CREATE DATABASE brief TEMPLATE copy3');
	$failed++ if $result->{error};
	$result = $mon->query('DROP DATABASE brief');
	$failed++ if $result->{error};
}
is($failed, 0, 'databases are made and dropped at will');

# DROP EXTENSION
$mon{db2}->ok(q{SELECT resilience.alter_bulkhead('b', max_running => 0)});
is(answer('db2'), '53R01', 'before DROP EXTENSION');
$mon{db2}->ok('BEGIN; DROP EXTENSION resilience; ROLLBACK');
is(answer('db2'), '53R01', 'rolled back it changes nothing');
$mon{db2}->ok('DROP EXTENSION resilience');
is(answer('db2'), 'ok', 'DROP EXTENSION takes the bulkheads along');
$mon{db2}->ok('CREATE EXTENSION resilience');
is($mon{db2}->value('SELECT count(*) FROM resilience.bulkheads'), 0, 'a new one has none');
is(answer('db2'), 'ok', 'and none is in force');
$mon{db2}->ok(q{BEGIN; SELECT resilience.create_bulkhead('b', max_running => 0, role_name => 'app'); DROP EXTENSION resilience; COMMIT});
is(answer('db2'), 'ok', 'created and dropped with the extension in one transaction');
$mon{db2}->ok('CREATE EXTENSION resilience');

# Roles
$mon->ok(q{CREATE ROLE leaving LOGIN});
$mon{db2}->ok(q{SELECT resilience.create_bulkhead('r', role_name => 'leaving', max_connections => 0)});
my $result = $mon->query('DROP ROLE leaving');
error_is($result, '2BP01', 'a role that a bulkhead names is not dropped');
like($result->{error}{D} // '', qr/"r".*"db2"/, 'the error says which, and where');
$mon->ok('ALTER ROLE leaving RENAME TO gone');
is(connect_refused($node, user => 'gone', dbname => 'db2')->{C}, '53300', 'a renamed role is still meant');
is($mon{db2}->value(q{SELECT role_name FROM resilience.bulkheads WHERE name = 'r'}), 'gone', 'the view shows the new name');
$mon->ok('CREATE ROLE leaving LOGIN');
is(connect_refused($node, user => 'leaving', dbname => 'db2'), undef, 'another one of the old name is not meant');
error_is($mon->query('DROP ROLE gone'), '2BP01', 'under its new name it cannot be dropped, either');
error_is($mon->query('DROP ROLE leaving'), 'no error', 'the other one can');
$mon{db2}->ok(q{SELECT resilience.drop_bulkhead('r')});
error_is($mon->query('DROP ROLE gone'), 'no error', 'without the bulkhead it can');

# Renamed databases
$mon{db2}->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 0)});
$mon{db2}->close;
$mon->ok('ALTER DATABASE db2 RENAME TO renamed');
is(answer('renamed'), '53R01', 'a renamed database has its bulkheads');
$mon{renamed} = monitor($node, dbname => 'renamed');
is($mon{renamed}->value(q{SELECT database_name FROM resilience.bulkheads}), 'renamed', 'under its new name');
$mon{renamed}->ok(q{SELECT resilience.create_bulkhead('b2', role_name => 'other', max_running => 1)});
is(answer('renamed'), '53R01', '... also after a change');
$mon->ok('CREATE DATABASE db2');
is(answer('db2'), 'ok', 'another one of the old name is not meant');

# ... that a bulkhead of another database names: it means the name
$mon->ok(q{SELECT resilience.create_bulkhead('remote', role_name => 'app', database_name => 'copy3', max_connections => 0)});
is(answer('copy3'), '53300', 'a bulkhead that names another database');
$mon->ok('ALTER DATABASE copy3 RENAME TO copy4');
wait_for_answer('copy4', '53R01', 'does not hold there when that is renamed');
$mon->ok('CREATE DATABASE copy3');
wait_for_answer('copy3', '53300', 'but in one that gets the name');
$mon->ok('DROP DATABASE copy3');
$mon->ok('ALTER DATABASE copy4 RENAME TO copy3');
wait_for_answer('copy3', '53300', 'or has it again');
$mon->ok(q{SELECT resilience.drop_bulkhead('remote')});
is(answer('copy3'), '53R01', 'dropped');

# The other databases' bulkheads are in the file as well
$_->close for values %mon;
$node->restart;
$mon = monitor($node);
is(answer('renamed'), '53R01', 'after a restart: the renamed one');
is(answer('db1'), '53R01', 'after a restart: another one');
is(answer('copy3'), '53R01', 'after a restart: a copy');
is(answer('db2'), 'ok', 'and one without');
all_zero(monitor($node, dbname => 'db1'), 'in db1');

done_testing();
