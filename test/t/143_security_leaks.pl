# Who sees what: sessions, events, messages of checks, names of other
# databases' objects, details of errors, the health endpoint.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use HttpTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $have_http = have_endpoint();
my $port = free_port();
my $at = "127.0.0.1:$port";
my $unix = PostgreSQL::Test::Utils::tempdir_short() . '/h';
my $node = preloaded_node('leaks', roles => [qw(app other reader watcher listener)],
	conf => "compute_query_id = on\n" . ($have_http ? "resilience.http_listen = '$at'\n" : ''));
my $mon = monitor($node);

$mon->ok('CREATE ROLE keeper LOGIN CREATEROLE');
$mon->ok('GRANT other TO keeper WITH ADMIN OPTION');    # for 16 and later
$mon->ok('GRANT pg_monitor TO watcher');
$mon->ok('CREATE DATABASE elsewhere');

# --- sessions: as pg_stat_activity shows them, even to who was granted more

$mon->ok(q{GRANT SELECT ON resilience.activity TO reader});
$mon->ok(q{GRANT EXECUTE ON FUNCTION resilience.session_activity() TO reader});
$mon->ok(q{SELECT resilience.create_bulkhead('by tenant', tag => 'tenant', max_running => 5)});
my ($app, $reader, $watcher) = map { connect_to($node, user => $_) } qw(app reader watcher);
$app->ok('BEGIN');
$app->ok(q{SELECT 1 /*tenant='secret%20customer'*/});
my $pid = $app->{pid};
my $session = "SELECT concat_ws('|', pid = $pid, priority, state, bulkheads::text, (run_start IS NOT NULL)::text, (query_id IS NOT NULL)::text, compartments::text)";
for my $from ('resilience.session_activity()', 'resilience.activity')
{
	like($watcher->value("$session FROM $from WHERE pid = $pid"), qr/secret customer/, "pg_monitor sees compartments in $from");
	is($reader->value("$session FROM $from WHERE pid = $pid"), 't|normal|false|false', "others see that there is a session in $from");
}
is($reader->value("SELECT state FROM resilience.session_activity() WHERE pid = pg_backend_pid()"), 'running', 'of the own session all is seen');
$mon->ok('GRANT app TO reader');
like($reader->value("$session FROM resilience.activity WHERE pid = $pid"), qr/secret customer/, 'and of a role that one is a member of');
$mon->ok('REVOKE app FROM reader');
$app->ok('ROLLBACK');

# --- messages of checks quote what their owners read

$mon->ok('CREATE TABLE public.secrets AS SELECT \'s3cret-4711\'::text AS v');
$mon->ok('REVOKE ALL ON public.secrets FROM PUBLIC');
my $listener = connect_to($node, user => 'listener');
$listener->ok('LISTEN resilience');
$mon->ok(q{SELECT resilience.create_health_check('quotes', query => 'SELECT v::int > 0 FROM public.secrets',
	check_interval => '1 s', timeout => '900 ms', failure_threshold => 1)});
$mon->ok(q{SELECT resilience.create_feature('needs', health_check => 'quotes', failure_threshold => 1, min_degraded_duration => '0')});
wait_for_value($mon, q{SELECT state FROM resilience.features WHERE name = 'needs'}, 'degraded');
wait_for_value($mon, q{SELECT count(*) FROM resilience.health WHERE component = 'server' AND status = 'degraded'}, 1);
$mon->ok('SET resilience.mode = enforce');
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.create_experiment, resilience.start_experiment TO app');
wait_until('listeners heard of the check, the feature and the server', sub {
	$listener->ok('SELECT 1');
	my $all = join "\n", map { $_->{payload} } @{ $listener->{notifications} || [] };
	return $all =~ /"object": "quotes", "from": "unknown", "to": "unhealthy"/ && $all =~ /"object": "needs".*"degraded"/ && $all =~ /"object": "health"/;
});
my $heard = join "\n", map { $_->{payload} } @{ $listener->{notifications} };
unlike($heard, qr/s3cret/, 'nothing of what a check reads is told to listeners, who may be anybody');
like($heard, qr/"health_check": "quotes"/, 'but which check it was');
like($watcher->value(q{SELECT string_agg(detail::text, ' ') FROM resilience.events}), qr/s3cret/, 'pg_monitor has it in the view');
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.run_feature TO app, watcher');
my $call = q{SELECT * FROM resilience.run_feature('needs', 'SELECT 1') AS (a int)};
my $error = $app->query($call)->{error};
is($error->{C}, '55R01', 'a degraded feature');
like($error->{D}, qr/reason="health check 'quotes' is unhealthy"/, 'says which check it was');
unlike("@$error{qw(M D H)}", qr/s3cret/, 'and not what it had read');
like($watcher->query($call)->{error}{D}, qr/s3cret/, 'but to pg_monitor');
for my $client ($app, $reader, $listener)
{
	is($client->query("SELECT * FROM resilience.$_")->{error}{C}, '42501', "$_ is not for everybody")
	  for qw(health_checks features health events metrics breakers compartments experiments);
}

