# Chaos experiments: what each impact does, whom the conditions select, and
# that no more is injected than max_injections and max_concurrent allow,
# whichever way a fault ends.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ChaosTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = chaos_node('faults', roles => [qw(app other)], conf => "compute_query_id = on\nlisten_addresses = '127.0.0.1'\n");
my $mon = monitor($node);
my ($result, $from);

$mon->ok($_) for (
	q{CREATE TABLE t (id int PRIMARY KEY, v int)},
	q{INSERT INTO t SELECT i, i FROM generate_series(1, 100) i},
	q{CREATE TABLE u (id int PRIMARY KEY, v int)},
	q{INSERT INTO u SELECT i, i FROM generate_series(1, 100) i},
	q{CREATE VIEW v AS SELECT * FROM t WHERE id < 10},
	q{CREATE TABLE p (g int, v int) PARTITION BY LIST (g)},
	q{CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)},
	q{CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2) PARTITION BY LIST (v)},
	q{CREATE TABLE p21 PARTITION OF p2 DEFAULT},
	q{INSERT INTO p VALUES (1, 1), (2, 2)},
	q{CREATE MATERIALIZED VIEW m AS SELECT * FROM u},
	q{CREATE FUNCTION caught(sql text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN EXECUTE sql; RETURN 'no error'; EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$},
	q{GRANT ALL ON ALL TABLES IN SCHEMA public TO app, other},
	q{GRANT CREATE ON SCHEMA public TO app},
	q{ALTER MATERIALIZED VIEW m OWNER TO app});

my $app = connect_to($node, user => 'app');
my $other = connect_to($node, user => 'other');

sub takes
{
	my ($client, $sql) = @_;
	my $start = time();
	my $answer = $client->query($sql);

	return (time() - $start, $answer);
}

# Errors
experiment($mon, 'x', 'error', role_name => q{'app'}, max_injections => 3);
$result = $app->query('SELECT 1');
error_is($result, '58000', 'error');
is($result->{error}{M}, 'error injected by chaos experiment "x"', 'says what it is');
is($result->{error}{D}, 'chaos=x impact=error injection=1 max_injections=3', 'and whose');
like($result->{error}{H}, qr/resilience\.stop_experiment\('x'\).*resilience\.chaos/, 'and how to stop it');
is($result->{status}, 'I', 'the session goes on');
error_is($other->query('SELECT 1'), 'no error', 'another role is not hit');
error_is($app->query('SELECT * FROM t'), '58000', 'second');
$app->ok('BEGIN');
error_is($app->query('INSERT INTO t VALUES (1000, 0)'), '58000', 'third, in a transaction');
error_is($app->query('SELECT 1'), '25P02', 'which has failed as with any error');
$app->ok('ROLLBACK');
error_is($app->query('SELECT 1'), 'no error', 'max_injections: no more');
injected_is($mon, 'x', 3, 'error');
wait_for_value($mon, q{SELECT concat_ws(' ', state, stop_reason) FROM resilience.experiments}, 'finished max_injections');
all_zero($mon, 'after errors');

