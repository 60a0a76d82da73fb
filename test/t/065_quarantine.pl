# Quarantine: a query that has hit a rule is refused or limited, for whom the
# rule is about, until time, release or the end of the rule.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('quarantine', roles => [ 'app', 'other' ], conf => q(
max_parallel_workers_per_gather = 0
));
my $mon = monitor($node);

$mon->ok('CREATE TABLE big AS SELECT generate_series(1, 1000) id; ANALYZE big; GRANT ALL ON big TO PUBLIC');

sub rule
{
	my ($column) = @_;
	return $mon->value("SELECT $column FROM resilience.runaway_rules WHERE name = 'q'");
}

sub quarantine
{
	my ($column) = @_;
	return $mon->value("SELECT coalesce(max(($column)::text), 'none') FROM resilience.quarantine");
}

sub create
{
	my ($arguments) = @_;
	$mon->ok(q{SELECT resilience.drop_runaway_rule('q', if_exists => true)});
	return $mon->ok("SELECT resilience.create_runaway_rule('q', role_name => 'app', action => 'quarantine', $arguments)");
}

my @app = map { connect_to($node, user => 'app') } 1 .. 3;
my ($app) = @app;
my $other = connect_to($node, user => 'other');

# Cancelled, then refused
create(q{max_duration => '300 ms'});
my $result = $app->query('SELECT pg_sleep(1000)');
error_is($result, '57014', 'the statement that hits the rule is cancelled');
is(detail_of($result, 'action'), 'quarantine', 'DETAIL: action');
ok(detail_of($result, 'until'), 'DETAIL: until');
like($result->{error}{H}, qr/quarantine/, 'HINT');
my $query_id = detail_of($result, 'query_id');
is(quarantine('query_id'), $query_id, 'the view has the query');
is(quarantine('rule'), 'q', '... and the rule');
is(quarantine('action'), 'refuse', '... and what happens to it');
is(quarantine('until - since'), '00:10:00', '... and for how long');

$result = $app[1]->query('SELECT pg_sleep(0)');
error_is($result, '53R02', 'the query is refused, with other constants and in another session');
is($result->{error}{M}, 'query is in quarantine by runaway rule "q"', 'message');
is(detail_of($result, 'query_id'), $query_id, 'DETAIL: query_id');
is(detail_of($result, 'started'), 'false', 'DETAIL: started');
ok(detail_of($result, 'until'), 'DETAIL: until');
cmp_ok(detail_of($result, 'retry_after_ms'), '>', 500_000, 'DETAIL: retry_after_ms');
is(quarantine('refused_total'), 1, 'counted in the view quarantine');
is(rule('refused_total'), 1, '... and in runaway_rules');
is(rule('quarantined_total'), 1, 'queries in quarantine are counted');

error_is($app->query('SELECT pg_sleep(0), 1'), 'no error', 'another query is not refused');
error_is($other->query('SELECT pg_sleep(0)'), 'no error', 'another role is not refused');
error_is(connect_to($node)->query('SELECT pg_sleep(0)'), 'no error', 'a superuser is not refused');
$app->ok('BEGIN');
$app->ok('SELECT 1');
error_is($app->query('SELECT pg_sleep(0)'), '53R02', 'refused within a transaction, too');
$app->ok('ROLLBACK');
$app->parse('p', 'SELECT pg_sleep(0)');
$app->bind_portal('', 'p');
$app->execute('');
$app->sync;
error_is($app->result, '53R02', 'refused in the extended protocol, too');
$mon->ok(q{ALTER ROLE other SET resilience.mode = observe});

# Release
is($mon->value("SELECT resilience.release_quarantine($query_id)"), 't', 'release_quarantine()');
is($mon->value("SELECT resilience.release_quarantine($query_id)"), 'f', '... once');
is(quarantine('query_id'), 'none', 'the view is empty');
error_is($app->query('SELECT pg_sleep(0)'), 'no error', 'the query runs again');

# The end of the rule
error_is($app->query('SELECT pg_sleep(1000)'), '57014', 'again');
error_is($app->query('SELECT pg_sleep(0)'), '53R02', '... in quarantine');
$mon->ok(q{SELECT resilience.drop_runaway_rule('q')});
is(quarantine('query_id'), 'none', 'the rule is dropped, and its quarantine ends');
error_is($app->query('SELECT pg_sleep(0)'), 'no error', 'the query runs again');

# Time
create(q{max_duration => '300 ms', quarantine_duration => '1 s'});
error_is($app->query('SELECT pg_sleep(1000)'), '57014', 'for a second');
error_is($app->query('SELECT pg_sleep(0)'), '53R02', '... in quarantine');
wait_until('the quarantine is over', sub { !$app->query('SELECT pg_sleep(0)')->{error} });
pass('it ends by itself');
wait_until('the view is empty', sub { quarantine('query_id') eq 'none' });

