# Whose fault is it?  Of two servers only the one that fails is charged; what
# a server answers properly is a success; what happens here counts for nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ForeignTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $a = far_node('a');
my $b = far_node('b');
my $node = preloaded_node('near');
my $s = connect_to($node);
my $mon = monitor($node);

$a->safe_psql('postgres', q{CREATE TABLE strict (id int PRIMARY KEY, v text, CONSTRAINT positive CHECK (id > 0));
	CREATE TABLE late (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED);
	CREATE VIEW slow AS SELECT 1 AS id, pg_sleep(30)::text AS v;
	CREATE ROLE impatient LOGIN; ALTER ROLE impatient SET statement_timeout = '100ms'; GRANT SELECT ON slow TO impatient;
	CREATE ROLE secret LOGIN});
$s->ok('CREATE EXTENSION postgres_fdw');
foreign_server($s, 'a', $a);
foreign_server($s, 'b', $b);
foreign_server($s, 'nowhere', $a, host => 'no.such.host.invalid');
$s->ok($_) for (
	'CREATE FOREIGN TABLE strict (id int, v text) SERVER a',
	'CREATE FOREIGN TABLE late (id int) SERVER a',
	'CREATE FOREIGN TABLE slow (id int, v text) SERVER a',
	q{CREATE FOREIGN TABLE missing (id int) SERVER a OPTIONS (table_name 'no_such_table')},
	map { "SELECT resilience.create_breaker('$_', '$_', max_failures => 1000, probe => false)" } qw(a b nowhere));

# success, failure and neither since the last time
my %last;

sub charged
{
	my ($name) = @_;
	my @now = split(' ', breaker($mon, $name, 'success_total failure_total ignored_total'));
	my @before = @{ $last{$name} || [ 0, 0, 0 ] };

	$last{$name} = \@now;
	return join('/', map { $now[$_] - $before[$_] } 0 .. 2);
}

sub charges_are
{
	my ($expected_a, $expected_b, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(charged('a') . ' ' . charged('b'), "$expected_a $expected_b", $label);
}

# The session's backend on another cluster is ended.
sub end_remote
{
	my ($far) = @_;

	$far->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'postgres_fdw'});
	return;
}

# Answers of the server, good and bad
$s->ok('SELECT count(*) FROM a_t x JOIN b_t y USING (id) JOIN a_t z USING (id)');
charges_are('1/0/0', '1/0/0', 'a statement is one call of each server');
error_is($s->query(q{INSERT INTO strict VALUES (-1, 'x')}), '23514', 'a constraint there');
charges_are('1/0/0', '0/0/0', 'is a success');
error_is($s->query('SELECT 1 / (id - id) FROM a_t WHERE 1 / (id - id) > 0'), '22012', 'a division by zero there');
charges_are('1/0/0', '0/0/0', 'is a success');
error_is($s->query('SELECT * FROM missing'), '42P01', 'a table that is missing there');
charges_are('1/0/0', '0/0/0', 'is a success');
error_is($s->query('SELECT 1 / (id - id) FROM a_t WHERE random() < 2'), '22012', 'a division by zero here');
charges_are('1/0/0', '0/0/0', 'leaves the call a success');
$s->ok('BEGIN; INSERT INTO late VALUES (1), (1)');
error_is($s->query('COMMIT'), '23505', 'a deferred constraint at the remote COMMIT');
charges_are('1/0/0', '0/0/0', 'is no failure');

# Local interruptions
$s->send('SELECT * FROM slow');
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers WHERE name = 'a'}, 1);
$s->cancel;
error_is($s->result, '57014', 'a cancel by the user');
charges_are('0/0/1', '0/0/0', 'counts for nothing');
error_is($s->query(q{SET statement_timeout = '200ms'; SELECT * FROM slow}), '57014', 'a statement_timeout here');
charges_are('0/0/1', '0/0/0', 'counts for nothing');
$s->ok('RESET statement_timeout');
$mon->ok(q{SELECT resilience.alter_breaker('a', slow_call_duration => '100 ms')});
error_is($s->query(q{SET statement_timeout = '300ms'; SELECT * FROM slow}), '57014', 'when the server took longer than it should');
charges_are('0/1/0', '0/0/0', 'it is a failure');
$s->ok('RESET statement_timeout');
$mon->ok(q{SELECT resilience.alter_breaker('a', slow_call_duration => '5 s')});
$s->ok(q{CREATE ROLE impatient; CREATE USER MAPPING FOR impatient SERVER a OPTIONS (user 'impatient', password_required 'false'); GRANT SELECT ON slow TO impatient});
$s->ok('SET ROLE impatient');
error_is($s->query('SELECT * FROM slow'), '57014', 'a statement_timeout there');
$s->ok('RESET ROLE');
charges_are('1/0/0', '0/0/0', 'is an answer');

