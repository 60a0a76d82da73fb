# Where features are the same: in every session as soon as a change has been
# committed, after a crash, on a standby, in a restored database.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $primary = preloaded_node('primary', init => [ allows_streaming => 1 ]);
my $mon = monitor($primary);

limit_seconds(300);

sub enabled { return $_[0]->value("SELECT resilience.feature_enabled('$_[1]')") }

#
# 40 sessions see 25 changes, each as soon as it is committed
#
my @sessions = map { connect_to($primary, user => 'app') } 1 .. 40;
my ($seen, $wrong) = (0, 0);

# some are in a transaction, with a snapshot that stays
$_->ok('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1') for @sessions[ 0 .. 4 ];
$mon->ok(q{SELECT resilience.create_feature('f')});
for my $round (1 .. 25)
{
	my $on = $round % 2 ? 'f' : 't';

	if ($round % 5 == 0)
	{
		# gone is enabled
		$mon->ok(q{SELECT resilience.drop_feature('f')});
		$on = 't';
	}
	else
	{
		$mon->ok(q{SELECT resilience.create_feature('f')}) if $round % 5 == 1 && $round > 1;
		$mon->ok("SELECT resilience.set_feature('f', '$on', 'round $round')");
	}
	$_->send(q{SELECT resilience.feature_enabled('f')}) for @sessions;
	for my $session (@sessions)
	{
		$seen++;
		$wrong++ if $session->result->{rows}[0][0] ne $on;
	}
}
is("$seen $wrong", '1000 0', '40 sessions saw 25 changes, each at once');

