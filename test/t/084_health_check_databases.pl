# Health checks in many databases: workers come and go with databases, with
# the extension, and out of the way of whoever needs a database for himself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('databases', conf => "max_worker_processes = 20\nallow_in_place_tablespaces = on\n", roles => [qw(app maker)]);
my $mon = monitor($node);
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker'};

sub with_check
{
	my ($db, %params) = @_;

	$mon->ok("CREATE DATABASE $db") unless $params{exists};
	my $session = monitor($node, dbname => $db);
	$session->ok('CREATE EXTENSION resilience') unless $params{extension};
	$session->ok(q{SELECT resilience.create_health_check('c', query => 'SELECT true', check_interval => '1 s', timeout => '500 ms')});
	$session->close;
	return;
}

sub status
{
	my ($db) = @_;
	my $session = monitor($node, dbname => $db);
	my $status = $session->value(q{SELECT status FROM resilience.health_checks WHERE name = 'c'});

	$session->close;
	return $status;
}

sub soon
{
	my ($condition, $label) = @_;
	my $done = eval { wait_until($label, $condition, 30) };

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($done, $label);
}

sub quickly_ok
{
	my ($sql, $label) = @_;
	my $begin = time();
	my $result = $mon->query($sql);
	my $took = time() - $begin;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($result, 'no error', "$label");
	cmp_ok($took, '<', 4, sprintf('at once (%.2f s)', $took));
	return;
}