# Of two servers one fails
$s->ok('BEGIN; SELECT count(*) FROM a_t; SELECT count(*) FROM b_t');
charged($_) for qw(a b);
end_remote($b);
error_is($s->query('SELECT count(*) FROM a_t x JOIN b_t y USING (id)'), '08006', 'one of two remote backends is ended');
$s->ok('ROLLBACK');
like(charged('b'), qr{^0/1/}, 'it is charged');
like(charged('a'), qr{/0/}, 'the other one is not');
$s->ok('BEGIN; SELECT count(*) FROM a_t; SELECT count(*) FROM b_t');
charged($_) for qw(a b);
end_remote($b);
error_is($s->query('COMMIT'), '08006', 'the same at COMMIT');
charges_are('0/0/0', '0/1/0', 'charges the right one');
$s->ok('BEGIN; SELECT count(*) FROM a_t; SELECT count(*) FROM b_t');
charged($_) for qw(a b);
end_remote($a);
error_is($s->query('COMMIT'), '08006', 'and the other way round');
charges_are('0/1/0', '0/0/0', 'too');
is(breaker($mon, 'a', 'last_sqlstate'), '08006', 'the view tells the SQLSTATE');

# A savepoint's release
$s->ok('BEGIN; SELECT count(*) FROM a_t; SAVEPOINT x; SELECT count(*) FROM a_t');
charged('a');
end_remote($a);
error_is($s->query('RELEASE x'), '08006', 'a connection lost at RELEASE SAVEPOINT');
$s->ok('ROLLBACK');
like(charged('a'), qr{/1/}, 'is charged');

# Errors that are caught; what follows from one is not another one
$s->ok('BEGIN; SELECT count(*) FROM a_t');
charged('a');
end_remote($a);
$s->ok(q{DO $$ BEGIN PERFORM count(*) FROM a_t; EXCEPTION WHEN OTHERS THEN NULL; END $$});
$s->query('SELECT count(*) FROM a_t');
$s->query('COMMIT');
like(charged('a'), qr{^0/1/}, 'a failure that is caught is charged once');

# A server that is not there
$b->stop('immediate');
error_is($s->query('SELECT count(*) FROM a_t x JOIN b_t y USING (id)'), '08001', 'a server that was stopped');
like(charged('b'), qr{^0/1/0}, 'is charged');
like(charged('a'), qr{/0/}, 'alone');
$b->start;
$b->stop('fast');
error_is($s->query('SELECT count(*) FROM b_t'), '08001', 'a server that is down');
is(charged('b'), '0/1/0', 'is charged');
$b->start;
$s->ok('SELECT count(*) FROM b_t');
is(charged('b'), '1/0/0', 'a server that is back is not');
error_is($s->query('SELECT count(*) FROM nowhere_t'), '08001', 'a host that is unknown');
is(charged('nowhere'), '0/1/0', 'is charged');

# Authentication: a failure unless the administrator says otherwise
my $hba = slurp_file($a->data_dir . '/pg_hba.conf');
open(my $file, '>', $a->data_dir . '/pg_hba.conf') or die;
print $file "local all secret scram-sha-256\n$hba";
close $file;
$a->reload;
$s->ok(q{CREATE ROLE nobody; CREATE USER MAPPING FOR nobody SERVER a OPTIONS (user 'secret', password 'wrong', password_required 'false')});
wait_until('passwords are wanted', sub { $a->psql('postgres', 'SELECT 1', extra_params => [ '-U', 'secret', '-w' ]) != 0 }, 10);
$s->ok('SET ROLE nobody');
error_is($s->query('SELECT count(*) FROM a_t'), '08001', 'a wrong password');
is(charged('a'), '0/1/0', 'is a failure');
is(breaker($mon, 'a', 'last_sqlstate'), '28P01', 'that is told apart');
$mon->ok(q{SELECT resilience.alter_breaker('a', ignored_sqlstates => '{28}')});
error_is($s->query('SELECT count(*) FROM a_t'), '08001', 'a wrong password');
is(charged('a'), '1/0/0', 'is an answer with ignored_sqlstates');
$s->ok('RESET ROLE');

# One's own lists
$mon->ok(q{SELECT resilience.alter_breaker('a', recorded_sqlstates => '{23514}')});
error_is($s->query(q{INSERT INTO strict VALUES (-1, 'x')}), '23514', 'a constraint there');
is(charged('a'), '0/1/0', 'is a failure with recorded_sqlstates');

# Concurrent calls
$mon->ok(q{SELECT resilience.alter_breaker('a', max_concurrent_calls => 1)});
$s->ok(q{CREATE FUNCTION nested() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM a_t); END'});
error_is($s->query('SELECT nested() FROM a_t WHERE id < 3'), 'no error', 'a session does not keep itself out');
my $t = connect_to($node);
$t->ok('BEGIN; DECLARE c CURSOR FOR SELECT * FROM a_t; FETCH 1 FROM c');
my $full = $s->query('SELECT count(*) FROM a_t');
error_is($full, '53R01', 'another session is kept out');
is(detail_of($full, 'limit') . detail_of($full, 'started'), '1false', 'with the numbers');
$t->ok('CLOSE c');
error_is($s->query('SELECT count(*) FROM a_t'), 'no error', 'until the call is over');
is(breaker($mon, 'a', 'rejected_full_total calls_in_flight'), '1 0', 'counted, and nothing is left');

done_testing();
