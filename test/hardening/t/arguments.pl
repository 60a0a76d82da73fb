# Arguments that nobody should give: every function of the extension, with
# NULLs, the ends of each type, texts of a megabyte, other encodings, one by one
# and several at once.  Each call works, or is refused with an error that is
# meant for the caller: no internal error, no crash, nothing that stays behind.
#
#   RSL_ARGUMENTS_CALLS  random calls of each function in each database (15)
#   RSL_SEED             of the random choices (the time)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $random_calls = $ENV{RSL_ARGUMENTS_CALLS} || ($ENV{RSL_HARDENING_LONG} ? 200 : 15);
my $seed = int($ENV{RSL_SEED} || time() % 1000000);
my @views = qw(bulkheads load_shedder load_by_priority activity breakers retry_stats features health_checks health
  experiments metrics events degradations);

# database => its encoding, and a text of bytes that it alone takes
my %databases = (
	utf => [ 'UTF8', q{E'\u00fc\u4e2d\U0001F600'} ],
	latin => [ 'LATIN1', q{E'\xfc\xe9'} ],
	ascii => [ 'SQL_ASCII', q{E'\xff\xfe\xc3'} ],
	euc => [ 'EUC_JP', q{E'\xa4\xa2\xc6\xfc'} ]);

my $node = preloaded_node('arguments', roles => [qw(app granted)], conf => q(
statement_timeout = 10s
log_min_messages = warning
log_min_error_statement = panic
log_line_prefix = '%m [%p] %e '
max_connections = 50
resilience.max_bulkheads = 60
resilience.max_features = 40
));
my $mon = monitor($node);

limit_seconds($ENV{RSL_HARDENING_LONG} ? 1700 : 380);
diag("RSL_SEED=$seed");
srand($seed);

sub pick { return $_[ int(rand(@_)) ] }

# What a type has at its ends, as SQL
my @texts = (q{''}, q{' '}, q{repeat('x', 1000000)}, q{repeat(U&'\00e9', 100)}, q{repeat('a', 63)}, q{repeat('a', 64)}, q{'a"b'}, q{'a''b'}, q{E'line\nbreak'}, q{E'\x01\x7f\x1b[31m'},
	q{'%s%n%d%%'}, q{'x; DROP TABLE y'}, q{'*'}, q{'/'}, q{'key=value'}, q{'='}, q{'\\'}, q{'{"a": 1}'}, q{'NaN'}, q{'-1'}, q{'SELECT 1'}, q{'SELECT'}, q{'SELECT 1; SELECT 2'},
	q{'error'}, q{'low'}, q{'off'}, q{'08006'}, q{'fuzz'});
my %values = (
	text => \@texts,
	name => [ q{''::text}, q{repeat('a', 64)::text}, q{'app'}, q{'nobody'}, q{'postgres'}, q{'*'}, q{'a"b'} ],
	integer => [qw(0 1 -1 -2 1000000 2147483647 -2147483648)],
	bigint => [qw(0 1 -1 9223372036854775807 -9223372036854775808)],
	'double precision' => [qw(0 -0.0 0.5 1 -1 1e308 -1e308 1e-307 'NaN' 'Infinity' '-Infinity')],
	interval => [ q{'0'}, q{'1 us'}, q{'-1 us'}, q{'1 ms'}, q{'1 s'}, q{'-1 day'}, q{'1 month -30 days'}, q{'178000000 years'}, q{'-178000000 years'}, q{'1000000000 hours'} ],
	'timestamp with time zone' => [ q{'infinity'}, q{'-infinity'}, q{'4713-01-01 BC'}, q{'294276-12-31'}, q{now()}, q{now() + interval '1 day'}, q{'epoch'} ],
	boolean => [qw(true false)],
	'text[]' => [ q{'{}'}, q{ARRAY[NULL]::text[]}, q{'{{08006,08001},{a,b}}'}, q{array_fill('08006'::text, ARRAY[10000])}, q{'[5:6]={08006,08001}'}, q{'{08006}'}, q{ARRAY[repeat('x', 100000)]}, q{'{"",08}'} ],
	jsonb => [ q{'null'}, q{'{}'}, q{'[]'}, q{'"x"'}, q{'1e1000'}, q{'{"work_mem": "4MB"}'}, q{'{"work_mem": -1e300}'}, q{('"' || repeat('x', 100000) || '"')::jsonb}, q{'{"": ""}'},
		q{(repeat('[', 900) || repeat(']', 900))::jsonb}, q{'{"work_mem": {"a": [null]}}'} ],
	cidr => [ q{'0.0.0.0/0'}, q{'::/0'}, q{'10.0.0.0/8'}, q{'255.255.255.255/32'} ],
	regclass => [ q{0::regclass}, q{4294967295::regclass}, q{'pg_class'}, q{'near'}, q{'far'}, q{'pg_class_oid_index'} ],
	oid => [qw(0 1 4294967295)]);

