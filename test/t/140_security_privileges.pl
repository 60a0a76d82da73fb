# Privileges, against the catalog and against docs/security.md: every function,
# table, view, type and the schema; no function that runs as its owner; SQL
# given to a function runs as the caller.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('privileges', roles => [qw(app watcher)]);
my $mon = monitor($node);

$mon->ok('GRANT pg_monitor TO watcher');
my ($app, $watcher, $admin) = map { connect_to($node, user => $_) } 'app', 'watcher', $ResilienceTest::superuser;

sub column { return map { $_->[0] } @{ $mon->query($_[0])->{rows} } }

# INTERFACE's list of what is for everyone
my @everyone = qw(feature_enabled health_status my_bulkheads my_priority retry_delay);

# --- functions: the catalog and the page

my %documented;
my $page = slurp_file("$FindBin::RealBin/../../docs/security.md");
my ($table) = $page =~ /^## Every function\n(.*?)(?=^## |\z)/ms;
while ($table =~ /^\| (.*?) \| (.*?) \|.*\|$/mg)
{
	my ($names, $who) = ($1, $2);

	$documented{$_} = $who for $names =~ /`(\w+)`/g;
}
my %there;
for my $row (@{ $mon->query(q{
	SELECT proname, CASE WHEN prorettype = 'trigger'::regtype THEN 'triggers'
			WHEN has_function_privilege('app', p.oid, 'EXECUTE') THEN 'everyone'
			WHEN has_function_privilege('watcher', p.oid, 'EXECUTE') THEN 'pg_monitor'
			ELSE 'granted' END
	FROM pg_proc p WHERE pronamespace = 'resilience'::regnamespace})->{rows} })
{
	is($there{ $row->[0] } // $row->[1], $row->[1], "all functions of the name $row->[0] are for the same") if $there{ $row->[0] };
	$there{ $row->[0] } = $row->[1];
}
cmp_ok(scalar keys %there, '>', 70, 'there are functions');
is_deeply(\%documented, \%there, 'docs/security.md says of every function who may call it, and of no other');
is_deeply([ sort grep { $there{$_} eq 'everyone' } keys %there ], \@everyone, 'everyone may call those that the interface names');
is_deeply([ column(q{SELECT proname FROM pg_proc WHERE pronamespace = 'resilience'::regnamespace
	AND prorettype = 'trigger'::regtype AND has_function_privilege('app', oid, 'EXECUTE')}) ], [], 'a trigger function is nobody\'s');

# who is no superuser is granted EXECUTE by nobody but the script
my $grants = q{SELECT DISTINCT coalesce(r.rolname, 'PUBLIC') || ' ' || privilege_type || ' ' || is_grantable
	FROM %s c, aclexplode(coalesce(%s, acldefault('%s', %s))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
	WHERE %s = 'resilience'::regnamespace AND a.grantee <> %s ORDER BY 1};
is_deeply([ column(sprintf $grants, 'pg_proc', 'proacl', 'f', 'proowner', 'pronamespace', 'proowner') ],
	[ 'PUBLIC EXECUTE false', 'pg_monitor EXECUTE false' ], 'functions are granted to PUBLIC and pg_monitor alone');
is_deeply([ column(sprintf $grants, 'pg_class', 'relacl', 'r', 'relowner', 'relnamespace', 'relowner') ],
	['pg_monitor SELECT false'], 'of relations pg_monitor may read some, and nobody has anything else');
is_deeply([ column(q{SELECT relname FROM pg_class WHERE relnamespace = 'resilience'::regnamespace AND relkind <> 'v' AND relacl::text ~ 'pg_monitor'}) ],
	[], 'which are views');
is_deeply([ column(q{SELECT relkind::text FROM pg_class WHERE relnamespace = 'resilience'::regnamespace AND relkind NOT IN ('i', 't') GROUP BY 1 ORDER BY 1}) ],
	[qw(r v)], 'there are tables and views, and nothing else');
is_deeply([ column(q{SELECT coalesce(r.rolname, 'PUBLIC') || ' ' || privilege_type FROM pg_namespace, aclexplode(nspacl) a
	LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE nspname = 'resilience' AND a.grantee <> nspowner}) ], ['PUBLIC USAGE'],
	'the schema is for USAGE');
is_deeply([ column(q{SELECT attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
	WHERE relnamespace = 'resilience'::regnamespace AND attacl IS NOT NULL}) ], [], 'no column has grants of its own');

# --- how they run

is_deeply([ column(q{SELECT proname FROM pg_proc WHERE pronamespace = 'resilience'::regnamespace AND prosecdef}) ], [], 'no function is SECURITY DEFINER');
is_deeply([ column(q{SELECT DISTINCT lanname || ' ' || probin FROM pg_proc p JOIN pg_language l ON l.oid = prolang
	WHERE pronamespace = 'resilience'::regnamespace}) ], ['c $libdir/resilience'], 'all are in C, in one library');
is_deeply([ column(q{SELECT proname FROM pg_proc WHERE pronamespace = 'resilience'::regnamespace AND (proconfig IS NOT NULL OR proleakproof)}) ], [],
	'none sets anything, or says that it leaks nothing');
is_deeply([ column(q{SELECT relname FROM pg_class WHERE relnamespace = 'resilience'::regnamespace AND reloptions::text ~ 'security'}) ], [],
	'views are plain ones');
is_deeply([ column(q{SELECT DISTINCT tgenabled::text FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
	WHERE relnamespace = 'resilience'::regnamespace AND NOT tgisinternal}) ], ['A'], 'triggers fire always, for replication and restores, too');
is_deeply([ column(q{SELECT relname FROM pg_class c WHERE relnamespace = 'resilience'::regnamespace AND relkind = 'r'
	AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'check_row')}) ], [], 'every table has its rules in a trigger');

# --- calls: refused before they look at anything

for my $row (@{ $mon->query(q{
	SELECT proname, prokind::text, array_to_string(ARRAY(
			SELECT CASE WHEN NOT proisstrict THEN 'NULL' WHEN t = 'regclass'::regtype THEN '''pg_class''' ELSE '''0''' END || '::' || format_type(t, NULL)
			FROM unnest(proargtypes::oid[]) WITH ORDINALITY u (t, n) ORDER BY n), ', '), prorettype = 'record'::regtype AND proargmodes IS NULL
	FROM pg_proc p WHERE pronamespace = 'resilience'::regnamespace AND NOT has_function_privilege('app', p.oid, 'EXECUTE')})->{rows} })
{
	my ($name, $kind, $arguments, $record) = @$row;
	my $call = $kind eq 'p' ? "CALL resilience.$name($arguments)" : "SELECT * FROM resilience.$name($arguments)" . ($record eq 't' ? ' AS (a int)' : '');
	my $error = $app->query($call)->{error};

	# a strict function with a NULL is not called; triggers are refused as such
	is($error->{C} // 'no error', '42501', "$name() is refused to who was not granted it") unless $there{$name} eq 'triggers';
}
for my $relation (column(q{SELECT relname FROM pg_class WHERE relnamespace = 'resilience'::regnamespace AND relkind IN ('r', 'v')}))
{
	my $is_view = $relation !~ /_definitions$/;

	is($app->query("SELECT * FROM resilience.$relation")->{error}{C} // 'no error', '42501', "$relation is not for everybody");
	is($watcher->query("SELECT * FROM resilience.$relation")->{error}{C} // 'no error', $is_view ? 'no error' : '42501',
		$is_view ? 'but for pg_monitor' : 'nor for pg_monitor');
	for my $sql ("DELETE FROM resilience.$relation", "LOCK TABLE resilience.$relation IN SHARE MODE", "TRUNCATE resilience.$relation")
	{
		next if $is_view && $sql =~ /TRUNCATE/;
		$watcher->ok('BEGIN');
		like($watcher->query($sql)->{error}{C} // 'no error', qr/^(?:42501|55000)$/, "$sql");
		$watcher->ok('ROLLBACK');
	}
}
is($watcher->query($_)->{error}{C}, '42501', $_)
  for 'SELECT resilience.reset_statistics()', 'CREATE FUNCTION resilience.mine() RETURNS int LANGUAGE sql AS \'SELECT 1\'',
  'DROP FUNCTION resilience.my_priority()', 'ALTER EXTENSION resilience UPDATE', 'DROP EXTENSION resilience';

# --- SQL that is given to a function runs as the caller

$mon->ok('GRANT EXECUTE ON FUNCTION resilience.retry, resilience.retry_query, resilience.call_with_breaker, resilience.run_feature TO app');
$mon->ok('GRANT EXECUTE ON PROCEDURE resilience.retry_transaction TO app');
$mon->ok('CREATE TABLE public.seen (who text, how text)');
$mon->ok('GRANT INSERT ON public.seen TO app');
$mon->ok('CREATE TABLE public.closed (a int)');
$mon->ok(q{SELECT resilience.create_breaker('any')});
$mon->ok(q{SELECT resilience.create_feature('off', enabled => false)});
my %calls = (
	retry => 'SELECT resilience.retry($$%s$$)',
	retry_query => 'SELECT * FROM resilience.retry_query($$%s RETURNING 1$$) AS (a int)',
	retry_transaction => 'CALL resilience.retry_transaction($$%s$$)',
	call_with_breaker => q{SELECT resilience.call_with_breaker('any', $$%s$$)},
	primary => q{SELECT * FROM resilience.run_feature('none', $$%s RETURNING 1$$) AS (a int)},
	fallback => q{SELECT * FROM resilience.run_feature('off', 'SELECT 1', $$%s RETURNING 1$$) AS (a int)});
for my $how (sort keys %calls)
{
	$app->ok(sprintf $calls{$how}, "INSERT INTO public.seen VALUES (current_user || '/' || session_user, '$how')");
	is($mon->value("SELECT who FROM public.seen WHERE how = '$how'"), 'app/app', "$how runs SQL as the caller");
	is($app->query(sprintf $calls{$how}, 'INSERT INTO public.closed VALUES (1)')->{error}{C}, '42501', 'with no other privileges');
	my $result = $admin->query('SET ROLE app; ' . sprintf($calls{$how}, 'INSERT INTO public.closed VALUES (1)'));
	is($result->{error}{C}, $how eq 'retry_transaction' ? $result->{error}{C} : '42501', 'also after SET ROLE');
	$admin->query('ROLLBACK; RESET ROLE');
}
$admin->ok('SET ROLE app');
is($admin->query(sprintf $calls{retry_transaction}, 'INSERT INTO public.closed VALUES (1)')->{error}{C}, '42501', 'retry_transaction after SET ROLE');
$admin->ok('RESET ROLE');
is($mon->value('SELECT count(*) FROM public.closed'), 0, 'nothing was written');

$node->stop;
done_testing();
