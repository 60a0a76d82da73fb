# Policies of every kind in a database, and whether they are in force: for
# tests of what a database goes through as a whole (crash, dump, upgrade,
# replication, recovery).
#
# There are two sets of them.  create_policies() makes the first one,
# change_policies() makes the second one of it, in one transaction: every
# definition is changed, dropped or made.  behaviour() asks the server, not the
# tables, which set it lives by.

package PolicyTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

our @EXPORT = qw(
  @policy_roles create_policies change_policies policy_changes
  definitions_of behaviour behaviour_is wait_behaviour %behaviour
);

# preloaded_node(roles => [@policy_roles])
our @policy_roles = qw(app locked);

# What the policies name; a subscriber has to have it, too.
our @policy_objects = (
	'CREATE EXTENSION resilience',
	'CREATE EXTENSION file_fdw',
	'CREATE TABLE near (id int)',
	'INSERT INTO near VALUES (1), (2)',
	'CREATE SERVER files FOREIGN DATA WRAPPER file_fdw',
	q{CREATE FOREIGN TABLE far (id int) SERVER files OPTIONS (filename '/dev/null')},
	'CREATE TABLE kept (id int)');

my @policies = (
	q{SELECT resilience.create_bulkhead('a bulkhead', role_name => 'app', command => 'COPY', max_running => 0)},
	q{SELECT resilience.create_bulkhead('closed door', database_name => '*', role_name => 'locked', max_connections => 0)},
	q{SELECT resilience.create_breaker('a breaker', max_failures => 7)},
	q{SELECT resilience.force_breaker('a breaker', 'open')},
	q{SELECT resilience.create_breaker('of files', server => 'files', on_open => 'fallback', probe => false)},
	q{SELECT resilience.force_breaker('of files', 'open')},
	q{SELECT resilience.set_fallback('far', 'near')},
	q{SELECT resilience.create_runaway_rule('a rule', role_name => 'app', max_rows_estimate => 5000, action => 'cancel')},
	q{SELECT resilience.create_health_check('a check', query => 'SELECT true', check_interval => '2 s')},
	q{SELECT resilience.create_feature('a feature', enabled => false, health_check => 'a check', breaker => 'a breaker',
		fallback_sql => 'SELECT 1', description => 'for tests')},
	q{SELECT resilience.create_degradation('a degradation', 'loaded', 'normal', '{"work_mem": "1MB"}')},
	q{SELECT resilience.create_experiment('an experiment', 'latency', delay => '1 ms', relation => 'kept', role_name => 'app')});

my @changes = (
	q{SELECT resilience.alter_bulkhead('a bulkhead', max_running => 3)},
	q{SELECT resilience.drop_bulkhead('closed door')},
	q{SELECT resilience.create_bulkhead('another door', database_name => '*', role_name => 'locked', max_connections => 5)},
	q{SELECT resilience.force_breaker('a breaker', 'auto')},
	q{SELECT resilience.drop_fallback('far')},
	q{SELECT resilience.alter_runaway_rule('a rule', max_rows_estimate => 5000000)},
	q{SELECT resilience.drop_health_check('a check')},
	q{SELECT resilience.create_health_check('another check', query => 'SELECT 1', warning_threshold => 2, critical_threshold => 3)},
	q{SELECT resilience.set_feature('a feature', true, 'second set')},
	q{SELECT resilience.drop_degradation('a degradation')},
	q{SELECT resilience.create_degradation('another degradation', 'unhealthy', 'high', '{"work_mem": "2MB"}')},
	q{SELECT resilience.drop_experiment('an experiment')},
	q{SELECT resilience.create_experiment('another experiment', 'error', sqlstate => '57014', role_name => 'app')});

# drop_health_check() is refused while a feature lives by it
splice @changes, 6, 0, q{UPDATE resilience.feature_definitions SET health_check = NULL};

# What behaviour() says of a server with neither set, and with each
our %behaviour = (
	none => 'COPY ok, door open, breaker none, far 0 rows, big query ok, feature t, known: ',
	first => 'COPY 53R01, door 53300, breaker 08R01, far 2 rows, big query 57014, feature f,'
	  . ' known: a check, a degradation, an experiment',
	second => 'COPY ok, door open, breaker ok, far 08R01, big query ok, feature t,'
	  . ' known: another check, another degradation, another experiment');

# In a database that is empty; "objects" => 0 if it has what they name, "begin"
# => 0 to end a transaction that has begun.
sub create_policies
{
	my ($mon, %params) = @_;

	$mon->ok($_) for ($params{objects} // 1) ? @policy_objects : ();
	$mon->ok(join(';', ($params{begin} // 1) ? 'BEGIN' : (), @policies, 'COMMIT'));
	return;
}

# From the first set to the second
sub policy_changes { return join(';', @changes) }

sub change_policies
{
	my ($mon) = @_;

	$mon->ok('BEGIN; ' . policy_changes() . '; COMMIT');
	return;
}

# The tables, as text.  Asked without the library's help.
sub definitions_of
{
	my ($node, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', join("\n", "SET timezone = 'UTC';",
		map { "SELECT '$_', row(d.*) FROM resilience.${_}_definitions d ORDER BY 2;" }
		  qw(bulkhead breaker fallback runaway_rule health_check feature degradation experiment)));
}

# The answer to a statement: "ok", or what it was refused with.
sub answer
{
	my ($session, $sql) = @_;
	my $result = $session->query($sql);

	return $result->{error} ? $result->{error}{C} : $result->{closed} ? 'closed' : 'ok';
}

sub behaviour
{
	my ($node, $dbname) = @_;
	$dbname //= 'postgres';
	# a superuser, but not the monitor, whose mode is off
	my $mon = connect_to($node, dbname => $dbname);
	my $app = connect_to($node, user => 'app', dbname => $dbname);
	my $door = connect_refused($node, user => 'locked', dbname => $dbname);
	my $breaker = answer($mon, q{SELECT resilience.call_with_breaker('a breaker', 'SELECT 1')});
	my $far = $mon->query('SELECT count(*) FROM far');
	my $known = $mon->value(q{SELECT string_agg(name, ', ' ORDER BY name) FROM (
		SELECT name FROM resilience.health_check_statistics() UNION ALL
		SELECT name FROM resilience.degradation_statistics() UNION ALL
		SELECT name FROM resilience.experiment_statistics()) x});
	my $text = join(', ',
		'COPY ' . answer($app, 'COPY (SELECT 1) TO STDOUT'),
		'door ' . ($door ? $door->{C} : 'open'),
		'breaker ' . ($breaker eq '42704' ? 'none' : $breaker),
		'far ' . ($far->{error} ? $far->{error}{C} : "$far->{rows}[0][0] rows"),
		'big query ' . answer($app, 'SELECT count(*) OVER () FROM generate_series(1, 10000) LIMIT 9000'),
		'feature ' . $mon->value(q{SELECT resilience.feature_enabled('a feature')}),
		'known: ' . ($known // ''));

	$_->close for ($app, $mon);
	return $text;
}

sub behaviour_is
{
	my ($node, $set, $label, %params) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(behaviour($node, $params{dbname}), $behaviour{$set}, $label);
}

# A standby, and a server that has to read the tables first, need seconds.
sub wait_behaviour
{
	my ($node, $set, $label, %params) = @_;
	my $now = '';
	my $done = eval {
		wait_until($label, sub { ($now = behaviour($node, $params{dbname})) eq $behaviour{$set} }, $params{seconds} // 40);
	};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($done, $label) || diag("there is: $now");
}

1;
