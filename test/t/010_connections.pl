# Connection bulkheads: whom they match, and that a slot comes back on every
# way out, also when the rest of the start-up fails.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $node = preloaded_node('connections', roles => [qw(app member stranger)],
	conf => "listen_addresses = '127.0.0.1'\n");
my $mon = monitor($node);

$mon->ok($_) for (
	'GRANT app TO member', 'CREATE ROLE boss SUPERUSER LOGIN', 'GRANT app TO boss', 'CREATE DATABASE other');

sub connections
{
	my ($name) = @_;
	return $mon->value("SELECT connections FROM resilience.bulkheads WHERE name = '$name'");
}

sub refused_total
{
	my ($name) = @_;
	return $mon->value("SELECT refused_connections_total FROM resilience.bulkheads WHERE name = '$name'");
}

sub wait_connections
{
	my ($name, $count) = @_;
	return wait_for_value($mon, "SELECT connections FROM resilience.bulkheads WHERE name = '$name'", $count);
}

# Fill a bulkhead of one; then the sessions that match are refused, and those
# that do not are not.
sub matches
{
	my ($label, $definition, $fills, $same, $different) = @_;

	$mon->ok("SELECT resilience.create_bulkhead('b', max_connections => 1, $definition)");
	my $first = connect_to($node, @$fills);
	is(connections('b'), 1, "$label: counted");
	for (@$same)
	{
		my $error = connect_refused($node, @$_) || { C => 'no error' };
		is($error->{C}, '53300', "$label: @$_ is refused");
	}
	for (@$different)
	{
		my $session = connect_to($node, @$_);
		is($session->value('SELECT 1'), 1, "$label: @$_ is not");
		is(connections('b'), 1, "$label: ... nor counted");
		$session->close;
	}
	is(refused_total('b'), scalar(@$same), "$label: refusals are counted");
	$first->close;
	wait_connections('b', 0);
	my $again = ResilienceTest::Client->new($node, @$fills);
	ok(!$again->{error}, "$label: the slot is free again");
	$again->close;
	wait_connections('b', 0);
	all_zero($mon, "of $label");
	$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
	return;
}

matches('role', q(role_name => 'app'),
	[ user => 'app' ], [ [ user => 'app' ], [ user => 'member' ] ], [ [ user => 'stranger' ] ]);
matches('member of a role', q(role_name => 'app'),
	[ user => 'member' ], [ [ user => 'app' ] ], [ [ user => $ResilienceTest::superuser ] ]);
matches('database', q(database_name => 'other', role_name => 'app'),
	[ user => 'app', dbname => 'other' ],
	[ [ user => 'app', dbname => 'other' ] ],
	[ [ user => 'app', dbname => 'postgres' ] ]);
matches('this database', q(application_name => 'x'),
	[ user => 'app', application_name => 'x' ],
	[ [ user => 'stranger', application_name => 'x' ] ],
	[ [ user => 'app', dbname => 'other', application_name => 'x' ] ]);
matches('every database', q(database_name => '*', application_name => 'x'),
	[ user => 'app', dbname => 'other', application_name => 'x' ],
	[ [ user => 'app', dbname => 'postgres', application_name => 'x' ] ],
	[ [ user => 'app', dbname => 'other', application_name => 'y' ], [ user => 'app' ] ]);
matches('application_name', q(application_name => 'report\_%'),
	[ user => 'app', application_name => 'report_daily' ],
	[ [ user => 'stranger', application_name => 'report_' ] ],
	[ [ user => 'app', application_name => 'reporting' ], [ user => 'app' ],
		[ user => 'app', application_name => 'Report_daily' ] ]);
matches('address', q(client_address => '127.0.0.0/8'),
	[ user => 'app', tcp => 1 ], [ [ user => 'stranger', tcp => 1 ] ], [ [ user => 'app' ] ]);
matches('single address', q(client_address => '127.0.0.1'),
	[ user => 'app', tcp => 1 ], [ [ user => 'app', tcp => 1 ] ], []);
matches('all conditions', q(role_name => 'app', database_name => 'other', application_name => 'r%', client_address => '127.0.0.0/8'),
	[ user => 'member', dbname => 'other', application_name => 'r1', tcp => 1 ],
	[ [ user => 'app', dbname => 'other', application_name => 'r', tcp => 1 ] ],
	[   [ user => 'stranger', dbname => 'other', application_name => 'r1', tcp => 1 ],
		[ user => 'app', dbname => 'postgres', application_name => 'r1', tcp => 1 ],
		[ user => 'app', dbname => 'other', application_name => 'x', tcp => 1 ],
		[ user => 'app', dbname => 'other', application_name => 'r1' ] ]);
