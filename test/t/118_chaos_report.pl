# Chaos experiments: what is measured, and what the report makes of it.  With
# real load: the numbers agree with pgbench's own log, and the verdict with what
# was done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use BreakerTest;
use ChaosTest;
use IPC::Run;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my @roles = qw(app shop batch caller);
my $node = local_node('report', conf => "resilience.chaos = on\nresilience.max_running = 4\nresilience.max_waiting = 100\n", roles => [@roles]);
my $mon = monitor($node);
my $dir = PostgreSQL::Test::Utils::tempdir();
my $result;

$mon->ok($_) for (
	q{CREATE TABLE t (id int PRIMARY KEY, v int)},
	q{INSERT INTO t SELECT i, i FROM generate_series(0, 100) i},
	q{CREATE TABLE hot (id int PRIMARY KEY, v int)},
	q{INSERT INTO hot VALUES (1, 0)},
	q{CREATE TABLE late (v int)},
	q{CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
		BEGIN PERFORM 1 / v FROM t WHERE id = 0; RETURN 'no error'; EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$},
	q{CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO late VALUES (0); COMMIT; INSERT INTO late VALUES (0); ROLLBACK; PERFORM 1; END$$},
	q{CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.v < 0 THEN RAISE EXCEPTION 'too late'; END IF; PERFORM pg_sleep(NEW.v / 1000.0); RETURN NULL; END$$},
	q{CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()},
	q{GRANT ALL ON ALL TABLES IN SCHEMA public TO app, shop, batch},
	q{CREATE TABLE far_copy (id int, v int)},
	q{GRANT ALL ON far_copy TO caller});
add_server($mon, 'far', $node, tables => ['t']);

# A cell of the report, or of the summary.
sub cell
{
	my ($name, $section, $metric, $time) = @_;

	return $mon->value("SELECT $time FROM resilience.experiment_report('$name') WHERE section = '$section' AND metric = '$metric'");
}

sub summary
{
	my ($name, $column) = @_;

	return $mon->value("SELECT $column FROM resilience.experiment_summary('$name')");
}

sub show
{
	my ($name) = @_;

	my (undef, $out) = $node->psql('postgres', "SELECT * FROM resilience.experiment_report('$name')", extra_params => [qw(-P format=aligned -P tuples_only=off)]);
	note($out);
	(undef, $out) = $node->psql('postgres', "SELECT * FROM resilience.experiment_summary('$name')", extra_params => [qw(-P format=aligned -P tuples_only=off -P expanded=on)]);
	note($out);
	return;
}

#
# What counts: faults that never strike, so that nothing but measuring is seen
#
experiment($mon, 'count', 'latency', role_name => q{'app'}, delay => q{'1 s'}, probability => '0');
my $app = connect_to($node, user => 'app');
my $shop = connect_to($node, user => 'shop');
my %last = map { $_ => 0 } qw(target rest);
my %errors = %last;

# After some statements: so many more statements and errors are counted.
sub counted
{
	my ($label, $statements, $errors, $section) = @_;
	$section //= 'target';
	my $n = cell('count', $section, 'statements', 'during');
	my $bad = sprintf('%.0f', $n == 0 ? 0 : $n * cell('count', $section, 'errors', 'during') / 100);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(($n - $last{$section}) . ' ' . ($bad - $errors{$section}), "$statements $errors", $label);
	$last{$section} = $n;
	$errors{$section} = $bad;
	return;
}