# A value with which a call comes past the first check
sub good_value
{
	my ($name, $type) = @_;
	my %known = (name => q{'fuzz'}, sql => q{'SELECT 1'}, primary_sql => q{'SELECT 1'}, foreign_table => q{'far'}, fallback => q{'near'}, impact => q{'latency'}, state => q{'open'},
		when_state => q{'loaded'}, minimum_priority_affected => q{'low'}, settings => q{'{"work_mem": "4MB"}'}, attempt => '1', success => 'true', enabled => 'true', delay => q{'1 ms'});

	return $known{$name} // "NULL::$type";
}

# What PUBLIC may call
my $everyone = qr/^(feature_enabled|my_priority|my_bulkheads|retry_delay|health_status)$/;

# All functions that can be called: name, kind, result, names and types of
# their arguments, how many of these have no default.
my $functions;

sub read_functions
{
	my ($session) = @_;
	my $rows = $session->ok(q{
		SELECT p.proname, p.prokind, p.proretset AND p.prorettype = 'record'::regtype AND p.proargmodes IS NULL,
			array_to_string(p.proargnames[1:p.pronargs], ','),
			array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) t), ','),
			p.pronargs - p.pronargdefaults, p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)
		FROM pg_proc p WHERE p.pronamespace = 'resilience'::regnamespace
		ORDER BY p.proname})->{rows};

	return [ map { { name => $_->[0], kind => $_->[1], record => $_->[2] eq 't',
				arguments => [ split /,/, $_->[3] // '' ], types => [ split /,/, $_->[4] // '' ], required => $_->[5],
				trigger => $_->[6] eq 't' } } @$rows ];
}

