# Definitions of circuit breakers live as long as other objects do: restart,
# crash, dump and restore, standby, template, DROP DATABASE; and there is so
# much room for them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $far = remote_node('far');
my $node = local_node('config', init => [ allows_streaming => 1 ], conf => "resilience.max_breakers = 4\n");
my $mon = monitor($node);

add_server($mon, 'far', $far, tables => ['t']);
$mon->ok($_) for (
	'CREATE TABLE t_near AS SELECT 7 AS id, 7 AS v',
	'CREATE FOREIGN TABLE other_t (id int, v int) SERVER far OPTIONS (table_name $$t$$)',
	q{SELECT resilience.create_breaker('b', 'far', on_open => 'fallback', ignored_sqlstates => '{23}', call_timeout => '3 s')},
	q{SELECT resilience.create_breaker('g', max_failures => 2)},
	q{SELECT resilience.set_fallback('far_t', 't_near')},
	q{SELECT resilience.force_breaker('b', 'open')});

# what the first session after a start finds
sub guarded
{
	my ($n, $label, %params) = @_;
	my $session = connect_to($n, %params);
	my $rejected = $session->query('SELECT count(*) FROM other_t');
	my $fallback = $session->query('SELECT id FROM far_t');

	$session->close;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	error_is($rejected, '08R01', "$label: rejected");
	return is($fallback->{error} ? $fallback->{error}{M} : $fallback->{rows}[0][0], 7, "$label: the fallback answers");
}

guarded($node, 'at first');
$mon->close;
$node->restart;
guarded($node, 'after a restart');
$node->stop('immediate');
$node->start;
guarded($node, 'after a crash');
unlink($node->data_dir . '/resilience.snapshot') or die;
$node->restart;
wait_until('the tables have been read', sub {
	my $session = connect_to($node);
	my $result = $session->query('SELECT count(*) FROM other_t');
	$session->close;
	return $result->{error} && $result->{error}{C} eq '08R01';
}, 30);
guarded($node, 'without its snapshot file');
$mon = monitor($node);

# Dump and restore, a template
my $definition = q{SELECT string_agg(concat_ws(' ', name, server, max_failures, on_open, call_timeout, ignored_sqlstates, forced), ', ' ORDER BY name) FROM resilience.breaker_definitions};
my $expected = $mon->value($definition);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
$mon->ok('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ], 'restore');
my $restored = monitor($node, dbname => 'restored');
is($restored->value($definition), $expected, 'the definitions are there');
is($restored->value(q{SELECT concat_ws(' ', state, forced) FROM resilience.breakers WHERE name = 'b'}), 'open open', 'and in force');
guarded($node, 'restored', dbname => 'restored');
my $full = $restored->query(q{SELECT resilience.create_breaker('x')});
error_is($full, '53400', 'there is room for so many, in all databases');
is($full->{error}{M}, 'too many circuit breakers', 'as it says');
is($restored->value('SELECT count(*) FROM resilience.breakers'), 2, 'nothing is left of it');
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});
is($restored->value(q{SELECT state FROM resilience.breakers WHERE name = 'b'}), 'open', 'two databases, two breakers');
$mon->ok(q{SELECT resilience.force_breaker('b', 'open')});
$restored->close;
$mon->ok('DROP DATABASE restored');
$mon->ok(q{SELECT resilience.create_breaker('x')});
$mon->ok(q{SELECT resilience.create_breaker('y')});
$mon->ok(q{SELECT resilience.drop_breaker(name) FROM resilience.breakers WHERE name IN ('x', 'y')});

# A standby has its own
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
guarded($standby, 'on a standby');
my $smon = monitor($standby);
error_is($smon->query(q{SELECT resilience.force_breaker('b', 'auto')}), '25006', 'nothing is changed there');
$mon->ok(q{SELECT resilience.force_breaker('b', 'auto')});
wait_for_value($smon, q{SELECT state FROM resilience.breakers WHERE name = 'b'}, 'closed', 30);
is($smon->value('SELECT count(*) FROM other_t'), 1000, 'a change of the primary arrives');
$smon->close;
$standby->stop;

# The extension goes, and its breakers with it
$mon->ok(q{SELECT resilience.force_breaker('b', 'open')});
my $session = connect_to($node);
error_is($session->query('SELECT count(*) FROM other_t'), '08R01', 'rejected');
$mon->ok('DROP EXTENSION resilience');
error_is($session->query('SELECT count(*) FROM other_t'), 'no error', 'DROP EXTENSION: free again');
$mon->ok('CREATE EXTENSION resilience');
is($mon->value('SELECT count(*) FROM resilience.breakers'), 0, 'and nothing is left');

done_testing();