# why a breaker is open
$mon->ok(q{SELECT resilience.create_breaker('opens', max_failures => 1, recorded_sqlstates => '{22P02}')});
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.call_with_breaker TO app');
my $failing = connect_to($node);
isnt($failing->query(q{SELECT resilience.call_with_breaker('opens', 'SELECT v::int FROM public.secrets')})->{error}, undef, 'a call fails');
is($mon->value(q{SELECT state FROM resilience.breakers WHERE name = 'opens'}), 'open', 'and opens the breaker');
$error = $app->query(q{SELECT resilience.call_with_breaker('opens', 'SELECT 1')})->{error};
is($error->{C}, '08R01', 'others are refused');
like($error->{D}, qr/last_sqlstate=22P02/, 'and told the SQLSTATE');
unlike("@$error{qw(M D H)}", qr/s3cret/, 'but not the message');
like($watcher->value(q{SELECT last_error FROM resilience.breakers WHERE name = 'opens'}), qr/s3cret/, 'which pg_monitor sees');

# a stop condition's, too
$mon->ok(q{SELECT resilience.create_experiment('quoted', 'latency', delay => '1 ms', role_name => 'app', stop_when_unhealthy => false,
	stop_condition => 'SELECT v::int > 0 FROM public.secrets')});
$mon->ok('ALTER SYSTEM SET resilience.chaos = on');
$mon->ok('SELECT pg_reload_conf()');
wait_until('the experiment can start', sub { $mon->value(q{SELECT can_start FROM resilience.preview_experiment('quoted')}) eq 't' });
$mon->ok(q{SELECT resilience.start_experiment('quoted')});
wait_for_value($mon, q{SELECT state FROM resilience.experiments WHERE name = 'quoted'}, 'aborted');
like($watcher->value(q{SELECT stop_reason FROM resilience.experiments WHERE name = 'quoted'}), qr/s3cret/, 'the view has why it stopped');
wait_until('listeners heard of it', sub {
	$listener->ok('SELECT 1');
	return grep { $_->{payload} =~ /"quoted".*"aborted"/ } @{ $listener->{notifications} };
});
my ($aborted) = grep { $_->{payload} =~ /"aborted"/ } @{ $listener->{notifications} };
like($aborted->{payload}, qr/"reason": "its stop condition failed"/, 'listeners hear that it failed');
unlike($aborted->{payload}, qr/s3cret/, 'and not how');

# --- names of other databases' objects

$mon->ok(q{SELECT resilience.create_bulkhead('project x', role_name => 'other', max_running => 3)});
my $keeper = connect_to($node, user => 'keeper', dbname => 'elsewhere');
$error = $keeper->query('DROP ROLE other')->{error};
is($error->{C}, '2BP01', 'a role that a bulkhead names');
is($error->{D}, 'condition of a bulkhead in database "postgres"', 'in another database, whose names are not told');
is(connect_to($node, user => 'keeper')->query('DROP ROLE other')->{error}{D}, 'condition of bulkhead "project x" in database "postgres"',
	'in the same one they are');
is(connect_to($node, dbname => 'elsewhere')->query('DROP ROLE other')->{error}{D}, 'condition of bulkhead "project x" in database "postgres"',
	'and to who reads all statistics');

# --- the health endpoint

SKIP:
{
	skip 'built without libmicrohttpd', 1 unless $have_http;
	wait_until('it is there', sub { get($at, '/live')->{status} == 200 });
	wait_until('it knows', sub { get($at, '/health')->{body} =~ /s3cret/ });
	for my $page (qw(/health / /status))
	{
		like(http($at, 'GET', $page, Host => $_)->{body}, qr/s3cret/, "$page, asked of $_, tells this machine the messages")
		  for ('localhost', "127.0.0.1:$port", "localhost:$port");
		unlike(http($at, 'GET', $page, Host => $_)->{body}, qr/s3cret/, "$page, asked of $_, does not: a page of there could read it")
		  for ('evil.example', "evil.example:$port", '10.0.0.1', 'localhost.evil.example');
		unlike(http($at, 'GET', $page, $_ => '10.0.0.9')->{body}, qr/s3cret/, "$page: what a proxy hands on is not from here ($_)")
		  for qw(Forwarded X-Forwarded-For X-Real-IP Via);
		like(http($at, 'GET', $page, Host => 'evil.example')->{body}, qr/quotes/, "$page: names are for all who reach it");
	}
	unlike(get($at, '/metrics')->{body}, qr/s3cret/, 'metrics have no messages');
	$mon->ok("ALTER SYSTEM SET resilience.http_listen = '$unix'");
	$mon->ok('SELECT pg_reload_conf()');
	wait_until('it listens at a unix socket', sub { -S $unix && get($unix, '/live')->{status} == 200 });
	like(http($unix, 'GET', '/health', Host => 'whatever')->{body}, qr/s3cret/, 'at a unix socket the host is of no matter');
	is($mon->value('SELECT boot_val FROM pg_settings WHERE name = \'resilience.http_listen\''), '', 'by default it listens nowhere');
}

$node->stop;
done_testing();
