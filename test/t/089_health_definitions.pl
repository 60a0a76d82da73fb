# Health checks are dumped and restored like data, in whatever order; run in
# the background as their owners; and what is altered takes effect there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('source', roles => [ 'app', 'granted', '"odd ""role"' ]);
limit_seconds(240);
my $mon = monitor($node);
$mon->ok('CREATE DATABASE db');
my $db = monitor($node, dbname => 'db');

# What queries look at comes after the extension in a dump, or before it
$db->ok($_) for (
	'CREATE SCHEMA aaa', 'CREATE TABLE aaa.early AS SELECT 1 AS id',
	'CREATE EXTENSION resilience', 'CREATE EXTENSION postgres_fdw',
	'CREATE SCHEMA zzz', 'CREATE TABLE zzz.late AS SELECT generate_series(1, 10) AS id',
	'CREATE FUNCTION zzz.ok() RETURNS boolean LANGUAGE sql AS $$SELECT count(*) > 5 FROM zzz.late$$',
	'CREATE VIEW zzz.view AS SELECT zzz.ok()',
	q(CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere', port '1')),
	q(GRANT USAGE ON SCHEMA resilience, zzz TO granted), 'GRANT SELECT ON zzz.late TO granted',
	q(GRANT EXECUTE ON FUNCTION resilience.create_health_check, resilience.alter_health_check TO granted),
	q(SELECT resilience.create_health_check('by view', query => 'TABLE zzz.view', check_interval => '1 s', timeout => '900 ms')),
	q(SELECT resilience.create_health_check('by number', query => 'SELECT count(*) FROM zzz.late', warning_threshold => 20, critical_threshold => 1e3,
		check_interval => '1 s', timeout => '900 ms', failure_threshold => 2, success_threshold => 3, critical => true)),
	q(SELECT resilience.create_health_check('a ''quoted'' "name" \ with	tab', query => E'SELECT true,\n\t''it''''s \\fine'' -- done')),
	q(SELECT resilience.create_health_check('server', 'foreign_server', target => 'there')),
	q(SELECT resilience.create_health_check('slot', 'replication_slots', target => 'nowhere', enabled => false)),
	q(SELECT resilience.create_health_check('disk', 'disk_free', target => '/', warning_threshold => 0.5, critical_threshold => 0.25)));
my $granted = connect_to($node, user => 'granted', dbname => 'db');
$granted->ok(q(SELECT resilience.create_health_check('as me', query => 'SELECT CURRENT_USER = ''granted'', CURRENT_USER || '' '' || current_setting(''search_path'')',
	check_interval => '1 s', timeout => '900 ms')));

sub definitions
{
	my ($where) = @_;
	return $where->safe_psql('db', q(SELECT string_agg(d::text, E'\n' ORDER BY name) FROM resilience.health_check_definitions d));
}

my $definitions = definitions($node);
is($definitions =~ tr/\n//, 7, 'seven definitions, one of two lines');

# In the background
my $status = sub {
	my ($name, $columns) = @_;
	return "SELECT $columns FROM resilience.health_checks WHERE name = '$name'";
};
wait_for_value($db, $status->('by view', 'status'), 'healthy');
wait_for_value($db, $status->('by number', q(format('%s %s %s', status, value, message))), 'healthy 10 ');
wait_for_value($db, $status->('as me', q(format('%s %s', status, message))), 'healthy granted pg_catalog, pg_temp');
pass('checks run in the background');
is($db->value($status->('as me', 'owner')), 'granted', 'as their owners');

# A worse value, a table that is dropped, and back
$db->ok('INSERT INTO zzz.late SELECT generate_series(11, 30)');
wait_for_value($db, $status->('by number', q(format('%s %s %s', status, value, message))),
	'degraded 30 30 has reached the warning threshold 20');
ok($db->value($status->('by number', 'consecutive_failures >= 2 AND failures_total >= 2 AND age < \'1 min\' AND last_change <= last_run')) eq 't',
	'after the failure threshold');
$db->ok(q(ALTER TABLE zzz.late RENAME TO gone));
wait_for_value($db, $status->('by number', q(format('%s %s', status, message))), 'unhealthy relation "zzz.late" does not exist');
wait_for_value($db, $status->('by view', q(format('%s %s', status, message))), 'unhealthy relation "zzz.late" does not exist');
$db->ok(q(ALTER TABLE zzz.gone RENAME TO late; DELETE FROM zzz.late WHERE id > 10));
wait_for_value($db, $status->('by number', 'status'), 'healthy');
wait_for_value($db, $status->('by view', 'status'), 'healthy');
pass('it is back');

# The owner changes with the query; another query begins anew
$db->ok(q(SELECT resilience.alter_health_check('as me', query => 'SELECT CURRENT_USER <> ''granted'', CURRENT_USER::text')));
wait_for_value($db, $status->('as me', q(format('%s %s %s', owner, status, message))), "$ResilienceTest::superuser healthy $ResilienceTest::superuser");
$granted->ok(q(SELECT resilience.alter_health_check('as me', timeout => '800 ms')));
is($db->value($status->('as me', 'owner')), $ResilienceTest::superuser, 'who alters something else does not own it');
$granted->ok(q(SELECT resilience.alter_health_check('by number', query => 'SELECT count(*) + 1 FROM zzz.late')));
wait_for_value($db, $status->('by number', q(format('%s %s %s', owner, status, value))), 'granted healthy 11');
$granted->ok(q(SELECT resilience.alter_health_check('as me', query => 'SELECT count(*) > 0 FROM pg_authid')));
wait_for_value($db, $status->('as me', q(format('%s %s', status, message))), 'unhealthy permission denied for table pg_authid');
pass('a query runs with the rights of who has given it');
error_is($mon->query('DROP ROLE granted'), '2BP01', 'the owner cannot be dropped, from another database');
$granted->close;

# Totals
ok($db->value('SELECT min(runs_total) > 0 FROM resilience.health_checks WHERE enabled') eq 't', 'runs are counted');
$db->ok(q(SELECT resilience.alter_health_check(name, enabled => false) FROM resilience.health_checks));
$db->ok('SELECT resilience.reset_statistics()');
wait_for_value($db, 'SELECT sum(runs_total) + sum(failures_total) + sum(timeouts_total) FROM resilience.health_checks WHERE NOT running', '0');
is($db->value(q(SELECT string_agg(DISTINCT status, ' ') FROM resilience.health_checks)), 'unknown', 'what is not enabled is unknown');
is($db->value($status->('by number', 'value')), '11', 'what was found last is shown all the same');
$db->ok(q(SELECT resilience.alter_health_check(name, enabled => true) FROM resilience.health_checks WHERE name <> 'slot'));
wait_for_value($db, $status->('by number', 'status'), 'healthy');
pass('enabled again');

# Dump and restore
$definitions = definitions($node);
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $node->connstr('db') ], 'pg_dump, custom');
$node->command_ok([ 'pg_dump', '-f', "$dir/plain", $node->connstr('db') ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '--data-only', '-t', 'resilience.health_check_definitions', '-e', 'resilience', '-f', "$dir/data", $node->connstr('db') ], 'pg_dump, data only');
$node->command_ok([ 'pg_dump', '--inserts', '-f', "$dir/inserts", $node->connstr('db') ], 'pg_dump, inserts');

my $target = preloaded_node('target', roles => [ 'app', 'granted', '"odd ""role"' ]);
limit_seconds(240);
for my $format (qw(custom plain inserts data))
{
	$target->safe_psql('postgres', 'CREATE DATABASE db');
	if ($format eq 'custom')
	{
		$target->command_ok([ 'pg_restore', '-e', '-d', $target->connstr('db'), "$dir/custom" ], 'pg_restore');
	}
	else
	{
		# checks of what is not there at all are restored, too
		$target->safe_psql('db', 'CREATE EXTENSION resilience') if $format eq 'data';
		$target->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $target->connstr('db'), '-f', "$dir/$format" ], "psql: $format");
	}
	is(definitions($target), $definitions, "$format: the definitions are the same");
	my $session = monitor($target, dbname => 'db');
	wait_for_value($session, $status->('by view', 'status'), $format eq 'data' ? 'unhealthy' : 'healthy');
	pass("$format: they are run");
	is($session->value($status->('by number', 'owner')), 'granted', "$format: owners come along");
	$session->close;
	$target->safe_psql('postgres', 'DROP DATABASE db WITH (FORCE)');
}

# Into a server that has no such role: it fails, and says why
$target->safe_psql('postgres', 'DROP ROLE granted; CREATE DATABASE db');
$target->command_fails_like([ 'pg_restore', '-1', '-d', $target->connstr('db'), '--no-privileges', "$dir/custom" ],
	qr/role "granted" does not exist/, 'an owner that is missing');
is($target->safe_psql('db', q(SELECT count(*) FROM pg_namespace WHERE nspname = 'resilience')), 0, 'nothing is there');

# Who has to wait for what the query reads keeps nobody from other changes
my $locker = monitor($node, dbname => 'db');
my $creator = monitor($node, dbname => 'db');
$locker->ok('BEGIN; LOCK zzz.late');
$creator->send(q(SELECT resilience.create_health_check('waits', query => 'SELECT count(*) > 0 FROM zzz.late')));
wait_for_value($db, q(SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'zzz.late'::regclass), 1);
$db->ok(q(SET statement_timeout = '20 s'; SELECT resilience.create_bulkhead('meanwhile', max_running => 100); RESET statement_timeout));
$locker->ok('COMMIT');
error_is($creator->result, 'no error', 'a check whose query reads a table that was locked');
$locker->ok('BEGIN; LOCK zzz.late');
$creator->send(q(SELECT resilience.alter_health_check('by number', warning_threshold => 21)));
wait_for_value($db, q(SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'zzz.late'::regclass), 1);
$db->ok(q(SET statement_timeout = '20 s'; SELECT resilience.alter_bulkhead('meanwhile', max_running => 101); RESET statement_timeout));
$locker->ok('COMMIT');
error_is($creator->result, 'no error', 'and other thresholds for one');
$db->ok(q(SELECT resilience.alter_health_check('by number', warning_threshold => 20)));
$db->ok(q(SELECT resilience.drop_health_check('waits'), resilience.drop_bulkhead('meanwhile')));
$_->close for ($locker, $creator);

# They are in force after a crash
$_->close for ($db, $mon);
$node->stop('immediate');
$node->start;
$db = monitor($node, dbname => 'db');
wait_for_value($db, $status->('by view', 'status'), 'healthy');
pass('run again after a crash');
is(definitions($node), $definitions, 'unchanged');
$db->close;
$node->stop;
$target->stop;
done_testing();
