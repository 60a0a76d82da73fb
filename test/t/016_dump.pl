# Bulkheads are dumped and restored like data, also into a server that has not
# preloaded the library, and go through pg_upgrade.

use strict;
use warnings;

use Cwd qw(getcwd);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('source', roles => [ 'app', '"odd ""role"' ]);
my $mon = monitor($node);

$mon->ok($_) for (
	'CREATE DATABASE db',
	'CREATE TABLE other_data (id int)');
my $db = monitor($node, dbname => 'db');
$db->ok($_) for (
	'CREATE EXTENSION resilience',
	'CREATE TABLE t AS SELECT generate_series(1, 10) id',
	q{SELECT resilience.create_bulkhead('plain', role_name => 'app', max_running => 0)},
	q{SELECT resilience.create_bulkhead('a ''quoted'' "name" \\ with	tab', role_name => 'odd "role',
		application_name => 'x\\_%', client_address => '10.1.0.0/16', max_connections => 3, max_running => 4,
		max_waiting => 5, max_wait => '1.5 s', priority => 'low', mode => 'observe',
		expires_at => '2100-01-01 00:00:00+00')},
	q{SELECT resilience.create_bulkhead('everywhere', database_name => '*', role_name => 'app', command => 'COPY', max_running => 7)},
	q{SELECT resilience.create_bulkhead('remote', database_name => 'postgres', role_name => 'app', max_connections => 9)},
	q{GRANT EXECUTE ON FUNCTION resilience.create_bulkhead TO app});

