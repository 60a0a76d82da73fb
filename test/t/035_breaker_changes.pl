# Definitions of circuit breakers that change side by side with each other and
# with the foreign servers that they name; too little room; the snapshot file.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('changes', init => [ allows_streaming => 1 ], roles => ['app'],
	conf => "resilience.max_breakers = 6\ndeadlock_timeout = 100ms\n");
my $mon = monitor($node);
my ($one, $two) = map { monitor($node) } 1, 2;

$mon->ok('CREATE EXTENSION postgres_fdw; CREATE EXTENSION file_fdw');

# Breakers with their servers and states; no connection is ever made.
sub guards
{
	return $mon->value(q{SELECT coalesce(string_agg(concat_ws(' ', name, server, state), ', ' ORDER BY name), '') FROM resilience.breakers});
}

# Wait until a session waits for a lock.
sub blocked
{
	my ($session) = @_;
	return wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $session->{pid}", 'Lock');
}

# No breakers, and only these servers.
sub fresh
{
	$mon->ok('SELECT resilience.drop_breaker(name) FROM resilience.breakers');
	for my $row (@{ $mon->ok('SELECT quote_ident(srvname) FROM pg_foreign_server')->{rows} })
	{
		$mon->ok("DROP SERVER $row->[0] CASCADE");
	}
	$mon->ok("CREATE SERVER $_ FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$_')") for @_;
	return;
}

# How the statements that both have sent end.
sub both_done
{
	my @codes = map { my $result = $_->result; $result->{error} ? $result->{error}{C} : 'ok' } ($one, $two);
	return "@codes";
}

# A server that gets a breaker cannot be dropped or renamed behind its back
fresh('s');
$one->ok(q{BEGIN; SELECT resilience.create_breaker('b', 's')});
$two->send('DROP SERVER s');
blocked($two);
$one->ok('COMMIT');
error_is($two->result, '2BP01', 'DROP SERVER waits for a breaker that is not committed, and is refused');
is(guards(), 'b s closed', 'it guards');
$mon->ok(q{SELECT resilience.drop_breaker('b')});

$one->ok(q{BEGIN; INSERT INTO resilience.breaker_definitions (name, server) VALUES ('b', 's')});
$two->send('DROP SERVER s');
blocked($two);
$one->ok('ROLLBACK');
error_is($two->result, 'no error', 'when that is rolled back it is dropped');

fresh('s');
$one->ok(q{BEGIN; SELECT resilience.create_breaker('b', 's')});
$two->send('ALTER SERVER s RENAME TO t');
blocked($two);
$one->ok('COMMIT');
error_is($two->result, 'no error', 'a rename waits for it');
is(guards(), 'b t closed', 'and is followed');

# ... nor one that is dropped or renamed get a breaker
fresh('s');
$one->ok('BEGIN; DROP SERVER s');
$two->send(q{SELECT resilience.create_breaker('b', 's')});
blocked($two);
error_is($mon->query(q{SELECT resilience.create_bulkhead('meanwhile')}), 'no error', 'who waits for a server is in nobody\'s way');
$mon->ok(q{SELECT resilience.drop_bulkhead('meanwhile')});
$one->ok('COMMIT');
my $result = $two->result;
error_is($result, '42704', 'a breaker for a server that was just dropped');
like($result->{error}{H} // '', qr/pg_foreign_server/, 'the usual error');
fresh('s');
$one->ok('BEGIN; ALTER SERVER s RENAME TO t');
$two->send(q{INSERT INTO resilience.breaker_definitions (name, server) VALUES ('b', 's')});
blocked($two);
$one->ok('COMMIT');
error_is($two->result, '42704', 'a breaker for a server that was just renamed');
is(guards(), '', 'nothing is left of both');
# dropped and made anew: the new one is meant
fresh('s');
$one->ok('BEGIN; DROP SERVER s; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw');
$two->send(q{SELECT resilience.create_breaker('b', 's')});
blocked($two);
$one->ok('COMMIT');
error_is($two->result, 'no error', 'a breaker for a server that was just made anew');
is(guards(), 'b s closed', 'it guards the new one');
error_is($mon->query('DROP SERVER s'), '2BP01', 'which cannot be dropped');

# Renaming, and altering the breaker, side by side: no deadlock either way
fresh('s', 'u');
$mon->ok(q{SELECT resilience.create_breaker('b', 's'), resilience.create_breaker('c', 'u')});
$one->ok('BEGIN; ALTER SERVER s RENAME TO t');
$two->send(q{SELECT resilience.alter_breaker('b', max_failures => 9)});
blocked($two);
$one->send('COMMIT');
is(both_done(), 'ok ok', 'a rename, then an alteration');
is(guards(), 'b t closed, c u closed', 'both are there');
is($mon->value(q{SELECT max_failures FROM resilience.breakers WHERE name = 'b'}), 9, 'both indeed');
$one->ok(q{BEGIN; SELECT resilience.alter_breaker('b', max_failures => 10)});
$two->send('ALTER SERVER t RENAME TO s');
blocked($two);
$one->send('COMMIT');
is(both_done(), 'ok ok', 'an alteration, then a rename');
is(guards(), 'b s closed, c u closed', 'followed');
$one->ok('BEGIN; ALTER SERVER s RENAME TO t');
$two->ok('BEGIN');
$two->send('ALTER SERVER u RENAME TO v');
blocked($two);
$one->send('COMMIT');
is(both_done(), 'ok ok', 'two renames');
$two->ok('COMMIT');
is(guards(), 'b t closed, c v closed', 'both followed');
$one->ok('BEGIN; ALTER SERVER t RENAME TO s');
$two->send(q{SELECT resilience.alter_breaker('c', server => 's')});
blocked($two);
$one->send('COMMIT');
is(both_done(), 'ok 42710', 'a rename, and another breaker that wants the server');
is(guards(), 'b s closed, c v closed', 'the first keeps it');
$one->ok(q{BEGIN; SELECT resilience.drop_breaker('b')});
error_is($two->query('DROP SERVER s'), '2BP01', 'DROP SERVER beside drop_breaker() that is not committed');
$one->ok('COMMIT');
error_is($two->query('DROP SERVER s'), 'no error', 'and when it is');
is($mon->value(q{SELECT count(*) FROM resilience.breakers b WHERE server IS NOT NULL
	AND NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = b.server)}), 0, 'and leaves no breaker without its server');

