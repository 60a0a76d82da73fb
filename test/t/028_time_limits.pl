# call_timeout, wherever a call may hang, and what is left of it afterwards:
# nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ForeignTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $far = far_node('far');
my $node = preloaded_node('near');
my $s = connect_to($node);
my $mon = monitor($node);
my $version = $s->value('SHOW server_version_num');

$far->safe_psql('postgres', q{CREATE VIEW slow AS SELECT 1 AS id, pg_sleep(60)::text AS v;
	CREATE VIEW stuck AS SELECT i AS id, CASE WHEN i > 150 THEN pg_sleep(60)::text END AS v FROM generate_series(1, 300) i;
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
	CREATE TABLE waiting (id int);
	CREATE CONSTRAINT TRIGGER w AFTER INSERT ON waiting DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()});
$s->ok('CREATE EXTENSION postgres_fdw');
foreign_server($s, 'far', $far);
$s->ok($_) for (
	'CREATE FOREIGN TABLE slow (id int, v text) SERVER far',
	'CREATE FOREIGN TABLE stuck (id int, v text) SERVER far',
	'CREATE FOREIGN TABLE waiting (id int) SERVER far',
	'CREATE TABLE p (id int, v text) PARTITION BY RANGE (id)',
	q{CREATE FOREIGN TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (100) SERVER far OPTIONS (table_name 'slow', async_capable 'true')},
	q{CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (2000) SERVER far OPTIONS (table_name 't', async_capable 'true')},
	q{SELECT resilience.create_breaker('b', 'far', probe => false, max_failures => 1000, call_timeout => '500 ms')});

# How a statement ends, and after how many seconds
sub timed
{
	my ($sql, $session) = @_;
	my $begin = time;
	my $result = ($session || $s)->query($sql);

	return ($result, time - $begin);
}

sub times_out
{
	my ($sql, $label) = @_;
	my $failures = breaker($mon, 'b', 'failure_total');
	my ($result, $seconds) = timed($sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($result, '08R02', "$label: 08R02");
	cmp_ok($seconds, '<', 3, "$label: in time, and cleaned up at once");
	is(breaker($mon, 'b', 'failure_total') - $failures, 1, "$label: one failure");
	is(breaker($mon, 'b', 'calls_in_flight last_sqlstate'), '0 08R02', "$label: nothing is left");
	error_is($s->query('SELECT pg_sleep(0.7)'), 'no error', "$label: the next statement is not cancelled");
	error_is($s->query('SELECT count(*) FROM far_t'), 'no error', "$label: and the server can be called");
	return $result;
}

my $result = times_out('SELECT * FROM slow', 'a slow query');
is($result->{error}{M}, 'call to foreign server "far" timed out', 'the message');
is(detail_of($result, 'call_timeout_ms'), 500, 'DETAIL');
times_out('SELECT count(*) FROM stuck', 'a row in the middle');
times_out('SET enable_async_append = on; SELECT * FROM p', 'asynchronous scans');
times_out('INSERT INTO waiting VALUES (1)', 'at COMMIT');
error_is($s->query(q{DO $$ BEGIN PERFORM * FROM slow; EXCEPTION WHEN SQLSTATE '08R02' THEN RAISE SQLSTATE 'ZZ001'; END $$}), 'ZZ001', 'caught in PL/pgSQL');
error_is($s->query('SELECT pg_sleep(0.7)'), 'no error', 'and nothing is left of it');
error_is($s->query('SELECT count(*), pg_sleep(0.7) FROM far_t WHERE id < 3'), 'no error', 'time that is spent here does not count');
error_is($s->query(q{SELECT count(*) FROM (SELECT id, pg_sleep(0.25) FROM far_t WHERE id < 4 AND random() < 2 OFFSET 0) x}), 'no error', 'nor between rows');

# A server that does not answer at all
$s->ok('SELECT count(*) FROM far_t');
$s->ok('BEGIN; SELECT count(*) FROM far_t');
freeze($far);
my ($frozen, $seconds) = timed('SELECT count(*) FROM far_t');
error_is($frozen, '08R02', 'a server that is frozen in a transaction');
($frozen, my $more) = timed('ROLLBACK');
error_is($frozen, 'no error', 'rolled back');
cmp_ok($seconds + $more, '<', 3, 'at once: nobody waits for the cancel to be confirmed');
thaw();
$s->ok('SELECT count(*) FROM far_t');
freeze($far);
($frozen, $seconds) = timed('SELECT count(*) FROM far_t');
error_is($frozen, '08R02', 'a connection that was idle');
cmp_ok($seconds, '<', 3, 'in time');
thaw();

# A connection attempt that nobody answers
my $silence = listen_silently();
foreign_server($s, 'silent', $far, host => '127.0.0.1', port => $silence->sockport);
$s->ok(q{SELECT resilience.create_breaker('silent', 'silent', probe => false, call_timeout => '500 ms', max_failures => 2)});
for (1, 2)
{
	my ($result, $seconds) = timed('SELECT * FROM silent_t');

	error_is($result, '08R02', 'a connection attempt that nobody answers');
	cmp_ok($seconds, '<', $version < 160000 ? 5 : 3, 'has an end');
}
($result, $seconds) = timed('SELECT * FROM silent_t');
error_is($result, '08R01', 'then calls are rejected');
cmp_ok($seconds, '<', 1, 'at once');
is(breaker($mon, 'silent', 'state timed_out_total calls_in_flight'), 'open 2 0', 'and counted');
error_is($s->query('SELECT count(*) FROM far_t'), 'no error', 'other servers are called as ever');

# The limit is not in the way of what is in time
$mon->ok(q{SELECT resilience.alter_breaker('b', call_timeout => '10 s')});
$far->safe_psql('postgres', 'CREATE VIEW late AS SELECT 1 AS id, pg_sleep(0.6)::text AS v');
$s->ok('CREATE FOREIGN TABLE late (id int, v text) SERVER far');
error_is($s->query('SELECT * FROM late'), 'no error', 'an answer in time');
error_is($s->query(q{SET statement_timeout = '200ms'; SELECT * FROM late}), '57014', 'statement_timeout works as ever');
$s->ok('RESET statement_timeout');
$s->send('SELECT * FROM slow');
wait_for_value($mon, q{SELECT calls_in_flight FROM resilience.breakers WHERE name = 'b'}, 1);
$s->cancel;
error_is($s->result, '57014', 'a cancel works as ever');
is(breaker($mon, 'b', 'calls_in_flight'), 0, 'nothing is left');

done_testing();