for my $sqlstate (qw(53100 53200 40001 57P01 XX000))
{
	experiment($mon, 'x', 'error', role_name => q{'app'}, sqlstate => "'$sqlstate'");
	error_is($app->query('SELECT * FROM t'), $sqlstate, "sqlstate $sqlstate");
}
for my $sql ('UPDATE t SET v = 0 WHERE id = 1', 'CREATE TABLE new (a int)', 'COPY t TO STDOUT', 'CALL nothing()',
	'DO $$BEGIN END$$', 'EXPLAIN ANALYZE SELECT 1', 'TRUNCATE u', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1')
{
	$mon->ok('CREATE OR REPLACE PROCEDURE nothing() LANGUAGE sql AS $$$$');
	error_is($app->query($sql), 'XX000', "hit: $sql");
}
# in the middle of the extended protocol
$app->parse('', 'SELECT 1');
$app->bind_portal('', '');
$app->execute('');
$app->sync;
error_is($app->result, 'XX000', 'hit: extended protocol');
is($mon->value('SELECT v FROM t WHERE id = 1'), 1, 'what is hit has done nothing');
is($mon->value('SELECT count(*) FROM t WHERE id = 1000'), 0, 'nor this');

# Cancel and terminate, as if it had been the user, or the administrator
experiment($mon, 'x', 'cancel', role_name => q{'app'});
$result = $app->query('SELECT 1');
error_is($result, '57014', 'cancel');
is($result->{error}{M}, 'canceling statement due to user request', 'as a user cancels');
is(detail_of($result, 'chaos'), 'x', 'but says whose it is');
experiment($mon, 'x', 'cancel', role_name => q{'app'}, delay => q{'200 ms'});
($from, $result) = takes($app, 'SELECT 1');
error_is($result, '57014', 'cancel with a delay');
cmp_ok($from, '>', 0.199, 'after that delay');
experiment($mon, 'x', 'terminate', role_name => q{'app'});
$result = $app->query('SELECT 1');
error_is($result, '57P01', 'terminate');
is($result->{error}{S}, 'FATAL', 'which is FATAL');
is(detail_of($result, 'chaos'), 'x', 'and says whose it is');
ok($result->{closed}, 'the session is gone');
injected_is($mon, 'x', 1, 'terminate');
end_experiments($mon);
$app = connect_to($node, user => 'app');
all_zero($mon, 'after terminate');

# Latency.  One at a time, so that a fault that was not given back is noticed.
experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'300 ms'}, max_concurrent => 1);
($from, $result) = takes($app, 'SELECT count(*) FROM t');
error_is($result, 'no error', 'latency: the statement works');
cmp_ok($from, '>', 0.299, 'but takes longer');
my @sites = (
	[ 'is cancelled', sub { $app->cancel }, '57014' ],
	[ 'its session is terminated', sub { $mon->ok("SELECT pg_terminate_backend($app->{pid})") }, '57P01' ],
	[ 'the experiment is stopped', sub { $mon->ok(q{SELECT resilience.stop_experiment('x')}) }, 'no error' ],
	[ 'the experiment is dropped', sub { $mon->ok(q{SELECT resilience.stop_experiment('x'); SELECT resilience.drop_experiment('x')}) }, 'no error' ],
	[ 'the lever is pulled', sub { set_conf($mon, 'resilience.chaos' => 'off') }, 'no error' ]);
for my $site (@sites)
{
	my ($label, $code, $sqlstate) = @$site;

	set_conf($mon, 'resilience.chaos' => 'on') if $mon->value('SHOW resilience.chaos') eq 'off';
	experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'50 s'}, max_concurrent => 1);
	$app->send('SELECT 1');
	wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
	is($mon->value("SELECT state FROM resilience.activity WHERE pid = $app->{pid}"), 'running', 'delayed, it holds its slot');
	is($mon->value("SELECT wait_event FROM pg_stat_activity WHERE pid = $app->{pid}"), 'ResilienceChaos', 'a wait event')
	  if $mon->value('SHOW server_version_num') >= 170000;
	$code->();
	$from = time();
	$result = $app->result;
	error_is($result, $sqlstate, "while it is delayed $label");
	cmp_ok(time() - $from, '<', 1, "$label: within a second");
	is(detail_of($result, 'chaos'), undef, "$label: that error is nobody's experiment") if $result->{error};
	$app = connect_to($node, user => 'app') if $result->{closed};
}
all_zero($mon, 'after delays');
set_conf($mon, 'resilience.chaos' => 'on');
experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'50 s'}, max_concurrent => 1);
$app->ok(q{SET statement_timeout = '200 ms'});
for (1 .. 3)
{
	$result = $app->query('SELECT 1');
	error_is($result, '57014', 'statement_timeout ends it');
	is(experiment_of($mon, 'x', 'injections_total', 'overflowed_total'), "$_ 0", 'and gives its place back');
}
$app->ok('RESET statement_timeout');