$app->ok('SELECT 1');
counted('a statement', 1, 0);
$shop->ok('SELECT 1');
counted('somebody else\'s is none of the target', 0, 0);
counted('but of the rest', 1, 0, 'rest');
connect_to($node)->ok('SELECT 1');
counted('a superuser\'s is neither', 0, 0, 'rest');
$app->ok('BEGIN');
$app->ok('SET LOCAL work_mem = 100');
$app->ok('SELECT count(*) FROM t');
$app->ok('COMMIT');
counted('of a transaction those that work', 1, 0);
error_is($app->query('SELECT 1 / v FROM t WHERE id = 0'), '22012', 'an error');
counted('an error', 1, 1);
$app->ok('BEGIN');
$app->ok('SAVEPOINT s');
error_is($app->query('SELECT 1 / v FROM t WHERE id = 0'), '22012', 'an error after a savepoint');
$app->ok('ROLLBACK TO s');
$app->ok('SELECT 1');
$app->ok('ROLLBACK');
counted('an error that the client gets over', 2, 1);
is($app->query('SELECT caught()')->{rows}[0][0], '22012', 'an error within a function');
counted('that is caught there', 1, 0);
$app->ok('CALL commits()');
counted('a procedure of three transactions', 1, 0);
$app->query('SELECT 1; SELECT 2; SELECT 3');
counted('three in one message', 3, 0);
$app->ok('BEGIN');
$app->ok('DECLARE c CURSOR FOR SELECT * FROM t');
$app->ok('FETCH 1 FROM c');
$app->ok('COMMIT');
counted('a cursor is not measured', 0, 0);
error_is($app->query('INSERT INTO late VALUES (-1)'), 'P0001', 'a constraint at commit');
counted('one that fails when it commits', 1, 1);
$app->ok('COPY t TO STDOUT');
$app->ok('VACUUM late') for 1 .. 2;
counted('utility statements', 3, 0);
for my $sql ('SELECT 1', 'SELECT 2')
{
	$app->parse('', $sql);
	$app->bind_portal('', '');
	$app->execute('');
}
$app->sync;
$app->result;
counted('a pipeline', 2, 0);
$mon->ok(q{SELECT resilience.create_bulkhead('closed', role_name => 'app', max_running => 0)});
error_is($app->query('SELECT 1'), '53R01', 'refused');
counted('who is refused', 1, 1);
cmp_ok(cell('count', 'target', 'refused', 'during'), '>', 0, 'and is told apart');
is(summary('count', 'refused'), 1, 'exactly');
$mon->ok(q{SELECT resilience.drop_bulkhead('closed')});
my $gone = connect_to($node, user => 'app');
$gone->send('SELECT pg_sleep(60)');
wait_for_value($mon, "SELECT state FROM resilience.activity WHERE pid = $gone->{pid}", 'running');
$mon->ok("SELECT pg_terminate_backend($gone->{pid})");
error_is($gone->result, '57P01', 'terminated');
wait_for_value($mon, "SELECT count(*) FROM pg_stat_activity WHERE pid = $gone->{pid}", 0);
counted('a session that was terminated', 1, 1);
$app->ok('SELECT 1') for 1 .. 5;
is(cell('count', 'target', 'p99', 'during > 300'), 'f', 'nothing was slow');
$app->ok('INSERT INTO late VALUES (400)');
is(cell('count', 'target', 'p99', 'during BETWEEN 340 AND 600'), 't', 'the commit belongs to a statement');
is(cell('count', 'run', 'protection held', 'remark'), 'not known: 0 statements of the rest were measured before, 20 are needed (start_experiment(..., baseline => \'30 s\') takes the time)', 'nothing is said of too few');
is(summary('count', 'held'), undef, 'no verdict');
end_experiments($mon);
error_is($mon->query(q{SELECT * FROM resilience.experiment_report('count')}), '42704', 'dropped: so is its report');

#
# Under load
#
sub load
{
	my ($role, $clients, $rate, $sql) = @_;
	my $script = "$dir/$role.sql";

	append_to_file($script, "$sql\n");
	my $h = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $clients, '-j', '1', '-T', '60', '-R', $rate, '-f', $script, '-M', 'simple',
			'-l', "--log-prefix=$dir/$role", '-U', $role, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', "$dir/$role.out", '2>', "$dir/$role.err");
	return $h;
}