# In the middle of a statement, too
$mon->ok(q{SELECT resilience.create_feature('g')});
my $long = $sessions[10];
$long->send(q{DO $$ BEGIN WHILE resilience.feature_enabled('g') LOOP PERFORM pg_sleep(0.01); END LOOP; END $$});
wait_until('it runs', sub { ($mon->value("SELECT state FROM pg_stat_activity WHERE pid = $long->{pid}") // '') eq 'active' });
$mon->ok(q{SELECT resilience.set_feature('g', false)});
error_is($long->result(20), 'no error', 'a function that asks again sees the change');

# What is not committed nobody sees, not even who does it; a savepoint rolled
# back leaves nothing
$mon->ok('BEGIN; SAVEPOINT a');
$mon->ok(q{SELECT resilience.set_feature('g', true)});
is(enabled($_, 'g'), 'f', 'not before COMMIT') for ($mon, $sessions[39]);
$mon->ok('ROLLBACK TO a');
$mon->ok(q{SELECT resilience.create_feature('h', enabled => false)});
$mon->ok('COMMIT');
is(enabled($_, 'g'), 'f', 'what a savepoint took back is not there') for ($mon, $sessions[39]);
is(enabled($_, 'h'), 'f', 'what came after it is') for ($mon, $sessions[39]);

# Counts of many sessions together are exact: 40 times 1 000, some undone, some
# by sessions that end in the middle of a transaction
$mon->ok('SELECT resilience.reset_statistics()');
$_->send(q{SELECT count(resilience.feature_enabled(CASE WHEN i % 4 = 0 THEN 'h' ELSE 'g' END)) FROM generate_series(1, 1000) i}) for @sessions;
$_->result for @sessions;
$_->close for @sessions[ 0 .. 4 ];
my $sums = q{SELECT string_agg(name || ' ' || evaluations_total || ' ' || degraded_total, ', ' ORDER BY name) FROM resilience.features};
wait_for_value($mon, $sums, 'g 30000 30000, h 10000 10000');
pass('counts of all sessions are exact, also of those whose transaction was undone');

# Another database has its own
$mon->ok('CREATE DATABASE other');
my $other = connect_to($primary, dbname => 'other');
$other->ok('CREATE EXTENSION resilience');
is(enabled($other, 'g'), 't', 'another database has its own features');
$other->ok(q{SELECT resilience.create_feature('h'); SELECT resilience.create_feature('only here', enabled => false)});
is($mon->value($sums), 'g 30000 30000, h 10000 10000', 'and the first one knows nothing of them');
is(enabled($other, 'h') . enabled($mon, 'h') . enabled($mon, 'only here'), 'tft', 'nor do they mix');
$other->ok('DROP EXTENSION resilience');
$other->close;

#
# A crash: what the snapshot file says holds from the first question on
#
$mon->ok($_) for (
	q{SELECT resilience.create_health_check('never', query => 'SELECT true', enabled => false)},
	q{SELECT resilience.create_feature('checked', health_check => 'never', fallback_sql => 'SELECT 1', description => 'for the dump')});
sub restarted
{
	my ($how) = @_;
	my $session;

	wait_until(
		'the server answers',
		sub {
			$session = eval { ResilienceTest::Client->new($primary, user => 'app') } or return 0;
			return !$session->{error};
		});
	is(enabled($session, 'g') . enabled($session, 'h') . enabled($session, 'checked'), 'fft', "$how: definitions hold from the first question on");
	$mon = monitor($primary);
	is($mon->value(q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM resilience.features}),
		'checked on, g off, h off', "$how: states are those of the definitions");
	return $session;
}
kill 'KILL', $sessions[20]{pid};
wait_until('all sessions are gone', sub { $sessions[21]->query('SELECT 1')->{closed} || 0 });
restarted('after a crash')->close;
$primary->restart;
restarted('after a restart')->close;

# Without the file the launcher reads the tables soon
$primary->stop;
unlink $primary->data_dir . '/resilience.snapshot';
$primary->start;
$mon = monitor($primary);
wait_until('the tables were read', sub { enabled($mon, 'g') eq 'f' });
pass('without a snapshot file the tables are read');

#
# A standby
#
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
my $there = connect_to($standby);
is(enabled($there, 'g') . enabled($there, 'checked'), 'ft', 'a new standby has the features of its backup');
$mon->ok(q{SELECT resilience.set_feature('g', true); SELECT resilience.set_feature('checked', false, 'over there')});
wait_until('the standby follows', sub { enabled($there, 'g') . enabled($there, 'checked') eq 'tf' });
is($there->value(q{SELECT state || ' ' || reason FROM resilience.features WHERE name = 'checked'}), 'off over there', 'with state and reason');
is($there->value(q{SELECT x FROM resilience.run_feature('checked', 'SELECT 2') AS (x int)}), 1, 'run_feature() runs the fallback there');
$mon->ok(q{SELECT resilience.alter_feature('g', fallback_on_error => true)});
wait_until('the standby knows', sub { $there->value(q{SELECT fallback_on_error FROM resilience.features WHERE name = 'g'}) eq 't' });
wait_until('and does so',
	sub { ($there->query(q{SELECT x FROM resilience.run_feature('g', 'SELECT 1 / 0', 'SELECT 3') AS (x int)})->{rows}[0] || [0])->[0] == 3 });
pass('errors of the primary are answered there, too');
error_is($there->query(q{SELECT resilience.set_feature('g', false)}), '25006', 'nothing can be set there');
$standby->promote;
wait_until('it is promoted', sub { $there->value('SELECT pg_is_in_recovery()') eq 'f' });
is(enabled($there, 'g') . enabled($there, 'checked'), 'tf', 'promoted it goes on with them');
$there->ok(q{SELECT resilience.set_feature('g', false)});
is(enabled($there, 'g') . enabled($mon, 'g'), 'ft', 'and has its own from then on');
$there->close;
$standby->stop;

#
# A dump
#
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$primary->command_ok([ 'pg_dump', '-Fc', '-d', $primary->connstr('postgres'), '-f', $dump ], 'pg_dump');
$mon->ok('CREATE DATABASE restored');
$primary->command_ok([ 'pg_restore', '-d', $primary->connstr('restored'), $dump ], 'pg_restore');
my $restored = connect_to($primary, dbname => 'restored');
is($restored->value(q{SELECT string_agg(concat_ws(' ', name, state, reason, health_check, fallback_sql, description), ', ' ORDER BY name) FROM resilience.features}),
	'checked off over there never SELECT 1 for the dump, g on, h off', 'a restored database has the features');
is(enabled($restored, 'checked'), 'f', 'in force');
$restored->ok('DROP EXTENSION resilience CASCADE');
$restored->close;

# An extension that is dropped leaves nothing
$mon->ok('DROP EXTENSION resilience');
$mon->ok('CREATE EXTENSION resilience');
is(enabled($mon, 'h'), 't', 'nothing remains of an extension that was dropped');

done_testing();