# The dead man's switch: without the launcher nothing is injected.
my $launcher = $mon->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'resilience launcher'});
$app->send('SELECT 1');
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
kill 'STOP', $launcher;
$from = time();
$result = $app->result;
error_is($result, 'no error', 'launcher stopped: the delay ends');
cmp_ok(time() - $from, '<', 4.5, 'when it has not been heard of for 3 s');
($from, $result) = takes($app, 'SELECT 1');
cmp_ok($from, '<', 1, 'and there is no other');
kill 'CONT', $launcher;
wait_for_value($mon, q{SELECT state FROM resilience.experiments}, 'aborted');
like(experiment_of($mon, 'x', 'stop_reason'), qr/launcher/, 'when it is back it ends the experiment');

# max_concurrent
experiment($mon, 'x', 'latency', delay => q{'50 s'}, max_concurrent => 2, role_name => q{'app'});
my @sessions = map { connect_to($node, user => 'app') } 1 .. 3;
$_->send('SELECT 1') for @sessions[0, 1];
wait_for_value($mon, q{SELECT injections_total FROM resilience.experiments}, 2);
error_is($sessions[2]->query('SELECT 1', 10), 'no error', 'max_concurrent: the third one runs');
is(experiment_of($mon, 'x', 'injections_total', 'overflowed_total'), '2 1', 'which is counted');
$sessions[0]->cancel;
$sessions[0]->result;
$sessions[2]->send('SELECT 1');
wait_for_value($mon, q{SELECT injections_total FROM resilience.experiments}, 3);
pass('when one has ended there may be another');
end_experiments($mon);
error_is($_->result, 'no error', 'all end with the experiment') for @sessions[1, 2];

# After the work: others wait for its locks.
experiment($mon, 'x', 'lock_delay', role_name => q{'app'}, delay => q{'50 s'});
for my $sql ('SELECT 1', 'SELECT generate_series(1, 3)', 'DO $$BEGIN END$$', 'CALL nothing()', 'LISTEN x', 'CHECKPOINT')
{
	$result = $app->query($sql, 10);
	ok(!$result->{error} || $result->{error}{C} eq '42501', "touches no relation: $sql");
}
injected_is($mon, 'x', 0, 'touches no relation');
for my $case (
	[ 'UPDATE t SET v = -1 WHERE id = 1', 'UPDATE t SET v = -2 WHERE id = 1' ],
	[ 'SELECT * FROM t WHERE id = 2 FOR UPDATE', 'UPDATE t SET v = -2 WHERE id = 2' ],
	[ 'INSERT INTO t VALUES (200, 0)', 'INSERT INTO t VALUES (200, 1) ON CONFLICT DO NOTHING' ],
	[ 'TRUNCATE u', 'SELECT * FROM u' ])
{
	my ($sql, $blocked) = @$case;

	$app->send($sql);
	wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
	$other->send($blocked);
	wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $other->{pid}", 'Lock');
	pass("lock_delay: $blocked waits for $sql");
	$mon->ok(q{SELECT resilience.stop_experiment('x')});
	error_is($app->result, 'no error', 'it ends with the experiment');
	error_is($other->result, 'no error', 'and lets others go on');
	experiment($mon, 'x', 'lock_delay', role_name => q{'app'}, delay => q{'50 s'});
}
is($mon->value('SELECT v FROM t WHERE id = 1'), -2, 'the work was done');
$app->send('UPDATE t SET v = -3 WHERE id = 1');
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
$app->cancel;
error_is($app->result, '57014', 'cancelled in its lock_delay');
is($mon->value('SELECT v FROM t WHERE id = 1'), -2, 'it is rolled back');