$mon->ok(q{SELECT resilience.create_bulkhead('elsewhere', max_connections => 0, client_address => '10.0.0.0/8')});
is(connect_refused($node, user => 'app', tcp => 1), undef, 'another network is not meant');
$mon->ok(q{SELECT resilience.drop_bulkhead('elsewhere')});

# What the error says
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_connections => 2)});
my @sessions = map { connect_to($node, user => 'app') } 1, 2;
my $error = connect_refused($node, user => 'app');
is($error->{S}, 'FATAL', 'it is FATAL');
like($error->{M}, qr/too many connections for bulkhead "b"/, 'it names the bulkhead');
is(detail_of($error, 'limit') . detail_of($error, 'connections') . detail_of($error, 'started'), '22false', 'with numbers');
ok($error->{H}, 'and a hint');

# Superusers are counted if they are a member in their own right, and never
# refused
my $boss = connect_to($node, user => 'boss');
is(connections('b'), 3, 'a superuser that is a member is counted');
my $postgres = connect_to($node);
is(connections('b'), 3, 'one that is not, is not');
$_->close for ($boss, $postgres);
wait_connections('b', 2);

# Every kind of exit
my %exits = (
	'normal exit' => sub { $_[0]->close },
	'client gone' => sub { $_[0]->vanish },
	'client gone in a query' => sub {
		$_[0]->ok(q(SET client_connection_check_interval = '20ms'));
		$_[0]->send('SELECT pg_sleep(1000)');
		$_[0]->vanish;
	},
	'terminated' => sub { $mon->ok("SELECT pg_terminate_backend($_[0]{pid})") },
	'terminated in a transaction' => sub {
		$_[0]->ok('BEGIN; SELECT 1');
		$mon->ok("SELECT pg_terminate_backend($_[0]{pid})");
	},
	'idle_session_timeout' => sub { $_[0]->query(q(SET idle_session_timeout = '10ms')) },
	'protocol violation' => sub { $_[0]->message('!', 'nonsense') });
for my $way (sort keys %exits)
{
	my $session = pop @sessions;

	is(connect_refused($node, user => 'app')->{C}, '53300', "$way: full before");
	$exits{$way}->($session);
	wait_connections('b', 1);
	push @sessions, connect_to($node, user => 'app');
	is(connections('b'), 2, "$way: the slot was given back");
}

# psql, killed in the middle
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_connections => 3)});
my ($out, $err) = ('', '');
my $psql = IPC::Run::start(
	[ 'psql', '-X', '-c', 'SELECT pg_sleep(1000)', '-d',
		$node->connstr('postgres') . q( user=app options='-c client_connection_check_interval=50ms') ],
	'>', \$out, '2>', \$err);
wait_connections('b', 3);
wait_running($mon, 'b', 1);
$psql->signal('KILL');
IPC::Run::finish($psql);
wait_connections('b', 2);
pass('psql killed: the slot was given back');
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_connections => 2)});

# A refused connection holds nothing of other bulkheads
$mon->ok(q{SELECT resilience.create_bulkhead('a', role_name => 'app', max_connections => 10);
	SELECT resilience.create_bulkhead('z', role_name => 'app', max_connections => 10)});
is(connections('a') . connections('z'), '22', 'new bulkheads count who is there');
is(connect_refused($node, user => 'app')->{C}, '53300', 'refused') for 1 .. 5;
wait_connections('a', 2);
wait_connections('z', 2);
pass('a refused connection gives back what it took of others');
$mon->ok(q{SELECT resilience.drop_bulkhead('a'); SELECT resilience.drop_bulkhead('z')});
$_->close for splice @sessions;
wait_connections('b', 0);

# The start-up fails after authentication
$mon->ok($_) for (
	q{SELECT resilience.create_bulkhead('all', database_name => '*', application_name => 'late', max_connections => 1)},
	'CREATE DATABASE closed ALLOW_CONNECTIONS false',
	'CREATE DATABASE guarded',
	'REVOKE CONNECT ON DATABASE guarded FROM PUBLIC',
	'CREATE ROLE limited LOGIN CONNECTION LIMIT 0',
	'CREATE ROLE nologin',
	'CREATE DATABASE crowded CONNECTION LIMIT 0');