# What a transaction with an older snapshot cannot see it does not break
fresh('s', 'u');
$one->ok('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM resilience.breakers');
$mon->ok(q{SELECT resilience.create_breaker('b', 's')});
error_is($one->query('ALTER SERVER s RENAME TO t'), '40001', 'renamed by one who cannot see the breaker');
$one->ok('ROLLBACK');
is(guards(), 'b s closed', 'nothing has changed');
$one->ok('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM resilience.breakers');
$mon->ok(q{SELECT resilience.create_breaker('c', 'u')});
error_is($one->query('DROP SERVER u'), '2BP01', 'dropped by one who cannot see the breaker');
$one->ok('ROLLBACK');
$one->ok('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM resilience.breakers');
$mon->ok(q{SELECT resilience.create_breaker('d')});
error_is($one->query(q{SELECT resilience.create_breaker('d')}), '42710', 'a name that one cannot see');
$one->ok('ROLLBACK');
$one->ok('BEGIN ISOLATION LEVEL SERIALIZABLE; ALTER SERVER s RENAME TO t; ALTER SERVER t RENAME TO w; COMMIT');
is(guards(), 'b w closed, c u closed, d closed', 'a serializable rename');

# Options that are changed by one who does not see that a breaker is being made
fresh('s');
$one->ok(q{BEGIN; ALTER SERVER s OPTIONS (SET host 'new')});
$mon->ok(q{SELECT resilience.create_breaker('b', 's')});
is($mon->value('SELECT probe_target FROM resilience.breakers'), q{host='s' dbname='postgres'}, 'a breaker made with the old options');
$one->ok('COMMIT');
wait_for_value($mon, 'SELECT probe_target FROM resilience.breakers', q{host='new' dbname='postgres'}, 30);
pass('it learns the new ones');
$mon->ok('CREATE FOREIGN DATA WRAPPER wrapper HANDLER postgres_fdw_handler; CREATE SERVER x FOREIGN DATA WRAPPER wrapper');
$mon->ok(q{SELECT resilience.create_breaker('x', 'x')});
is($mon->value(q{SELECT probe_target FROM resilience.breakers WHERE name = 'x'}), q{dbname='postgres'}, 'a wrapper that can be probed');
$mon->ok('ALTER FOREIGN DATA WRAPPER wrapper HANDLER file_fdw_handler');
wait_for_value($mon, q{SELECT coalesce(probe_target, 'none') FROM resilience.breakers WHERE name = 'x'}, 'none', 30);
pass('with another handler it cannot');
$mon->ok(q{SELECT resilience.drop_breaker('x'); DROP FOREIGN DATA WRAPPER wrapper CASCADE});