# All definitions, from the table: the view needs shared memory
sub definitions
{
	my ($where) = @_;
	return $where->safe_psql('db', "SET timezone = 'UTC';
		SELECT string_agg(row::text, E'\\n' ORDER BY name)
		FROM (SELECT name, row(d.*) row FROM resilience.bulkhead_definitions d) x");
}

sub answer
{
	my ($where, $user) = @_;
	my $session = ResilienceTest::Client->new($where, user => $user // 'app', dbname => 'db');

	return $session->{error}{C} if $session->{error};
	my $result = $session->query('SELECT 1');
	$session->close;
	return $result->{error} ? $result->{error}{C} : 'ok';
}

my $definitions = definitions($node);
is(scalar(() = $definitions =~ /^\(/mg), 4, 'four definitions');
is(answer($node), '53R01', 'one of them at work');
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $node->connstr('db') ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dump', '-f', "$dir/plain", $node->connstr('db') ], 'pg_dump');
$node->command_ok([ 'pg_dump', '--inserts', '-f', "$dir/inserts", $node->connstr('db') ], 'pg_dump --inserts');
$node->command_ok([ 'pg_dump', '-a', '--disable-triggers', '-Fc', '-f', "$dir/data", $node->connstr('db') ], 'pg_dump of the data');
$node->command_ok([ 'pg_dumpall', '-f', "$dir/all", '-d', $node->connstr('postgres') ], 'pg_dumpall');

# Restored: in force when the restore is done
my $target = preloaded_node('target', extension => 0, roles => [ 'app', '"odd ""role"' ]);
for my $format (qw(custom single plain inserts data))
{
	$target->safe_psql('postgres', 'CREATE DATABASE db');
	if ($format eq 'custom' || $format eq 'single')
	{
		$target->command_ok(
			[ 'pg_restore', '-e', ($format eq 'single' ? '-1' : ()), '-d', $target->connstr('db'), "$dir/custom" ],
			"pg_restore: $format");
	}
	elsif ($format eq 'data')
	{
		$target->safe_psql('db', 'CREATE EXTENSION resilience; CREATE TABLE t (id int)');
		$target->command_ok([ 'pg_restore', '-e', '--disable-triggers', '-d', $target->connstr('db'), "$dir/data" ],
			'pg_restore of the data, triggers disabled');
	}
	else
	{
		$target->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $target->connstr('db'), '-f', "$dir/$format" ],
			"psql: $format");
	}
	is(definitions($target), $definitions, "$format: the definitions are the same");
	is(answer($target), '53R01', "$format: in force at once");
	is($target->safe_psql('db', q{SELECT count(*) FROM resilience.bulkheads WHERE running = 0}), 4, "$format: all of them");
	is($target->safe_psql('db', q{SELECT has_function_privilege('app', oid, 'EXECUTE') FROM pg_proc WHERE proname = 'create_bulkhead'}),
		't', "$format: privileges come along") if $format ne 'data';
	$target->safe_psql('postgres', 'DROP DATABASE db');
}

# Dumped again it is the same
$target->safe_psql('postgres', 'CREATE DATABASE db');
$target->command_ok([ 'pg_restore', '-e', '-d', $target->connstr('db'), "$dir/custom" ], 'pg_restore');
$target->command_ok([ 'pg_dump', '-f', "$dir/again", $target->connstr('db') ], 'dumped again');
my ($first, $again) = map { my $text = slurp_file($_); $text =~ s/^\\(un)?restrict .*$//mg; $text } ("$dir/plain", "$dir/again");
is($again, $first, 'the dump of what was restored is the same');

# More than there is room for: the restore fails, nothing is half done
$target->safe_psql('postgres', 'DROP DATABASE db');
$target->append_conf('postgresql.conf', "resilience.max_bulkheads = 3\n");
$target->restart;
$target->safe_psql('postgres', 'CREATE DATABASE db');
$target->command_fails_like([ 'pg_restore', '-1', '-d', $target->connstr('db'), "$dir/custom" ],
	qr/too many bulkheads/, 'more than there is room for');
is(answer($target), 'ok', 'nothing is in force');
is($target->safe_psql('db', q{SELECT count(*) FROM pg_class WHERE relname = 't'}), 0, 'nothing is there');
$target->stop;

# The whole cluster, into a server without the library
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
$plain->command_ok([ 'psql', '-X', '-q', '-d', $plain->connstr('postgres'), '-f', "$dir/all" ], 'pg_dumpall, into a server that has not preloaded it');
is(definitions($plain), $definitions, 'the definitions are there');
is(answer($plain), 'ok', 'not in force');
my ($out, $err);
isnt($plain->psql('db', q{SELECT resilience.create_bulkhead('x')}, stderr => \$err), 0, 'functions fail');
like($err, qr/must be loaded via "shared_preload_libraries"/, 'and say why');

# It is preloaded later: there is no snapshot file, the tables are read
ok(!-e $plain->data_dir . '/resilience.snapshot', 'there is no snapshot file');
$plain->append_conf('postgresql.conf', "shared_preload_libraries = 'resilience'\n");
$plain->restart;
wait_until('the launcher has read the tables', sub { answer($plain) eq '53R01' }, 20);
pass('preloaded later they are in force');
is(definitions($plain), $definitions, 'unchanged');
$plain->stop;

# pg_upgrade, to the same version: what it does is the same
SKIP:
{
	my $bindir = qx('@{[ $ENV{PG_CONFIG} || 'pg_config' ]}' --bindir);
	chomp $bindir;
	skip 'no pg_upgrade', 5 if !-x "$bindir/pg_upgrade";

	$_->close for ($mon, $db);
	$node->stop;
	my $new = PostgreSQL::Test::Cluster->new('new');
	$new->init;
	$new->append_conf('postgresql.conf', "shared_preload_libraries = 'resilience'\n");
	mkdir "$dir/upgrade";
	my $here = getcwd();
	chdir "$dir/upgrade";
	$node->command_ok(
		[ 'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $node->data_dir, '-D', $new->data_dir,
			'-p', $node->port, '-P', $new->port, '-s', $new->host, '-U', $ResilienceTest::superuser ],
		'pg_upgrade');
	chdir $here;
	$new->start;
	wait_until('the launcher has read the tables', sub { answer($new) eq '53R01' }, 20);
	pass('after pg_upgrade the bulkheads are in force');
	is(definitions($new), $definitions, 'and the same');
	is($new->safe_psql('db', q{SELECT count(*) FROM resilience.bulkheads WHERE running = 0}), 4, 'all of them');
	all_zero(monitor($new, dbname => 'db'), 'at the end');
}

done_testing();
