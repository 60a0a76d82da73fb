# Where a session's priority comes from, and that nobody raises his own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('set_priority', roles => [qw(app other trusted)]);
my $mon = monitor($node);

# Priority of a new session
sub priority_of
{
	my (%params) = @_;
	my $session = connect_to($node, user => 'app', %params);
	my $priority = $session->value('SELECT resilience.my_priority()');

	$session->close;
	return $priority;
}

# Settings, the more specific the stronger
$mon->ok('CREATE DATABASE db');
my $db = monitor($node, dbname => 'db');
$db->ok('CREATE EXTENSION resilience');
is(priority_of(), 'normal', 'the default');
$mon->ok('ALTER DATABASE db SET resilience.priority = low');
is(priority_of(dbname => 'db'), 'low', 'ALTER DATABASE SET');
is(priority_of(), 'normal', 'of that database');
$mon->ok('ALTER ROLE app SET resilience.priority = high');
is(priority_of(), 'high', 'ALTER ROLE SET');
is(priority_of(dbname => 'db'), 'high', 'is stronger than ALTER DATABASE SET');
$mon->ok('ALTER ROLE app IN DATABASE db SET resilience.priority = critical');
is(priority_of(dbname => 'db'), 'critical', 'ALTER ROLE IN DATABASE SET is stronger still');
is(priority_of(), 'high', 'in that database');

# The user may lower it, and never raise it
my $app = connect_to($node, user => 'app');
is($app->value('SET resilience.requested_priority = low; SELECT resilience.my_priority()'), 'low', 'a session lowers its priority');
is($app->value('SET resilience.requested_priority = critical; SELECT resilience.my_priority()'), 'high', 'not above its own');
is($app->value('BEGIN; SET LOCAL resilience.requested_priority = normal; SELECT resilience.my_priority()'), 'normal', 'for a transaction');
is($app->value('COMMIT; SELECT resilience.my_priority()'), 'high', 'and no longer');
$mon->ok('SELECT resilience.reset_statistics()');
$app->ok('SET resilience.requested_priority = low');
$app->ok('SELECT 1');
$app->ok('RESET resilience.requested_priority');
$app->ok('SELECT 1');
is($mon->value(q{SELECT string_agg(admitted_total::text, ' ' ORDER BY priority) FROM resilience.load_by_priority WHERE priority IN ('high', 'low')}),
	'1 1', 'transactions count under the priority that they had');
is(priority_of(options => '-c resilience.requested_priority=low'), 'low', 'PGOPTIONS may lower it');
is(priority_of(options => '-c resilience.requested_priority=critical'), 'high', 'and not raise it');

my $other = connect_to($node, user => 'other');
for my $statement (
	'SET resilience.priority = critical',
	'SET LOCAL resilience.priority = critical',
	'SET SESSION resilience.priority TO high',
	'SET resilience.priority = low',
	q{SELECT set_config('resilience.priority', 'critical', false)},
	q{UPDATE pg_settings SET setting = 'critical' WHERE name = 'resilience.priority'},
	'ALTER ROLE other SET resilience.priority = critical',
	'ALTER ROLE CURRENT_USER SET resilience.priority = critical',
	q{ALTER ROLE other IN DATABASE postgres SET resilience.priority = 'critical'},
	'ALTER SYSTEM SET resilience.priority = critical',
	'ALTER SYSTEM SET resilience.max_running = 1')
{
	error_is($other->query($statement), '42501', "refused: $statement");
}
is($other->value('SELECT resilience.my_priority()'), 'normal', 'it is what it was');
for my $options ('-c resilience.priority=critical', '--resilience.priority=critical', '-cresilience.priority=low')
{
	my $error = connect_refused($node, user => 'other', options => $options) || { C => 'no error' };
	is($error->{C}, '42501', "refused in PGOPTIONS: $options");
}

# A plain owner of a database, a function with a setting of its own
$mon->ok('ALTER DATABASE db OWNER TO other; GRANT CREATE ON SCHEMA public TO other');
error_is($other->query('ALTER DATABASE db SET resilience.priority = critical'), '42501',
	'the owner of a database does not set its priority');
my $result = $other->query(q{CREATE FUNCTION raised() RETURNS text LANGUAGE sql
	SET resilience.priority = critical AS 'SELECT resilience.my_priority()'});
$result = $other->query('SELECT raised()') unless $result->{error};
error_is($result, '42501', 'a function cannot raise it, either');
error_is($other->query(q{DO $$ BEGIN PERFORM set_config('resilience.priority', 'critical', true); END $$}), '42501', 'nor DO');

# No other settings under our name: what was misspelt is not silently nothing
error_is($other->query('SET resilience.prioritty = critical'), '42602', 'the prefix is reserved');

