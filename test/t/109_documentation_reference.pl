# The reference in docs/ and the server say the same: every function with its
# arguments, defaults and result, every view with its columns, every setting
# with its default and who sets it, every SQLSTATE; and nothing is documented
# that is not there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $docs = "$FindBin::RealBin/../../docs";
my $node = preloaded_node('reference');

# Names as the documentation writes them.
my %types = ('integer' => 'int', 'double precision' => 'float8', 'timestamp with time zone' => 'timestamptz');

sub type_name
{
	my ($type) = @_;
	my $array = $type =~ s/(\[\])$// ? '[]' : '';

	return ($types{$type} // $type) . $array;
}

# Text of a section of a page, by heading.
sub sections
{
	my ($file, $level) = @_;
	my (%sections, $name);

	for my $line (split /\n/, slurp_file("$docs/$file"))
	{
		if ($line =~ /^(#+) (.*)$/ && length $1 <= $level)
		{
			$name = length $1 == $level ? $2 : undef;
		}
		elsif (defined $name) { $sections{$name} .= "$line\n" }
	}
	return \%sections;
}

sub rows
{
	my ($sql) = @_;
	return map { [ split /\x1f/, $_, -1 ] } split /\x1e/,
	  $node->safe_psql('postgres', $sql, extra_params => [ '-F', "\x1f", '-R', "\x1e", '-P', 'null=(null)' ]);
}

# Both lists the same, and the difference if not.
sub same_names
{
	my ($documented, $there, $what) = @_;
	my %documented = map { $_ => 1 } @$documented;
	my %there = map { $_ => 1 } @$there;

	is_deeply([ grep { !$documented{$_} } sort keys %there ], [], "every $what is documented");
	is_deeply([ grep { !$there{$_} } sort keys %documented ], [], "every $what that is documented is there");
}

# --- functions: a block with signatures under a heading of the name

my %documented;
my $functions = sections('functions.md', 3);

for my $heading (sort keys %$functions)
{
	my ($block) = $functions->{$heading} =~ /^```\n(.*?)^```$/ms or fail("functions.md: $heading has a signature"), next;
	my ($after) = $functions->{$heading} =~ /^```\n.*?^```\n+(\S.*)/ms;

	ok(defined $after, "functions.md: $heading says what it does") unless defined $after;
	$block =~ s/\n +/ /g;
	for my $line (split /\n/, $block)
	{
		my ($name, $arguments, $result) = $line =~ /^(?:CALL )?(\w+)\((.*?)\)(?: returns (.*))?$/;

		if (!defined $name || $name ne $heading) { fail("functions.md: $line is a signature of $heading"); next }
		my @arguments = map { [ /^(\w+) (\S+)(?: = (.*))?$/ ] } split /, /, $arguments;

		push @{ $documented{$name} }, { arguments => \@arguments, result => $result // '' };
	}
}

my %there;
for my $row (rows(q(
	SELECT p.oid, proname, pg_get_function_result(p.oid), mode, argument, format_type(type, NULL),
		pg_get_function_arg_default(p.oid, i::int)
	FROM pg_proc p
		LEFT JOIN LATERAL unnest(coalesce(proallargtypes, proargtypes::oid[]), proargnames, proargmodes::text[])
			WITH ORDINALITY u (type, argument, mode, i) ON true
	WHERE pronamespace = 'resilience'::regnamespace
		AND coalesce(obj_description(p.oid, 'pg_proc'), '') NOT LIKE 'internal%'
	ORDER BY proname, pronargs, i)))
{
	my ($oid, $name, $result, $mode, $argument, $type, $default) = @$row;
	my $function = $there{$name}{$oid} //= { arguments => [], result => $result, outs => [], number => scalar keys %{ $there{$name} } };

	next if $type eq '(null)' || $argument eq '(null)';
	if ($mode =~ /^[ot]$/) { push @{ $function->{outs} }, "$argument " . type_name($type) }
	else { push @{ $function->{arguments} }, [ $argument, type_name($type), $default ] }
}
same_names([ keys %documented ], [ keys %there ], 'function');

my @compare;
for my $name (sort grep { $documented{$_} } keys %there)
{
	my @server = sort { $a->{number} <=> $b->{number} } values %{ $there{$name} };
	my @docs = @{ $documented{$name} };

	if (@server != @docs) { fail("functions.md: all " . @server . " signatures of $name"); next }
	for my $n (0 .. $#server)
	{
		my $result = $server[$n]{result};

		$result = '' if $result eq '(null)';
		my $set = $result =~ s/^SETOF // ? 'setof ' : '';
		$result = @{ $server[$n]{outs} } ? '(' . join(', ', @{ $server[$n]{outs} }) . ')' : type_name($result);
		is($docs[$n]{result}, $set . $result, "functions.md: result of $name");
		is_deeply(
			[ map { "$_->[0] $_->[1]" } @{ $docs[$n]{arguments} } ],
			[ map { "$_->[0] $_->[1]" } @{ $server[$n]{arguments} } ],
			"functions.md: arguments of $name") or next;
		for my $i (0 .. $#{ $docs[$n]{arguments} })
		{
			my ($argument, $type, $written) = @{ $docs[$n]{arguments}[$i] };
			my $default = $server[$n]{arguments}[$i][2];

			if (!defined $written || $default eq '(null)')
			{
				ok(!defined $written && $default eq '(null)', "functions.md: default of $argument of $name");
				next;
			}
			push @compare, "SELECT '$name, $argument' WHERE ($written)::$type IS DISTINCT FROM ($default)::$type";
		}
	}
}
is($node->safe_psql('postgres', join(' UNION ALL ', @compare)), '', 'functions.md: the defaults are right');
cmp_ok(scalar @compare, '>', 100, 'functions.md: there are defaults');

# --- views: a table with all columns under a heading of the name

my $views = sections('views.md', 2);
my %columns;

push @{ $columns{ $_->[0] } }, "$_->[1] " . type_name($_->[2])
  for rows(q(
	SELECT relname, attname, format_type(atttypid, atttypmod)
	FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
	WHERE relnamespace = 'resilience'::regnamespace AND relkind = 'v'
	ORDER BY relname, attnum));
same_names([ keys %$views ], [ keys %columns ], 'view');
for my $view (sort grep { $views->{$_} } keys %columns)
{
	is_deeply([ map { "$_->[0] $_->[1]" } map { [ /^\| `(\w+)` \| (\S+) \| \S/ ] } grep { /^\| `/ } split /\n/, $views->{$view} ],
		$columns{$view}, "views.md: columns of $view, each with its meaning");
	like(slurp_file("$docs/views.md"), qr/^\| \[`$view`\]\(#$view\) \|/m, "views.md: $view is in the list");
}

# --- settings: default as SHOW shows it, and who sets it

my %contexts = (
	postmaster => qr/^server start/,
	sighup => qr/^configuration file, reload/,
	superuser => qr/^superuser/,
	user => qr/^everybody/);
my %settings = map { $_->[0] => $_ } map { [ /^\| `(resilience\.\w+)` \| (\S.*?) \| (\S.*?) \| \S/ ] }
  grep { /^\| `resilience/ } split /\n/, slurp_file("$docs/settings.md");
my %server = map { $_->[0] => $_ }
  rows(q(SELECT name, current_setting(name), context FROM pg_settings WHERE name LIKE 'resilience.%'));

same_names([ keys %settings ], [ keys %server ], 'setting');
for my $name (sort grep { $settings{$_} } keys %server)
{
	my $default = $settings{$name}[1];

	$default =~ s/^`(.*)`$/$1/;
	$default = '' if $default eq 'empty';
	is($default, $server{$name}[1], "settings.md: default of $name");
	like($settings{$name}[2], $contexts{ $server{$name}[2] }, "settings.md: who sets $name");
}

# --- errors: SQLSTATEs of our own, from the sources

my %codes;
my $errors = slurp_file("$docs/errors.md");

for my $file (glob("$FindBin::RealBin/../../src/*/*.[ch] $FindBin::RealBin/../../src/*.[ch]"))
{
	my $source = slurp_file($file);

	$codes{ join '', $1 =~ /'(\w)'/g } = 1 while $source =~ /#define\s+\w*(?:ERRCODE|SQLSTATE)_\w+\s+MAKE_SQLSTATE\(([^)]*)\)/g;
}
cmp_ok(scalar keys %codes, '>=', 8, 'there are SQLSTATEs of our own');
same_names([ $errors =~ /^\| (\d\dR\d\d) \|/mg ], [ keys %codes ], 'SQLSTATE of our own');

# --- every page is in the index

for my $page (map { s{.*/}{}r } glob "$docs/*.md")
{
	next if $page eq 'README.md';
	like(slurp_file("$docs/README.md"), qr/\]\($page\)/, "docs/README.md: $page is listed");
}

done_testing();
