# Runaway rules: each limit, the actions observe and cancel, whom they concern.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('runaway', roles => [ 'app', 'other', 'member' ], conf => q(
compute_query_id = on
work_mem = '64kB'
max_parallel_workers_per_gather = 0
));
my $mon = monitor($node);

$mon->ok('GRANT app TO member');
$mon->ok('CREATE TABLE t AS SELECT generate_series(1, 1000) id; ANALYZE t; GRANT ALL ON t TO PUBLIC');
$mon->ok(q{CREATE FUNCTION burn(seconds float8) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
BEGIN
	WHILE clock_timestamp() < until LOOP n := n + 1; END LOOP;
	RETURN n;
END $$});

sub rule
{
	my ($name, $column) = @_;
	return $mon->value("SELECT $column FROM resilience.runaway_rules WHERE name = '$name'");
}

sub create
{
	my ($arguments) = @_;
	return $mon->ok("SELECT resilience.create_runaway_rule($arguments)");
}

sub drop
{
	my ($name) = @_;
	return $mon->ok("SELECT resilience.drop_runaway_rule('$name')");
}

my ($app, $other, $member) = map { connect_to($node, user => $_) } qw(app other member);

# Duration: who matches is cancelled, nobody else; the transaction aborts
create(q{'slow', role_name => 'app', max_duration => '500 ms', action => 'cancel'});
$other->send('SELECT pg_sleep(1000)');
$app->ok('BEGIN');
$app->ok('SELECT 1');
my $result = $app->query('SELECT pg_sleep(1000)');
error_is($result, '57014', 'a statement that runs too long is cancelled');
is($result->{error}{M}, 'canceling statement due to runaway rule "slow"', 'message');
cmp_ok(detail_of($result, 'duration_ms'), '>', 500, 'DETAIL: how long');
is(detail_of($result, 'max_duration_ms'), 500, '... the limit');
is(detail_of($result, 'action'), 'cancel', '... the action');
is(detail_of($result, 'started'), 'true', '... and that it had started');
isnt(detail_of($result, 'query_id'), 0, '... and the query');
like($result->{error}{H}, qr/runaway_rules/, 'HINT');
error_is($app->query('SELECT 1'), '25P02', 'the transaction is aborted');
$app->ok('ROLLBACK');
is($app->value('SELECT 1'), 1, 'the session works on');
error_is($member->query('SELECT pg_sleep(1000)'), '57014', 'a member of the role');
is(rule('slow', 'hits_total'), 2, 'hits are counted');
is(rule('slow', 'cancelled_total'), 2, 'cancelled statements are counted');
is(rule('slow', 'last_hit_at > now() - interval \'1 min\''), 't', 'last_hit_at');
is($mon->value(q{SELECT (requested, delivered, missed, pending)::text FROM resilience.cancel_statistics()}),
	'(2,2,0,0)', 'no other request');
ok(!$other->done, 'another role is not concerned');

# Short statements of a session that runs for longer than the limit
for (1 .. 40)
{
	my $r = $app->query('SELECT pg_sleep(0.02)');
	next unless $r->{error};
	error_is($r, 'no error', 'short statements');
	last;
}
pass('many short statements are not one long one');

# An EXCEPTION block does not help
error_is($app->query(q{DO $$ BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled OR OTHERS THEN PERFORM pg_sleep(1000); END $$}),
	'57014', 'it cannot be caught');

# Not superusers
my $super = connect_to($node);
create(q{'all', max_duration => '100 ms', action => 'cancel'});
error_is($super->query('SELECT pg_sleep(0.5)'), 'no error', 'superusers are never hit');

# A rule that comes later holds for what runs already
error_is($other->result, '57014', 'a rule that comes later holds for a statement that is under way');
$_ = $mon->ok(q{SELECT resilience.drop_runaway_rule('all')});

# A rule that is dropped, or altered, in mid-flight
drop('slow');
create(q{'later', role_name => 'app', max_duration => '2 s', action => 'cancel'});
$app->send('SELECT pg_sleep(3)');
sleep 0.3;
drop('later');
error_is($app->result, 'no error', 'a rule that is dropped in time does not hit');
create(q{'later', role_name => 'app', max_duration => '1 hour', action => 'cancel'});
$app->send('SELECT pg_sleep(1000)');
sleep 0.3;
is(rule('later', 'hits_total'), 0, 'not yet');
$mon->ok(q{SELECT resilience.alter_runaway_rule('later', max_duration => '100 ms')});
error_is($app->result, '57014', 'a rule that was altered in mid-flight hits');
$mon->ok(q{SELECT resilience.alter_runaway_rule('later', mode => 'off')});
error_is($app->query('SELECT pg_sleep(0.5)'), 'no error', 'mode off');
$mon->ok(q{SELECT resilience.alter_runaway_rule('later', mode => 'observe')});
my $hits = rule('later', 'hits_total');
error_is($app->query('SELECT pg_sleep(0.5)'), 'no error', 'mode observe hits nobody');
is(rule('later', 'hits_total'), $hits + 1, '... and counts, each statement once');
drop('later');

# observe
create(q{'watch', max_duration => '200 ms'});
error_is($app->query('SELECT pg_sleep(0.6)'), 'no error', 'observe cancels nobody');
is(rule('watch', 'hits_total'), 1, '... and counts each statement once');
is(rule('watch', 'cancelled_total'), 0, '... as not cancelled');
ok($node->log_contains(qr/process \d+ has hit runaway rule "watch"/), '... and logs');
my $observer = connect_to($node, user => 'app', options => '-c role=app');
drop('watch');

