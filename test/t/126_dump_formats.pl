# Policies of every kind go through every way that pg_dump and pg_restore have,
# into a database of another name, of another server, over others, and are in
# force when the restore is done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PolicyTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = preloaded_node('source', extension => 0, roles => [@policy_roles]);

limit_seconds(300);
my $mon = monitor($node);
$mon->ok('CREATE DATABASE source');
my $source = monitor($node, dbname => 'source');
create_policies($source);
my $first = definitions_of($node, 'source');
behaviour_is($node, 'first', 'the policies', dbname => 'source');

sub dump_to
{
	my ($name, @options) = @_;

	$node->command_ok([ 'pg_dump', @options, '-f', "$dir/$name", $node->connstr('source') ], "pg_dump @options");
	return;
}

dump_to('plain');
dump_to('inserts', '--column-inserts');
dump_to('custom', '-Fc');
dump_to('tar', '-Ft');
dump_to('directory', '-Fd', '-j2');
dump_to('clean', '--clean', '--if-exists');
dump_to('schema', '--schema-only');
dump_to('rows', '--data-only', '-Fc');
for my $section (qw(pre-data data post-data))
{
	dump_to($section, "--section=$section");
}
$node->command_ok([ 'pg_dumpall', '-f', "$dir/all", '-d', $node->connstr('postgres') ], 'pg_dumpall');

# The source must not be what answers
$source->close;
$node->stop;

my $target = preloaded_node('target', extension => 0, roles => [@policy_roles]);
$mon = monitor($target);

# Restore into a new database, by any of: psql, pg_restore
sub restore
{
	my ($label, $database, @steps) = @_;

	$mon->ok("CREATE DATABASE $database") if !grep { $_->[0] eq 'over' } @steps;
	for (@steps)
	{
		my ($program, @arguments) = @$_;
		next if $program eq 'over';
		my $file = "$dir/" . pop @arguments;

		$target->command_ok(
			$program eq 'psql'
			? [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @arguments, '-d', $target->connstr($database), '-f', $file ]
			: [ 'pg_restore', '-e', @arguments, '-d', $target->connstr($database), $file ],
			"$label: $program @arguments");
	}
	return;
}

sub restored
{
	my ($label, $database, @steps) = @_;

	restore($label, $database, @steps);
	is(definitions_of($target, $database), $first, "$label: the definitions are the same");
	behaviour_is($target, 'first', "$label: in force", dbname => $database);
	return;
}

sub gone
{
	my ($database) = @_;

	$mon->ok("DROP DATABASE $database");
	return;
}

my %ways = (
	plain => [ [ psql => 'plain' ] ],
	'plain, one transaction' => [ [ psql => '-1', 'plain' ] ],
	'column inserts' => [ [ psql => 'inserts' ] ],
	custom => [ [ pg_restore => 'custom' ] ],
	'custom, one transaction' => [ [ pg_restore => '-1', 'custom' ] ],
	'custom, side by side' => [ [ pg_restore => '-j3', 'custom' ] ],
	tar => [ [ pg_restore => 'tar' ] ],
	directory => [ [ pg_restore => '-j3', 'directory' ] ],
	'by sections' => [ map { [ psql => $_ ] } qw(pre-data data post-data) ],
	'by sections of one archive' => [ map { [ pg_restore => "--section=$_", 'custom' ] } qw(pre-data data post-data) ]);
for my $label (sort keys %ways)
{
	restored($label, 'elsewhere', @{ $ways{$label} });
	gone('elsewhere');
	# else the next one would prove nothing
	is(connect_refused($target, user => 'locked'), undef, "$label: DROP DATABASE ends it");
}

# A schema has no policies; data alone brings them, in whichever order
restore('schema', 'elsewhere', [ psql => 'schema' ]);
behaviour_is($target, 'none', 'a schema alone: nothing is in force', dbname => 'elsewhere');
restored('data alone', 'elsewhere', ['over'], [ pg_restore => 'rows' ]);
gone('elsewhere');
restore('schema', 'elsewhere', [ psql => 'schema' ]);
restored('data alone, triggers disabled', 'elsewhere', ['over'], [ pg_restore => '--disable-triggers', 'rows' ]);

# Over what is there
my $db = monitor($target, dbname => 'elsewhere');
change_policies($db);
$db->close;
behaviour_is($target, 'second', 'others are there', dbname => 'elsewhere');
$target->command_fails_like([ 'pg_restore', '-1', '--clean', '--if-exists', '-d', $target->connstr('elsewhere'), "$dir/custom" ],
	qr/cannot drop foreign server "files" because a circuit breaker guards it/, '--clean drops servers first: refused while one is guarded');
behaviour_is($target, 'second', 'and nothing has changed', dbname => 'elsewhere');
$target->safe_psql('elsewhere', 'DROP EXTENSION resilience');
is(connect_refused($target, user => 'locked'), undef, 'DROP EXTENSION ends it all');
restored('psql, --clean --if-exists without the extension', 'elsewhere', ['over'], [ psql => 'clean' ]);
$target->safe_psql('elsewhere', 'DROP EXTENSION resilience');
restored('pg_restore --clean without the extension', 'elsewhere', ['over'], [ pg_restore => '--clean', '--if-exists', '-1', 'custom' ]);

# A restore that fails leaves what was in force
$mon->ok('CREATE DATABASE failing');
$mon->ok('ALTER ROLE locked RENAME TO not_there');
$target->command_fails_like([ 'pg_restore', '-1', '-d', $target->connstr('failing'), "$dir/custom" ],
	qr/role "locked" does not exist/, 'a role that is missing is an error of the restore');
$mon->ok('ALTER ROLE not_there RENAME TO locked');
$target->command_fails_like([ 'pg_restore', '-1', '-a', '-d', $target->connstr('elsewhere'), "$dir/custom" ],
	qr/duplicate key value/, 'so are policies that are there');
behaviour_is($target, 'first', 'and nothing has changed', dbname => 'elsewhere');
gone('failing');
gone('elsewhere');

# Two databases with the same policies, and one made from the other
restored('the first of two', 'one', [ pg_restore => 'custom' ]);
restored('the second of two', 'two', [ pg_restore => 'custom' ]);
gone('one');
behaviour_is($target, 'first', 'when one goes the other has its own', dbname => 'two');
$mon->ok('CREATE DATABASE copy TEMPLATE two');
wait_behaviour($target, 'first', 'a copy by CREATE DATABASE has them as well', dbname => 'copy');
gone($_) for qw(two copy);

# All of it
$target->command_ok([ 'psql', '-X', '-q', '-d', $target->connstr('postgres'), '-f', "$dir/all" ], 'pg_dumpall restored');
is(definitions_of($target, 'source'), $first, 'pg_dumpall: the definitions are the same');
behaviour_is($target, 'first', 'pg_dumpall: in force', dbname => 'source');

# Dumped again it is the same
$target->command_ok([ 'pg_dump', '-f', "$dir/again", $target->connstr('source') ], 'dumped again');
my ($was, $is) = map { my $text = slurp_file($_); $text =~ s/^\\(un)?restrict .*$//mg; $text } ("$dir/plain", "$dir/again");
is($is, $was, 'the dump of what was restored is the same');
all_zero(monitor($target, dbname => 'source'), 'at the end');

done_testing();