# Two sessions want the last place
fresh('s');
$mon->ok(q{SELECT resilience.create_breaker('n' || i) FROM generate_series(1, 5) i});
$_->ok("BEGIN; INSERT INTO resilience.breaker_definitions (name) VALUES ('last $_->{pid}')") for ($one, $two);
$_->send('COMMIT') for ($one, $two);
is(join(' ', sort split / /, both_done()), '53400 ok', 'of two that commit at once one gets the last place');
is($mon->value('SELECT count(*) || $$ $$ || count(state) FROM resilience.breakers'), '6 6', 'all others are in force');
# many times through all places: entries are used again and again
$mon->ok('TRUNCATE resilience.breaker_definitions');
my $wrong = 0;
my $caller = connect_to($node);
for my $round (1 .. 30)
{
	$mon->ok("BEGIN; DELETE FROM resilience.breaker_definitions; SELECT resilience.create_breaker('r$round ' || i, max_concurrent_calls => 1) FROM generate_series(1, 6) i; COMMIT");
	$wrong++ if $caller->value(qq{SELECT sum(resilience.call_with_breaker('r$round ' || i, 'SELECT 1')) FROM generate_series(1, 6) i}) != 6;
	$wrong++ if $mon->value('SELECT count(*) FROM resilience.breakers WHERE calls_in_flight = 0 AND success_total = 1') != 6;
}
is($wrong, 0, 'places are used again, with nothing left in them');

# Started with less room than there are breakers
$mon->ok('TRUNCATE resilience.breaker_definitions');
$mon->ok('CREATE SERVER t FOREIGN DATA WRAPPER file_fdw');
$mon->ok(q{SELECT resilience.create_breaker('a'), resilience.create_breaker('b', 's'), resilience.create_breaker('c', 't')});
$mon->ok(q{SELECT resilience.force_breaker(name, 'open') FROM resilience.breakers});
$_->close for ($one, $two, $caller, $mon);
$node->append_conf('postgresql.conf', "resilience.max_breakers = 2\n");
my $log = -s $node->logfile;
$node->restart;
$mon = monitor($node);
is($mon->value(q{SELECT count(*) || ' ' || count(state) || ' ' || count(*) FILTER (WHERE state = 'open') FROM resilience.breakers}),
	'3 2 2', 'with less room two of three are in force');
like(slurp_file($node->logfile, $log), qr/circuit breaker "\w" is not in force: no room in shared memory.*max_breakers/s, 'the log tells');
error_is($mon->query('DROP SERVER s'), '2BP01', 'a server whose breaker may have no place is guarded all the same');
error_is($mon->query('DROP SERVER t'), '2BP01', 'so is the other one');
error_is($mon->query(q{SELECT resilience.create_breaker('d')}), '53400', 'there is no room for more');
$result = $mon->query(q{SELECT resilience.reset_breaker(name) FROM resilience.breakers WHERE state IS NULL});
error_is($result, '55000', 'what is not in force cannot be reset');
error_is($mon->query(q{SELECT resilience.drop_breaker('a')}), 'no error', 'one can be dropped');
is(guards(), 'b s open, c t open', 'then the others are in force');
$mon->close;
$node->append_conf('postgresql.conf', "resilience.max_breakers = 6\n");
$node->restart;
$mon = monitor($node);
is(guards(), 'b s open, c t open', 'after a restart with more room, too');

# The snapshot file: the first session of all finds what it says.  One of
# another version, or one that is damaged, counts as none.
my $file = $node->data_dir . '/resilience.snapshot';
$mon->close;
$node->stop;
my $good = slurp_file($file);
sub started_with
{
	my ($content, $expected, $label) = @_;

	open(my $out, '>:raw', $file) or die;
	print $out $content;
	close $out;
	my $before = -s $node->logfile;
	$node->start;
	like(slurp_file($node->logfile, $before), $expected, $label) if $expected;
	$mon = monitor($node);
	wait_for_value($mon, q{SELECT string_agg(concat_ws(' ', name, server, state), ', ' ORDER BY name) FROM resilience.breakers}, 'b s open, c t open', 30);
	pass("$label: in force when the tables have been read");
	$mon->close;
	$node->stop;
	is(length(slurp_file($file)), length($good), "$label: the file is whole again");
	return;
}
my $older = $good;
substr($older, 4, 4) = pack('L', 1);
started_with($older, qr/ignoring file "resilience.snapshot": it was written by another version/, 'a file of format 1');
my $damaged = $good;
substr($damaged, length($good) - 100, 1) = chr(ord(substr($good, length($good) - 100, 1)) ^ 1);
started_with($damaged, qr/ignoring file "resilience.snapshot": its checksum is wrong/, 'a damaged file');
started_with(substr($good, 0, length($good) - 7), qr/ignoring file "resilience.snapshot": it is too short/, 'a short file');
started_with('', qr/ignoring file "resilience.snapshot": it is not a snapshot/, 'an empty file');