my %failures = (
	'no such database' => [ '3D000', dbname => 'nowhere', user => 'app' ],
	'no such role' => [ '28000', user => 'nobody_at_all' ],
	'a database that is closed' => [ '55000', dbname => 'closed', user => 'app' ],
	'no CONNECT privilege' => [ '42501', dbname => 'guarded', user => 'app' ],
	'CONNECTION LIMIT of the role' => [ '53300', user => 'limited' ],
	'CONNECTION LIMIT of the database' => [ '53300', dbname => 'crowded', user => 'app' ],
	'a role that may not log in' => [ '28000', user => 'nologin' ],
	'a bad option' => [ '22023', user => 'app', options => '-c work_mem=nonsense' ],
	'a setting that is not allowed' => [ '42501', user => 'app', options => '-c log_statement=all' ]);
for my $failure (sort keys %failures)
{
	my ($sqlstate, @params) = @{ $failures{$failure} };

	for (1 .. 3)
	{
		my $error = connect_refused($node, @params, application_name => 'late') || { C => 'no error', M => '' };
		is($error->{C}, $sqlstate, "$failure fails: $error->{M}");
		unlike($error->{M}, qr/bulkhead/, "$failure: not for the bulkhead");
		# the session has told the client before it gives back
		wait_connections('all', 0);
	}
}
is(refused_total('all'), 0, 'nobody was refused by it');
ok(!connect_refused($node, user => 'app', application_name => 'late'), 'the slot is free after all of them');
wait_connections('all', 0);

# Before authentication nothing is taken, and nothing is told
my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
unlink($node->data_dir . '/pg_hba.conf');
$node->append_conf('pg_hba.conf', "local all secret scram-sha-256\nlocal all rejected reject\n$hba");
$mon->ok(q{CREATE ROLE secret LOGIN PASSWORD 'right'; CREATE ROLE rejected LOGIN;
	SELECT resilience.create_bulkhead('s', role_name => 'secret', max_connections => 1)});
$node->reload;

sub log_in
{
	my ($password) = @_;
	my ($out, $err);

	local $ENV{PGPASSWORD} = $password;
	$node->psql('postgres', 'SELECT 1', stdout => \$out, stderr => \$err, connstr => $node->connstr('postgres') . ' user=secret');
	return $out || $err;
}

wait_until('passwords are asked for', sub { log_in('wrong') =~ /password authentication failed/ });
is(log_in('right'), '1', 'the right password');
like(log_in('wrong'), qr/password authentication failed/, 'the wrong password') for 1 .. 3;
is(connect_refused($node, user => 'rejected')->{C}, '28000', 'pg_hba.conf rejects');
wait_connections('s', 0);
pass('no slot is taken by who cannot log in');
{
	# now somebody is in
	local $ENV{PGPASSWORD} = 'right';
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ 'psql', '-X', '-c', 'SELECT pg_sleep(1000)', '-d', $node->connstr('postgres') . ' user=secret' ],
		'>', \$out, '2>', \$err);
	wait_connections('s', 1);
	like(log_in('right'), qr/too many connections for bulkhead "s"/, 'the right password is told that it is full');
	like(log_in('wrong'), qr/password authentication failed/, 'the wrong one only that it is wrong');
	is(refused_total('s'), 1, 'and is not counted as refused');
	$mon->ok(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'secret'});
	$h->finish;
}
wait_connections('s', 0);
$mon->ok(q{SELECT resilience.drop_bulkhead('s'); SELECT resilience.drop_bulkhead('all')});

# Many at once: as many as there is room for, not one more
$mon->ok(q{SELECT resilience.alter_bulkhead('b', max_connections => 5); SELECT resilience.reset_statistics()});
for my $round (1 .. 4)
{
	my @crowd = map { ResilienceTest::Client->new($node, user => 'app', later => 1) } 1 .. 30;
	my @in = grep { !$_->started } @crowd;

	is(scalar(@in), 5, 'of 30 that come at once 5 get in');
	is(connections('b'), 5, 'as the view says');
	$_->close for @in;
	wait_connections('b', 0);
}
is(refused_total('b'), 100, 'all others are counted as refused');
all_zero($mon, 'at the end');

done_testing();