sub worker_in
{
	my ($db) = @_;

	return $mon->value(qq{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker' AND datname = '$db'});
}

# Processes that are there for a database, also those that wait for a lock on
# it and are not connected yet.
sub processes_for
{
	my ($oid) = @_;
	my $postmaster = $node->{_pid};

	return scalar grep { /resilience worker of database $oid\b/ } qx(ps --ppid $postmaster -o args=);
}

# Checks in each database
with_check($_) for qw(db1 db2 db3);
soon(sub { status($_) eq 'healthy' }, "checks of $_ are run") for qw(db1 db2 db3);

# More databases than workers
set_conf($mon, 'resilience.max_health_check_workers' => 1);
wait_for_value($mon, $workers, 1);
my %before;
for my $db (qw(db1 db2 db3))
{
	my $session = monitor($node, dbname => $db);
	$before{$db} = $session->value('SELECT runs_total FROM resilience.health_checks');
	$session->close;
}
for my $db (qw(db1 db2 db3))
{
	my $session = monitor($node, dbname => $db);
	ok(eval { wait_until("run", sub { $session->value('SELECT runs_total FROM resilience.health_checks') >= $before{$db} + 3 }, 30) },
		"one worker for three databases: it comes to $db");
	$session->close;
}
# ... while one of them always has something to do
my $db1 = monitor($node, dbname => 'db1');
$db1->ok(q{SELECT resilience.create_health_check('hangs' || i, query => 'SELECT true FROM pg_sleep(10)',
	check_interval => '1 s', timeout => '900 ms') FROM generate_series(1, 5) i});
wait_for_value($db1, q{SELECT min(runs_total) >= 1 FROM resilience.health_checks}, 't');
my $db2 = monitor($node, dbname => 'db2');
my $runs = $db2->value('SELECT runs_total FROM resilience.health_checks');
ok(eval { wait_for_value($db2, "SELECT runs_total > $runs + 1 FROM resilience.health_checks", 't', 30) },
	'a database whose checks hang does not keep it for itself');
$db1->ok(q{SELECT resilience.drop_health_check(name) FROM resilience.health_checks WHERE name LIKE 'hangs%'});
$_->close for ($db1, $db2);
set_conf($mon, 'resilience.max_health_check_workers' => undef);

# Whoever needs a database for himself
soon(sub { worker_in('db1') == 1 }, 'a worker is in a database');
quickly_ok('CREATE DATABASE copy TEMPLATE db1', 'CREATE DATABASE from one with a worker');
soon(sub { status('copy') eq 'healthy' }, 'the copy has the check, and it is run');
soon(sub { worker_in('copy') == 1 && worker_in('db1') == 1 }, 'workers are in both');
quickly_ok('ALTER DATABASE copy RENAME TO renamed', 'ALTER DATABASE ... RENAME');
soon(sub { worker_in('renamed') == 1 }, 'the worker comes back to the renamed one');
$mon->ok(q{CREATE TABLESPACE elsewhere LOCATION ''});
quickly_ok('ALTER DATABASE renamed SET TABLESPACE elsewhere', 'ALTER DATABASE ... SET TABLESPACE');
soon(sub { worker_in('renamed') == 1 }, 'the worker comes back after that');
quickly_ok('DROP DATABASE renamed', 'DROP DATABASE');
is(worker_in('renamed'), 0, 'no worker is left');
for my $round (1 .. 5)
{
	with_check('again');
	soon(sub { worker_in('again') == 1 }, "made again under the same name, $round");
	quickly_ok('DROP DATABASE again', 'and dropped');
}
with_check('forced');
soon(sub { worker_in('forced') == 1 }, 'one more');
quickly_ok('DROP DATABASE forced WITH (FORCE)', 'DROP DATABASE ... WITH (FORCE)');

# ... in the middle of a run: which is nobody's failure
my $session = monitor($node, dbname => 'db2');
$session->ok(q{SELECT resilience.create_health_check('long', query => 'SELECT true FROM pg_sleep(3)',
	check_interval => '10 s', timeout => '5 s', failure_threshold => 1)});
wait_for_value($session, q{SELECT running FROM resilience.health_checks WHERE name = 'long'}, 't');
$session->close;
quickly_ok('CREATE DATABASE copy TEMPLATE db2', 'a run is cut off');
$session = monitor($node, dbname => 'db2');
ok(eval { wait_for_value($session, q{SELECT status FROM resilience.health_checks WHERE name = 'long'}, 'healthy', 30) },
	'and made again');
is($session->value(q{SELECT failures_total FROM resilience.health_checks WHERE name = 'long'}), 0, 'it was not counted');
$session->ok(q{SELECT resilience.drop_health_check('long')});
$session->close;
quickly_ok('DROP DATABASE copy', 'the copy goes');

# A command that fails, one that is rolled back, one whose session dies
my $guest = connect_to($node, dbname => 'db3');
error_is($mon->query('DROP DATABASE db3'), '55006', 'DROP DATABASE with somebody else there');
$guest->close;
soon(sub { worker_in('db3') == 1 }, 'a command that failed: the worker is back');
my $other = connect_to($node);
my $oid = $mon->value(q{SELECT oid FROM pg_database WHERE datname = 'db3'});
is(processes_for($oid), 1, 'it is a process for this database');
$other->ok('BEGIN; ALTER DATABASE db3 RENAME TO db4');
is(worker_in('db3'), 0, 'a command whose transaction is open: no worker is there');
sleep 1;
is(processes_for($oid), 0, 'nor comes');
$other->ok('ROLLBACK');
soon(sub { worker_in('db3') == 1 }, 'rolled back: the worker is back');
$other->ok('BEGIN; ALTER DATABASE db3 RENAME TO db4');
$mon->ok("SELECT pg_terminate_backend($other->{pid})");
soon(sub { worker_in('db3') == 1 }, 'its session is dead: the worker is back');

# Who may not do it does not get the workers out of the way
my $worker = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience worker' AND datname = 'db3'});
my $app = connect_to($node, user => 'app');
error_is($app->query($_), '42501', $_)
  for ('DROP DATABASE db3', 'ALTER DATABASE db3 RENAME TO x', 'CREATE DATABASE x TEMPLATE db3');
$mon->ok('ALTER ROLE maker CREATEDB');
my $maker = connect_to($node, user => 'maker');
error_is($maker->query('CREATE DATABASE x TEMPLATE db3'), '42501', 'CREATE DATABASE from what is no template');
is($mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience worker' AND datname = 'db3'}), $worker,
	'the worker has not moved');
$mon->ok('ALTER DATABASE db3 IS_TEMPLATE true');
error_is($maker->query('CREATE DATABASE x TEMPLATE db3'), 'no error', 'from a template');
$mon->ok('ALTER DATABASE db3 IS_TEMPLATE false; ');
soon(sub { worker_in('x') == 1 }, 'which brings its checks along');
error_is($maker->query('DROP DATABASE x'), 'no error', 'whoever owns it drops it');
$_->close for ($app, $maker);

# A database without connections is left alone
$mon->ok('ALTER DATABASE db3 ALLOW_CONNECTIONS false');
soon(sub { worker_in('db3') == 0 }, 'ALLOW_CONNECTIONS false: the worker leaves');
my $log_size = -s $node->logfile;
sleep 1.5;
is(worker_in('db3'), 0, 'and does not come back');
unlike(slurp_file($node->logfile, $log_size), qr/not currently accepting connections/, 'nor tries to');
$mon->ok('ALTER DATABASE db3 ALLOW_CONNECTIONS true');
soon(sub { worker_in('db3') == 1 }, 'ALLOW_CONNECTIONS true: it does');

# The extension comes and goes; nobody waits for a round of visits
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
$mon->ok('CREATE DATABASE plain');
my $plain = monitor($node, dbname => 'plain');
$plain->ok('BEGIN; CREATE EXTENSION resilience; ROLLBACK');
$plain->ok(q{BEGIN; CREATE EXTENSION resilience;
	SELECT resilience.create_health_check('c', query => 'SELECT true', check_interval => '1 s', timeout => '500 ms'); COMMIT});
ok(eval { wait_for_value($plain, q{SELECT status FROM resilience.health_checks}, 'healthy', 5) }, 'CREATE EXTENSION: checks are run at once');
$plain->ok('DROP EXTENSION resilience');
ok(eval { wait_until('no worker', sub { worker_in('plain') == 0 }, 5) }, 'DROP EXTENSION: the worker leaves at once');
$plain->ok('CREATE EXTENSION resilience; LISTEN resilience');
set_conf($mon, 'resilience.max_running' => 77);
ok(eval { wait_until('a notification', sub { $plain->ok('SELECT 1'); $plain->{notifications} }, 10) },
	'CREATE EXTENSION: its listeners are told of events, without any definition there');
set_conf($mon, 'resilience.max_running' => undef);
$plain->ok('DROP EXTENSION resilience');
$plain->close;
quickly_ok('DROP DATABASE plain', 'and is not in the way');

is($mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'}), $launcher,
	'the launcher has not been disturbed');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing has crashed');
$mon->close;
done_testing();
