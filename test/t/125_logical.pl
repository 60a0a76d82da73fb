# Logical replication of a database takes its policies along: on the subscriber
# they are in force when a change is applied there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PolicyTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $publisher = preloaded_node('publisher', init => [ allows_streaming => 'logical' ],
	extension => 0, roles => [@policy_roles]);
my $subscriber = preloaded_node('subscriber', init => [ allows_streaming => 'logical' ],
	extension => 0, roles => [@policy_roles], conf => q(
max_logical_replication_workers = 10
max_worker_processes = 20
));
my ($mon, $smon) = map { monitor($_) } ($publisher, $subscriber);

# The schema comes by pg_dump, as the manual says; the policies do not: a
# schema has no rows.
create_policies($mon);
my $first = definitions_of($publisher);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/schema';
$publisher->command_ok([ 'pg_dump', '--schema-only', '-f', $dump, $publisher->connstr('postgres') ], 'pg_dump --schema-only');
$subscriber->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $subscriber->connstr('postgres'), '-f', $dump ], 'psql');
behaviour_is($subscriber, 'none', 'a schema without data has no policies');

# What there is, by the first copy
$mon->ok('CREATE PUBLICATION everything FOR ALL TABLES');
$smon->ok(q{CREATE SUBSCRIPTION everything CONNECTION $$} . $publisher->connstr('postgres') . q{$$ PUBLICATION everything});
$subscriber->wait_for_subscription_sync($publisher, 'everything');
is(definitions_of($subscriber), $first, 'the first copy: the definitions are the same');
behaviour_is($subscriber, 'first', 'and in force');

# What changes
sub applied
{
	$publisher->wait_for_catchup('everything');
	return;
}

change_policies($mon);
my $second = definitions_of($publisher);
isnt($second, $first, 'all is changed');
applied();
is(definitions_of($subscriber), $second, 'changes: the definitions are the same');
behaviour_is($subscriber, 'second', 'and in force when they are applied');

# Row by row: an INSERT, an UPDATE, a DELETE and a TRUNCATE alone
my $app = connect_to($subscriber, user => 'app');
my %alone = (
	INSERT => [ q{SELECT resilience.create_bulkhead('alone', role_name => 'app', max_running => 0)}, '53R01' ],
	UPDATE => [ q{SELECT resilience.alter_bulkhead('alone', max_running => 1)}, 'no error' ],
	DELETE => [ q{SELECT resilience.alter_bulkhead('alone', max_running => 0); SELECT resilience.drop_bulkhead('alone')}, 'no error' ],
	TRUNCATE => [ q{INSERT INTO resilience.bulkhead_definitions (name, role_name, max_running) VALUES ('alone', 'app', 0);
		TRUNCATE resilience.bulkhead_definitions}, 'no error' ]);
for my $what (qw(INSERT UPDATE DELETE TRUNCATE))
{
	my ($sql, $answer) = @{ $alone{$what} };

	for my $statement (split(/;/, $sql))
	{
		$mon->ok($statement);
		applied();
	}
	error_is($app->query('SELECT 1'), $answer, "$what: in force on the subscriber");
}

# Who subscribes can still write policies of its own, by other names, and a
# change that is refused there stops the replication, not the server
$smon->ok(q{SELECT resilience.create_bulkhead('mine', role_name => 'app', max_running => 0)});
error_is($app->query('SELECT 1'), '53R01', "the subscriber's own bulkhead");
$mon->ok('CREATE ROLE only_here');
my $log = -s $subscriber->logfile;
$mon->ok(q{SELECT resilience.create_bulkhead('stranger', role_name => 'only_here')});
$subscriber->wait_for_log(qr/role "only_here" does not exist/, $log);
pass('a role that the subscriber does not have is an error of the subscription');
error_is($app->query('SELECT 1'), '53R01', 'what is in force stays');
$smon->ok('CREATE ROLE only_here');
applied();
is($smon->value(q{SELECT max_running FROM resilience.bulkheads WHERE name = 'stranger' AND running = 0}), -1,
	'with the role it goes on');

# A restart, and a crash, of the subscriber
for my $mode (qw(fast immediate))
{
	$_->close for ($app, $smon);
	$subscriber->stop($mode);
	$mon->ok("SELECT resilience.alter_bulkhead('stranger', role_name => 'app', max_running => "
		  . ($mode eq 'fast' ? 0 : 1) . ')');
	$subscriber->start;
	applied();
	$smon = monitor($subscriber);
	$smon->ok(q{SELECT resilience.drop_bulkhead('mine', if_exists => true)});
	$app = connect_to($subscriber, user => 'app');
	error_is($app->query('SELECT 1'), ($mode eq 'fast' ? '53R01' : 'no error'), "stop -m $mode: what changed meanwhile holds");
}
$app->close;
all_zero($smon, 'on the subscriber');

done_testing();