# With the launcher stopped nobody reads the tables: what is in force comes
# from the file
$node->start;
$mon = monitor($node);
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
is(guards(), 'b s open, c t open', 'a good file: in force for the first session');
kill 'STOP', $launcher;
$mon->ok(q{SELECT resilience.force_breaker('b', 'closed')});
is(guards(), 'b s closed, c t open', 'a change needs no worker');
kill 'CONT', $launcher;

# A database made from a template, one that is dropped
$mon->ok('CREATE DATABASE template_db');
my $db = monitor($node, dbname => 'template_db');
$db->ok($_) for (
	'CREATE EXTENSION resilience; CREATE EXTENSION file_fdw; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw',
	q{SELECT resilience.create_breaker('tb', 's')}, q{SELECT resilience.force_breaker('tb', 'open')});
$db->close;
$mon->ok('CREATE DATABASE copy TEMPLATE template_db');
$db = monitor($node, dbname => 'copy');
wait_for_value($db, q{SELECT coalesce(state, 'none') FROM resilience.breakers}, 'open', 30);
pass('a copy of a database has its breakers');
$db->ok(q{SELECT resilience.force_breaker('tb', 'closed'); ALTER SERVER s RENAME TO renamed});
my $original = monitor($node, dbname => 'template_db');
is($original->value(q{SELECT concat_ws(' ', server, state) FROM resilience.breakers}), 's open', 'and the original its own');
is($db->value(q{SELECT concat_ws(' ', server, state) FROM resilience.breakers}), 'renamed closed', 'as the copy');
$_->close for ($db, $original);
$mon->ok(q{SELECT resilience.create_breaker('n' || i) FROM generate_series(1, 2) i});
error_is($mon->query(q{SELECT resilience.create_breaker('n3')}), '53400', 'there is no more room');
$mon->ok('DROP DATABASE copy');
error_is($mon->query(q{SELECT resilience.create_breaker('n3')}), 'no error', 'a database that is dropped makes room');
$mon->ok('DROP DATABASE template_db');
$mon->ok(q{SELECT resilience.drop_breaker(name) FROM resilience.breakers WHERE name LIKE 'n%'});

# A standby: renames arrive, and a reset is its own
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto'); SELECT resilience.alter_breaker('b', max_failures => 1);
	SELECT resilience.create_breaker('g', max_failures => 1, reset_timeout => '1 h', max_reset_timeout => '1 h')});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $smon = monitor($standby);
is($smon->value(q{SELECT string_agg(concat_ws(' ', name, server, state), ', ' ORDER BY name) FROM resilience.breakers}),
	'b s closed, c t open, g closed', 'a standby: from the first session');
$mon->ok('ALTER SERVER s RENAME TO elsewhere');
wait_for_value($smon, q{SELECT concat_ws(' ', server, state) FROM resilience.breakers WHERE name = 'b'}, 'elsewhere closed', 30);
pass('a rename arrives');
$caller = connect_to($standby);
error_is($caller->query(q{SELECT resilience.call_with_breaker('g', $$DO 'BEGIN RAISE ''no answer''; END'$$)}), 'P0001', 'a failure there');
is($smon->value(q{SELECT state FROM resilience.breakers WHERE name = 'g'}), 'open', 'opens the standby\'s breaker');
is($mon->value(q{SELECT state FROM resilience.breakers WHERE name = 'g'}), 'closed', 'and not the primary\'s');
error_is($smon->query(q{SELECT resilience.reset_breaker('g')}), 'no error', 'it can be reset there');
is($smon->value(q{SELECT state FROM resilience.breakers WHERE name = 'g'}), 'closed', 'and is closed');
error_is($smon->query(q{SELECT resilience.reset_breaker('nobody')}), '42704', 'one that does not exist there');
for my $function (q{create_breaker('x', 'elsewhere')}, q{alter_breaker('b')}, q{drop_breaker('b')}, q{force_breaker('b', 'open')})
{
	error_is($smon->query("SELECT resilience.$function"), '25006', "$function on a standby");
}
$mon->ok(q{SELECT resilience.drop_breaker('b'); DROP SERVER elsewhere});
wait_for_value($smon, q{SELECT count(*) FROM resilience.breakers WHERE name = 'b'}, 0, 30);
$_->close for ($caller, $smon);
$standby->stop;

done_testing();
