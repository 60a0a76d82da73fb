# Base backup, standby, cascade, promotion, rewound history and point-in-time
# recovery: the policies of every kind are those of the moment that was
# recovered, also where the snapshot file is from another one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PolicyTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $primary = preloaded_node('primary', init => [ allows_streaming => 1, has_archiving => 1 ],
	extension => 0, roles => [@policy_roles], conf => "wal_keep_size = 1GB\n");
my $mon = monitor($primary);

limit_seconds(300);

# Before there is anything
$primary->backup('empty');

create_policies($mon);
my $first = definitions_of($primary);
$mon->ok(q{SELECT pg_create_restore_point('with the first set')});
my $first_time = $mon->value('SELECT clock_timestamp()');

# With the first set
$primary->backup('first');
change_policies($mon);
my $second = definitions_of($primary);
$mon->ok(q{SELECT pg_create_restore_point('with the second set')});

# With the second
$primary->backup('second');
$mon->ok(q{DROP EXTENSION resilience});
$mon->ok(q{SELECT pg_create_restore_point('without the extension')});
# all of it is to be in the archive
my $segment = $mon->value('SELECT pg_walfile_name(pg_switch_wal())');
wait_for_value($mon, "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver", 't');

# The answer to the first connection of a role that one of the sets locks out
sub first_answer
{
	my ($node) = @_;
	my $answer;

	# 57P03: nobody is let in yet
	wait_until(
		'the server answers',
		sub {
			my $refused = connect_refused($node, user => 'locked');

			$answer = $refused ? $refused->{C} : 'open';
			return $answer ne '57P03';
		});
	return $answer;
}

# A server from a backup, recovered to a target, and then writable
sub recovered
{
	my ($name, $backup, %target) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($primary, $backup, has_restoring => 1, standby => 0);
	$node->append_conf('postgresql.conf', join('',
		"recovery_target_action = 'promote'\nhot_standby = off\narchive_mode = off\n",
		map { "$_ = '$target{$_}'\n" } keys %target));
	$node->start;
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	return $node;
}

my %recovery = (
	'from before, to the first set' => [ 'empty', 'first', recovery_target_name => 'with the first set' ],
	'from before, to the second set' => [ 'empty', 'second', recovery_target_name => 'with the second set' ],
	'from the first set, to the second' => [ 'first', 'second', recovery_target_name => 'with the second set' ],
	'from before, to a time' => [ 'empty', 'first', recovery_target_time => $first_time ]);
my $n = 0;
for my $label (sort keys %recovery)
{
	my ($backup, $set, @target) = @{ $recovery{$label} };
	my $node = recovered('recovered' . ++$n, $backup, @target);

	wait_behaviour($node, $set, "$label: in force");
	is(definitions_of($node), $set eq 'first' ? $first : $second, "$label: the definitions are those");
	my $here = monitor($node);
	$here->ok(q{SELECT resilience.set_feature('a feature', enabled => false)});
	is($here->value(q{SELECT resilience.feature_enabled('a feature')}), 'f', "$label: and can be changed");
	all_zero($here, $label);
	$here->close;
	$node->stop('immediate');
	$node->start;
	is(first_answer($node), $set eq 'first' ? '53300' : 'open', "$label: a crash later, from the first connection");
	$node->stop;
}

# Recovered to where the extension was gone: what the backup's snapshot file has
# is not in force
my $node = recovered('gone', 'second', recovery_target_name => 'without the extension');
my $app = connect_to($node, user => 'app');
wait_until('nothing is in force', sub { !$app->query('COPY (SELECT 1) TO STDOUT')->{error} && !connect_refused($node, user => 'locked') });
pass('recovered to where the extension was gone, nothing is in force');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'resilience'}), 0, 'indeed');
$app->close;
$node->stop;

# Hot standbys, from a backup of before: they follow
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'empty', has_streaming => 1);
$standby->start;
$mon->ok('CREATE EXTENSION resilience');
create_policies($mon, objects => 0);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
wait_behaviour($standby, 'first', 'a standby has the first set');
$standby->backup('of a standby');
change_policies($mon);
wait_behaviour($standby, 'second', 'and then the second');
is(definitions_of($standby), definitions_of($primary), 'the definitions are the same');

# A cascade, from a backup of the standby that has the first set in its
# snapshot file
my $cascade = PostgreSQL::Test::Cluster->new('cascade');
$cascade->init_from_backup($standby, 'of a standby', has_streaming => 1);
$cascade->start;
wait_behaviour($cascade, 'second', 'a standby of the standby, too');

# Promotion while a change is on the way: what was committed is in force,
# what was not is not
my $open = monitor($primary);
$mon->ok('DELETE FROM resilience.feature_definitions');
$mon->ok(q{SELECT resilience.create_feature('a feature', enabled => false, description => 'the last change')});
$open->ok('BEGIN; ' . q{SELECT resilience.create_bulkhead('never committed', role_name => 'app', max_running => 0)});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$_->close for ($mon, $open);
$primary->stop('immediate');
$standby->promote;
my $smon = monitor($standby);
wait_for_value($smon, q{SELECT resilience.feature_enabled('a feature')}, 'f', 30);
pass('promoted: the last change of the old primary is in force');
is($smon->value(q{SELECT count(*) FROM resilience.bulkhead_statistics() WHERE name = 'never committed'}), 0,
	'what it had not committed is not');
$smon->ok(q{SELECT resilience.set_feature('a feature', true)});
behaviour_is($standby, 'second', 'the new primary takes changes, in force at once');
wait_behaviour($cascade, 'second', 'and its standby follows', seconds => 60);
$smon->ok('BEGIN');
$smon->ok(q{SELECT resilience.drop_bulkhead('a bulkhead'), resilience.drop_bulkhead('another door')});
$smon->ok('COMMIT');
all_zero($smon, 'on the new primary');
$smon->close;
$_->stop for ($cascade, $standby);

done_testing();
