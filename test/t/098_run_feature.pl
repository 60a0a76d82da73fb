# run_feature(): as whom it runs, which errors the fallback answers, cancels and
# timeouts, rows that do not fit into memory, counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('run_feature', roles => [qw(app operator)]);
my $mon = monitor($node);
my $superuser = $mon->value('SELECT current_user');

$mon->ok($_) for (
	'GRANT EXECUTE ON FUNCTION resilience.create_feature, resilience.alter_feature, resilience.set_feature TO operator',
	'GRANT EXECUTE ON FUNCTION resilience.run_feature TO operator, app',
	'GRANT CREATE ON DATABASE postgres TO app',
	'CREATE TABLE secret AS SELECT 42 AS x');
my ($app, $operator) = map { connect_to($node, user => $_) } qw(app operator);

sub quoted
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

# run_feature() with one column of type text
sub run
{
	my ($session, $name, $primary, $fallback) = @_;

	return $session->query("SELECT * FROM resilience.run_feature('$name', "
		  . quoted($primary)
		  . (defined $fallback ? ', ' . quoted($fallback) : '')
		  . ') AS (x text)');
}

sub is_row
{
	my ($result, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	diag("$result->{error}{C} $result->{error}{M}") if $result->{error};
	return is(join(',', map { $_->[0] // 'NULL' } @{ $result->{rows} }), $expected, $label);
}

sub counts_of
{
	my ($name) = @_;

	return $mon->value(
		"SELECT concat_ws(' ', evaluations_total, degraded_total, fallback_total, primary_failures_total, fallback_failures_total)"
		  . " FROM resilience.features WHERE name = '$name'");
}

#
# As whom
#
my $who = 'SELECT current_user::text';
$operator->ok("SELECT resilience.create_feature('mine', enabled => false, fallback_sql => '$who')");
$mon->ok("SELECT resilience.create_feature('super', enabled => false, fallback_sql => 'SELECT x::text FROM public.secret')");
is($mon->value(q{SELECT string_agg(name || ':' || owner, ' ' ORDER BY name) FROM resilience.features}),
	"mine:operator super:$superuser", 'who gives a fallback owns the feature');
is_row(run($mon, 'mine', 'SELECT 1'), 'operator', "a definition's fallback runs as who wrote it, whoever asks");
is_row(run($app, 'mine', $who, $who), 'app', "the caller's own runs as the caller");
is_row(run($app, 'super', 'SELECT 1'), '42', 'a fallback may read what its owner may');
error_is(run($app, 'super', 'SELECT 1', 'SELECT x::text FROM public.secret'), '42501', 'the caller may not');
$operator->ok(q{SELECT resilience.create_feature('reach', enabled => false, fallback_sql => 'SELECT x::text FROM public.secret')});
error_is(run($mon, 'reach', 'SELECT 1'), '42501', 'nor does a fallback give its owner more than it has, even if a superuser asks');
$operator->ok(q{SELECT resilience.create_feature('wide', enabled => false, fallback_sql => 'SELECT 1, 2')});
error_is(run($mon, 'wide', 'SELECT 1'), '42804', 'a fallback with other columns');
$operator->ok("SELECT resilience.alter_feature('super', description => 'by the operator', fallback_on_error => true)");
is_row(run($operator, 'super', 'SELECT 1'), '42', 'who alters other arguments of a feature does not own it');
$operator->ok("SELECT resilience.alter_feature('super', fallback_sql => 'SELECT x::text FROM public.secret')");
error_is(run($mon, 'super', 'SELECT 1'), '42501', 'who alters its fallback does: a grantee cannot run SQL as somebody else');
error_is($operator->query("UPDATE resilience.feature_definitions SET owner = '$superuser'"), '42501', 'nor write the table');
error_is($mon->query('DROP ROLE operator'), '2BP01', 'an owner cannot be dropped');

# Nothing of the caller's changes what a definition's fallback means
$mon->ok(q{SELECT resilience.create_feature('sum', enabled => false, fallback_sql => $$SELECT (1 + 1)::text || ':' || (count(*) > 100) FROM pg_class$$)});
$app->ok($_) for (
	'CREATE SCHEMA evil',
	q{CREATE FUNCTION evil.three(int, int) RETURNS int LANGUAGE sql AS 'SELECT 3'},
	'CREATE OPERATOR evil.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.three)',
	'CREATE TABLE evil.pg_class (relname name)',
	'SET search_path = evil, pg_catalog');
is($app->value('SELECT 1 + 1'), 3, "the caller's search_path has its own plus");
is_row(run($app, 'sum', 'SELECT 1'), '2:true', 'the fallback has the real one');
is($app->value('SHOW search_path'), 'evil, pg_catalog', 'and the caller its search_path again');
error_is(run($app, 'super', 'SELECT 1'), '42501', 'an error');
is($app->value('SELECT current_user || current_setting($$search_path$$)'), 'appevil, pg_catalog', 'gives back role and search_path');
$app->ok('RESET search_path');

# What it may not do: reach further than its end
$mon->ok($_) for (
	q{CREATE FUNCTION public.leave_behind() RETURNS text LANGUAGE plpgsql AS 'BEGIN CREATE TEMP TABLE t (x int); RETURN 1; END'},
	q{CREATE FUNCTION public.change_role() RETURNS text LANGUAGE plpgsql AS 'BEGIN SET ROLE operator; RETURN 1; END'},
	q{SELECT resilience.create_feature('temp', enabled => false, fallback_sql => 'SELECT public.leave_behind()')},
	q{SELECT resilience.create_feature('role', enabled => false, fallback_sql => 'SELECT public.change_role()')},
	q{SELECT resilience.create_feature('setting', enabled => false, fallback_sql => $$SELECT set_config('work_mem', '5MB', false)$$)});
error_is(run($app, 'temp', 'SELECT 1'), '42501', 'it makes no temporary tables');
error_is(run($app, 'role', 'SELECT 1'), '42501', 'and does not change its role');
my $work_mem = $app->value('SHOW work_mem');
is_row(run($app, 'setting', 'SELECT 1'), '5MB', 'a setting');
is($app->value('SHOW work_mem'), $work_mem, 'ends with it');

#
# Errors of the primary
#
$mon->ok($_) for (
	q{SELECT resilience.create_feature('f', fallback_on_error => true)},
	'CREATE TABLE t (id int PRIMARY KEY, n int)', 'INSERT INTO t VALUES (1, 0), (2, 0)',
	'CREATE TABLE notes (x text)',
	'GRANT ALL ON t, notes TO app');
is_row(run($app, 'f', 'SELECT (1 / 0)::text', q{SELECT 'fallback'::text}), 'fallback', 'an error of the primary is answered by the fallback');
is(counts_of('f'), '1 0 1 1 0', 'and counted');

# A user who cancels wants the statement to end
$app->send(q{SELECT * FROM resilience.run_feature('f', 'SELECT pg_sleep(1000)::text', 'SELECT 1::text') AS (x text)});
wait_until('the primary runs',
	sub { ($mon->value("SELECT wait_event FROM pg_stat_activity WHERE pid = $app->{pid}") // '') eq 'PgSleep' });
$app->cancel;
error_is($app->result, '57014', 'a cancel is passed on');
$app->ok(q{SET statement_timeout = '200ms'});
error_is(run($app, 'f', 'SELECT pg_sleep(1000)::text', 'SELECT 1::text'), '57014', 'so is statement_timeout');
$app->ok('RESET statement_timeout');
is(counts_of('f'), '3 0 1 1 0', 'neither is a failure of the primary');

# A lock that it does not get is the primary's own error
$mon->ok('BEGIN; LOCK t');
$app->ok(q{SET lock_timeout = '100ms'});
is_row(run($app, 'f', 'SELECT n::text FROM public.t', q{SELECT 'unlocked'::text}), 'unlocked', 'lock_timeout is answered');
$app->ok('RESET lock_timeout');
$mon->ok('ROLLBACK');

# What the transaction did before is not the primary's: the whole must be retried
$app->ok('BEGIN ISOLATION LEVEL REPEATABLE READ');
$app->ok('SELECT n FROM t');
$mon->ok('UPDATE t SET n = n + 1 WHERE id = 1');
error_is(run($app, 'f', 'UPDATE public.t SET n = n + 1 WHERE id = 1 RETURNING n::text', q{SELECT 'fallback'::text}),
	'40001', 'a serialization failure is passed on');
$app->ok('ROLLBACK');
my $other = connect_to($node);
$other->ok(q{SET deadlock_timeout = '10min'});
$mon->ok(q{ALTER ROLE app SET deadlock_timeout = '2s'});
my $victim = connect_to($node, user => 'app');
my $second = 'UPDATE public.t SET n = n + 1 WHERE id = 2 RETURNING n::text';
for my $before (1, 0)
{
	my $first = 'UPDATE public.t SET n = n + 1 WHERE id = 1';

	$victim->ok('BEGIN');
	$victim->ok($first) if $before;
	$other->ok('BEGIN; UPDATE t SET n = n + 1 WHERE id = 2');
	$victim->send("SELECT * FROM resilience.run_feature('f', '"
		  . ($before ? '' : "$first; ")
		  . "$second', \$\$SELECT 'fallback'::text\$\$) AS (x text)");
	wait_for_value($mon, "SELECT count(*) FROM pg_locks WHERE pid = $victim->{pid} AND NOT granted", 1);
	# and in time before the victim looks for deadlocks
	$other->send($first);
	my $result = $victim->result;
	if ($before) { error_is($result, '40P01', 'a deadlock with what was done before is passed on') }
	else { is_row($result, 'fallback', 'one that is the primary\'s alone is answered') }
	$victim->ok('ROLLBACK');
	$other->result;
	$other->ok('ROLLBACK');
}
$other->close;

# What the primary did is undone, what was done before is not
$app->ok('BEGIN');
$app->ok(q{INSERT INTO notes VALUES ('before')});
is_row(run($app, 'f', q{INSERT INTO public.notes VALUES ('primary'); SELECT (1 / 0)::text}, q{INSERT INTO public.notes VALUES ('fallback') RETURNING x}),
	'fallback', 'in a transaction');
$app->ok('SAVEPOINT s');
is_row(run($app, 'f', q{INSERT INTO public.notes VALUES ('undone') RETURNING x}, 'SELECT 1::text'), 'undone', 'after a savepoint');
$app->ok('ROLLBACK TO s; COMMIT');
is($mon->value(q{SELECT string_agg(x, ' ') FROM notes}), 'before fallback', 'the primary is undone as a whole');

# Many times in one transaction, nested, in a loop with errors
$mon->ok('SELECT resilience.reset_statistics()');
$app->ok(q{DO $x$
DECLARE
	found text;
BEGIN
	FOR i IN 1 .. 300 LOOP
		SELECT * INTO found FROM resilience.run_feature('f',
			$$ SELECT * FROM resilience.run_feature('f', 'SELECT (1 / 0)::text', 'SELECT (1 / 0)::text') AS (x text) $$,
			format('SELECT %L::text', i)) AS (x text);
		IF found <> i::text THEN
			RAISE EXCEPTION 'got % in round %', found, i;
		END IF;
	END LOOP;
END $x$});
is(counts_of('f'), '600 0 300 600 300', 'counts of 300 nested calls are exact');

# Rows that do not fit into work_mem; those of a failed primary are gone
$app->ok(q{SET work_mem = '64kB'});
my $many = $app->ok(q{SELECT count(*), sum(length(x)) FROM resilience.run_feature('f', 'SELECT repeat(i::text, 10) FROM generate_series(1, 100000) i', 'SELECT 1::text') AS (x text)});
is("@{ $many->{rows}[0] }", '100000 4888950', 'a large result');
is_row(run($app, 'f', 'SELECT (1000000 / (100000 - i))::text FROM generate_series(1, 100000) i', q{VALUES ('a'), ('b')}),
	'a,b', 'nothing remains of 99 999 rows of a primary that failed');
$app->ok('RESET work_mem');
is($app->value('SELECT 1'), 1, 'the session is well');

# A session that is ended in the middle has counted
$mon->ok('SELECT resilience.reset_statistics()');
my $gone = connect_to($node, user => 'app');
$gone->send(q{SELECT resilience.feature_enabled('f'), x FROM resilience.run_feature('f', 'SELECT pg_sleep(1000)::text', 'SELECT 1::text') AS (x text)});
wait_until('the primary runs',
	sub { ($mon->value("SELECT wait_event FROM pg_stat_activity WHERE pid = $gone->{pid}") // '') eq 'PgSleep' });
$mon->ok("SELECT pg_terminate_backend($gone->{pid})");
error_is($gone->result, '57P01', 'terminated');
wait_for_value($mon, q{SELECT evaluations_total FROM resilience.features WHERE name = 'f'}, 1);
is(counts_of('f'), '1 0 0 0 0', 'what it has asked is counted, its end is no failure');

# Privileges
$mon->ok('REVOKE EXECUTE ON FUNCTION resilience.run_feature FROM app');
error_is(run($app, 'f', 'SELECT 1::text'), '42501', 'run_feature() has to be granted');
is($app->value(q{SELECT resilience.feature_enabled('f')}), 't', 'feature_enabled() has not');

done_testing();