# The call, with these values by position; undef: the default, or a good one
sub call_of
{
	my ($f, %given) = @_;
	my @list;

	for my $i (0 .. $#{ $f->{arguments} })
	{
		my $value = $given{$i} // ($i < $f->{required} ? good_value($f->{arguments}[$i], $f->{types}[$i]) : next);

		push @list, "$f->{arguments}[$i] => $value";
	}
	my $call = "resilience.$f->{name}(" . join(', ', @list) . ')';
	# a trigger function cannot stand in FROM; called, it must notice that this is no trigger
	return $f->{kind} eq 'p' ? "CALL $call" : $f->{trigger} ? "SELECT $call" : $f->{record} ? "SELECT * FROM $call AS x(a int)" : "SELECT * FROM $call";
}

my (%outcomes, %calls, @wrong);

# One call in a transaction of its own, kept or not.  Returns a session, which
# is another one if the server closed it.  A forbidden one must not succeed.
sub try_call
{
	my ($session, $dbname, $user, $sql, $keep, $forbidden) = @_;
	my $transaction = $sql !~ /^CALL/;

	$session->ok('BEGIN') if $transaction;
	my $result = $session->query($sql, 60);
	my $code = $result->{closed} ? 'closed' : $result->{error} ? $result->{error}{C} : '00000';

	$calls{$user}++;
	$outcomes{$code}++;
	# 57014: a time-out, which only what waits by order may meet
	push @wrong, "$dbname, $user: " . substr($sql, 0, 300) . ": $code " . substr($result->{error}{M} // '', 0, 200)
	  if $code =~ /^(XX|58|57P|closed|53200)/ || ($code eq '57014' && $sql !~ /resilience\.(retry|run_health_check|call_with_breaker|run_feature)/) ||
		  $code eq '22021' || $code eq '42601' && $sql !~ /sql|query|condition/;
	# PostgreSQL looks at the arguments first: they may be wrong, or a NULL that
	# a strict function need not be called for
	push @wrong, "$dbname, $user: " . substr($sql, 0, 300) . ' was allowed'
	  if $forbidden && $code eq '00000' && $sql !~ /NULL/;
	return connect_to($node, dbname => $dbname, user => $user) if $result->{closed};
	if ($transaction)
	{
		my $end = $session->query($keep && !$result->{error} ? 'COMMIT' : 'ROLLBACK', 60);

		push @wrong, "$dbname, $user: COMMIT after " . substr($sql, 0, 300) . ": $end->{error}{C} $end->{error}{M}"
		  if $end->{error} && $end->{error}{C} =~ /^(XX|58|22021)/;
		return connect_to($node, dbname => $dbname, user => $user) if $end->{closed};
	}
	return $session;
}

sub definitions_gone
{
	my ($session) = @_;

	$session->ok("DELETE FROM resilience.${_}_definitions")
	  for qw(experiment degradation feature health_check runaway_rule fallback breaker bulkhead);
	return;
}

$mon->ok('DROP EXTENSION resilience');
for my $dbname (sort keys %databases)
{
	my ($encoding, $odd) = @{ $databases{$dbname} };

	$mon->ok("CREATE DATABASE $dbname TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	my $super = connect_to($node, dbname => $dbname);
	$super->ok($_) for ('CREATE EXTENSION resilience', 'CREATE EXTENSION file_fdw', 'CREATE SERVER files FOREIGN DATA WRAPPER file_fdw',
		q{CREATE FOREIGN TABLE far (a int) SERVER files OPTIONS (filename '/dev/null')}, 'CREATE TABLE near (a int)',
		'GRANT USAGE ON SCHEMA resilience TO granted, app', 'GRANT EXECUTE ON ALL ROUTINES IN SCHEMA resilience TO granted');
	$functions = read_functions($super);
	my $granted = connect_to($node, dbname => $dbname, user => 'granted');
	my $app = connect_to($node, dbname => $dbname, user => 'app');
	my $before = @wrong;

	# the client speaks the database's encoding, so that its odd bytes come in;
	# what has no such character is not sent
	my @here = ($odd, "repeat($odd, 40)", map { $encoding eq 'UTF8' ? $_ : s/U&'\\00e9'/$odd/r } @texts);
	my $of = sub {
		my ($type) = @_;
		my @list = $type eq 'text' ? @here : $type eq 'name' ? (@{ $values{name} }, $odd) : @{ $values{$type} // [] };

		give_up("no values for the type $type") unless @list;
		return pick("NULL::$type", @list, @list, @list);
	};

	for my $f (@$functions)
	{
		my $n = @{ $f->{arguments} };
		# nothing but NULL; then one argument after the other at each of its ends
		$super = try_call($super, $dbname, 'postgres', call_of($f, map { $_ => "NULL::$f->{types}[$_]" } 0 .. $n - 1), 0);
		if ($dbname eq 'utf')
		{
			for my $i (0 .. $n - 1)
			{
				my $type = $f->{types}[$i];

				for my $value ("NULL::$type", $type eq 'text' ? @here : @{ $values{$type} // [] })
				{
					$super = try_call($super, $dbname, 'postgres', call_of($f, $i => $value), rand() < 0.2);
				}
			}
		}
		for (1 .. $random_calls)
		{
			my %given = map { rand() < 0.4 ? ($_ => $of->($f->{types}[$_])) : () } 0 .. $n - 1;
			my $sql = call_of($f, %given);

			$super = try_call($super, $dbname, 'postgres', $sql, rand() < 0.3);
			$granted = try_call($granted, $dbname, 'granted', $sql, 0) if rand() < 0.3;
			$app = try_call($app, $dbname, 'app', $sql, 0, $f->{name} !~ $everyone) if rand() < 0.1;
		}
		# "for all databases" and "no connection at all" would end the test
		definitions_gone($super) if $f->{name} =~ /^(create|alter|set|force)_/;
	}

	# what other databases' encodings have left behind can be read here
	$super->ok("SELECT resilience.create_bulkhead($odd, database_name => '*', application_name => 'none', max_running => 1)");
	$super->ok("SELECT resilience.create_feature($odd)");
	$super->ok("SELECT resilience.create_breaker($odd)");
	is(join("\n", @wrong[ $before .. $#wrong ]), '', "$encoding: no internal error, no crash");
	$_->close for ($super, $granted, $app);
}

for my $dbname (sort keys %databases)
{
	my $session = monitor($node, dbname => $dbname);
	my @bad;

	for my $view (@views)
	{
		my $result = $session->query("SELECT * FROM resilience.$view");

		push @bad, "$view: $result->{error}{C} $result->{error}{M}" if $result->{error};
	}
	is(join("\n", @bad), '', "every view answers in $dbname");
	definitions_gone($session);
	is($session->value(q{SELECT count(*) FROM resilience.bulkhead_definitions}), 0, "all could be removed from $dbname");
	$session->close;
}

my $session = monitor($node, dbname => 'utf');
wait_until('nothing is in force any more', sub { $session->value('SELECT (SELECT count(*) FROM resilience.bulkhead_statistics()) + (SELECT count(*) FROM resilience.feature_statistics()) + (SELECT count(*) FROM resilience.breaker_statistics())') == 0 }, 20);
all_zero($session, 'after all calls');
# of background workers, too
my %logged;
open(my $log, '<', $node->logfile) or die "$!";
while (<$log>)
{
	$logged{ substr(s/^\S+ \S+ \S+ \[\d+\] //r, 0, 200) }++
	  if /^TRAP:|PANIC:|terminated by signal|leak:|still referenced|^\S+ \S+ \S+ \[\d+\] XX/;
}
close $log;
is(join('', sort keys %logged), '', 'the server lived through it, and no worker had an internal error');
$session->close;
$mon->close;
$node->restart;
is(connect_to($node, dbname => 'utf')->value('SELECT count(*) FROM resilience.bulkheads'), 0, 'and starts again');

my $total = 0;
$total += $_ for values %calls;
diag("$total calls of " . scalar(@$functions) . ' functions: ' . join(', ', map { "$_ $outcomes{$_}" } sort keys %outcomes));
cmp_ok($total, '>', 100 * @$functions, 'that was something');
done_testing();