# Who is trusted to
$mon->ok('GRANT SET ON PARAMETER resilience.priority TO trusted');
my $trusted = connect_to($node, user => 'trusted');
is($trusted->value('SET resilience.priority = critical; SELECT resilience.my_priority()'), 'critical', 'GRANT SET ON PARAMETER lets raise it');
is(priority_of(user => 'trusted', options => '-c resilience.priority=high'), 'high', 'in PGOPTIONS, too');
error_is($trusted->query('ALTER ROLE trusted SET resilience.priority = high'), 'no error', 'and by ALTER ROLE on itself');
is(priority_of(user => 'trusted'), 'high', 'which holds');
$mon->ok('REVOKE SET ON PARAMETER resilience.priority FROM trusted');
error_is($trusted->query('SET resilience.priority = high'), '42501', 'REVOKE ends it');

# A bulkhead's priority is the default of those that match
$mon->ok(q{SELECT resilience.create_bulkhead('batch', role_name => 'other', priority => 'low')});
is($other->value('SELECT resilience.my_priority()'), 'low', 'from a bulkhead');
$mon->ok(q{SELECT resilience.create_bulkhead('more', role_name => 'other', priority => 'high')});
is($other->value('SELECT resilience.my_priority()'), 'low', 'of two bulkheads the lower');
$mon->ok(q{SELECT resilience.alter_bulkhead('batch', priority => 'critical')});
is($other->value('SELECT resilience.my_priority()'), 'high', '... still');
is($other->value('SET resilience.requested_priority = normal; SELECT resilience.my_priority()'), 'normal', 'it can be lowered');
$other->ok('RESET resilience.requested_priority');
$mon->ok('ALTER ROLE other SET resilience.priority = normal');
is(priority_of(user => 'other'), 'normal', 'what was set for the role is stronger than a bulkhead');
$mon->ok('ALTER ROLE other RESET resilience.priority');
set_conf($mon, 'resilience.priority' => 'low');
is(priority_of(user => 'other'), 'high', 'the configuration file is not');
is(priority_of(user => 'trusted', dbname => 'db'), priority_of(user => 'trusted'), 'the same in every database');
$mon->ok('ALTER ROLE trusted RESET resilience.priority');
is(priority_of(user => 'trusted'), 'low', 'the configuration file is the default');
set_conf($mon, 'resilience.priority' => 'normal');
$mon->ok(q{SELECT resilience.alter_bulkhead('more', mode => 'observe'); SELECT resilience.drop_bulkhead('batch')});
is($other->value('SELECT resilience.my_priority()'), 'normal', 'a bulkhead that observes gives no priority');
$mon->ok(q{SELECT resilience.drop_bulkhead('more')});
$_->close for ($app, $other, $trusted, $db);
all_zero($mon, 'of the preloaded server');

# Placeholders: settings made while the library is not there.  A plain user
# must not be able to leave one that counts later.
my $plain = PostgreSQL::Test::Cluster->new('placeholders');
$plain->init;
$plain->start;
$plain->safe_psql('postgres', q{CREATE EXTENSION resilience; CREATE ROLE app LOGIN; CREATE ROLE marked LOGIN;
	CREATE ROLE nonsense LOGIN;
	ALTER ROLE marked SET resilience.priority = 'high'; ALTER ROLE nonsense SET resilience.priority = 'urgent'});
$app = connect_to($plain, user => 'app');
for my $statement (
	'ALTER ROLE app SET resilience.priority = critical',
	q{ALTER ROLE app SET resilience.mode = 'off'},
	'ALTER ROLE app IN DATABASE postgres SET resilience.priority = critical')
{
	error_is($app->query($statement), '42501', "without the library, refused: $statement");
}
$app->ok('SET resilience.priority = critical');
error_is($app->query(q{LOAD 'resilience'}), '42501', 'a plain user does not load it');
error_is($app->query('SELECT resilience.my_priority()'), '55000', 'a function call that loads it says that it is not preloaded');
my $super = connect_to($plain, options => '-c resilience.priority=critical');
$super->ok(q{LOAD 'resilience'});
error_is($super->query('SELECT resilience.my_priority()'), '55000', 'LOAD has no effect');
is($super->value('SELECT 1'), 1, 'the session goes on');
$_->close for ($app, $super);
$plain->append_conf('postgresql.conf', "shared_preload_libraries = 'resilience'\n");
$plain->restart;
my %found = map { my $session = connect_to($plain, user => $_); ($_ => $session->value('SELECT resilience.my_priority()')) }
  qw(app marked nonsense);
is($found{app}, 'normal', 'preloaded: the plain user has the default');
is($found{marked}, 'high', 'what a superuser had set holds');
is($found{nonsense}, 'normal', 'what makes no sense is ignored');

done_testing();