# CPU time: not the time that it sleeps
create(q{'cpu', max_cpu => '300 ms', action => 'cancel'});
error_is($app->query('SELECT pg_sleep(1)'), 'no error', 'who sleeps uses no CPU time');
$result = $app->query('SELECT burn(60)');
error_is($result, '57014', 'CPU time');
cmp_ok(detail_of($result, 'cpu_ms'), '>', 300, 'DETAIL: cpu_ms');
is(detail_of($result, 'max_cpu_ms'), 300, 'DETAIL: max_cpu_ms');
drop('cpu');

# Temporary files
create(q{'temp', max_temp_bytes => 1000000, action => 'cancel'});
error_is($app->query('SELECT count(*), pg_sleep(0.5) FROM generate_series(1, 10)'), 'no error', 'no temporary files');
$result = $app->query(q{SELECT pg_sleep(0.01) FROM (SELECT repeat('x', 1000) || g FROM generate_series(1, 10000) g ORDER BY 1) x});
error_is($result, '57014', 'temporary files');
cmp_ok(detail_of($result, 'temp_bytes'), '>', 1000000, 'DETAIL: temp_bytes');
is(detail_of($result, 'max_temp_bytes'), 1000000, 'DETAIL: max_temp_bytes');
drop('temp');

# The planner's estimate: nothing is started
create(q{'rows', max_rows_estimate => 500, action => 'cancel', command => 'SELECT'});
$mon->ok('CREATE SEQUENCE s; GRANT ALL ON SEQUENCE s TO PUBLIC');
$result = $app->query(q{SELECT nextval('s'), id FROM t});
error_is($result, '57014', 'an estimate beyond the limit');
is(detail_of($result, 'started'), 'false', 'DETAIL: nothing was started');
is(detail_of($result, 'rows_estimate'), 1000, 'DETAIL: rows_estimate');
is(detail_of($result, 'max_rows_estimate'), 500, 'DETAIL: max_rows_estimate');
is($mon->value('SELECT is_called FROM s'), 'f', 'nothing was started');
is(rule('rows', 'cancelled_total'), 1, 'counted as cancelled');
error_is($app->query('SELECT * FROM t LIMIT 10'), 'no error', 'an estimate within the limit');
error_is($app->query('UPDATE t SET id = id'), 'no error', 'another command');
$app->ok('BEGIN');
$app->ok('SELECT 1');
error_is($app->query('SELECT * FROM t'), '57014', 'within a transaction');
$app->ok('ROLLBACK');
$app->ok('PREPARE p AS SELECT * FROM t');
error_is($app->query('EXECUTE p'), '57014', 'a prepared statement');
error_is($app->query('EXPLAIN SELECT * FROM t'), 'no error', 'EXPLAIN is free');
drop('rows');

# Conditions on the statement
my $query_id = do
{
	$app->send('SELECT pg_sleep(2)');
	wait_until('it runs', sub { $mon->value(qq{SELECT state FROM resilience.activity WHERE pid = $app->{pid}}) eq 'running' });
	my $id = $mon->value("SELECT query_id FROM resilience.activity WHERE pid = $app->{pid}");
	$app->result;
	$id;
};
create(qq{'query', query_id => $query_id, max_duration => '200 ms', action => 'cancel'});
error_is($app->query('SELECT pg_sleep(1000)'), '57014', 'a condition on the query id');
error_is($app->query('SELECT pg_sleep(1), 1'), 'no error', 'another query');
drop('query');
create(q{'copy', command => 'COPY', max_duration => '200 ms', action => 'cancel'});
error_is($app->query('SELECT pg_sleep(0.5)'), 'no error', 'a condition on the command');
error_is($app->query('COPY (SELECT pg_sleep(1000)) TO STDOUT'), '57014', '... that is met');
drop('copy');
create(q{'tagged', tag => 'route=/report', max_duration => '200 ms', action => 'cancel'});
error_is($app->query("SELECT pg_sleep(0.5) /*route='%2Fother'*/"), 'no error', 'a condition on a tag');
error_is($app->query("SELECT pg_sleep(1000) /*route='%2Freport'*/"), '57014', '... that is met');
drop('tagged');
create(q{'named', application_name => 'bad-%', max_duration => '200 ms', action => 'cancel'});
error_is($app->query('SELECT pg_sleep(0.5)'), 'no error', 'a condition on application_name');
$app->ok("SET application_name = 'bad-job'");
error_is($app->query('SELECT pg_sleep(1000)'), '57014', '... that is met');
drop('named');

# Observe mode of the session
create(q{'enforced', max_duration => '200 ms', action => 'cancel'});
$mon->ok('ALTER ROLE other SET resilience.mode = observe');
my $watched = connect_to($node, user => 'other');
error_is($watched->query('SELECT pg_sleep(0.6)'), 'no error', 'a session in observe mode');
is(rule('enforced', 'hits_total'), 1, '... is counted');

# Expiry
$mon->ok(q{SELECT resilience.alter_runaway_rule('enforced', expires_at => now() + interval '1 s')});
wait_until('the rule has expired', sub { $node->log_contains(qr/runaway rule "enforced" has expired/) });
error_is($app->query('SELECT pg_sleep(0.5)'), 'no error', 'a rule that has expired hits nobody');
drop('enforced');

$_->close for ($app, $other, $member, $super, $observer, $watched);
all_zero($mon, 'at the end');
done_testing();