# Connections
experiment($mon, 'x', 'connection_refused', role_name => q{'app'}, max_injections => 2);
$mon->ok(q{SELECT resilience.create_bulkhead('all', role_name => 'app', max_connections => 100)});
my $connections = $mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'});
wait_for_value($mon, q{SELECT connections FROM resilience.bulkheads}, $connections);
$result = connect_refused($node, user => 'app');
is($result->{C}, '57P03', 'connection refused');
is($result->{S}, 'FATAL', 'which is FATAL');
is($result->{M}, 'connection refused by chaos experiment "x"', 'says why');
is(detail_of($result, 'chaos'), 'x', 'and whose it is');
is(connect_refused($node, user => 'other'), undef, 'another role connects');
is(connect_refused($node, user => 'app')->{C}, '57P03', 'refused');
is(connect_refused($node, user => 'app'), undef, 'max_injections: no more');
error_is($app->query('SELECT 1'), 'no error', 'sessions that are there are not concerned');
injected_is($mon, 'x', 2, 'connection_refused');
wait_for_value($mon, q{SELECT connections FROM resilience.bulkheads}, $connections);
pass('and no slot is taken');
$mon->ok(q{SELECT resilience.drop_bulkhead('all')});
for my $case (
	[ { application_name => q{'batch%'} }, { application_name => 'batch7' }, {} ],
	[ { client_address => q{'127.0.0.0/8'} }, { tcp => 1 }, {} ],
	[ { database_name => q{'template1'} }, { dbname => 'template1' }, {} ],
	[ { sqlstate => q{'28000'} }, {}, undef ])
{
	my ($conditions, $refused, $let) = @$case;
	my $label = join(' ', map { "$_ $conditions->{$_}" } sort keys %$conditions);

	experiment($mon, 'x', 'connection_refused', role_name => q{'app'}, %$conditions);
	is((connect_refused($node, user => 'app', %$refused) // { C => 'let in' })->{C},
		$label =~ /28000/ ? '28000' : '57P03', "$label: refused");
	is(connect_refused($node, user => 'app', %$let), undef, "$label: let in") if $let;
}

# Whom the conditions on statements select
sub hits
{
	my ($label, $sql, $expected) = @_;
	my $answer = $app->query($sql);

	$app->query('ROLLBACK') if $answer->{status} ne 'I';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($answer->{error} ? $answer->{error}{C} : 'no error', $expected ? '58000' : 'no error', "$label: $sql");
	return;
}
experiment($mon, 'x', 'error', role_name => q{'app'}, relation => q{'t'});
$app->ok('PREPARE of_t AS SELECT count(*) FROM t');
hits('touches t', $_, 1)
  for ('SELECT * FROM t', 'SELECT count(*) FROM v', 'SELECT * FROM u JOIN t USING (id)',
	'WITH c AS MATERIALIZED (SELECT * FROM t) SELECT count(*) FROM c',
	'WITH c AS (INSERT INTO t VALUES (300, 0) RETURNING id) SELECT * FROM c',
	'SELECT * FROM u WHERE id IN (SELECT id FROM t)', 'SELECT (SELECT max(id) FROM t)',
	'INSERT INTO u SELECT id + 1000, v FROM t', 'INSERT INTO t VALUES (300, 0)', 'UPDATE t SET v = 0', 'DELETE FROM t',
	'MERGE INTO u USING t ON u.id = t.id WHEN MATCHED THEN DO NOTHING', 'EXECUTE of_t', 'COPY t TO STDOUT', 'COPY (SELECT * FROM t) TO STDOUT',
	'COPY (WITH c AS (SELECT * FROM u WHERE EXISTS (SELECT FROM public.t)) SELECT * FROM c) TO STDOUT',
	'CREATE TABLE made AS SELECT * FROM t', 'SELECT * INTO made FROM v', 'TRUNCATE t', 'BEGIN; LOCK t', 'ANALYZE t',
	'DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t', 'DROP TABLE t', 'ALTER TABLE t ADD COLUMN w int', 'CREATE INDEX ON t (v)');
hits('does not touch t', $_, 0)
  for ('SELECT * FROM u', 'SELECT 1', 'TRUNCATE u', 'COPY (SELECT * FROM u) TO STDOUT', 'COPY u TO STDOUT', 'SELECT count(*) FROM p',
	'CREATE TABLE made AS SELECT * FROM u', 'DROP TABLE made', 'ANALYZE u', 'REFRESH MATERIALIZED VIEW m');
$mon->ok('CREATE TABLE s (id int); GRANT ALL ON s TO app');
hits('does not touch t', 'SELECT * FROM s', 0);

experiment($mon, 'x', 'error', role_name => q{'app'}, relation => q{'p'});
hits('partitioned', $_, 1) for ('SELECT * FROM p', 'SELECT * FROM p1', 'SELECT * FROM p21', 'INSERT INTO p1 VALUES (1, 2)', 'COPY p21 TO STDOUT');
$mon->ok('CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3)');
$mon->ok('GRANT ALL ON p3 TO app');
hits('partitioned', 'SELECT * FROM p3', 1);
hits('partitioned', 'SELECT * FROM u', 0);
experiment($mon, 'x', 'error', role_name => q{'app'}, relation => q{'p21'});
hits('a partition', $_, 1) for ('SELECT * FROM p', 'SELECT * FROM p WHERE g = 2', 'DELETE FROM p2', 'SELECT * FROM p21');
hits('a partition', $_, 0) for ('SELECT * FROM p WHERE g = 1', 'SELECT * FROM p1');
experiment($mon, 'x', 'error', role_name => q{'app'}, relation => q{'m'});
hits('a materialized view', $_, 1) for ('SELECT * FROM m', 'REFRESH MATERIALIZED VIEW m');
experiment($mon, 'x', 'error', role_name => q{'app'}, relation => q{'v'});
hits('a view', $_, 1) for ('SELECT * FROM v', 'COPY (SELECT * FROM v) TO STDOUT');
hits('a view', 'SELECT * FROM t', 0);

experiment($mon, 'x', 'error', role_name => q{'app'}, command => q{'UPDATE'});
hits('UPDATE', 'UPDATE t SET v = v', 1);
hits('UPDATE', 'SELECT * FROM t', 0);
experiment($mon, 'x', 'error', role_name => q{'app'}, command => q{'UPDATE'}, relation => q{'t'});
hits('UPDATE and t', 'UPDATE t SET v = v', 1);
hits('UPDATE and t', 'UPDATE u SET v = v', 0);
hits('UPDATE and t', 'DELETE FROM t WHERE false', 0);
experiment($mon, 'x', 'error', role_name => q{'app'}, tag => q{'action=report'});
hits('tag', q{SELECT 1 /*action='report'*/}, 1);
hits('tag', q{SELECT 1 /*action='checkout'*/}, 0);
$app->ok('SELECT count(*) FROM u WHERE id < 7');
my $query_id = $mon->value("SELECT query_id FROM pg_stat_activity WHERE pid = $app->{pid}");
experiment($mon, 'x', 'error', role_name => q{'app'}, query_id => $query_id);
hits('query_id', 'SELECT count(*) FROM u WHERE id < 8', 1);
hits('query_id', 'SELECT count(*) FROM u WHERE id > 8', 0);
experiment($mon, 'x', 'error', role_name => q{'app'}, application_name => q{'batch%'});
hits('application_name', 'SELECT 1', 0);
$app->ok(q{SET application_name = 'batch1'});
hits('application_name', 'SELECT 1', 1);
$app->ok('RESET application_name');
experiment($mon, 'x', 'error', client_address => q{'127.0.0.0/8'});
hits('client_address', 'SELECT 1', 0);
error_is(connect_to($node, user => 'app', tcp => 1)->query('SELECT 1'), '58000', 'client_address');

# What is there to cope with faults is not hit, what it copes with is.
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.retry, resilience.call_with_breaker TO app');
$mon->ok('GRANT USAGE ON SCHEMA resilience TO app');
experiment($mon, 'x', 'error', role_name => q{'app'}, sqlstate => q{'40001'}, max_injections => 2);
$result = $app->query(q{SELECT resilience.retry('SELECT * FROM u', base_delay => '1 ms')});
error_is($result, 'no error', 'retry() of what is hit twice');
is(experiment_of($mon, 'x', 'injections_total'), 2, 'two attempts were hit');
$mon->ok(q{SELECT resilience.create_breaker('b', max_failures => 3, probe => false)});
experiment($mon, 'x', 'error', role_name => q{'app'}, sqlstate => q{'08006'}, max_injections => 3);
error_is($app->query(q{SELECT resilience.call_with_breaker('b', 'SELECT * FROM u')}), '08006', 'call_with_breaker()') for 1 .. 3;
error_is($app->query(q{SELECT resilience.call_with_breaker('b', 'SELECT * FROM u')}), '08R01', 'and its breaker opens');
is($mon->value(q{SELECT concat_ws(' ', state, failure_total, last_sqlstate) FROM resilience.breakers}), 'open 3 08006', 'as by a real fault');
end_experiments($mon);

# Many sessions at once: the caps hold, and the probability is what it says.
sub storm
{
	my ($clients, $transactions, $sql) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . '/storm.sql';

	open(my $file, '>', $script) or die $!;
	print $file "$sql\n";
	close $file;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'pgbench', '-n', '-U', 'app', '-h', $node->host, '-p', $node->port, '-c', $clients, '-j', 2,
			'-t', $transactions, '-M', 'prepared', '-f', $script, 'postgres' ], '>', \$out, '2>', \$err);
	my ($failed) = $out =~ /number of failed transactions: (\d+)/;
	note($out, $err) unless defined $failed;
	return $failed // -1;
}
experiment($mon, 'x', 'error', role_name => q{'app'}, sqlstate => q{'40001'}, probability => 0.5, max_injections => 100);
is(storm(60, 40, 'SELECT 1;'), 100, 'max_injections: 60 sessions see exactly 100 faults');
injected_is($mon, 'x', 100, 'max_injections');
experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'1 microsecond'}, max_injections => 20000);
storm(60, 400, 'SELECT 1;');
injected_is($mon, 'x', 20000, 'max_injections, by 60 sessions at full speed');
experiment($mon, 'x', 'error', role_name => q{'app'}, sqlstate => q{'40001'}, probability => 0.2);
my $hits = storm(60, 50, 'SELECT 1;');
injected_is($mon, 'x', $hits, 'probability');
my $sigma = sqrt(3000 * 0.2 * 0.8);
cmp_ok(abs($hits - 600), '<', 5 * $sigma, "probability 0.2: $hits of 3000, in 60 sessions");
experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'5 ms'}, max_concurrent => 3);
storm(60, 5, 'SELECT 1;');
my ($injected, $overflowed) = split(/ /, experiment_of($mon, 'x', 'injections_total', 'overflowed_total'));
is($injected + $overflowed, 300, "max_concurrent: $injected injected, $overflowed not, all counted");
cmp_ok($overflowed, '>', 0, 'some were too many');