# pgbench ends with the first error; this one does not.
sub stubborn_load
{
	my ($role, $sql) = @_;
	my $script = "$dir/$role.sql";

	append_to_file($script, "$sql\n\\! sleep 0.03\n" x 1500);
	return IPC::Run::start(
		[ 'psql', '-XAtq', '-f', $script, '-U', $role, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', "$dir/$role.out", '2>', "$dir/$role.err");
}

sub create
{
	my ($name, $impact, %arguments) = @_;
	my %all = (probability => 1, max_injections => 1000000, max_duration => q{'1 min'}, %arguments);

	$mon->ok("SELECT resilience.create_experiment('$name', '$impact', "
		  . join(', ', map { "$_ => $all{$_}" } sort keys %all) . ')');
	return;
}

sub wait_over
{
	my @names = @_;

	wait_for_value($mon, "SELECT over_at IS NOT NULL FROM resilience.experiment_summary('$_')", 't', 40) for @names;
	return;
}

# What pgbench has seen: statements that ended in that time, their p95 in ms
# without the wait for their turn.
sub logged
{
	my ($role, $from, $to) = @_;
	my @latencies;

	for my $file (glob("$dir/$role.*"))
	{
		next if $file !~ /\.\d+$/;
		for my $line (split /\n/, slurp_file($file))
		{
			my ($client, $n, $us, $script, $seconds, $fraction, $lag) = split / /, $line;
			next if !defined $lag || $us !~ /^\d+$/;
			my $at = $seconds + $fraction / 1e6;
			push @latencies, ($us - $lag) / 1000 if $at >= $from && $at <= $to;
		}
	}
	@latencies = sort { $a <=> $b } @latencies;
	return (scalar(@latencies), $latencies[ int(0.95 * $#latencies) ] // 0);
}

# "app" is what is tried, in a bulkhead of its own; the rest are others.
$mon->ok(q{SELECT resilience.create_bulkhead('reports', role_name => 'app', max_running => 2, max_waiting => 50, max_wait => '10 s')});
$mon->ok(q{SELECT resilience.create_breaker('b', 'far', max_failures => 3, reset_timeout => '2 s', max_reset_timeout => '2 s', jitter => 0, probe => true, on_open => 'fallback')});
$mon->ok(q{SELECT resilience.set_fallback('far_t', 'far_copy')});
create('slow', 'latency', role_name => q{'app'}, delay => q{'150 ms'});
create('quiet', 'latency', role_name => q{'app'}, delay => q{'1 ms'});
create('leak', 'lock_delay', role_name => q{'batch'}, delay => q{'250 ms'});
create('remote', 'foreign_error', server => q{'far'});

my @loads = (
	load('app', 4, 60, 'SELECT count(*) FROM t;'),
	load('shop', 2, 100, 'UPDATE hot SET v = v + 1 WHERE id = 1;'),
	load('batch', 1, 8, 'UPDATE hot SET v = v + 1 WHERE id = 1;'),
	stubborn_load('caller', 'SELECT count(*) FROM far_t;'));
# it is measured before it is started
sleep 3;

# A protected target: the rest holds
$mon->ok(q{SELECT resilience.start_experiment('slow')});
is(cell('slow', 'run', 'protection held', 'remark'), 'not known yet: the rest is not harmed so far', 'while it begins');
sleep 3;
$mon->ok(q{SELECT resilience.stop_experiment('slow', 'seen enough')});
like(cell('slow', 'run', 'time to recover', 'remark'), qr/^not yet|^so far/, 'after it: still looked at');
set_conf($mon, 'resilience.chaos' => 'off');
wait_over('slow');
show('slow');
is(summary('slow', 'held'), 't', 'the rest was not harmed');
is(cell('slow', 'run', 'state', 'remark'), 'stopped: seen enough', 'how it ended');
is(summary('slow', 'bulkheads_saturated'), '{reports}', 'the bulkhead that did it');
is(summary('slow', 'breakers_opened'), '{}', 'no breaker opened');
is(cell('slow', 'run', 'measured', 'before BETWEEN 2.5 AND 60 AND during BETWEEN 2.9 AND 4 AND after BETWEEN 9.9 AND 20'), 't', 'how long each time was');
is(cell('slow', 'target', 'p50', 'before < 50 AND during > 140 AND after < 50'), 't', 'the target was slow, and no longer is');
is(cell('slow', 'rest', 'p95', 'during < before + 10 OR during < 2 * before'), 't', 'the rest was not');
is(summary('slow', q{time_to_recover < '8 s'}), 't', 'it recovered');
is(summary('slow', 'injections'), $mon->value(q{SELECT injections_total FROM resilience.experiments WHERE name = 'slow'}), 'injections');

for my $what ([ 'app', 'target' ], [ 'shop', 'rest' ])
{
	my ($role, $section) = @$what;
	my ($from, $to) = map { $mon->value("SELECT extract(epoch FROM $_) FROM resilience.experiment_summary('slow')") } qw(faults_at faults_end_at);
	my ($n, $p95) = logged($role, $from, $to);
	my $measured = cell('slow', $section, 'statements', 'during');

	# the rest has others' statements, too: some 34 a second
	my $others = $section eq 'rest' ? 34 * ($to - $from) : 0;
	cmp_ok(abs($measured - $others - $n), '<', 8 + 0.2 * $n, "$section: $measured statements, of which pgbench has logged $n for $role");
	my $p = cell('slow', $section, 'p95', 'during');
	cmp_ok(abs($p - $p95), '<', 2 + 0.25 * $p95 + ($section eq 'rest' ? 5 : 0), "$section: p95 $p ms; pgbench: $p95 ms");
}

# One that leaks, one of a foreign server, and one that hits hardly anybody.
# The lever is on again: they are measured anew.
set_conf($mon, 'resilience.chaos' => 'on');
$mon->ok(qq{SELECT resilience.start_experiment('$_', baseline => '2 s')}) for qw(leak remote);
wait_for_value($mon, q{SELECT phase FROM resilience.experiments WHERE name = 'leak'}, 'during');
wait_breaker($mon, 'b', 'state', 'open');
sleep 3;
$mon->ok('SELECT resilience.stop_all_experiments()');
$mon->ok(q{SELECT resilience.start_experiment('quiet')});
$mon->ok(q{SELECT resilience.stop_experiment('quiet')});
wait_over('leak', 'remote');
show('leak');
show('remote');
is(summary('leak', 'held'), 'f', 'locks that are held leak to the rest');
like(summary('leak', 'verdict'), qr/^no: (p9[59] of the rest was|.* % of the rest ended) /, 'which says how');
like(cell('leak', 'run', 'state', 'remark'), qr/other experiments/, 'and that it was not alone');
unlike(cell('slow', 'run', 'state', 'remark'), qr/other experiments/, 'unlike the first one');
is(summary('remote', 'breakers_opened'), '{b}', 'the breaker has opened');
is(summary('remote', 'fallbacks > 0'), 't', 'and let the fallback answer');
is(cell('remote', 'target', 'fallback', 'before = 0 AND during > 30'), 't', 'for most of the calls');
is(cell('remote', 'target', 'errors', 'before = 0 AND during BETWEEN 1 AND 60'), 't', 'which has kept them from errors');
is(cell('remote', 'target', 'statements', 'before > 10 AND during > 10 AND after > 10'), 't', 'calls are the target whoever answers');
is(summary('remote', q{time_to_recover BETWEEN '0 s' AND '6 s'}), 't', 'and closed again');
like(cell('quiet', 'run', 'protection held', 'remark'), qr/^not known: (no fault was injected|\d+ statements of the rest were measured during)/, 'too little to say anything');

$_->signal('TERM') for @loads;
$_->finish for @loads;
done_testing();
