# Nobody gets his SQL run as somebody else, or more of the server than was
# granted: stored SQL, temporary objects, schemas that were there before the
# extension, row security of fallbacks, rows written without the functions,
# priorities, and code that will not end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('escalation', roles => [qw(app grantee writer owner_of_schema)], conf => "resilience.chaos = on\n");
my $mon = monitor($node);
my @stored = qw(create_feature alter_feature run_feature create_health_check alter_health_check run_health_check
  create_experiment alter_experiment start_experiment);

$mon->ok('GRANT EXECUTE ON FUNCTION ' . join(', ', map { "resilience.$_" } @stored) . ' TO grantee');
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.run_feature, resilience.run_health_check TO app');
$mon->ok('GRANT CREATE ON SCHEMA public TO app, grantee');
$mon->ok('CREATE EXTENSION postgres_fdw');
my $app = connect_to($node, user => 'app');
my $grantee = connect_to($node, user => 'grantee');

sub refused
{
	my ($client, $sql, $code, $what) = @_;
	my $result = $client->query($sql);

	return is($result->{error}{C} // 'no error', $code, $what);
}

# --- stored SQL runs as whoever wrote it

$grantee->ok(q{CREATE FUNCTION public.who() RETURNS text LANGUAGE sql AS 'SELECT current_user::text'});
$grantee->ok(q{SELECT resilience.create_feature('f', enabled => false, fallback_sql => 'SELECT public.who()')});
$grantee->ok(q{SELECT resilience.create_health_check('c', query => $$SELECT public.who() = 'nobody', public.who()$$)});
my $whose = q{SELECT who FROM resilience.run_feature('f', 'SELECT ''primary''::text') AS (who text)};
is($mon->value($whose), 'grantee', "a superuser who calls a feature does not lend its rights to the fallback's author");
is($app->value($whose), 'grantee', 'nor gets anybody else his own');
is($mon->value(q{SELECT message FROM resilience.run_health_check('c')}), 'grantee', 'a health check neither');
$mon->ok(q{SELECT resilience.create_feature('super', enabled => false, fallback_sql => 'SELECT current_user::text')});
$mon->ok(q{SELECT resilience.create_health_check('super', query => 'SELECT current_user = ''x'', current_user::text')});
$grantee->ok(q{SELECT resilience.alter_feature('super', fallback_sql => 'SELECT public.who()')});
$grantee->ok(q{SELECT resilience.alter_health_check('super', query => 'SELECT false, public.who()')});
$whose =~ s/'f'/'super'/;
is($app->value($whose), 'grantee', 'who changes the SQL of a superuser becomes its owner');
is($app->value(q{SELECT message FROM resilience.run_health_check('super')}), 'grantee', 'of a check, too');

# no way back, nothing that outlives it
$grantee->ok(q{CREATE FUNCTION public.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN EXECUTE sql; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$});
my %tries = (
	'SET ROLE NONE' => '42501', 'SET SESSION AUTHORIZATION app' => '42501', 'RESET ROLE' => '42501',
	'CREATE TEMP TABLE left_over ()' => '42501|25006', 'LISTEN x' => '42501|25006|0A000',
	'PREPARE p AS SELECT 1' => '42501');
for my $sql (sort keys %tries)
{
	$grantee->ok("SELECT resilience.alter_feature('f', fallback_sql => \$x\$SELECT public.try('$sql')\$x\$)");
	$grantee->ok("SELECT resilience.alter_health_check('c', query => \$x\$SELECT false, public.try('$sql')\$x\$)");
	like($mon->value(q{SELECT who FROM resilience.run_feature('f', 'SELECT ''''::text') AS (who text)}),
		qr/^(?:$tries{$sql})$/, "a fallback cannot $sql");
	like($mon->value(q{SELECT message FROM resilience.run_health_check('c')}), qr/^(?:$tries{$sql})$/, "a check cannot $sql");
}
is($mon->value(q{SELECT current_user = session_user AND current_setting('search_path') NOT LIKE 'pg_catalog%'}), 't',
	'the session is what it was');

# --- temporary objects mean something else in the caller's session

my $author = connect_to($node);
$author->ok('CREATE TEMP TABLE numbers AS SELECT 1 AS n');
$author->ok(q{CREATE FUNCTION pg_temp.one() RETURNS int LANGUAGE sql AS 'SELECT 1'});
$author->ok(q{CREATE OPERATOR pg_temp.<=> (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_catalog.int4eq)});
$author->ok('CREATE DOMAIN pg_temp.d AS int CHECK (value > 0)');
for my $sql ('SELECT n FROM numbers', 'SELECT pg_temp.one()', 'SELECT (SELECT n FROM pg_temp.numbers)', 'SELECT 1 WHERE 1 OPERATOR(pg_temp.<=>) 1', 'SELECT 1::pg_temp.d', 'SELECT 1 WHERE 1 OPERATOR(pg_temp.<=>) ANY (ARRAY[1])',
	'SELECT f FROM pg_temp.one() AS f', 'SELECT 1 WHERE NULL IN (SELECT n FROM numbers)')
{
	refused($author, "SELECT resilience.create_feature('temp', fallback_sql => \$\$$sql\$\$)", '22023', "no fallback: $sql");
	(my $query = $sql) =~ s/^SELECT (\w\S*|\(.*?\))/SELECT $1 > 0/;
	$query =~ s/^SELECT 1 > 0 WHERE /SELECT /;
	refused($author, "SELECT resilience.create_health_check('temp', query => \$\$$query\$\$)", '22023', "no check: $query");
	refused($author, "SELECT resilience.create_experiment('temp', 'latency', delay => '1 ms', stop_condition => \$\$$query\$\$)",
		'22023', "no stop condition: $query");
}
refused($author, q{SELECT resilience.alter_feature('super', fallback_sql => 'SELECT n FROM numbers')}, '22023', 'nor by alter_feature()');

# --- rows that are written without the functions

$mon->ok('GRANT pg_write_all_data TO writer');
my $writer = connect_to($node, user => 'writer');
refused($writer, q{INSERT INTO resilience.feature_definitions (name, fallback_sql, owner) VALUES ('w', 'SELECT 1', 'postgres'::regrole)}
	=~ s/postgres/$ResilienceTest::superuser/r, '42501', 'SQL of a feature for a superuser, by INSERT');
refused($writer, q{INSERT INTO resilience.health_check_definitions (name, query, owner) VALUES ('w', 'SELECT true', 'app'::regrole)},
	'42501', 'a check for another role');
refused($writer, q{INSERT INTO resilience.experiment_definitions (name, impact, sqlstate, stop_condition, owner)
	VALUES ('w', 'error', '53200', 'SELECT true', 'app'::regrole)}, '42501', 'a stop condition for another role');
refused($writer, q{UPDATE resilience.feature_definitions SET fallback_sql = 'SELECT 2', owner = 10 WHERE name = 'f'},
	'42501', 'by UPDATE');
for my $database ('*', 'template1', 'no such database')
{
	refused($writer, "INSERT INTO resilience.bulkhead_definitions (name, database_name, max_running) VALUES ('w', '$database', 0)",
		'42501', "a bulkhead for database $database");
	refused($writer, "INSERT INTO resilience.runaway_rule_definitions (name, database_name, max_duration) VALUES ('w', '$database', '1 s')",
		'42501', "a runaway rule for database $database");
	refused($writer, "INSERT INTO resilience.experiment_definitions (name, database_name, impact, sqlstate) VALUES ('w', '$database', 'error', '53200')",
		'42501', "an experiment for database $database");
}
$writer->ok(q{INSERT INTO resilience.bulkhead_definitions (name, database_name, application_name) VALUES ('w', 'postgres', 'x')});
$mon->ok(q{INSERT INTO resilience.bulkhead_definitions (name, database_name, application_name) VALUES ('all', '*', 'x')});
refused($writer, q{UPDATE resilience.bulkhead_definitions SET max_running = 0 WHERE name = 'all'}, '42501', "a superuser's rule for all");
refused($app, "SELECT resilience.$_()", '42501', "$_() is for triggers")
  for qw(bulkhead_definitions_check bulkhead_definitions_changed feature_definitions_check);
refused($mon, 'SELECT resilience.bulkhead_definitions_changed()', '39P01', 'and only for them');
refused($app, 'CREATE TRIGGER t BEFORE INSERT ON resilience.feature_definitions FOR EACH ROW EXECUTE FUNCTION resilience.feature_definitions_check()',
	'42501', 'nobody puts a trigger on a table');

# --- a schema that somebody has made before

my $psql = sub {
	my ($database) = @_;
	my ($status, $out, $err) = $node->psql($database, 'CREATE EXTENSION resilience');
	return $err;
};
$mon->ok("CREATE DATABASE d$_") for 1 .. 4;
$mon->ok('ALTER DATABASE d1 OWNER TO owner_of_schema');
my $hostile = connect_to($node, dbname => 'd1', user => 'owner_of_schema');
$hostile->ok('CREATE SCHEMA resilience');
$node->safe_psql('d2', 'CREATE SCHEMA resilience; GRANT CREATE ON SCHEMA resilience TO PUBLIC');
$node->safe_psql('d3', q{CREATE SCHEMA resilience;
	CREATE FUNCTION resilience.f(oid, regclass) RETURNS boolean LANGUAGE sql AS 'SELECT true';
	CREATE OPERATOR resilience.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = resilience.f)});
like($psql->("d$_"), qr/schema "resilience" is not the extension's own/, "CREATE EXTENSION in the schema of d$_ is refused") for 1 .. 3;
$node->safe_psql('d4', 'CREATE SCHEMA resilience');
is($psql->('d4'), '', 'an empty schema of a superuser will do');

# --- a schema before pg_catalog, for every function that changes something

my %pairs = (
	text => [qw(text name)], name => [qw(name text)], oid => [qw(oid regclass regrole)], regclass => [qw(regclass oid)],
	regrole => [qw(regrole oid)], map { $_ => [$_] } qw(int4 int8 bool timestamptz interval float8 jsonb));
$mon->ok('CREATE SCHEMA trap AUTHORIZATION app');
for my $left (sort keys %pairs)
{
	for my $right (@{ $pairs{$left} })
	{
		$app->ok("CREATE FUNCTION trap.sprung(pg_catalog.$left, pg_catalog.$right) RETURNS boolean LANGUAGE plpgsql
			AS \$\$ BEGIN RAISE 'sprung by %', current_user; END \$\$");
		$app->ok("CREATE OPERATOR trap.$_ (LEFTARG = pg_catalog.$left, RIGHTARG = pg_catalog.$right, FUNCTION = trap.sprung)")
		  for qw(= <> < <= >);
	}
}
$app->ok("CREATE FUNCTION trap.$_ LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'sprung by %', current_user; END \$\$")
  for 'now() RETURNS timestamptz', 'clock_timestamp() RETURNS timestamptz', 'current_database() RETURNS name',
  'pg_get_userbyid(oid) RETURNS name', 'quote_ident(text) RETURNS text', 'pg_has_role(oid, oid, text) RETURNS boolean',
  'array_position(text[], text) RETURNS int';
$app->ok('CREATE TABLE trap.pg_class (oid oid)');
$mon->ok('CREATE SERVER trapped FOREIGN DATA WRAPPER postgres_fdw');
$mon->ok('CREATE FOREIGN TABLE public.trapped (a int) SERVER trapped');
$mon->ok('CREATE TABLE public.instead (a int)');
my $careless = connect_to($node);
$careless->ok('SET search_path = trap, pg_catalog');
is($careless->query(q{SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text})->{error}{M}, "sprung by $ResilienceTest::superuser", 'the trap works');
for my $call (
	q{create_bulkhead('trap', role_name => 'app', database_name => '*', application_name => 'x', tag => 'a=b', max_running => 1)}, q{alter_bulkhead('trap', max_running => 2)},
	q{preview_bulkhead('trap', role_name => 'app')}, q{drop_bulkhead('trap')},
	q{create_runaway_rule('trap', role_name => 'app', max_duration => '1 s')}, q{alter_runaway_rule('trap', max_duration => '2 s')}, q{drop_runaway_rule('trap')},
	q{create_breaker('trap', server => 'trapped', on_open => 'fallback')}, q{alter_breaker('trap', max_failures => 3)},
	q{set_fallback('public.trapped', 'public.instead')}, q{force_breaker('trap', 'open')}, q{drop_fallback('public.trapped')},
	q{create_health_check('trap', query => 'SELECT 1 = 1')}, q{alter_health_check('trap', timeout => '2 s')}, q{run_health_check('trap')},
	q{create_feature('trap', health_check => 'trap', breaker => 'trap', fallback_sql => 'SELECT 1 WHERE 1 = 1', expires_at => 'infinity')},
	q{alter_feature('trap', description => 'x')}, q{set_feature('trap', true, 'x')}, q{set_feature('trap', false, 'x')}, q{drop_feature('trap')},
	q{create_degradation('trap', 'loaded', 'low', '{"work_mem": "1MB"}')}, q{alter_degradation('trap', enabled => false)}, q{drop_degradation('trap')},
	q{create_experiment('trap', 'latency', delay => '1 ms', role_name => 'app', relation => 'public.instead', stop_condition => 'SELECT 1 = 2')},
	q{alter_experiment('trap', delay => '2 ms')}, q{preview_experiment('trap')}, q{start_experiment('trap')}, q{stop_experiment('trap')}, q{drop_experiment('trap')},
	q{drop_health_check('trap')}, q{reset_breaker('trap')}, q{drop_breaker('trap')})
{
	is($careless->query("SELECT resilience.$call")->{error}{M}, undef, "not by $call");
}
for my $view (map { $_->[0] } @{ $mon->query(q{SELECT relname FROM pg_class WHERE relnamespace = 'resilience'::regnamespace AND relkind = 'v'})->{rows} })
{
	is($careless->query("SELECT pg_catalog.count(*) FROM (SELECT * FROM resilience.$view) v")->{error}{M}, undef, "nor by the view $view");
}
$careless->ok('ALTER SERVER trapped RENAME TO renamed');
$careless->ok('DROP TABLE public.instead');
$careless->ok('DROP SERVER renamed CASCADE');
pass('nor by what is done to the objects that it names');

# --- row security of what stands in for a foreign table, in plans that are kept

$mon->ok($_) for 'CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host \'/nonexistent\')',
  'CREATE FOREIGN TABLE remote (a int, who text) SERVER far', 'CREATE TABLE spare (a int, who text)',
  q{INSERT INTO spare VALUES (1, 'app'), (2, 'grantee')}, 'ALTER TABLE spare ENABLE ROW LEVEL SECURITY',
  'CREATE POLICY own ON spare USING (who = current_user)', 'GRANT SELECT ON remote, spare TO app, grantee',
  'CREATE TABLE parts (a int, who text) PARTITION BY LIST (a)', 'CREATE FOREIGN TABLE part PARTITION OF parts FOR VALUES IN (1, 2) SERVER far',
  'GRANT SELECT ON parts, part TO app, grantee',
  q{SELECT resilience.create_breaker('far', server => 'far', on_open => 'fallback')},
  q{SELECT resilience.set_fallback('remote', 'spare')}, q{SELECT resilience.set_fallback('part', 'spare')},
  q{SELECT resilience.force_breaker('far', 'open')};
my $pooled = connect_to($node);
$pooled->ok('SET plan_cache_mode = force_generic_plan');
$pooled->ok('PREPARE rows AS SELECT string_agg(who, \',\' ORDER BY a) FROM remote');
is($pooled->value('EXECUTE rows'), 'app,grantee', 'a superuser sees all rows of a fallback');
for my $role (qw(app grantee app))
{
	$pooled->ok("SET ROLE $role");
	is($pooled->value('EXECUTE rows'), $role, "with the same plan $role sees his own");
	$pooled->ok('RESET ROLE');
}
is($pooled->value('EXECUTE rows'), 'app,grantee', 'and the superuser all again');
$pooled->ok('PREPARE part AS SELECT count(*) FROM parts');
refused($pooled, 'EXECUTE part', '08R01', 'no fallback with row security for a partition, whoever asks first');
$pooled->ok('SET ROLE app');
refused($pooled, 'EXECUTE part', '08R01', 'or later');

# --- priority

for my $options ('-c resilience.priority=critical', '-c resilience.mode=off', '-c resilience.max_wait=1h', '-c resilience.minimum_priority=low')
{
	my $error = connect_refused($node, user => 'app', options => $options);
	like($error->{C} // 'no error', qr/^(42501|55P02)$/, "$options in the connection's options");
}
my $low = connect_to($node, user => 'app', options => '-c resilience.requested_priority=low');
is($low->value('SELECT resilience.my_priority()'), 'low', 'lower is for everybody');
refused($low, $_, '42501', $_)
  for 'SET LOCAL resilience.priority = critical', q{SELECT set_config('resilience.priority', 'high', true)},
  q{CREATE FUNCTION public.raise() RETURNS int LANGUAGE sql SET resilience.priority = 'critical' AS 'SELECT 1'},
  q{ALTER ROLE app SET resilience.priority = 'critical'}, q{SELECT resilience.cancel_statement(1)},
  q{SELECT resilience.create_bulkhead('me', priority => 'critical')};

# --- code that does not end

$mon->ok(q{SELECT resilience.create_health_check('ticks', query => 'SELECT true', check_interval => '1 s', timeout => '900 ms')});
$mon->ok('CREATE TABLE public.seen (pid int)');
$grantee->ok(q{CREATE FUNCTION public.stubborn() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		BEGIN
			PERFORM pg_catalog.pg_sleep(1);
		EXCEPTION WHEN query_canceled THEN NULL;
		END;
	END LOOP;
END $$});
$grantee->ok(q{SELECT resilience.create_experiment('stubborn', 'latency', delay => '1 ms', role_name => 'app',
	stop_condition => 'SELECT public.stubborn()', stop_when_unhealthy => false)});
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'resilience worker' AND query LIKE 'stop condition%' AND state = 'active'};
$grantee->ok(q{SELECT resilience.start_experiment('stubborn')});
wait_for_value($mon, $workers, 1);
my $stuck = $mon->value($workers =~ s/count\(\*\)/pid/r);
my $most = 1;
my $runs = $mon->value(q{SELECT last_run FROM resilience.health_checks WHERE name = 'ticks'}) // '-infinity';
wait_until('the experiment was aborted', sub {
	my $now = $mon->value($workers);
	$most = $now if $now > $most;
	return $mon->value(q{SELECT state FROM resilience.experiments WHERE name = 'stubborn'}) eq 'aborted';
});
# a second one, if the first takes its time to die
cmp_ok($most, '<=', 2, 'a stop condition that does not end does not hold up all workers');
wait_until('its worker is gone', sub { !process_lives($stuck) });
pass('which is terminated');
wait_until('checks are run', sub {
	$mon->value("SELECT last_run > '$runs' AND status = 'healthy' FROM resilience.health_checks WHERE name = 'ticks'") eq 't';
});
pass('health checks go on');
$grantee->ok(q{CREATE OR REPLACE FUNCTION public.stubborn() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_sleep(30);
	RETURN false;
EXCEPTION WHEN query_canceled THEN RETURN false;
END $$});
$grantee->ok(q{SELECT resilience.start_experiment('stubborn')});
wait_for_value($mon, q{SELECT stop_reason FROM resilience.experiments WHERE name = 'stubborn' AND state = 'aborted' AND stop_reason LIKE '%timed out%'
	UNION ALL SELECT 'not yet' LIMIT 1}, 'its stop condition timed out after 1000 ms');
pass('nor does it pass for a quick one when it has caught the cancel');

all_zero($mon, 'nothing is left');
$node->stop;
done_testing();