# A fault does not outlive its session: "terminate" of many, places given back.
experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'50 s'}, max_concurrent => 20, max_injections => 60);
@sessions = map { connect_to($node, user => 'app') } 1 .. 20;
for my $round (1 .. 3)
{
	$_->send('SELECT 1') for @sessions;
	wait_for_value($mon, 'SELECT injections_total FROM resilience.experiments', 20 * $round);
	if ($round == 1) { $_->cancel for @sessions }
	if ($round == 2) { $mon->ok("SELECT pg_terminate_backend($_->{pid})") for @sessions }
	if ($round == 3) { $_->vanish for @sessions }
	next if $round == 3;
	$_->result for @sessions;
	@sessions = map { connect_to($node, user => 'app') } 1 .. 20 if $round == 2;
}
is(experiment_of($mon, 'x', 'injections_total', 'overflowed_total'), '60 0', 'three rounds of 20, none too many');
end_experiments($mon);
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND usename = 'app'}, 0);

# Everything at once, with sessions that are cancelled, terminated, and vanish.
my @impacts = qw(latency error cancel terminate lock_delay);
experiment($mon, $_, $_, role_name => q{'app'}, probability => 0.15, max_concurrent => 3,
	$_ =~ /^l/ ? (delay => q{'10 ms'}, variance => q{'10 ms'}) : ()) for @impacts;