# Limited
create(q{max_duration => '2 s', quarantine_max_running => 1});
error_is($app->query('SELECT pg_sleep(1000)'), '57014', 'a query to be limited');
is(quarantine('action'), 'limit', 'limited');
is(quarantine('running'), 0, 'nobody runs it');
$app[0]->ok('BEGIN');
$app[0]->ok('SELECT pg_sleep(0)');
is(quarantine('running'), 1, 'one runs it, until its transaction ends');
$result = $app[1]->query('SELECT pg_sleep(0)');
error_is($result, '53R02', 'one more is refused');
is(detail_of($result, 'limit'), 1, 'DETAIL: limit');
is(detail_of($result, 'running'), 1, 'DETAIL: running');
cmp_ok(detail_of($result, 'retry_after_ms'), '<=', 1000, 'DETAIL: come back soon');
error_is($app[0]->query('SELECT pg_sleep(0)'), 'no error', 'the one that has the place may run it again');
is(quarantine('running'), 1, '... and counts once');
$app[0]->ok('ROLLBACK');
is(quarantine('running'), 0, 'the place is given back by ROLLBACK');
error_is($app[1]->query('SELECT pg_sleep(0)'), 'no error', 'then another may');
is(quarantine('running'), 0, 'and by the end of a statement');
$app[1]->send('SELECT pg_sleep(1)');
wait_until('it runs', sub { quarantine('running') eq '1' });
$mon->ok("SELECT pg_terminate_backend($app[1]->{pid})");
wait_until('it is gone', sub { quarantine('running') eq '0' });
pass('the place is given back by FATAL');
$app[2]->send('SELECT pg_sleep(1)');
wait_until('it runs', sub { quarantine('running') eq '1' });
is($mon->value("SELECT resilience.release_quarantine($query_id)"), 't', 'released while somebody runs it');
error_is($app[2]->result, 'no error', '... who goes on');
error_is($app[0]->query('SELECT pg_sleep(0)'), 'no error', '... and others, too');

# An estimate is refused before anything starts, and so is what follows
create(q{max_rows_estimate => 500});
$result = $app->query('SELECT * FROM big');
error_is($result, '57014', 'an estimate beyond the limit');
is(detail_of($result, 'started'), 'false', 'nothing was started');
isnt(quarantine('query_id'), 'none', 'the query is in quarantine');
error_is($app->query('SELECT * FROM big'), '57014', 'the same answer again');

# Observe mode puts nothing into quarantine
create(q{max_duration => '100 ms', mode => 'observe'});
error_is($app->query('SELECT pg_sleep(0.5)'), 'no error', 'observe');
is(rule('hits_total'), 1, '... counts');
is(quarantine('query_id'), 'none', '... and nothing is in quarantine');

# More queries than there is room for: the oldest makes room
create(q{max_rows_estimate => 500});
for my $n (1 .. 70)
{
	my $columns = join(', ', (1) x $n);
	$result = $app->query("SELECT $columns FROM big");
	next if $result->{error} && $result->{error}{C} eq '57014';
	error_is($result, '57014', "query $n");
}
is($mon->value('SELECT count(*) FROM resilience.quarantine'), 64, 'room for 64 queries');
is(rule('quarantined_total'), 70, 'all of them were in quarantine');
is(rule('evicted_total'), 6, 'those that made room are counted');

# Without query identifiers: only cancelled
my $without = connect_to($node, user => 'app');
create(q{max_duration => '200 ms'});
$mon->ok(q{ALTER ROLE app SET compute_query_id = off});
$without->close;
$without = connect_to($node, user => 'app');
error_is($without->query('SELECT pg_sleep(1000)'), '57014', 'without a query identifier the statement is cancelled');
is(quarantine('query_id'), 'none', '... and nothing is in quarantine');

# A restart forgets it
$mon->ok(q{ALTER ROLE app RESET compute_query_id});
$app = connect_to($node, user => 'app');
error_is($app->query('SELECT pg_sleep(1000)'), '57014', 'before a restart');
error_is($app->query('SELECT pg_sleep(0)'), '53R02', 'in quarantine');
$node->restart;
$mon = monitor($node);
$app = connect_to($node, user => 'app');
is(quarantine('query_id'), 'none', 'after a restart nothing is in quarantine');
error_is($app->query('SELECT pg_sleep(1000)'), '57014', '... but the rule holds');
error_is($app->query('SELECT pg_sleep(0)'), '53R02', '... and puts it there again');

$app->close;
all_zero($mon, 'at the end');
done_testing();
