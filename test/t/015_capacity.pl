# resilience.max_bulkheads: what does not fit is refused whole.  Expiry.
# Transactions that are prepared.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('capacity', conf => "resilience.max_bulkheads = 3\n");
my $mon = monitor($node);
my $mon2 = monitor($node);
my $app = connect_to($node, user => 'app');

sub create
{
	my ($session, $name, $more) = @_;
	return $session->query("SELECT resilience.create_bulkhead('$name', role_name => 'app'" . ($more // '') . ')');
}

sub names
{
	return $mon->value(q{SELECT string_agg(name, ' ' ORDER BY name) FROM resilience.bulkheads}) // '';
}

# What is in force, as a session sees it
sub mine
{
	my $names = $app->value(q{SELECT array_to_string(resilience.my_bulkheads(), ' ')});
	return join(' ', sort split(/ /, $names));
}

error_is(create($mon, $_), 'no error', "room for $_") for qw(a b c);
my $result = create($mon, 'd');
error_is($result, '53400', 'no room for a fourth');
is(detail_of($result, 'limit'), 3, 'the error tells the limit');
like($result->{error}{H} // '', qr/resilience\.max_bulkheads/, 'and the setting');
is(names(), 'a b c', 'nothing is left of it in the table');
is(mine(), 'a b c', 'nor in force');

# All or nothing
$mon->ok(q{SELECT resilience.drop_bulkhead('c')});
$mon->ok('BEGIN');
error_is(create($mon, $_), 'no error', "$_ in a transaction") for qw(c d);
$mon->ok(q{SELECT resilience.alter_bulkhead('a', max_running => 0)});
error_is($mon->query('COMMIT'), '53400', 'COMMIT of one too many');
is(names(), 'a b', 'the transaction has left nothing');
is(mine(), 'a b', 'nor in force');
error_is($app->query('SELECT 1'), 'no error', 'its other change, too, was rolled back');
error_is($mon->query(q{BEGIN; SELECT resilience.drop_bulkhead('a'); SELECT resilience.create_bulkhead('c', role_name => 'app');
	SELECT resilience.create_bulkhead('d', role_name => 'app'); COMMIT}), 'no error', 'what fits in the end is fine');
is(mine(), 'b c d', 'and in force');
$mon->ok(q{SELECT resilience.drop_bulkhead('c')});

# Two sessions want the last place: the functions one after the other ...
$mon->ok('BEGIN');
error_is(create($mon, 'e'), 'no error', 'the first of two');
$mon2->send(q{SELECT resilience.create_bulkhead('f', role_name => 'app')});
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $mon2->{pid}", 'Lock');
$mon->ok('COMMIT');
error_is($mon2->result, '53400', 'the second finds no room');
is(names(), 'b d e', 'one was made');
is(mine(), 'b d e', 'and is in force');
$mon->ok(q{SELECT resilience.drop_bulkhead('e')});

# ... the table by hand up to COMMIT side by side
$mon->ok(q{BEGIN; INSERT INTO resilience.bulkhead_definitions (name, role_name) VALUES ('e', 'app')});
$mon2->ok(q{BEGIN; INSERT INTO resilience.bulkhead_definitions (name, role_name) VALUES ('f', 'app')});
$mon->send('COMMIT');
$mon2->send('COMMIT');
my @codes = sort map { my $result = $_->result; $result->{error} ? $result->{error}{C} : 'ok' } ($mon, $mon2);
is("@codes", '53400 ok', 'of two that commit at once one gets the room');
like(names(), qr/^b d [ef]$/, 'one was made');
is(mine(), names(), 'and is in force');

# The same with room for both: none is lost
$mon->ok(q{DELETE FROM resilience.bulkhead_definitions});
for my $round (1 .. 20)
{
	my ($name, $name2) = ("x$round", "y$round");

	$mon->ok("BEGIN; INSERT INTO resilience.bulkhead_definitions (name, role_name) VALUES ('$name', 'app')");
	$mon2->ok("BEGIN; INSERT INTO resilience.bulkhead_definitions (name, role_name) VALUES ('$name2', 'app')");
	$_->send('COMMIT') for ($mon, $mon2);
	$_->result for ($mon, $mon2);
	my $mine = mine();
	is($mine, "$name $name2", "round $round: both are in force") if $mine ne "$name $name2" || $round == 20;
	$mon->ok('TRUNCATE resilience.bulkhead_definitions');
}

# Other databases use the same room
$mon->ok('CREATE DATABASE db');
my $db = monitor($node, dbname => 'db');
$db->ok('CREATE EXTENSION resilience');
error_is(create($db, $_), 'no error', "$_ in another database") for qw(a b);
error_is(create($mon, 'a'), 'no error', 'the third one');
$result = create($mon, 'b');
error_is($result, '53400', 'the fourth one does not fit');
is(detail_of($result, 'other_databases'), 2, 'the error tells who has the room');
$db->ok('DROP EXTENSION resilience');
error_is(create($mon, 'b'), 'no error', 'there is room when they are gone');
$db->close;

# A dropped bulkhead keeps its entry while what it admitted runs
$mon->ok('TRUNCATE resilience.bulkhead_definitions');
my @running;
my $last;
for (1 .. 40)
{
	$last = create($mon, 'generation', ', max_running => 100');
	last if $last->{error};
	my $session = connect_to($node, user => 'app');
	$session->send('SELECT pg_sleep(1000)');
	push @running, $session;
	wait_running($mon, 'generation', 1);
	$mon->ok(q{SELECT resilience.drop_bulkhead('generation')});
}
error_is($last, '53400', 'in the end there is no room for another one');
cmp_ok(scalar(@running), '>=', 8, 'but more than the limit');
like($last->{error}{M}, qr/at the moment/, 'the error says that it will pass');
is(names(), '', 'nothing is half done');
for (@running)
{
	$_->cancel;
	$_->result;
	$_->close;
}
error_is(create($mon, $_, ', max_running => 1'), 'no error', "there is room again: $_") for qw(a b c);
is(count_slots($node, $mon, 2), 1, 'and they count right');
all_zero($mon, 'after many generations', connections => 3);

# Started with less room than there are bulkheads: some hold, the log tells,
# and one can drop some
$_->close for ($app, $mon, $mon2);
$node->stop;
$node->append_conf('postgresql.conf', "resilience.max_bulkheads = 2\n");
my $log = -s $node->logfile;
$node->start;
$mon = monitor($node);
$app = connect_to($node, user => 'app');
is(scalar(split(/ /, mine())), 2, 'started with less room two of three are in force');
like(slurp_file($node->logfile, $log), qr/is not in force: no room in shared memory/, 'the log tells');
is(names(), 'a b c', 'the definitions are all there');
error_is(create($mon, 'd'), '53400', 'there is no room for more');
error_is($mon->query(q{SELECT resilience.drop_bulkhead('a')}), 'no error', 'one can be dropped');
is(mine(), 'b c', 'and the others are in force');

# Expiry
$mon->ok('TRUNCATE resilience.bulkhead_definitions');
error_is($mon->query(q{SELECT resilience.create_bulkhead('e', expires_at => now() - interval '1 s')}), '22023', 'not in the past');
my $expires = $mon->value(q{SELECT clock_timestamp() + interval '4 s'});
$mon->ok("SELECT resilience.create_bulkhead('e', role_name => 'app', max_running => 0, max_waiting => 5,
	max_wait => '10 min', max_connections => 1, expires_at => '$expires')");
my $other = connect_refused($node, user => 'app');
is($other->{C}, '53300', 'it holds before it expires');
$app->send('SELECT clock_timestamp()');
wait_waiting($mon, 'e', 1);
my $ran = $app->result->{rows}[0][0];
is($mon->value("SELECT '$ran'::timestamptz >= '$expires'"), 't', 'who waits runs when it expires, not before');
is(connect_refused($node, user => 'app'), undef, 'connections pass, too');
is(mine(), '', 'it is nobody\'s bulkhead');
is($mon->value(q{SELECT count(*) FROM resilience.bulkheads WHERE name = 'e' AND expires_at < now()}), 1, 'the view still shows it');
$app->close;
all_zero($mon, 'of what has expired');
$node->restart;
$mon = monitor($node);
$app = connect_to($node, user => 'app');
error_is($app->query('SELECT 1'), 'no error', 'a restart does not bring it back');
$mon->ok(q{SELECT resilience.alter_bulkhead('e', expires_at => now() + interval '1 h', max_waiting => 0)});
error_is($app->query('SELECT 1'), '53R01', 'another time does');
$mon->ok(q{SELECT resilience.drop_bulkhead('e')});

# Prepared transactions
error_is($mon->query(q{BEGIN; SELECT resilience.create_bulkhead('p', role_name => 'app', max_running => 0); PREPARE TRANSACTION 'p'}),
	'0A000', 'PREPARE TRANSACTION of a changed bulkhead');
$mon->ok('ROLLBACK');
is(names(), '', 'nothing is left of it');
is($mon->value('SELECT count(*) FROM pg_prepared_xacts'), 0, 'no prepared transaction, either');
error_is($app->query('SELECT 1'), 'no error', 'and nothing in force');
error_is($mon->query(q{BEGIN; INSERT INTO resilience.bulkhead_definitions (name) VALUES ('p'); PREPARE TRANSACTION 'p'}),
	'0A000', 'the same for the table by hand');
$mon->ok('ROLLBACK');
error_is($mon->query(q{BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'p'}), 'no error', 'others can be prepared');
$mon->ok(q{ROLLBACK PREPARED 'p'});
all_zero($mon, 'at the end');

done_testing();
