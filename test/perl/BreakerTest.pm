# Helpers of the TAP tests of circuit breakers: remote servers, and what is
# known of a breaker.

package BreakerTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

our @EXPORT = qw(
  remote_node local_node add_server remote_connections breaker breaker_is
  wait_breaker trip rejected passes postmaster_children freeze thaw call_of
  timed
);

# processes that were stopped and must not stay so
my %frozen;

END
{
	local $?;
	kill 'CONT', keys %frozen if %frozen;
}

# A plain server that logs connections, with tables to play with.  "die" ends
# the session that reads it, "slow" takes as long as its setting says.
sub remote_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf(
		'postgresql.conf', q(
log_connections = on
log_statement = none
autovacuum = off
jit = off
max_connections = 100
) . ($params{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', q(
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i;
CREATE TABLE u (id int PRIMARY KEY, v int);
INSERT INTO u SELECT i, -i FROM generate_series(1, 1000) i;
CREATE TABLE log (id int, v int);
CREATE TABLE seconds (value float8);
INSERT INTO seconds VALUES (0);
CREATE FUNCTION nap() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep((SELECT value FROM public.seconds)); RETURN 1; END$$;
CREATE VIEW slow AS SELECT public.nap() AS id, 1 AS v;
CREATE VIEW nap5 AS SELECT 1 AS id, (SELECT 1 FROM pg_sleep(5)) AS v;
CREATE VIEW nap60 AS SELECT 1 AS id, (SELECT 1 FROM pg_sleep(60)) AS v;
CREATE VIEW die AS SELECT pg_terminate_backend(pg_backend_pid())::int AS id, (SELECT 1 FROM pg_sleep(10)) AS v;
CREATE VIEW div AS SELECT id, 1 / (id - 1) AS v FROM t;
));
	return $node;
}

# The server whose sessions call others.
sub local_node
{
	my ($name, %params) = @_;
	my $node = preloaded_node($name, %params);

	$node->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw; CREATE EXTENSION file_fdw');
	return $node;
}

# A foreign server for a node, with the tables above as "NAME_table".
sub add_server
{
	my ($mon, $name, $remote, %params) = @_;
	my $host = $params{host} // $remote->host;
	my $port = $params{port} // $remote->port;
	my $user = $params{user} // $ResilienceTest::superuser;
	my $mapping = $params{mapping} // "user '$user', password_required 'false'";
	my @tables = @{ $params{tables} // [qw(t u log slow nap5 nap60 die div)] };

	$mon->ok("CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres'"
		  . ($params{options} ? ", $params{options}" : '') . ')');
	$mon->ok("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS ($mapping)");
	$mon->ok("CREATE FOREIGN TABLE ${name}_$_ (id int, v int) SERVER $name OPTIONS (table_name '$_')")
	  for @tables;
	$mon->ok("GRANT ALL ON ${name}_$_ TO PUBLIC") for @tables;
	return;
}

# How often has a session been asked for?
sub remote_connections
{
	my ($remote) = @_;
	my $text = slurp_file($remote->logfile);

	return scalar(() = $text =~ /connection received/g);
}

# One or several columns, as text.
sub breaker
{
	my ($mon, $name, @columns) = @_;

	return join(' ', map { $_ // 'NULL' }
		  @{ $mon->ok('SELECT ' . join(', ', @columns) . " FROM resilience.breakers WHERE name = '$name'")->{rows}[0] });
}

sub breaker_is
{
	my ($mon, $name, $columns, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(breaker($mon, $name, split(/ /, $columns)), $expected, "$label ($columns)")
	  || diag(breaker($mon, $name, qw(state last_sqlstate last_error)));
}

# A statement's guard closes before its answer is sent, but who has been
# terminated may take a moment.
sub wait_breaker
{
	my ($mon, $name, $column, $value, $seconds) = @_;

	return wait_for_value($mon, "SELECT $column FROM resilience.breakers WHERE name = '$name'", $value, $seconds);
}

# Let the breaker open by failures while the remote stays up.
sub trip
{
	my ($node, $mon, $name, $server) = @_;
	my $failures = 0;

	while (breaker($mon, $name, 'state') ne 'open')
	{
		my $session = connect_to($node);
		my $result = $session->query("SELECT * FROM ${server}_die");

		$session->close;
		die "no failure: " . ($result->{error} ? $result->{error}{M} : 'none')
		  if !$result->{error} || ++$failures > 50;
	}
	return;
}

# The SQLSTATE, and how many sessions the remote was asked for in the meantime.
sub call_of
{
	my ($session, $remote, $sql) = @_;
	my $before = remote_connections($remote);
	my $result = ref $sql ? $sql->() : $session->query($sql);
	my $state = $result->{error} ? $result->{error}{C} : 'ok';

	return ($state . ', ' . (remote_connections($remote) - $before) . ' connections', $result);
}

sub rejected
{
	my ($session, $remote, $sql, $label) = @_;
	my ($got, $result) = call_of($session, $remote, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, '08R01, 0 connections', "$label: rejected")
	  || diag($result->{error} ? "$result->{error}{M} / " . ($result->{error}{D} // '') : 'no error');
	return $result;
}

sub passes
{
	my ($session, $remote, $sql, $label) = @_;
	my ($got, $result) = call_of($session, $remote, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, 'ok, 0 connections', "$label: passes")
	  || diag($result->{error} ? "$result->{error}{M} / " . ($result->{error}{D} // '') : 'no error');
	return $result;
}

# Seconds that something took, and its result.
sub timed
{
	my ($code) = @_;
	my $start = time();
	my $result = $code->();

	return (time() - $start, $result);
}

# pids of a server's sessions
sub postmaster_children
{
	my ($remote) = @_;
	my $postmaster = $remote->{_pid};
	my @pids;

	for my $file (glob('/proc/[0-9]*/stat'))
	{
		open(my $stat, '<', $file) or next;
		my $line = <$stat> // '';
		close $stat;
		push @pids, $1 if $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $postmaster;
	}
	return @pids;
}

sub freeze
{
	$frozen{$_} = 1 for @_;
	kill 'STOP', @_;
	return;
}

sub thaw
{
	kill 'CONT', @_;
	delete $frozen{$_} for @_;
	return;
}

1;