my @statements = ('UPDATE t SET v = v + 1 WHERE id = 5', 'SELECT count(*) FROM u', 'BEGIN', 'COMMIT', 'ROLLBACK',
	'SELECT id FROM t WHERE id = 6 FOR UPDATE', 'COPY t TO STDOUT', q{SELECT caught('SELECT 1/0')}, 'SAVEPOINT a', 'ROLLBACK TO a');
my ($sent, $end) = (0, time() + 3);
@sessions = map { my $client = connect_to($node, user => 'app'); $client->send('SELECT 1'); $client } 1 .. 20;
srand(42);
while (time() < $end)
{
	for my $i (0 .. $#sessions)
	{
		my $dice = rand();

		if ($dice < 0.002) { $sessions[$i]->vanish }
		elsif ($dice < 0.01) { $sessions[$i]->cancel }
		elsif ($dice < 0.012) { $mon->ok("SELECT pg_terminate_backend($sessions[$i]{pid})") }
		if ($sessions[$i]{socket})
		{
			next unless $sessions[$i]->done(0.001);
			$result = $sessions[$i]->result;
		}
		$sessions[$i] = connect_to($node, user => 'app') if !$sessions[$i]{socket} || $result->{closed};
		$sessions[$i]->send($statements[ rand @statements ]);
		$sent++;
	}
}
note("$sent statements");
cmp_ok($mon->value("SELECT min(injections_total) FROM resilience.experiments WHERE name = ANY ('{@{[join(',', @impacts)]}}')"), '>', 0, 'all impacts were injected');
$_->vanish for @sessions;
wait_for_value($mon, q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'}, 1);
end_experiments($mon);
experiment($mon, "n$_", 'latency', role_name => q{'app'}, delay => q{'1 ms'}, max_concurrent => 1) for 1 .. 16;
$app->ok('SELECT 1');
is($mon->value(q{SELECT string_agg(DISTINCT injections_total || ' ' || overflowed_total, ', ') FROM resilience.experiments}), '1 0', 'every place was given back');
end_experiments($mon);
all_zero($mon, 'in the end');
ok(!$node->log_contains('PANIC|TRAP|was terminated by signal'), 'no crash');

# No fault outlives a crash of the server.
experiment($mon, 'x', 'latency', role_name => q{'app'}, delay => q{'50 s'}, max_concurrent => 1);
$app->send('SELECT 1');
wait_for_value($mon, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $app->{pid}", 'Extension');
kill 'KILL', $app->{pid};
$app->result;
$mon = monitor_after_crash($node);
$app = connect_to($node, user => 'app');
error_is($app->query('SELECT 1', 10), 'no error', 'after a crash nothing is injected');
wait_for_value($mon, q{SELECT count(*) FROM resilience.experiments WHERE state IS NOT NULL}, 1);
experiment($mon, 'x', 'error', role_name => q{'app'}, max_concurrent => 1);
error_is($app->query('SELECT 1', 10), '58000', 'until it is started again');
done_testing();
